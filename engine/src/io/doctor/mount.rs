//! The file system and how it is mounted.

use std::fs;
use std::path::{Path, PathBuf};

use super::scratch::Place;
use super::{Row, Verdict, told};

/// A mount, as `/proc/self/mountinfo` tells it.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    /// Options of the mount and of the file system.
    options: Vec<String>,
}

/// What an option means for who must not lose what was acked: its name, or its name and value, how
/// bad it is, and what to do.
const OPTIONS: &[(&str, Verdict, &str)] = &[
    ("ro", Verdict::Bad, "mounted read-only: nothing can be appended"),
    ("soft", Verdict::Bad, "a soft mount gives up after a while: mount it hard, or shards halt"),
    ("softerr", Verdict::Bad, "a soft mount gives up after a while: mount it hard, or shards halt"),
    ("nobarrier", Verdict::Bad, "nobarrier: a power cut takes what was acked; mount with barriers"),
    ("barrier=0", Verdict::Bad, "barrier=0: a power cut takes what was acked; mount with barriers"),
    ("data=journal", Verdict::Warning, "data=journal writes twice and refuses O_DIRECT"),
    ("nolock", Verdict::Warning, "locks are not shared: another host may write here unseen"),
    ("local_lock=all", Verdict::Warning, "locks are local: another host may write here unseen"),
    ("local_lock=posix", Verdict::Warning, "locks are local: another host may write here unseen"),
    ("sync", Verdict::Note, "sync makes every write durable at once, also where none need be"),
    ("discard", Verdict::Note, "online discard can stall commits: fstrim by a timer does not"),
    ("strictatime", Verdict::Note, "each read writes a time: relatime or noatime"),
];

/// What a file system means.
const KINDS: &[(&str, Verdict, &str)] = &[
    ("ext4", Verdict::Ok, "nothing to do"),
    ("xfs", Verdict::Ok, "nothing to do"),
    ("btrfs", Verdict::Note, "copy on write: commits cost more than on ext4 or xfs"),
    ("zfs", Verdict::Note, "copy on write: commits go through its own log device"),
    ("f2fs", Verdict::Note, "not among the file systems that the power-cut tests run on"),
    ("tmpfs", Verdict::Bad, "memory: everything is gone after a restart; only for trying things"),
    ("ramfs", Verdict::Bad, "memory: everything is gone after a restart; only for trying things"),
    ("overlay", Verdict::Warning, "a container's own layer goes with the container: use a volume"),
    ("nfs", Verdict::Warning, NFS),
    ("nfs4", Verdict::Warning, NFS),
    ("9p", Verdict::Warning, REMOTE),
    ("virtiofs", Verdict::Warning, REMOTE),
    ("cifs", Verdict::Warning, REMOTE),
    ("smb3", Verdict::Warning, REMOTE),
];

const NFS: &str = "one host at a time: nothing fences a second one after a lost lock";
const REMOTE: &str = "what a flush does here is up to the other side: ask it, or use a local disk";

pub(super) fn row(rows: &mut Vec<Row>, place: &Place) {
    let value = place.path.display().to_string();
    if place.missing {
        let advice = "it does not exist: its nearest parent was examined; `append` makes it";
        rows.push(Row::new("place", value, Verdict::Note, advice));
    } else if let Err(error) = &place.opened {
        let advice = "give a directory that can be opened";
        rows.push(Row::new("place", format!("{value}: {error}"), Verdict::Bad, advice));
    }
    let found = fs::canonicalize(&place.path)
        .ok()
        .and_then(|path| Mount::of(&told("/proc/self/mountinfo")?, &path));
    rows.push(match found {
        Some(mount) => judge(&mount),
        None => {
            let advice = "/proc/self/mountinfo does not tell: see that it is a local disk";
            Row::new("file system", "not known", Verdict::Note, advice)
        }
    });
}

fn judge(mount: &Mount) -> Row {
    let Mount { point, kind, options } = mount;
    let value = format!("{kind} on {} ({})", point.display(), options.join(","));
    let known = KINDS.iter().find(|(name, _, _)| name == kind);
    let mut row = match known {
        Some((_, verdict, advice)) => Row::new("file system", value, *verdict, *advice),
        None if kind.starts_with("fuse") => {
            Row::new("file system", value, Verdict::Warning, REMOTE)
        }
        None => {
            let advice = "not a file system that is tested: see that its flushes reach the device";
            Row::new("file system", value, Verdict::Note, advice)
        }
    };
    for (option, verdict, advice) in OPTIONS {
        if options.iter().any(|given| given == option) {
            row.at_least(*verdict, *advice);
        }
    }
    let old_nfs = options.iter().any(|given| given == "vers=3" || given == "vers=2");
    if kind.starts_with("nfs") && old_nfs {
        let advice =
            "NFS 3: locks do not survive a restart of the server; use version 4.1 or newer";
        row.at_least(Verdict::Warning, advice);
        row.advice = advice.to_owned();
    }
    row
}

impl Mount {
    /// The deepest mount that holds `path`; of several on one point, the one on top.
    fn of(text: &str, path: &Path) -> Option<Self> {
        let mounts = text.lines().filter_map(Self::parse);
        let holding = mounts.filter(|mount| path.starts_with(&mount.point));
        holding.max_by_key(|mount| mount.point.components().count())
    }

    fn parse(line: &str) -> Option<Self> {
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
        Some(Self { point: unescape(left.get(4)?).into(), kind, options })
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
25 22 0:7 / /old rw - nfs host:/x rw,vers=3,hard
26 22 0:8 / /quick rw - ext4 /dev/sdc rw,nobarrier,data=writeback
27 22 0:9 / /frozen rw - ext4 /dev/sdd ro
28 22 0:9 / /box rw - overlay overlay rw
29 22 0:9 / /mem rw - tmpfs tmpfs rw
30 22 0:9 / /odd rw - fuse.sshfs x rw
31 23 0:10 / /data rw - ext4 /dev/sde rw
";

    fn verdict(path: &str) -> (Verdict, String) {
        let row = judge(&Mount::of(MOUNTS, Path::new(path)).unwrap());
        (row.verdict, row.advice)
    }

    #[test]
    fn the_deepest_mount_on_top_is_found() {
        let kind = |path: &str| Mount::of(MOUNTS, Path::new(path)).unwrap().kind;
        assert_eq!(kind("/"), "ext4");
        assert_eq!(kind("/dat"), "ext4");
        assert_eq!(kind("/data/my logs/wal"), "nfs4");
        assert_eq!(Mount::of(MOUNTS, Path::new("/data/x")).unwrap().kind, "ext4", "on top");
        assert_eq!(Mount::of("", Path::new("/")), None);
    }

    #[test]
    fn what_loses_acked_records_is_bad() {
        for (path, word) in [
            ("/data/my logs", "soft"),
            ("/quick", "nobarrier"),
            ("/frozen", "read-only"),
            ("/mem", "memory"),
        ] {
            let (verdict, advice) = verdict(path);
            assert_eq!(verdict, Verdict::Bad, "{path}");
            assert!(advice.contains(word), "{path}: {advice}");
        }
    }

    #[test]
    fn what_costs_is_told_and_what_is_good_is_not() {
        assert_eq!(verdict("/").0, Verdict::Note, "discard");
        assert_eq!(verdict("/data").0, Verdict::Ok);
        assert_eq!(verdict("/box").0, Verdict::Warning);
        assert_eq!(verdict("/odd").0, Verdict::Warning);
        let (old, advice) = verdict("/old");
        assert!(old == Verdict::Warning && advice.contains("NFS 3"), "{advice}");
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescape("/a\\040b\\011"), "/a b\t");
        assert_eq!(unescape("\\zz\\"), "\\zz\\");
    }
}
