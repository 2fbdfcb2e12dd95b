//! Players on the command line: `random`, `heuristic`, `untrained@32`, `runs/a@64`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use riftmesh_statemachine::job::Player;

use super::bench::LocalBench;

/// Simulations of a searching player that does not say how many.
const SIMULATIONS_DEFAULT: u32 = 32;
/// Most simulations of a player.
const SIMULATIONS_MAX: u32 = 100_000;

/// A player as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayerArg {
    who: Who,
    simulations: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Random,
    Heuristic,
    Untrained,
    Model(PathBuf),
}

impl FromStr for PlayerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, simulations) = match text.rsplit_once('@') {
            Some((name, number)) => {
                let number = number.parse().ok().filter(|n| *n <= SIMULATIONS_MAX);
                let number = number.ok_or_else(|| {
                    format!("`{text}`: expected a number of simulations up to {SIMULATIONS_MAX} behind the @")
                })?;
                (name, Some(number))
            }
            None => (text, None),
        };
        let who = match name {
            "" => {
                return Err(
                    "a player has a name: random, heuristic, untrained, or a model's folder"
                        .to_owned(),
                );
            }
            "random" => Who::Random,
            "heuristic" => Who::Heuristic,
            "untrained" => Who::Untrained,
            path => Who::Model(path.into()),
        };
        if matches!(who, Who::Random | Who::Heuristic) && simulations.is_some() {
            return Err(format!("`{text}`: {name} does not search"));
        }
        let simulations = simulations.unwrap_or(SIMULATIONS_DEFAULT);
        Ok(Self { who, simulations })
    }
}

impl fmt::Display for PlayerArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simulations = self.simulations;
        match &self.who {
            Who::Random => f.pad("random"),
            Who::Heuristic => f.pad("heuristic"),
            Who::Untrained => f.pad(&format!("untrained@{simulations}")),
            Who::Model(path) => f.pad(&format!("{}@{simulations}", path.display())),
        }
    }
}

impl PlayerArg {
    /// Whether it is the anchor of ratings.
    pub fn is_random(&self) -> bool {
        self.who == Who::Random
    }

    /// The player as jobs know it; a model's files become inputs of the bench.
    ///
    /// # Errors
    /// There is no such model.
    pub fn resolve(&self, bench: &mut LocalBench<'_>) -> anyhow::Result<Player> {
        let simulations = self.simulations;
        Ok(match &self.who {
            Who::Random => Player::Random,
            Who::Heuristic => Player::Heuristic,
            Who::Untrained => Player::Untrained { simulations },
            Who::Model(path) => Player::Model {
                model: bench.add_model(path)?,
                simulations,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_read_like_they_print() {
        for text in [
            "random",
            "heuristic",
            "untrained@0",
            "runs/a@64",
            "user@host/model@8",
        ] {
            assert_eq!(text.parse::<PlayerArg>().unwrap().to_string(), text);
        }
        assert_eq!(
            "runs/a".parse::<PlayerArg>().unwrap().to_string(),
            "runs/a@32"
        );
        for wrong in ["", "@8", "random@8", "runs/a@many", "untrained@1000000"] {
            assert!(wrong.parse::<PlayerArg>().is_err(), "{wrong}");
        }
    }
}
