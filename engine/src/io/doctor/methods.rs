//! What a durable write of one block takes, by each method.
//!
//! Invariants: blocks were written before, as in a segment; methods take turns, so that what else
//! the device does hits all of them alike.
//!
//! Not here: which method a directory uses (`probe` chooses when it is made).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::device::run;
use super::scratch::{BLOCKS, Place, Scratch};
use super::{Measured, Row, Verdict, median, plural};
use crate::io::blocking::BlockingDisk;
use crate::io::buf::{AlignedBuf, BUF_ALIGN, IoBuf};
use crate::io::os::Directory;
use crate::io::uring::UringDisk;
use crate::io::{Disk, DiskSpec, Durable, File, Op};

/// Writes of each method.
const SAMPLES: usize = 100;

/// All methods together end after this.
const BUDGET: Duration = Duration::from_secs(2);

/// A durable write that takes longer is worth a look.
const LONG: Duration = Duration::from_millis(5);

struct Method {
    name: &'static str,
    disk: io::Result<Box<dyn Disk>>,
    took: Vec<Duration>,
    failed: Option<io::Error>,
}

impl Method {
    fn new(name: &'static str, dir: &Arc<Directory>, ring: bool, durable: Durable) -> Self {
        let spec = DiskSpec { in_flight: 1, ..DiskSpec::default() };
        let disk = || -> io::Result<Box<dyn Disk>> {
            if !ring {
                return Ok(Box::new(BlockingDisk::new(Arc::clone(dir), durable, &spec)));
            }
            let mut disk = UringDisk::new(Arc::clone(dir), durable, &spec)?;
            disk.bind()?;
            Ok(Box::new(disk))
        };
        Self { name, disk: disk(), took: Vec::with_capacity(SAMPLES), failed: None }
    }

    /// One write of one block.
    fn sample(&mut self, file: &File, sample: usize) -> io::Result<()> {
        let disk = match &mut self.disk {
            Ok(disk) => disk,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let began = Instant::now();
        write(&mut **disk, file, sample, true)?;
        self.took.push(began.elapsed());
        Ok(())
    }
}

fn write(disk: &mut dyn Disk, file: &File, sample: usize, persist: bool) -> io::Result<()> {
    let offset = (sample % BLOCKS * BUF_ALIGN) as u64;
    let buf = IoBuf::Owned(AlignedBuf::zeroed(BUF_ALIGN)?);
    let op = Op::Write { file: file.clone(), offset, buf, persist };
    let done = run(disk, op).ok_or(io::ErrorKind::Interrupted)?;
    done.result.map(|_| ())
}

/// The row of the durable methods.
pub(super) fn row(rows: &mut Vec<Row>, place: &Place, ring: bool) {
    let name = "durable write";
    let (dir, scratch) = match (&place.opened, &place.scratch) {
        (Ok(dir), Ok(scratch)) => (dir, scratch),
        (Err(error), _) | (_, Err(error)) => {
            let value = format!("not measured: {error}");
            let advice = "nothing can be written here: run as who will append, or give another \
                          directory";
            return rows.push(Row::new(name, value, Verdict::Bad, advice));
        }
    };
    let mut methods = vec![
        Method::new("pwrite with DSYNC", dir, false, Durable::Dsync),
        Method::new("pwrite, then fdatasync", dir, false, Durable::Fdatasync),
    ];
    if ring {
        methods.insert(0, Method::new("ring write with DSYNC", dir, true, Durable::Dsync));
        methods.insert(
            1,
            Method::new("ring write linked to fdatasync", dir, true, Durable::Fdatasync),
        );
    }
    measure(&mut methods, &scratch.file);
    rows.push(judge(name, methods));
}

fn measure(methods: &mut [Method], file: &File) {
    let began = Instant::now();
    for sample in 0..SAMPLES {
        for method in methods.iter_mut().filter(|method| method.failed.is_none()) {
            if sample > 0 && began.elapsed() > BUDGET {
                return;
            }
            method.failed = method.sample(file, sample).err();
        }
    }
}

fn judge(name: &'static str, methods: Vec<Method>) -> Row {
    let mut figures = Vec::new();
    let mut failures = Vec::new();
    let mut best: Option<(Duration, &'static str)> = None;
    for method in methods {
        if let Some(error) = method.failed {
            failures.push(format!("{} fails ({error})", method.name));
            continue;
        }
        let samples = method.took.len();
        let Some(middle) = median(method.took) else { continue };
        if best.is_none_or(|(took, _)| middle < took) {
            best = Some((middle, method.name));
        }
        let what = format!("{} takes (median of {samples})", method.name);
        figures.push(Measured::time(what, middle));
    }
    let Some((took, fastest)) = best else {
        let advice = "no durable write works here: see the kernel's log";
        return Row::new(name, failures.join("; "), Verdict::Bad, advice);
    };
    let mut row = Row::new(
        name,
        format!("fastest: {fastest}"),
        Verdict::Ok,
        "nothing to do: an open for writing chooses for itself",
    );
    if !failures.is_empty() {
        let fails = failures.join("; ");
        row.at_least(
            Verdict::Note,
            format!("{} not used: {fails}", plural(failures.len(), "method")),
        );
    }
    if took > LONG {
        let advice = "slow: many writers share a commit, one alone waits; a drive with power-loss \
                      protection takes a tenth of a millisecond";
        row.at_least(Verdict::Warning, advice);
    }
    row.with(figures)
}

/// What making one written block durable adds to writing it.
pub(super) fn flush(
    dir: &Arc<Directory>,
    scratch: &Scratch,
    samples: usize,
    budget: Duration,
) -> Option<Measured> {
    let spec = DiskSpec { in_flight: 1, ..DiskSpec::default() };
    let mut disk = BlockingDisk::new(Arc::clone(dir), Durable::Fdatasync, &spec);
    let (mut took, began) = (Vec::with_capacity(samples), Instant::now());
    for sample in 0..samples {
        write(&mut disk, &scratch.file, sample, false).ok()?;
        let start = Instant::now();
        run(&mut disk, Op::Sync { file: scratch.file.clone() })?.result.ok()?;
        took.push(start.elapsed());
        if began.elapsed() > budget {
            break;
        }
    }
    median(took).map(|took| Measured::time("a flush takes", took))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &'static str, us: u64, failed: Option<io::Error>) -> Method {
        let took = vec![Duration::from_micros(us); 3];
        Method { name, disk: Err(io::ErrorKind::Other.into()), took, failed }
    }

    #[test]
    fn the_fastest_is_named_and_a_failing_one_is_told() {
        let row = judge("w", vec![method("a", 90, None), method("b", 80, None)]);
        assert_eq!((row.verdict, row.value.as_str()), (Verdict::Ok, "fastest: b"));
        assert_eq!(row.measured.len(), 2);
        assert_eq!(row.measured[0].to_string(), "a takes (median of 3) 90 µs");
        let fails = || Some(io::Error::from(io::ErrorKind::Unsupported));
        let row = judge("w", vec![method("a", 90, None), method("b", 1, fails())]);
        assert_eq!((row.verdict, row.value.as_str()), (Verdict::Note, "fastest: a"));
        assert!(row.advice.contains("b fails"), "{}", row.advice);
        let row = judge("w", vec![method("a", 9_000, None)]);
        assert_eq!(row.verdict, Verdict::Warning);
        assert_eq!(judge("w", vec![method("a", 1, fails())]).verdict, Verdict::Bad);
    }
}
