//! Many readers: files open, on a real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::path::Path;

use common::{config, folder};
use sapwood::{Config, Engine, From, Lsn};

/// Files of this folder that this process has open.
fn open_files(dir: &Path) -> usize {
    let dir = dir.canonicalize().unwrap();
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    links.filter(|target| target.starts_with(&dir)).count()
}

const LOGS: u64 = 100;
const EACH: u64 = 300;

fn payload(log: u64, lsn: u64) -> Vec<u8> {
    vec![(log * 3 + lsn) as u8; 1000]
}

/// A thousand readers had a thousand files open, and more threads: one per reader, and what it
/// read ahead.
#[test]
fn files_open_do_not_grow_with_readers() {
    let dir = folder();
    let max = 12;
    let config = Config { read_files_max: max, ..config(dir.path()) };
    let engine = Engine::open(config.clone()).unwrap();
    let logs: Vec<_> = (0..LOGS).map(|n| engine.log(&format!("{n}")).unwrap()).collect();
    let writers: Vec<_> = logs.iter().map(|log| log.writer().unwrap()).collect();
    for lsn in 0..EACH {
        let tickets = writers.iter().zip(0..).map(|(w, n)| w.append(payload(n, lsn)));
        for ticket in tickets.collect::<Vec<_>>() {
            ticket.wait().unwrap();
        }
    }
    drop((logs, writers));
    engine.close().unwrap();
    let engine = Engine::open(config).unwrap();
    let logs: Vec<_> = (0..LOGS).map(|n| engine.find(&format!("{n}")).unwrap().unwrap()).collect();
    let before = open_files(dir.path());
    let mut readers = Vec::new();
    for n in 0..10 * LOGS {
        let lsn = n * 37 % EACH;
        let log = n % LOGS;
        let mut reader = logs[log as usize].reader(From::Lsn(Lsn(lsn))).unwrap();
        let record = reader.next().wait().unwrap().unwrap();
        assert!(record.lsn() == Lsn(lsn) && record.payload() == payload(log, lsn));
        readers.push((log, lsn + 1, reader));
    }
    let rest = open_files(dir.path());
    assert!(rest <= before + max as usize, "{before} files before, {rest} with readers at rest");
    // Four threads read with all of them, in turns.
    let threads = 4;
    let share = readers.len() / threads;
    std::thread::scope(|scope| {
        for readers in readers.chunks_mut(share) {
            scope.spawn(move || {
                for _ in 0..5 {
                    for (log, lsn, reader) in readers.iter_mut().filter(|(_, lsn, _)| *lsn < EACH) {
                        let record = reader.next().wait().unwrap().unwrap();
                        assert_eq!(record.lsn(), Lsn(*lsn));
                        assert!(record.payload() == payload(*log, *lsn));
                        *lsn += 1;
                    }
                }
            });
        }
        for _ in 0..50 {
            let now = open_files(dir.path());
            assert!(now <= before + max as usize + threads + 4, "{before} before, {now} reading");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    drop(readers);
    engine.close().unwrap();
}
