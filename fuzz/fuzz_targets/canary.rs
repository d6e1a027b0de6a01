//! Fails on purpose: a fuzz job that does not find this one is dead.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert!(!data.starts_with(b"sap"), "the canary is found, as it must be");
});
