//! A directory to try commands on, and running them.

#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A fresh place: `wal` is the directory of logs (not there yet), the rest is for files.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: output.stdout, err }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// The result, if it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {} stderr: {}", self.text(), self.err);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in stderr: {}", self.err);
        }
        self
    }

    #[track_caller]
    pub(crate) fn shows(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.text().contains(word), "no {word:?} in stdout: {}", self.text());
        }
        self
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn wal(&self, name: &str) -> PathBuf {
        self.path("wal").join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `sapwood ARGS`, from the place.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sapwood"));
        command.args(args).current_dir(self.root.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// As `run`, with bytes for stdin.
    pub(crate) fn feed(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        let feeding = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        Ran::of(output)
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Appends to log `x` in `wal`.
    #[track_caller]
    pub(crate) fn append(&self, stdin: &[u8]) -> Ran {
        self.feed(&["append", "x", "--dir", "wal", "--segment-size", "1MiB"], stdin).ok()
    }

    /// Reads log `x` of `wal`.
    pub(crate) fn read(&self) -> Ran {
        self.run(&["read", "x", "--dir", "wal"])
    }

    /// Files of `wal` whose names begin so, in order.
    pub(crate) fn files(&self, begin: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path("wal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| name(path).starts_with(begin))
            .collect();
        files.sort();
        files
    }

    /// Flips a bit of a byte of a file.
    pub(crate) fn flip(&self, path: &Path, offset: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[offset] ^= 0x10;
        fs::write(path, bytes).unwrap();
    }

    /// The segment file that holds these bytes, and where.
    #[track_caller]
    pub(crate) fn find(&self, needle: &[u8]) -> (PathBuf, usize) {
        for path in self.files("segment-") {
            let bytes = fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                return (path, at);
            }
        }
        panic!("no segment holds {:?}", String::from_utf8_lossy(needle));
    }
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Numbered lines of some length.
pub(crate) fn lines(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut text = Vec::new();
    for n in numbers {
        writeln!(text, "line {n:08} {}", "~".repeat((n * 7919 % 60) as usize)).unwrap();
    }
    text
}

/// The first `count` lines of a text.
pub(crate) fn first_lines(text: &[u8], count: usize) -> &[u8] {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    match count.checked_sub(1) {
        None => &[],
        Some(last) => &text[..=ends.nth(last).unwrap().0],
    }
}

/// Waits until it is so, at most ten seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}
