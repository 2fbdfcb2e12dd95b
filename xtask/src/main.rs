//! Repository chores, in the product's language: `cargo xtask ci | lint | tidy | bench | netns | plots | soak | mutants`.
//!
//! None of them edits the sources; `bench` appends to `bench/history.ndjson`, `plots` draws in `docs/mesh`.

mod bench;
mod ci;
mod netns;
mod plots;
mod shell;
mod soak;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Repository chores of riftmesh.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// What has to pass before a change lands, short of the tests: format, tidy, deny, lint.
    Ci,
    /// Clippy and the documentation, with every warning an error.
    Lint,
    /// The rules of this repository that no other tool knows: crate graph, file lengths, banned names, links.
    Tidy,
    /// Runs the benchmark programs and appends their figures to `bench/history.ndjson`.
    Bench(bench::BenchArguments),
    /// Nodes in network namespaces, on addresses of their own: NAT, cuts, loss, moves, and the README's walkthrough. Needs root.
    Netns(netns::NetnsArguments),
    /// Draws the mesh's newest figures for `docs/mesh.md`.
    Plots,
    /// Runs seeds of the simulation, or rounds of killing all voters, for a long time.
    Soak(soak::SoakArguments),
    /// Breaks rules on purpose, one by one, and wants to see each noticed.
    Mutants,
}

fn main() -> ExitCode {
    let root = repository_root();
    let outcome = match Arguments::parse().chore {
        Chore::Ci => ci::run(&root),
        Chore::Lint => ci::lint(&root),
        Chore::Tidy => tidy::run(&root),
        Chore::Bench(arguments) => bench::run(&root, &arguments),
        Chore::Netns(arguments) => netns::run(&root, &arguments),
        Chore::Plots => plots::run(&root),
        Chore::Soak(arguments) => soak::run(&root, &arguments),
        Chore::Mutants => soak::mutants(&root),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder above this crate's: where cargo runs it from, and not where it was compiled, which may be another checkout
/// that shares the target directory.
fn repository_root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().unwrap_or(Path::new(".")).to_path_buf()
}
