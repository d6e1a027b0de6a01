//! Turns the seams of the engine (engine/src/sync.rs) into those of the models, here alone.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(sapwood_models)");
    println!("cargo:rustc-check-cfg=cfg(sapwood_planted)");
    println!("cargo:rustc-cfg=sapwood_models");
}
