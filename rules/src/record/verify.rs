//! Replaying a recorded game and comparing everything it says.

use super::{RecordedGame, RecordedPly, end_of, hex, parse_game};
use crate::configuration::{Configuration, RuleOptions, Seat};
use crate::hash::text_hash;
use crate::{Action, Outcome, Position, notation};

/// Moves named when two lists of legal moves differ.
const MOVES_NAMED: usize = 20;

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
    /// The positions around the difference; none outside the moves.
    pub states: Option<Box<MismatchStates>>,
}

/// The positions around the first difference of a game, as canonical texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MismatchStates {
    /// Before the ply: both sides still agree.
    pub before: String,
    /// The move of the record.
    pub played: String,
    /// After it by the record, which has the text of some positions and only the hash of the others.
    pub recorded: Option<String>,
    /// After it by this crate; none when the move is not legal here.
    pub computed: Option<String>,
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
            states: None,
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

/// Replays a recorded game and compares the legal list (text, number, hash), the position (text, hash), player and
/// phase at every ply, and the result.
///
/// # Errors
/// The first difference.
pub fn verify_game(line: &str) -> Result<VerifiedGame, Mismatch> {
    let unread = Check { id: "", ply: None };
    let game = parse_game(line)
        .map_err(|error| unread.mismatch("unreadable record", error.head, error.problem))?;
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
    check_end(&game, &check, &position)?;
    Ok(VerifiedGame {
        configuration: position.configuration(),
        plies: game.plies.len(),
        decisions: replay.decisions,
        outcome: position.outcome().copied(),
        id: game.id,
    })
}

fn check_end(game: &RecordedGame, check: &Check<'_>, position: &Position) -> Result<(), Mismatch> {
    check.same("number of plies", game.n_plies, game.plies.len())?;
    check.same(
        "unfinished",
        game.end.is_none(),
        position.outcome().is_none(),
    )?;
    check.same("truncated", game.truncated, game.end.is_none())?;
    if let Some(end) = &game.end {
        let computed = end_of(position);
        if computed.as_ref() != Some(end) {
            return Err(check.mismatch("result", format!("{end:?}"), format!("{computed:?}")));
        }
    }
    Ok(())
}

fn start_of(game: &RecordedGame, check: &Check<'_>) -> Result<Position, Mismatch> {
    game.supported()
        .map_err(|(what, recorded, supported)| check.mismatch(what, recorded, supported))?;
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
    /// Compares one ply and plays it; a difference gets the positions around it.
    fn play(
        &mut self,
        check: &Check<'_>,
        position: &mut Position,
        ply: &RecordedPly,
    ) -> Result<(), Mismatch> {
        // The text before the move is wanted only if something differs: the copy is much cheaper.
        let before = position.clone();
        let agreed = self
            .compare_before(check, position, ply)
            .and_then(|action| {
                position.apply(action);
                compare_after(check, position, ply)
            });
        agreed.map_err(|mismatch| Mismatch {
            states: Some(Box::new(self.states(before, ply))),
            ..mismatch
        })
    }

    fn states(&self, before: Position, ply: &RecordedPly) -> MismatchStates {
        let text = before.canonical_text();
        let mut after = before;
        let computed = self.chosen(ply).map(|action| {
            after.apply(action);
            after.canonical_text()
        });
        MismatchStates {
            before: text,
            played: ply.m.clone(),
            recorded: ply.s.clone(),
            computed,
        }
    }

    /// The recorded move, if it is among the legal ones.
    fn chosen(&self, ply: &RecordedPly) -> Option<Action> {
        let chosen = self.texts.iter().find(|(text, _)| *text == ply.m);
        chosen.map(|&(_, action)| action)
    }

    fn compare_before(
        &mut self,
        check: &Check<'_>,
        position: &Position,
        ply: &RecordedPly,
    ) -> Result<Action, Mismatch> {
        self.list(position);
        let mover = position.to_move().map_or(0, Seat::number);
        check.same("player to move", ply.p, mover)?;
        check.same("phase", ply.ph.as_str(), position.phase().code())?;
        self.compare_legal(check, ply)?;
        self.chosen(ply).ok_or_else(|| {
            let legal = self.texts.iter().map(|(text, _)| text.as_str());
            let legal = named(legal);
            check.mismatch("move played", &ply.m, format!("not legal; legal: {legal}"))
        })
    }

    /// Fills in the legal moves and their texts.
    fn list(&mut self, position: &Position) {
        position.legal(&mut self.legal);
        self.decisions += usize::from(self.legal.len() > 1);
        self.texts.clear();
        self.texts.extend(
            self.legal
                .iter()
                .map(|&action| (notation::format(position, action), action)),
        );
        self.texts.sort();
    }

    fn compare_legal(&self, check: &Check<'_>, ply: &RecordedPly) -> Result<(), Mismatch> {
        let texts: Vec<&str> = self.texts.iter().map(|(text, _)| text.as_str()).collect();
        let computed = texts.join(" ");
        let recorded = match (&ply.l, &ply.k) {
            (Some(list), _) => list,
            (None, Some(_)) => &ply.m,
            (None, None) => return Err(check.mismatch("legal list", "absent", named(texts))),
        };
        if *recorded != computed {
            return Err(self.list_mismatch(check, recorded));
        }
        check.same("number of legal moves", ply.nl, self.legal.len())?;
        check.same(
            "legal list hash",
            ply.lh.as_str(),
            hex(text_hash(&computed)).as_str(),
        )
    }

    /// Names the moves that only one side has; lists of hundreds would hide them.
    fn list_mismatch(&self, check: &Check<'_>, recorded: &str) -> Mismatch {
        let theirs: Vec<&str> = recorded.split(' ').collect();
        let ours: Vec<&str> = self.texts.iter().map(|(text, _)| text.as_str()).collect();
        let only = |list: &[&'_ str], other: &[&str]| {
            named(list.iter().copied().filter(|text| !other.contains(text)))
        };
        check.mismatch(
            "legal list, moves that only one side has (both empty: other order)",
            only(&theirs, &ours),
            only(&ours, &theirs),
        )
    }
}

/// The first few of `moves`, and how many more there are.
fn named<'a>(moves: impl IntoIterator<Item = &'a str>) -> String {
    let mut moves = moves.into_iter();
    let first: Vec<&str> = moves.by_ref().take(MOVES_NAMED).collect();
    match moves.count() {
        0 => first.join(" "),
        more => format!("{} and {more} more", first.join(" ")),
    }
}

fn compare_after(
    check: &Check<'_>,
    position: &Position,
    ply: &RecordedPly,
) -> Result<(), Mismatch> {
    let text = position.canonical_text();
    if let Some(recorded) = &ply.s {
        check.same("position", recorded.as_str(), text.as_str())?;
    }
    check.same(
        "position hash",
        ply.h.as_str(),
        hex(text_hash(&text)).as_str(),
    )
}
