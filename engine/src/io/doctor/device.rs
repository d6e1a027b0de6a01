//! The device under a place: its unit, its cache, whether the page cache can be passed by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::methods;
use super::scratch::{BLOCKS, Place, Scratch};
use super::{Measured, Row, Verdict, median, told};
use crate::io::blocking::BlockingDisk;
use crate::io::buf::{AlignedBuf, BUF_ALIGN};
use crate::io::os::Directory;
use crate::io::probe::{Device, alignment, choose_unit};
use crate::io::{Disk, DiskSpec, Done, Durable, Op, Wait};

/// Reads and syncs whose median is told, at most.
const SAMPLES: usize = 32;

/// What they may take together.
const BUDGET: Duration = Duration::from_millis(300);

/// Adds the rows; tells the unit that the device needs.
pub(super) fn rows(rows: &mut Vec<Row>, place: &Place, ring: bool) -> u32 {
    let Ok(dir) = &place.opened else {
        return BUF_ALIGN as u32;
    };
    let device = Device::of(dir).unwrap_or_default();
    let scratch = place.scratch.as_ref().ok();
    let align = scratch.and_then(|scratch| alignment(scratch.file.os().ok()?));
    let unit = choose_unit(&device, align.as_ref());
    let read = scratch.and_then(|scratch| read(dir, scratch));
    rows.push(unit_row(unit.value, &unit.why).with(read));
    rows.push(direct(scratch, align.map(|stat| stat.stx_dio_offset_align), ring));
    let flush = scratch.and_then(|scratch| methods::flush(dir, scratch, SAMPLES, BUDGET));
    rows.push(cache(dir, &device).with(flush));
    unit.value
}

fn unit_row(unit: u32, why: &str) -> Row {
    let value = format!("{unit} bytes = {why}");
    if unit as usize > BUF_ALIGN {
        let advice = "every batch is padded to it: small commits write more";
        return Row::new("unit", value, Verdict::Note, advice);
    }
    Row::new("unit", value, Verdict::Ok, "nothing to do")
}

/// What reading a block from the device takes.
fn read(dir: &Arc<Directory>, scratch: &Scratch) -> Option<Measured> {
    let spec = DiskSpec { in_flight: 1, ..DiskSpec::default() };
    let mut disk = BlockingDisk::new(Arc::clone(dir), Durable::Dsync, &spec);
    let (mut took, began) = (Vec::with_capacity(SAMPLES), Instant::now());
    for sample in 0..SAMPLES {
        let at = (sample * 7919 % BLOCKS * BUF_ALIGN) as u64;
        let buf = AlignedBuf::zeroed(BUF_ALIGN).ok()?;
        let start = Instant::now();
        let done = run(&mut disk, Op::Read { file: scratch.file.clone(), offset: at, buf })?;
        done.result.ok()?;
        took.push(start.elapsed());
        if began.elapsed() > BUDGET {
            break;
        }
    }
    median(took).map(|took| Measured::time("reading a block takes", took))
}

/// Runs one operation to its end.
pub(super) fn run(disk: &mut dyn Disk, op: Op) -> Option<Done> {
    disk.submit(0, op).ok()?;
    let mut done = Vec::with_capacity(1);
    while done.is_empty() {
        disk.reap(&mut done, Wait::Event).ok()?;
    }
    done.pop()
}

fn direct(scratch: Option<&Scratch>, align: Option<u32>, ring: bool) -> Row {
    let name = "direct I/O";
    let Some(scratch) = scratch else {
        return Row::new(name, "not tried", Verdict::Note, "nothing can be written here");
    };
    let buffered = "buffered writes with fdatasync are used: as durable, slower, and they fill the \
                    page cache";
    match align {
        _ if !scratch.direct => Row::new(name, "refused at open", Verdict::Warning, buffered),
        Some(0) => Row::new(name, "reported as not supported", Verdict::Warning, buffered),
        Some(align) => {
            let value = format!("yes, aligned to {align}");
            Row::new(name, value, Verdict::Ok, "nothing to do")
        }
        None if ring => Row::new(name, "yes, alignment not reported", Verdict::Ok, "nothing to do"),
        None => Row::new(name, "accepted at open", Verdict::Ok, "nothing to do"),
    }
}

/// A value of the device's queue. A partition has none of its own; its disk does, one folder up.
fn queue(dir: &Directory, what: &str) -> Option<String> {
    let stat = rustix::fs::fstat(dir.fd()).ok()?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let node = format!("/sys/dev/block/{major}:{minor}");
    told(&format!("{node}/queue/{what}")).or_else(|| told(&format!("{node}/../queue/{what}")))
}

fn cache(dir: &Directory, device: &Device) -> Row {
    let name = "write cache";
    let Some(device_name) = &device.name else {
        let advice = "the kernel names no device here: what a flush does is up to whoever is below";
        return Row::new(name, "not known", Verdict::Note, advice);
    };
    let fua = queue(dir, "fua").as_deref() == Some("1");
    let kept = device.write_cache.as_deref().unwrap_or("not known");
    let value = format!("{device_name}: {kept}, {}", if fua { "FUA" } else { "no FUA" });
    match (kept, fua) {
        ("write through", _) => {
            let advice = "nothing to do: the device says that it loses nothing it has acknowledged";
            Row::new(name, value, Verdict::Ok, advice)
        }
        ("write back", true) => {
            Row::new(name, value, Verdict::Ok, "nothing to do: a write carries its own flush")
        }
        ("write back", false) => {
            let advice = "each commit flushes the device's whole cache: a drive with FUA, or one \
                          that keeps its cache through a power cut, is faster";
            Row::new(name, value, Verdict::Note, advice)
        }
        _ => Row::new(name, value, Verdict::Note, "the kernel does not say what the device keeps"),
    }
}
