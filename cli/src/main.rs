//! The `sapwood` command line.
fn main() {}
