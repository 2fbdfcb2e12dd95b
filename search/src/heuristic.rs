//! Two players that need no network: uniform random, and one that looks one action ahead.
//!
//! The heuristic player is the yardstick that ratings are anchored beside: its terms, weights and tie-breaking are
//! frozen by [`HEURISTIC_VERSION`], and a better one gets a new number. The weights were tuned by hand in matches of 150
//! and 200 games on the small boards. Against random play (150 games each, seats rotated) version 1 won 141 on hex8 and 136 on
//! square8 with two players, 99 on hex8 with three and 109 on square8 with four.

use rand::{Rng, RngExt};
use riftmesh_rules::{
    Action, Cell, CellContent, PLAYERS_MAX, Phase, Position, ProcessableRegion, Seat,
};

use crate::values::SeatValues;

/// Changes whenever the heuristic player would play differently.
pub const HEURISTIC_VERSION: u16 = 1;

/// What a seat's features are worth. Everything is from the seat's own point of view; a position is scored by the
/// seat's sum minus that of its strongest rival.
struct HeuristicWeights {
    /// Eliminated rings as a share of those that win.
    eliminated: f64,
    /// Territory as a share of what wins.
    territory: f64,
    /// Per controlled stack.
    stack: f64,
    /// Per ring in a cap.
    cap: f64,
    /// Per direction in which a controlled stack can move by its own height.
    mobility: f64,
    /// Per stack of a rival that a controlled stack can overtake.
    target: f64,
    /// Per controlled stack that a rival can overtake.
    exposed: f64,
    /// Per own marker.
    marker: f64,
    /// Per pair of own markers next to each other along an axis: runs grow into lines, and markers that touch
    /// into borders.
    marker_pair: f64,
    /// Per own ring under somebody's ring.
    buried: f64,
    /// Per ring in hand.
    hand: f64,
    /// Share of what the best processable region would bring that counts for the player to move, who may get to
    /// process it this turn.
    region: f64,
    /// For having neither a stack nor a ring in hand, which soon loses by last standing.
    stranded: f64,
    /// Per round in which no rival had a real action; three of them win.
    alone: f64,
}

/// The weights of [`HEURISTIC_VERSION`].
const WEIGHTS: HeuristicWeights = HeuristicWeights {
    eliminated: 20.0,
    territory: 20.0,
    stack: 0.3,
    cap: 0.02,
    mobility: 0.01,
    target: 0.1,
    exposed: -0.1,
    marker: 0.01,
    marker_pair: 0.01,
    buried: -0.02,
    hand: 0.1,
    region: 0.5,
    stranded: -3.0,
    alone: 2.0,
};

/// A decided game, above anything that features can add up to.
const WON: f64 = 1e6;

/// One of `actions`, each equally likely.
///
/// # Panics
/// Without actions.
pub fn random_action(actions: &[Action], rng: &mut impl Rng) -> Action {
    actions[rng.random_range(0..actions.len())]
}

/// The one of `actions` after which the mover stands best, at random among equals. Actions without an alternative that
/// follow are played out before a position is judged, so that the end of a turn and of a game are seen.
///
/// `actions` are legal in `position`: all of them, or those among which the mover still has a choice.
///
/// # Panics
/// Without actions.
pub fn heuristic_action(position: &Position, actions: &[Action], rng: &mut impl Rng) -> Action {
    let mut scratch = Vec::new();
    let scores: Vec<f64> = actions
        .iter()
        .map(|action| action_score(position, *action, &mut scratch))
        .collect();
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let equals: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] == best).collect();
    actions[equals[rng.random_range(0..equals.len())]]
}

/// How the mover stands after `action`.
fn action_score(position: &Position, action: Action, scratch: &mut Vec<Action>) -> f64 {
    let Some(mover) = position.to_move() else {
        return 0.0;
    };
    let mut after = position.clone();
    after.apply(action);
    settle(&mut after, scratch);
    // The pie rule exchanges the persons: the mover goes on with the other seat.
    let seat = if action == Action::Swap {
        Seat(1 - mover.0)
    } else {
        mover
    };
    position_score(&after, seat)
}

/// Plays actions that have no alternative.
fn settle(position: &mut Position, scratch: &mut Vec<Action>) {
    while position.phase() != Phase::Over {
        position.legal(scratch);
        let [only] = scratch[..] else { return };
        position.apply(only);
    }
}

/// How `seat` stands: its features minus those of its strongest rival, or the result of a finished game.
fn position_score(position: &Position, seat: Seat) -> f64 {
    if let Some(outcome) = position.outcome() {
        return if outcome.winner == seat { WON } else { -WON };
    }
    let standings = standings(position);
    let rivals = position
        .configuration()
        .seats()
        .filter(|other| *other != seat);
    let strongest = rivals
        .map(|other| standings[other.index()])
        .fold(f64::NEG_INFINITY, f64::max);
    standings[seat.index()] - strongest
}

/// Each seat's chance of winning as the features have it: the softmax of the standings over `temperature`, or the
/// result of a finished game. At temperature 3 a lead of 15 % of the rings that win is worth a chance of 73 % against one
/// rival.
pub fn heuristic_values(position: &Position, temperature: f64) -> SeatValues {
    if let Some(outcome) = position.outcome() {
        return SeatValues::winner(outcome.winner.index());
    }
    let players = position.configuration().players();
    let standings = standings(position);
    let best = standings[..players]
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let weights = standings.map(|standing| ((standing - best) / temperature).exp());
    let sum: f64 = weights[..players].iter().sum();
    SeatValues::new(&weights[..players]).scaled(1.0 / sum)
}

/// The weighted features of every seat.
fn standings(position: &Position) -> [f64; PLAYERS_MAX] {
    let mut standings = [0.0; PLAYERS_MAX];
    for seat in position.configuration().seats() {
        let mut sum = counted(position, seat);
        for cell in position.stacks_of(seat).iter() {
            sum += WEIGHTS.stack + WEIGHTS.cap * f64::from(position.cap(cell));
            let buried = position.rings(cell).skip(1);
            buried.for_each(|owner| standings[owner.index()] += WEIGHTS.buried);
            survey_rays(position, seat, cell, &mut standings);
        }
        standings[seat.index()] += sum;
    }
    if let Some(mover) = position.to_move() {
        standings[mover.index()] += WEIGHTS.region * best_region(position);
    }
    let tracker = position.tracker();
    if let Some(seat) = tracker.exclusive {
        standings[seat.index()] += WEIGHTS.alone * f64::from(tracker.rounds);
    }
    standings
}

/// What the player to move would gain by its best region: the cells, and the rings on them.
fn best_region(position: &Position) -> f64 {
    let configuration = position.configuration();
    let cell = WEIGHTS.territory / configuration.territory_threshold() as f64;
    let ring = WEIGHTS.eliminated / configuration.elimination_threshold() as f64;
    let gain = |region: &ProcessableRegion| {
        let rings: u16 = region.cells.iter().map(|cell| position.height(cell)).sum();
        cell * region.cells.len() as f64 + ring * f64::from(rings)
    };
    position
        .processable_regions()
        .iter()
        .map(gain)
        .fold(0.0, f64::max)
}

/// Features that are counts.
fn counted(position: &Position, seat: Seat) -> f64 {
    let configuration = position.configuration();
    let score = position.score(seat);
    let share = |part: u16, whole: usize| f64::from(part) / whole as f64;
    let markers = position.markers_of(seat);
    let geometry = position.geometry();
    let next_along =
        |cell: Cell, axis: usize| geometry.ray(cell, geometry.axis_direction(axis)).first();
    let pairs = markers
        .iter()
        .flat_map(|cell| (0..geometry.axes()).filter_map(move |axis| next_along(cell, axis)))
        .filter(|next| markers.contains(**next))
        .count();
    WEIGHTS.eliminated * share(score.eliminated, configuration.elimination_threshold())
        + WEIGHTS.territory * share(score.territory, configuration.territory_threshold())
        + WEIGHTS.marker * markers.len() as f64
        + WEIGHTS.marker_pair * pairs as f64
        + WEIGHTS.hand * f64::from(score.hand)
        + if score.hand == 0 && position.stacks_of(seat).is_empty() {
            WEIGHTS.stranded
        } else {
            0.0
        }
}

/// What the stack of `seat` on `cell` can reach: places to move to, and stacks of rivals to overtake.
fn survey_rays(position: &Position, seat: Seat, cell: Cell, standings: &mut [f64; PLAYERS_MAX]) {
    let height = usize::from(position.height(cell));
    let passable = |cell: Cell| {
        matches!(
            position.content(cell),
            CellContent::Empty | CellContent::Marker(_)
        )
    };
    for ray in position.geometry().rays(cell) {
        let open = ray.iter().take_while(|cell| passable(**cell)).count();
        if open >= height {
            standings[seat.index()] += WEIGHTS.mobility;
        }
        let Some(&target) = ray.get(open) else {
            continue;
        };
        let CellContent::Stack(rival) = position.content(target) else {
            continue;
        };
        let beyond = ray[open + 1..]
            .iter()
            .take_while(|cell| passable(**cell))
            .count();
        // The farthest landing is `open + 1 + beyond` steps away, the stack itself at `open + 1`.
        let lands = beyond > 0 && open + 1 + beyond >= height;
        if rival != seat && lands && position.cap(cell) >= position.cap(target) {
            standings[seat.index()] += WEIGHTS.target;
            standings[rival.index()] += WEIGHTS.exposed;
        }
    }
}
