//! A small directory on the simulated disk, for tests that script what happens to it.
//!
//! Not here: random lives, whose settings are drawn (`world`).

use std::sync::Arc;

use sapwood::io::Storage;
use sapwood::{Config, Driving, Engine, Result};

/// Segments of 1 MiB, small batches: a few records roll.
#[must_use]
pub fn config() -> Config {
    Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 64 << 10,
        record_bytes_max: 32 << 10,
        stage_bytes: 1 << 20,
        ..Config::new("simulated")
    }
}

/// Opens it, with every shard driven by this thread.
///
/// # Errors
/// As the engine.
pub fn open(storage: impl Storage + 'static, config: Config) -> Result<(Engine, Vec<Driving>)> {
    let (engine, drivers) = Engine::open_on(Arc::new(storage), config)?;
    let drivers = drivers.into_iter().map(|driver| driver.bind());
    Ok((engine, drivers.collect::<Result<_>>()?))
}
