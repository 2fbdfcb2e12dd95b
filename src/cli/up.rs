//! `up`: a whole cluster on this machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use riftmesh_base::ConfigurationName;

use super::Exit;
use crate::chores::settings::Preset;
pub(super) use crate::duration::parse_duration;
use crate::up::{Until, UpOptions};

/// Options of `up`. What is not given comes from the directory when it has been used before, and else from the
/// defaults.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  riftmesh up                                  until Ctrl-C; the same command resumes later
  riftmesh up --for 15m                        a quarter of an hour, then a report
  riftmesh up --once                           until the first verdict on a trained network
  riftmesh up --configuration square8_2p --dir ./square8 --port 7800
Ports --port, --port + 1, ... are used, one per node, both UDP (between nodes) and TCP (HTTP), on loopback.")]
pub struct UpArgs {
    /// Nodes that vote: 1, 3 or 5 [default: 3]
    #[arg(long)]
    voters: Option<u16>,
    /// Nodes that run jobs [default: 1]
    #[arg(long)]
    workers: Option<u16>,
    /// Jobs each worker runs at once [default: the machine's cores, shared between the workers]
    #[arg(long)]
    slots: Option<u16>,
    /// What to learn: a board and a player count [default: hex8_2p]
    #[arg(long, value_parser = super::parse_configuration)]
    configuration: Option<ConfigurationName>,
    /// How to learn it [default: tiny]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Everything the cluster keeps; made when missing, resumed when not
    #[arg(long, default_value = "./riftmesh-data")]
    dir: PathBuf,
    /// First of the loopback ports [default: 7700]
    #[arg(long)]
    port: Option<u16>,
    /// Seed of the run [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    /// Leave after the first verdict on a trained network
    #[arg(long, conflicts_with = "duration")]
    once: bool,
    /// Leave after this long with a report, such as `90s`, `15m`, `2h`
    #[arg(long = "for", id = "duration", value_parser = parse_duration)]
    duration: Option<Duration>,
}

/// Runs `up`.
pub fn run(args: UpArgs) -> anyhow::Result<Exit> {
    let until = match (args.once, args.duration) {
        (true, _) => Until::FirstVerdict,
        (false, Some(duration)) => Until::Elapsed(duration),
        (false, None) => Until::Interrupted,
    };
    let options = UpOptions {
        dir: args.dir,
        voters: args.voters,
        workers: args.workers,
        slots: args.slots,
        configuration: args.configuration,
        preset: args.preset,
        port: args.port,
        seed: args.seed,
    };
    Ok(if crate::up::run(&options, until)? {
        Exit::Ok
    } else {
        Exit::Failed
    })
}
