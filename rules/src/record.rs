//! Recorded games: the form in which the reference engine's games come and in which played games are saved.
//!
//! [`verify_game`] compares everything a record says, [`RecordedGame::replay`] takes only its moves, and
//! [`record_game`] writes a record that the two accept.

mod replay;
mod verify;
mod write;

use serde::{Deserialize, Serialize};

use crate::Position;
use crate::configuration::{Board, Seat};

pub use replay::{RecordedMoves, ReplayError};
pub use verify::{Mismatch, MismatchStates, VerifiedGame, verify_game};
pub use write::record_game;

/// A recorded game, one line of a file (VECTORS).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedGame {
    /// Format version.
    pub v: u32,
    /// Unique name.
    pub id: String,
    /// `standard`, or the family of artificial positions that the start belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Board.
    pub board: Board,
    /// Number of players.
    pub players: usize,
    /// Who chose the moves; for people only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Rule options.
    pub rules: RecordedRules,
    /// Canonical text of the start position.
    pub init: String,
    /// Its hash.
    pub init_hash: String,
    /// The moves.
    pub plies: Vec<RecordedPly>,
    /// How many there are.
    pub n_plies: usize,
    /// The result; absent when the game was cut off.
    pub end: Option<RecordedEnd>,
    /// Whether the game was cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Rule options of a recorded game.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RecordedRules {
    /// The pie rule.
    pub swap: bool,
    /// Rounds until last-player-standing wins.
    pub lps_rounds: u16,
    /// Rings per player where they differ from the board's.
    pub rings_per_player: Option<usize>,
}

/// One move of a recorded game.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedPly {
    /// Number, from 0.
    pub n: usize,
    /// Player to move, from 1.
    pub p: u8,
    /// Phase code.
    pub ph: String,
    /// `f` for a forced bookkeeping move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<String>,
    /// Number of legal moves.
    pub nl: usize,
    /// Hash of the legal list.
    pub lh: String,
    /// The legal list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l: Option<String>,
    /// The move played.
    pub m: String,
    /// Hash of the position after it.
    pub h: String,
    /// Canonical text of the position after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s: Option<String>,
}

/// The result of a recorded game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEnd {
    /// Winner, from 1.
    pub winner: u8,
    /// The reference engine's reason.
    pub reason: String,
    /// What decided.
    pub rule: String,
    /// Whether hands counted as eliminated.
    pub hand_counted: bool,
    /// Final figures per seat.
    pub players: Vec<RecordedStanding>,
    /// Rank per seat.
    pub rank: Vec<u8>,
}

/// Final figures of one seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedStanding {
    /// Eliminated rings credited.
    pub elim: u16,
    /// Collapsed cells.
    pub terr: u16,
    /// Markers.
    pub markers: u16,
    /// Rings of its colour on the board.
    pub on_board: u16,
    /// Rings in hand.
    pub hand: u16,
}

/// A line that is no record of a game; whoever supplied it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{head}` does not begin a recorded game: {problem}")]
pub struct UnreadableRecord {
    /// How the line begins.
    pub head: String,
    /// Where in the line what was expected.
    pub problem: String,
}

/// Reads a line of a file of recorded games.
///
/// # Errors
/// The line is not such a record.
pub fn parse_game(line: &str) -> Result<RecordedGame, UnreadableRecord> {
    serde_json::from_str(line).map_err(|error| UnreadableRecord {
        head: line.trim().chars().take(60).collect(),
        problem: error.to_string(),
    })
}

impl RecordedGame {
    /// The record as a line of a file, without the line's end.
    pub fn to_line(&self) -> String {
        #[expect(
            clippy::expect_used,
            reason = "records hold numbers, texts and lists of them"
        )]
        serde_json::to_string(self).expect("a record is JSON")
    }

    /// Checks that version, rounds and rings are those of this crate; else what differs, recorded and supported.
    fn supported(&self) -> Result<(), (&'static str, String, String)> {
        let rules = self.rules;
        let facts = [
            ("format version", self.v.to_string(), "1".to_owned()),
            (
                "last-player-standing rounds",
                rules.lps_rounds.to_string(),
                crate::LAST_STANDING_ROUNDS.to_string(),
            ),
            (
                "rings per player",
                rules
                    .rings_per_player
                    .map_or("default".to_owned(), |rings| rings.to_string()),
                "default".to_owned(),
            ),
        ];
        facts
            .into_iter()
            .find(|(_, recorded, supported)| recorded != supported)
            .map_or(Ok(()), Err)
    }
}

fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// The result of a finished position in the form of the records.
pub fn end_of(position: &Position) -> Option<RecordedEnd> {
    let outcome = position.outcome()?;
    let seats = || position.configuration().seats();
    let standing = |seat: Seat| {
        let score = position.score(seat);
        RecordedStanding {
            elim: score.eliminated,
            terr: score.territory,
            markers: position.markers_of(seat).len() as u16,
            on_board: position.rings_on_board(seat),
            hand: score.hand,
        }
    };
    Some(RecordedEnd {
        winner: outcome.winner.number(),
        reason: outcome.rule.reason().to_owned(),
        rule: outcome.rule.name().to_owned(),
        hand_counted: outcome.hand_counted,
        players: seats().map(standing).collect(),
        rank: seats().map(|seat| outcome.rank(seat)).collect(),
    })
}
