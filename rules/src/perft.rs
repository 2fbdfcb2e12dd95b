//! Counting the positions that can be reached: the classic check of a move generator.

use crate::{Action, Position};

/// Number of sequences of `depth` moves from `position`; games that end earlier do not count.
pub fn perft(position: &Position, depth: u32) -> u64 {
    let mut lists = vec![Vec::new(); depth as usize];
    count(position, &mut lists)
}

/// Takes one list of actions per move still to be made.
fn count(position: &Position, lists: &mut [Vec<Action>]) -> u64 {
    let Some((actions, deeper)) = lists.split_first_mut() else {
        return 1;
    };
    position.legal(actions);
    if deeper.is_empty() {
        return actions.len() as u64;
    }
    let after = |&action: &Action| {
        let mut next = position.clone();
        next.apply(action);
        count(&next, deeper)
    };
    actions.iter().map(after).sum()
}
