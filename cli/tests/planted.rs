//! The program as it is built for everyone has no bug planted, and knows of none.
//!
//! Not here: the bugs (`engine/src/planted.rs`), who catches them (`tests/PLANTED.md`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

/// With the cfg the name of the variable and those of the bugs are in the program: they would be
/// found. Without, they are not.
#[test]
fn no_build_has_a_planted_bug_unless_it_is_told_so() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_sapwood")).unwrap();
    for word in ["SAPWOOD_PLANTED", "AckBeforeDurable"] {
        let found = memchr::memmem::find(&program, word.as_bytes()).is_some();
        assert_eq!(found, cfg!(sapwood_planted), "{word:?} in the program");
    }
}
