//! A key-value store on Sapwood: the map lives in memory, every change is a record of the log `wal`
//! before it is in the map, and a snapshot of the map lets the log below it go.
//!
//! `cargo run -p sapwood --example kv_wal DIR` takes commands, one a line: `put KEY VALUE`,
//! `delete KEY`, `get KEY`, `snapshot`, `list`. What it answered `ok` to is there after a `kill -9`
//! or a power cut, and what it did not answer may be.
//!
//! What a crash can leave, and what opening does then:
//!
//! | between                                  | the map is                                  |
//! |------------------------------------------|---------------------------------------------|
//! | a change is durable, and is in the map   | with it: the log is replayed                |
//! | a snapshot is begun, and is durable      | of the snapshot before, and the whole log   |
//! | it is durable, and the log is truncated  | of the snapshot, and the log from there on  |
//! | the log is truncated, and old snapshots  | the same: the last snapshot counts          |
//!
//! Not here: values larger than memory, more than one process.

// The program around it may touch threads and files; the engine may not.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;

use sapwood::{Batch, Config, Engine, From, Log, Lsn, Writer};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Map = BTreeMap<String, String>;

/// The store: a map, and the two logs that it can be made from again.
pub(crate) struct Store {
    map: Map,
    /// Changes, in the order in which they were made.
    wal: Log,
    wal_writer: Writer,
    /// Maps as they were, each one batch: the LSN of `wal` it goes on at, then every entry.
    snapshots: Log,
    snapshot_writer: Writer,
    engine: Engine,
}

impl Store {
    /// Opens the store in `dir`: the last snapshot, then every change that came after it.
    pub(crate) fn open(dir: &Path) -> Outcome<Self> {
        let engine = Engine::open(Config::new(dir))?;
        let (wal, snapshots) = (engine.log("wal")?, engine.log("snapshots")?);
        let (wal_writer, snapshot_writer) = (wal.writer()?, snapshots.writer()?);
        let (mut map, from) = last_snapshot(&snapshots)?;
        let mut changes = wal.reader(From::Lsn(from))?;
        while let Some(record) = changes.next().wait()? {
            Change::decode(record.payload())?.apply(&mut map);
        }
        Ok(Self { map, wal, wal_writer, snapshots, snapshot_writer, engine })
    }

    /// Sets `key`. Durable when this returns.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Outcome<()> {
        self.change(Change::Put(key.into(), value.into()))
    }

    /// Removes `key`, whether it is there or not. Durable when this returns.
    pub(crate) fn delete(&mut self, key: &str) -> Outcome<()> {
        self.change(Change::Delete(key.into()))
    }

    /// First the log, then the map: nobody sees a value that a crash could take back.
    fn change(&mut self, change: Change) -> Outcome<()> {
        self.wal_writer.append(change.encode()).wait()?;
        change.apply(&mut self.map);
        Ok(())
    }

    /// Keeps the map as it is now, then lets go of the changes that led to it. In this order: after
    /// a crash in between there is too much, never too little.
    pub(crate) fn snapshot(&mut self) -> Outcome<()> {
        let from = self.wal.durable()?;
        let mut batch = Batch::new();
        batch.push(&from.0.to_le_bytes());
        for (key, value) in &self.map {
            batch.push(&Change::Put(key.clone(), value.clone()).encode());
        }
        // One batch is one snapshot: after a crash all of it is there or nothing.
        let ack = self.snapshot_writer.append(batch).wait()?;
        self.wal.truncate(from)?;
        self.snapshots.truncate(ack.position.lsn)?;
        Ok(())
    }

    /// The map.
    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    /// How many changes the next opening replays.
    pub(crate) fn replays(&self) -> Outcome<u64> {
        Ok(self.wal.durable()?.0 - self.wal.start()?.0)
    }

    /// Closes in order: the next opening has nothing to recover.
    pub(crate) fn close(self) -> Outcome<()> {
        Ok(self.engine.close()?)
    }
}

/// The newest map that was kept, and where in the log to go on from there.
fn last_snapshot(snapshots: &Log) -> Outcome<(Map, Lsn)> {
    let (mut map, mut from) = (Map::new(), Lsn(0));
    let mut reader = snapshots.reader(From::Start)?;
    while let Some(record) = reader.next().wait()? {
        match record.payload().try_into() {
            // Eight bytes are no change: a change has a tag and a length besides its key.
            Ok(lsn) => (map, from) = (Map::new(), Lsn(u64::from_le_bytes(lsn))),
            Err(_) => Change::decode(record.payload())?.apply(&mut map),
        }
    }
    Ok((map, from))
}

/// One record of the log.
enum Change {
    Put(String, String),
    Delete(String),
}

impl Change {
    fn apply(self, map: &mut Map) {
        match self {
            Self::Put(key, value) => map.insert(key, value),
            Self::Delete(key) => map.remove(&key),
        };
    }

    /// A tag, the length of the key, the key, the value.
    fn encode(&self) -> Vec<u8> {
        let (tag, key, value) = match self {
            Self::Put(key, value) => (b'p', key.as_bytes(), value.as_bytes()),
            Self::Delete(key) => (b'd', key.as_bytes(), &[][..]),
        };
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        bytes
    }

    /// The engine has checked the bytes; what they mean is ours to check.
    fn decode(bytes: &[u8]) -> Outcome<Self> {
        let (tag, rest) = bytes.split_first().ok_or("an empty record")?;
        let (len, rest) = rest.split_first_chunk().ok_or("a record without a length")?;
        let len = usize::try_from(u64::from_le_bytes(*len))?;
        let (key, value) = rest.split_at_checked(len).ok_or("a key beyond its record")?;
        let key = String::from_utf8(key.to_vec())?;
        match tag {
            b'p' => Ok(Self::Put(key, String::from_utf8(value.to_vec())?)),
            b'd' => Ok(Self::Delete(key)),
            tag => Err(format!("a change of kind {tag}").into()),
        }
    }
}

/// One command, and what is answered.
fn answer(store: &mut Store, line: &str) -> Outcome<String> {
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("put"), Some(key), Some(value)) => store.put(key, value)?,
        (Some("delete"), Some(key), None) => store.delete(key)?,
        (Some("snapshot"), None, None) => store.snapshot()?,
        (Some("get"), Some(key), None) => {
            return Ok(store.map().get(key).cloned().unwrap_or_else(|| "(nothing)".into()));
        }
        (Some("list"), None, None) => {
            let entries = store.map().iter().map(|(key, value)| format!("{key}={value}"));
            let entries: Vec<_> = entries.collect();
            return Ok(format!("{} ({} to replay)", entries.join(" "), store.replays()?));
        }
        _ => return Ok("put KEY VALUE | delete KEY | get KEY | snapshot | list".into()),
    }
    Ok("ok".into())
}

fn main() -> Outcome<()> {
    let dir = std::env::args_os().nth(1).unwrap_or_else(|| "kv".into());
    let mut store = Store::open(Path::new(&dir))?;
    for line in io::stdin().lock().lines() {
        let answer = answer(&mut store, &line?)?;
        println!("{answer}");
        io::stdout().flush()?;
    }
    store.close()
}
