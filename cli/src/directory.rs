//! The directory that a command works on: its options, and opening it.
//!
//! Not here: what opening means (the engine).

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use bytesize::ByteSize;
use sapwood::{Components, Config, Engine, Recovery};

use crate::exit::{Exit, Failure};
use crate::owning::NfsArgs;
use crate::sizes::{BATCH_BYTES_MAX, BATCHES_STAGED_MIN, Sizes};

/// What carries the I/O.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Backend {
    /// io_uring where the kernel has it, else blocking calls
    Auto,
    /// io_uring, or an error
    Uring,
    /// pread and pwrite
    Blocking,
}

impl From<Backend> for sapwood::Backend {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Uring => Self::Uring,
            Backend::Blocking => Self::Blocking,
        }
    }
}

/// Options of a command that reads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReadDir {
    /// The directory
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// Options of a command that writes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WriteDir {
    /// The directory; made when it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Size of a segment file; only for a new directory [default: 32MiB]
    #[arg(long, value_name = "SIZE", help_heading = "For a new directory")]
    pub segment_size: Option<ByteSize>,
    /// The largest record; only for a new directory [default: 1MiB]
    #[arg(long, value_name = "SIZE", help_heading = "For a new directory")]
    pub record_max: Option<ByteSize>,
    /// Shards: threads with files of their own; only for a new directory [default: 1]
    #[arg(long, value_name = "COUNT", help_heading = "For a new directory")]
    pub shards: Option<u16>,
    /// Memory in which appends are staged [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    pub stage_size: Option<ByteSize>,
}

impl WriteDir {
    pub(crate) fn config(&self, backend: Backend) -> Result<Config> {
        let mut config = Config { backend: backend.into(), ..Config::new(&self.dir) };
        config.shards = self.shards.unwrap_or(config.shards);
        let size = |given: Option<ByteSize>| given.map(|size| size.as_u64());
        let (segment, record, stage) =
            (size(self.segment_size), size(self.record_max), size(self.stage_size));
        Sizes { segment, record, stage }.set(&mut config).map_err(usage)?;
        Ok(config)
    }

    /// Opens for writing; a missing directory is made.
    pub(crate) fn open(&self, backend: Backend, mut components: Components) -> Result<Engine> {
        let mut config = self.config(backend)?;
        NfsArgs::complete(&mut config, &mut components);
        Ok(Engine::open_with(config, components)?.0)
    }
}

fn usage(message: String) -> anyhow::Error {
    Failure::new(Exit::Usage, message).into()
}

/// Opens for reading: works while another process writes, changes nothing.
pub(crate) fn open_read_only(dir: &Path, backend: Backend) -> Result<Engine> {
    open_read_only_with(dir, backend, Components::default())
}

/// As [`open_read_only`], with the tier that records went to.
pub(crate) fn open_read_only_with(
    dir: &Path,
    backend: Backend,
    components: Components,
) -> Result<Engine> {
    must_exist(dir)?;
    let config = Config { read_only: true, backend: backend.into(), ..Config::new(dir) };
    Ok(Engine::open_with(config, components)?.0)
}

/// Opens an existing directory for writing.
pub(crate) fn open_existing(
    dir: &Path,
    recovery: Recovery,
    stage_bytes: u64,
    backend: Backend,
) -> Result<Engine> {
    must_exist(dir)?;
    let mut config = Config { recovery, create: false, ..Config::new(dir) };
    config.backend = backend.into();
    config.stage_bytes = config.stage_bytes.max(stage_bytes);
    let mut components = Components::default();
    NfsArgs::complete(&mut config, &mut components);
    Ok(Engine::open_with(config, components)?.0)
}

/// Opens an existing directory for writing, to change what stands in its manifest.
pub(crate) fn open_to_change(dir: &Path, backend: Backend) -> Result<Engine> {
    match open_existing(dir, Recovery::TolerateTail, 0, backend) {
        // Its batches may be larger than the default memory takes.
        Err(error) if matches!(error.downcast_ref(), Some(sapwood::Error::Invalid(_))) => {
            let stage_bytes = BATCHES_STAGED_MIN * BATCH_BYTES_MAX;
            open_existing(dir, Recovery::TolerateTail, stage_bytes, backend)
        }
        opened => opened,
    }
}

/// Says so when there is no directory, instead of making one.
pub(crate) fn must_exist(dir: &Path) -> Result<()> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(
            Exit::Missing,
            format!("{} is a file; --dir takes the directory that holds the logs", dir.display()),
        )
        .into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(
            Exit::Missing,
            format!("there is no directory {}; `sapwood append` makes one", dir.display()),
        )
        .into()),
        Err(error) => Err(anyhow!(error).context(format!("opening {}", dir.display()))),
    }
}
