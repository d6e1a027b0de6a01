//! The file system and how it is mounted.

use super::scratch::Place;
use super::{Row, Verdict, size, told};
use crate::io::mountinfo::Mount;
use crate::io::probe::recovers_lost_locks;
use std::fs;

/// What an option means for who must not lose what was acked: its name, or its name and value, how
/// bad it is, and what to do.
const OPTIONS: &[(&str, Verdict, &str)] = &[
    ("ro", Verdict::Bad, "mounted read-only: nothing can be appended"),
    ("nobarrier", Verdict::Bad, "nobarrier: a power cut takes what was acked; mount with barriers"),
    ("barrier=0", Verdict::Bad, "barrier=0: a power cut takes what was acked; mount with barriers"),
    ("data=journal", Verdict::Warning, "data=journal writes twice and refuses O_DIRECT"),
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

const NFS: &str = "appends want --etcd, or --single-node where one host writes: nothing fences a \
                   second one after a lost lock";
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
    let Mount { point, kind, options, .. } = mount;
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
    nfs(&mut row, mount);
    row
}

/// What is said of NFS besides: what an open refuses, and how batches go over the wire.
fn nfs(row: &mut Row, mount: &Mount) {
    if !mount.is_nfs() {
        return;
    }
    let risks = mount.risks(recovers_lost_locks());
    for risk in &risks {
        row.at_least(Verdict::Bad, risk.advice());
    }
    if let Some(first) = risks.first() {
        let names: Vec<_> = risks.iter().map(|risk| risk.name()).collect();
        let advice = first.advice();
        row.advice = format!("refused for writing ({}): {advice}", names.join(", "));
    }
    match mount.wsize() {
        Some(bytes) if bytes < WSIZE_GOOD => {
            row.at_least(
                Verdict::Warning,
                "a small wsize makes small batches: mount it with 1 MiB",
            );
        }
        Some(bytes) => {
            row.value += &format!("; batches of up to {} are one WRITE", size(bytes.into()))
        }
        None => {}
    }
}

/// From here on the round trip, not the number of batches, is what large appends wait for.
const WSIZE_GOOD: u32 = 256 << 10;

#[cfg(test)]
mod tests {
    use std::path::Path;

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
32 22 0:11 / /efs rw - nfs4 127.0.0.1:/ rw,vers=4.1,rsize=1048576,wsize=1048576,hard
31 23 0:10 / /data rw - ext4 /dev/sde rw
";

    fn verdict(path: &str) -> (Verdict, String) {
        let row = judge(&Mount::of(MOUNTS, Path::new(path)).unwrap());
        (row.verdict, row.advice)
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
        assert!(old == Verdict::Bad && advice.contains("vers=4.1"), "{advice}");
        let (good, advice) = verdict("/efs");
        assert!(good == Verdict::Warning && advice.contains("--etcd"), "{advice}");
        let value = judge(&Mount::of(MOUNTS, Path::new("/efs")).unwrap()).value;
        assert!(value.ends_with("batches of up to 1.0 MiB are one WRITE"), "{value}");
    }
}
