//! `standby`: waits for a directory, takes it over when its owner is gone, then appends.
//!
//! Invariants: nothing is read of the input, and nothing written, before the directory is owned;
//! from there on it is an `append`.
//! Not here: when an owner is gone (`sapwood_cluster`), appending (`append`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sapwood::owner::DirectoryLock;
use sapwood::{Components, Engine};

use crate::append;
use crate::directory::Backend;
use crate::exit::Exit;
use crate::output::tell;
use crate::owning::NfsArgs;

/// How often it is told how far the log is that it follows.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether the directory is ours.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Follow a directory, take it over when its owner is gone, then append as `append` does
///
/// Until then it only reads. stdin is not touched before the directory is owned. With --etcd an
/// owner is gone when its lease is over or given back; without, when its lock is free.
#[derive(Debug, clap::Args)]
// Its one part has a group of this name already.
#[group(skip)]
#[command(after_help = "\
Examples:
  tail -f app.log | sapwood standby app --dir /mnt/efs/wal --etcd http://etcd:2379
  sapwood standby app --dir /mnt/efs/wal --etcd http://etcd:2379 --lease 3 < backlog.txt")]
pub(crate) struct Args {
    #[command(flatten)]
    append: append::Args,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let append = &args.append;
    if append.is_tiered() {
        bail!("a standby does not tier yet: append with --tier once it was taken over");
    }
    let mut config = append.dir.config(backend)?;
    let owner = append.owner.owner(&append.dir.dir)?;
    let mut components = Components { owner, ..Components::default() };
    NfsArgs::complete(&mut config, &mut components);
    components.owner.get_or_insert_with(|| Arc::new(DirectoryLock));
    let standby = Engine::open_standby_with(config, components)?;
    tell(format_args!("sapwood: standing by for {}", append.dir.dir.display()));
    let (mut followed, mut told) = (None, Instant::now());
    let engine = loop {
        if let Some(engine) = standby.poll()? {
            break engine;
        }
        if followed.is_none() {
            followed = standby.follow().ok(); // nobody may have made it yet
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let log = followed.as_ref().and_then(|engine| engine.find(append.log()).ok()?);
            let end = log.and_then(|log| log.durable().ok()).unwrap_or_default();
            tell(format_args!("sapwood: standing by, log {:?} ends at LSN {end}", append.log()));
        }
        std::thread::sleep(LOOK_EVERY);
    };
    drop(followed);
    let term = engine.recovery().iter().map(|shard| shard.term).max().unwrap_or(0);
    tell(format_args!("sapwood: owner now, term {term}"));
    drop(standby);
    append::run_on(append, &engine)
}
