//! Every rival keeps what it acked, and says so to the next that opens it.

use super::*;
use std::collections::HashSet;
use std::thread;

const THREADS: u32 = 4;
const APPENDS: u64 = 25;

fn payload(caller: &Caller) -> Vec<u8> {
    format!("{}:{}", caller.index, caller.count).repeat(1 + caller.count as usize).into_bytes()
}

fn keeps_what_it_acked<R: Rival>() {
    let dir = tempfile::tempdir().unwrap();
    let rival = R::open(dir.path()).unwrap();
    thread::scope(|scope| {
        for index in 0..THREADS {
            let rival = &rival;
            scope.spawn(move || {
                for count in 0..APPENDS {
                    let caller = Caller { index, count };
                    rival.append(&caller, &payload(&caller)).unwrap();
                }
            });
        }
    });
    drop(rival);
    let found = R::records(dir.path()).unwrap();
    assert_eq!(found.len() as u64, u64::from(THREADS) * APPENDS);
    let callers = (0..THREADS).flat_map(|index| (0..APPENDS).map(move |count| (index, count)));
    let wanted: HashSet<_> =
        callers.map(|(index, count)| payload(&Caller { index, count })).collect();
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), wanted);
}

#[test]
fn plain() {
    keeps_what_it_acked::<plain::Plain>();
}

#[test]
fn a_cell_of_rivals_runs_and_judges() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    std::fs::create_dir(&data).unwrap();
    let mut args = crate::scenario::tests::args(&["--only", "8x128B", "--rounds", "1"]);
    args.secs = 0.05;
    args.dir = data;
    args.common.file_mib = 8;
    args.common.segment_mib = Some(16);
    args.common.out = out.clone();
    run(&args).unwrap();
    let json = std::fs::read_to_string(out.join("rivals.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let cell = &json["cells"][0];
    assert_eq!(cell["failures"].as_array().unwrap().len(), 0, "{}", cell["failures"]);
    assert_eq!(cell["rows"].as_array().unwrap().len(), 6 + built_in().len());
    assert_eq!(cell["claims"].as_array().unwrap().len(), 3);
    assert!(cell["claims"][0]["against"].as_str().unwrap().starts_with(RIVAL));
}
