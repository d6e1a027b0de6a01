//! # Sapwood
//!
//! A write-ahead-log engine: programs append records to named logs, an append resolves when the
//! record is durable, very many logs share a few prewritten files.
//!
//! What it promises: acked is durable; one dense order per log; no reader sees what a power cut
//! could take; a newer writer fences older ones; rot is told and never skipped. What it does not:
//! it knows no network and no object storage, it needs no async runtime and brings none.
//!
//! ```
//! use sapwood::{Config, Engine, From};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("wal");
//! let engine = Engine::open(Config::new(&dir))?; // recovers; cheap to clone
//! let log = engine.log("orders")?; // open or create
//! let writer = log.writer()?; // next epoch; older writers are fenced
//! let ack = writer.append(b"hello").wait()?; // durable now (or `.await` it)
//! println!("{} at {}", ack.position, ack.timestamp_us);
//! let mut reader = log.reader(From::Start)?;
//! while let Some(record) = reader.next().wait()? {
//!     println!("{}: {:?}", record.lsn(), record.payload());
//! }
//! engine.close()?; // drains, marks, seals; drop never blocks
//! # Ok(())
//! # }
//! ```
//!
//! The layers, bottom first: numbers and errors, [`mod@format`] (bytes, no I/O) and [`io`] (I/O, no
//! records), then segments, manifest and views, then commit, seal and recovery, then intake and
//! readers, then the shard, then the engine.

pub mod archive;
mod assembly;
mod atomic;
mod backup;
mod bisect;
mod bundle;
mod catalog;
mod catchup;
mod chain;
mod collect;
mod commit;
mod compact;
mod components;
mod config;
mod cursor;
mod cursors;
mod cut;
mod cuts;
mod damage;
mod driver;
pub mod dump;
mod engine;
mod ephemeral;
mod error;
mod files;
mod follow;
pub mod format;
mod gather;
mod gc;
mod health;
mod hint;
mod histogram;
mod hold;
mod holds;
mod hops;
mod import;
mod index;
mod inner;
mod intake;
pub mod io;
mod items;
mod leased;
mod live;
mod log;
mod lsn;
mod manifest;
mod metrics;
#[cfg(sapwood_models)]
#[path = "../../models/src/lib.rs"]
pub mod models;
mod names;
mod open;
pub mod owner;
mod part;
mod planted;
mod pool;
#[cfg(feature = "metrics")]
mod publish;
mod quota;
mod races;
mod reader;
mod reads;
mod reclaim;
mod record;
mod recover;
mod reindex;
mod relocate;
mod renew;
mod reopen;
mod reply;
mod retain;
mod scan;
mod seal;
mod segment;
mod shard;
mod standby;
mod stream;
mod sync;
mod table;
mod tier;
mod view;
mod wake;
mod waking;
mod walk;
mod watch;
mod work;
mod writer;
mod yard;

pub use atomic::{AppendAtomic, AtomicTicket};
pub use backup::{BackupProgress, BackupReport};
pub use components::Components;
pub use config::{Config, DurableMethod, Recovery};
pub use cursor::Cursor;
pub use cut::Cut;
pub use driver::{Driver, Driving};
pub use engine::{Engine, LogOptions};
pub use error::{Cause, Damage, Error, Rejected, Result};
pub use format::manifest::LogSettings;
pub use gc::{GcReport, KeptSegment, Pin, SegmentState, Why};
pub use health::{Health, HealthFinding, HealthKind, HealthState, Severity};
pub use histogram::Histogram;
pub use hold::Hold;
pub use import::{Import, ImportReport, Origin};
pub use inner::LogInfo;
pub use io::Backend;
pub use log::Log;
pub use lsn::{Epoch, LogId, Lsn, Position, SegmentId, ShardId};
pub use metrics::ShardMetrics;
#[cfg(sapwood_planted)]
pub use planted::{BUGS, Described};
#[cfg(feature = "metrics")]
pub use publish::Publisher;
pub use reader::{From, Next, ReadRecord, Reader};
pub use record::{Batch, Record, Records};
pub use standby::{Promoted, Standby};
pub use tier::SealedSegment;
pub use work::ShardReport;
pub use writer::{Accepted, Ack, Append, Relaxed, Ticket, Writer};
