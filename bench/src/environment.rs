//! Where a number was measured: without it a number says nothing.
//!
//! Every field is what the kernel tells; what it does not tell is "unknown", never a guess.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::meter::device_folder;

/// The machine, the device and the file system of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Version of Sapwood.
    pub version: String,
    /// Release of the kernel, and the machine's architecture.
    pub kernel: String,
    /// Model of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Name and model of the block device.
    pub device: String,
    /// What the device says of its volatile cache: `write back` needs flushes.
    pub write_cache: String,
    /// Whether one write can carry its own flush.
    pub fua: String,
    /// The I/O scheduler in force.
    pub scheduler: String,
    /// Type of the file system.
    pub file_system: String,
    /// Mount point and options.
    pub mount: String,
    /// Journal of an ext4, where there is one.
    pub journal: String,
    /// Load average over a minute when the run began: above 1, others were at work.
    pub load_average: String,
    /// Seconds since the epoch when it began.
    pub began: u64,
}

/// What the device under `dir` says of its cache.
#[must_use]
pub fn write_cache(dir: &Path) -> Option<String> {
    read_line(&device_folder(dir)?.join("queue/write_cache"))
}

impl Environment {
    /// Looks around for data under `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Environment {
        let folder = device_folder(dir);
        let queue = |name: &str| {
            let path = folder.as_ref().map(|folder| folder.join("queue").join(name));
            path.and_then(|path| read_line(&path)).unwrap_or_else(unknown)
        };
        let (file_system, mount) = mount_of(dir).unwrap_or_else(|| (unknown(), unknown()));
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let scheduler = queue("scheduler");
        Environment {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: format!("{} {}", text(system.release()), text(system.machine())),
            cpu: cpu_model().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            device: folder.as_deref().map_or_else(unknown, device_name),
            write_cache: queue("write_cache"),
            fua: queue("fua"),
            scheduler: in_brackets(&scheduler).unwrap_or(&scheduler).to_owned(),
            journal: journal_of(folder.as_deref(), &file_system),
            file_system,
            mount,
            load_average: read_line(Path::new("/proc/loadavg"))
                .and_then(|line| line.split_whitespace().next().map(str::to_owned))
                .unwrap_or_else(unknown),
            began: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |age| age.as_secs()),
        }
    }

    /// Its facts as name and value, in the order they are printed.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sapwood", self.version.clone()),
            ("kernel", self.kernel.clone()),
            ("cpu", format!("{} x {}", self.cores, self.cpu)),
            ("device", self.device.clone()),
            ("write cache", format!("{}, fua {}", self.write_cache, self.fua)),
            ("scheduler", self.scheduler.clone()),
            ("file system", format!("{}, journal {}", self.file_system, self.journal)),
            ("mount", self.mount.clone()),
            ("load average", self.load_average.clone()),
        ]
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts().iter().try_for_each(|(name, value)| writeln!(out, "{name:<14}{value}"))
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read_line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn in_brackets(text: &str) -> Option<&str> {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside)
}

fn device_name(folder: &Path) -> String {
    let name = folder.file_name().map_or_else(unknown, |name| name.to_string_lossy().into_owned());
    match read_line(&folder.join("device/model")) {
        Some(model) => format!("{name} ({model})"),
        None => name,
    }
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}

fn journal_of(folder: Option<&Path>, file_system: &str) -> String {
    if file_system != "ext4" {
        return "of its own kind".to_owned();
    }
    let name = folder.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let task =
        name.and_then(|name| read_line(Path::new(&format!("/sys/fs/ext4/{name}/journal_task"))));
    match task.as_deref() {
        Some("<none>") => "none".to_owned(),
        Some(_) => "yes".to_owned(),
        None => unknown(),
    }
}

/// File system type, and mount point with options, of the mount that `dir` is on.
fn mount_of(dir: &Path) -> Option<(String, String)> {
    let dir = fs::canonicalize(dir).ok()?;
    find_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?, &dir)
}

fn find_mount(mounts: &str, dir: &Path) -> Option<(String, String)> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (point, options) = (*left.get(4)?, *left.get(5)?);
        let more = right.get(2).copied().unwrap_or_default();
        let kind = (*right.first()?).to_owned();
        Some((point.to_owned(), kind, format!("{point} ({options}; {more})")))
    };
    // The last of equals is the one mounted on top.
    mounts
        .lines()
        .filter_map(parse)
        .filter(|(point, _, _)| dir.starts_with(point))
        .max_by_key(|(point, _, _)| point.len())
        .map(|(_, kind, text)| (kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_the_deepest_that_holds_the_folder() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/root rw,discard\n\
                      23 22 0:5 / /data/wal rw shared:1 - xfs /dev/sdb rw,noquota\n";
        let (kind, text) = find_mount(mounts, Path::new("/data/wal/x")).unwrap();
        assert_eq!((kind.as_str(), text.as_str()), ("xfs", "/data/wal (rw; rw,noquota)"));
        assert_eq!(find_mount(mounts, Path::new("/data/walnut")).unwrap().0, "ext4");
    }

    #[test]
    fn the_scheduler_in_force_is_the_one_in_brackets() {
        assert_eq!(in_brackets("none [mq-deadline] kyber"), Some("mq-deadline"));
        assert_eq!(in_brackets("none"), None);
    }

    #[test]
    fn it_can_look_around_anywhere() {
        let text = Environment::of(Path::new("/")).to_string();
        assert!(text.contains("kernel") && text.contains("write cache"));
    }
}
