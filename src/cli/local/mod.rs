//! Self-play, training, matches and transfer without a cluster: the runners of a node's job children, called directly, on
//! this machine and in this process.

pub mod bar;
pub mod bench;
pub mod files;
pub mod journal;
pub mod matches;
pub mod player;
pub mod selfplay;
pub mod train;
pub mod transfer;

use clap::Args;

/// Where and how to run.
#[derive(Debug, Clone, Args)]
pub struct LocalArgs {
    /// Run here, without a cluster: the only way these commands have so far, so that it may be left out
    #[arg(long)]
    local: bool,
    /// Where networks run: auto, cpu or cuda:<number>
    #[arg(long, default_value = "auto")]
    device: riftmesh_learning::DeviceChoice,
    /// Seed of everything drawn at random; the same seed gives the same result on the CPU
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}
