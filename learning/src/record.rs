//! What is kept of a self-play game: its moves and, for every decision, what the search found. Inputs of the network are
//! not kept; they are encoded when a game is read, so a new encoder never invalidates old games.

use riftmesh_base::{BlobHash, ConfigurationName, JobId, Seed};
use riftmesh_rules::Action;
use serde::{Deserialize, Serialize};

use crate::weights::SEATS;

/// Version of the rules that recorded games were played by. Raised when a rule changes.
pub const RULES_VERSION: u16 = 1;

/// Decisions in one game at most: several times the longest seen on the largest board.
pub const DECISIONS_MAX: usize = 20_000;
/// Moves in one game at most.
pub const MOVES_MAX: usize = 40_000;
/// Entries in one policy target at most: more than any position has legal actions.
pub const POLICY_MAX: usize = 8_192;

/// What all games of a segment share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// [`RULES_VERSION`] when they were played.
    pub rules: u16,
    /// Version of the action codec that numbered their actions.
    pub codec: u16,
    /// Version of the input encoder of the network that played.
    pub encoder: u16,
    /// Board and number of players.
    pub configuration: ConfigurationName,
    /// Whether the pie rule was in force.
    pub swap: bool,
    /// The model that played, none for an untrained one.
    pub model: Option<BlobHash>,
    /// The job they were played for.
    pub job: JobId,
    /// The job's seed: game `n` is played from `seed.derive("game", n)`.
    pub seed: Seed,
    /// Simulations of a full search.
    pub simulations: u32,
}

/// A finished game.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GameRecord {
    /// Its number in the job, from 0.
    pub number: u64,
    /// Every move, forced ones included.
    pub moves: Vec<Action>,
    /// Every decision (two or more legal choices), in order.
    pub decisions: Vec<DecisionRecord>,
    /// The winner's seat, from 0.
    pub winner: u8,
    /// Hash of the final position.
    pub end: u64,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Dense index of the action played.
    pub chosen: u32,
    /// The search's improved policy: dense indices, ascending, with probabilities. Empty when the decision is no
    /// training row.
    pub policy: Vec<(u32, f32)>,
    /// The search's value of each seat, from 0; zero for absent seats.
    pub values: [f32; SEATS],
    /// Simulations spent.
    pub simulations: u32,
    /// What else is to be known: a combination of the `FLAG_` constants.
    pub flags: u8,
}

/// The action was sampled with a temperature instead of being the search's choice.
pub const FLAG_SAMPLED: u8 = 1;
/// The decision got a full search and is a training row.
pub const FLAG_ROW: u8 = 2;

impl DecisionRecord {
    /// Whether it is a training row.
    pub fn is_row(&self) -> bool {
        self.flags & FLAG_ROW != 0
    }
}

impl GameRecord {
    /// Training rows in it.
    pub fn rows(&self) -> usize {
        self.decisions
            .iter()
            .filter(|decision| decision.is_row())
            .count()
    }

    /// Whether its lengths are within bounds.
    pub fn is_bounded(&self) -> bool {
        self.moves.len() <= MOVES_MAX
            && self.decisions.len() <= DECISIONS_MAX
            && self
                .decisions
                .iter()
                .all(|decision| decision.policy.len() <= POLICY_MAX)
    }
}

/// The identity of game `number` of `job`: the same for a retried job, so that no game counts twice.
pub fn game_id(job: JobId, number: u64) -> BlobHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"riftmesh game");
    hasher.update(&job.0.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    BlobHash(*hasher.finalize().as_bytes())
}
