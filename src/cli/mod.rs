//! The command line: one file per family. Data goes to stdout, talk to stderr; human text and `--json` are made from
//! the same values.

mod ask;
mod cert;
mod cluster;
mod config;
mod data;
mod events;
mod exit;
mod history;
mod inspect;
mod inspect_archive;
mod inspect_model;
mod job;
mod local;
mod lock;
mod members;
mod mesh;
mod model;
mod model_files;
mod node;
mod node_file;
mod nodes;
mod order;
mod output;
mod play;
mod query;
mod queue;
mod raft;
mod records;
mod report;
mod rules;
mod snapshot;
mod submit;
mod token;
mod up;

use clap::{Args, CommandFactory, Parser, Subcommand};
use riftmesh_base::ConfigurationName;
use riftmesh_rules::{Configuration, UnknownConfiguration};

pub(crate) use ask::Asker;
pub use exit::Exit;
pub(crate) use output::{data, talk};
pub(crate) use query::{leader_line, rating};

/// A self-play training cluster for RingRift in one binary.
#[derive(Debug, Parser)]
#[command(name = "riftmesh", version, about, after_help = after_help(), disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole cluster on this machine and watch it learn
    Up(up::UpArgs),
    /// Run a node; list, drain and retire nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Make what the machines of a cluster share
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Everything at a glance
    Status(AskArgs),
    /// Who leads, and how sure that is
    Leader(AskArgs),
    /// The voters one by one, and how many may fail
    Quorum(AskArgs),
    /// The nodes of the mesh, once or as they change
    Members(members::MembersArgs),
    /// The mesh as one node sees it
    #[command(subcommand)]
    Mesh(mesh::MeshCommand),
    /// Look into the queue, enter jobs, stop them, try them again
    #[command(subcommand)]
    Job(job::JobCommand),
    /// The voters' log: who belongs to it, who leads, snapshots
    #[command(subcommand)]
    Raft(raft::RaftCommand),
    /// The queue as a whole
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Look into the model registry, decide about models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Small settings that every node sees, with their history
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Locks with fencing tokens
    #[command(subcommand)]
    Lock(lock::LockCommand),
    /// A cluster's state as a file: save, inspect, restore
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Give a lost quorum up: one survivor goes on alone
    Recover(snapshot::RecoverArgs),
    /// What happens to the cluster's state, as it happens
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Look into the directory of a stopped node
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Tokens with which machines join
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Certificates, and who is trusted no more
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Check the rules, count moves, draw positions
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Play a game against the computer
    Play(play::PlayArgs),
    /// Play games of a model against itself, without a cluster
    Selfplay(local::selfplay::SelfplayArgs),
    /// Train a network on recorded games, without a cluster
    Train(local::train::TrainArgs),
    /// Two players against each other, without a cluster
    Match(local::matches::MatchArgs),
    /// Everybody against everybody, with ratings, without a cluster
    Tournament(local::matches::TournamentArgs),
    /// Make a network for another number of players out of a trained one
    Transfer(local::transfer::TransferArgs),
    /// Look into recorded games, export them for Python
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Draw what a folder of games, networks and matches has to say
    Report(report::ReportArgs),
}

/// Whom to ask, and how to print the answer.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// HTTP addresses of nodes, tried in order; any node can answer
    #[arg(
        long,
        env = "RIFTMESH_ADDR",
        value_delimiter = ',',
        default_value = "127.0.0.1:7700,127.0.0.1:7701,127.0.0.1:7702,127.0.0.1:7703"
    )]
    addr: Vec<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// A configuration that this build can play.
fn parse_configuration(text: &str) -> Result<ConfigurationName, UnknownConfiguration> {
    text.parse::<Configuration>().map(ConfigurationName::from)
}

fn after_help() -> String {
    format!(
        "Examples:\n  riftmesh up                       three voters, one worker, learning hex8 with 2 players\n  \
         riftmesh up --for 15m             the same for a quarter of an hour, with a report\n  \
         riftmesh status                   from another terminal\n  \
         riftmesh leader --json\n  riftmesh job list\n  \
         riftmesh play hex8_2p             you against the heuristic player\n  \
         riftmesh selfplay hex8_2p --out runs/games\n  riftmesh train runs/games --out runs/net\n  \
         riftmesh match hex8_2p runs/net heuristic\n  riftmesh report runs\n\n{}",
        exit::EXIT_CODES_HELP
    )
}

/// Parses the process's arguments and runs the command.
pub fn main() -> Exit {
    let typed = std::env::args_os().collect();
    let complete = match node_file::complete(Cli::command(), typed) {
        Ok(complete) => complete,
        Err(error) => {
            output::talk(&format!("error: {error:#}"));
            return Exit::Usage;
        }
    };
    let cli = match Cli::try_parse_from(complete) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout; a closed pipe is nobody's concern here.
            let wrong = error.use_stderr();
            return if error.print().is_ok() && !wrong {
                Exit::Ok
            } else {
                Exit::Usage
            };
        }
    };
    match run(cli.command) {
        Ok(exit) => exit,
        Err(error) => {
            output::talk(&format!("error: {error:#}"));
            Exit::Failed
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Up(args) => up::run(args),
        Command::Node(command) => node::run(command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Status(args) => query::status(&args),
        Command::Leader(args) => query::leader(&args),
        Command::Quorum(args) => query::quorum(&args),
        Command::Members(args) => members::run(&args),
        Command::Mesh(command) => mesh::run(&command),
        Command::Job(command) => job::run(command),
        Command::Raft(command) => raft::run(&command),
        Command::Queue(command) => queue::run(&command),
        Command::Model(command) => model::run(&command),
        Command::Config(command) => config::run(command),
        Command::Lock(command) => lock::run(command),
        Command::Snapshot(command) => snapshot::run(&command),
        Command::Recover(args) => snapshot::recover(&args),
        Command::Events(command) => events::run(&command),
        Command::Inspect(command) => inspect::run(&command),
        Command::Token(command) => token::run(command),
        Command::Cert(command) => cert::run(command),
        Command::Rules(command) => rules::run(&command),
        Command::Play(args) => play::run(&args),
        Command::Selfplay(args) => local::selfplay::run(&args),
        Command::Train(args) => local::train::run(&args),
        Command::Match(args) => local::matches::run_match(&args),
        Command::Tournament(args) => local::matches::run_tournament(&args),
        Command::Transfer(args) => local::transfer::run(&args),
        Command::Data(command) => data::run(&command),
        Command::Report(args) => report::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::Cli;

    fn leaves(command: &Command, path: &str) -> Vec<(String, Command)> {
        let path = format!("{path} {}", command.get_name());
        let mut below = command.get_subcommands().peekable();
        if below.peek().is_none() {
            return vec![(path, command.clone())];
        }
        below.flat_map(|one| leaves(one, &path)).collect()
    }

    /// Who asks about nodes and trust is shown how: an example, and JSON for programs, in every command.
    #[test]
    fn commands_about_nodes_have_examples() {
        let root = Cli::command();
        for family in ["members", "mesh", "node", "token", "cert"] {
            for (path, command) in leaves(root.find_subcommand(family).unwrap(), "riftmesh") {
                let runs = path == "riftmesh node run";
                let shown = command.get_after_help().map(ToString::to_string);
                let shown = shown.unwrap_or_default();
                assert!(runs || shown.contains("Example"), "{path}: {shown}");
                let json = command.get_arguments().any(|one| one.get_id() == "json");
                assert!(runs || json, "{path}");
            }
        }
    }

    /// clap checks the whole tree of commands: clashing names, bad defaults, missing values.
    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The help of every command, so that no change of it goes unseen. `INSTA_UPDATE=always` writes it anew.
    #[test]
    fn the_help_of_every_command() {
        // As wide everywhere: it is wrapped for the terminal at hand otherwise.
        let mut root = Cli::command().term_width(100);
        root.build();
        insta::assert_snapshot!("help", root.render_long_help().to_string());
        for family in root.get_subcommands_mut() {
            let name = format!("help_{}", family.get_name());
            let mut help = family.render_long_help().to_string();
            let visible = family
                .get_subcommands_mut()
                .filter(|known| !known.is_hide_set());
            for command in visible {
                help.push_str(&format!("\n--- {}\n\n", command.get_name()));
                help.push_str(&command.render_long_help().to_string());
            }
            insta::assert_snapshot!(name, help);
        }
    }
}
