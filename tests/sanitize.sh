#!/usr/bin/env bash
# Sanitizers: the thread and the address sanitizer over suites of the engine that run threads and
# rings, Miri over what needs neither a ring nor a file.
#
#   tests/sanitize.sh               tsan asan miri
#   tests/sanitize.sh miri          only this one
#
# Takes a nightly toolchain with the components rust-src and miri, which it asks rustup for; what is
# refused is skipped, loudly. Builds into a target folder of its own. Ends with the line
# "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 RUST_BACKTRACE=1
host=x86_64-unknown-linux-gnu
target=${CARGO_TARGET_DIR:-$PWD/target}/sanitize
passed=0 failed=0 skipped=0

# Suites in which threads meet: the engine's own tests, and its behaviour on real files.
suites=(-p sapwood --lib --test behaviour)
# Modules that are bytes and memory alone. `io::buf` is one of the rooms of `unsafe`.
pure=(format:: table:: chain:: cuts:: gc:: histogram:: lsn:: record:: pool:: retain:: io::buf::)

skip() { # skip NAME WHY
    echo "SKIPPED: $1: $2"
    skipped=$((skipped + 1))
}

component() { # component NAME: is it there, or can it be had?
    rustup +nightly component list --installed 2>/dev/null | grep -q "^$1" ||
        timeout 120 rustup component add --toolchain nightly "$1" >/dev/null 2>&1
}

judge() { # judge NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    if timeout -k 20 1500 "$@" </dev/null; then
        echo "-- $name passed, $((SECONDS - start))s"
        passed=$((passed + 1))
    else
        echo "-- $name FAILED, $((SECONDS - start))s"
        failed=$((failed + 1))
    fi
}

sanitized() { # sanitized NAME KIND: the standard library is built along, else it looks unordered
    if ! component rust-src; then
        skip "$1" "rustup gives no rust-src for the nightly toolchain"
        return
    fi
    CARGO_TARGET_DIR=$target RUSTFLAGS="-Zsanitizer=$2" \
        judge "$1" cargo +nightly test -q -Zbuild-std --target "$host" "${suites[@]}"
}

run_tsan() {
    sanitized tsan thread
}

run_asan() {
    ASAN_OPTIONS=detect_leaks=0 sanitized asan address
}

run_miri() {
    if ! component miri || ! component rust-src; then
        skip miri "rustup gives no miri for the nightly toolchain"
        return
    fi
    CARGO_TARGET_DIR=$target PROPTEST_CASES=4 \
        MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" \
        judge miri cargo +nightly miri test -q -p sapwood --lib -- "${pure[@]}"
}

[ $# -gt 0 ] || set -- tsan asan miri
for kind in "$@"; do
    if ! declare -F "run_$kind" >/dev/null; then
        echo "no such sanitizer: $kind (tsan asan miri)"
        exit 2
    fi
done
if cargo +nightly --version >/dev/null 2>&1; then
    for kind in "$@"; do
        echo "== $kind"
        "run_$kind"
    done
else
    for kind in "$@"; do
        skip "$kind" "no nightly toolchain"
    done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
