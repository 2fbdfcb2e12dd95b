//! Measures the heuristic player against random play on every configuration: one heuristic player through all seats,
//! random players on the others, so that chance would win one game in as many as there are players.
//!
//! `cargo run --release -p riftmesh-learning --example heuristic [games [configuration...]]` prints a Markdown table;
//! without arguments 400 games on the small boards and 100 on the large ones.

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::atomic::AtomicBool;

use riftmesh_base::Seed;
use riftmesh_learning::arena::{MatchPlayer, MatchSettings, Seating, play_match};
use riftmesh_rules::Configuration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let games: Option<u32> = arguments.next().map(|text| text.parse()).transpose()?;
    let mut configurations = arguments
        .map(|name| name.parse())
        .collect::<Result<Vec<_>, _>>()?;
    if configurations.is_empty() {
        configurations = Configuration::ALL.to_vec();
    }
    writeln!(
        stdout(),
        "| configuration | won | of | rate | 95 % interval (Wilson) | chance |"
    )?;
    writeln!(stdout(), "|---|---|---|---|---|---|")?;
    for configuration in configurations {
        let small = configuration.board().cells() < 100;
        let settings = MatchSettings {
            games: games.unwrap_or(if small { 400 } else { 100 }),
            seating: Seating::Single,
            seed: Seed(1),
            ..MatchSettings::default()
        };
        let result = play_match(
            configuration,
            MatchPlayer::Heuristic,
            MatchPlayer::Random,
            &settings,
            &mut |_| {},
            &AtomicBool::new(false),
        );
        let (low, high) = result.score.wilson();
        writeln!(
            stdout(),
            "| {configuration} | {} | {} | {:.3} | {low:.3} to {high:.3} | {:.3} |",
            result.score.wins,
            result.score.games(),
            result.score.rate(),
            1.0 / configuration.players() as f64
        )?;
    }
    Ok(())
}
