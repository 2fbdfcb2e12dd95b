//! Ratings in integers: Bradley-Terry over all games ever counted, anchored at random = 0.
//!
//! Ratings are not part of the state. They are a pure function of the table of pairs, computed when somebody asks, so
//! they do not depend on the order of the matches and a better fit needs no migration. Integer arithmetic makes every
//! replica print the same number.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::BlobHash;
use serde::{Deserialize, Serialize};

use crate::elo_table::{EXPECTATION, STEP_ELO};
use crate::job::Player;

/// A score of one, in the units of the table.
const ONE: i64 = 1_000_000;
/// Milli-Elo per Elo.
const MILLI: i64 = 1_000;
/// 400 / ln 10 in milli-Elo: the inverse slope of the curve, times E (1 - E).
const MILLI_ELO_PER_NAT: i128 = 173_718;
/// Sweeps over all players at most.
const SWEEPS_MAX: usize = 400;
/// A sweep in which no rating moved further ends the fit, in milli-Elo.
const SETTLED: i64 = 20;
/// Longest move of a rating in one step, in milli-Elo. Newton's step overshoots where the curve is flat.
const STEP_MAX: i64 = 200_000;

/// How strong a player is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// Milli-Elo over random.
    pub milli_elo: i64,
    /// Standard error in milli-Elo if the ratings of its opponents were exact, which understates it a little.
    pub standard_error: u64,
    /// Games it has played.
    pub games: u64,
}

/// Expected score in millionths of a player `milli_elo` above the opponent; flat beyond 1600 Elo.
pub(crate) fn expectation(milli_elo: i64) -> i64 {
    if milli_elo < 0 {
        return ONE - expectation(-milli_elo);
    }
    let step = STEP_ELO * MILLI;
    let at = usize::try_from(milli_elo / step).unwrap_or(usize::MAX);
    match (EXPECTATION.get(at), EXPECTATION.get(at.saturating_add(1))) {
        (Some(low), Some(high)) => low + (high - low) * (milli_elo % step) / step,
        _ => EXPECTATION[EXPECTATION.len() - 1],
    }
}

/// The difference in milli-Elo at which `score` (in millionths) is expected; at most 1600 Elo either way.
fn difference(score: i64) -> i64 {
    if score < ONE / 2 {
        return -difference(ONE - score);
    }
    let above = EXPECTATION.partition_point(|entry| *entry <= score);
    let Some(high) = EXPECTATION.get(above) else {
        return STEP_ELO * MILLI * (EXPECTATION.len() as i64 - 1);
    };
    let low = EXPECTATION[above - 1];
    STEP_ELO * MILLI * (above as i64 - 1) + STEP_ELO * MILLI * (score - low) / (high - low)
}

/// The difference in milli-Elo that `wins` and `losses` speak for. Half a game is added to either side, so that a
/// clean sweep has a finite answer.
pub(crate) fn milli_elo(wins: u64, losses: u64) -> i64 {
    let (wins, losses) = (2 * u128::from(wins) + 1, 2 * u128::from(losses) + 1);
    let score = wins * ONE.unsigned_abs() as u128 / (wins + losses);
    difference(i64::try_from(score).unwrap_or(ONE))
}

/// [`milli_elo`] as people write it: whole Elo with a sign.
pub(crate) fn signed_elo(wins: u64, losses: u64) -> String {
    let milli = milli_elo(wins, losses);
    let elo = (milli + MILLI / 2 * milli.signum()) / MILLI;
    format!("{elo:+}")
}

/// Games between two players, by their numbers.
#[derive(Debug, Clone, Copy)]
struct Edge {
    other: usize,
    wins: u64,
    losses: u64,
}

impl Edge {
    fn games(&self) -> u64 {
        self.wins + self.losses
    }
}

/// Ratings of everybody who played, `Random` always among them with 0.
///
/// `games` lists pairs once, with the wins of the first and of the second. Each player gets two drawn games against
/// the player it came from (its parent at the same budget, else the untrained start at that budget, else random), so
/// that every rating is finite and everybody is connected to the anchor.
pub(crate) fn fit(
    games: &[(Player, Player, u64, u64)],
    parent: impl Fn(BlobHash) -> Option<BlobHash>,
) -> BTreeMap<Player, Rating> {
    let mut players: BTreeSet<&Player> = games.iter().flat_map(|(a, b, ..)| [a, b]).collect();
    players.insert(&Player::Random);
    let players: Vec<&Player> = players.into_iter().collect();
    let number = |player: &Player| players.binary_search(&player).ok();
    let mut edges = vec![Vec::new(); players.len()];
    let mut connect = |a: usize, b: usize, wins: u64, losses: u64| {
        edges[a].push(Edge {
            other: b,
            wins,
            losses,
        });
        edges[b].push(Edge {
            other: a,
            wins: losses,
            losses: wins,
        });
    };
    let mut played = vec![0; players.len()];
    for (a, b, wins, losses) in games {
        if let (Some(a), Some(b)) = (number(a), number(b)) {
            connect(a, b, *wins, *losses);
            played[a] += wins + losses;
            played[b] += wins + losses;
        }
    }
    for (at, player) in players.iter().enumerate() {
        let origins = origins(player, &parent);
        if let Some(origin) = origins.iter().find_map(number) {
            connect(at, origin, 1, 1);
        }
    }
    let anchor = number(&Player::Random).unwrap_or(0);
    let ratings = settle(&edges, anchor);
    let rated = players.iter().enumerate().map(|(at, player)| {
        let rating = Rating {
            milli_elo: ratings[at],
            standard_error: if at == anchor {
                0
            } else {
                standard_error(&edges[at], &ratings, at)
            },
            games: played[at],
        };
        ((*player).clone(), rating)
    });
    rated.collect()
}

/// Whom a player is compared with before it has played, the best choice first. The anchor has nobody.
fn origins(player: &Player, parent: &impl Fn(BlobHash) -> Option<BlobHash>) -> Vec<Player> {
    match player {
        Player::Random => Vec::new(),
        Player::Heuristic | Player::Untrained { .. } => vec![Player::Random],
        Player::Model { model, simulations } => {
            let simulations = *simulations;
            let parent = parent(*model).filter(|parent| parent != model);
            let parent = parent.map(|model| Player::Model { model, simulations });
            let rest = [Player::Untrained { simulations }, Player::Random];
            parent.into_iter().chain(rest).collect()
        }
    }
}

/// The most likely ratings in milli-Elo: a start along the heaviest tree, then Newton's step for one player after
/// the other until nobody moves. The likelihood is concave, so this climbs to its only top.
fn settle(edges: &[Vec<Edge>], anchor: usize) -> Vec<i64> {
    let mut ratings = start(edges, anchor);
    for _ in 0..SWEEPS_MAX {
        let mut moved = 0;
        for at in (0..edges.len()).filter(|at| *at != anchor) {
            let step = newton(&edges[at], &ratings, at);
            ratings[at] += step;
            moved = moved.max(step.abs());
        }
        if moved <= SETTLED {
            break;
        }
    }
    ratings
}

/// First guesses: from the anchor along the edges with the most games, each player placed by its games against the
/// one it was reached from. A long chain of champions starts where it belongs instead of diffusing there.
fn start(edges: &[Vec<Edge>], anchor: usize) -> Vec<i64> {
    let mut ratings = vec![None; edges.len()];
    let mut reachable = BTreeSet::from([(0, anchor, 0)]);
    while let Some((_, at, rating)) = reachable.pop_last() {
        if ratings[at].is_some() {
            continue;
        }
        ratings[at] = Some(rating);
        for edge in edges[at]
            .iter()
            .filter(|edge| ratings[edge.other].is_none())
        {
            let other = rating - milli_elo(edge.wins, edge.losses);
            reachable.insert((edge.games(), edge.other, other));
        }
    }
    ratings.into_iter().map(Option::unwrap_or_default).collect()
}

/// Score above expectation, and the curve's slope, summed over the games of one player.
fn slope(edges: &[Edge], ratings: &[i64], at: usize) -> (i128, i128) {
    let mut surplus = 0;
    let mut curvature = 0;
    for edge in edges {
        let expected = i128::from(expectation(ratings[at] - ratings[edge.other]));
        let (one, games) = (i128::from(ONE), i128::from(edge.games()));
        surplus += i128::from(edge.wins) * one - games * expected;
        curvature += games * expected * (one - expected) / one;
    }
    (surplus, curvature)
}

fn newton(edges: &[Edge], ratings: &[i64], at: usize) -> i64 {
    let (surplus, curvature) = slope(edges, ratings, at);
    let step = surplus * MILLI_ELO_PER_NAT / curvature.max(1);
    let step = step.clamp(-i128::from(STEP_MAX), i128::from(STEP_MAX));
    i64::try_from(step).unwrap_or_default()
}

/// From the curvature of the likelihood along this player's rating alone.
fn standard_error(edges: &[Edge], ratings: &[i64], at: usize) -> u64 {
    let (_, curvature) = slope(edges, ratings, at);
    let variance = MILLI_ELO_PER_NAT * MILLI_ELO_PER_NAT * i128::from(ONE) / curvature.max(1);
    u64::try_from(variance.isqrt()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(elo: f64) -> f64 {
        1.0 / (1.0 + 10f64.powf(-elo / 400.0))
    }

    /// The table is the curve, and between its entries the straight line is close.
    #[test]
    fn the_table_is_the_curve() {
        for milli in (-1_700_000..1_700_000).step_by(3_333) {
            let exact = curve((milli as f64 / 1e3).clamp(-1_600.0, 1_600.0)) * 1e6;
            let error = (expectation(milli) as f64 - exact).abs();
            assert!(error < 45.0, "{milli}: off by {error} millionths");
        }
    }

    proptest! {
        /// Score to difference is the inverse of difference to score.
        #[test]
        fn differences_invert_expectations(milli in -800_000i64..800_000) {
            let back = difference(expectation(milli));
            // A millionth of score is 0.4 milli-Elo in the middle and 18 at 800 Elo.
            prop_assert!((back - milli).abs() < 60, "{milli} came back as {back}");
        }
    }

    fn net(number: u8) -> Player {
        Player::Model {
            model: BlobHash([number; 32]),
            simulations: 64,
        }
    }

    fn parent(model: BlobHash) -> Option<BlobHash> {
        (model.0[0] > 1).then(|| BlobHash([model.0[0] - 1; 32]))
    }

    /// Forty generations, each 35 Elo better, known only by games against the one before: the fit finds all of them.
    #[test]
    fn a_chain_of_champions_is_rated() {
        let start = Player::Untrained { simulations: 64 };
        let mut games = vec![(Player::Random, start.clone(), 5_000, 5_000)];
        let wins = (curve(35.0) * 1e5).round() as u64;
        for number in 1..=40 {
            let before = if number == 1 {
                start.clone()
            } else {
                net(number - 1)
            };
            games.push((before, net(number), 100_000 - wins, wins));
        }
        let ratings = fit(&games, parent);
        assert_eq!(ratings[&Player::Random].milli_elo, 0);
        for number in 1..=40 {
            let expected = f64::from(number) * 35.0;
            let found = ratings[&net(number)].milli_elo as f64 / 1e3;
            assert!(
                (found - expected).abs() < 1.0 + expected / 100.0,
                "{number}: {found}"
            );
        }
    }

    /// Within 2 Elo of a floating-point fit of the same likelihood, found by another method, on a random tournament.
    #[test]
    fn the_integer_fit_agrees_with_floating_point() {
        let players: Vec<Player> = std::iter::once(Player::Random)
            .chain((1..8).map(net))
            .collect();
        let mut games = Vec::new();
        for a in 0..players.len() {
            for b in a + 1..players.len() {
                let seed = riftmesh_base::Seed(5).derive("pair", (a * 8 + b) as u64).0;
                games.push((
                    players[a].clone(),
                    players[b].clone(),
                    seed % 40,
                    seed / 64 % 40 + 5,
                ));
            }
        }
        let fitted = fit(&games, parent);
        let float = gradient_ascent(&players, &games);
        for (player, expected) in players.iter().zip(float) {
            let found = fitted[player].milli_elo as f64 / 1e3;
            assert!(
                (found - expected).abs() < 2.0,
                "{player}: {found}, expected {expected}"
            );
        }
    }

    fn gradient_ascent(players: &[Player], games: &[(Player, Player, u64, u64)]) -> Vec<f64> {
        let at = |player: &Player| players.iter().position(|p| p == player).unwrap();
        let mut pairs: Vec<(usize, usize, f64, f64)> = Vec::new();
        for (a, b, wins, losses) in games {
            pairs.push((at(a), at(b), *wins as f64, *losses as f64));
        }
        for number in 1..players.len() {
            // The prior: two drawn games against the parent, which for the first is random.
            pairs.push((number, number - 1, 1.0, 1.0));
        }
        let mut ratings = vec![0.0; players.len()];
        for _ in 0..20_000 {
            let mut gradient = vec![0.0; players.len()];
            for (a, b, wins, losses) in &pairs {
                let surplus = wins - (wins + losses) * curve(ratings[*a] - ratings[*b]);
                gradient[*a] += surplus;
                gradient[*b] -= surplus;
            }
            for (rating, slope) in ratings.iter_mut().zip(gradient).skip(1) {
                *rating += slope;
            }
        }
        ratings
    }

    /// Nobody's rating runs away, and players without games against the rest are anchored by the prior.
    #[test]
    fn clean_sweeps_and_strangers_have_finite_ratings() {
        let games = [
            (net(1), net(2), 0, 30),
            (Player::Heuristic, Player::Random, 10, 0),
        ];
        let ratings = fit(&games, |_| None);
        assert!(ratings[&net(2)].milli_elo > ratings[&net(1)].milli_elo);
        assert!(
            ratings
                .values()
                .all(|rating| rating.milli_elo.abs() < 1_600_000)
        );
        assert_eq!(ratings[&net(2)].games, 30);
        assert_eq!(fit(&[], |_| None).len(), 1);
    }
}
