//! Who a process is, so that a lock file can name its owner and a successor can see it gone.
//!
//! Invariants: a process is the same only if host, boot, pid *and* start time agree: pids come back.
//! A process of another host or boot is never called dead by looking at ours: of another boot of this
//! host it is gone, of another host nobody knows.
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
    let (_, start_time) = parse_stat(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(HostInfo { host, boot, pid, start_time })
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
            // A zombie has given up its files already, all but what its rings still hold.
            Ok(stat) => match parse_stat(&stat) {
                Some((state, start)) => start != self.start_time || matches!(state, 'Z' | 'X'),
                None => false,
            },
        }
    }
}

/// State and start time out of `/proc/PID/stat`. The command's name is in parentheses and may itself
/// contain spaces and parentheses, so fields are counted from the last one.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // State is field 3 of proc(5), the start time field 22.
    let start = fields.nth(22 - 4)?.parse().ok()?;
    Some((state, start))
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
        for field in 4..=30 {
            stat.push_str(&format!(" {field}"));
        }
        assert_eq!(parse_stat(&stat), Some(('S', 22)));
        assert_eq!(parse_stat("garbage"), None);
        assert_eq!(HostInfo::parse(b"\xff\0"), None);
    }
}
