//! The simulation of voters, one process per seed.
//!
//! Without arguments it is a test program: so many seeds, each run twice with equal traces, the bridge partition, and a
//! follower that comes back. `run` replays one seed, `soak` runs as many as fit the time. Everything random comes from
//! the seed, the process's own entropy included, so a seed that failed fails again.
#![expect(
    clippy::print_stdout,
    reason = "a test program reports to its runner on standard output"
)]

mod entropy;
mod hunt;
mod many;
mod one;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use riftmesh_raft::mutants::Mutant;
use riftmesh_tests::scenarios::Scenario;

use crate::many::{Job, Soak, Summary};

/// Seeds of the everyday run.
const SEEDS: u64 = 20;
/// Seeds of the bridge partition.
const BRIDGES: u64 = 40;
/// Seeds of the follower that comes back.
const COMEBACKS: u64 = 20;
/// How to run one seed again.
const REPLAY: &str = "cargo test -p riftmesh-tests --test simulation --";

/// Voters under simulated faults.
#[derive(Parser)]
#[command(name = "simulation")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed and prints what came of it.
    Run(Run),
    /// Runs the bridge partition of one seed.
    Bridge(Run),
    /// Cuts a follower off and lets it come back, with one seed.
    Comeback(Run),
    /// Runs many seeds, each in a process of its own.
    Soak(SoakArguments),
    /// Breaks each rule in turn and wants to see it noticed; needs the feature `mutants`.
    Mutants,
}

#[derive(Args)]
struct Run {
    /// Which.
    #[arg(long)]
    seed: u64,
    /// Also prints everything that happened.
    #[arg(long)]
    trace: bool,
    /// Breaks a rule; needs the feature `mutants`.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
}

#[derive(Args)]
struct SoakArguments {
    /// Which, as `A..B`, B excluded.
    #[arg(long, value_parser = seeds)]
    seeds: (u64, u64),
    /// How long at most: `90s`, `30m`, `1h`.
    #[arg(long = "for", default_value = "1h", value_parser = length)]
    time: Duration,
    /// Processes at once; all cores unless told.
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs each seed twice and compares the traces.
    #[arg(long)]
    twice: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let bad = || format!("`{text}` is no range of seeds; write it as 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(bad)?;
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from < to => Ok((from, to)),
        _ => Err(bad()),
    }
}

fn mutant(text: &str) -> Result<Mutant, String> {
    if cfg!(not(feature = "mutants")) {
        return Err("this program was built without the feature `mutants`".to_owned());
    }
    let mut all = Mutant::ALL.into_iter();
    all.find(|mutant| mutant.as_str() == text).ok_or_else(|| {
        let names = Mutant::ALL.map(Mutant::as_str).join(", ");
        format!("`{text}` is none of {names}")
    })
}

/// Breaks a rule in this process.
#[cfg(feature = "mutants")]
fn plant(mutant: Option<Mutant>) {
    mutant.into_iter().for_each(riftmesh_raft::mutants::plant);
}

/// The parser lets no mutant through.
#[cfg(not(feature = "mutants"))]
fn plant(_: Option<Mutant>) {}

fn length(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no length of time; write 90s, 30m or 1h");
    let at = text.len().checked_sub(1).ok_or_else(bad)?;
    let (number, unit) = text.split_at_checked(at).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let commands = [
        "run", "bridge", "comeback", "soak", "mutants", "help", "--help",
    ];
    if !given
        .first()
        .is_some_and(|first| commands.contains(&first.as_str()))
    {
        return test(&given);
    }
    let outcome = match Arguments::parse().command {
        Command::Run(run) => {
            plant(run.mutant);
            one::run(run.seed, run.trace)
        }
        Command::Bridge(run) => {
            plant(run.mutant);
            one::play(Scenario::Bridge, run.seed, run.trace)
        }
        Command::Comeback(run) => {
            plant(run.mutant);
            one::play(Scenario::Comeback, run.seed, run.trace)
        }
        Command::Mutants => hunt::all(),
        Command::Soak(soak) => many::soak(&Soak {
            job: Job::Run,
            seeds: soak.seeds,
            time: soak.time,
            jobs: soak.jobs,
            twice: soak.twice,
            mutant: None,
            first: false,
        })
        .print(),
    };
    ExitCode::from(u8::from(!outcome))
}

/// What `cargo test` runs. Arguments are those of the standard test runner; a filter that names nothing of this
/// program skips it.
fn test(given: &[String]) -> ExitCode {
    let filters: Vec<&String> = given.iter().filter(|text| !text.starts_with('-')).collect();
    let wanted = filters.is_empty()
        || filters
            .iter()
            .any(|filter| "simulation".contains(filter.as_str()));
    if !wanted || given.iter().any(|text| text == "--list") {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out");
        return ExitCode::SUCCESS;
    }
    let soak = |job, seeds| {
        many::soak(&Soak {
            job,
            seeds: (0, seeds),
            time: Duration::from_secs(600),
            jobs: None,
            twice: true,
            mutant: None,
            first: false,
        })
    };
    let summaries = [
        soak(Job::Run, SEEDS),
        soak(Job::Bridge, BRIDGES),
        soak(Job::Comeback, COMEBACKS),
    ];
    let passed = summaries.iter().filter(|summary| summary.print()).count();
    let failed = summaries.len() - passed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    ExitCode::from(u8::from(failed > 0))
}

impl Summary {
    /// Prints it; whether all is well.
    fn print(&self) -> bool {
        println!("{self}");
        self.is_good()
    }
}
