//! Long runs by hand.

use std::path::Path;

use clap::{Args, ValueEnum};

use crate::shell;

/// What runs for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Voters under simulated faults, one process per seed.
    Sim,
    /// Real voters, all killed at once under load, round after round.
    KillAll,
}

/// A long run.
#[derive(Args)]
pub struct SoakArguments {
    /// What.
    #[arg(value_enum)]
    subject: Subject,
    /// Which seeds of `sim`, as `A..B`, B excluded.
    #[arg(long, default_value = "0..1000")]
    seeds: String,
    /// Rounds of `kill-all`.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// How long at most: `90s`, `30m`, `1h`.
    #[arg(long = "for", default_value = "1h")]
    time: String,
    /// Processes at once; all cores unless told.
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs each seed twice and compares the traces.
    #[arg(long)]
    twice: bool,
}

/// Runs it, with lines of progress, and ends with a summary.
///
/// # Errors
/// When something was found, or the program does not build.
pub fn run(root: &Path, arguments: &SoakArguments) -> anyhow::Result<()> {
    match arguments.subject {
        Subject::Sim => simulate(root, arguments),
        Subject::KillAll => {
            let rounds = arguments.rounds.to_string();
            let program = [
                "test",
                "--locked",
                "-p",
                "riftmesh-raft",
                "--test",
                "kill_all",
            ];
            let line = [&program[..], &["--", "--rounds", &rounds]].concat();
            shell::run(root, "cargo", &line, &[], "")
        }
    }
}

fn simulate(root: &Path, arguments: &SoakArguments) -> anyhow::Result<()> {
    let jobs = arguments.jobs.map(|jobs| jobs.to_string());
    let mut line = vec![
        "test",
        "--locked",
        "-p",
        "riftmesh-tests",
        "--test",
        "simulation",
        "--",
        "soak",
    ];
    line.extend(["--seeds", &arguments.seeds, "--for", &arguments.time]);
    if let Some(jobs) = &jobs {
        line.extend(["--jobs", jobs]);
    }
    if arguments.twice {
        line.push("--twice");
    }
    shell::run(root, "cargo", &line, &[], "")
}

/// Breaks rules on purpose, one by one: those of consensus under the feature `mutants`, those of the state machine in
/// the log world, which carries them always.
///
/// # Errors
/// When one goes unnoticed, or the program does not build.
pub fn mutants(root: &Path) -> anyhow::Result<()> {
    let package = ["test", "--locked", "-p", "riftmesh-tests"];
    let log_world = ["--lib", "planted_bugs_are_found"];
    shell::run(root, "cargo", &[&package[..], &log_world].concat(), &[], "")?;
    let consensus = [
        "--features",
        "mutants",
        "--test",
        "simulation",
        "--",
        "mutants",
    ];
    shell::run(root, "cargo", &[&package[..], &consensus].concat(), &[], "")
}
