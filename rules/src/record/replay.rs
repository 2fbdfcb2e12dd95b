//! Taking the moves of a recorded game, whatever else the record says.

use super::RecordedGame;
use crate::configuration::RuleOptions;
use crate::text::TextError;
use crate::{Action, Position, notation};

/// Legal moves named by an error.
const MOVES_NAMED: usize = 40;

/// The moves of a recorded game, each of them legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedMoves {
    /// Where the game starts.
    pub start: Position,
    /// Its rule options.
    pub options: RuleOptions,
    /// The moves.
    pub actions: Vec<Action>,
}

/// A record that cannot be played; whoever supplied it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The record is of another version or of rules that are not supported.
    #[error("{what} {recorded}: only {supported} can be read")]
    Unsupported {
        /// What is different.
        what: &'static str,
        /// The record's side.
        recorded: String,
        /// What this crate reads.
        supported: String,
    },
    /// The start position is none.
    #[error("start position: {0}")]
    Start(#[from] TextError),
    /// A move is malformed or not legal.
    #[error("ply {ply}: `{read}` {problem}; legal: {}", legal.join(" "))]
    Ply {
        /// Its number, from 0.
        ply: usize,
        /// What was read.
        read: String,
        /// What is wrong with it.
        problem: String,
        /// What would have been legal, at most forty moves and how many more there are.
        legal: Vec<String>,
    },
}

impl RecordedGame {
    /// Plays the record's moves. Hashes, legal lists, positions and result are not looked at: that is for
    /// [`super::verify_game`].
    ///
    /// # Errors
    /// The start position, or the first move that cannot be played.
    pub fn replay(&self) -> Result<RecordedMoves, ReplayError> {
        self.supported()
            .map_err(|(what, recorded, supported)| ReplayError::Unsupported {
                what,
                recorded,
                supported,
            })?;
        let options = RuleOptions {
            swap: self.rules.swap,
        };
        let start = Position::parse(&self.init, options)?;
        let (mut position, mut actions) = (start.clone(), Vec::new());
        for (ply, recorded) in self.plies.iter().enumerate() {
            let action = read(&mut position, ply, &recorded.m)?;
            actions.push(action);
        }
        Ok(RecordedMoves {
            start,
            options,
            actions,
        })
    }
}

impl RecordedMoves {
    /// The position after the first `plies` moves; `None` when there are fewer.
    pub fn position_after(&self, plies: usize) -> Option<Position> {
        let mut position = self.start.clone();
        for &action in self.actions.get(..plies)? {
            position.apply(action);
        }
        Some(position)
    }
}

/// Reads and plays one move.
fn read(position: &mut Position, ply: usize, text: &str) -> Result<Action, ReplayError> {
    let problem = match notation::parse(position, text) {
        Ok(action) => match position.try_apply(action) {
            Ok(()) => return Ok(action),
            Err(_) => "is not legal".to_owned(),
        },
        Err(error) => format!("cannot be read ({error})"),
    };
    Err(ReplayError::Ply {
        ply,
        read: text.chars().take(80).collect(),
        problem,
        legal: legal_texts(position),
    })
}

/// The texts of the legal moves, the first few of them.
fn legal_texts(position: &Position) -> Vec<String> {
    let mut legal = Vec::new();
    position.legal(&mut legal);
    let more = legal.len().saturating_sub(MOVES_NAMED);
    legal.truncate(MOVES_NAMED);
    let mut texts: Vec<_> = legal
        .iter()
        .map(|&action| notation::format(position, action))
        .collect();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts
}
