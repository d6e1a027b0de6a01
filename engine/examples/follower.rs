//! A follower in another process: it reads what a writer has made durable, as it becomes so, with
//! no lock and no connection between the two. The program starts itself a second time to be both.
//!
//! `cargo run --release --example follower -- DIR`

#![allow(clippy::disallowed_methods)] // an application starts processes of its own

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sapwood::{Config, Engine, From, Lsn};

/// Records that are written while the other process follows.
const RECORDS: u64 = 500;

/// The last record of a run: the follower ends there. (A log has no end of its own.)
const LAST: &[u8] = b"good night";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let dir = args.next().map(PathBuf::from).ok_or("give a directory")?;
    match args.next() {
        None => write(&dir),
        Some(first) => follow(&dir, Lsn(first.to_string_lossy().parse()?)),
    }
}

/// The process that writes.
fn write(dir: &Path) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(Config { segment_bytes: 8 << 20, ..Config::new(dir) })?;
    let writer = engine.log("news")?.writer()?;
    let first = writer.append(b"before anybody listened").wait()?.position.lsn;

    let mut child = Command::new(std::env::current_exe()?)
        .arg(dir)
        .arg(first.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no pipe to the follower")?).lines();
    for number in 0..RECORDS {
        writer.append(format!("news {number}").into_bytes()).wait()?;
    }
    let last = writer.append(LAST).wait()?;

    let seen = lines.collect::<Result<Vec<String>, _>>()?;
    if !child.wait()?.success() {
        return Err("the follower failed".into());
    }
    let expected = last.position.lsn.0 + 1 - first.0;
    if seen.len() as u64 != expected {
        return Err(format!("the follower saw {} of {expected} records", seen.len()).into());
    }
    println!("the follower saw all {expected} records; the last: {}", seen[seen.len() - 1]);
    engine.close()?;
    Ok(())
}

/// The process that follows: a line for each record from `first` on.
fn follow(dir: &Path, first: Lsn) -> Result<(), Box<dyn Error>> {
    // Read only: takes no lock, changes nothing. Beside a living writer it follows.
    let engine = Engine::open(Config { read_only: true, ..Config::new(dir) })?;
    let mut reader = engine.log("news")?.reader(From::Lsn(first))?.follow();
    let mut out = std::io::stdout().lock();
    // Waits for the next record to become durable; `.await` does the same on any executor.
    while let Some(record) = reader.next().wait()? {
        let payload = record.payload();
        writeln!(out, "{}: {}", record.lsn(), String::from_utf8_lossy(payload))?;
        if payload == LAST {
            break;
        }
    }
    Ok(())
}
