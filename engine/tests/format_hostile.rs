//! A length that lies reserves nothing: the address space of this process does not grow while every
//! length of every structure is set to what it is not, under CRCs made to fit.
//!
//! One test in a binary of its own, because it watches the whole process.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod samples;

use samples::samples;

/// What tests, allocator and stacks may take meanwhile; the lies are of 64 MiB and more.
const GROWTH_MAX_KIB: u64 = 48 << 10;

/// Of a sample, so many bytes at its beginning (headers) and at its end are lied in.
const FRONT: usize = 300;
const BACK: usize = 4096;

#[allow(clippy::disallowed_methods, reason = "a test looks at its own process")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_length_that_lies_reserves_nothing() {
    let lies = [1u64 << 26, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 62, u64::MAX / 2, u64::MAX];
    let samples = samples();
    let before = peak_kib();
    for sample in &samples {
        // Every place, so that no length is forgotten: as four bytes and as eight.
        let len = sample.bytes.len();
        for at in (0..len - 8).filter(|at| *at < FRONT || *at + BACK > len) {
            let widths = if at < FRONT { &[4, 8][..] } else { &[4][..] };
            for lie in &lies[..if at < FRONT { 7 } else { 3 }] {
                for width in widths {
                    let mut bytes = sample.bytes.clone();
                    bytes[at..at + width].copy_from_slice(&lie.to_le_bytes()[..*width]);
                    samples::refit_all(sample, &mut bytes);
                    let _ = (sample.read)(&bytes);
                }
            }
        }
    }
    let growth = peak_kib() - before;
    assert!(growth <= GROWTH_MAX_KIB, "the address space grew by {growth} KiB");
}
