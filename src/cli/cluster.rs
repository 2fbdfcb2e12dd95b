//! `cluster create|upgrade`: what the machines of a cluster share, and how all of them behave.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::order::{order, said};
use super::output::talk;
use super::{AskArgs, Exit};
use crate::orders::Order;

/// The `cluster` family.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make the credential of a new cluster; copy it to each of its machines and keep it secret
    Create {
        /// Where to write it; an existing file is not overwritten
        #[arg(long, default_value = "cluster.credential")]
        out: PathBuf,
    },
    /// Switch on what a new build does differently, once every voter runs it. There is no way back
    Upgrade {
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Runs a `cluster` command.
pub fn run(command: &ClusterCommand) -> anyhow::Result<Exit> {
    match command {
        ClusterCommand::Create { out } => create(out),
        ClusterCommand::Upgrade { ask } => order(ask, Order::RaiseLevel, said),
    }
}

fn create(out: &Path) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        !out.exists(),
        "{} exists; a cluster has one credential for life",
        out.display()
    );
    crate::node::make_credential(out)?;
    talk(&format!(
        "wrote {}; copy it to each machine of the cluster, readable by its riftmesh user alone",
        out.display()
    ));
    Ok(Exit::Ok)
}
