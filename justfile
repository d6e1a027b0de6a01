# The development loop. Everything here is a plain command that works without `just` too.

# What can be done: the list.
default:
    @just --list --unsorted

# Before each commit, in seconds: format, lints, the house rules.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test -p sapwood-tests --test tidy

# Every test.
test:
    cargo test --workspace

# The simulated engine under faults: one life from its seed, or the usual number of them.
sim SEED="":
    SAPWOOD_SEED={{SEED}} cargo test -p sapwood-tests --test sim -- --nocapture

# So many sessions of the simulated engine, half an hour for about 50,000.
sim-many CYCLES="20000":
    SAPWOOD_SIM_CYCLES={{CYCLES}} cargo test --release -p sapwood-tests --test sim -- --nocapture

# Every bug on purpose is planted in turn, and must be caught: tests/PLANTED.md.
planted *BUGS:
    tests/planted.sh {{BUGS}}

# What crosses threads, under schedules that seeds choose: every model for so many seconds.
models SECS="3":
    cd models && SAPWOOD_MODEL_SECS={{SECS}} cargo test --release --target-dir ../target/models

# The thread and address sanitizers and Miri (nightly): all of them, or tsan, asan, miri.
sanitize *KINDS:
    tests/sanitize.sh {{KINDS}}

# One fuzz target for so many seconds (nightly): record batch segment_scan manifest index tier_footer
# tier_block cli_inputs follow_dir operations.
fuzz TARGET="record" SECS="60":
    cd fuzz && cargo +nightly fuzz run {{TARGET}} corpus/{{TARGET}} seeds/{{TARGET}} -- -max_total_time={{SECS}}

# The latency harness: `just bench latency --secs 5`.
bench *ARGS="latency --secs 5":
    cargo run --release --bin sapwood -- bench {{ARGS}}

# Any file of a directory as text.
dump FILE:
    cargo run --release --bin sapwood -- inspect {{FILE}}

# After a change of engine/src/format and of what engine/FORMAT.md says about it: the new hash.
format-lock:
    SAPWOOD_FORMAT_LOCK=write cargo test -p sapwood-tests --test tidy format_is_locked

# Power cuts on real file systems (root); `just powercut --full` for the long count.
powercut *ARGS:
    tests/lab/powercut.sh {{ARGS}}

# The S3 store's tests against MinIO, on loopback (built by Go the first time).
s3:
    tests/lab/s3.sh

# What CI runs, byte for byte.
ci *SECTIONS:
    .ci/run {{SECTIONS}}
