//! The house rules that a machine can check, as an ordinary test. STYLE.md gives the reasons.
//!
//! Invariant: [`EXCEPTIONS`] only shrinks, and each entry is still needed: one that is not fails.
//! Not here: what rustfmt and clippy see (engine/clippy.toml has the bans by name).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "tidy/lex.rs"]
mod lex;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Findings that are let pass: rule, file, why. The list may only shrink.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// The only files that may hold `unsafe`.
const UNSAFE_ROOMS: &[&str] =
    &["engine/src/io/buf.rs", "engine/src/io/uring.rs", "bench/src/ring.rs"];

/// What only `engine/src/io` may touch inside the engine, and what others use instead.
const WORLD: &[(&str, &str)] = &[
    ("Instant::now", "Clock::mono_ns"),
    ("SystemTime", "Clock::wall_us"),
    ("thread::spawn", "Storage::spawn"),
    ("thread::sleep", "Clock::sleep"),
    ("thread::Builder", "Storage::spawn"),
    ("getrandom", "Storage::random_u64"),
    ("std::fs", "Storage"),
    ("fs::File", "Storage"),
    ("OpenOptions", "Storage"),
];

/// The engine's modules, bottom first: one imports only from rows above its own in this list.
/// `format` and `io` share a row: bytes know no I/O, I/O knows no record.
const LAYERS: &[&[&str]] = &[
    &["lsn", "histogram", "planted", "races", "sync", "table"],
    &["metrics"],
    &["format", "io"],
    &["bundle", "names", "wake", "error", "chain", "cuts", "dump", "ephemeral", "watch"],
    &["archive", "files", "holds", "owner"],
    &[
        "assembly", "bisect", "record", "reply", "reads", "catalog", "cursors", "hint", "index",
        "scan",
    ],
    &["live"],
    &["config"],
    &["manifest"],
    &["gc", "pool", "quota", "retain", "view", "walk"],
    &["hops", "intake"],
    &["items", "leased", "part"],
    &["segment"],
    &["commit", "compact", "gather", "reclaim", "seal", "yard"],
    &["relocate", "waking"],
    &["collect"],
    &["shard"],
    &["driver", "work"],
    &["stream"],
    &["damage", "reindex", "renew"],
    &["recover"],
    &["catchup", "writer"],
    &["atomic", "components", "reader", "inner"],
    &["cut", "cursor", "follow", "health"],
    &["log"],
    &["open"],
    &["engine"],
    &["hold", "publish", "reopen", "standby", "tier"],
    &["backup"],
    &["import"],
];

/// Modules that are parts of one thing, in one row: they may import each other.
const TOGETHER: &[&[&str]] = &[];

/// Folders that are built or fetched, not written.
const NOT_OURS: &[&str] = &["target", ".git", "corpus", "artifacts", "sapwood-bench", "seeds"];

struct Source {
    path: String,
    text: String,
    /// Without comments and literals.
    code: String,
}

struct Finding {
    rule: &'static str,
    path: String,
    line: usize,
    what: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the project whose name ends so, by its path from the root, in order.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|e| name.ends_with(e)) {
                let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let rust = files(&[".rs"]);
    assert!(rust.len() > 10, "the sources were not found");
    rust.into_iter().map(|(path, text)| Source { code: lex::blank(&text), path, text }).collect()
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn shape(s: &Source, out: &mut Vec<Finding>) {
    let mut say = |rule, line, what| out.push(Finding { rule, path: s.path.clone(), line, what });
    let lines = s.text.lines().count();
    if lines > FILE_LINES_MAX {
        say("long file", lines, format!("{lines} lines, at most {FILE_LINES_MAX}"));
    }
    for (i, line) in s.text.lines().enumerate() {
        let chars = line.chars().count();
        if chars > LINE_CHARS_MAX {
            say("long line", i + 1, format!("{chars} characters, at most {LINE_CHARS_MAX}"));
        }
    }
    for (name, line, length) in lex::functions(&s.code) {
        if length > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {length} lines, at most {FUNCTION_LINES_MAX}");
            say("long function", line, what);
        }
    }
    let first = s.text.lines().find(|l| !l.is_empty() && !l.starts_with("#!"));
    if !first.is_some_and(|l| l.starts_with("//!")) {
        say("no module doc", 1, "begin with `//!`: the file's duty in one sentence".into());
    }
}

fn unfinished(s: &Source, out: &mut Vec<Finding>) {
    let mut say = |word: &str, text: &str| {
        for at in lex::words(text, word) {
            let (line, what) = (lex::line_of(text, at), format!("`{word}`"));
            out.push(Finding { rule: "unfinished", path: s.path.clone(), line, what });
        }
    };
    say(concat!("FIX", "ME"), &s.text);
    say(concat!("XX", "X"), &s.text);
    for word in ["dbg", "todo", "unimplemented"] {
        say(&format!("{word}!"), &s.code);
    }
}

fn unsafe_rooms(s: &Source, out: &mut Vec<Finding>) {
    if UNSAFE_ROOMS.contains(&s.path.as_str()) {
        return;
    }
    for at in lex::words(&s.code, "unsafe") {
        let what = format!("`unsafe` lives in {UNSAFE_ROOMS:?}");
        let line = lex::line_of(&s.code, at);
        out.push(Finding { rule: "unsafe", path: s.path.clone(), line, what });
    }
}

fn world(s: &Source, out: &mut Vec<Finding>) {
    let inside = s.path.strip_prefix("engine/src/");
    if inside.is_none_or(|p| p.starts_with("io/")) || is_test_file(&s.path) {
        return;
    }
    let code = lex::without_tests(&s.code);
    for (word, instead) in WORLD {
        for at in lex::words(&code, word) {
            let (line, what) = (lex::line_of(&code, at), format!("`{word}`: use `{instead}`"));
            out.push(Finding { rule: "world", path: s.path.clone(), line, what });
        }
    }
}

/// The engine's module that a file belongs to; `None` for what stands above all of them.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("engine/src/")?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (name != "lib").then_some(name)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The first names behind `crate::` in code, groups (`crate::{a::B, c}`) taken apart.
fn crate_imports(code: &str) -> Vec<(usize, String)> {
    let word = |t: &str| -> String {
        t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((at, word(rest)));
            continue;
        };
        let (mut depth, mut start) = (1, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                _ if start && !c.is_whitespace() => {
                    found.push((at, word(&group[i..])));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn layers(s: &Source, out: &mut Vec<Finding>) {
    let Some(module) = module_of(&s.path) else {
        return;
    };
    if is_test_file(&s.path) {
        return;
    }
    let path = &s.path;
    let mut say = |line, what| {
        out.push(Finding { rule: "layer", path: path.clone(), line, what });
    };
    let Some(own) = layer_of(module) else {
        return say(1, format!("module `{module}` has no row in LAYERS (tests/tests/tidy.rs)"));
    };
    let code = lex::without_tests(&s.code);
    for (at, name) in crate_imports(&code) {
        let line = lex::line_of(&code, at);
        match layer_of(&name) {
            _ if name == module => {}
            _ if TOGETHER.iter().any(|t| t.contains(&module) && t.contains(&&*name)) => {}
            Some(theirs) if theirs < own => {}
            Some(_) => say(line, format!("`{module}` imports `{name}`, which is not below it")),
            None => say(line, format!("`crate::{name}`: import it from its own module")),
        }
    }
}

fn referenced(all: &[Source], out: &mut Vec<Finding>) {
    for s in all.iter().filter(|s| s.path.contains("/src/")) {
        let path = Path::new(&s.path);
        let stem = path.file_stem().unwrap().to_string_lossy();
        let folder = path.parent().unwrap();
        let is_root = ["lib", "main"].contains(&&*stem) || folder.ends_with("bin");
        let name = match &*stem {
            "mod" => folder.file_name().unwrap().to_string_lossy(),
            _ => stem.clone(),
        };
        let wanted = format!("mod {name};");
        if !is_root && !all.iter().any(|o| o.code.contains(&wanted)) {
            let what = format!("no file says `{wanted}`");
            out.push(Finding { rule: "unreferenced", path: s.path.clone(), line: 1, what });
        }
    }
}

/// Paths of the machine that something was written on: they mean nothing elsewhere.
fn machine_paths(out: &mut Vec<Finding>) {
    let endings = [".rs", ".md", ".toml", ".sh", ".py", ".txt", "justfile", "run"];
    for (path, text) in files(&endings) {
        for word in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")] {
            for (at, _) in text.match_indices(word) {
                let before = text[..at].chars().next_back();
                if before.is_none_or(|c| !c.is_alphanumeric() && !"._-}*".contains(c)) {
                    let (line, what) = (lex::line_of(&text, at), format!("`{word}`"));
                    out.push(Finding { rule: "machine path", path: path.clone(), line, what });
                }
            }
        }
    }
}

#[test]
fn house_rules_hold() {
    let all = sources();
    let mut found = Vec::new();
    for s in &all {
        shape(s, &mut found);
        unfinished(s, &mut found);
        unsafe_rooms(s, &mut found);
        world(s, &mut found);
        layers(s, &mut found);
    }
    referenced(&all, &mut found);
    machine_paths(&mut found);

    let mut used = BTreeSet::new();
    found.retain(|f| {
        let excused = EXCEPTIONS.iter().position(|e| e.0 == f.rule && e.1 == f.path);
        used.extend(excused);
        excused.is_none()
    });
    for f in &found {
        println!("{}:{}: {}: {}", f.path, f.line, f.rule, f.what);
    }
    for (i, e) in EXCEPTIONS.iter().enumerate().filter(|(i, _)| !used.contains(i)) {
        println!("exception {i} ({}, {}) is no longer needed: take it out", e.0, e.1);
    }
    let stale = EXCEPTIONS.len() - used.len();
    assert!(found.is_empty() && stale == 0, "{} findings, {stale} stale", found.len());
}

/// FNV-1a over the names and bytes of `engine/src/format/*.rs`, in order of name.
fn format_hash() -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (path, text) in files(&[".rs"]) {
        if path.starts_with("engine/src/format/") {
            for byte in path.bytes().chain(text.bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    format!("{hash:016x}")
}

/// Whoever changes how bytes are laid out looks at the document that draws them, in one commit.
#[test]
fn format_is_locked() {
    const MARK: &str = "<!-- format-hash: ";
    let path = root().join("engine/FORMAT.md");
    let text = fs::read_to_string(&path).expect("engine/FORMAT.md draws the bytes on disk");
    let hash = format_hash();
    let line = format!("{MARK}{hash} -->");
    if std::env::var("SAPWOOD_FORMAT_LOCK").as_deref() == Ok("write") {
        let mut kept: Vec<&str> = text.lines().filter(|l| !l.starts_with(MARK)).collect();
        kept.push(&line);
        fs::write(&path, kept.join("\n") + "\n").unwrap();
        return;
    }
    assert!(
        text.lines().any(|l| l == line),
        "engine/src/format changed (hash {hash}): bring engine/FORMAT.md along, then \
         `just format-lock`"
    );
}

#[test]
fn imports_are_taken_apart() {
    let names = |c: &str| crate_imports(c).into_iter().map(|(_, n)| n).collect::<Vec<_>>();
    assert_eq!(names("use crate::a::B; x(crate::c::d())"), ["a", "c"]);
    assert_eq!(names("use crate::{a::{B, C}, d, E};"), ["a", "d", "E"]);
}

/// Nothing that this test looks for may slip through because a finder went blind.
#[test]
fn the_finders_see() {
    let text = "fn f() {\n    unsafe { todo!() };\n    std::fs::read(crate::engine::X);\n}\n";
    let path = "engine/src/lsn.rs".to_string();
    let s = Source { path, text: text.into(), code: lex::blank(text) };
    let mut found = Vec::new();
    for finder in [shape, unfinished, unsafe_rooms, world, layers] {
        finder(&s, &mut found);
    }
    let rules: Vec<_> = found.iter().map(|f| f.rule).collect();
    assert_eq!(rules, ["no module doc", "unfinished", "unsafe", "world", "layer"]);
}
