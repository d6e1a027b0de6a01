//! Every fuzz input that is kept (fuzz/seeds) and mutations of it, as a plain test on stable Rust.
//!
//! A crash that the fuzzer finds is copied into `fuzz/seeds/TARGET/`, and stays found.
//! `SAPWOOD_FUZZ_SEEDS=write` lays down the examples anew after a change of the format.
//! Not here: the judges (fuzz/src/lib.rs).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../fuzz/src/lib.rs"]
mod judges;

use std::fs;
use std::path::{Path, PathBuf};

/// Mutations of each seed. The fuzzer does millions; this many only keep the judges honest.
const MUTATIONS: u64 = 3_000;

fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A few bytes changed, most of them in the first 512 where the headers are; sometimes cut short.
fn mutate(seed: &[u8], state: &mut u64) -> Vec<u8> {
    const INTERESTING: [u8; 6] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF];
    let mut bytes = seed.to_vec();
    bytes[0] = splitmix(state) as u8;
    for _ in 0..=splitmix(state) % 4 {
        let reach =
            if splitmix(state).is_multiple_of(4) { bytes.len() } else { bytes.len().min(512) };
        let at = splitmix(state) as usize % reach;
        bytes[at] = match splitmix(state) % 3 {
            0 => splitmix(state) as u8,
            1 => bytes[at] ^ (1 << (splitmix(state) % 8)),
            _ => INTERESTING[splitmix(state) as usize % INTERESTING.len()],
        };
    }
    if splitmix(state).is_multiple_of(8) {
        bytes.truncate(splitmix(state) as usize % bytes.len() + 1);
    }
    bytes
}

#[test]
fn every_judge_accepts_its_example() {
    for (target, judge, _) in judges::TARGETS {
        let example = judges::examples::of(target);
        assert!(judges::judge(target, &example), "{target}: refused its own example");
        let mut mended = example.clone();
        mended[0] = 1;
        assert!(judge(&mended), "{target}: mending broke what was whole");
        if std::env::var("SAPWOOD_FUZZ_SEEDS").as_deref() == Ok("write") {
            fs::create_dir_all(seeds(target)).unwrap();
            fs::write(seeds(target).join("example"), &example).unwrap();
            fs::write(seeds(target).join("mended"), &mended).unwrap();
        }
    }
}

/// A mutated input is mostly accepted or refused behind its CRCs, which says that mending works.
#[test]
fn seeds_and_their_mutations_break_nothing() {
    for (target, judge, share) in judges::TARGETS {
        let mut state = 1;
        let mut accepted = 0;
        for entry in fs::read_dir(seeds(target)).unwrap() {
            let seed = fs::read(entry.unwrap().path()).unwrap();
            accepted += u64::from(judge(&seed));
            for _ in 0..MUTATIONS * share / 100 {
                accepted += u64::from(judge(&mutate(&seed, &mut state)));
            }
        }
        assert!(
            accepted > MUTATIONS * share / 10_000,
            "{target}: only {accepted} accepted, judge is blind"
        );
    }
}
