//! `cluster create`: what the machines of a cluster share.

use std::path::PathBuf;

use clap::Subcommand;

use super::Exit;
use super::output::talk;

/// The `cluster` family.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make the credential of a new cluster; copy it to each of its machines and keep it secret
    Create {
        /// Where to write it; an existing file is not overwritten
        #[arg(long, default_value = "cluster.credential")]
        out: PathBuf,
    },
}

/// Runs a `cluster` command.
pub fn run(command: &ClusterCommand) -> anyhow::Result<Exit> {
    let ClusterCommand::Create { out } = command;
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
