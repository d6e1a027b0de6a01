//! Checks the files of a directory, each with its checksums, against what the manifest names.
//!
//! Invariants: what the manifest names must be there and whole; of a segment that is not sealed
//! only its header is judged here, as only recovery can tell a torn tail from rot.
//! Not here: the manifest (`verify::manifest`), the records as a reader meets them (`survey`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use sapwood::dump::{DumpItem, DumpOptions, FileKind, Summary, dump};

use super::Report;
use super::manifest::{Copy, Known, Named, compare};
use crate::progress::Progress;

/// The directory's files by what they are; shard and file number where they have them.
#[derive(Default)]
struct Listing {
    manifests: BTreeMap<u16, Vec<String>>,
    segments: BTreeSet<(u16, u64)>,
    indexes: BTreeSet<(u16, u64)>,
    others: Vec<String>,
}

/// Copies and slots of a manifest, as their names end.
const MANIFEST_ENDS: [&str; 4] = ["a0", "a1", "b0", "b1"];

/// Files that are ours and hold nothing to check.
const WITHOUT_CHECKSUMS: [&str; 2] = ["lock", "probe"];

/// Checks all files. `live`: another process is writing, so what is not sealed is not looked at.
pub(super) fn check(
    dir: &Path,
    live: bool,
    report: &mut Report,
    progress: &mut Progress,
) -> Result<()> {
    let listing = list(dir)?;
    let mut known = BTreeMap::new();
    for (shard, names) in &listing.manifests {
        known.insert(*shard, manifests(dir, names, report)?);
    }
    for (shard, known) in &known {
        for (file, named) in &known.segments {
            let at = (*shard, *file);
            if named.end.is_some() || !live {
                segment(dir, at, named, known, &listing, report, progress)?;
            }
            if named.owed {
                let name = format!("index-{shard:03}-{file:010}");
                report.note(&name, "the disk had no room for it; its segment tells the same")?;
            } else if named.end.is_some() {
                index(dir, at, known, &listing, report)?;
            }
        }
    }
    let named = |shard: &u16, file: &u64| {
        known.get(shard).is_some_and(|known| known.segments.contains_key(file))
    };
    for (shard, file) in listing.segments.iter().filter(|(shard, file)| !named(shard, file)) {
        report.note(&segment_name(*shard, *file), "the manifest does not name it: not in use")?;
    }
    for name in &listing.others {
        if name.starts_with("aside-") {
            report.note(name, "set aside by an earlier recovery: not in use")?;
        } else if !WITHOUT_CHECKSUMS.contains(&name.as_str()) && !name.starts_with("hint-") {
            report.note(name, "not Sapwood's")?;
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match numbered(&name) {
            Some(("manifest", shard, end)) if MANIFEST_ENDS.contains(&end) => {
                listing.manifests.entry(shard).or_default().push(name);
            }
            Some(("segment", shard, file)) if file.parse::<u64>().is_ok() => {
                listing.segments.insert((shard, file.parse()?));
            }
            Some(("index", shard, file)) if file.parse::<u64>().is_ok() => {
                listing.indexes.insert((shard, file.parse()?));
            }
            _ => listing.others.push(name),
        }
    }
    listing.others.sort();
    Ok(listing)
}

fn numbered(name: &str) -> Option<(&str, u16, &str)> {
    let (kind, rest) = name.split_once('-')?;
    let (shard, rest) = rest.split_once('-')?;
    Some((kind, shard.parse().ok()?, rest))
}

fn segment_name(shard: u16, file: u64) -> String {
    format!("segment-{shard:03}-{file:010}")
}

fn manifests(dir: &Path, names: &[String], report: &mut Report) -> Result<Known> {
    let mut copies = Vec::new();
    for name in names {
        let bytes = fs::read(dir.join(name)).with_context(|| format!("reading {name}"))?;
        copies.push(Copy::read(name, &bytes)?);
    }
    copies.sort_by(|a, b| a.name.cmp(&b.name));
    let (known, wrong) = compare(&copies);
    for copy in &copies {
        let ok = !wrong.iter().any(|wrong| wrong.name == copy.name);
        report.file(&copy.name, ok, &format!("{} frames", copy.frames()))?;
    }
    for wrong in wrong {
        report.damage(&wrong.name, wrong.offset, &wrong.what, false)?;
    }
    Ok(known)
}

fn segment(
    dir: &Path,
    (shard, file): (u16, u64),
    named: &Named,
    known: &Known,
    listing: &Listing,
    report: &mut Report,
    progress: &mut Progress,
) -> Result<()> {
    let name = segment_name(shard, file);
    let lost = known.lost.contains(&named.segment);
    if !listing.segments.contains(&(shard, file)) {
        let what = format!("the file of segment {} is missing", named.segment);
        return report.damage(&name, 0, &what, lost);
    }
    let mut bytes = fs::read(dir.join(&name)).with_context(|| format!("reading {name}"))?;
    let mut wrong = Vec::new();
    if let Some(end) = named.end {
        if (bytes.len() as u64) < end {
            let what = format!("the file ends here; its batches end at {end}");
            wrong.push((bytes.len() as u64, what));
        }
        bytes.truncate(end as usize);
    }
    let options = DumpOptions {
        kind: Some(FileKind::Segment),
        nonce: Some(named.nonce),
        unit: Some(known.unit),
        brief: true,
    };
    let sealed = named.end.is_some();
    let summary = dump(&bytes, &options, &mut |item| {
        wrong.extend(segment_item(item, sealed, named));
        io::Result::Ok(())
    })?;
    progress.add(bytes.len() as u64);
    let Summary { parts, records, .. } = summary;
    let state = if sealed { "sealed" } else { "not sealed" };
    let detail = format!("{state}, {parts} batches, {records} records");
    report.file(&name, lost || wrong.is_empty(), &detail)?;
    wrong.into_iter().try_for_each(|(offset, what)| report.damage(&name, offset, &what, lost))
}

/// What is wrong with an item of a segment, and where.
fn segment_item(item: &DumpItem<'_>, sealed: bool, named: &Named) -> Option<(u64, String)> {
    let told = match item {
        DumpItem::Segment { header } if header.nonce != named.nonce => {
            let what = format!("holds segment {}, not segment {}", header.segment, named.segment);
            (0, what)
        }
        DumpItem::Flaw { offset: 0, what, flaw } => {
            (0, format!("{what}: {flaw} (nothing is lost: the manifest has what it said)"))
        }
        DumpItem::Flaw { offset, what, flaw } if sealed => (*offset, format!("{what}: {flaw}")),
        DumpItem::Gap { offset, bytes, flaw, .. } if sealed => {
            (*offset, format!("{bytes} bytes hold no batch: {flaw}"))
        }
        DumpItem::TornRun { offset, run, .. } if sealed => {
            let (first, last) = (run.first_lsn, run.last_lsn());
            (*offset, format!("held log {}, LSN {first} to {last}", run.log))
        }
        _ => return None,
    };
    Some(told)
}

fn index(
    dir: &Path,
    (shard, file): (u16, u64),
    known: &Known,
    listing: &Listing,
    report: &mut Report,
) -> Result<()> {
    let name = format!("index-{shard:03}-{file:010}");
    if !listing.indexes.contains(&(shard, file)) {
        return report.damage(&name, 0, "the index of a sealed segment is missing", false);
    }
    let bytes = fs::read(dir.join(&name)).with_context(|| format!("reading {name}"))?;
    let options = DumpOptions {
        kind: Some(FileKind::Index),
        unit: Some(known.unit),
        brief: true,
        ..DumpOptions::default()
    };
    let mut wrong = Vec::new();
    let summary = dump(&bytes, &options, &mut |item| {
        if let DumpItem::Flaw { offset, what, flaw } = item {
            wrong.push((*offset, format!("{what}: {flaw}")));
        }
        io::Result::Ok(())
    })?;
    report.file(&name, wrong.is_empty(), &format!("{} logs", summary.parts))?;
    wrong.into_iter().try_for_each(|(offset, what)| report.damage(&name, offset, &what, false))
}
