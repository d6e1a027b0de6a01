#!/usr/bin/env bash
# The tests are tested: each bug of engine/src/planted.rs is planted, and must be caught.
#
#   tests/planted.sh                    all of them; writes tests/PLANTED.md
#   tests/planted.sh AckBeforeDurable   only these
#
# Builds everything once more, with --cfg sapwood_planted, into a target folder of its own.
set -euo pipefail

cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/planted
export RUSTFLAGS="${RUSTFLAGS:-} --cfg sapwood_planted"
mkdir -p "$CARGO_TARGET_DIR"
suites=$CARGO_TARGET_DIR/suites

cargo build --quiet -p sapwood-tests -p sapwood-cli --bins
# Every program of tests but those of the house rules and of the simulator, which runs by itself.
cargo test --no-run -p sapwood -p sapwood-tests -p sapwood-cli 2>&1 | tee "$suites.log" |
    sed -n 's/^ *Executable \(unittests \)\{0,1\}\([^ ]*\) (\(.*\))$/\2 \3/p' |
    grep -vE '^(tests/(tidy|sim|planted|fuzz_regressions|example_programs|examples|soak)|src/(main|bin))' \
        >"$suites.all" || { cat "$suites.log"; exit 1; }
# The short ones first.
short='^(src/lib|tests/(holds|outbox|truncation|ownership|halts|on_disk|failed_writes|archive|surgery)\.)'
{ grep -E "$short" "$suites.all"; grep -vE "$short" "$suites.all"; } >"$suites"
exec "$CARGO_TARGET_DIR/debug/planted" run "$suites" tests/PLANTED.md "$@"
