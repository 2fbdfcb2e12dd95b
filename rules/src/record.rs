//! Recorded games of the reference engine: reading one, replaying it, comparing everything it says.

use serde::Deserialize;

use crate::configuration::{Board, Configuration, RuleOptions, Seat};
use crate::hash::text_hash;
use crate::{Action, Outcome, Position, notation};

/// A recorded game, one line of a file (VECTORS).
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedGame {
    /// Format version.
    pub v: u32,
    /// Unique name.
    pub id: String,
    /// Board.
    pub board: Board,
    /// Number of players.
    pub players: usize,
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
    #[serde(default)]
    pub truncated: bool,
}

/// Rule options of a recorded game.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct RecordedRules {
    /// The pie rule.
    pub swap: bool,
    /// Rounds until last-player-standing wins.
    pub lps_rounds: u16,
    /// Rings per player where they differ from the board's.
    pub rings_per_player: Option<usize>,
}

/// One move of a recorded game.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedPly {
    /// Number, from 0.
    pub n: usize,
    /// Player to move, from 1.
    pub p: u8,
    /// Phase code.
    pub ph: String,
    /// `f` for a forced bookkeeping move.
    pub k: Option<String>,
    /// Number of legal moves.
    pub nl: usize,
    /// Hash of the legal list.
    pub lh: String,
    /// The legal list.
    pub l: Option<String>,
    /// The move played.
    pub m: String,
    /// Hash of the position after it.
    pub h: String,
    /// Canonical text of the position after it.
    pub s: Option<String>,
}

/// The result of a recorded game.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

/// A game that was replayed and agreed in everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGame {
    /// Its name.
    pub id: String,
    /// Board and players.
    pub configuration: Configuration,
    /// Moves replayed.
    pub plies: usize,
    /// Those among them with two or more legal choices.
    pub decisions: usize,
    /// The result; `None` for a game that was cut off.
    pub outcome: Option<Outcome>,
}

/// A difference between a recorded game and this crate, or a record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("game {id}, ply {}: {what}: recorded `{recorded}`, computed `{computed}`", ply.map_or("-".to_owned(), |n| n.to_string()))]
pub struct Mismatch {
    /// The game's name; empty when it could not be read.
    pub id: String,
    /// The ply, or `None` outside the moves.
    pub ply: Option<usize>,
    /// What differs.
    pub what: &'static str,
    /// The record's side.
    pub recorded: String,
    /// This crate's side.
    pub computed: String,
}

/// Collects where in which game a comparison is made.
struct Check<'a> {
    id: &'a str,
    ply: Option<usize>,
}

impl Check<'_> {
    fn mismatch(
        &self,
        what: &'static str,
        recorded: impl ToString,
        computed: impl ToString,
    ) -> Mismatch {
        Mismatch {
            id: self.id.to_owned(),
            ply: self.ply,
            what,
            recorded: recorded.to_string(),
            computed: computed.to_string(),
        }
    }

    fn same<T: ToString + PartialEq<U>, U: ToString>(
        &self,
        what: &'static str,
        recorded: T,
        computed: U,
    ) -> Result<(), Mismatch> {
        if recorded == computed {
            Ok(())
        } else {
            Err(self.mismatch(what, recorded, computed))
        }
    }
}

/// Reads a line of a file of recorded games.
///
/// # Errors
/// The line is not such a record.
pub fn parse_game(line: &str) -> Result<RecordedGame, Mismatch> {
    let unread = Check { id: "", ply: None };
    let head: String = line.chars().take(60).collect();
    serde_json::from_str(line).map_err(|error| unread.mismatch("unreadable record", head, error))
}

/// Replays a recorded game and compares the legal list (text, number, hash), the position (text, hash), player and
/// phase at every ply, and the result.
///
/// # Errors
/// The first difference.
pub fn verify_game(line: &str) -> Result<VerifiedGame, Mismatch> {
    let game = parse_game(line)?;
    let mut check = Check {
        id: &game.id,
        ply: None,
    };
    let mut position = start_of(&game, &check)?;
    let mut replay = Replay::default();
    for (number, ply) in game.plies.iter().enumerate() {
        check.ply = Some(number);
        check.same("ply number", ply.n, number)?;
        replay.play(&check, &mut position, ply)?;
    }
    check.ply = None;
    check.same("number of plies", game.n_plies, game.plies.len())?;
    check.same(
        "unfinished",
        game.end.is_none(),
        position.outcome().is_none(),
    )?;
    check.same("truncated", game.truncated, game.end.is_none())?;
    if let Some(end) = &game.end {
        let computed = end_of(&position);
        if computed.as_ref() != Some(end) {
            return Err(check.mismatch("result", format!("{end:?}"), format!("{computed:?}")));
        }
    }
    Ok(VerifiedGame {
        configuration: position.configuration(),
        plies: game.plies.len(),
        decisions: replay.decisions,
        outcome: position.outcome().copied(),
        id: game.id,
    })
}

fn start_of(game: &RecordedGame, check: &Check<'_>) -> Result<Position, Mismatch> {
    check.same("format version", game.v, 1u32)?;
    check.same(
        "last-player-standing rounds",
        game.rules.lps_rounds,
        crate::LAST_STANDING_ROUNDS,
    )?;
    check.same(
        "default rings per player",
        game.rules.rings_per_player.is_none(),
        true,
    )?;
    let position = Position::parse(
        &game.init,
        RuleOptions {
            swap: game.rules.swap,
        },
    )
    .map_err(|error| check.mismatch("start position", &game.init, error))?;
    let configuration = Configuration::new(game.board, game.players);
    if configuration != Some(position.configuration()) {
        let recorded = format!("{}_{}p", game.board, game.players);
        return Err(check.mismatch("configuration", recorded, position.configuration()));
    }
    check.same(
        "start position",
        game.init.as_str(),
        position.canonical_text(),
    )?;
    check.same(
        "start hash",
        game.init_hash.as_str(),
        hex(position.text_hash()),
    )?;
    Ok(position)
}

/// What a replay carries from ply to ply.
#[derive(Default)]
struct Replay {
    legal: Vec<Action>,
    texts: Vec<(String, Action)>,
    decisions: usize,
}

impl Replay {
    fn play(
        &mut self,
        check: &Check<'_>,
        position: &mut Position,
        ply: &RecordedPly,
    ) -> Result<(), Mismatch> {
        let mover = position.to_move().map_or(0, Seat::number);
        check.same("player to move", ply.p, mover)?;
        check.same("phase", ply.ph.as_str(), position.phase().code())?;
        self.compare_legal(check, position, ply)?;
        let chosen = self.texts.iter().find(|(text, _)| *text == ply.m);
        let Some(&(_, action)) = chosen else {
            return Err(check.mismatch("move played", &ply.m, "not legal"));
        };
        position.apply(action);
        let text = position.canonical_text();
        if let Some(recorded) = &ply.s {
            check.same("position", recorded.as_str(), text.as_str())?;
        }
        check
            .same(
                "position hash",
                ply.h.as_str(),
                hex(text_hash(&text)).as_str(),
            )
            .map_err(|mismatch| Mismatch {
                computed: format!("{} of {text}", mismatch.computed),
                ..mismatch
            })
    }

    fn compare_legal(
        &mut self,
        check: &Check<'_>,
        position: &Position,
        ply: &RecordedPly,
    ) -> Result<(), Mismatch> {
        position.legal(&mut self.legal);
        self.decisions += usize::from(self.legal.len() > 1);
        self.texts.clear();
        self.texts.extend(
            self.legal
                .iter()
                .map(|&action| (notation::format(position, action), action)),
        );
        self.texts.sort();
        let texts: Vec<&str> = self.texts.iter().map(|(text, _)| text.as_str()).collect();
        let computed = texts.join(" ");
        let recorded = match (&ply.l, &ply.k) {
            (Some(list), _) => list,
            (None, Some(_)) => &ply.m,
            (None, None) => return Err(check.mismatch("legal list", "absent", computed)),
        };
        check.same("legal list", recorded.as_str(), computed.as_str())?;
        check.same("number of legal moves", ply.nl, self.legal.len())?;
        check.same(
            "legal list hash",
            ply.lh.as_str(),
            hex(text_hash(&computed)).as_str(),
        )
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
