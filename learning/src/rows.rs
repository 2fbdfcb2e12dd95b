//! Training rows: an encoded decision with everything the network is asked to predict about it.

use rand::{Rng, RngExt};
use riftmesh_rules::{Configuration, Seat, Symmetry};

use crate::codec::Codec;
use crate::decision::{Choice, Decision};
use crate::encode::{Encoder, GLOBALS};
use crate::frame::Frame;
use crate::record::{DecisionRecord, GameRecord};
use crate::replay::ReplayedGame;
use crate::weights::{SCORES_PER_SEAT, SEATS};

/// A training row. Players are relative to the decider.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRow {
    /// `[PLANES][side * side]`.
    pub planes: Vec<f32>,
    /// `[GLOBALS]`.
    pub globals: Vec<f32>,
    /// Every legal action's dense index with its probability in the target.
    pub policy: Vec<(u32, f32)>,
    /// The winner, or a mixture of the winner with what the search expected; sums to 1.
    pub value: [f32; SEATS],
    /// For every square: 0 nobody, 1 + slot of the final owner; 255 off the board.
    pub owner: Vec<u8>,
    /// Final rank of each slot from 0; 255 where absent.
    pub rank: [u8; SEATS],
    /// Eliminated rings and territory at the end, over their thresholds.
    pub scores: [[f32; SCORES_PER_SEAT]; SEATS],
    /// Players present.
    pub players: usize,
}

/// Marks squares off the board and absent players.
pub const ABSENT: u8 = u8::MAX;

/// The training rows of a game, all turned by the same symmetry drawn from `rng`.
///
/// `search_share` (0 to 1) is the share of the search's root value in the value target; the rest is the winner. All rows
/// of a game have the same winner, so with few games a network can learn the games by heart; the search's opinion differs
/// from row to row and is less noisy, but only as good as the network that searched.
pub fn rows(
    game: &GameRecord,
    replayed: &ReplayedGame,
    search_share: f32,
    rng: &mut impl Rng,
) -> Vec<TrainingRow> {
    let symmetries = Symmetry::of(replayed.end.configuration().board());
    let symmetry = &symmetries[rng.random_range(0..symmetries.len())];
    let records = game
        .decisions
        .iter()
        .enumerate()
        .filter(|(_, record)| record.is_row());
    let row = |(number, record): (usize, &DecisionRecord)| {
        let decision = &replayed.decisions[number];
        let exchanged = number < replayed.before_swap;
        let identity = &symmetries[0];
        let mut row = turned_row(decision, record, replayed, exchanged, symmetry)
            .or_else(|| turned_row(decision, record, replayed, exchanged, identity))?;
        let expected = expected_values(decision, record)?;
        for (value, expected) in row.value.iter_mut().zip(expected) {
            *value += search_share * (expected - *value);
        }
        Some(row)
    };
    records.filter_map(row).collect()
}

/// The rows of a game as it was played, neither turned nor mixed with the search's opinion, each with the number of its
/// decision.
pub fn rows_as_played(game: &GameRecord, replayed: &ReplayedGame) -> Vec<(usize, TrainingRow)> {
    let identity = &Symmetry::of(replayed.end.configuration().board())[0];
    let row = |(number, record): (usize, &DecisionRecord)| {
        let exchanged = number < replayed.before_swap;
        let decision = &replayed.decisions[number];
        let row = turned_row(decision, record, replayed, exchanged, identity)?;
        Some((number, row))
    };
    let records = game.decisions.iter().enumerate();
    records
        .filter(|(_, record)| record.is_row())
        .filter_map(row)
        .collect()
}

/// What the search expected at the root, relative to the decider.
pub fn expected_values(decision: &Decision, record: &DecisionRecord) -> Option<[f32; SEATS]> {
    let players = decision.position().configuration().players();
    let decider = decision.decider()?.index();
    let mut values = [0.0; SEATS];
    for (slot, value) in values.iter_mut().take(players).enumerate() {
        *value = record.values[(decider + slot) % players];
    }
    Some(values)
}

/// The row turned by `symmetry`; none where a rule that is not symmetric (recovery's first axis) offers other choices
/// after turning.
fn turned_row(
    decision: &Decision,
    record: &DecisionRecord,
    replayed: &ReplayedGame,
    exchanged: bool,
    symmetry: &Symmetry,
) -> Option<TrainingRow> {
    let turned = turn(decision, symmetry)?;
    let policy = turned_policy(decision, record, &turned, symmetry)?;
    let configuration = decision.position().configuration();
    let encoder = Encoder::of(configuration.board());
    let mut planes = vec![0.0; encoder.planes_len()];
    let mut globals = vec![0.0; GLOBALS];
    encoder.encode_into(&turned, &mut planes, &mut globals);
    let decider = decision.decider()?;
    let ends = EndView {
        replayed,
        configuration,
        decider,
        exchanged,
    };
    Some(TrainingRow {
        planes,
        globals,
        policy,
        value: ends.value(),
        owner: ends.owner(symmetry),
        rank: ends.rank(),
        scores: ends.scores(),
        players: configuration.players(),
    })
}

/// The decision in the turned position; none when the rules offer something else there.
fn turn(decision: &Decision, symmetry: &Symmetry) -> Option<Decision> {
    let position = symmetry.position(decision.position());
    let mut forced = false;
    let mut turned = Decision::after(position, &mut |_| forced = true);
    if let Some(prefix) = decision.prefix() {
        let slide = Choice::Slide {
            from: symmetry.cell(prefix.from),
            to: symmetry.cell(prefix.to),
        };
        if forced || !(turned.choices().contains(&slide) || turned.prefix().is_some()) {
            return None;
        }
        if turned.prefix().is_none() {
            turned.choose(slide, &mut |_| forced = true);
        }
    }
    let same = !forced && turned.choices().len() == decision.choices().len();
    same.then_some(turned)
}

fn turned_policy(
    decision: &Decision,
    record: &DecisionRecord,
    turned: &Decision,
    symmetry: &Symmetry,
) -> Option<Vec<(u32, f32)>> {
    let codec = Codec::of(decision.position().configuration().board());
    let entry = |choice: &Choice| {
        let index = codec.encode(decision, *choice);
        let place = record.policy.binary_search_by_key(&index, |entry| entry.0);
        let probability = place.map_or(0.0, |place| record.policy[place].1);
        let choice = match *choice {
            Choice::Act(action) => Choice::Act(symmetry.action(decision.position(), action)),
            Choice::Slide { from, to } => Choice::Slide {
                from: symmetry.cell(from),
                to: symmetry.cell(to),
            },
        };
        let offered = turned.choices().contains(&choice);
        offered.then(|| (codec.encode(turned, choice), probability))
    };
    decision.choices().iter().map(entry).collect()
}

/// The end of the game as one decider will see it.
struct EndView<'a> {
    replayed: &'a ReplayedGame,
    configuration: Configuration,
    decider: Seat,
    exchanged: bool,
}

impl EndView<'_> {
    /// The seat at the end of the person who sits `slot` places after the decider now.
    fn seat(&self, slot: usize) -> Seat {
        let players = self.configuration.players();
        let now = (self.decider.index() + slot) % players;
        let then = match now {
            0 | 1 if self.exchanged => 1 - now,
            _ => now,
        };
        Seat(then as u8)
    }

    fn slots(&self) -> impl Iterator<Item = (usize, Seat)> {
        (0..self.configuration.players()).map(|slot| (slot, self.seat(slot)))
    }

    fn value(&self) -> [f32; SEATS] {
        let mut value = [0.0; SEATS];
        for (slot, seat) in self.slots() {
            value[slot] = if seat == self.replayed.outcome.winner {
                1.0
            } else {
                0.0
            };
        }
        value
    }

    fn owner(&self, symmetry: &Symmetry) -> Vec<u8> {
        let frame = Frame::of(self.configuration.board());
        let mut owner = vec![ABSENT; frame.area()];
        for &square in frame.squares() {
            owner[usize::from(square)] = 0;
        }
        for (slot, seat) in self.slots() {
            for cell in self.replayed.end.territory_of(seat).iter() {
                let square = frame.squares()[usize::from(symmetry.cell(cell))];
                owner[usize::from(square)] = 1 + slot as u8;
            }
        }
        owner
    }

    fn rank(&self) -> [u8; SEATS] {
        let mut ranks = [ABSENT; SEATS];
        for (slot, seat) in self.slots() {
            ranks[slot] = self.replayed.outcome.rank(seat).clamp(1, SEATS as u8) - 1;
        }
        ranks
    }

    fn scores(&self) -> [[f32; SCORES_PER_SEAT]; SEATS] {
        let mut scores = [[0.0; SCORES_PER_SEAT]; SEATS];
        for (slot, seat) in self.slots() {
            let score = self.replayed.end.score(seat);
            scores[slot] = [
                f32::from(score.eliminated) / self.configuration.elimination_threshold() as f32,
                f32::from(score.territory) / self.configuration.territory_threshold() as f32,
            ];
        }
        scores
    }
}
