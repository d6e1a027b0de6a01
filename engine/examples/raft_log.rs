//! A Raft-style log on one Sapwood log: an entry's index is its LSN, a suffix that a new leader
//! contradicts is cut, and a state machine that follows learns of it by `Diverged`.
//!
//! `cargo run -p sapwood --example raft_log [DIR]`. Not here: elections, votes, a network.

use std::path::Path;

use sapwood::{Batch, Config, Engine, Error, From, Log, Lsn, Writer};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What a leader sends: a command, and the term in which it was proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The leader's term.
    pub(crate) term: u64,
    /// What the state machine does.
    pub(crate) command: String,
}

/// What a follower answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Everything up to this index is durable here.
    Matches(u64),
    /// The entry before is not the leader's: try again from here.
    Mismatch(u64),
}

/// The durable log of one Raft node.
pub(crate) struct RaftLog {
    log: Log,
    writer: Writer,
    /// By index: the term of each entry.
    terms: Vec<u64>,
    /// Entries below are committed: they are never cut.
    committed: u64,
}

impl RaftLog {
    /// Opens the log and looks at what is there.
    pub(crate) fn open(engine: &Engine, name: &str) -> Outcome<Self> {
        let log = engine.log(name)?;
        let writer = log.writer()?;
        let mut reader = log.reader(From::Start)?;
        let mut terms = Vec::new();
        while let Some(record) = reader.next().wait()? {
            terms.push(decode(record.payload())?.term);
        }
        Ok(Self { log, writer, terms, committed: 0 })
    }

    /// The index that the next entry gets.
    pub(crate) fn tail(&self) -> u64 {
        self.terms.len() as u64
    }

    /// AppendEntries of a leader: `entries` follow the one at `index - 1`, which has `prev_term`.
    /// When this returns `Matches`, they are durable.
    pub(crate) fn append(
        &mut self,
        index: u64,
        prev_term: u64,
        entries: &[Entry],
    ) -> Outcome<Answer> {
        if index > self.tail() {
            return Ok(Answer::Mismatch(self.tail()));
        }
        if index > 0 && self.terms[index as usize - 1] != prev_term {
            return Ok(Answer::Mismatch(index - 1));
        }
        // What is here already is left alone: the leader may send it twice.
        let known = self.terms[index as usize..].iter().zip(entries);
        let same = known.take_while(|(term, entry)| **term == entry.term).count();
        let (at, fresh) = (index + same as u64, &entries[same..]);
        if fresh.is_empty() {
            return Ok(Answer::Matches(at));
        }
        if at < self.tail() {
            self.cut(at)?;
        }
        let mut batch = Batch::new();
        for entry in fresh {
            batch.push(&encode(entry));
        }
        // The tail is what we think it is, or somebody else writes this log.
        self.writer.append_if(Lsn(at), batch).wait().map_err(|rejected| rejected.error)?;
        self.terms.extend(fresh.iter().map(|entry| entry.term));
        Ok(Answer::Matches(self.tail()))
    }

    /// Another leader's entries stand from `index` on: they go, and never come back.
    fn cut(&mut self, index: u64) -> Outcome<()> {
        assert!(index >= self.committed, "a committed entry is never cut");
        let goes_on = self.writer.cut_to(Lsn(index)).wait()?;
        println!("  cut at {index}, on under epoch {}", goes_on.epoch);
        self.terms.truncate(index as usize);
        Ok(())
    }

    /// A majority has everything below `index`.
    pub(crate) fn commit(&mut self, index: u64) {
        self.committed = self.committed.max(index.min(self.tail()));
    }

    /// All entries, as a state machine would read them.
    pub(crate) fn entries(&self) -> Outcome<Vec<Entry>> {
        let mut reader = self.log.reader(From::Start)?;
        let mut entries = Vec::new();
        while let Some(record) = reader.next().wait()? {
            entries.push(decode(record.payload())?);
        }
        Ok(entries)
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = entry.term.to_le_bytes().to_vec();
    bytes.extend_from_slice(entry.command.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Outcome<Entry> {
    let (term, command) = bytes.split_first_chunk().ok_or("an entry without a term")?;
    Ok(Entry { term: u64::from_le_bytes(*term), command: String::from_utf8(command.to_vec())? })
}

fn entries(term: u64, commands: &[&str]) -> Vec<Entry> {
    commands.iter().map(|command| Entry { term, command: (*command).to_owned() }).collect()
}

/// A life of a follower: a leader of term 1, one of term 2 that does not know its last entries, a
/// restart, one of term 3.
pub(crate) fn run(dir: &Path) -> Outcome<Vec<Entry>> {
    let engine = Engine::open(Config::new(dir))?;
    let mut node = RaftLog::open(&engine, "raft")?;
    let first = entries(1, &["x=1", "x=2", "x=3", "x=4"]);
    assert_eq!(node.append(0, 0, &first)?, Answer::Matches(4));
    assert_eq!(node.append(2, 1, &first[2..])?, Answer::Matches(4), "sent twice, there once");
    node.commit(2);

    // A reader ahead of the commit index, as an eager replica would be.
    let mut eager = node.log.reader(From::Start)?.follow();
    for _ in 0..4 {
        eager.next().wait()?;
    }
    println!("a leader of term 2 knows the first two entries only");
    let second = entries(2, &["y=1", "y=2"]);
    assert_eq!(node.append(5, 2, &second)?, Answer::Mismatch(4), "a gap");
    assert_eq!(node.append(4, 2, &second)?, Answer::Mismatch(3), "another term before it");
    assert_eq!(node.append(2, 1, &second)?, Answer::Matches(4));
    match eager.next().wait() {
        Err(Error::Diverged { lsn, .. }) => {
            println!("  the eager reader goes back to {lsn}");
            eager.seek(lsn);
        }
        other => return Err(format!("the reader was not told: {other:?}").into()),
    }
    let again = eager.next().wait()?.ok_or("nothing follows the cut")?;
    assert_eq!(decode(again.payload())?, second[0]);
    engine.close()?;

    println!("after a restart, a leader of term 3 knows the first three");
    let engine = Engine::open(Config::new(dir))?;
    let mut node = RaftLog::open(&engine, "raft")?;
    assert_eq!(node.terms, [1, 1, 2, 2]);
    assert_eq!(node.append(3, 2, &entries(3, &["z=1", "z=2", "z=3"]))?, Answer::Matches(6));
    let found = node.entries()?;
    engine.close()?;
    Ok(found)
}

#[allow(dead_code)] // a test runs `run`
fn main() -> Outcome<()> {
    let dir = std::env::args_os().nth(1).unwrap_or_else(|| "raft-log".into());
    for (index, entry) in run(Path::new(&dir))?.iter().enumerate() {
        println!("{index}: term {}, {}", entry.term, entry.command);
    }
    Ok(())
}
