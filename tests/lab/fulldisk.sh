#!/usr/bin/env bash
# A disk filled to the last byte, on real file systems: the twin of tests/tests/disk_full.rs.
#
#   tests/lab/fulldisk.sh          6 lives on each file system, under two minutes
#   tests/lab/fulldisk.sh --full   40 on each
#   FS="ext4" SEED=7 LIVES=3 tests/lab/fulldisk.sh
#
# A life: others take a part of a small disk; the engine appends until it is told that there is no
# space (crashlab fill) and is killed, or closes. Others then take every byte that is left, and with
# not a byte free the directory is opened for reading and for writing, judged against what was
# acked, truncated, collected (others take what comes back), closed and opened. Then the others
# go: appends must be back within a second, without a restart (crashlab survive). The next life goes
# on in the same directory; every third begins a new one.
#
# File systems: ext4 and xfs on loop devices, and tmpfs. Not btrfs: it copies on write, so that a
# full disk may refuse a commit's own write, which halts the shard (README, limits).
#
# Ends with the line "N passed, N failed, N skipped": one for each life. Needs root, e2fsprogs and
# xfsprogs; what is missing is skipped, and said. Leaves nothing mounted or running.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
lives=${LIVES:-6}
[ "${1:-}" = --full ] && lives=${LIVES:-40}
systems=${FS:-ext4 xfs tmpfs}
seed=${SEED:-1}
RANDOM=$seed
room_mb=48
passed=0 failed=0 skipped=0 child=
export PATH=$PATH:/usr/sbin:/sbin

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

skip() { # skip COUNT WHY
    echo "SKIPPED: $2"
    skipped=$((skipped + $1))
}

why=
[ "$(id -u)" -eq 0 ] || why="needs root (mounts)"
if [ -n "$why" ]; then
    skip 1 "fulldisk: $why"
    finish
    exit 0
fi

work=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/sapwood-fulldisk.XXXXXX")
mnt=$work/mnt
mkdir "$mnt"
cleanup() {
    [ -z "$child" ] || kill -9 "$child" 2>/dev/null || true
    ! mountpoint -q "$mnt" || unmount || umount -l "$mnt"
    rm -rf "$work"
}
unmount() { # the kernel frees a ring late: until then its files are open
    for _ in $(seq 100); do
        umount "$mnt" 2>/dev/null && return
        sleep 0.05
    done
    return 1
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

into=${CARGO_TARGET_DIR:-$root/target}
if ! (cd "$root" && timeout 900 cargo build --quiet --release -p sapwood-tests --bin crashlab); then
    echo "FAILED: the engine does not build"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
cp "$into/release/crashlab" "$work/crashlab"

begin() { # begin FS: a small disk, mounted; false with `why`
    local fs=$1 mb=$room_mb
    case $fs in
        tmpfs) mount -t tmpfs -o size=${mb}m none "$mnt" 2>"$work/err" ||
            { why="cannot mount tmpfs: $(head -1 "$work/err")"; return 1; } ;;
        ext4 | xfs)
            command -v "mkfs.$fs" >/dev/null || { why="no mkfs.$fs"; return 1; }
            # The smallest xfs there is has 300 MiB; what is too much is taken away at once.
            [ "$fs" = ext4 ] || mb=320
            rm -f "$work/img"
            truncate -s "${mb}M" "$work/img"
            if [ "$fs" = ext4 ]; then set -- -q -F -m 0; else set -- -q -f; fi
            "mkfs.$fs" "$@" "$work/img" 2>"$work/err" ||
                { why="mkfs.$fs: $(head -1 "$work/err")"; return 1; }
            mount -o loop "$work/img" "$mnt" 2>"$work/err" ||
                { why="cannot mount a loop device: $(head -1 "$work/err")"; return 1; }
            take $((room_mb * 1024)) "$mnt/rest" ;;
    esac
}

take() { # take KIB FILE: others take what is free but for so much
    local free
    free=$(df -k --output=avail "$mnt" | tail -1)
    [ "$free" -le "$1" ] || fallocate -l "$((free - $1))K" "$2"
}

life() { # life N: says what is wrong with it
    local mode=kill died=0
    [ $(($1 % 2)) -eq 0 ] || mode=close
    rm -f "$mnt/ballast"
    [ $(($1 % 3)) -ne 0 ] || rm -rf "$mnt/wal" "$work/marks"
    # Full at another point each time; a directory of two shards needs some room to begin.
    take $((8192 + RANDOM % (room_mb * 512))) "$mnt/ballast"
    : >"$work/said"
    "$work/crashlab" fill "$mnt/wal" "$work/marks" $mode >"$work/said" 2>&1 &
    child=$!
    if [ $mode = kill ]; then
        until grep -q full "$work/said" || ! kill -0 $child 2>/dev/null; do sleep 0.02; done
        sleep "0.$(printf %03d $((RANDOM % 300)))"
        kill -9 $child 2>/dev/null || true
    fi
    wait $child 2>/dev/null || died=$?
    child=
    [ "$died" -eq $([ $mode = kill ] && echo 137 || echo 0) ] ||
        { echo "$mode: it ended by itself (exit $died): $(cat "$work/said")"; return 1; }
    timeout 60 "$work/crashlab" survive "$mnt/wal" "$work/marks" "$mnt/ballast" \
        >"$work/said" 2>&1 || { echo "$mode: $(cat "$work/said")"; return 1; }
}

for fs in $systems; do
    if ! begin "$fs"; then
        skip "$lives" "fulldisk-$fs: $why"
        continue
    fi
    slowest=0
    for ((n = 0; n < lives; n++)); do
        if life $n >"$work/why"; then
            passed=$((passed + 1))
            ms=$(sed -n 's/.*back after \([0-9]*\) ms.*/\1/p' "$work/said")
            [ "$ms" -le "$slowest" ] || slowest=$ms
        else
            failed=$((failed + 1))
            echo "FAILED: $fs, life $n (seed $seed): $(cat "$work/why")"
            rm -rf "$mnt/wal" "$work/marks"
        fi
    done
    echo "$fs: $lives lives, appends back after at most $slowest ms"
    unmount
done
finish
