//! `bench soak`: does anything get lost, or grow, while everything happens at once for a long time
//! and the process is killed again and again?
//!
//! A parent starts a child (this program) that appends, truncates, cuts, deletes, creates and
//! follows, and says on a pipe what it is about to do and what was acked. The parent kills it,
//! starts it again, compares all that the opening found with what was said, and samples disk,
//! memory and files meanwhile.
//!
//! Invariants: the two share nothing but the pipe and the directory; every opening is compared,
//! over all logs; what does not agree, or is not flat by the stated rule, is an error.
//!
//! Not here: power cuts (the labs), faults of the disk (the simulator).

mod child;
mod event;
mod follower;
mod lives;
mod model;
#[cfg(test)]
mod model_tests;
mod payload;
mod plot;
mod series;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::environment::Environment;
use crate::folder::Folder;
use crate::report::number;
use lives::Lives;
use model::Deeds;
use series::Flatness;

/// Where plot and JSON go, in the current folder.
const RESULTS: &str = "sapwood-bench";
/// Of so many kills one hits the opening after it too, within so many milliseconds.
const TWICE_ONE_IN: u64 = 4;
const TWICE_WITHIN_MS: u64 = 60;
/// Every opening reads every log, each through what all others appended meanwhile: little is kept,
/// so that most of the time goes into load.
const SWEEP_SECS_MAX: f64 = 5.0;
/// Samples of one life.
const SAMPLES_PER_LIFE: f64 = 60.0;

/// What `bench soak` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct SoakArgs {
    /// Data goes into a fresh folder under this one, removed after unless something was wrong
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// How long, minutes
    #[arg(long, default_value_t = 10.0)]
    pub mins: f64,
    /// Logs, the first ones busier than the last
    #[arg(long, default_value_t = 1000)]
    pub logs: u32,
    /// Appends a second, of one to four records each
    #[arg(long, default_value_t = 400.0)]
    pub rate: f64,
    /// Seconds under load between two kills
    #[arg(long, default_value_t = 60.0)]
    pub restart_secs: f64,
    /// Logs that are followed, the busiest
    #[arg(long, default_value_t = 8)]
    pub followers: u32,
    /// What happens when, but for the timing of the machine
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// This is life number N, under load: how the soak calls itself
    #[arg(long, hide = true, value_name = "N")]
    pub child: Option<u64>,
}

impl SoakArgs {
    /// Within a sweep every log is truncated once.
    fn sweep_secs(&self) -> f64 {
        SWEEP_SECS_MAX.min(self.restart_secs / 3.0)
    }

    /// A second, when lives last a minute.
    fn sample_every(&self) -> Duration {
        Duration::from_secs_f64((self.restart_secs / SAMPLES_PER_LIFE).clamp(0.02, 1.0))
    }
}

/// Soaks, prints, writes plot and JSON.
///
/// # Errors
/// When what was found is not what must be, when a life ended by itself, when disk, memory or files
/// are not flat, and when a result cannot be written.
pub fn run(args: &SoakArgs) -> Result<()> {
    if let Some(life) = args.child {
        return child::live(args, life);
    }
    ensure!(args.mins > 0.0 && args.restart_secs > 0.0, "mins and restart-secs must be above zero");
    ensure!(args.logs > 0 && args.rate > 0.0, "logs and rate must be above zero");
    let environment = Environment::of(&args.dir);
    let folder = Folder::fresh(&args.dir)?;
    let args = SoakArgs { dir: folder.path().join("wal"), ..args.clone() };
    let mut lives = Lives::new(&args);
    let outcome = soak(&args, &mut lives);
    let flat = report(&args, &environment, &lives);
    let agreed = lives.model().disagreements == 0;
    if outcome.is_err() || !agreed {
        eprintln!("the directory is left: {}", args.dir.display());
        std::mem::forget(folder);
    }
    outcome?;
    let flat = flat?;
    ensure!(agreed, "what was found is not what must be");
    ensure!(flat, "something grows");
    Ok(())
}

/// Lives until the time is over; the last one ends in order, and one more looks at what it left.
fn soak(args: &SoakArgs, lives: &mut Lives<'_>) -> Result<()> {
    let seconds = args.mins * 60.0;
    let mut rng = SmallRng::seed_from_u64(args.seed);
    loop {
        let mut life = lives.begin()?;
        lives.until_ready(&mut life)?;
        let left = seconds - lives.seconds();
        if left <= args.restart_secs {
            lives.watch(&mut life, Duration::from_secs_f64(left.max(0.0)))?;
            lives.end(life)?;
            break;
        }
        // Not at the same moment of each life.
        let time = args.restart_secs * (0.9 + 0.2 * rng.random::<f64>());
        lives.watch(&mut life, Duration::from_secs_f64(time))?;
        lives.kill(life)?;
        if rng.random_range(0..TWICE_ONE_IN) == 0 {
            let life = lives.begin()?;
            std::thread::sleep(Duration::from_millis(rng.random_range(0..TWICE_WITHIN_MS)));
            lives.kill(life)?;
        }
        let said = progress(lives);
        eprintln!("{:.0} of {seconds:.0} s: {said}", lives.seconds());
    }
    let mut life = lives.begin()?;
    lives.until_ready(&mut life)?;
    lives.end(life)
}

fn progress(lives: &Lives<'_>) -> String {
    let model = lives.model();
    let disagreements = model.disagreements;
    format!(
        "{} records acked, {} kills, {} openings compared, {disagreements} disagreements",
        model.acked,
        lives.kills.len(),
        model.compared,
    )
}

/// Prints, writes; whether all was flat.
fn report(args: &SoakArgs, environment: &Environment, lives: &Lives<'_>) -> Result<bool> {
    let verdicts = series::verdicts(&lives.samples);
    let flat = verdicts.iter().all(|series| series.flat);
    let results = Path::new(RESULTS);
    fs::create_dir_all(results).context("make sapwood-bench/")?;
    let svg = plot::render(&lives.samples, &lives.kills)?;
    fs::write(results.join("soak.svg"), svg).context("write soak.svg")?;
    let model = lives.model();
    let json = json!({
        "environment": environment, "seconds": lives.seconds(), "logs": args.logs,
        "rate": args.rate, "restart_secs": args.restart_secs, "seed": args.seed,
        "acked": model.acked, "deeds": model.deeds, "followed": model.followed,
        "compared": model.compared, "checked": model.checked,
        "disagreements": model.disagreements, "told": model.told,
        "kills": lives.kills, "openings_seconds": lives.openings, "surveys_seconds": lives.surveys,
        "flatness": verdicts, "samples": lives.samples,
    });
    fs::write(results.join("soak.json"), serde_json::to_string(&json)?).context("write JSON")?;
    drop(model);
    print!("{environment}");
    tell(args, lives, &verdicts);
    println!("plot: {RESULTS}/soak.svg");
    Ok(flat)
}

fn tell(args: &SoakArgs, lives: &Lives<'_>, verdicts: &[Flatness]) {
    println!("\n{} logs, {:.0} s: {}", args.logs, lives.seconds(), progress(lives));
    let model = lives.model();
    println!(
        "{} records compared at openings, {} seen by followers",
        model.checked, model.followed
    );
    let Deeds { truncations, cuts, deletions, creations } = model.deeds;
    println!(
        "{truncations} truncations, {cuts} cuts, {deletions} deletions, {creations} creations"
    );
    for (what, seconds) in [("opening", &lives.openings), ("reading all logs", &lives.surveys)] {
        let most = seconds.iter().copied().fold(0.0, f64::max);
        println!(
            "{what}: {} s in the middle, {} s at most",
            number(series::median(seconds)),
            number(most)
        );
    }
    for series in verdicts {
        println!(
            "{}: {} -> {} (second and last quarter, limit {}): {}",
            series.name,
            number(series.second_quarter),
            number(series.last_quarter),
            number(series.limit),
            if series.flat { "flat" } else { "GROWS" }
        );
    }
    model.told.iter().for_each(|what| println!("DISAGREES: {what}"));
}
