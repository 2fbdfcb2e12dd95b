//! `rules show`: draws a position.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use riftmesh_rules::diagram::Diagram;
use riftmesh_rules::{Action, Configuration, Position, RuleOptions, notation, words};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::output::{data, ink, json, table};
use crate::cli::records::{is_games, read_game};

/// How every canonical text begins.
const TEXT_START: &str = "RR1;";

/// What to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A canonical text, a file of recorded games, or a configuration such as `hex8_2p` for its start position
    position: String,
    /// In a file: which game, by number from 1 or by name
    #[arg(long, default_value = "1")]
    game: String,
    /// In a file: after how many moves; the last position if not given
    #[arg(long)]
    ply: Option<usize>,
    /// List the legal moves
    #[arg(long)]
    legal: bool,
    /// Print the position and its legal moves as JSON
    #[arg(long)]
    json: bool,
}

/// A position for programs.
#[derive(Debug, Serialize)]
struct ShownPosition {
    configuration: Configuration,
    position: String,
    to_move: Option<u8>,
    legal: Vec<ShownMove>,
}

/// A legal move in notation and in words.
#[derive(Debug, Serialize)]
struct ShownMove {
    notation: String,
    meaning: String,
}

/// Runs `rules show`.
pub fn run(args: &ShowArgs) -> anyhow::Result<Exit> {
    let (diagram, text) = find(args)?;
    let legal = if diagram.finished() {
        Vec::new()
    } else {
        legal(diagram.position())
    };
    if args.json {
        let position = diagram.position();
        json(&ShownPosition {
            configuration: position.configuration(),
            position: text,
            to_move: position
                .to_move()
                .filter(|_| !diagram.finished())
                .map(|seat| seat.number()),
            legal,
        })?;
        return Ok(Exit::Ok);
    }
    data(diagram.draw(ink()).trim_end());
    data(&text);
    if args.legal {
        let rows = legal
            .into_iter()
            .map(|shown| vec![shown.notation, shown.meaning]);
        table(&["MOVE", "MEANING"], rows);
    }
    Ok(Exit::Ok)
}

/// The position that the arguments mean, and its canonical text.
fn find(args: &ShowArgs) -> anyhow::Result<(Diagram, String)> {
    let named = args.position.trim();
    if named.starts_with(TEXT_START) {
        return Ok((Diagram::read(named)?, named.to_owned()));
    }
    let position = match named.parse::<Configuration>() {
        Ok(configuration) => Position::start(configuration, RuleOptions::default()),
        Err(unknown) => {
            let path = Path::new(named);
            anyhow::ensure!(
                path.is_file(),
                "{unknown}; it is no file and no canonical text (`{TEXT_START}...`) either"
            );
            anyhow::ensure!(is_games(path), "{named} is no .jsonl or .jsonl.gz file");
            from_file(path, args)?
        }
    };
    Ok((Diagram::of(&position), position.canonical_text()))
}

fn from_file(path: &Path, args: &ShowArgs) -> anyhow::Result<Position> {
    let game = read_game(path, &args.game)?;
    let replayed = game
        .replay()
        .with_context(|| format!("{}, game {}", path.display(), game.id))?;
    let plies = replayed.actions.len();
    replayed
        .position_after(args.ply.unwrap_or(plies))
        .with_context(|| format!("game {} has {plies} moves: --ply goes up to that", game.id))
}

fn legal(position: &Position) -> Vec<ShownMove> {
    let mut actions: Vec<Action> = Vec::new();
    position.legal(&mut actions);
    let shown = |&action: &Action| ShownMove {
        notation: notation::format(position, action),
        meaning: words::describe(position, action),
    };
    actions.iter().map(shown).collect()
}
