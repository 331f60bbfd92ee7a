//! Tells the program which compiler it was built with.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let output = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    // `rustc 1.95.0 (hash date)`
    let version = String::from_utf8(output.stdout).expect("the compiler writes text");
    println!("cargo::rustc-env=WAL_RUSTC={}", version.split(' ').nth(1).unwrap_or("unknown").trim());
    println!("cargo::rerun-if-changed=build.rs");
}
