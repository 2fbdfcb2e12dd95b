//! How games end (RULES sections 13 and 14).

use std::fmt;

use crate::Cell;
use crate::configuration::{PLAYERS_MAX, Seat};
use crate::content::Content;
use crate::state::{NO_CELL, State};
use crate::turn::{Flags, Phase, Tracker};

/// Rounds in a row in which only one player has real actions, after which that player wins.
pub const LAST_STANDING_ROUNDS: u16 = 3;

/// What decided a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VictoryRule {
    /// Enough rings eliminated.
    RingElimination,
    /// Enough territory, and more than all others together.
    TerritoryControl,
    /// Nobody else has a ring.
    LastMaterial,
    /// Nobody else had a real action for three rounds.
    LastRounds,
    /// No stack is left and none can be built: most territory.
    StalemateTerritory,
    /// As above, territory tied: most eliminated rings.
    StalemateElimination,
    /// As above, eliminated rings tied too: most markers.
    StalemateMarkers,
    /// Everything tied: the player whose turn ended.
    StalemateLastActor,
}

impl VictoryRule {
    /// Every rule.
    pub const ALL: [Self; 8] = [
        Self::RingElimination,
        Self::TerritoryControl,
        Self::LastMaterial,
        Self::LastRounds,
        Self::StalemateTerritory,
        Self::StalemateElimination,
        Self::StalemateMarkers,
        Self::StalemateLastActor,
    ];

    /// The name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingElimination => "ring_elimination",
            Self::TerritoryControl => "territory_control",
            Self::LastMaterial => "lps_material",
            Self::LastRounds => "lps_rounds",
            Self::StalemateTerritory => "stalemate_territory",
            Self::StalemateElimination => "stalemate_elimination",
            Self::StalemateMarkers => "stalemate_markers",
            Self::StalemateLastActor => "stalemate_last_actor",
        }
    }

    /// The coarser reason the reference engine reports.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RingElimination | Self::StalemateElimination => "ring_elimination",
            Self::TerritoryControl | Self::StalemateTerritory => "territory_control",
            Self::LastMaterial
            | Self::LastRounds
            | Self::StalemateMarkers
            | Self::StalemateLastActor => "last_player_standing",
        }
    }
}

impl fmt::Display for VictoryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The end of a game. The figures behind it (rings, territory, markers) are those of the final position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Who won. There are no draws.
    pub winner: Seat,
    /// What decided.
    pub rule: VictoryRule,
    /// In a stalemate: whether rings in hand were counted as eliminated in the comparison.
    pub hand_counted: bool,
    ranks: [u8; PLAYERS_MAX],
}

impl Outcome {
    /// Rank of `seat`, from 1; ties share a rank and the next one is skipped.
    pub fn rank(&self, seat: Seat) -> u8 {
        self.ranks[seat.index()]
    }
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// The end of the game, if the turn that just ended brings it.
    pub(crate) fn victory(&self) -> Option<Outcome> {
        self.threshold_victory()
            .or_else(|| self.sole_survivor())
            .or_else(|| self.stalemate())
    }

    fn threshold_victory(&self) -> Option<Outcome> {
        let seats = || self.configuration.seats();
        let rings = self.configuration.elimination_threshold();
        if let Some(winner) =
            seats().find(|&seat| usize::from(self.score(seat).eliminated) >= rings)
        {
            return Some(self.won_by(winner, VictoryRule::RingElimination));
        }
        let cells = self.configuration.territory_threshold();
        let territory = |seat| usize::from(self.score(seat).territory);
        let total: usize = seats().map(territory).sum();
        let wins = |&seat: &Seat| territory(seat) >= cells && 2 * territory(seat) > total;
        seats()
            .find(wins)
            .map(|winner| self.won_by(winner, VictoryRule::TerritoryControl))
    }

    fn sole_survivor(&self) -> Option<Outcome> {
        let mut controllers = self
            .configuration
            .seats()
            .filter(|&seat| self.controls_any(seat));
        let (Some(winner), None) = (controllers.next(), controllers.next()) else {
            return None;
        };
        let others = self
            .configuration
            .seats()
            .any(|seat| seat != winner && self.has_rings(seat));
        (!others).then(|| self.won_by(winner, VictoryRule::LastMaterial))
    }

    fn stalemate(&self) -> Option<Outcome> {
        let stacks = self
            .configuration
            .seats()
            .any(|seat| self.controls_any(seat));
        let hands = self
            .configuration
            .seats()
            .any(|seat| self.score(seat).hand > 0);
        if stacks || (hands && self.ring_could_be_placed()) {
            return None;
        }
        let seats = || self.configuration.seats();
        let by_territory = unique_maximum(seats().map(|s| self.score(s).territory));
        let by_rings =
            unique_maximum(seats().map(|s| self.score(s).eliminated + self.score(s).hand));
        let by_markers = unique_maximum(seats().map(|s| self.pieces.markers_of(s).len() as u16));
        let (winner, rule) = by_territory
            .map(|seat| (seat, VictoryRule::StalemateTerritory))
            .or_else(|| by_rings.map(|seat| (seat, VictoryRule::StalemateElimination)))
            .or_else(|| by_markers.map(|seat| (seat, VictoryRule::StalemateMarkers)))
            .unwrap_or((self.mover, VictoryRule::StalemateLastActor));
        Some(Outcome {
            hand_counted: hands,
            ..self.won_by(winner, rule)
        })
    }

    /// Whether a ring could be placed somewhere on a board without stacks and move from there.
    fn ring_could_be_placed(&self) -> bool {
        (0..self.geometry.cells() as Cell)
            .any(|cell| self.pieces.content(cell) == Content::EMPTY && self.could_act(cell, 1, 1))
    }

    pub(crate) fn won_by(&self, winner: Seat, rule: VictoryRule) -> Outcome {
        let standing = |seat: Seat| {
            let score = self.score(seat);
            (
                score.territory,
                score.eliminated,
                self.pieces.markers_of(seat).len(),
            )
        };
        let mut ranks = [0; PLAYERS_MAX];
        for seat in self.configuration.seats() {
            let mut others = self
                .configuration
                .seats()
                .filter(|&other| other != winner && other != seat);
            ranks[seat.index()] = if seat == winner {
                1
            } else {
                let ahead = others
                    .by_ref()
                    .filter(|&other| standing(other) > standing(seat));
                2 + ahead.count() as u8
            };
        }
        Outcome {
            winner,
            rule,
            hand_counted: false,
            ranks,
        }
    }

    /// Ends the game and leaves nothing stale behind.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        self.phase = Phase::Over;
        self.anchor = NO_CELL;
        self.flags = Flags::default();
        self.tracker = Tracker::default();
        self.swap_open = false;
        self.outcome = Some(outcome);
    }

    /// Updates the last-player-standing tracker as the mover's turn starts; gives a victory by it.
    pub(crate) fn track_turn_start(&mut self) -> Option<Outcome> {
        let mover = self.mover;
        let mut tracker = self.tracker;
        let active = |seat: &Seat| self.has_rings(*seat);
        match tracker.first.filter(active) {
            None => {
                tracker.first = Some(mover);
                tracker.had_action = Default::default();
                if tracker.exclusive.filter(active).is_none() {
                    (tracker.exclusive, tracker.rounds) = (None, 0);
                }
            }
            Some(first) if first == mover && tracker.had_action.iter().any(Option::is_some) => {
                self.close_round(&mut tracker);
            }
            Some(_) => {}
        }
        let acts = self.has_real_action(mover);
        tracker.had_action[mover.index()] = Some(acts);
        self.tracker = tracker;
        let rival = |seat| seat != mover && self.has_rings(seat) && self.has_real_action(seat);
        let wins = tracker.rounds >= LAST_STANDING_ROUNDS
            && tracker.exclusive == Some(mover)
            && acts
            && !self.configuration.seats().any(rival);
        wins.then(|| self.won_by(mover, VictoryRule::LastRounds))
    }

    fn close_round(&self, tracker: &mut Tracker) {
        let acted = |seat: &Seat| tracker.had_action[seat.index()] == Some(true);
        let mut actors = self
            .configuration
            .seats()
            .filter(|&seat| self.has_rings(seat))
            .filter(acted);
        let sole = actors.next().filter(|_| actors.next().is_none());
        tracker.rounds = match sole {
            Some(seat) if tracker.exclusive == Some(seat) => tracker.rounds.saturating_add(1),
            Some(_) => 1,
            None => 0,
        };
        tracker.exclusive = sole;
        tracker.first = Some(self.mover);
        tracker.had_action = Default::default();
    }
}

/// The seat with the largest value, if that is positive and no other seat has it.
fn unique_maximum(values: impl Iterator<Item = u16> + Clone) -> Option<Seat> {
    let maximum = values.clone().max().filter(|&maximum| maximum > 0)?;
    let mut seats = (0u8..).zip(values).filter(|&(_, value)| value == maximum);
    let (seat, _) = seats.next()?;
    seats.next().is_none().then_some(Seat(seat))
}
