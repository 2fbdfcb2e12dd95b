//! `riftmesh-jepsen run | check | replay | list | campaign | report | mesh | mesh-trials`.
//!
//! Exit codes: 0 valid, 1 invalid, 2 unknown, 3 the harness itself failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use riftmesh_jepsen::campaign::{self, Campaign};
use riftmesh_jepsen::linear::Budget;
use riftmesh_jepsen::mesh::trials::{self, Ending, TrialPlan};
use riftmesh_jepsen::nemesis::{FAULTS, Fault};
use riftmesh_jepsen::net::{Isolation, room};
use riftmesh_jepsen::objects::{Keys, registers_are_linearizable};
use riftmesh_jepsen::plan::RunPlan;
use riftmesh_jepsen::run::{binary, judge_again, run};
use riftmesh_jepsen::site::SiteLayout;
use riftmesh_jepsen::verdict::{Finding, Validity, worst};
use riftmesh_jepsen::workload::Workload;
use riftmesh_jepsen::{reaper, report};

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
    /// Judge histories again: those of runs, or any of registers (EDN, or a text log of Jepsen)
    Check(CheckArgs),
    /// Do a finished run again, in a new folder beside it
    Replay {
        /// The run's folder
        folder: PathBuf,
        /// The binary under test [default: `riftmesh` beside this program]
        #[arg(long)]
        binary: Option<PathBuf>,
        #[arg(long, hide = true)]
        in_room: bool,
    },
    /// List workloads and faults
    List,
    /// Run after run, over all workloads and faults, for hours
    Campaign(CampaignArgs),
    /// Eight machines in network namespaces, one of them behind NAT: membership under cuts, loss, moves and ends
    Mesh {
        /// Where the nodes' files are kept, which must not be there yet
        #[arg(long)]
        folder: PathBuf,
        /// The binary under test [default: `riftmesh` beside this program]
        #[arg(long)]
        binary: Option<PathBuf>,
        #[arg(long, hide = true)]
        in_room: bool,
    },
    /// Members of a mesh of real nodes in namespaces end or pause, again and again; the figures as a line of JSON
    MeshTrials(MeshTrialsArgs),
    /// Draw the timeline and the charts of a run again
    Report {
        /// The run's folder
        folder: PathBuf,
    },
    /// Ends processes when the harness is gone; it starts this by itself
    #[command(name = reaper::COMMAND, hide = true)]
    Reap,
}

#[derive(Args)]
struct RunArgs {
    /// How nodes are kept apart; only namespaces have faults of networks and disks
    #[arg(long)]
    net: Isolation,
    /// What the clients do
    #[arg(long, value_delimiter = ',', default_value = "register")]
    workload: Vec<Workload>,
    /// Which faults, each once in every turn: names and groups, see `list`
    #[arg(long, default_value = "kill-leader,kill-follower,pause")]
    nemesis: String,
    /// Voters
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Workers, for the queue workload
    #[arg(long, default_value_t = 0)]
    workers: u16,
    /// Threads of clients for each workload
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// Seconds of faults
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Choices of clients and nemesis follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// First of the ports on loopback, one for each node
    #[arg(long, default_value_t = 17_700)]
    port: u16,
    /// What the cluster learns
    #[arg(long, default_value = "hex8_2p")]
    configuration: String,
    /// The binary under test [default: `riftmesh` beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where runs are kept, each in a folder of its own, and `latest` points to the newest
    #[arg(long, default_value = "jepsen-store")]
    store: PathBuf,
    #[arg(long, hide = true)]
    in_room: bool,
}

#[derive(Args)]
struct CheckArgs {
    /// Folders of runs, or histories
    #[arg(required = true)]
    histories: Vec<PathBuf>,
    /// Values of the histories are `[key value]`, one register for each key
    #[arg(long)]
    keyed: bool,
    /// Seconds spent on each register at most; past that its verdict is unknown
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Args)]
struct CampaignArgs {
    /// How long, in hours; the run that is on is finished
    #[arg(long)]
    hours: f64,
    /// How nodes are kept apart
    #[arg(long)]
    net: Isolation,
    /// Seconds of faults of each run
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Of the first run; each has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The binary under test [default: `riftmesh` beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where runs are kept
    #[arg(long, default_value = "jepsen-store")]
    store: PathBuf,
}

#[derive(Args)]
struct MeshTrialsArgs {
    /// How members end
    #[arg(long)]
    ending: Ending,
    /// Nodes, three of them voters
    #[arg(long, default_value_t = 36)]
    members: u8,
    /// How often a member ends
    #[arg(long, default_value_t = 50)]
    trials: usize,
    /// So many at the same moment
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// Threads that keep the processors busy meanwhile
    #[arg(long, default_value_t = 0)]
    busy_threads: usize,
    /// Where the nodes' files are kept, which must not be there yet
    #[arg(long)]
    folder: PathBuf,
    /// The binary under test [default: `riftmesh` beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    #[arg(long, hide = true)]
    in_room: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Cli::parse().command {
        Command::Run(args) => start(args),
        Command::Check(args) => check(&args),
        Command::Replay {
            folder,
            binary,
            in_room,
        } => replay(&folder, binary, in_room),
        Command::List => {
            list();
            Ok(Validity::Valid)
        }
        Command::Campaign(args) => campaign(args),
        Command::Mesh {
            folder,
            binary,
            in_room,
        } => mesh(&folder, binary, in_room),
        Command::MeshTrials(args) => mesh_trials(args),
        Command::Report { folder } => report::read_history(&folder)
            .and_then(|history| report::draw(&folder, &history))
            .map(|()| Validity::Valid),
        Command::Reap => reaper::reap(std::io::stdin().lock())
            .map(|()| Validity::Valid)
            .map_err(Into::into),
    };
    match outcome {
        Ok(validity) => validity.exit_code(),
        Err(error) => {
            eprintln!("harness error, no verdict: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn start(args: RunArgs) -> anyhow::Result<Validity> {
    let plan = RunPlan {
        layout: SiteLayout {
            voters: args.nodes,
            workers: args.workers,
            net: args.net,
            port: args.port,
        },
        time: Duration::from_secs(args.time),
        seed: args.seed,
        workloads: args.workload,
        clients: args.clients,
        faults: Fault::parse_list(&args.nemesis)?,
        configuration: args.configuration,
    };
    go(&plan, &binary(args.binary)?, &args.store, args.in_room)
}

fn replay(folder: &Path, named: Option<PathBuf>, in_room: bool) -> anyhow::Result<Validity> {
    let plan = RunPlan::read(folder)?;
    let folder = folder.canonicalize()?;
    let store = folder
        .parent()
        .context("the folder has no store around it")?;
    go(&plan, &binary(named)?, store, in_room)
}

/// Runs a plan, inside a room if its nodes are to live in namespaces.
fn go(plan: &RunPlan, binary: &Path, store: &Path, in_room: bool) -> anyhow::Result<Validity> {
    plan.check()?;
    if plan.layout.net == Isolation::Namespaces {
        if !in_room {
            match room::enter()? {}
        }
        room::furnish()?;
    }
    let store = std::path::absolute(store).context("--store")?;
    Ok(print(&run(plan, binary, &store)?))
}

/// Enters the room of a mesh, with a new folder for its nodes.
fn mesh_room(folder: &Path, in_room: bool) -> anyhow::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    if !in_room {
        match room::enter()? {}
    }
    room::furnish()?;
    std::fs::create_dir(&folder).with_context(|| format!("--folder {}", folder.display()))?;
    Ok(folder)
}

fn mesh_trials(args: MeshTrialsArgs) -> anyhow::Result<Validity> {
    let plan = TrialPlan {
        members: args.members,
        trials: args.trials,
        at_once: args.at_once,
        ending: args.ending,
        busy_threads: args.busy_threads,
    };
    plan.check()?;
    let binary = binary(args.binary)?;
    let folder = mesh_room(&args.folder, args.in_room)?;
    talk(&trials::run(&binary, &folder, plan)?);
    Ok(Validity::Valid)
}

fn mesh(folder: &Path, named: Option<PathBuf>, in_room: bool) -> anyhow::Result<Validity> {
    let binary = binary(named)?;
    let folder = mesh_room(folder, in_room)?;
    Ok(match riftmesh_jepsen::mesh::run(&binary, &folder, &talk) {
        Ok(()) => Validity::Valid,
        Err(error) => {
            talk(&format!("{error:#}"));
            Validity::Invalid
        }
    })
}

fn check(args: &CheckArgs) -> anyhow::Result<Validity> {
    let keys = match args.keyed {
        true => Keys::InValue,
        false => Keys::None,
    };
    let budget = Budget {
        time: Duration::from_secs(args.seconds),
        ..Budget::default()
    };
    let mut all = Vec::new();
    for path in &args.histories {
        if args.histories.len() > 1 {
            talk(&format!("{}:", path.display()));
        }
        let findings = match path.is_dir() {
            true => judge_again(path)?,
            false => {
                let history = report::read_history(path)?;
                vec![registers_are_linearizable(&history, keys, budget)]
            }
        };
        all.push(print(&findings));
    }
    if all.len() > 1 {
        let count = |validity| all.iter().filter(|of| **of == validity).count();
        talk(&format!(
            "{} valid, {} invalid, {} unknown",
            count(Validity::Valid),
            count(Validity::Invalid),
            count(Validity::Unknown)
        ));
    }
    Ok(all.into_iter().max().unwrap_or(Validity::Unknown))
}

fn campaign(args: CampaignArgs) -> anyhow::Result<Validity> {
    ensure!(
        args.hours > 0.0 && args.hours <= 1_000.0,
        "--hours takes more than 0, at most 1000"
    );
    let campaign = Campaign {
        program: std::env::current_exe()?,
        binary: binary(args.binary)?,
        store: std::path::absolute(&args.store).context("--store")?,
        net: args.net,
        time: Duration::from_secs(args.time),
        seed: args.seed,
        length: Duration::from_secs_f64(args.hours * 3_600.0),
    };
    campaign::run(&campaign)
}

fn list() {
    for workload in Workload::value_variants() {
        let what = workload.to_possible_value();
        let help = what.as_ref().and_then(|value| value.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        talk(&format!("workload {:14} {help}", workload.to_string()));
    }
    for (_, name, group, what) in FAULTS {
        talk(&format!("fault    {name:14} {group:8} {what}"));
    }
}

fn print(findings: &[Finding]) -> Validity {
    for finding in findings {
        talk(&finding.to_string());
    }
    let validity = worst(findings);
    talk(&validity.to_string());
    validity
}

#[expect(
    clippy::print_stdout,
    reason = "verdicts and lists are this program's data"
)]
fn talk(line: &str) {
    println!("{line}");
}
