//! The `rules` family: verify, perft, show.

mod perft;
mod show;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;

use super::Exit;

/// The `rules` family.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Replay recorded games and compare every legal list, position and result
    #[command(
        after_help = "Example:\n  riftmesh rules verify games/ more.jsonl.gz contract/vectors.json"
    )]
    Verify {
        /// Recorded games (`.jsonl`, `.jsonl.gz`), files of single-move cases (`.json`), or directories of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Count the move sequences from a position
    #[command(after_help = "Example:\n  riftmesh rules perft hex8_2p 4 --divide")]
    Perft(perft::PerftArgs),
    /// Draw a position
    #[command(
        after_help = "Examples:\n  riftmesh rules show hexagonal_2p\n  riftmesh rules show game.jsonl --ply 40 --legal\n  \
                      riftmesh rules show 'RR1;square8;2;A;1;RP;-;-;0::0:0;0;18,0,0/18,0,0;;/;/'"
    )]
    Show(show::ShowArgs),
}

/// Runs a `rules` command.
pub fn run(command: &RulesCommand) -> anyhow::Result<Exit> {
    match command {
        RulesCommand::Verify { files, json } => verify::run(files, *json),
        RulesCommand::Perft(args) => perft::run(args),
        RulesCommand::Show(args) => show::run(args),
    }
}
