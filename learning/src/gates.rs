//! The gate in front of training: games that lie are refused by name, odd ones are counted.

use std::collections::{BTreeMap, HashSet};

use riftmesh_base::{BlobHash, JobId};
use riftmesh_rules::{Configuration, RuleOptions};
use serde::{Deserialize, Serialize};

use crate::codec::CODEC_VERSION;
use crate::record::{GameRecord, RULES_VERSION, SegmentHeader, game_id};
use crate::replay::{Reject, ReplayedGame, entropy, replay};
use crate::weights::SEATS;

/// Something odd about a game that may train nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GameFlag {
    /// Fewer than ten decisions.
    Short,
    /// The mean entropy of the policy targets is below 0.05.
    Certain,
}

/// What is odd about a game.
pub fn flags(game: &GameRecord) -> Vec<GameFlag> {
    const DECISIONS_FEW: usize = 10;
    const ENTROPY_LOW: f64 = 0.05;
    let mut flags = Vec::new();
    if game.decisions.len() < DECISIONS_FEW {
        flags.push(GameFlag::Short);
    }
    let rows = game.decisions.iter().filter(|decision| decision.is_row());
    let entropies: Vec<f64> = rows
        .map(|row| entropy(row.policy.iter().map(|entry| entry.1)))
        .collect();
    let mean = entropies.iter().sum::<f64>() / entropies.len().max(1) as f64;
    if !entropies.is_empty() && mean < ENTROPY_LOW {
        flags.push(GameFlag::Certain);
    }
    flags
}

/// The gate in front of training: every game goes through it once.
#[derive(Debug, Default)]
pub struct DataGate {
    known_models: Option<HashSet<BlobHash>>,
    seen: HashSet<BlobHash>,
    /// Games let through.
    pub accepted: u64,
    /// Games and segments refused, by reason.
    pub rejected: BTreeMap<Reject, u64>,
    /// Games let through with something odd about them.
    pub flagged: BTreeMap<GameFlag, u64>,
    /// Games let through that each seat won.
    pub wins: [u64; SEATS],
    /// The first refused game of each reason, for a person to look at.
    pub samples: BTreeMap<Reject, (JobId, u64)>,
}

impl DataGate {
    /// A gate that takes games of any model.
    pub fn new() -> Self {
        Self::default()
    }

    /// A gate that takes games of these models and of untrained ones only.
    pub fn for_models(known: HashSet<BlobHash>) -> Self {
        Self {
            known_models: Some(known),
            ..Self::default()
        }
    }

    /// Whether the games of a segment may be looked at.
    ///
    /// # Errors
    /// Why not; it is counted.
    pub fn admit_segment(
        &mut self,
        header: &SegmentHeader,
        configuration: Configuration,
    ) -> Result<(), Reject> {
        let reject = if header.rules != RULES_VERSION {
            Some(Reject::RulesVersion)
        } else if header.codec != CODEC_VERSION {
            Some(Reject::CodecVersion)
        } else if header.configuration.as_str() != configuration.to_string() {
            Some(Reject::WrongConfiguration)
        } else if !self.knows(header.model) {
            Some(Reject::UnknownModel)
        } else {
            None
        };
        reject.map_or(Ok(()), |reject| {
            self.count(reject);
            Err(reject)
        })
    }

    /// Replays a game and lets it through or not.
    ///
    /// # Errors
    /// Why not; it is counted and the first game of each reason is remembered.
    pub fn admit_game(
        &mut self,
        header: &SegmentHeader,
        configuration: Configuration,
        game: &GameRecord,
    ) -> Result<ReplayedGame, Reject> {
        let options = RuleOptions { swap: header.swap };
        let result = if self.seen.insert(game_id(header.job, game.number)) {
            replay(configuration, options, game)
        } else {
            Err(Reject::Duplicate)
        };
        match &result {
            Ok(_) => {
                self.accepted += 1;
                self.wins[usize::from(game.winner)] += 1;
                for flag in flags(game) {
                    *self.flagged.entry(flag).or_default() += 1;
                }
            }
            Err(reject) => {
                self.count(*reject);
                self.samples
                    .entry(*reject)
                    .or_insert((header.job, game.number));
            }
        }
        result
    }

    /// The seat that wins over 1.3 times its share, once there are 500 games: a rule or a search is likely wrong.
    pub fn favoured_seat(&self, players: usize) -> Option<usize> {
        const GAMES_MIN: u64 = 500;
        const SHARES_MAX: f64 = 1.3;
        let bound = SHARES_MAX * self.accepted as f64 / players as f64;
        let favoured = self.wins.iter().position(|wins| *wins as f64 > bound);
        favoured.filter(|_| self.accepted >= GAMES_MIN)
    }

    /// Counts a refusal found elsewhere, such as a damaged file.
    pub fn count(&mut self, reject: Reject) {
        *self.rejected.entry(reject).or_default() += 1;
    }

    fn knows(&self, model: Option<BlobHash>) -> bool {
        match (&self.known_models, model) {
            (Some(known), Some(model)) => known.contains(&model),
            (None, _) | (_, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_favoured_seat_shows_after_five_hundred_games() {
        let mut gate = DataGate::new();
        (gate.accepted, gate.wins) = (400, [400, 0, 0, 0]);
        assert_eq!(gate.favoured_seat(2), None);
        (gate.accepted, gate.wins) = (600, [200, 400, 0, 0]);
        assert_eq!(gate.favoured_seat(2), Some(1));
        (gate.accepted, gate.wins) = (600, [260, 340, 0, 0]);
        assert_eq!(gate.favoured_seat(2), None);
    }
}
