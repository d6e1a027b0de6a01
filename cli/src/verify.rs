//! `verify`: checks every file and reads every log, and tells what is damaged.
//!
//! Invariants: nothing is written; what the files say and what a reader would meet are checked
//! apart, so that neither hides the other. Damage that someone chose to go on without is told, and
//! is no damage any more.
//! Not here: the files (`verify::files`), the logs (`survey`).

mod files;
mod manifest;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use sapwood::{Damage, Engine};
use serde_json::{Value, json};

use crate::directory::{Backend, ReadDir, must_exist, open_read_only};
use crate::exit::{self, Exit};
use crate::output::Output;
use crate::progress::Progress;
use crate::survey::Survey;

/// Check every file and every record; exit code 3 when something is damaged
///
/// Reads all files with their checksums, then every log up to its durable end. Works while another
/// process writes; what is being written then is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood verify --dir wal
  sapwood verify --dir wal --json | jq 'select(.item == \"damage\")'")]
pub(crate) struct Args {
    #[command(flatten)]
    dir: ReadDir,
    /// An object a line
    #[arg(long)]
    json: bool,
    /// Tell how far it is, also where stderr is no terminal
    #[arg(long)]
    progress: bool,
}

/// What was found, told line by line.
pub(crate) struct Report {
    out: Output,
    json: bool,
    damages: u64,
    files: u64,
    logs: u64,
    records: u64,
    bytes: u64,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    must_exist(&args.dir.dir)?;
    let begun = Instant::now();
    let out = Output::stdout()?;
    let mut report =
        Report { out, json: args.json, damages: 0, files: 0, logs: 0, records: 0, bytes: 0 };
    let mut progress = Progress::new(args.progress, None, "verified");
    let opened = open_read_only(&args.dir.dir, backend);
    let live = opened.as_ref().is_ok_and(Engine::follows);
    files::check(&args.dir.dir, live, &mut report, &mut progress)?;
    let failed = match opened {
        Ok(engine) => {
            logs(&engine, &mut report, &mut progress)?;
            None
        }
        Err(error) => Some(error),
    };
    progress.finish();
    report.summary(&args.dir.dir, begun.elapsed().as_secs_f64(), failed.is_some())?;
    match failed {
        Some(error) => {
            let exit = exit::tell(&error);
            Ok(if report.damages > 0 { Exit::Damage } else { exit })
        }
        None if report.damages > 0 => Ok(Exit::Damage),
        None => Ok(Exit::Ok),
    }
}

/// What recovery found, then each log from its start to its durable end.
fn logs(engine: &Engine, report: &mut Report, progress: &mut Progress) -> Result<()> {
    for (shard, recovery) in engine.recovery().iter().enumerate() {
        if recovery.dropped > 0 {
            let dropped = recovery.dropped;
            report.line(
                json!({ "item": "tail", "shard": shard, "dropped_batches": dropped }),
                format!(
                    "tail    shard {shard}: {dropped} batches in flight at a crash, acked to nobody"
                ),
            )?;
        }
    }
    for info in engine.logs() {
        let Some(log) = engine.find(&info.name)? else { continue };
        let survey = Survey::of(&log, progress)?;
        report.logs += 1;
        report.records += survey.records;
        report.bytes += survey.bytes;
        let (start, end) = (survey.info.start, survey.info.durable);
        let ok = survey.damages.is_empty() && survey.failed.is_none();
        let word = if ok { "ok" } else { "DAMAGED" };
        report.line(
            json!({
                "item": "log", "name": info.name, "ok": ok, "start": start.0, "end": end.0,
                "records": survey.records, "bytes": survey.bytes,
            }),
            format!(
                "log     {}: {word}, {} records, LSN {start} up to {end}",
                info.name, survey.records
            ),
        )?;
        for lost in &survey.lost {
            report.line(
                damage_json("lost", &info.name, lost),
                format!("lost    log {}: {lost} (salvaged)", info.name),
            )?;
        }
        for damage in &survey.damages {
            report.damages += 1;
            report.line(
                damage_json("damage", &info.name, damage),
                format!("DAMAGE  log {}: {damage}", info.name),
            )?;
        }
        if let Some(error) = &survey.failed {
            report.damages += 1;
            report.line(
                json!({ "item": "damage", "log": info.name, "reason": error.to_string() }),
                format!("DAMAGE  log {}: {error}", info.name),
            )?;
        }
    }
    Ok(())
}

fn damage_json(item: &str, log: &str, damage: &Damage) -> Value {
    json!({
        "item": item, "log": log, "first_lsn": damage.first.0,
        "last_lsn": damage.last.map(|last| last.0), "segment": damage.segment.0,
        "offset": damage.offset, "reason": damage.reason,
    })
}

impl Report {
    fn line(&mut self, json: Value, text: String) -> Result<()> {
        if self.json { self.out.line(json) } else { self.out.line(text) }
    }

    /// A file that was looked at.
    fn file(&mut self, name: &str, ok: bool, detail: &str) -> Result<()> {
        self.files += 1;
        let word = if ok { "ok" } else { "DAMAGED" };
        self.line(
            json!({ "item": "file", "name": name, "ok": ok, "detail": detail }),
            format!("file    {name}: {word}, {detail}"),
        )
    }

    /// Something worth knowing that is no damage.
    fn note(&mut self, name: &str, note: &str) -> Result<()> {
        self.line(
            json!({ "item": "note", "file": name, "note": note }),
            format!("note    {name}: {note}"),
        )
    }

    /// Something wrong in a file; `lost` when someone chose to go on without it.
    fn damage(&mut self, name: &str, offset: u64, what: &str, lost: bool) -> Result<()> {
        self.damages += u64::from(!lost);
        let (item, word) = if lost { ("lost", "lost   ") } else { ("damage", "DAMAGE ") };
        self.line(
            json!({ "item": item, "file": name, "offset": offset, "reason": what }),
            format!("{word} {name} at offset {offset}: {what}"),
        )
    }

    fn summary(&mut self, dir: &Path, seconds: f64, failed: bool) -> Result<()> {
        let Self { files, logs, records, bytes, damages, .. } = *self;
        let verdict = match (damages, failed) {
            (0, false) => "no damage".to_owned(),
            (0, true) => "it cannot be opened".to_owned(),
            (1, _) => "1 damage".to_owned(),
            (some, _) => format!("{some} damages"),
        };
        self.line(
            json!({
                "item": "summary", "files": files, "logs": logs, "records": records,
                "bytes": bytes, "damages": damages, "seconds": seconds,
            }),
            format!(
                "verified {}: {files} files, {logs} logs, {records} records, {bytes} bytes in \
                 {seconds:.3} s: {verdict}",
                dir.display()
            ),
        )?;
        self.out.flush()
    }
}
