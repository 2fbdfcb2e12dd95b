//! `transfer`: a network for another number of players.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use riftmesh_base::{BlobHash, ConfigurationName};
use riftmesh_learning::transfer::transfer;
use riftmesh_rules::Configuration;
use serde::Serialize;

use crate::cli::model_files::ModelFiles;
use crate::cli::output::{data, json};
use crate::cli::{Exit, parse_configuration};
use crate::job::run::REVISION;

/// What to transfer.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  riftmesh transfer runs/net-2p hex8_3p --out runs/net-3p-start
  riftmesh train runs/games-3p --parent runs/net-3p-start --out runs/net-3p")]
pub struct TransferArgs {
    /// The model: its folder or manifest
    model: PathBuf,
    /// Board and players of the new network: the same board
    #[arg(value_parser = parse_configuration)]
    configuration: ConfigurationName,
    /// Folder for the new network
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Run here, without a cluster: the only way so far
    #[arg(long)]
    local: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Transferred {
    from: ConfigurationName,
    to: ConfigurationName,
    parent: BlobHash,
    model: BlobHash,
    folder: PathBuf,
}

/// Runs `transfer`.
pub fn run(args: &TransferArgs) -> anyhow::Result<Exit> {
    let parent = ModelFiles::find(&args.model, None)?.read()?;
    let configuration = Configuration::try_from(&args.configuration)?;
    let child = transfer(&parent, configuration, REVISION)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make {}", args.out.display()))?;
    child.write(&args.out.join("manifest"), &args.out.join("weights"))?;
    let done = Transferred {
        from: parent.manifest.configuration,
        to: args.configuration.clone(),
        parent: parent.manifest.weights,
        model: child.manifest.weights,
        folder: args.out.clone(),
    };
    if args.json {
        json(&done)?;
    } else {
        data(&format!(
            "{} of {} became {} of {} in {}",
            done.parent.short(),
            done.from,
            done.model.short(),
            done.to,
            done.folder.display()
        ));
    }
    Ok(Exit::Ok)
}
