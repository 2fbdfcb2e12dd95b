//! Measures the rules on one core: random playouts with full move generation at every ply, the inner loop of self-play,
//! and what its parts cost.
//!
//! `cargo run --release -p riftmesh-rules --example playouts [seconds [configuration...]]` prints one JSON object per
//! configuration: plies per second, nanoseconds per legal list, per move applied and per copy of a position. Each
//! figure is the median of five runs over the same games, and every run lasts about `seconds` (1 without argument).
//!
//! Time is what the thread spent on a processor where the system tells (Linux), so that other programs on the machine
//! disturb the figures less; `clock` in the output says which it was.

mod common;

use std::error::Error;
use std::hint::black_box;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use common::Random;
use riftmesh_rules::{Action, Configuration, Position, RuleOptions};

/// Runs per figure; their median is reported.
const RUNS: usize = 5;
/// Plies of recorded games that single operations are timed on, again and again.
const SAMPLE_PLIES: usize = 20_000;

/// Time of this thread: on a processor if the system tells, else on the wall.
enum Stopwatch {
    Processor(Duration),
    Wall(Instant),
}

impl Stopwatch {
    fn start() -> Self {
        on_processor().map_or_else(|| Self::Wall(Instant::now()), Self::Processor)
    }

    fn elapsed(&self) -> Duration {
        match self {
            Self::Processor(start) => on_processor().unwrap_or_default().saturating_sub(*start),
            Self::Wall(start) => start.elapsed(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Processor(_) => "processor",
            Self::Wall(_) => "wall",
        }
    }
}

/// What Linux's scheduler has counted for this thread, exact to a few milliseconds.
fn on_processor() -> Option<Duration> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = line.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Plays one game and records its moves in `played`.
fn play(
    configuration: Configuration,
    random: &mut Random,
    actions: &mut Vec<Action>,
    played: &mut Vec<Action>,
) {
    let mut position = Position::start(configuration, RuleOptions::default());
    while position.to_move().is_some() {
        position.legal(actions);
        let action = actions[random.below(actions.len())];
        position.apply(action);
        played.push(action);
    }
}

fn median(mut runs: [f64; RUNS]) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}

/// Plies per second of playouts for about `duration`, and plies per game.
fn playouts(configuration: Configuration, duration: Duration) -> (f64, u64) {
    let (mut random, mut actions, mut played) = (Random(1), Vec::new(), Vec::new());
    let (mut games, mut plies) = (0u64, 0u64);
    let start = Stopwatch::start();
    while start.elapsed() < duration {
        // Asking for the time costs as much as some plies: once in a while will do.
        for _ in 0..10 {
            played.clear();
            play(configuration, &mut random, &mut actions, &mut played);
            plies += played.len() as u64;
            games += 1;
        }
    }
    (plies as f64 / start.elapsed().as_secs_f64(), plies / games)
}

/// Whole recorded games, replayed to time single operations on the positions that really occur.
struct Sample {
    configuration: Configuration,
    games: Vec<Vec<Action>>,
    plies: usize,
}

impl Sample {
    fn record(configuration: Configuration) -> Self {
        let (mut random, mut actions) = (Random(2), Vec::new());
        let (mut games, mut plies) = (Vec::new(), 0);
        while plies < SAMPLE_PLIES {
            let mut played = Vec::new();
            play(configuration, &mut random, &mut actions, &mut played);
            plies += played.len();
            games.push(played);
        }
        Self {
            configuration,
            games,
            plies,
        }
    }

    /// Nanoseconds per ply of replays that do `extra` before every move, for about `duration`.
    fn replay(&self, duration: Duration, mut extra: impl FnMut(&Position)) -> f64 {
        let start = Stopwatch::start();
        let mut rounds = 0;
        while start.elapsed() < duration {
            rounds += 1;
            for game in &self.games {
                let mut position = Position::start(self.configuration, RuleOptions::default());
                for &action in game {
                    extra(&position);
                    position.apply(action);
                }
                black_box(&position);
            }
        }
        start.elapsed().as_nanos() as f64 / (rounds * self.plies) as f64
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let mut configurations = arguments
        .map(|name| name.parse())
        .collect::<Result<Vec<_>, _>>()?;
    if configurations.is_empty() {
        configurations = Configuration::ALL.to_vec();
    }
    let duration = Duration::try_from_secs_f64(seconds)?;
    for configuration in configurations {
        let rates = [(); RUNS].map(|()| playouts(configuration, duration));
        let sample = Sample::record(configuration);
        let mut actions = Vec::new();
        let apply = median([(); RUNS].map(|()| sample.replay(duration, |_| ())));
        let legal = median(
            [(); RUNS].map(|()| sample.replay(duration, |position| position.legal(&mut actions))),
        );
        let clone = median([(); RUNS].map(|()| {
            sample.replay(duration, |position| {
                black_box(position.clone());
            })
        }));
        // What a replay with the operation takes longer than one without it.
        let line = serde_json::json!({
            "configuration": configuration,
            "plies_per_second": median(rates.map(|(rate, _)| rate)).round(),
            "plies_per_game": rates[0].1,
            "legal_ns": (legal - apply).round(),
            "apply_ns": apply.round(),
            "clone_ns": (clone - apply).round(),
            "runs": RUNS,
            "clock": Stopwatch::start().name(),
        });
        writeln!(stdout(), "{line}")?;
    }
    Ok(())
}
