//! Matches: the same random opening for every seating, seats exchanged, no draws.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::Seed;
use riftmesh_rules::{Configuration, RuleOptions};
use riftmesh_search::{Evaluation, Evaluator, Game, Leaf, Search, SearchSettings, Step};
use serde::{Deserialize, Serialize};

use crate::decision::{Choice, Decision};
use crate::evaluator::NetEvaluator;
use crate::selfplay::without_noise;
use crate::stats::MatchScore;

/// A player in a match.
pub enum MatchPlayer<'a> {
    /// Uniform choice over the legal actions.
    Random,
    /// The one-ply heuristic.
    Heuristic,
    /// A network, searched without noise; zero simulations play its bare policy.
    Network {
        /// The network.
        evaluator: &'a mut NetEvaluator,
        /// How it searches.
        search: SearchSettings,
    },
}

/// Who sits where when there are more than two players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seating {
    /// One candidate against copies of the opponent, through all seats: chance level 1/n.
    Single,
    /// Both in every balanced mix of seats: chance level 1/2.
    Balanced,
}

/// Settings of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchSettings {
    /// Games at least; whole groups of one opening and all seatings are played.
    pub games: u32,
    /// Games in play at the same time.
    pub concurrent: usize,
    /// Fewest random decisions of an opening.
    pub opening_min: u32,
    /// Most random decisions of an opening.
    pub opening_max: u32,
    /// Who sits where.
    pub seating: Seating,
    /// Seed of openings and random players.
    pub seed: Seed,
}

impl Default for MatchSettings {
    fn default() -> Self {
        Self {
            games: 100,
            concurrent: 32,
            opening_min: 2,
            opening_max: 6,
            seating: Seating::Balanced,
            seed: Seed(0),
        }
    }
}

/// The result of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MatchResult {
    /// Games of the candidate.
    pub score: MatchScore,
    /// Whole groups of games with one opening.
    pub groups: u32,
    /// Groups that the candidate won in full, such as both games of a pair.
    pub groups_won: u32,
    /// Groups that it lost in full.
    pub groups_lost: u32,
    /// Decisions made.
    pub decisions: u64,
    /// Whether all games were played; a stopped match counts whole groups only.
    pub complete: bool,
}

/// Plays a match. `progress` is told the candidate's score after every game. When `stop` is set the match ends with the
/// groups that are whole.
///
/// # Panics
/// When the opening's bounds are reversed: settings are checked where they are read.
pub fn play_match(
    configuration: Configuration,
    candidate: MatchPlayer<'_>,
    opponent: MatchPlayer<'_>,
    settings: &MatchSettings,
    progress: &mut dyn FnMut(MatchScore),
    stop: &AtomicBool,
) -> MatchResult {
    let seatings = seatings(configuration.players(), settings.seating);
    let groups = settings.games.div_ceil(seatings.len() as u32);
    let mut players = [candidate, opponent];
    let mut waiting =
        (0..groups).flat_map(|group| seatings.iter().map(move |seats| (group, seats)));
    let mut boards: Vec<MatchGame> = Vec::new();
    let mut results = Results::new(groups, seatings.len() as u32);
    while !stop.load(Ordering::Relaxed) {
        let free = settings.concurrent.max(1).saturating_sub(boards.len());
        boards.extend(
            waiting.by_ref().take(free).map(|(group, seats)| {
                MatchGame::new(configuration, settings, group, seats.clone())
            }),
        );
        for board in &mut boards {
            results.decisions += board.advance(&players);
        }
        for board in boards.extract_if(.., |board| board.decision.decider().is_none()) {
            results.add(board.group, board.candidate_won());
            progress(results.score);
        }
        if boards.is_empty() && results.score.games() == groups * seatings.len() as u32 {
            break;
        }
        for (side, player) in players.iter_mut().enumerate() {
            if let MatchPlayer::Network { evaluator, .. } = player {
                evaluate(&mut boards, side, evaluator);
            }
        }
    }
    results.finish()
}

/// Every way to seat them: `true` is the candidate.
fn seatings(players: usize, seating: Seating) -> Vec<Vec<bool>> {
    let all = (0u32..1 << players)
        .map(|mask| -> Vec<bool> { (0..players).map(|seat| mask >> seat & 1 == 1).collect() });
    let fits = |seats: &Vec<bool>| {
        let candidates = seats.iter().filter(|candidate| **candidate).count();
        match seating {
            Seating::Single => candidates == 1,
            // Halves where seats can be halved, else one more for each side in turn.
            Seating::Balanced => candidates == players / 2 || candidates == players.div_ceil(2),
        }
    };
    all.filter(fits).collect()
}

/// Evaluates what searches of one side wait for.
fn evaluate(boards: &mut [MatchGame], side: usize, evaluator: &mut NetEvaluator) {
    let searching = |board: &&MatchGame| board.search.is_some() && board.side() == side;
    let leaves: Vec<Leaf<'_, Decision>> = boards
        .iter()
        .filter(searching)
        .filter_map(|board| board.search.as_ref())
        .flat_map(Search::leaves)
        .collect();
    if leaves.is_empty() {
        return;
    }
    let mut evaluations = evaluator.evaluate(&leaves).into_iter();
    for board in boards.iter_mut().filter(|board| searching(&&**board)) {
        if let Some(search) = &mut board.search {
            let count = search.leaves().len();
            let own: Vec<Evaluation> = evaluations.by_ref().take(count).collect();
            search.resume(own);
        }
    }
}

struct MatchGame {
    group: u32,
    /// Whether each seat is the candidate's; the pie rule exchanges the first two.
    seats: Vec<bool>,
    decision: Decision,
    search: Option<Search<Decision>>,
    rng: Xoshiro256PlusPlus,
}

impl MatchGame {
    fn new(
        configuration: Configuration,
        settings: &MatchSettings,
        group: u32,
        seats: Vec<bool>,
    ) -> Self {
        let mut opening =
            Xoshiro256PlusPlus::seed_from_u64(settings.seed.derive("opening", u64::from(group)).0);
        let length = opening.random_range(settings.opening_min..=settings.opening_max);
        let seating = seats
            .iter()
            .fold(0, |mask, candidate| 2 * mask + u64::from(*candidate));
        let stream = settings
            .seed
            .derive("match", u64::from(group))
            .derive("seating", seating);
        let mut game = Self {
            group,
            seats,
            decision: Decision::start(configuration, RuleOptions::default()),
            search: None,
            rng: Xoshiro256PlusPlus::seed_from_u64(stream.0),
        };
        for _ in 0..length {
            // No opening ends a game: it is longer than that on every board.
            let choices = game.decision.choices();
            if choices.is_empty() {
                break;
            }
            let choice = choices[opening.random_range(0..choices.len())];
            game.choose(choice);
        }
        game
    }

    /// Whose turn it is: 0 the candidate, 1 the opponent.
    fn side(&self) -> usize {
        self.decision
            .mover()
            .map_or(0, |seat| usize::from(!self.seats[seat]))
    }

    fn candidate_won(&self) -> bool {
        let outcome = self.decision.position().outcome();
        outcome.is_some_and(|outcome| self.seats[outcome.winner.index()])
    }

    fn choose(&mut self, choice: Choice) {
        if self.decision.exchanges_seats(choice) {
            self.seats.swap(0, 1);
        }
        self.decision.choose(choice, &mut |_| {});
    }

    /// Goes on until an evaluation is needed or the game is over; the decisions made.
    fn advance(&mut self, players: &[MatchPlayer<'_>; 2]) -> u64 {
        let mut decisions = 0;
        while self.decision.mover().is_some() {
            let Some(choice) = self.next_choice(&players[self.side()]) else {
                break;
            };
            self.choose(choice);
            decisions += 1;
        }
        decisions
    }

    /// The player's choice, or none while its search waits for evaluations.
    fn next_choice(&mut self, player: &MatchPlayer<'_>) -> Option<Choice> {
        match player {
            MatchPlayer::Random => {
                let choices = self.decision.choices();
                Some(choices[self.rng.random_range(0..choices.len())])
            }
            MatchPlayer::Heuristic => Some(self.decision.heuristic_choice(&mut self.rng)),
            MatchPlayer::Network { search, .. } => {
                let running = self.search.get_or_insert_with(|| {
                    Search::new(self.decision.clone(), without_noise(*search), &mut self.rng)
                });
                if running.step() == Step::Evaluate {
                    return None;
                }
                let choice = running.outcome().action();
                self.search = None;
                Some(choice)
            }
        }
    }
}

/// Wins and losses by group.
struct Results {
    groups: Vec<MatchScore>,
    size: u32,
    score: MatchScore,
    decisions: u64,
}

impl Results {
    fn new(groups: u32, size: u32) -> Self {
        Self {
            groups: vec![MatchScore::default(); groups as usize],
            size,
            score: MatchScore::default(),
            decisions: 0,
        }
    }

    fn add(&mut self, group: u32, won: bool) {
        let one = MatchScore {
            wins: u32::from(won),
            losses: u32::from(!won),
        };
        self.groups[group as usize] += one;
        self.score += one;
    }

    fn finish(self) -> MatchResult {
        let whole = self
            .groups
            .iter()
            .filter(|score| score.games() == self.size);
        let mut result = MatchResult {
            decisions: self.decisions,
            ..MatchResult::default()
        };
        for score in whole {
            result.score += *score;
            result.groups += 1;
            result.groups_won += u32::from(score.losses == 0);
            result.groups_lost += u32::from(score.wins == 0);
        }
        result.complete = result.groups as usize == self.groups.len();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seats are fair: every seat is the candidate's equally often.
    #[test]
    fn seatings_are_balanced() {
        for (players, seating, count) in [
            (2, Seating::Single, 2),
            (2, Seating::Balanced, 2),
            (3, Seating::Single, 3),
            (3, Seating::Balanced, 6),
            (4, Seating::Single, 4),
            (4, Seating::Balanced, 6),
        ] {
            let all = seatings(players, seating);
            assert_eq!(all.len(), count);
            for seat in 0..players {
                let mine = all.iter().filter(|seats| seats[seat]).count();
                let share = if seating == Seating::Single {
                    1.0 / players as f64
                } else {
                    0.5
                };
                assert!((mine as f64 / count as f64 - share).abs() < 1e-9);
            }
        }
    }
}
