//! Recorded games, played again by the rules and compared with everything their records say.

use riftmesh_rules::{Configuration, Outcome, Position, RuleOptions};
use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::decision::Decision;
use crate::record::{DecisionRecord, GameRecord};

/// Why a game or a segment may not train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reject {
    /// The segment is damaged or no segment.
    Damaged,
    /// It was recorded by other rules.
    RulesVersion,
    /// Its actions are numbered differently.
    CodecVersion,
    /// It is of another board or number of players.
    WrongConfiguration,
    /// The model that played is not known.
    UnknownModel,
    /// A move is not legal in replay.
    IllegalMove,
    /// The recorded moves are not those the decisions lead to.
    MovesDiffer,
    /// The game does not end where its record ends.
    Unfinished,
    /// The winner differs from replay.
    WinnerDiffers,
    /// The final position differs from replay.
    EndDiffers,
    /// A policy target names an action that is not legal, or one twice.
    PolicyIllegal,
    /// A policy target is negative somewhere or does not sum to 1.
    PolicySum,
    /// A number is not finite or a value is no probability.
    NotANumber,
    /// The game was counted before.
    Duplicate,
}

impl Reject {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::RulesVersion => "rules-version",
            Self::CodecVersion => "codec-version",
            Self::WrongConfiguration => "wrong-configuration",
            Self::UnknownModel => "unknown-model",
            Self::IllegalMove => "illegal-move",
            Self::MovesDiffer => "moves-differ",
            Self::Unfinished => "unfinished",
            Self::WinnerDiffers => "winner-differs",
            Self::EndDiffers => "end-differs",
            Self::PolicyIllegal => "policy-illegal",
            Self::PolicySum => "policy-sum",
            Self::NotANumber => "not-a-number",
            Self::Duplicate => "duplicate",
        }
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::error::Error for Reject {}

/// A game as replay saw it.
#[derive(Debug, Clone)]
pub struct ReplayedGame {
    /// The position of each recorded decision.
    pub decisions: Vec<Decision>,
    /// The final position.
    pub end: Position,
    /// How it ended.
    pub outcome: Outcome,
    /// How many of the first decisions were made before the persons of seats 0 and 1 changed places (pie rule): their
    /// targets follow the person.
    pub before_swap: usize,
}

/// The tolerance on the sum of a policy target.
const POLICY_SUM_TOLERANCE: f32 = 1e-3;

/// Plays a recorded game again and compares everything its record says.
///
/// # Errors
/// The first thing that differs.
pub fn replay(
    configuration: Configuration,
    options: RuleOptions,
    game: &GameRecord,
) -> Result<ReplayedGame, Reject> {
    let codec = Codec::of(configuration.board());
    let mut moves = Vec::with_capacity(game.moves.len());
    let start = Position::start(configuration, options);
    let mut decision = Decision::after(start, &mut |action| moves.push(action));
    let mut decisions = Vec::with_capacity(game.decisions.len());
    let mut before_swap = 0;
    let mut legal = Vec::new();
    for (number, record) in game.decisions.iter().enumerate() {
        let choice = codec
            .decode(&decision, record.chosen)
            .ok_or(Reject::IllegalMove)?;
        codec.encode_all(&decision, &mut legal);
        check_decision(record, &mut legal)?;
        decisions.push(decision.clone());
        if riftmesh_search::Game::exchanges_seats(&decision, choice) {
            before_swap = number + 1;
        }
        decision.choose(choice, &mut |action| moves.push(action));
    }
    if moves != game.moves {
        return Err(Reject::MovesDiffer);
    }
    let end = decision.position().clone();
    let outcome = *end.outcome().ok_or(Reject::Unfinished)?;
    if outcome.winner.0 != game.winner {
        return Err(Reject::WinnerDiffers);
    }
    if end.text_hash() != game.end {
        return Err(Reject::EndDiffers);
    }
    Ok(ReplayedGame {
        decisions,
        end,
        outcome,
        before_swap,
    })
}

fn check_decision(record: &DecisionRecord, legal: &mut [u32]) -> Result<(), Reject> {
    let probable = |value: &f32| value.is_finite() && (-1e-3..=1.001).contains(value);
    if !record.values.iter().all(probable) {
        return Err(Reject::NotANumber);
    }
    if !record.is_row() {
        return Ok(());
    }
    legal.sort_unstable();
    if !record.policy.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Reject::PolicyIllegal);
    }
    if record
        .policy
        .iter()
        .any(|(action, _)| legal.binary_search(action).is_err())
    {
        return Err(Reject::PolicyIllegal);
    }
    let mut sum = 0.0;
    for (_, probability) in &record.policy {
        if !probability.is_finite() {
            return Err(Reject::NotANumber);
        }
        if *probability < 0.0 {
            return Err(Reject::PolicySum);
        }
        sum += probability;
    }
    if (sum - 1.0).abs() > POLICY_SUM_TOLERANCE {
        return Err(Reject::PolicySum);
    }
    Ok(())
}

/// Entropy of a distribution in nats.
pub fn entropy(probabilities: impl Iterator<Item = f32>) -> f64 {
    probabilities
        .filter(|probability| *probability > 0.0)
        .map(|probability| -f64::from(probability) * f64::from(probability).ln())
        .sum()
}
