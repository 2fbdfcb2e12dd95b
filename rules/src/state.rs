//! The full state of a game, generic over the board's size class; [`crate::Position`] wraps its two instances.

use crate::cells::BitSet;
use crate::configuration::{Configuration, PLAYERS_MAX, RuleOptions, Seat};
use crate::hash::mix;
use crate::pieces::Pieces;
use crate::turn::{Flags, Phase, Score, Tracker};
use crate::victory::Outcome;
use crate::{Cell, Geometry};

/// No anchor.
pub(crate) const NO_CELL: Cell = Cell::MAX;

#[derive(Debug, Clone)]
pub(crate) struct State<const WORDS: usize, const CELLS: usize, const RINGS: usize> {
    pub(crate) configuration: Configuration,
    pub(crate) geometry: &'static Geometry,
    pub(crate) pieces: Pieces<WORDS, CELLS, RINGS>,
    pub(crate) scores: [Score; PLAYERS_MAX],
    /// The player to move; the last mover once the game is over.
    pub(crate) mover: Seat,
    pub(crate) phase: Phase,
    /// The stack the phase is about, or [`NO_CELL`].
    pub(crate) anchor: Cell,
    pub(crate) flags: Flags,
    pub(crate) tracker: Tracker,
    /// The pie rule is on, has not been used, and player 2 has not moved yet.
    pub(crate) swap_open: bool,
    pub(crate) swapped: bool,
    pub(crate) outcome: Option<Outcome>,
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// The standard start position.
    pub(crate) fn start(configuration: Configuration, options: RuleOptions) -> Self {
        let hand = configuration.board().rings_per_player() as u16;
        let mut scores = [Score::default(); PLAYERS_MAX];
        scores[..configuration.players()].fill(Score {
            hand,
            ..Score::default()
        });
        Self {
            configuration,
            geometry: Geometry::of(configuration.board()),
            pieces: Pieces::new(),
            scores,
            mover: Seat(0),
            phase: Phase::Placement,
            anchor: NO_CELL,
            flags: Flags::default(),
            tracker: Tracker::default(),
            swap_open: options.swap && configuration.players() == 2,
            swapped: false,
            outcome: None,
        }
    }

    #[inline]
    pub(crate) fn score(&self, seat: Seat) -> &Score {
        &self.scores[seat.index()]
    }

    #[inline]
    pub(crate) fn mover_score(&mut self) -> &mut Score {
        &mut self.scores[self.mover.index()]
    }

    /// Cells with stacks that the player to move controls.
    #[inline]
    pub(crate) fn own_stacks(&self) -> &BitSet<WORDS> {
        self.pieces.stacks_of(self.mover)
    }

    /// Whether `seat` controls a stack.
    #[inline]
    pub(crate) fn controls_any(&self, seat: Seat) -> bool {
        !self.pieces.stacks_of(seat).is_empty()
    }

    /// Whether `seat` has any ring, in hand or on the board.
    #[inline]
    pub(crate) fn has_rings(&self, seat: Seat) -> bool {
        self.score(seat).hand > 0 || self.pieces.rings_of(seat) > 0
    }

    /// Whether `seat` may recover: no stack, a marker, a buried ring (RULES 8.1).
    pub(crate) fn may_recover(&self, seat: Seat) -> bool {
        !self.controls_any(seat)
            && !self.pieces.markers_of(seat).is_empty()
            && self.pieces.rings_of(seat) > 0
    }

    /// A hash of everything that decides how the game can go on.
    pub(crate) fn key(&self) -> u64 {
        let flags = u64::from(self.flags.acted)
            | u64::from(self.flags.line_due) << 1
            | u64::from(self.flags.recovered) << 2
            | u64::from(self.flags.territory_due) << 3
            | u64::from(self.swap_open) << 4
            | u64::from(self.swapped) << 5;
        let turn = u64::from(self.mover.0)
            | (self.phase as u64) << 8
            | u64::from(self.anchor) << 16
            | flags << 32
            | (self.configuration.board() as u64) << 40
            | (self.configuration.players() as u64) << 48;
        let mut key = mix(mix(turn) ^ self.tracker_code());
        for score in &self.scores[..self.configuration.players()] {
            let counts = u64::from(score.hand)
                | u64::from(score.eliminated) << 16
                | u64::from(score.territory) << 32;
            key = mix(key ^ counts);
        }
        key ^ self.pieces.key()
    }

    fn tracker_code(&self) -> u64 {
        let seat = |seat: Option<Seat>| seat.map_or(7, |seat| u64::from(seat.0));
        let had = |had: Option<bool>| had.map_or(2, u64::from);
        let actions = self
            .tracker
            .had_action
            .iter()
            .fold(0, |code, &action| code << 2 | had(action));
        seat(self.tracker.first)
            | seat(self.tracker.exclusive) << 3
            | actions << 8
            | u64::from(self.tracker.rounds) << 16
    }

    /// The state with every cell moved to where `map` sends it.
    pub(crate) fn mapped(&self, map: &[Cell]) -> Self {
        let anchor = if self.anchor == NO_CELL {
            NO_CELL
        } else {
            map[usize::from(self.anchor)]
        };
        Self {
            pieces: self.pieces.mapped(self.geometry, map),
            anchor,
            ..self.clone()
        }
    }
}
