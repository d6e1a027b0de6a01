#!/usr/bin/env bash
# Ownership over a real etcd: the suites of the feature `etcd`, which start an etcd each on loopback
# and kill, stop and restart it, and the failover of two processes.
#
#   tests/lab/etcd.sh          under eight minutes; builds included when they are warm
#   tests/lab/etcd.sh --full   the failover ten times
#
# Installs etcd-server and protoc (Debian packages) when it may. Every etcd it starts is stopped
# with the test that started it.
#
# Ends with the line "N passed, N failed, N skipped": one for each test.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
packages=(etcd-server protobuf-compiler libprotobuf-dev)
rounds=1 limit=840
[ "${1:-}" = --full ] && rounds=10 limit=3600
passed=0 failed=0 skipped=0

if ! command -v etcd >/dev/null || ! command -v protoc >/dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        timeout 300 apt-get -qq update </dev/null
        DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install -y \
            --no-install-recommends "${packages[@]}" </dev/null >/dev/null 2>&1
    fi
fi
for tool in etcd protoc; do
    if ! command -v "$tool" >/dev/null; then
        echo "SKIPPED: lab-etcd: no $tool here, and it cannot be installed"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
done

log=$(mktemp "${TMPDIR:-/tmp}/sapwood-etcd.XXXXXX")
trap 'rm -f "$log"' EXIT
run() { # run ARGS...: the tests of one crate
    (cd "$root" && timeout -k 10 $((limit - SECONDS)) cargo test --features etcd "$@" -- --nocapture) >"$log" 2>&1
    local rc=$? ok bad
    # A line of a test's own output may stand before its verdict: results are counted from the sums.
    ok=$(sed -n 's/^test result:.* \([0-9]*\) passed.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
    bad=$(sed -n 's/^test result:.* \([0-9]*\) failed.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
    passed=$((passed + ${ok:-0}))
    failed=$((failed + ${bad:-0}))
    grep -h -e 'writable again' -e 'acks of the primary' -e '^Seen' -e '^SKIPPED' "$log" | sort -u
    skipped=$((skipped + $(grep -c '^SKIPPED' "$log")))
    if [ "$rc" -ne 0 ]; then
        [ "${bad:-0}" -gt 0 ] || failed=$((failed + 1))
        tail -60 "$log"
        echo "FAILED: cargo test $*"
    fi
}
run -p sapwood-cluster
for ((n = 0; n < rounds; n++)); do
    run -p sapwood-cli --test failover
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
