#!/usr/bin/env bash
# Power cuts against the real engine, on real file systems: see cutlab.py for what a cut is.
#
#   tests/lab/powercut.sh          some 60 states on each file system, within 15 minutes
#   tests/lab/powercut.sh --full   240 states on each
#   FS="ext4 xfs" SEED=7 STATES=20 tests/lab/powercut.sh
#
# 1. The lab proves itself: a stand-in log that syncs must pass, one that does not must be caught.
# 2. The engine runs once on each file system (crashlab load, in tests/src/bin/crashlab); each
#    crash state is reopened, judged against the contract and written on (crashlab check).
# 3. The engine with its sync taken out (engine/src/planted.rs) must be caught on each.
#
# File systems: ext4, xfs, btrfs, and raw. The engine keeps files, so it cannot have the naked
# device; `raw` is ext4 without a journal: nothing orders or replays writes for the engine, and
# e2fsck mends what the cut left before the mount. The stand-in has the naked device as well.
#
# Ends with the line "N passed, N failed, N skipped": crash states and caught plants.
# Needs root and Debian's qemu-system-common e2fsprogs xfsprogs btrfs-progs util-linux fuse3
# python3; without them it is skipped, and says so. Leaves nothing mounted, attached or running.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
states=${STATES:-60}
proof_states=25
[ "${1:-}" = --full ] && states=${STATES:-240}
systems=${FS:-ext4 xfs raw btrfs}
seed=${SEED:-1}
rounds=${ROUNDS:-320}
disk_mb=640
passed=0 failed=0 skipped=0 failures=()

finish() {
    for f in "${failures[@]}"; do echo "FAILED: $f"; done
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

skip() { # skip COUNT WHY
    echo "SKIPPED: $2"
    skipped=$((skipped + $1))
}

missing=()
for tool in qemu-storage-daemon losetup addpart mkfs.ext4 mkfs.xfs mkfs.btrfs e2fsck python3; do
    PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || missing+=("$tool")
done
export PATH=$PATH:/usr/sbin:/sbin
why=
[ "$(id -u)" -eq 0 ] || why="needs root (loop devices, mounts)"
[ -n "$why" ] || [ ${#missing[@]} -eq 0 ] || why="not installed: ${missing[*]}"
[ -n "$why" ] || [ -c /dev/fuse ] || why="no /dev/fuse"
[ -n "$why" ] || losetup -f >/dev/null 2>&1 || why="no loop device to be had"
if [ -n "$why" ]; then
    skip 1 "powercut: $why"
    finish
    exit 0
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/sapwood-powercut.XXXXXX")
CUT_SCRATCH=$(mktemp -d /dev/shm/sapwood-powercut.XXXXXX)
export CUT_SCRATCH
cleanup() { # cutlab.py cleans up behind itself; this is for when it was killed outright
    set +e
    awk '{ print $2 }' /proc/mounts | grep -E "^($work|$CUT_SCRATCH)/" | sort -r |
        while read -r m; do umount "$m" 2>/dev/null || umount -l "$m"; done
    losetup -n -O NAME,BACK-FILE -l | while read -r name file; do
        case $file in "$work"/* | "$CUT_SCRATCH"/*) losetup -d "$name" ;; esac
    done
    for pid in "$work"/*/daemon.pid; do [ -f "$pid" ] && kill "$(cat "$pid")"; done
    rm -rf "$work" "$CUT_SCRATCH"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

lab() { python3 "$here/cutlab.py" "$@"; }

record() { # record NAME FS WORKLOAD...
    local name=$1 fs=$2
    shift 2
    timeout -k 10 180 python3 "$here/cutlab.py" record "$work/$name" "$fs" "$disk_mb" -- "$@" &&
        lab info "$work/$name"
}

replay() { # replay NAME FS STATES CHECKER...; sets count and bad
    local name=$1 fs=$2 n=$3 report=$work/report
    shift 3
    timeout -k 10 900 python3 "$here/cutlab.py" replay "$work/$name" "$fs" "$n" "$seed" -- "$@" \
        >"$report" || true
    count=$(sed -n 's/^replay [a-z0-9]*: \([0-9]*\) states, \([0-9]*\) bad.*/\1/p' "$report")
    bad=$(sed -n 's/^replay [a-z0-9]*: \([0-9]*\) states, \([0-9]*\) bad.*/\2/p' "$report")
}

fail() {
    failed=$((failed + 1))
    failures+=("$1")
}

must_hold() { # must_hold LABEL FS STATES CHECKER...: every state is good
    local label=$1 fs=$2
    shift
    if ! replay run "$@" || [ -z "$count" ]; then
        cat "$work/report"
        fail "$label: no verdict"
    else
        cat "$work/report"
        passed=$((passed + count - bad))
        failed=$((failed + bad))
        [ "$bad" -eq 0 ] || failures+=("$label: $bad of $count states (seed $seed)")
    fi
    rm -rf "${work:?}/run"
}

must_be_caught() { # must_be_caught LABEL FS STATES CHECKER...: at least one state is bad
    local label=$1 fs=$2
    shift
    if replay run "$@" && [ "${bad:-0}" -gt 0 ]; then
        echo "$label: caught in $bad of $count states, as it must be"
        passed=$((passed + 1))
    else
        cat "$work/report"
        fail "$label: NOT caught; this lab sees nothing"
    fi
    rm -rf "${work:?}/run"
}

section() { echo "== $1 (${SECONDS}s)"; }

prove() { # prove FS: the stand-in, honest and planted
    local fs=$1 check=(python3 "$here/standin.py" check '{mnt}' '{acked}')
    for mode in sync skip-sync; do
        record run "$fs" python3 "$here/standin.py" load '{mnt}' '{marks}' 400 $mode ||
            { fail "stand-in on $fs: no recording"; return; }
        case $mode in
            sync) must_hold "stand-in on $fs" "$fs" $proof_states "${check[@]}" ;;
            *) must_be_caught "stand-in without sync on $fs" "$fs" $proof_states "${check[@]}" ;;
        esac
    done
}

build() { # build NAME CARGO-WORDS...: the crashlab program as $work/NAME
    local name=$1
    shift
    local into=${CARGO_TARGET_DIR:-$root/target}/powercut-$name
    (cd "$root" && timeout 900 cargo build --quiet --release -p sapwood-tests --bin crashlab \
        --target-dir "$into" "$@") && cp "$into/release/crashlab" "$work/$name"
}

as_mounted() { # what cutlab.py calls a file system that is named FS here
    case $1 in raw) echo bare ;; *) echo "$1" ;; esac
}

judge_engine() { # judge_engine FS: the engine as it is, then with its sync taken out
    local label=$1 fs
    fs=$(as_mounted "$1")
    local check=("$work/honest" check '{mnt}/wal' '{sent}' '{acked}')
    section "the engine on $label"
    if record run "$fs" "$work/honest" load '{mnt}/wal' '{marks}' "$rounds"; then
        must_hold "engine on $label" "$fs" "$states" "${check[@]}"
    else
        fail "engine on $label: the workload failed"
    fi
    if SAPWOOD_PLANTED=DeviceSyncSkipped record run "$fs" \
        "$work/planted" load '{mnt}/wal' '{marks}' "$rounds"; then
        must_be_caught "engine without sync on $label" "$fs" $proof_states "${check[@]}"
    else
        fail "engine without sync on $label: the workload failed"
    fi
}

section "the lab proves itself"
prove device
prove ext4

section "building the engine, and the engine with a planted bug"
if build honest && RUSTFLAGS="${RUSTFLAGS:-} --cfg sapwood_planted" build planted; then
    for system in $systems; do judge_engine "$system"; done
else
    fail "the engine does not build"
fi

finish
