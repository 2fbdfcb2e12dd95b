//! What has to pass before a change lands, short of `cargo test`, which `.ci/run` calls itself.

use std::path::Path;

use crate::{shell, tidy};

/// Runs every check in order of cost and stops at the first that fails.
///
/// # Errors
/// Names the check that failed, or the tool that is missing and how to install it.
pub fn run(root: &Path) -> anyhow::Result<()> {
    step("format");
    let setup = "install it with `rustup component add rustfmt`";
    shell::run(root, "cargo", &["fmt", "--all", "--check"], &[], setup)?;

    step("tidy");
    tidy::run(root)?;

    step("deny");
    deny(root)?;

    lint(root)
}

/// Clippy and the documentation, with every warning an error.
///
/// # Errors
/// Names the tool that is missing, or the check that failed.
pub fn lint(root: &Path) -> anyhow::Result<()> {
    step("clippy");
    let setup = "install it with `rustup component add clippy`";
    if !shell::answers("cargo", &["clippy", "--version"]) {
        anyhow::bail!("clippy is not installed: {setup}");
    }
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    shell::run(root, "cargo", &clippy, &[], setup)?;

    // Shares the metadata of the dependencies with clippy, so that only this workspace is compiled.
    step("docs");
    let docs = ["doc", "--locked", "--workspace", "--no-deps"];
    shell::run(root, "cargo", &docs, &[("RUSTDOCFLAGS", "-D warnings")], "")?;
    Ok(())
}

/// Licences, bans and duplicate sources, where `cargo-deny` is installed: it is the one tool of this list that does
/// not come with the toolchain, and a clean machine must be able to run the rest. Advisories need a download, so
/// they are a command of their own: `cargo deny check advisories`.
fn deny(root: &Path) -> anyhow::Result<()> {
    if !shell::answers("cargo", &["deny", "--version"]) {
        eprintln!("skipped: cargo-deny is not installed (`cargo install --locked cargo-deny`)");
        return Ok(());
    }
    let arguments = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    shell::run(root, "cargo", &arguments, &[], "")
}

fn step(name: &str) {
    eprintln!("\n== {name}");
}
