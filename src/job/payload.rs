//! The parameters of each kind of job, carried as JSON in `JobSpec::payload`.

use riftmesh_base::{BlobHash, JobId, Seed};
use riftmesh_statemachine::job::{JobKind, Player};
use serde::{Deserialize, Serialize};

/// What a job is to do. Unknown fields are refused: a newer leader's job is not run half understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub enum Payload {
    /// Games of the champion (resolved when the job starts) against itself.
    Selfplay {
        /// Who plays while there is no champion.
        #[serde(default)]
        beginner: Beginner,
        /// The run's seed; the job's is derived from it and the job's id.
        seed: Seed,
        /// Games to play.
        games: u32,
        /// Simulations per fully searched decision.
        simulations: u32,
        /// Share of decisions that are fully searched and become rows, in percent.
        #[serde(default = "all")]
        full_percent: u32,
        /// Shape of the network while there is no champion.
        shape: String,
    },
    /// Optimiser steps on a window of replay.
    Train(TrainOrder),
    /// Paired games between two players.
    Evaluate {
        /// The run's seed.
        seed: Seed,
        /// Shape of the untrained network, if one plays.
        shape: String,
        /// The player being judged.
        candidate: Player,
        /// The player it is judged against.
        opponent: Player,
        /// Games in all, an even number: each opening is played twice with seats exchanged.
        games: u32,
    },
}

/// Every decision is fully searched: what older leaders meant.
fn all() -> u32 {
    100
}

/// Who plays the first games of a run, before there is a champion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Beginner {
    /// The untrained network.
    #[default]
    Untrained,
    /// Search over the heuristic's features.
    Heuristic,
}

/// Optimiser steps on a window of replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOrder {
    /// The run's seed.
    pub seed: Seed,
    /// Shape of the network.
    pub shape: String,
    /// Weights to start from; none starts afresh.
    pub parent: Option<BlobHash>,
    /// Segments to sample from, oldest first.
    pub segments: Vec<BlobHash>,
    /// Optimiser steps to make.
    pub steps: u64,
    /// Rows in one step.
    pub batch: u32,
    /// Rows in the ledger when the job was planned.
    pub rows: u64,
}

impl Payload {
    /// The JSON text that goes into `JobSpec::payload`.
    pub fn to_json(&self) -> String {
        #[expect(
            clippy::expect_used,
            reason = "derived serialisation into a string of types with string keys"
        )]
        serde_json::to_string(self).expect("a payload is always valid JSON")
    }

    /// Reads `JobSpec::payload`.
    ///
    /// # Errors
    /// The text is not a payload of this build; whoever submitted the job is at fault.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The kind of job it is for.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Selfplay { .. } => JobKind::Selfplay,
            Self::Train(_) => JobKind::Train,
            Self::Evaluate { .. } => JobKind::Evaluate,
        }
    }

    /// The seed of this job: the same for every attempt, different from every other job's.
    pub fn job_seed(&self, job: JobId) -> Seed {
        let (Self::Selfplay { seed, .. }
        | Self::Train(TrainOrder { seed, .. })
        | Self::Evaluate { seed, .. }) = self;
        seed.derive("job", job.0)
    }

    /// Blobs that must be on the worker's disk before the job starts, besides the champion.
    pub fn inputs(&self) -> Vec<BlobHash> {
        match self {
            Self::Selfplay { .. } => Vec::new(),
            Self::Train(order) => order
                .parent
                .iter()
                .chain(&order.segments)
                .copied()
                .collect(),
            Self::Evaluate {
                candidate,
                opponent,
                ..
            } => [candidate, opponent]
                .into_iter()
                .filter_map(player_model)
                .collect(),
        }
    }
}

/// The registry model a player uses, if it uses one.
pub fn player_model(player: &Player) -> Option<BlobHash> {
    match player {
        Player::Model { model, .. } => Some(*model),
        Player::Random | Player::Heuristic | Player::Untrained { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON form is read by workers of other builds: it may not change by accident.
    #[test]
    fn the_json_form_is_pinned() {
        let payload = Payload::Selfplay {
            beginner: Beginner::Heuristic,
            seed: Seed(7),
            games: 16,
            simulations: 16,
            full_percent: 25,
            shape: "tiny".into(),
        };
        let json = r#"{"do":"selfplay","beginner":"heuristic","seed":7,"games":16,"simulations":16,"full_percent":25,"shape":"tiny"}"#;
        assert_eq!(payload.to_json(), json);
        assert_eq!(Payload::from_json(json).unwrap(), payload);
        assert!(Payload::from_json(&json.replace("\"games\"", "\"gmaes\"")).is_err());
    }

    #[test]
    fn jobs_of_one_run_have_different_seeds() {
        let payload = Payload::Selfplay {
            beginner: Beginner::Heuristic,
            seed: Seed(7),
            games: 16,
            simulations: 16,
            full_percent: 25,
            shape: "tiny".into(),
        };
        assert_ne!(payload.job_seed(JobId(1)), payload.job_seed(JobId(2)));
    }
}
