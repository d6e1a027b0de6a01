//! Who a process is, so that a lock file can name its owner and a successor can see it gone.
//!
//! Invariants: a process is the same only if host, boot, pid *and* start time agree: pids come
//! back. A process of another host or boot is never called dead by looking at ours: of another boot
//! of this host it is gone, of another host nobody knows.
//!
//! Not here: the lock itself (`lock`).

use std::fs;
use std::io;

/// A process, identified across hosts and boots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInfo {
    /// The host's name.
    pub host: String,
    /// The kernel's random id of this boot.
    pub boot: String,
    /// The process id.
    pub pid: u32,
    /// When the process started, in clock ticks since the boot.
    pub start_time: u64,
}

/// This process.
///
/// # Errors
/// When `/proc` is not there.
pub fn hostinfo() -> io::Result<HostInfo> {
    let pid = std::process::id();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let stat = fs::read_to_string("/proc/self/stat")?;
    let stat = Stat::parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(HostInfo { host, boot, pid, start_time: stat.start_time })
}

impl HostInfo {
    /// As text lines `key value`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        format!(
            "host {}\nboot {}\npid {}\nstart {}\n",
            self.host, self.boot, self.pid, self.start_time
        )
        .into_bytes()
    }

    /// The boot's id as a number; 0 when it is none.
    #[must_use]
    pub fn boot_number(&self) -> u128 {
        u128::from_str_radix(&self.boot.replace('-', ""), 16).unwrap_or(0)
    }

    /// What [`encode`](Self::encode) wrote; unknown keys are skipped.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        let get = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::trim))
        };
        Some(Self {
            host: get("host")?.to_owned(),
            boot: get("boot")?.to_owned(),
            pid: get("pid")?.parse().ok()?,
            start_time: get("start")?.parse().ok()?,
        })
    }

    /// Whether this process is certainly gone, seen from this host. Of another host: never certain.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Ok(here) = hostinfo() else { return false };
        if self.host != here.host {
            return false;
        }
        if self.boot != here.boot {
            return true;
        }
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(stat) => match Stat::parse(&stat) {
                Some(stat) => stat.start_time != self.start_time || stat.is_dying(),
                None => false,
            },
        }
    }
}

/// The kernel's `PF_EXITING`.
const EXITING: u64 = 4;

/// SIGKILL in a mask of signals.
const KILL: u64 = 1 << (9 - 1);

/// What `/proc/PID/stat` says about a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    flags: u64,
    start_time: u64,
    /// Signals that have not been delivered yet.
    pending: u64,
}

impl Stat {
    /// The command's name is in parentheses and may itself contain spaces and parentheses, so
    /// fields are counted from the last one.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        // The numbers of the fields are those of proc(5): 3, 9, 22, 31.
        Some(Self {
            state: fields.next()?.chars().next()?,
            flags: fields.nth(9 - 4)?.parse().ok()?,
            start_time: fields.nth(22 - 10)?.parse().ok()?,
            pending: fields.nth(31 - 23)?.parse().ok()?,
        })
    }

    /// Dead, dying or killed a moment ago: it will never run again. A zombie has given up its files
    /// already, all but what its rings still hold.
    fn is_dying(&self) -> bool {
        matches!(self.state, 'Z' | 'X') || self.flags & EXITING != 0 || self.pending & KILL != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_reads_back() {
        let me = hostinfo().unwrap();
        let mut padded = me.encode();
        padded.resize(4096, 0);
        assert_eq!(HostInfo::parse(&padded), Some(me.clone()));
        assert!(!me.is_gone());
        assert_ne!(me.boot_number(), 0);
        assert_eq!(HostInfo { boot: "no id".into(), ..me }.boot_number(), 0);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut me = hostinfo().unwrap();
        me.start_time += 1;
        assert!(me.is_gone());
    }

    #[test]
    fn another_boot_is_gone_and_another_host_is_unknown() {
        let me = hostinfo().unwrap();
        assert!(HostInfo { boot: "before".into(), ..me.clone() }.is_gone());
        assert!(!HostInfo { host: "elsewhere".into(), start_time: 0, ..me }.is_gone());
    }

    #[test]
    fn names_with_spaces_and_parentheses_do_not_shift_the_fields() {
        let mut stat = String::from("7 (a) b (c) S");
        for field in 4..=40 {
            stat.push_str(&format!(" {field}"));
        }
        let parsed = Stat::parse(&stat).unwrap();
        assert_eq!(parsed, Stat { state: 'S', flags: 9, start_time: 22, pending: 31 });
        assert_eq!(Stat::parse("garbage"), None);
        assert_eq!(HostInfo::parse(b"\xff\0"), None);
    }

    #[test]
    fn the_dying_are_told_from_the_living() {
        let alive = || Stat { state: 'D', flags: 0x40, start_time: 1, pending: 1 << 16 };
        assert!(!alive().is_dying());
        assert!(Stat { state: 'Z', ..alive() }.is_dying());
        assert!(Stat { flags: 0x44, ..alive() }.is_dying());
        assert!(Stat { pending: 0x100, ..alive() }.is_dying());
    }
}
