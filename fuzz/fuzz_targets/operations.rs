//! Sequences of operations with crashes, against the model of the truth. The judge is in the
//! library, so that a finding replays as a plain test (tests/tests/fuzz_regressions.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sapwood_fuzz::judge("operations", data);
});
