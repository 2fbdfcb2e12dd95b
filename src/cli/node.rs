//! `node run`: one node in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use riftmesh_base::{ConfigurationName, Seed};
use riftmesh_statemachine::roster::Role;

use super::Exit;
use crate::chores::settings::{LoopSettings, Preset};
use crate::node::NodeConfig;

/// The `node` family.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run a node until it is interrupted
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
}

const RUN_EXAMPLES: &str = "\
Three machines, by hand:
  riftmesh cluster create --out cluster.credential     once; copy the file to each machine
  riftmesh node run --dir data --name a --credential cluster.credential --listen 10.0.0.1:7700 \\
      --seeds 10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700 --bootstrap-expect 3 --slots 4
and the same on the other two with their own --name and --listen.
A machine that only works: --role worker with the same --seeds and --credential.";

/// Options of `node run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Data directory; made when missing. The node's identity lives in it
    #[arg(long)]
    dir: PathBuf,
    /// Name for people
    #[arg(long)]
    name: String,
    /// Where to listen for other nodes (QUIC, UDP); other nodes must be able to reach this address
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Where to answer people and programs (HTTP, TCP). Keep it on loopback: it asks for no password
    #[arg(long, default_value = "127.0.0.1:7700")]
    http: SocketAddr,
    /// What the node is for
    #[arg(long, value_enum, default_value_t = RoleArg::Voter)]
    role: RoleArg,
    /// QUIC addresses of nodes to meet, the same list on every node
    #[arg(long, value_delimiter = ',', required = true)]
    seeds: Vec<SocketAddr>,
    /// Form a new cluster when exactly this many empty voters have met; give the same number on each voter
    #[arg(long)]
    bootstrap_expect: Option<u16>,
    /// The cluster's credential, from `riftmesh cluster create`
    #[arg(long)]
    credential: PathBuf,
    /// Jobs this node runs at once (a slot is a core); 0 runs none. Default: the cores of a worker, 0 on a voter
    #[arg(long)]
    slots: Option<u16>,
    /// CUDA devices for jobs, such as `cuda:0`; none runs jobs on the CPU
    #[arg(long, value_delimiter = ',')]
    cuda: Vec<String>,
    /// Memory of the CUDA device in MiB that jobs may be promised
    #[arg(long, default_value_t = 0)]
    gpu_memory_mib: u32,
    /// Labels that jobs can ask for, such as `big-memory`
    #[arg(long = "label", value_delimiter = ',')]
    labels: Vec<String>,
    /// What the cluster learns; give the same on each voter
    #[arg(long, value_delimiter = ',', default_value = "hex8_2p", value_parser = super::parse_configuration)]
    configuration: Vec<ConfigurationName>,
    /// How it learns it
    #[arg(long, value_enum, default_value_t = Preset::Tiny)]
    preset: Preset,
    /// Seed of the run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave when stdin closes (used by `up`)
    #[arg(long, hide = true)]
    lifeline: bool,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Replicates the log and votes
    Voter,
    /// Runs jobs
    Worker,
}

/// Runs a `node` command.
pub fn run(command: NodeCommand) -> anyhow::Result<Exit> {
    let NodeCommand::Run(args) = command;
    let lifeline = args.lifeline;
    crate::node::run(args.check()?, lifeline)?;
    Ok(Exit::Ok)
}

impl RunArgs {
    fn check(self) -> anyhow::Result<NodeConfig> {
        let role = match self.role {
            RoleArg::Voter => Role::Voter,
            RoleArg::Worker => Role::Worker,
        };
        let name_max = riftmesh_base::limits::NODE_NAME_BYTES_MAX;
        anyhow::ensure!(
            (1..=name_max).contains(&self.name.len()),
            "--name takes 1 to {name_max} bytes"
        );
        anyhow::ensure!(
            role == Role::Voter || self.bootstrap_expect.is_none(),
            "--bootstrap-expect is for voters: a worker joins the cluster that its seeds form"
        );
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u16);
        let slots = self
            .slots
            .unwrap_or(if role == Role::Worker { cores } else { 0 });
        let loops = self
            .configuration
            .into_iter()
            .map(|configuration| LoopSettings::preset(self.preset, configuration, Seed(self.seed)))
            .collect();
        Ok(NodeConfig {
            dir: self.dir,
            name: self.name,
            listen: self.listen,
            http: self.http,
            role,
            seeds: self.seeds,
            bootstrap_expect: self.bootstrap_expect,
            credential: self.credential,
            slots,
            cuda: self.cuda,
            gpu_memory_mib: self.gpu_memory_mib,
            labels: self.labels.into_iter().collect(),
            loops,
        })
    }
}
