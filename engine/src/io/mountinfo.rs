//! Mounts as `/proc/self/mountinfo` tells them, and what about one of NFS can lose what was acked.
//!
//! Invariants: text that is not understood gives no mount and no panic; a mount that is not seen
//! has no risk that we know of, which is said and not assumed to be good.
//!
//! Not here: what is done about a risk (`open` refuses it, `doctor` tells it).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The device's numbers, `MAJOR:MINOR`.
    pub device: String,
    /// The kind of file system.
    pub kind: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

impl Mount {
    /// The deepest mount that holds `path`; of several on one point, the one on top.
    #[must_use]
    pub fn of(text: &str, path: &Path) -> Option<Self> {
        let mounts = text.lines().filter_map(Self::parse);
        let holding = mounts.filter(|mount| path.starts_with(&mount.point));
        holding.max_by_key(|mount| mount.point.components().count())
    }

    /// A mount of this device.
    #[must_use]
    pub fn of_device(text: &str, major: u32, minor: u32) -> Option<Self> {
        let device = format!("{major}:{minor}");
        text.lines().filter_map(Self::parse).find(|mount| mount.device == device)
    }

    /// One line of the file.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        let kind = right.next()?.to_owned();
        let of_system = right.nth(1).unwrap_or_default();
        let mut options: Vec<String> = Vec::new();
        for option in left.get(5)?.split(',').chain(of_system.split(',')) {
            if !option.is_empty() && !options.iter().any(|known| known == option) {
                options.push(option.to_owned());
            }
        }
        // A mount that may be written of a file system that may be, too, says `rw` twice; one of
        // the two saying `ro` is enough.
        if options.iter().any(|option| option == "ro") {
            options.retain(|option| option != "rw");
        }
        let device = (*left.get(2)?).to_owned();
        Some(Self { point: unescape(left.get(4)?).into(), device, kind, options })
    }

    /// The value of an option that has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether this option is given.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }

    /// Whether it is NFS, of any version.
    #[must_use]
    pub fn is_nfs(&self) -> bool {
        matches!(&*self.kind, "nfs" | "nfs4")
    }

    /// Bytes that one WRITE of NFS carries at most.
    #[must_use]
    pub fn wsize(&self) -> Option<u32> {
        self.value("wsize")?.parse().ok().filter(|bytes| *bytes > 0)
    }

    /// What can lose acked records here; empty where it is no NFS. `recover_lost_locks` is what the
    /// parameter of the kernel's `nfs` module says.
    #[must_use]
    pub fn risks(&self, recover_lost_locks: bool) -> Vec<Risk> {
        if !self.is_nfs() {
            return Vec::new();
        }
        // 4.0 has no sessions: a replayed request is not always known as one.
        let new = self.value("vers").is_some_and(|version| matches!(version, "4.1" | "4.2"));
        let local = self.has("nolock") || self.value("local_lock").is_some_and(|is| is != "none");
        let found = [
            (Risk::Soft, self.has("soft") || self.has("softerr")),
            (Risk::Version, !new),
            (Risk::LocalLocks, local),
            (Risk::RecoverLostLocks, recover_lost_locks),
        ];
        found.into_iter().filter(|(_, is)| *is).map(|(risk, _)| risk).collect()
    }
}

/// What about a mount of NFS can lose acked records, or let two hosts write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// `soft` or `softerr`: a write that the server did not answer in time ends with an error and
    /// may land later.
    Soft,
    /// Older than 4.1: no sessions, so that a request sent again may be done twice, and locks (3)
    /// that do not survive a restart of the server.
    Version,
    /// `nolock`, `local_lock=…`: locks are this host's alone, and keep no other out.
    LocalLocks,
    /// `nfs.recover_lost_locks=1`: a lock that was lost, and that another host may have had since,
    /// is taken again unseen.
    RecoverLostLocks,
}

impl Risk {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Soft, Self::Version, Self::LocalLocks, Self::RecoverLostLocks];

    /// Its name, by which it is accepted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Version => "version",
            Self::LocalLocks => "local-locks",
            Self::RecoverLostLocks => "recover-lost-locks",
        }
    }

    /// What is wrong and what to do, in a line.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Soft => "a soft mount gives up after a while: mount it hard, or shards halt",
            Self::Version => {
                "NFS before 4.1 has no sessions, and 3 forgets locks when its server restarts: \
                 mount it with vers=4.1 or newer"
            }
            Self::LocalLocks => {
                "locks are local: another host may write here unseen; mount it without nolock and \
                 local_lock"
            }
            Self::RecoverLostLocks => {
                "nfs.recover_lost_locks=1 takes a lost lock again that another host may have had: \
                 set /sys/module/nfs/parameters/recover_lost_locks to N"
            }
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Risk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|risk| risk.name() == text);
        known.ok_or_else(|| {
            format!("a risk is one of {}", Self::ALL.map(|risk| risk.name()).join(", "))
        })
    }
}

/// Blanks and the like stand as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let code = rest.get(at + 1..at + 4).and_then(|code| u8::from_str_radix(code, 8).ok());
        out += &rest[..at];
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw,discard
23 22 0:5 / /data rw shared:1 - xfs /dev/sdb rw,noquota
24 23 0:6 / /data/my\\040logs rw,noatime - nfs4 host:/x rw,vers=4.1,soft,wsize=1048576
31 23 0:10 / /data rw - ext4 /dev/sde rw
";

    #[test]
    fn the_deepest_mount_on_top_is_found() {
        let kind = |path: &str| Mount::of(MOUNTS, Path::new(path)).unwrap().kind;
        assert_eq!(kind("/"), "ext4");
        assert_eq!(kind("/dat"), "ext4");
        assert_eq!(kind("/data/my logs/wal"), "nfs4");
        assert_eq!(Mount::of(MOUNTS, Path::new("/data/x")).unwrap().kind, "ext4", "on top");
        assert_eq!(Mount::of("", Path::new("/")), None);
        let nfs = Mount::of_device(MOUNTS, 0, 6).unwrap();
        assert_eq!((nfs.wsize(), nfs.value("vers")), (Some(1 << 20), Some("4.1")));
        assert_eq!(Mount::of_device(MOUNTS, 0, 1), None);
    }

    #[test]
    fn risks_of_nfs_are_seen_and_have_names() {
        let risks = |options: &str, recover: bool| {
            let line = format!("24 23 0:6 / /w rw - nfs4 host:/x {options}");
            Mount::parse(&line).unwrap().risks(recover)
        };
        let good = "rw,vers=4.1,wsize=1048576,hard,local_lock=none";
        assert_eq!(risks(good, false), []);
        assert_eq!(risks(good, true), [Risk::RecoverLostLocks]);
        assert_eq!(risks("rw,vers=4.2,soft", false), [Risk::Soft]);
        assert_eq!(risks("rw,vers=4.2,softerr", false), [Risk::Soft]);
        assert_eq!(risks("rw,vers=4.0,hard", false), [Risk::Version]);
        assert_eq!(risks("rw,vers=3,nolock", false), [Risk::Version, Risk::LocalLocks]);
        assert_eq!(risks("rw,vers=4.1,local_lock=all", false), [Risk::LocalLocks]);
        assert_eq!(Mount::parse(MOUNTS.lines().next().unwrap()).unwrap().risks(true), []);
        for risk in Risk::ALL {
            assert_eq!(risk.name().parse(), Ok(risk));
        }
        assert!("hard".parse::<Risk>().is_err());
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescape("/a\\040b\\011"), "/a b\t");
        assert_eq!(unescape("\\zz\\"), "\\zz\\");
    }
}
