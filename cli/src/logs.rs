//! `logs`: what logs there are, making some, deleting some, and their settings.
//!
//! Not here: what settings do (the engine).

use std::str::FromStr;

use anyhow::Result;
use bytesize::ByteSize;
use sapwood::{Components, Error, Log, LogInfo, LogOptions, LogSettings};
use serde_json::{Value, json};

use crate::bucket::{Bucket, Which};
use crate::directory::{Backend, ReadDir, WriteDir, open_read_only, open_to_change};
use crate::exit::Exit;
use crate::output::Output;
use crate::place::time_text;

/// List the logs of a directory, create some, delete some, or change their settings
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood logs --dir wal
  sapwood logs --dir wal --json
  sapwood logs --tier file:///mnt/tier              what a store holds, without the directory
  sapwood logs create orders payments --group shop --dir wal
  sapwood logs set orders --retention-age 7d --dir wal
  sapwood logs delete payments --dir wal")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    dir: Option<ReadDir>,
    /// Those that this store (file://PATH) holds, in place of a directory's
    #[arg(long, value_name = "URL", conflicts_with = "dir")]
    tier: Option<String>,
    #[command(flatten)]
    which: Which,
    /// An object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create logs, durably, all together; those that exist are left as they are
    #[command(
        after_help = "Example:\n  sapwood logs create orders payments --group shop --dir wal"
    )]
    Create {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        dir: WriteDir,
        /// Put them on one shard, so that they can be appended to atomically
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        settings: Settings,
        /// An object a line
        #[arg(long)]
        json: bool,
    },
    /// Change the settings of logs, durably; what is not given stays as it is
    #[command(after_help = "\
Examples:
  sapwood logs set orders --retention-age 7d --retention-bytes 10GiB --dir wal
  sapwood logs set orders payments --retention-age none --dir wal")]
    Set {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        dir: ReadDir,
        #[command(flatten)]
        settings: Settings,
        /// An object a line
        #[arg(long)]
        json: bool,
    },
    /// Delete logs, durably, with all their records; nothing is asked
    ///
    /// The names are free from then on; a log that gets one of them is a new log, and empty.
    #[command(after_help = "Example:\n  sapwood logs delete payments --dir wal")]
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        dir: ReadDir,
        /// An object a line
        #[arg(long)]
        json: bool,
    },
}

/// Settings of a log, as options.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Settings {
    /// Keep at most so many record bytes (10GiB), or none: no limit
    #[arg(long, value_name = "SIZE", help_heading = "Settings")]
    retention_bytes: Option<Limit<Bytes>>,
    /// Keep records at most so long (90s, 15m, 12h, 7d, 2w), or none: no limit
    #[arg(long, value_name = "AGE", help_heading = "Settings")]
    retention_age: Option<Limit<Age>>,
    /// With a tier: keep so many record bytes here too, or none: as few as may be
    #[arg(long, value_name = "SIZE", help_heading = "Settings")]
    local_retention: Option<Limit<Bytes>>,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit<T>(Option<T>);

/// A size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes(u64);

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Age(u64);

impl<T: FromStr<Err = String>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { Ok(Self(Some(text.parse()?))) }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            _ => Err("a size is a number of bytes above 0, or with a unit (10GiB); or none".into()),
        }
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = || "an age is a number above 0 with s, m, h, d or w (7d); or none".to_owned();
        let unit = text.chars().next_back().ok_or_else(told)?;
        let (_, secs) = AGES.iter().find(|(letter, _)| *letter == unit).ok_or_else(told)?;
        let count: u64 = text[..text.len() - 1].parse().map_err(|_| told())?;
        let age = count.checked_mul(*secs).filter(|age| *age > 0).ok_or_else(told)?;
        Ok(Self(age))
    }
}

/// Units of an age, in seconds.
const AGES: &[(char, u64)] =
    &[('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600), ('w', 7 * 24 * 3600)];

impl Settings {
    /// These over those of a log.
    fn over(self, old: LogSettings) -> LogSettings {
        let bytes = |limit: Limit<Bytes>| limit.0.map(|bytes| bytes.0);
        LogSettings {
            retention_bytes: self.retention_bytes.map_or(old.retention_bytes, bytes),
            retention_secs: self
                .retention_age
                .map_or(old.retention_secs, |limit| limit.0.map(|age| age.0)),
            local_retention_bytes: self.local_retention.map_or(old.local_retention_bytes, bytes),
            ..old
        }
    }
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    match (&args.command, &args.list.dir) {
        (Some(Command::Create { names, dir, group, settings, json }), _) => {
            let settings = settings.over(LogSettings::default());
            let options = LogOptions { group: group.clone(), settings };
            create(names, dir, &options, *json, backend)?;
        }
        (Some(Command::Set { names, dir, settings, json }), _) => {
            set(names, dir, *settings, *json, backend)?;
        }
        (Some(Command::Delete { names, dir, json }), _) => delete(names, dir, *json, backend)?,
        (None, Some(dir)) => {
            let engine = open_read_only(&dir.dir, backend)?;
            print(&engine.logs(), args.list.json)?;
        }
        (None, None) => {
            let Some(url) = &args.list.tier else {
                let message = "give --dir DIR, or --tier URL";
                return Err(crate::exit::Failure::new(Exit::Usage, message).into());
            };
            let bucket = Bucket::open(url, &args.list.which, backend)?;
            print(&bucket.engine.logs(), args.list.json)?;
        }
    }
    Ok(Exit::Ok)
}

fn create(
    names: &[String],
    dir: &WriteDir,
    options: &LogOptions,
    json: bool,
    backend: Backend,
) -> Result<()> {
    let engine = dir.open(backend, Components::default())?;
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), options)).collect();
    let logs = engine.create_many(&wanted)?;
    let infos = logs.iter().map(Log::info).collect::<sapwood::Result<Vec<_>>>()?;
    engine.close()?;
    print(&infos, json)
}

fn set(
    names: &[String],
    dir: &ReadDir,
    settings: Settings,
    json: bool,
    backend: Backend,
) -> Result<()> {
    let engine = open_to_change(&dir.dir, backend)?;
    // All or none: a name that is wrong is found before anything is changed.
    let find = |name: &String| engine.find(name)?.ok_or_else(|| Error::NoSuchLog(name.clone()));
    let logs: Vec<Log> = names.iter().map(find).collect::<sapwood::Result<_>>()?;
    for log in &logs {
        log.set(settings.over(log.info()?.settings))?;
    }
    let infos = logs.iter().map(Log::info).collect::<sapwood::Result<Vec<_>>>()?;
    engine.close()?;
    print(&infos, json)
}

/// Deletes all of them or, when one is not there, none.
fn delete(names: &[String], dir: &ReadDir, json: bool, backend: Backend) -> Result<()> {
    let engine = open_to_change(&dir.dir, backend)?;
    let mut infos = Vec::new();
    for name in names {
        let log = engine.find(name)?.ok_or_else(|| Error::NoSuchLog(name.clone()))?;
        infos.push(log.info()?);
    }
    for (n, name) in names.iter().enumerate() {
        if !names[..n].contains(name) {
            engine.delete_log(name)?;
        }
    }
    engine.close()?;
    print(&infos, json)
}

fn print(logs: &[LogInfo], json: bool) -> Result<()> {
    let mut out = Output::stdout()?;
    if json {
        for log in logs {
            out.line(object(log))?;
        }
        return out.flush();
    }
    let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    out.line(format_args!(
        "{:width$}  {:>12}  {:>12}  {:>6}  {:>5}  {:27}  {:12}  SETTINGS",
        "NAME", "START", "END", "EPOCH", "SHARD", "LAST RECORD", "GROUP"
    ))?;
    for log in logs {
        let last = if log.last_time_us == 0 { "-".into() } else { time_text(log.last_time_us) };
        let line = format!(
            "{:width$}  {:>12}  {:>12}  {:>6}  {:>5}  {:27}  {:12}  {}",
            log.name,
            log.start.0,
            log.durable.0,
            log.epoch.0,
            log.shard.0,
            last,
            log.group.as_deref().unwrap_or("-"),
            settings_text(&log.settings)
        );
        out.line(line.trim_end())?;
    }
    out.flush()
}

/// Settings that are set, as the options that set them.
fn settings_text(settings: &LogSettings) -> String {
    let size = |bytes: u64| ByteSize(bytes).to_string().replace(' ', "");
    let set = [
        settings.retention_bytes.map(|bytes| format!("retention-bytes={}", size(bytes))),
        settings.retention_secs.map(|secs| format!("retention-age={}", age_text(secs))),
        settings.local_retention_bytes.map(|bytes| format!("local-retention={}", size(bytes))),
    ];
    let set: Vec<String> = set.into_iter().flatten().collect();
    if set.is_empty() { "-".into() } else { set.join(" ") }
}

/// An age in the largest unit that divides it.
fn age_text(secs: u64) -> String {
    let fits = AGES.iter().rev().find(|(_, unit)| secs.is_multiple_of(*unit) && secs > 0);
    fits.map_or_else(|| format!("{secs}s"), |(letter, unit)| format!("{}{letter}", secs / unit))
}

fn object(log: &LogInfo) -> Value {
    json!({
        "name": log.name,
        "id": log.id.0,
        "group": log.group,
        "shard": log.shard.0,
        "epoch": log.epoch.0,
        "start": log.start.0,
        "end": log.durable.0,
        "settings": {
            "retention_bytes": log.settings.retention_bytes,
            "retention_secs": log.settings.retention_secs,
            "local_retention_bytes": log.settings.local_retention_bytes,
        },
        "created": time_text(log.created_us),
        "last_record": (log.last_time_us != 0).then(|| time_text(log.last_time_us)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown_alike() {
        let age = |text: &str| text.parse::<Limit<Age>>().map(|limit| limit.0.map(|age| age.0));
        assert_eq!(age("90s"), Ok(Some(90)));
        assert_eq!(age("7d"), Ok(Some(604_800)));
        assert_eq!(age("none"), Ok(None));
        for text in ["90s", "15m", "12h", "6d", "2w", "61s"] {
            assert_eq!(age_text(age(text).unwrap().unwrap()), text);
        }
        for bad in ["", "7", "d", "-1d", "0s", "1y", "1.5h", "99999999999999999999d", "7\u{fc}"] {
            assert!(age(bad).is_err(), "{bad}");
        }
        let size = |text: &str| text.parse::<Limit<Bytes>>().map(|l| l.0.map(|bytes| bytes.0));
        assert_eq!(size("1MiB"), Ok(Some(1 << 20)));
        assert_eq!(size("none"), Ok(None));
        assert!(size("0").is_err() && size("many").is_err());
    }

    #[test]
    fn what_is_not_given_stays() {
        let old = LogSettings { retention_bytes: Some(5), ..LogSettings::default() };
        let given = Settings {
            retention_bytes: None,
            retention_age: Some(Limit(Some(Age(60)))),
            local_retention: None,
        };
        let new = given.over(old);
        assert_eq!((new.retention_bytes, new.retention_secs), (Some(5), Some(60)));
        let none = Settings { retention_bytes: Some(Limit(None)), ..given };
        assert_eq!(none.over(new).retention_bytes, None);
    }
}
