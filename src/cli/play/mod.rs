//! `play`: a person at the terminal against the computer. This file only reads lines, asks the computer's players and
//! touches files; what lines mean and what is answered is decided in [`session`].

mod input;
mod players;
mod session;
#[cfg(test)]
mod session_tests;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use rand::SeedableRng;
use rand::rngs::StdRng;
use riftmesh_learning::checkpoint::write_whole;
use riftmesh_learning::device::DeviceChoice;
use riftmesh_rules::{Configuration, Position, RuleOptions};

use super::Exit;
use super::model_files::ModelFiles;
use super::output::{data, ink, prompt, talk};
use super::records::read_game;
use players::Opponent;
use session::{PlaySession, Wish};

/// How to play.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  riftmesh play hex8_2p\n  riftmesh play square8_3p --seat 2 --against random\n  \
                  riftmesh play hex8_2p --against model --manifest model.json --weights model.safetensors\n\n\
                  At the prompt, `help` lists what can be typed."
)]
pub struct PlayArgs {
    /// Board and players, such as `hex8_2p`
    configuration: Configuration,
    /// Who plays the other seats
    #[arg(long, value_enum, default_value_t = Against::Heuristic)]
    against: Against,
    /// Your seat, from 1
    #[arg(long, default_value_t = 1)]
    seat: u8,
    /// Play with the pie rule (two players)
    #[arg(long)]
    swap: bool,
    /// The model's manifest, or the folder it lies in (with `--against model`)
    #[arg(long, value_name = "FILE", required_if_eq("against", "model"))]
    manifest: Option<PathBuf>,
    /// The model's weights; looked for beside the manifest if not given
    #[arg(long, value_name = "FILE", requires = "manifest")]
    weights: Option<PathBuf>,
    /// Search visits per decision of the model; 0 plays its bare policy
    #[arg(long, default_value_t = 128)]
    simulations: u32,
    /// Where the model runs: auto, cpu or cuda:<number>
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Seed of the computer's choices, for a game that can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// Go on with a saved game
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
}

/// The players there are to play against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// Moves at random
    Random,
    /// Looks one move ahead
    Heuristic,
    /// A trained network
    Model,
    /// Nobody: you move for every seat
    Nobody,
}

/// Runs `play`.
pub fn run(args: &PlayArgs) -> anyhow::Result<Exit> {
    let players = args.configuration.players();
    anyhow::ensure!(
        (1..=players).contains(&usize::from(args.seat)),
        "--seat {} does not exist: {} has the seats 1 to {players}",
        args.seat,
        args.configuration
    );
    anyhow::ensure!(
        !args.swap || players == 2,
        "--swap is for two players: there is no pie rule in {}",
        args.configuration
    );
    let mut table = Table {
        opponent: opponent(args)?,
        session: PlaySession::new(
            Position::start(args.configuration, RuleOptions { swap: args.swap }),
            RuleOptions { swap: args.swap },
            humans(args),
            ink(),
        ),
        rng: StdRng::seed_from_u64(args.seed.unwrap_or_else(rand::random)),
    };
    if let Some(path) = &args.load {
        let text = table.load(path)?;
        data(&text);
    }
    data(&table.session.greeting());
    table.play()
}

/// Which seats a person moves for, as they are at the start.
fn humans(args: &PlayArgs) -> Vec<bool> {
    (1..=args.configuration.players())
        .map(|seat| args.against == Against::Nobody || seat == usize::from(args.seat))
        .collect()
}

fn opponent(args: &PlayArgs) -> anyhow::Result<Opponent> {
    match (args.against, &args.manifest) {
        (Against::Random, _) => Ok(Opponent::Random),
        // Nobody's seats never ask; a hint does.
        (Against::Heuristic | Against::Nobody, _) | (Against::Model, None) => {
            Ok(Opponent::Heuristic)
        }
        (Against::Model, Some(manifest)) => Opponent::network(
            &ModelFiles::find(manifest, args.weights.as_deref())?,
            args.configuration,
            args.simulations,
            args.device,
        ),
    }
}

/// The session with what it needs from outside.
struct Table {
    session: PlaySession,
    opponent: Opponent,
    rng: StdRng,
}

impl Table {
    /// Until the user leaves or the input ends.
    fn play(&mut self) -> anyhow::Result<Exit> {
        let mut lines = std::io::stdin().lock().lines();
        self.computer_moves();
        data(&self.session.board());
        loop {
            prompt(&self.session.prompt());
            let Some(line) = lines.next() else {
                talk("\nthe input has ended; the game was not saved");
                return Ok(Exit::Ok);
            };
            // Bytes that are no text are a line nobody understands, not the end of the game.
            let line = line.unwrap_or_else(|_| "\u{fffd}".to_owned());
            let reply = self.session.input(&line);
            if !reply.text.is_empty() {
                data(&reply.text);
            }
            match reply.wish {
                Wish::Nothing => {}
                Wish::Quit => return Ok(Exit::Ok),
                Wish::Continue => {
                    self.computer_moves();
                    data(&self.session.board());
                }
                Wish::Hint => {
                    let action = Opponent::Heuristic.action(self.session.position(), &mut self.rng);
                    data(&self.session.hint(action));
                }
                Wish::Save { path, replace } => data(&self.save(&path, replace)),
                Wish::Load { path } => match self.load(&path) {
                    Ok(text) => {
                        data(&text);
                        self.computer_moves();
                        data(&self.session.board());
                    }
                    Err(error) => data(&format!("not loaded: {error:#}")),
                },
            }
        }
    }

    /// Plays for the computer until a person has a choice or the game is over.
    fn computer_moves(&mut self) {
        while self.session.computer_to_move() {
            let action = self.opponent.action(self.session.position(), &mut self.rng);
            data(&self.session.computer_plays(action));
        }
    }

    fn save(&mut self, path: &Path, replace: bool) -> String {
        if path.exists() && !replace && !self.session.owns(path) {
            return format!(
                "{} is there already: choose another name, or `save! {}` to replace it",
                path.display(),
                path.display()
            );
        }
        let saved = self
            .session
            .record()
            .and_then(|line| Ok(write_whole(path, line.as_bytes())?));
        match saved {
            Ok(()) => self.session.saved(path),
            Err(error) => format!("not saved: {error:#}"),
        }
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<String> {
        let game = read_game(path, "1")?;
        let replayed = game
            .replay()
            .with_context(|| format!("{}, game {}", path.display(), game.id))?;
        self.session.resume(replayed, path)
    }
}
