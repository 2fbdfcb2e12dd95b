//! Plays random games in great number and checks the whole position after every move: no panic, no stuck position, no
//! inconsistency. Every second two-player game has the pie rule.
//!
//! `cargo run --release -p riftmesh-rules --example soak [games [configuration...]]` prints one JSON object per
//! configuration. Without arguments: 100,000 games on each small board and 2,000 on each large one.

mod common;

use std::error::Error;
use std::io::{Write, stdout};

use common::Random;
use riftmesh_rules::{Action, Configuration, Position, RuleOptions};

/// No game comes near; one that does is stuck in a circle.
const PLIES_MAX: u64 = 50_000;

/// What the games of one configuration showed.
#[derive(Default)]
struct Seen {
    plies: u64,
    longest: u64,
    legal_max: usize,
    /// Canonical text of the position with the most legal moves.
    busiest: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let games = arguments.next().map(|text| text.parse()).transpose()?;
    let mut configurations = arguments
        .map(|name| name.parse())
        .collect::<Result<Vec<_>, _>>()?;
    if configurations.is_empty() {
        configurations = Configuration::ALL.to_vec();
    }
    for configuration in configurations {
        let small = configuration.board().cells() < 100;
        let games = games.unwrap_or(if small { 100_000 } else { 2_000 });
        let mut seen = Seen::default();
        for number in 0..games {
            play(configuration, number, &mut seen)
                .map_err(|problem| format!("{configuration}, game {number}: {problem}"))?;
        }
        let line = serde_json::json!({
            "configuration": configuration,
            "games": games,
            "plies": seen.plies,
            "plies_per_game": seen.plies / games.max(1),
            "longest_game": seen.longest,
            "legal_max": seen.legal_max,
            "legal_max_at": seen.busiest,
        });
        writeln!(stdout(), "{line}")?;
    }
    Ok(())
}

/// Plays game `number`; the number is the seed.
fn play(configuration: Configuration, number: u64, seen: &mut Seen) -> Result<(), String> {
    let mut random = Random(number);
    let swap = number % 2 == 1;
    let mut position = Position::start(configuration, RuleOptions { swap });
    let mut actions: Vec<Action> = Vec::new();
    let mut plies = 0;
    while position.to_move().is_some() {
        position.legal(&mut actions);
        if actions.len() > seen.legal_max {
            (seen.legal_max, seen.busiest) = (actions.len(), position.canonical_text());
        }
        let Some(&action) = actions.get(random.below(actions.len().max(1))) else {
            return Err(format!("no legal move in {position}"));
        };
        let before = position.clone();
        position.apply(action);
        position
            .validate()
            .map_err(|error| format!("{error} after {action:?} in {before}"))?;
        plies += 1;
        if plies > PLIES_MAX {
            return Err(format!("no end after {PLIES_MAX} moves: {position}"));
        }
    }
    seen.plies += plies;
    seen.longest = seen.longest.max(plies);
    Ok(())
}
