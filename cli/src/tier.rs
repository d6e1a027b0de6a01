//! `--tier`, on the commands that take it, and `tier status`.
//!
//! Invariants: a store is probed before anything is entrusted to it; what a command leaves behind
//! unproven stays in the directory.
//! Not here: uploading and reading through (`sapwood_tiering`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow};
use bytesize::ByteSize;
use sapwood::{Components, Engine, Log, LogSettings};
use sapwood_tiering::store::{self, ObjectStore};
use sapwood_tiering::{Settings, Status, StoreArchive, Tier, layout};
use serde_json::json;

use crate::directory::{Backend, ReadDir, open_read_only};
use crate::exit::{Exit, Failure};
use crate::output::{Output, tell};

/// Unpacked records from the tier in memory at most.
const CACHE_BYTES: u64 = 64 << 20;

/// How long a store may fail before the end of a command no longer waits for it.
const FAILING_MAX: Duration = Duration::from_secs(60);

/// Objects of one page of a list.
const PAGE: usize = 1000;

/// Options of a command that tiers what it appends.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "With a tier")]
pub(crate) struct TierArgs {
    /// Upload what is full to this store (file://PATH), and at the end what is left
    #[arg(long, value_name = "URL")]
    pub tier: Option<String>,
    /// Of this log, keep about so much in the directory once it is uploaded
    #[arg(long, value_name = "SIZE", requires = "tier")]
    pub local_retention: Option<ByteSize>,
    /// Do not wait at the end for what is left: the next append with --tier uploads it
    #[arg(long, requires = "tier")]
    pub no_wait: bool,
}

/// A store, and the way through it for readers.
#[derive(Clone)]
pub(crate) struct Tiering {
    store: Arc<dyn ObjectStore>,
    archive: Arc<StoreArchive>,
}

impl Tiering {
    /// Opens the store of a URL for reading.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let refused = |e: store::StoreError| {
            let invalid = matches!(e, store::StoreError::Invalid(_));
            let exit = if invalid { Exit::Usage } else { Exit::Other };
            Failure::new(exit, format!("--tier {url}: {e}"))
        };
        let store = store::open(url).map_err(refused)?;
        let archive = Arc::new(StoreArchive::new(Arc::clone(&store), CACHE_BYTES)?);
        Ok(Self { store, archive })
    }

    /// Opens the store of a URL for writing, if it is safe.
    pub(crate) fn probed(url: &str) -> Result<Self> {
        let tiering = Self::open(url)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unique = now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        store::probe(&*tiering.store, unique).map_err(|e| anyhow!("--tier {url}: {e}"))?;
        Ok(tiering)
    }

    /// The store.
    pub(crate) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// What an engine is opened with.
    pub(crate) fn components(&self) -> Components {
        Components { archive: Some(Arc::clone(&self.archive) as _), ..Components::default() }
    }

    /// Begins to upload what an engine seals.
    pub(crate) fn start(&self, engine: &Engine) -> Result<Tier> {
        let settings = Settings {
            bytes_per_second: None,
            look_every: Duration::from_millis(100),
            ..Settings::default()
        };
        let (store, archive) = (Arc::clone(&self.store), Arc::clone(&self.archive));
        Ok(Tier::start_with(engine.clone(), store, settings, Some(archive))?)
    }

    /// Uploads all that is sealed in a directory that was closed, and lets go what may go.
    pub(crate) fn finish(&self, engine: &Engine) -> Result<()> {
        let tier = self.start(engine)?;
        let mut failing: Option<Instant> = None;
        while !tier.drain(engine, Duration::from_millis(500)) {
            let status = tier.status();
            let since = *failing.get_or_insert_with(Instant::now);
            if status.failures == 0 {
                failing = None;
            } else if since.elapsed() > FAILING_MAX {
                return Err(anyhow!(
                    "{} segments are not uploaded yet ({}); they are safe in the directory, and \
                     the next append with --tier uploads them",
                    status.segments_behind,
                    status.last_failure.unwrap_or_default()
                ));
            }
        }
        warn_of_damage(&tier.status());
        drop(tier);
        engine.gc()?;
        Ok(())
    }
}

fn warn_of_damage(status: &Status) {
    for damaged in &status.damaged {
        tell(format_args!(
            "sapwood: segment {} of shard {} has damaged records and stays in the directory: see \
             `sapwood verify`",
            damaged.segment, damaged.shard
        ));
    }
}

/// Sets how much of a log stays in its directory.
pub(crate) fn retain(engine: &Engine, log: &Log, bytes: Option<ByteSize>) -> Result<()> {
    let Some(bytes) = bytes else { return Ok(()) };
    let known = engine.logs().into_iter().find(|info| info.id == log.id());
    let settings = known.map(|info| info.settings).unwrap_or_default();
    let settings = LogSettings { local_retention_bytes: Some(bytes.as_u64()), ..settings };
    Ok(log.set(settings)?)
}

/// Tell what is where: in the directory, in the tier
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood tier status --dir wal --tier file:///mnt/tier
  sapwood tier status --dir wal --tier file:///mnt/tier --json | jq .bytes_behind")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How many segments are uploaded, and how many are not
    #[command(after_help = "Example:\n  sapwood tier status --dir wal --tier file:///mnt/tier")]
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    dir: ReadDir,
    /// The store (file://PATH)
    #[arg(long, value_name = "URL")]
    tier: String,
    /// An object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let Command::Status(args) = &args.command;
    let (objects, bytes) = in_store(&args.tier, &args.dir.dir, backend)?;
    let engine = open_read_only(&args.dir.dir, backend)?;
    let sealed = engine.sealed_segments();
    let behind: Vec<_> = sealed.iter().filter(|one| !one.tiered).collect();
    let bytes_behind: u64 = behind.iter().map(|one| one.bytes).sum();
    let here: u64 = sealed.iter().map(|one| one.bytes).sum();
    let mut out = Output::stdout()?;
    if args.json {
        out.line(json!({
            "sealed_segments": sealed.len(),
            "sealed_bytes": here,
            "segments_behind": behind.len(),
            "bytes_behind": bytes_behind,
            "objects": objects,
            "object_bytes": bytes,
        }))?;
    } else {
        out.line(format_args!(
            "in the directory: {} sealed segments, {}; {} of them not uploaded, {}",
            sealed.len(),
            ByteSize(here),
            behind.len(),
            ByteSize(bytes_behind)
        ))?;
        out.line(format_args!("in the tier: {objects} objects, {}", ByteSize(bytes)))?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// Objects of this directory in a store, and their bytes.
fn in_store(url: &str, dir: &Path, backend: Backend) -> Result<(u64, u64)> {
    let engine = open_read_only(dir, backend)?;
    let facts = engine.facts();
    let prefix = layout::prefix(facts.directory, facts.lineage);
    let store = Tiering::open(url)?.store;
    let (mut objects, mut bytes, mut after) = (0, 0, None);
    loop {
        let page = store.list(&prefix, after.as_ref(), PAGE)?;
        objects += page.len() as u64;
        bytes += page.iter().map(|listed| listed.bytes).sum::<u64>();
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok((objects, bytes)),
        }
    }
}
