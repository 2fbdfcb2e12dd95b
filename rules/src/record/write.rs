//! Writing a played game as a record.

use super::{RecordedGame, RecordedPly, RecordedRules, end_of, hex};
use crate::apply::IllegalAction;
use crate::configuration::{RuleOptions, Seat};
use crate::hash::text_hash;
use crate::{Action, Position, notation};

/// Every how many plies the text of the position is written out, and on the last one; its hash always is.
const TEXT_EVERY: usize = 10;

/// The record of the game that `actions` make from `start`. A game that is not over is marked as cut off.
///
/// `id` names it and `policy` says who chose the moves. [`super::verify_game`] accepts the record when `start` is a
/// position that its own canonical text gives back, such as a standard start.
///
/// # Errors
/// An action is not legal.
pub fn record_game(
    id: &str,
    policy: &str,
    start: &Position,
    options: RuleOptions,
    actions: &[Action],
) -> Result<RecordedGame, IllegalAction> {
    let mut position = start.clone();
    let mut plies = Vec::with_capacity(actions.len());
    for (n, &action) in actions.iter().enumerate() {
        let with_text = n % TEXT_EVERY == TEXT_EVERY - 1 || n + 1 == actions.len();
        plies.push(record_ply(&mut position, n, action, with_text)?);
    }
    let configuration = start.configuration();
    let standard = *start == Position::start(configuration, options);
    Ok(RecordedGame {
        v: 1,
        id: id.to_owned(),
        start: standard.then(|| "standard".to_owned()),
        board: configuration.board(),
        players: configuration.players(),
        policy: Some(policy.to_owned()),
        rules: RecordedRules {
            swap: options.swap,
            lps_rounds: crate::LAST_STANDING_ROUNDS,
            rings_per_player: None,
        },
        init: start.canonical_text(),
        init_hash: hex(start.text_hash()),
        n_plies: plies.len(),
        plies,
        end: end_of(&position),
        truncated: position.outcome().is_none(),
    })
}

/// Plays one move and records it.
fn record_ply(
    position: &mut Position,
    n: usize,
    action: Action,
    with_text: bool,
) -> Result<RecordedPly, IllegalAction> {
    let mut legal = Vec::new();
    position.legal(&mut legal);
    let mut texts: Vec<_> = legal
        .iter()
        .map(|&action| notation::format(position, action))
        .collect();
    texts.sort();
    let list = texts.join(" ");
    let mut after = position.clone();
    after.try_apply(action)?;
    let before = std::mem::replace(position, after);
    let text = position.canonical_text();
    let forced = is_bookkeeping(action);
    Ok(RecordedPly {
        n,
        p: before.to_move().map_or(0, Seat::number),
        ph: before.phase().code().to_owned(),
        k: forced.then(|| "f".to_owned()),
        nl: legal.len(),
        lh: hex(text_hash(&list)),
        l: (!forced).then_some(list),
        m: notation::format(&before, action),
        h: hex(text_hash(&text)),
        s: with_text.then_some(text),
    })
}

/// Whether the action is one of those that only say that nothing can be done.
fn is_bookkeeping(action: Action) -> bool {
    matches!(
        action,
        Action::NoPlacement | Action::NoMovement | Action::NoLine | Action::NoTerritory
    )
}
