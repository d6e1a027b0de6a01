#!/usr/bin/env python3
"""Power cuts on the host, without a virtual machine.

A workload runs once, on a real file system, over a block device that records every write and
flush in order. From that recording any number of crash states are built; a checker judges each.

    qemu-storage-daemon (blklogwrites) -> FUSE file -> one loop device -> file system -> workload

    cutlab.py record DIR FS SIZE_MB -- WORKLOAD...    {mnt} = mount point (FS=device: the device
                                                      itself), {marks} = the mark device
    cutlab.py replay DIR FS STATES SEED -- CHECKER... {mnt}, {acked}, {sent}; exit 0 = acceptable
    cutlab.py info DIR

FS is ext4, xfs, btrfs, bare (ext4 without a journal, e2fsck before the mount) or device.
Environment of replay: CUT_ONLY=N judges state N alone and prints all that the checker said;
CUT_KEEP=FILE keeps the image of the last bad state; CUT_SCRATCH=DIR (/dev/shm) holds the images.

What a power cut is here: every write before the last completed flush survives; of the later
ones any subset does, a tenth of those torn at 512 bytes.

Marks: the first MiB of the device is the mark area. Before it submits and after each ack the
workload writes one 4 KiB block there: b"MARK", u32 n, n x u64 sent, n x u64 acked (one pair per
log, little-endian). It is in the same total order as the data, so that at each cut point the
checker knows what had been acked, and what had been submitted at all.

Limits: the loop device sends one request at a time (qemu 7.2's FUSE export corrupts data with
two writes in flight), so an engine that syncs *before* its write completes is caught by chance
only; the simulated disk is the test for that. mkfs.xfs wants 300 MB.
Needs root; Debian: qemu-system-common e2fsprogs xfsprogs btrfs-progs util-linux fuse3.
"""
import os
import random
import shutil
import signal
import struct
import subprocess as sp
import sys
import time

MARK_AREA = 1 << 20
LOG_BYTES_MAX = 16 << 30  # sparse
FLUSH, FUA, DISCARD = 1, 2, 4
LOG_MAGIC = 0x6A736677736872
CHECK_SECS_MAX = 60
FAILURES_SHOWN = 3

MKFS = {
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "nodiscard"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-K"],
    "bare": ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "nodiscard"],
}
MOUNT_AS = {"xfs": "xfs", "ext4": "ext4", "btrfs": "btrfs", "bare": "ext4"}


def out(*argv):
    """Runs a command that must succeed; its stdout."""
    return sp.run(argv, check=True, stdout=sp.PIPE, text=True).stdout.strip()


def quiet(*argv):
    """Runs a command of the cleanup: its failure is shown, and nothing stops for it."""
    r = sp.run(argv, stdout=sp.PIPE, stderr=sp.STDOUT, text=True)
    if r.returncode:
        print(f"cleanup: {' '.join(argv)}: {r.stdout.strip()}", file=sys.stderr)
    return r.returncode == 0


def settle(path):
    """Unmounts; a busy mount is tried for two seconds, then detached lazily."""
    for _ in range(20):
        if sp.run(["umount", path], stderr=sp.DEVNULL).returncode == 0:
            return
        time.sleep(0.1)
    quiet("umount", "-l", path)


class Undo:
    """What must be taken back, last first, whatever happens (signals included: see main)."""

    def __init__(self):
        self.steps = []

    def add(self, step, *args):
        self.steps.append((step, args))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.steps:
            step, args = self.steps.pop()
            try:
                step(*args)
            except Exception as e:  # the steps below must still run
                print(f"cleanup: {e}", file=sys.stderr)


def partition(loop, number, first, sectors, undo):
    """A partition of `loop` without a table on it; its device node, made if nobody else does."""
    out("addpart", loop, str(number), str(first), str(sectors))
    undo.add(quiet, "delpart", loop, str(number))
    name = os.path.basename(loop) + f"p{number}"
    node = "/dev/" + name
    for _ in range(50):
        if os.path.exists(node):
            return node
        time.sleep(0.01)
    with open(f"/sys/class/block/{name}/dev") as f:
        major, minor = map(int, f.read().split(":"))
    os.mknod(node, 0o600 | 0o060000, os.makedev(major, minor))
    undo.add(os.unlink, node)
    return node


def start_daemon(d, undo):
    """The recording block device as a file; ends with a flush of the log."""
    path = lambda x: os.path.abspath(f"{d}/{x}")
    export = f"type=fuse,id=e,node-name=lw,mountpoint={path('dev.img')},writable=on"
    q = sp.Popen([
        "qemu-storage-daemon",
        "--blockdev", f"driver=file,node-name=f,filename={path('base.img')},cache.no-flush=on",
        "--blockdev", f"driver=file,node-name=l,filename={path('log.img')},cache.no-flush=on",
        "--blockdev", "driver=blklogwrites,node-name=lw,file=f,log=l,log-sector-size=512",
        "--export", export,
    ])
    with open(path("daemon.pid"), "w") as f:
        f.write(str(q.pid))

    def stop():
        q.send_signal(signal.SIGINT)
        try:
            q.wait(30)
        except sp.TimeoutExpired:
            q.kill()
            q.wait()
        os.unlink(path("daemon.pid"))

    undo.add(stop)
    for _ in range(250):
        if os.path.getsize(path("dev.img")):
            return path("dev.img")
        if q.poll() is not None:
            break
        time.sleep(0.02)
    raise SystemExit("cutlab: qemu-storage-daemon gave no device (FUSE refused?)")


def record(d, fs, mb, workload):
    """Runs the workload once; base.img, log.img are the recording."""
    os.makedirs(d, exist_ok=True)
    for name, size in (("base.img", mb << 20), ("log.img", LOG_BYTES_MAX), ("dev.img", 0)):
        path = f"{d}/{name}"
        if os.path.exists(path):
            os.unlink(path)
        with open(path, "w") as f:
            f.truncate(size)
    t0 = time.time()
    with Undo() as undo:
        device = start_daemon(d, undo)
        # Not direct-io, and one loop device: its single worker sends one request at a time.
        loop = out("losetup", "-f", "--show", "--direct-io=off", device)
        undo.add(quiet, "losetup", "-d", loop)
        marks = partition(loop, 1, 0, MARK_AREA >> 9, undo)
        data = partition(loop, 2, MARK_AREA >> 9, ((mb << 20) - MARK_AREA) >> 9, undo)
        target = data
        if fs != "device":
            out(*MKFS[fs], data)
            target = os.path.abspath(f"{d}/mnt")
            os.makedirs(target, exist_ok=True)
            out("mount", "-t", MOUNT_AS[fs], data, target)
            undo.add(settle, target)
        t1 = time.time()
        rc = sp.run([a.format(mnt=target, marks=marks) for a in workload]).returncode
        t2 = time.time()
    entries = sum(1 for _ in log_entries(d))
    print(f"record {fs}: workload rc={rc} in {t2 - t1:.1f}s, set up in {t1 - t0:.1f}s,"
          f" {entries} entries", flush=True)
    return rc


def log_entries(d):
    """(device offset, bytes, flags, place in log.img) of each entry, in the order of arrival."""
    with open(f"{d}/log.img", "rb") as f:
        magic, _version, count, sector = struct.unpack("<QQQI", f.read(28))
        if magic != LOG_MAGIC:
            raise SystemExit("cutlab: no recording there")
        pos = sector
        for _ in range(count):
            f.seek(pos)
            first, sectors, flags, _ = struct.unpack("<QQQQ", f.read(32))
            pos += sector
            yield first * sector, sectors * sector, flags, pos
            if not flags & DISCARD:
                pos += sectors * sector


def is_mark(entry):
    return bool(entry[1]) and entry[0] < MARK_AREA


def info(d):
    writes = flushes = fua = discards = marks = volume = 0
    for entry in log_entries(d):
        flags = entry[2]
        flushes += bool(flags & FLUSH)
        fua += bool(flags & FUA)
        if flags & DISCARD:
            discards += 1
        elif is_mark(entry):
            marks += 1
        elif entry[1]:
            writes += 1
            volume += entry[1]
    print(f"recording: {writes} writes ({volume >> 10} KiB), {flushes} flushes, {fua} FUA,"
          f" {discards} discards, {marks} marks", flush=True)


class Device:
    """The medium at a point of the recording: what is durable, and what only might be."""

    def __init__(self, d, image, size):
        self.log = open(f"{d}/log.img", "rb")
        with open(image, "wb") as f:
            f.truncate(size)
        self.fd = os.open(image, os.O_RDWR)
        self.pending = []
        self.sent = self.acked = ()

    def bytes_of(self, entry):
        self.log.seek(entry[3])
        return self.log.read(entry[1])

    def put(self, fd, entry, lo=0, hi=None):
        """Lays bytes lo..hi of a write onto an image."""
        hi = entry[1] if hi is None else hi
        b = bytes(hi - lo) if entry[2] & DISCARD else self.bytes_of(entry)[lo:hi]
        os.pwrite(fd, b, entry[0] - MARK_AREA + lo)

    def advance(self, entry):
        if is_mark(entry):
            b = self.bytes_of(entry)
            if b[:4] == b"MARK":
                (n,) = struct.unpack_from("<I", b, 4)
                numbers = struct.unpack_from(f"<{2 * n}Q", b, 8)
                self.sent, self.acked = numbers[:n], numbers[n:]
            return
        if entry[2] & FLUSH:  # all that was logged before this flush is durable
            for p in self.pending:
                self.put(self.fd, p)
            self.pending = []
        if entry[1] and entry[2] & FUA:
            self.put(self.fd, entry)
        elif entry[1]:
            self.pending.append(entry)

    def cut(self, fd, rnd, tally):
        """Lays a random subset of the pending writes onto an image, some of them torn."""
        keep = rnd.choice([0, 0.5, 0.5, 0.9, 1])
        for p in self.pending:
            if rnd.random() >= keep:
                tally["dropped"] += 1
            elif p[1] > 512 and rnd.random() < 0.1:
                at = rnd.randrange(1, p[1] // 512) * 512
                tally["torn"] += 1
                self.put(fd, p, 0, at) if rnd.random() < 0.5 else self.put(fd, p, at)
            else:
                tally["kept"] += 1
                self.put(fd, p)


def cut_points(entries, states, rnd):
    """Half right behind a mark, where a lost write is a broken promise; half anywhere."""
    marked = [i + 1 for i, e in enumerate(entries) if is_mark(e)]
    if not marked:
        raise SystemExit("cutlab: the workload wrote no mark")
    anywhere = range(marked[0], len(entries) + 1)
    points = set(rnd.sample(marked, min(states // 2, len(marked))))
    rest = [i for i in anywhere if i not in points]
    points |= set(rnd.sample(rest, min(states - len(points), len(rest))))
    return sorted(points | {len(entries)})


def judge(fs, image, mnt, checker, device):
    """Mounts one crash state and runs the checker on it: None, or why it is bad."""
    if fs == "bare":
        r = sp.run(["e2fsck", "-y", "-f", image], capture_output=True, text=True)
        if r.returncode > 3:
            return f"e2fsck: {r.stdout.strip()[-200:]}"
    with Undo() as undo:
        target = loop = out("losetup", "-f", "--show", image)
        undo.add(quiet, "losetup", "-d", loop)
        if fs != "device":
            argv = ["mount", "-t", MOUNT_AS[fs], loop, mnt]
            r = sp.run(argv, capture_output=True, text=True)
            if r.returncode:
                return f"mount: {r.stderr.strip()[:200]}"
            undo.add(settle, mnt)
            target = mnt
        words = {"mnt": target, "acked": ",".join(map(str, device.acked)),
                 "sent": ",".join(map(str, device.sent))}
        try:
            r = sp.run([a.format(**words) for a in checker], capture_output=True, text=True,
                       timeout=CHECK_SECS_MAX)
        except sp.TimeoutExpired:
            return f"the checker did not end within {CHECK_SECS_MAX} s"
        said = (r.stdout + r.stderr).strip()
        if "CUT_ONLY" in os.environ:
            print(said)
        return f"{said[-400:]} (rc={r.returncode})" if r.returncode else None


def replay(d, fs, states, seed, checker):
    """Builds and judges crash states; the number of bad ones."""
    rnd = random.Random(seed)
    entries = list(log_entries(d))
    size = os.path.getsize(f"{d}/base.img") - MARK_AREA
    points = cut_points(entries, states, rnd)
    only = int(os.environ.get("CUT_ONLY", -1))
    tally = {"kept": 0, "dropped": 0, "torn": 0}
    bad, times, done = 0, [], 0
    with Undo() as undo:
        run = f"{os.environ.get('CUT_SCRATCH', '/dev/shm')}/cutlab.{os.getpid()}"
        os.makedirs(run + "/mnt")
        undo.add(shutil.rmtree, run)
        durable, crash = run + "/durable.img", run + "/crash.img"
        device = Device(d, durable, size)
        for number, point in enumerate(points):
            t0 = time.time()
            while done < point:
                device.advance(entries[done])
                done += 1
            # Its own generator, so that one state can be built again alone.
            own = random.Random(f"{seed}/{number}")
            if only not in (-1, number):
                continue
            out("cp", "--sparse=always", durable, crash)
            fd = os.open(crash, os.O_RDWR)
            device.cut(fd, own, tally)
            os.close(fd)
            keep = os.environ.get("CUT_KEEP")
            if keep:
                out("cp", "--sparse=always", crash, keep + ".new")
            why = judge(fs, crash, run + "/mnt", checker, device)
            times.append(time.time() - t0)
            if why:
                bad += 1
                if keep:
                    os.replace(keep + ".new", keep)
                if bad <= FAILURES_SHOWN:
                    print(f"  BAD state {number}: cut at entry {point}/{len(entries)},"
                          f" {len(device.pending)} writes pending, acked {device.acked}:\n"
                          f"    {why}\n    again: CUT_ONLY={number} cutlab.py replay"
                          f" {d} {fs} {states} {seed} -- {' '.join(checker)}", flush=True)
    times.sort()
    print(f"replay {fs}: {len(times)} states, {bad} bad; unflushed writes: {tally['kept']} kept,"
          f" {tally['dropped']} dropped, {tally['torn']} torn; {sum(times):.1f}s,"
          f" median {times[len(times) // 2] * 1e3:.0f} ms", flush=True)
    return bad


def main(argv):
    # A signal becomes an exception, so that every Undo runs.
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda n, _: sys.exit(128 + n))
    split = argv.index("--") if "--" in argv else len(argv)
    words, command = argv[:split], argv[split + 1:]
    match words:
        case ["record", d, fs, mb]:
            return record(d, fs, int(mb), command)
        case ["replay", d, fs, states, seed]:
            return 1 if replay(d, fs, int(states), int(seed), command) else 0
        case ["info", d]:
            info(d)
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
