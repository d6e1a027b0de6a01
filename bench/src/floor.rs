//! `bench floor`: the device alone. Durable 4 KiB writes by both methods and at several depths,
//! sequential writes by size, sequential reads by depth.
//!
//! Not here: anything of Sapwood; this is what to run first on a machine one does not know.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::device::{self, BLOCK_BYTES, WriteLoop};
use crate::environment::Environment;
use crate::folder::Folder;
use crate::meter::Meter;
use crate::report::{self, CellResult, Row};
use crate::ring::Method;
use crate::sample::Sample;

/// What `bench floor` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct FloorArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Rounds of each row
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each timed window
    #[arg(long, default_value_t = 1.0)]
    pub secs: f64,
    /// Size of the prewritten file, MiB
    #[arg(long, default_value_t = 1024)]
    pub file_mib: u64,
    /// Writes in flight for the bandwidth by size
    #[arg(long, default_value_t = 2)]
    pub depth: usize,
}

enum Probe {
    Write { bytes: usize, depth: usize, method: Method },
    Read { depth: usize },
}

/// Measures, prints a table.
///
/// # Errors
/// When the place refuses `O_DIRECT` or a file of that size.
pub fn run(args: &FloorArgs) -> Result<()> {
    ensure!(args.rounds > 0 && args.depth > 0 && args.file_mib >= 64, "too small to measure");
    print!("{}", Environment::of(&args.dir));
    let folder = Folder::fresh(&args.dir)?;
    let path = folder.path().join("floor");
    drop(device::prewrite(&path, args.file_mib << 20)?);
    let meter = Meter::new(folder.path());
    let window = Duration::from_secs_f64(args.secs);
    let once = |probe: &Probe| -> Result<Sample> {
        let file = device::open_direct(&path)?;
        match *probe {
            Probe::Read { depth } => {
                device::read_all(file, args.file_mib << 20, BLOCK_BYTES, depth, &meter)
            }
            Probe::Write { bytes, depth, method } => {
                let warm_up = window.mul_f64(0.1);
                let plan = WriteLoop { bytes, depth, method, warm_up, window };
                device::write_loop(file, &plan, &meter)
            }
        }
    };
    let probes = probes(args.depth);
    let mut rows: Vec<Row> =
        probes.iter().map(|(name, _)| Row { name: name.clone(), rounds: Vec::new() }).collect();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for ((_, probe), row) in probes.iter().zip(&mut rows) {
            row.rounds.push(once(probe)?);
        }
    }
    let (name, title) = ("floor".to_owned(), "the device alone".to_owned());
    let result = CellResult { name, title, rows, failures: Vec::new(), outcomes: Vec::new() };
    print!("\n{}", report::text(&result));
    Ok(())
}

fn probes(depth: usize) -> Vec<(String, Probe)> {
    let write = |bytes: usize, depth, method| Probe::Write { bytes, depth, method };
    let mut all = Vec::new();
    for (name, method) in [("dsync", Method::Dsync), ("fdatasync", Method::Fdatasync)] {
        for depth in [1, 2, 4] {
            all.push((format!("4 KiB {name}, {depth} in flight"), write(4096, depth, method)));
        }
    }
    for kib in [64, 256, 1024, 2048, 4096] {
        for (name, method) in [("dsync", Method::Dsync), ("unsynced", Method::Unsynced)] {
            let probe = write(kib << 10, depth, method);
            all.push((format!("{kib} KiB {name}, {depth} in flight"), probe));
        }
    }
    for depth in 1..=4 {
        all.push((format!("read 1 MiB, {depth} in flight"), Probe::Read { depth }));
    }
    all
}
