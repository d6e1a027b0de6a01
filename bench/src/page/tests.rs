//! The page stands alone, and a browser shows its plots.

use super::*;
use crate::sample::tests::sample;
use crate::sample::{Sample, Slice};
use std::fs::{self, File};
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::Command;

fn page() -> String {
    let slice = |at: usize| Slice {
        seconds: (at as f64 + 0.5) / 30.0,
        rate: 1000.0,
        p50_us: 100.0,
        p99_us: 150.0 + at as f64 * 4.0,
        max_us: 900.0,
    };
    let round = |factor: u64| Sample {
        slices: (0..60).map(slice).collect(),
        ..sample(100, &[100 * factor, 110 * factor, 900 * factor])
    };
    let row = |name: &str, factor| Row {
        name: name.to_owned(),
        rounds: vec![round(factor), round(factor)],
    };
    let cell = CellResult {
        name: "cell".to_owned(),
        title: "a <b> & c".to_owned(),
        rows: vec![row("floor", 1), row("sapwood", 2), row("a<b", 3)],
        failures: vec![("other".to_owned(), "no <disk>".to_owned())],
        outcomes: Vec::new(),
    };
    render(&Page {
        name: "latency",
        question: "Why?",
        command: "sapwood bench latency --dir 'a b'",
        environment: &Environment::of(Path::new("/")),
        cells: &[(cell, "sapwood bench latency --only cell".to_owned())],
    })
    .unwrap()
}

#[test]
fn the_page_stands_alone() {
    let page = page();
    for wanted in ["<svg", "a&lt;b", "p99.9", "--only cell", "the floor's p50", "no &lt;disk"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    for outside in ["http:", "https:", "<script", "src=", "href", "NaN", "inf\""] {
        assert!(!page.replace("http://www.w3.org", "").contains(outside), "{outside}");
    }
}

/// Draws the page with a browser, and looks for the colours of its curves.
#[test]
fn a_browser_shows_the_plots() {
    let browsers = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let Some(browser) = browsers.iter().find(|name| runs(name)) else {
        // Not captured, unlike what the macros print.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: screenshot: no browser is installed, looked for {browsers:?}"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (html, png) = (dir.path().join("page.html"), dir.path().join("page.png"));
    fs::write(&html, page()).unwrap();
    let profile = dir.path().join("profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--force-device-scale-factor=1", "--window-size=1000,1400"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--screenshot={}", png.display()))
        .arg(format!("file://{}", html.display()))
        .output()
        .unwrap();
    assert!(png.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reader =
        png::Decoder::new(BufReader::new(File::open(&png).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let wide = info.color_type.samples();
    for (row, colour) in [("floor", [125, 125, 125]), ("sapwood", [27, 122, 61])] {
        let count = pixels.chunks(wide).filter(|pixel| pixel[..3] == colour).count();
        // A curve 2 px high over 700 px, twice, less what smoothing takes; a key alone has 200.
        assert!(count > 600, "{count} pixels have the colour of {row}");
    }
}
