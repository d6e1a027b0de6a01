//! The simulator, life after life, until one breaks the contract or the time is over.
//!
//! Invariants: the same lives in the same order for every bug; a life that does not end breaks the
//! contract too.
//!
//! Not here: the lives (`campaign`).

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sapwood_tests::campaign::ALL;

use crate::Outcome;

/// A life takes far less than a second; one that takes so long hangs.
const HANGS_SECONDS: u64 = 30;

/// Lives for so long.
pub(crate) fn run(seconds: u64) -> Outcome {
    std::panic::set_hook(Box::new(|_| {}));
    let lived = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&lived);
    std::thread::spawn(move || watch(&theirs));
    let began = Instant::now();
    for life in 0.. {
        for campaign in ALL {
            if began.elapsed() >= Duration::from_secs(seconds) {
                break;
            }
            lived.fetch_add(1, Ordering::Relaxed);
            let seed = campaign.base + life;
            campaign
                .one(seed)
                .map_err(|what| format!("{}, seed {seed:#x}: {what}", campaign.name))?;
        }
        if began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    println!("{} lives", lived.load(Ordering::Relaxed));
    Ok(())
}

fn watch(lived: &AtomicU64) {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = lived.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_secs(HANGS_SECONDS) {
            println!("life {now} does not end");
            exit(1);
        }
    }
}
