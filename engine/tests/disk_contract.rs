//! One suite for every disk: the ring, its blocking twin, buffered files and the simulator.
#![cfg(feature = "sim")]
// Tests may unwrap, and look at the machine that they test.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::Arc;

use sapwood::io::buf::{AlignedBuf, IoBuf};
use sapwood::io::contract::SUITE;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::io::{
    Backend, DiskSpec, Durable, LockOutcome, Op, OsOptions, OsStorage, Storage, Wait, hostinfo,
};

/// A folder on the disk that the project is on (`/tmp` may be a tmpfs).
fn folder() -> tempfile::TempDir {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::TempDir::new_in(target).unwrap()
}

fn os(opts: OsOptions) {
    for (name, check) in SUITE {
        let folder = folder();
        let storage = match OsStorage::open(&folder.path().join("d"), opts) {
            Ok(storage) => storage,
            Err(error) if opts.backend == Backend::Uring => {
                println!("skipped: {name} on io_uring: {error}");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        println!("{name}");
        check(&(Arc::new(storage) as Arc<dyn Storage>));
    }
}

fn ring(durable: Durable) -> OsOptions {
    OsOptions { backend: Backend::Uring, durable: Some(durable), ..OsOptions::default() }
}

fn plain(durable: Durable) -> OsOptions {
    OsOptions { backend: Backend::Blocking, ..ring(durable) }
}

#[test]
fn the_ring_with_dsync() {
    os(ring(Durable::Dsync));
}

#[test]
fn the_ring_with_linked_fdatasync() {
    os(ring(Durable::Fdatasync));
}

#[test]
fn the_ring_with_buffered_files() {
    os(OsOptions { direct: false, durable: None, ..ring(Durable::Dsync) });
}

#[test]
fn the_blocking_twin_with_dsync() {
    os(plain(Durable::Dsync));
}

#[test]
fn the_blocking_twin_with_fdatasync() {
    os(plain(Durable::Fdatasync));
}

#[test]
fn the_simulator() {
    for seed in 0..20 {
        for (name, check) in SUITE {
            println!("{name}, seed {seed}");
            check(&(Arc::new(SimStorage::new(seed, Faults::default())) as Arc<dyn Storage>));
        }
    }
}

#[test]
fn a_probe_is_quick_and_says_why() {
    let folder = folder();
    let began = std::time::Instant::now();
    let storage = OsStorage::open(folder.path(), OsOptions::default()).unwrap();
    let took = began.elapsed();
    let probe = storage.probe();
    println!("{took:?} {probe:#?}");
    assert!(took.as_millis() < 2000, "{took:?}");
    assert!(!probe.file_system.is_empty() && !probe.kernel.is_empty());
    // The scratch file stays, so that a full disk can be opened.
    assert_eq!(storage.list().unwrap(), ["probe"]);
}

#[test]
fn files_are_private_and_links_are_not_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = folder();
    let dir = folder.path().join("made");
    let storage = OsStorage::open(&dir, OsOptions::default()).unwrap();
    storage.create("a").unwrap();
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("a"))), (0o700, 0o600));
    symlink(dir.join("a"), dir.join("link")).unwrap();
    assert!(storage.open("link", sapwood::io::Mode::Read).is_err());
    assert!(storage.create("link").is_err());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .unwrap();
    let error = storage.open("pipe", sapwood::io::Mode::Read).unwrap_err();
    assert!(error.raw_os_error().is_some() || error.kind() == std::io::ErrorKind::InvalidInput);
}

/// Set in the child that holds the lock: where the directory is.
const CHILD: &str = "SAPWOOD_TEST_LOCK_CHILD";

/// Bytes of each write of that child, and how many it has in flight.
const CHUNK: usize = 1 << 20;
const CHUNKS: u64 = 64;

/// Takes the lock, registers it in a ring and keeps large writes in flight until it is killed.
fn hold_the_lock_and_write(dir: &std::path::Path) -> ! {
    let storage = OsStorage::open(dir, ring(Durable::Dsync)).unwrap();
    let me = hostinfo().unwrap().encode();
    let LockOutcome::Taken(guard) = storage.lock("lock", &me).unwrap() else { panic!("held") };
    let lock = Some(guard.file().clone());
    let mut disk =
        storage.disk(&DiskSpec { in_flight: CHUNKS as usize, arena: None, lock }).unwrap();
    disk.bind().unwrap();
    let file = storage.create("a").unwrap();
    let (mut n, mut done) = (0u64, Vec::new());
    loop {
        let mut buf = AlignedBuf::zeroed(CHUNK).unwrap();
        buf.fill(n as u8);
        let op = Op::Write {
            file: file.clone(),
            offset: n % CHUNKS * CHUNK as u64,
            buf: IoBuf::Owned(buf),
            persist: true,
        };
        n += 1;
        if disk.submit(n, op).is_err() {
            disk.reap(&mut done, Wait::Event).unwrap();
        }
        if n == 200 {
            println!("ready");
        }
    }
}

/// The story: a writer is killed with writes in flight. Its lock must not be free while they still
/// land, or its successor reads bytes that change under it.
#[test]
fn a_killed_writer_keeps_the_lock_until_its_last_write_has_landed() {
    use std::io::BufRead;
    if let Ok(dir) = std::env::var(CHILD) {
        hold_the_lock_and_write(dir.as_ref());
    }
    for _ in 0..3 {
        let folder = folder();
        let storage = match OsStorage::open(folder.path(), ring(Durable::Dsync)) {
            Ok(storage) => storage,
            Err(error) => return println!("skipped: a killed writer: {error}"),
        };
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("a_killed_writer_keeps_the_lock_until_its_last_write_has_landed")
            .env(CHILD, folder.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")));
        let owner = storage.lock_owner_alive("lock").unwrap().expect("a living owner");
        assert_eq!(owner.pid, child.id());
        let us = hostinfo().unwrap().encode();
        let held = storage.lock("lock", &us).unwrap();
        assert!(matches!(held, LockOutcome::Held { .. }), "its owner lives");
        child.kill().unwrap();
        // Not waited for: a zombie is gone, too.
        let LockOutcome::Taken(_guard) = storage.lock("lock", &us).unwrap() else {
            panic!("a dead process's lock is waited for");
        };
        let (file, _) = storage.open("a", sapwood::io::Mode::Read).unwrap();
        let mut buf = AlignedBuf::zeroed(4096).unwrap();
        // The last block of each write, the newest write first: quick, or all would have landed.
        let mut read = || -> Vec<u8> {
            let ends = (1..=CHUNKS).rev().map(|n| n * CHUNK as u64 - 4096);
            ends.map(|end| {
                storage.read_at(&file, end, &mut buf, 4096).unwrap();
                buf[0]
            })
            .collect()
        };
        let first = read();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(first == read(), "a write of the dead process landed under its successor");
        child.wait().unwrap();
    }
}

#[test]
fn a_read_only_directory_is_not_changed() {
    let folder = folder();
    let missing = folder.path().join("missing");
    let opts = OsOptions { read_only: true, ..OsOptions::default() };
    assert!(OsStorage::open(&missing, opts).is_err(), "nothing is made");
    let storage = OsStorage::open(folder.path(), opts).unwrap();
    assert!(storage.list().unwrap().is_empty(), "not even a scratch file");
    assert!(storage.create("a").is_err());
    assert!(storage.lock("lock", b"me").is_err());
    assert_eq!(storage.lock_owner_alive("lock").unwrap(), None);
}
