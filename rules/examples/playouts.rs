//! Measures random playouts with full move generation at every ply, on one core: the inner loop of self-play.
//!
//! `cargo run --release -p riftmesh-rules --example playouts [seconds] [configuration...]` prints one line per
//! configuration: name, plies per second, mean plies per game.

use std::error::Error;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use riftmesh_rules::{Action, Configuration, Position, RuleOptions};

/// SplitMix64: quick and good enough to pick moves.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) as u128 * bound as u128) >> 64) as usize
    }
}

/// Plays one game; gives its number of plies.
fn play(configuration: Configuration, random: &mut Random, actions: &mut Vec<Action>) -> u64 {
    let mut position = Position::start(configuration, RuleOptions::default());
    let mut plies = 0;
    while position.to_move().is_some() {
        position.legal(actions);
        position.apply(actions[random.below(actions.len())]);
        plies += 1;
    }
    plies
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
    let mut configurations = arguments
        .map(|name| name.parse())
        .collect::<Result<Vec<_>, _>>()?;
    if configurations.is_empty() {
        configurations = Configuration::ALL.to_vec();
    }
    let duration = Duration::try_from_secs_f64(seconds)?;
    for configuration in configurations {
        let (mut random, mut actions) = (Random(1), Vec::new());
        let (mut games, mut plies) = (0u64, 0u64);
        let start = Instant::now();
        while start.elapsed() < duration {
            plies += play(configuration, &mut random, &mut actions);
            games += 1;
        }
        let rate = plies as f64 / start.elapsed().as_secs_f64();
        let length = plies / games;
        writeln!(
            stdout(),
            "{configuration:<13} {rate:>10.0} plies/s {length:>5} plies/game"
        )?;
    }
    Ok(())
}
