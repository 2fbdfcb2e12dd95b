//! `node run`: one node in the foreground. What can be done about nodes is in `nodes.rs`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use riftmesh_base::limits::{NODE_NAME_BYTES_MAX, ZONE_BYTES_MAX};
use riftmesh_base::{ConfigurationName, Role, Seed};
use riftmesh_transport::JoinToken;
use zeroize::Zeroizing;

use super::Exit;
use super::nodes::{self, DRAIN_EXAMPLES, DrainArgs, ListArgs, NamedNode, RetireArgs};
use crate::chores::settings::{LoopSettings, Preset};
use crate::node::{JOIN_VARIABLE, NodeConfig};

/// The `node` family.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run a node until it is interrupted
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// The nodes of the cluster, and which are being drained
    List(ListArgs),
    /// Everything about one node
    #[command(after_help = "\
Example:
  riftmesh node show gpu-1 --json
Exit codes: 0 shown, 1 there is no such node, 3 no node answered")]
    Show(NamedNode),
    /// Give a node no new work; what it holds it finishes, or gives back in time
    Drain(DrainArgs),
    /// Give a drained node work again
    #[command(after_help = DRAIN_EXAMPLES)]
    Undrain(NamedNode),
    /// Take a node out of the cluster for good: drained, trusted no more, forgotten
    Retire(RetireArgs),
}

const RUN_EXAMPLES: &str = "\
Three machines, by hand:
  riftmesh cluster create --out cluster.credential     once; copy the file to each machine
  riftmesh node run --dir data --name a --credential cluster.credential --listen 10.0.0.1:7700 \\
      --seeds 10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700 --bootstrap-expect 3 --slots 4
and the same on the other two with their own --name and --listen.
A machine that only works, which never sees the credential:
  riftmesh token create                                on a voter; prints a token
  riftmesh node run --join TOKEN --seeds 10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700
Once it is in, the same command without --join starts it again. Behind NAT it also wants --dial-out.
The same from a file, of which --slots 2 overrides one line:
  riftmesh node run --config /etc/riftmesh/node.toml --slots 2";

/// Options of `node run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A file (TOML) with options that are not given here, under the names they have here: `listen = "10.0.0.1:7700"`,
    /// `seeds = ["10.0.0.1:7700"]`, `dial-out = true`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; made when missing. The node's identity lives in it
    #[arg(long, default_value = "riftmesh-node")]
    dir: PathBuf,
    /// Name for people. Default: the machine's name
    #[arg(long)]
    name: Option<String>,
    /// Where to listen for other nodes (QUIC, UDP); other nodes must be able to reach this address. Default: port 7700 of
    /// the address from which this machine reaches the first seed
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Nobody can dial this machine (it is behind NAT or a firewall): it dials out, and others reach it through a node that
    /// relays for it. Only for workers
    #[arg(long)]
    dial_out: bool,
    /// Where to answer people and programs (HTTP, TCP). Keep it on loopback: it asks for no password
    #[arg(long, default_value = "127.0.0.1:7700")]
    http: SocketAddr,
    /// What the node is for. Default: voter with --credential, worker without
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    /// QUIC addresses of nodes to meet, the same list on every node
    #[arg(long, value_delimiter = ',', required_unless_present = "config")]
    seeds: Vec<SocketAddr>,
    /// Form a new cluster when exactly this many empty voters have met; give the same number on each voter
    #[arg(long)]
    bootstrap_expect: Option<u16>,
    /// The cluster's credential, from `riftmesh cluster create`; for machines that are trusted with it, voters above all
    #[arg(long, conflicts_with = "join")]
    credential: Option<PathBuf>,
    /// A join token from `riftmesh token create`, or @FILE with one in it; needed until the node has joined
    #[arg(long, env = JOIN_VARIABLE, hide_env_values = true)]
    join: Option<Unprinted>,
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
    /// Where the machine stands, such as `rack-3` or `eu-west`; shown by `members`, which can choose by it
    #[arg(long, value_parser = parse_zone)]
    zone: Option<String>,
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

/// A token, or where it is, as it was typed: kept out of whatever is printed.
#[derive(Clone)]
struct Unprinted(String);

impl fmt::Debug for Unprinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl From<&str> for Unprinted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Unprinted {
    fn token(&self) -> anyhow::Result<JoinToken> {
        let Some(path) = self.0.strip_prefix('@') else {
            return self.0.parse().context("--join");
        };
        let file = File::open(path).with_context(|| format!("--join: cannot open {path}"))?;
        let mut text = Zeroizing::new(String::new());
        file.take(TOKEN_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .with_context(|| format!("--join: cannot read {path}"))?;
        text.parse().with_context(|| format!("--join: {path}"))
    }
}

/// Longest file looked at for a token.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;
/// The port of nodes that were given none.
const PORT: u16 = 7700;

/// A zone's name as it is typed.
fn parse_zone(text: &str) -> Result<String, String> {
    let fits = (1..=ZONE_BYTES_MAX).contains(&text.len());
    let plain = |c: char| c.is_alphanumeric() || "-_./".contains(c);
    if fits && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a zone has 1 to {ZONE_BYTES_MAX} bytes: letters, digits, `-`, `_`, `.` and `/`"
    ))
}

/// The address from which this machine reaches `seed`, as its routes say. Nothing is sent.
fn towards(seed: SocketAddr) -> anyhow::Result<SocketAddr> {
    let any: SocketAddr = match seed {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let address = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(seed)?;
        socket.local_addr()
    });
    let address = address.with_context(|| format!("no way to {seed}: give --listen"))?;
    Ok(SocketAddr::new(address.ip(), PORT))
}

/// Runs a `node` command.
pub fn run(command: NodeCommand) -> anyhow::Result<Exit> {
    match command {
        NodeCommand::Run(args) => {
            let lifeline = args.lifeline;
            crate::node::run(args.check()?, lifeline)?;
            Ok(Exit::Ok)
        }
        NodeCommand::List(args) => nodes::list(&args),
        NodeCommand::Show(args) => nodes::show(&args),
        NodeCommand::Drain(args) => nodes::drain(&args),
        NodeCommand::Undrain(args) => nodes::undrain(&args),
        NodeCommand::Retire(args) => nodes::retire(&args),
    }
}

impl RunArgs {
    fn no_seeds(&self) -> String {
        let file = self.config.as_ref().map(|file| file.display().to_string());
        let file = file.unwrap_or_else(|| "a file that --config names".to_owned());
        format!("nobody to meet: give --seeds, or `seeds = [\"10.0.0.1:7700\"]` in {file}")
    }

    pub(super) fn check(self) -> anyhow::Result<NodeConfig> {
        let no_seeds = self.no_seeds();
        let role = match (self.role, &self.credential) {
            (Some(RoleArg::Voter), _) | (None, Some(_)) => Role::Voter,
            (Some(RoleArg::Worker), _) | (None, None) => Role::Worker,
        };
        let name = self.name.or_else(|| sysinfo::System::host_name().ok());
        let name = name.context("this machine has no name: give --name")?;
        anyhow::ensure!(
            (1..=NODE_NAME_BYTES_MAX).contains(&name.len()),
            "--name takes 1 to {NODE_NAME_BYTES_MAX} bytes"
        );
        let listen = match (self.listen, self.seeds.first()) {
            (Some(listen), _) => listen,
            (None, Some(seed)) => towards(*seed)?,
            (None, None) => anyhow::bail!(no_seeds),
        };
        anyhow::ensure!(!self.seeds.is_empty(), no_seeds);
        let join = self.join.map(|join| join.token()).transpose()?;
        anyhow::ensure!(
            role == Role::Voter || self.bootstrap_expect.is_none(),
            "--bootstrap-expect is for voters: give --credential too; a worker joins the cluster that its seeds form"
        );
        anyhow::ensure!(
            role == Role::Worker || !self.dial_out,
            "--dial-out is for workers: the other voters must be able to dial a voter"
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
            name,
            listen,
            dial_out: self.dial_out,
            http: self.http,
            role,
            seeds: self.seeds,
            bootstrap_expect: self.bootstrap_expect,
            credential: self.credential,
            join,
            slots,
            cuda: self.cuda,
            gpu_memory_mib: self.gpu_memory_mib,
            labels: self.labels.into_iter().collect(),
            zone: self.zone,
            loops,
        })
    }
}
