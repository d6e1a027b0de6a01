//! Lives of the process under load: begun, heard, looked at, killed.
//!
//! Invariants: a life is heard to its last line before the next one begins, so the model knows all
//! that was said; a life that ends by itself, and not as it was asked to, ends the soak.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::SoakArgs;
use super::model::Model;
use super::series::{self, Sample};

/// An opening that takes longer than this hangs.
const READY_MAX: Duration = Duration::from_secs(300);
/// So does an end.
const END_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether something has come about.
const LOOK: Duration = Duration::from_millis(10);

/// What all lives share.
pub(crate) struct Lives<'a> {
    args: &'a SoakArgs,
    began: Instant,
    model: Arc<Mutex<Model>>,
    count: u64,
    pub(crate) samples: Vec<Sample>,
    /// When lives were killed, in seconds.
    pub(crate) kills: Vec<f64>,
    /// How long openings took, and how long their surveys after that: every record of every log
    /// by a reader of its own, which is mostly reads of what others appended in between.
    pub(crate) openings: Vec<f64>,
    pub(crate) surveys: Vec<f64>,
}

/// One that is running.
pub(crate) struct Life {
    child: Child,
    heard: Option<JoinHandle<Result<()>>>,
}

impl<'a> Lives<'a> {
    pub(crate) fn new(args: &'a SoakArgs) -> Self {
        Self {
            args,
            began: Instant::now(),
            model: Arc::default(),
            count: 0,
            samples: Vec::new(),
            kills: Vec::new(),
            openings: Vec::new(),
            surveys: Vec::new(),
        }
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Begins the next life.
    pub(crate) fn begin(&mut self) -> Result<Life> {
        self.model().begin();
        let args = self.args;
        let me = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(me)
            .args(["bench", "soak", "--child", &self.count.to_string()])
            .args(["--logs", &args.logs.to_string(), "--rate", &args.rate.to_string()])
            .args(["--seed", &args.seed.to_string(), "--followers", &args.followers.to_string()])
            .args(["--restart-secs", &args.restart_secs.to_string(), "--dir"])
            .arg(&args.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("begin a life")?;
        self.count += 1;
        let said = BufReader::new(child.stdout.take().context("no pipe")?);
        let model = Arc::clone(&self.model);
        let heard = thread::spawn(move || {
            for line in said.lines() {
                let event = line.context("hear the load")?.parse()?;
                lock(&model).hear(event);
            }
            Ok(())
        });
        Ok(Life { child, heard: Some(heard) })
    }

    /// Waits until everything that the opening found has been compared.
    pub(crate) fn until_ready(&mut self, life: &mut Life) -> Result<()> {
        let opening = Self::until(life, || self.model().opened)?;
        let survey = Self::until(life, || self.model().ready)?;
        self.openings.push(opening);
        self.surveys.push(survey);
        Ok(())
    }

    /// How long it took, in seconds.
    fn until(life: &mut Life, so: impl Fn() -> bool) -> Result<f64> {
        let since = Instant::now();
        while !so() {
            life.check()?;
            ensure!(since.elapsed() < READY_MAX, "an opening did not end");
            thread::sleep(LOOK);
        }
        Ok(since.elapsed().as_secs_f64())
    }

    /// Looks on for so long, with a sample at each interval.
    pub(crate) fn watch(&mut self, life: &mut Life, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let mut before = (self.seconds(), self.model().acked);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(left.min(self.args.sample_every()));
            life.check()?;
            if Instant::now() >= until {
                return Ok(());
            }
            let (seconds, acked) = (self.seconds(), self.model().acked);
            let disk_bytes = series::disk_bytes(&self.args.dir);
            let Some((rss_bytes, files)) = series::of_process(life.child.id()) else { continue };
            let appends = (acked - before.1) as f64 / (seconds - before.0).max(1e-3);
            before = (seconds, acked);
            self.samples.push(Sample { seconds, disk_bytes, rss_bytes, files, appends });
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, mut life: Life) -> Result<()> {
        life.check()?;
        life.child.kill().context("kill")?;
        self.kills.push(self.seconds());
        life.child.wait().context("wait for the killed")?;
        life.hear_out()
    }

    /// Asks it to end in order.
    pub(crate) fn end(&mut self, mut life: Life) -> Result<()> {
        drop(life.child.stdin.take());
        let since = Instant::now();
        let status = loop {
            if let Some(status) = life.child.try_wait().context("wait for the end")? {
                break status;
            }
            if since.elapsed() > END_MAX {
                let _ = life.child.kill();
                bail!("a life did not end when it was asked to");
            }
            thread::sleep(LOOK);
        };
        ensure!(status.success(), "a life that was asked to end ended with {status}");
        life.hear_out()
    }
}

impl Life {
    /// To the last line.
    fn hear_out(&mut self) -> Result<()> {
        let Some(heard) = self.heard.take() else { return Ok(()) };
        heard.join().map_err(|_| anyhow!("the listener panicked"))?
    }

    /// It lives.
    fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the load")? {
            None => Ok(()),
            Some(status) => bail!("the load ended by itself ({status}): see what it said"),
        }
    }
}

impl Drop for Life {
    /// Whatever went wrong: no life outlasts the soak.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listener that panicked has told so by its end.
fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
