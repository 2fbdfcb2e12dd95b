//! `riftmesh-jepsen run | check`. Exit codes: 0 valid, 1 invalid, 2 unknown, 3 the harness itself failed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use riftmesh_jepsen::nemesis::Fault;
use riftmesh_jepsen::run::{RunPlan, run};
use riftmesh_jepsen::verdict::{Finding, Validity, worst};
use riftmesh_jepsen::{checker, report};

/// Starts a cluster of the real binary, breaks it, and judges what its clients were told.
#[derive(Parser)]
#[command(
    after_help = "Exit codes: 0 valid, 1 invalid, 2 unknown (nothing proven), 3 the harness itself failed."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster under faults
    Run(RunArgs),
    /// Judge the history of a finished run again
    Check {
        /// The run's folder
        folder: PathBuf,
        /// The faults that were ordered
        #[arg(long, value_delimiter = ',', default_value = DEFAULT_FAULTS)]
        nemesis: Vec<Fault>,
    },
}

const DEFAULT_FAULTS: &str = "kill-leader,kill-follower,kill-worker,pause";

#[derive(Args)]
struct RunArgs {
    /// Voters
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Workers
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Seconds of faults
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Choices of clients and nemesis follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which faults, each once in every turn
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_FAULTS)]
    nemesis: Vec<Fault>,
    /// The binary under test [default: `riftmesh` beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The run's folder; new or empty
    #[arg(long, default_value = "jepsen-run")]
    out: PathBuf,
    /// First of the loopback ports, one for each node
    #[arg(long, default_value_t = 17_700)]
    port: u16,
    /// What the cluster learns
    #[arg(long, default_value = "hex8_2p")]
    configuration: String,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Cli::parse().command {
        Command::Run(args) => plan(args).and_then(|plan| run(&plan)),
        Command::Check { folder, nemesis } => {
            report::read_history(&folder).map(|history| checker::judge(&history, &nemesis))
        }
    };
    match outcome {
        Ok(findings) => print(&findings).exit_code(),
        Err(error) => {
            eprintln!("harness error, no verdict: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn plan(args: RunArgs) -> anyhow::Result<RunPlan> {
    let beside =
        || -> anyhow::Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name("riftmesh")) };
    let faults: Vec<_> = args.nemesis.iter().map(ToString::to_string).collect();
    let replay = format!(
        "riftmesh-jepsen run --nodes {} --workers {} --time {} --seed {} --nemesis {} --configuration {}",
        args.nodes,
        args.workers,
        args.time,
        args.seed,
        faults.join(","),
        args.configuration
    );
    Ok(RunPlan {
        binary: args.binary.map_or_else(beside, Ok)?,
        folder: std::path::absolute(&args.out).context("--out")?,
        voters: args.nodes,
        workers: args.workers,
        time: Duration::from_secs(args.time),
        seed: args.seed,
        faults: args.nemesis,
        port: args.port,
        configuration: args.configuration,
        replay,
    })
}

#[expect(clippy::print_stdout, reason = "the verdict is this program's data")]
fn print(findings: &[Finding]) -> Validity {
    for finding in findings {
        println!("{finding}");
    }
    let validity = worst(findings);
    println!("{validity}");
    validity
}
