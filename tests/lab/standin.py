#!/usr/bin/env python3
"""The smallest write-ahead log there can be: it proves that the power-cut lab sees what it must.

    standin.py load TARGET MARKS BLOCKS sync|skip-sync
    standin.py check TARGET ACKED

TARGET is a directory or a block device. Numbered 4 KiB blocks, O_DIRECT, four to a commit, one
fdatasync for each commit; `skip-sync` leaves that out, and the lab must find out.
"""
import mmap
import os
import struct
import sys
import zlib

BLOCK = 4096
COMMIT_BLOCKS = 4


def block(number):
    body = struct.pack("<Q", number) * ((BLOCK - 16) // 8)
    return b"WALB" + struct.pack("<Q", number) + struct.pack("<I", zlib.crc32(body)) + body


def path_of(target):
    return target + "/wal" if os.path.isdir(target) else target


def load(target, marks, blocks, mode):
    buf = mmap.mmap(-1, BLOCK * COMMIT_BLOCKS)  # page-aligned
    mark = mmap.mmap(-1, BLOCK)
    path = path_of(target)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    if os.path.isdir(target):
        # Prewritten and synced, the directory too: as an engine does with a segment.
        buf[:] = bytes(len(buf))
        for first in range(0, blocks, COMMIT_BLOCKS):
            os.pwritev(fd, [buf], first * BLOCK)
        os.fsync(fd)
        d = os.open(target, os.O_RDONLY)
        os.fsync(d)
        os.close(d)
    marks_fd = os.open(marks, os.O_RDWR | os.O_DIRECT)
    for first in range(0, blocks, COMMIT_BLOCKS):
        after = first + COMMIT_BLOCKS
        buf[:] = b"".join(block(n) for n in range(first, after))
        assert os.pwritev(fd, [buf], first * BLOCK) == len(buf)
        if mode == "sync":
            os.fdatasync(fd)
        mark[:24] = b"MARK" + struct.pack("<IQQ", 1, after, after)
        assert os.pwritev(marks_fd, [mark], 0) == BLOCK
    return 0


def check(target, acked):
    path = path_of(target)
    found = 0
    if os.path.exists(path):
        with open(path, "rb") as f:
            while f.read(BLOCK) == block(found):
                found += 1
    print(f"prefix={found} acked={acked}")
    return 0 if found >= acked else 1


def main(argv):
    match argv:
        case ["load", target, marks, blocks, mode] if mode in ("sync", "skip-sync"):
            return load(target, marks, int(blocks), mode)
        case ["check", target, acked]:
            return check(target, int(acked or 0))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
