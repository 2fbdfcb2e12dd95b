//! `rules perft`: how many sequences of moves there are.

use clap::Args;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use riftmesh_rules::{Action, Configuration, Position, RuleOptions, notation, perft};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::output::{data, json, table};

/// What to count.
#[derive(Debug, Args)]
pub struct PerftArgs {
    /// Board and players, such as `hex8_2p`
    configuration: Configuration,
    /// Moves per sequence; every move more multiplies the time by about a hundred
    #[arg(value_parser = clap::value_parser!(u32).range(1..=12))]
    depth: u32,
    /// Count from this canonical text instead of the start position
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// Play with the pie rule
    #[arg(long)]
    swap: bool,
    /// Count for every first move on its own
    #[arg(long)]
    divide: bool,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

/// The counts of one position.
#[derive(Debug, Serialize)]
struct PerftCounts {
    configuration: Configuration,
    position: String,
    depth: u32,
    sequences: u64,
    first_moves: Vec<FirstMove>,
}

/// A first move and the sequences that begin with it.
#[derive(Debug, Serialize)]
struct FirstMove {
    notation: String,
    sequences: u64,
}

/// Runs `rules perft`.
pub fn run(args: &PerftArgs) -> anyhow::Result<Exit> {
    let options = RuleOptions { swap: args.swap };
    let position = match &args.from {
        None => Position::start(args.configuration, options),
        Some(text) => Position::parse(text, options)?,
    };
    anyhow::ensure!(
        position.configuration() == args.configuration,
        "the position is one of {}, not of {}",
        position.configuration(),
        args.configuration
    );
    let counts = count(&position, args.depth);
    if args.json {
        json(&counts)?;
    } else {
        print(&counts, args.divide);
    }
    Ok(Exit::Ok)
}

/// Counts the first moves' subtrees in parallel.
fn count(position: &Position, depth: u32) -> PerftCounts {
    let mut actions = Vec::new();
    position.legal(&mut actions);
    let first = |&action: &Action| {
        let mut after = position.clone();
        after.apply(action);
        FirstMove {
            notation: notation::format(position, action),
            sequences: perft(&after, depth - 1),
        }
    };
    let first_moves: Vec<_> = actions.par_iter().map(first).collect();
    PerftCounts {
        configuration: position.configuration(),
        position: position.canonical_text(),
        depth,
        sequences: first_moves.iter().map(|first| first.sequences).sum(),
        first_moves,
    }
}

fn print(counts: &PerftCounts, divide: bool) {
    if divide {
        let row = |first: &FirstMove| vec![first.notation.clone(), first.sequences.to_string()];
        table(&["MOVE", "SEQUENCES"], counts.first_moves.iter().map(row));
    }
    data(&format!(
        "{}, {} moves: {} sequences",
        counts.configuration, counts.depth, counts.sequences
    ));
}
