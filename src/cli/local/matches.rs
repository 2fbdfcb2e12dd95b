//! `match` and `tournament`: who plays better, with intervals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use riftmesh_base::ConfigurationName;
use riftmesh_learning::NetShape;
use riftmesh_learning::ratings::{Pairing, rate};
use riftmesh_learning::stats::MatchScore;
use riftmesh_statemachine::job::Player;
use serde::Serialize;

use super::LocalArgs;
use super::bench::LocalBench;
use super::journal::{Entry, Journal};
use super::player::PlayerArg;
use crate::cli::output::{data, json, table};
use crate::cli::{Exit, parse_configuration};
use crate::job::payload::Payload;
use crate::job::wire::Made;

/// Settings that a match and a tournament share.
#[derive(Debug, Args)]
pub struct GamesArgs {
    /// Games of each pairing: every opening is played in all seatings, so that it may become a few more
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    games: u32,
    /// Shape of the untrained network
    #[arg(long, default_value_t = NetShape::Tiny)]
    shape: NetShape,
    /// Folder whose journal takes the results, for `riftmesh report`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    local: LocalArgs,
}

/// Two players.
#[derive(Debug, Args)]
#[command(after_help = "\
A player is `random`, `heuristic`, `untrained` or a model's folder or manifest; `@64` behind it is its number of
simulations, 0 its bare policy. `untrained` is another network every ten games.

Examples:
  riftmesh match hex8_2p runs/net-2 heuristic
  riftmesh match hex8_2p runs/net-2@64 runs/net-1@64 --games 200 --json")]
pub struct MatchArgs {
    /// Board and players, such as `hex8_2p`
    #[arg(value_parser = parse_configuration)]
    configuration: ConfigurationName,
    /// Whose wins are counted
    candidate: PlayerArg,
    /// Against whom
    opponent: PlayerArg,
    #[command(flatten)]
    games: GamesArgs,
}

/// Many players.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  riftmesh tournament hex8_2p random heuristic runs/net-1 runs/net-2 --games 60 --out runs/cup")]
pub struct TournamentArgs {
    /// Board and players, such as `hex8_2p`
    #[arg(value_parser = parse_configuration)]
    configuration: ConfigurationName,
    /// Two players or more, each as in `match`
    #[arg(required = true, num_args = 2..=64)]
    players: Vec<PlayerArg>,
    #[command(flatten)]
    games: GamesArgs,
}

/// The result of a match.
#[derive(Debug, Serialize)]
struct Played {
    configuration: ConfigurationName,
    player: String,
    opponent: String,
    wins: u32,
    losses: u32,
    rate: f64,
    /// Wilson's 95 % interval of the rate.
    interval: (f64, f64),
    elo: f64,
    /// Half the width of its 95 % interval.
    elo_error: f64,
    seconds: f64,
    stopped: bool,
}

/// A player's place in a tournament.
#[derive(Debug, Serialize)]
struct Place {
    player: String,
    elo: f64,
    standard_error: f64,
    games: u32,
}

/// The result of a tournament.
#[derive(Debug, Serialize)]
struct Tournament {
    configuration: ConfigurationName,
    /// The player whose rating is 0.
    anchor: String,
    ratings: Vec<Place>,
    matches: Vec<Played>,
    stopped: bool,
}

/// Runs `match`.
pub fn run_match(args: &MatchArgs) -> anyhow::Result<Exit> {
    let mut hall = Hall::new(&args.games, &args.configuration)?;
    let played = hall.play(&args.candidate, &args.opponent, 0)?;
    if args.games.local.json {
        json(&played)?;
    } else {
        data(&played.line());
    }
    Ok(Exit::of(!played.stopped))
}

/// Runs `tournament`: everybody against everybody, then ratings over all games.
pub fn run_tournament(args: &TournamentArgs) -> anyhow::Result<Exit> {
    let mut names: Vec<String> = args.players.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    anyhow::ensure!(
        names.len() == args.players.len(),
        "a player is named twice: a player against itself says nothing"
    );
    let mut hall = Hall::new(&args.games, &args.configuration)?;
    let mut matches = Vec::new();
    'all: for (index, player) in args.players.iter().enumerate() {
        for opponent in &args.players[..index] {
            matches.push(hall.play(player, opponent, matches.len() as u64)?);
            if hall.bench.stopped() {
                break 'all;
            }
        }
    }
    let random = args.players.iter().find(|player| player.is_random());
    let anchor = random.unwrap_or(&args.players[0]).to_string();
    let tournament = Tournament {
        configuration: args.configuration.clone(),
        ratings: ratings(&anchor, &matches),
        anchor,
        stopped: hall.bench.stopped(),
        matches,
    };
    tournament.print(args.games.local.json)?;
    Ok(Exit::of(!tournament.stopped))
}

fn ratings(anchor: &str, matches: &[Played]) -> Vec<Place> {
    let pairings: Vec<_> = matches
        .iter()
        .map(|played| Pairing {
            player: played.player.clone(),
            opponent: played.opponent.clone(),
            score: MatchScore {
                wins: played.wins,
                losses: played.losses,
            },
        })
        .collect();
    let fitted = rate(&anchor.to_owned(), &pairings, &BTreeMap::new());
    let place = |(player, rating): (String, riftmesh_learning::ratings::FittedRating)| Place {
        player,
        elo: rating.elo,
        standard_error: rating.standard_error,
        games: rating.games,
    };
    let mut places: Vec<Place> = fitted.into_iter().map(place).collect();
    places.sort_by(|a, b| b.elo.total_cmp(&a.elo));
    places
}

/// Where matches are played.
struct Hall<'a> {
    bench: LocalBench<'a>,
    args: &'a GamesArgs,
    journal: Option<Journal>,
    scratch: tempfile::TempDir,
}

impl<'a> Hall<'a> {
    fn new(args: &'a GamesArgs, configuration: &ConfigurationName) -> anyhow::Result<Self> {
        let journal = args.out.as_deref().map(Journal::open).transpose()?;
        Ok(Self {
            bench: LocalBench::new(&args.local, configuration)?,
            args,
            journal,
            scratch: tempfile::tempdir()?,
        })
    }

    /// Plays the `number`th match and enters it in the journal.
    fn play(
        &mut self,
        player: &PlayerArg,
        opponent: &PlayerArg,
        number: u64,
    ) -> anyhow::Result<Played> {
        let candidate = player.resolve(&mut self.bench)?;
        let against = opponent.resolve(&mut self.bench)?;
        let begin = Instant::now();
        let score = self.score(candidate, against, number)?;
        let (elo, elo_error) = score.elo();
        let played = Played {
            configuration: self.bench.configuration().clone(),
            player: player.to_string(),
            opponent: opponent.to_string(),
            wins: score.wins,
            losses: score.losses,
            rate: score.rate(),
            interval: score.wilson(),
            elo,
            elo_error,
            seconds: begin.elapsed().as_secs_f64(),
            stopped: self.bench.stopped(),
        };
        if let Some(journal) = &mut self.journal {
            journal.add(&Entry::Match {
                configuration: played.configuration.to_string(),
                player: played.player.clone(),
                opponent: played.opponent.clone(),
                wins: played.wins,
                losses: played.losses,
            })?;
        }
        Ok(played)
    }

    fn score(
        &self,
        candidate: Player,
        opponent: Player,
        number: u64,
    ) -> anyhow::Result<MatchScore> {
        let payload = Payload::Evaluate {
            seed: self.bench.seed(),
            shape: self.args.shape.to_string(),
            candidate,
            opponent,
            games: self.args.games,
        };
        let job = self.bench.job("local match", number, None);
        let out: &Path = self.scratch.path();
        let jobs = [(job, payload, out.to_owned())];
        let made = self
            .bench
            .run_all("games", self.args.games.into(), &jobs, None)?;
        match made[..] {
            [Made::Match { wins, losses }] => Ok(MatchScore { wins, losses }),
            _ => anyhow::bail!("a match made something else than a result"),
        }
    }
}

impl Played {
    fn line(&self) -> String {
        format!(
            "{}{} against {} on {}: {} won, {} lost, {:.1} % ({:.1} to {:.1}), {:+.0} \u{b1} {:.0} Elo, {:.1} s",
            if self.stopped { "stopped: " } else { "" },
            self.player,
            self.opponent,
            self.configuration,
            self.wins,
            self.losses,
            100.0 * self.rate,
            100.0 * self.interval.0,
            100.0 * self.interval.1,
            self.elo,
            self.elo_error,
            self.seconds
        )
    }
}

impl Tournament {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return json(self);
        }
        table(
            &["PLAYER", "ELO", "ERROR", "GAMES"],
            self.ratings.iter().map(|place| {
                vec![
                    place.player.clone(),
                    format!("{:.0}", place.elo),
                    format!("{:.0}", place.standard_error),
                    place.games.to_string(),
                ]
            }),
        );
        for played in &self.matches {
            data(&played.line());
        }
        Ok(())
    }
}
