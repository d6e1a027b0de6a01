//! The test world: models, checkers and the suites that cross crates.
