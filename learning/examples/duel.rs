//! A match between two networks on disk, each with a budget and a value scale of its own. For tuning.
//!
//! `cargo run --release -p riftmesh-learning --example duel -- hex8_2p 200 A.manifest A.weights 16 1 B.manifest B.weights 16 0.3`
//! (configuration, games; then for each player: manifest, weights, simulations, scale of values in the search)

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use riftmesh_base::Seed;
use riftmesh_learning::arena::{MatchPlayer, MatchSettings, play_match};
use riftmesh_learning::{Backend, Checkpoint, NetEvaluator};
use riftmesh_rules::Configuration;
use riftmesh_search::{Algorithm, GumbelSettings, SearchSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, games, first @ ..] = &arguments[..] else {
        return Err("give a configuration, a number of games and two players".into());
    };
    let configuration: Configuration = name.parse()?;
    let (first, second) = first.split_at_checked(4).ok_or("two players are needed")?;
    let (mut first, search_first) = player(configuration, first)?;
    let (mut second, search_second) = player(configuration, second)?;
    let settings = MatchSettings {
        games: games.parse()?,
        seed: Seed(7),
        ..MatchSettings::default()
    };
    let score = play_match(
        configuration,
        MatchPlayer::Network {
            evaluator: &mut first,
            search: search_first,
        },
        MatchPlayer::Network {
            evaluator: &mut second,
            search: search_second,
        },
        &settings,
        &mut |_| {},
        &AtomicBool::new(false),
    )
    .score;
    let (low, high) = score.wilson();
    writeln!(
        std::io::stdout(),
        "{}-{} ({:.0} %, {:.0} to {:.0})",
        score.wins,
        score.losses,
        100.0 * score.rate(),
        100.0 * low,
        100.0 * high
    )?;
    Ok(())
}

/// A player from four arguments.
fn player(
    configuration: Configuration,
    arguments: &[String],
) -> Result<(NetEvaluator, SearchSettings), Box<dyn Error>> {
    let [manifest, weights, simulations, scale] = arguments else {
        return Err("a player is a manifest, weights, simulations and a scale".into());
    };
    let checkpoint = Checkpoint::read(Path::new(manifest), Path::new(weights))?;
    let mut gumbel = GumbelSettings::default();
    gumbel.transform.scale = scale.parse()?;
    let search = SearchSettings {
        simulations: simulations.parse()?,
        algorithm: Algorithm::Gumbel(gumbel),
    };
    let evaluator = NetEvaluator::from_checkpoint(&checkpoint, configuration, Backend::Cpu)?;
    Ok((evaluator, search))
}
