//! Bradley-Terry ratings over every game ever played: the order of the games does not matter, the same games always
//! give the same ratings, and every rating has a standard error.

use std::collections::BTreeMap;

use crate::stats::{ELO_PER_LOGIT, MatchScore};

/// Games of one player against another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing<P> {
    /// Whose wins are counted.
    pub player: P,
    /// Against whom.
    pub opponent: P,
    /// Wins and losses of `player`.
    pub score: MatchScore,
}

/// A rating on the Elo scale, relative to the anchor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FittedRating {
    /// Elo points; the anchor has 0.
    pub elo: f64,
    /// Standard error in Elo points; infinite when no chain of games leads to the anchor.
    pub standard_error: f64,
    /// Games behind it, without the prior.
    pub games: u32,
}

/// Drawn games of the prior against a player's parent (LEARNING 9).
const PRIOR_DRAWS: f64 = 2.0;
const ITERATIONS_MAX: usize = 100;
/// Convergence, in natural-logarithm odds.
const TOLERANCE: f64 = 1e-9;

/// Rates every player of `pairings` and `parents`. `parents` lists, for players that were trained from another one, that
/// other one; a player without an entry has its prior games against the anchor.
///
/// The anchor's rating is 0 by definition. Players whose games never connect them to the anchor are tied to it by the
/// prior alone, which their standard errors show.
pub fn rate<P: Ord + Clone>(
    anchor: &P,
    pairings: &[Pairing<P>],
    parents: &BTreeMap<P, P>,
) -> BTreeMap<P, FittedRating> {
    let players = players(anchor, pairings, parents);
    let index: BTreeMap<&P, usize> = players.iter().zip(0..).collect();
    let mut wins = vec![vec![0.0; players.len()]; players.len()];
    let mut games = vec![0u32; players.len()];
    for pairing in pairings {
        let (a, b) = (index[&pairing.player], index[&pairing.opponent]);
        if a == b {
            continue;
        }
        wins[a][b] += f64::from(pairing.score.wins);
        wins[b][a] += f64::from(pairing.score.losses);
        games[a] += pairing.score.games();
        games[b] += pairing.score.games();
    }
    for (player, &a) in &index {
        let b = parents.get(*player).map_or(0, |parent| index[parent]);
        if a != 0 && a != b {
            wins[a][b] += PRIOR_DRAWS / 2.0;
            wins[b][a] += PRIOR_DRAWS / 2.0;
        }
    }
    let (strengths, errors) = fit(&wins);
    let rating = |i: usize| FittedRating {
        elo: ELO_PER_LOGIT * strengths[i],
        standard_error: ELO_PER_LOGIT * errors[i],
        games: games[i],
    };
    players.iter().cloned().zip((0..).map(rating)).collect()
}

/// Every player once, the anchor first.
fn players<P: Ord + Clone>(
    anchor: &P,
    pairings: &[Pairing<P>],
    parents: &BTreeMap<P, P>,
) -> Vec<P> {
    let named = pairings
        .iter()
        .flat_map(|pairing| [&pairing.player, &pairing.opponent]);
    let mut others: Vec<P> = named
        .chain(parents.keys())
        .chain(parents.values())
        .filter(|player| *player != anchor)
        .cloned()
        .collect();
    others.sort();
    others.dedup();
    others.insert(0, anchor.clone());
    others
}

/// The most likely strengths in natural-logarithm odds with player 0 at zero, and their standard errors, by Newton's
/// method: the log-likelihood is concave, and the prior makes it strictly so.
fn fit(wins: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let mut strengths = vec![0.0; wins.len()];
    for _ in 0..ITERATIONS_MAX {
        let (gradient, information) = derivatives(wins, &strengths);
        let Some(factor) = cholesky(&information) else {
            break;
        };
        let step = solve(&factor, &gradient);
        let longest = step
            .iter()
            .fold(0.0_f64, |longest, part| longest.max(part.abs()));
        // A full Newton step may overshoot where everything is won; a bounded one never leaves the basin.
        let scale = (1.0 / longest.max(1e-300)).min(1.0);
        for (strength, part) in strengths[1..].iter_mut().zip(&step) {
            *strength += scale * part;
        }
        if longest < TOLERANCE {
            break;
        }
    }
    let (_, information) = derivatives(wins, &strengths);
    let mut errors = vec![0.0; wins.len()];
    match cholesky(&information) {
        Some(factor) => {
            for (i, error) in errors[1..].iter_mut().enumerate() {
                let mut unit = vec![0.0; factor.len()];
                unit[i] = 1.0;
                *error = solve(&factor, &unit)[i].sqrt();
            }
        }
        None => errors[1..].fill(f64::INFINITY),
    }
    (strengths, errors)
}

/// Gradient and negative Hessian of the log-likelihood over the players but the anchor.
fn derivatives(wins: &[Vec<f64>], strengths: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let free = wins.len() - 1;
    let mut gradient = vec![0.0; free];
    let mut information = vec![vec![0.0; free]; free];
    for a in 1..wins.len() {
        for b in 0..wins.len() {
            let games = wins[a][b] + wins[b][a];
            if a == b || games == 0.0 {
                continue;
            }
            let chance = 1.0 / (1.0 + (strengths[b] - strengths[a]).exp());
            let weight = games * chance * (1.0 - chance);
            gradient[a - 1] += wins[a][b] - games * chance;
            information[a - 1][a - 1] += weight;
            if b > 0 {
                information[a - 1][b - 1] -= weight;
            }
        }
    }
    (gradient, information)
}

/// The lower triangle L with L L^T = `matrix`; none if it is not positive definite.
fn cholesky(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let mut lower = vec![vec![0.0; matrix.len()]; matrix.len()];
    for i in 0..matrix.len() {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
            let rest = matrix[i][j] - dot;
            if i == j {
                if rest <= 0.0 {
                    return None;
                }
                lower[i][i] = rest.sqrt();
            } else {
                lower[i][j] = rest / lower[j][j];
            }
        }
    }
    Some(lower)
}

/// Solves L L^T x = `right`.
fn solve(lower: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut x = right.to_vec();
    for i in 0..x.len() {
        let dot: f64 = (0..i).map(|k| lower[i][k] * x[k]).sum();
        x[i] = (x[i] - dot) / lower[i][i];
    }
    for i in (0..x.len()).rev() {
        let dot: f64 = (i + 1..x.len()).map(|k| lower[k][i] * x[k]).sum();
        x[i] = (x[i] - dot) / lower[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairing(
        player: &'static str,
        opponent: &'static str,
        wins: u32,
        losses: u32,
    ) -> Pairing<&'static str> {
        Pairing {
            player,
            opponent,
            score: MatchScore { wins, losses },
        }
    }

    /// With two players the likelihood has a closed form: odds of (wins + prior) to (losses + prior).
    #[test]
    fn two_players_match_the_closed_form() {
        let ratings = rate(
            &"random",
            &[pairing("net", "random", 75, 25)],
            &BTreeMap::new(),
        );
        let expected = ELO_PER_LOGIT * (76.0_f64 / 26.0).ln();
        let error = ELO_PER_LOGIT * (1.0_f64 / 76.0 + 1.0 / 26.0).sqrt();
        assert!((ratings["net"].elo - expected).abs() < 1e-6);
        assert!((ratings["net"].standard_error - error).abs() < 1e-6);
        assert_eq!(ratings["random"].elo, 0.0);
        assert_eq!(ratings["net"].games, 100);
    }

    /// Order and grouping of games do not matter, and lost-only players stay finite.
    #[test]
    fn the_order_of_games_does_not_matter() {
        let parents = BTreeMap::from([("b", "a"), ("c", "b")]);
        let games = [
            pairing("a", "random", 40, 0),
            pairing("b", "a", 12, 8),
            pairing("c", "b", 15, 5),
            pairing("c", "random", 0, 10),
        ];
        let forward = rate(&"random", &games, &parents);
        let mut turned: Vec<_> = games.to_vec();
        turned.reverse();
        turned[0] = pairing("random", "c", 10, 0);
        let backward = rate(&"random", &turned, &parents);
        for (player, rating) in &forward {
            assert!((rating.elo - backward[player].elo).abs() < 1e-5);
            assert!(rating.elo.is_finite() && rating.standard_error.is_finite());
        }
    }

    /// Over a chain the differences add up, and the error grows along it.
    #[test]
    fn chains_add_up() {
        let parents = BTreeMap::from([("b", "a")]);
        let games = [
            pairing("a", "random", 640, 360),
            pairing("b", "a", 640, 360),
        ];
        let ratings = rate(&"random", &games, &parents);
        assert!((ratings["a"].elo - 100.0).abs() < 2.0);
        assert!((ratings["b"].elo - 200.0).abs() < 3.0);
        assert!(ratings["b"].standard_error > ratings["a"].standard_error);
    }
}
