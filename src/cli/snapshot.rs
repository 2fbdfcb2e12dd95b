//! `snapshot save|inspect|restore` and `recover`: a cluster's state outside of it, and beginning anew from one node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use rand::RngExt;
use riftmesh_base::{BlobHash, LogIndex, NodeId, Term};
use riftmesh_raft::recovery::{self, Holdings};
use riftmesh_raft::saved::{FILE_BYTES_MAX, SavedFile, SavedOrigin};
use riftmesh_raft::{RaftStore, inspect};
use riftmesh_statemachine::query::StateSummary;
use riftmesh_storage::disk::HostDisk;
use riftmesh_storage::inspect::StoppedNode;
use riftmesh_storage::{DataDir, durable};
use serde::Serialize;

use super::ask::Asker;
use super::inspect::{megabytes, print_standing};
use super::order::failed;
use super::output::{data, json, talk};
use super::{AskArgs, Exit};

/// The `snapshot` family.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save the state of a running voter in a file
    #[command(after_help = "\
Example:
  riftmesh snapshot save backup.snapshot
It makes a snapshot first, so everything acknowledged before is in it if the voter that answers is up to date.
Exit codes: 0 saved, 1 the file exists or the node has no state, 3 no node answered")]
    Save {
        /// Where to; an existing file is not overwritten
        file: PathBuf,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// What a saved snapshot holds
    #[command(after_help = "\
Example:
  riftmesh snapshot inspect backup.snapshot
Exit codes: 0 it is whole, 1 it is not")]
    Inspect {
        /// A saved snapshot
        file: PathBuf,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an empty directory the only voter of a cluster with a saved state
    #[command(after_help = "\
Example, with every voter lost and a backup at hand:
  riftmesh snapshot restore backup.snapshot --dir data --listen 10.0.0.1:7700
  riftmesh node run --dir data --name a --credential cluster.credential --listen 10.0.0.1:7700 --seeds 10.0.0.1:7700
  riftmesh raft add-voter b        once other nodes run on empty directories
The cluster keeps its credential. Its epoch is a new one: nodes of the old one are refused.
Exit codes: 0 restored, 1 refused, and nothing was changed")]
    Restore {
        /// A saved snapshot
        file: PathBuf,
        /// Data directory of the new node: empty, or missing
        #[arg(long)]
        dir: PathBuf,
        /// The address other nodes will reach it at (its `--listen`)
        #[arg(long)]
        listen: SocketAddr,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs a `snapshot` command.
pub fn run(command: &SnapshotCommand) -> anyhow::Result<Exit> {
    match command {
        SnapshotCommand::Save { file, ask } => save(file, ask),
        SnapshotCommand::Inspect { file, json } => look(file, *json),
        SnapshotCommand::Restore {
            file,
            dir,
            listen,
            json,
        } => restore(file, dir, *listen, *json),
    }
}

#[derive(Debug, Serialize)]
struct FileAnswer {
    file: PathBuf,
    bytes: u64,
    origin: SavedOrigin,
    last: Option<(Term, LogIndex)>,
    voters: Vec<NodeId>,
    state_hash: BlobHash,
    summary: StateSummary,
}

impl FileAnswer {
    fn of(file: &Path, bytes: &[u8]) -> anyhow::Result<Self> {
        let damaged = || format!("{} is no whole saved snapshot", file.display());
        let saved = SavedFile::from_bytes(bytes).with_context(damaged)?;
        let standing = inspect::snapshot(&saved.snapshot).with_context(damaged)?;
        Ok(Self {
            file: file.to_owned(),
            bytes: bytes.len() as u64,
            origin: saved.origin,
            last: standing.last,
            voters: standing.voters,
            state_hash: standing.state.hash(),
            summary: standing.state.summary(),
        })
    }

    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return json(self);
        }
        data(&format!(
            "{}: {}, made by {} in epoch {}",
            self.file.display(),
            megabytes(self.bytes),
            self.origin.node,
            self.origin.epoch
        ));
        print_standing(self.last, &self.voters, self.state_hash, &self.summary);
        Ok(())
    }
}

fn save(file: &Path, ask: &AskArgs) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        !file.exists(),
        "{} exists; a backup is not overwritten",
        file.display()
    );
    let bytes = match Asker::new(&ask.addr).download("/v1/raft/snapshot", FILE_BYTES_MAX as u64) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(failed(&error)),
    };
    // Read as a restore would, before it is called a backup.
    let answer = FileAnswer::of(file, &bytes)?;
    durable::replace_file(&HostDisk, file, &[&bytes])?;
    answer.print(ask.json)?;
    Ok(Exit::Ok)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read {}", file.display());
    let length = std::fs::metadata(file).with_context(context)?.len();
    anyhow::ensure!(
        length <= FILE_BYTES_MAX as u64,
        "{} has {length} bytes; a saved snapshot has {FILE_BYTES_MAX} at most",
        file.display()
    );
    std::fs::read(file).with_context(context)
}

fn look(file: &Path, as_json: bool) -> anyhow::Result<Exit> {
    FileAnswer::of(file, &read(file)?)?.print(as_json)?;
    Ok(Exit::Ok)
}

#[derive(Debug, Serialize)]
struct RestoreAnswer {
    node: NodeId,
    dir: PathBuf,
    epoch: u64,
    last: LogIndex,
}

fn restore(file: &Path, dir: &Path, listen: SocketAddr, as_json: bool) -> anyhow::Result<Exit> {
    let bytes = read(file)?;
    // Read as a whole before anything is made of it.
    FileAnswer::of(file, &bytes)?;
    let saved = SavedFile::from_bytes(&bytes)?;
    let empty = !dir.exists() || std::fs::read_dir(dir)?.next().is_none();
    anyhow::ensure!(
        empty,
        "{} is not empty; a snapshot is restored into a new directory, never over what is there",
        dir.display()
    );
    let mut home = DataDir::open(dir, || NodeId(rand::rng().random()))?;
    if let Some(cluster) = saved.origin.cluster {
        home.join_cluster(cluster)?;
    }
    let store = RaftStore::on_disk(&home.raft())?;
    let (node, epoch) = (home.node(), saved.origin.epoch);
    let last = recovery::restore(&store, &saved.snapshot, epoch, node, listen.to_string())?;
    let answer = RestoreAnswer {
        node,
        dir: dir.to_owned(),
        epoch: store.epoch.get(),
        last,
    };
    if as_json {
        json(&answer)?;
    } else {
        data(&format!(
            "{} is node {node}, the only voter of epoch {} with the state after entry {last}",
            dir.display(),
            answer.epoch
        ));
        talk(&format!(
            "next: riftmesh node run --dir {} --name NAME --credential FILE --listen {listen} --seeds {listen}",
            dir.display()
        ));
    }
    Ok(Exit::Ok)
}

/// Options of `recover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, with two of three voters lost for good:
  riftmesh recover data --peers 10.0.0.1:7700          on the survivor with the highest entry: what would be done
  riftmesh recover data --peers 10.0.0.1:7700 --yes    it becomes the only voter
  riftmesh node run --dir data ... as before           then `riftmesh raft add-voter` for nodes on empty directories
Commands that the lost voters acknowledged and this node does not hold are lost. The cluster gets a new epoch, in which
the lost voters are refused should they come back; they and other survivors start again on empty directories.
Exit codes: 0 done, 1 refused or not done yet")]
pub struct RecoverArgs {
    /// Data directory of the survivor, which must not run
    dir: PathBuf,
    /// Who votes in the new epoch: the survivor's own address (its `--listen`) and nobody else's
    #[arg(long, value_delimiter = ',', required = true)]
    peers: Vec<SocketAddr>,
    /// Do it; without this option it is only shown
    #[arg(long)]
    yes: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct RecoverAnswer {
    node: NodeId,
    done: bool,
    holdings: Holdings,
}

/// Runs `recover`.
pub fn recover(args: &RecoverArgs) -> anyhow::Result<Exit> {
    let [address] = args.peers[..] else {
        anyhow::bail!(
            "--peers takes the one address of this node: logs of several survivors may differ, so one of them begins anew and the others follow it from empty directories"
        );
    };
    // Refuses what is no data directory, which opening it would make one.
    drop(StoppedNode::open(&args.dir)?);
    let home = DataDir::open(&args.dir, || NodeId(0))?;
    let store = RaftStore::on_disk(&home.raft())?;
    let node = home.node();
    let holdings = if args.yes {
        recovery::recover(&store, node, address.to_string())
    } else {
        recovery::holdings(&store)
    };
    let answer = RecoverAnswer {
        node,
        done: args.yes,
        holdings: holdings.with_context(|| format!("cannot recover {}", args.dir.display()))?,
    };
    if args.json {
        json(&answer)?;
    } else {
        print_recovery(&answer, address);
    }
    Ok(if args.yes { Exit::Ok } else { Exit::Failed })
}

fn print_recovery(answer: &RecoverAnswer, address: SocketAddr) {
    let Holdings {
        epoch,
        last,
        term,
        committed,
        voters,
    } = &answer.holdings;
    let committed = committed.map_or_else(|| "unknown".to_owned(), |index| index.to_string());
    data(&format!(
        "node {} holds entries up to {last} of term {term}, surely committed up to {committed}",
        answer.node
    ));
    let voters: Vec<_> = voters
        .iter()
        .map(|(node, address)| format!("{node} at {address}"))
        .collect();
    data(&format!("epoch {epoch}, voters {}", voters.join(", ")));
    if !answer.done {
        data(&format!(
            "with --yes it becomes the only voter, at {address}, in epoch {}",
            epoch + 1
        ));
        talk(
            "nothing was changed; look at every survivor, take the one with the highest entry, and add --yes there",
        );
    }
}
