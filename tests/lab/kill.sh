#!/usr/bin/env bash
# kill -9 at random moments: a child appends, dies, and the directory is opened again at once.
#
#   tests/lab/kill.sh          40 kills, under two minutes
#   tests/lab/kill.sh --full   400
#   SEED=7 KILLS=10 DIR=/mnt/x tests/lab/kill.sh
#
# Unlike a power cut this keeps the page cache. What it finds: writes that still land after the
# writer is dead (the lock must last until then), and state that only memory held. The child
# (crashlab load) writes down what was acked before it goes on, in a file that outlives it; the
# judge (crashlab check) opens the directory without a pause, compares, and appends.
#
# Ends with the line "N passed, N failed, N skipped": one for each kill. Needs no root.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kills=${KILLS:-40}
[ "${1:-}" = --full ] && kills=${KILLS:-400}
kills_per_directory=10
seed=${SEED:-1}
RANDOM=$seed
passed=0 failed=0 child=

work=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/sapwood-kill.XXXXXX")
cleanup() {
    [ -z "$child" ] || kill -9 "$child" 2>/dev/null || true
    rm -rf "$work"
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

for ((n = 0; n < kills; n++)); do
    [ $((n % kills_per_directory)) -ne 0 ] || rm -rf "$work/wal" "$work/marks"
    "$work/crashlab" load "$work/wal" "$work/marks" 1000000 >"$work/said" 2>&1 &
    child=$!
    # Every fourth dies young: while it opens, recovers or creates.
    if [ $((n % 4)) -eq 3 ]; then span=60; else span=700; fi
    sleep "0.$(printf %03d $((RANDOM % span + 2)))"
    kill -9 "$child" 2>/dev/null || true
    if said=$(timeout 60 "$work/crashlab" check "$work/wal" "$work/marks" 2>&1); then
        died=0
        wait "$child" 2>/dev/null || died=$?
        child=
        if [ "$died" -eq 137 ]; then
            passed=$((passed + 1))
            continue
        fi
        said="the child ended by itself (exit $died): $(cat "$work/said")"
    fi
    failed=$((failed + 1))
    echo "FAILED: kill $n (seed $seed): $said"
    rm -rf "$work/wal" "$work/marks"
done

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
