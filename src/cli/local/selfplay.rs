//! `selfplay`: games into segments.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use riftmesh_base::ConfigurationName;
use riftmesh_learning::NetShape;
use serde::Serialize;

use super::LocalArgs;
use super::bench::LocalBench;
use crate::cli::output::{data, json};
use crate::cli::{Exit, parse_configuration};
use crate::job::payload::{Beginner, Payload};
use crate::job::wire::Made;

/// What to play.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  riftmesh selfplay hex8_2p --games 200 --workers 2 --out runs/games-1
  riftmesh selfplay hex8_2p --model runs/net-1 --simulations 64 --out runs/games-2")]
pub struct SelfplayArgs {
    /// Board and players, such as `hex8_2p`
    #[arg(value_parser = parse_configuration)]
    configuration: ConfigurationName,
    /// Folder for the segments
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Games in all
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    games: u32,
    /// Who plays: a model's folder or manifest; without one the beginner
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Who plays without a model
    #[arg(long, value_enum, default_value_t = Beginner::Heuristic)]
    beginner: Beginner,
    /// Shape of the untrained network
    #[arg(long, default_value_t = NetShape::Tiny)]
    shape: NetShape,
    /// Simulations of a full search
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    simulations: u32,
    /// Share of the decisions that get a full search and become training rows, in percent; the others get a quarter of it
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    full_percent: u32,
    /// Workers, each on a processor core of its own and with a segment of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    #[command(flatten)]
    local: LocalArgs,
}

/// What was played.
#[derive(Debug, Serialize)]
struct Played {
    configuration: ConfigurationName,
    games: u64,
    games_asked: u64,
    rows: u64,
    seconds: f64,
    games_per_second: f64,
    segments: Vec<PathBuf>,
    stopped: bool,
}

/// Runs `selfplay`.
pub fn run(args: &SelfplayArgs) -> anyhow::Result<Exit> {
    let mut bench = LocalBench::new(&args.local, &args.configuration)?;
    let champion = args
        .model
        .as_ref()
        .map(|path| bench.add_model(path))
        .transpose()?;
    let workers = args.workers.min(args.games);
    let jobs: Vec<_> = (0..workers)
        .map(|worker| {
            let payload = Payload::Selfplay {
                beginner: args.beginner,
                seed: bench.seed(),
                games: args.games / workers + u32::from(worker < args.games % workers),
                simulations: args.simulations,
                full_percent: args.full_percent,
                shape: args.shape.to_string(),
            };
            let job = bench.job("local selfplay", worker.into(), champion);
            (job, payload, args.out.join(job.to_string()))
        })
        .collect();
    let begin = Instant::now();
    let made = bench.run_all("games", args.games.into(), &jobs, champion)?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut played = Played {
        configuration: args.configuration.clone(),
        games: 0,
        games_asked: args.games.into(),
        rows: 0,
        seconds,
        games_per_second: 0.0,
        segments: Vec::new(),
        stopped: bench.stopped(),
    };
    for made in made {
        if let Made::Segment { file, games, rows } = made {
            played.games += u64::from(games);
            played.rows += u64::from(rows);
            played.segments.push(file);
        }
    }
    played.games_per_second = played.games as f64 / seconds;
    played.print(args.local.json)?;
    Ok(Exit::of(played.games == played.games_asked))
}

impl Played {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return json(self);
        }
        data(&format!(
            "{}{} games of {}, {} rows, in {:.1} s ({:.2} games/s)",
            if self.stopped { "stopped after " } else { "" },
            self.games,
            self.configuration,
            self.rows,
            self.seconds,
            self.games_per_second
        ));
        for segment in &self.segments {
            data(&format!("  {}", segment.display()));
        }
        Ok(())
    }
}
