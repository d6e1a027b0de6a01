//! One suite for every disk: the ring, its blocking twin, buffered files and the simulator.
#![cfg(feature = "sim")]
// Tests may unwrap, and look at the machine that they test.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::Arc;

use sapwood::io::contract::SUITE;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::io::{Backend, Durable, OsOptions, OsStorage, Storage};

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
