//! What a number of won and lost games says: intervals, Elo and the sequential test of promotions.

use serde::{Deserialize, Serialize};

/// Two-sided 95 % of the normal distribution.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// Wins and losses. There are no draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MatchScore {
    /// Games won.
    pub wins: u32,
    /// Games lost.
    pub losses: u32,
}

impl MatchScore {
    /// Games played.
    pub fn games(self) -> u32 {
        self.wins + self.losses
    }

    /// Both taken together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            wins: self.wins + other.wins,
            losses: self.losses + other.losses,
        }
    }

    /// Share of games won; one half before the first game.
    pub fn rate(self) -> f64 {
        if self.games() == 0 {
            return 0.5;
        }
        f64::from(self.wins) / f64::from(self.games())
    }

    /// Wilson's 95 % interval of the true winning rate; 0 to 1 before the first game.
    pub fn wilson(self) -> (f64, f64) {
        let games = f64::from(self.games());
        if games == 0.0 {
            return (0.0, 1.0);
        }
        let z2 = Z_95 * Z_95;
        let centre = self.rate() + z2 / (2.0 * games);
        let spread =
            Z_95 * (self.rate() * (1.0 - self.rate()) / games + z2 / (4.0 * games * games)).sqrt();
        let scale = 1.0 + z2 / games;
        (
            ((centre - spread) / scale).max(0.0),
            ((centre + spread) / scale).min(1.0),
        )
    }

    /// Elo difference and half the width of its 95 % interval, both with half a game added to each side so that they
    /// are finite.
    pub fn elo(self) -> (f64, f64) {
        let wins = f64::from(self.wins) + 0.5;
        let losses = f64::from(self.losses) + 0.5;
        let deviation = (1.0 / wins + 1.0 / losses).sqrt();
        (
            ELO_PER_LOGIT * (wins / losses).ln(),
            ELO_PER_LOGIT * Z_95 * deviation,
        )
    }
}

impl std::ops::AddAssign for MatchScore {
    fn add_assign(&mut self, other: Self) {
        self.wins += other.wins;
        self.losses += other.losses;
    }
}

/// Elo points per natural logarithm of the odds: 400 / ln 10.
pub const ELO_PER_LOGIT: f64 = 400.0 / std::f64::consts::LN_10;

/// The chance to win that an Elo difference stands for.
pub fn expected_score(elo: f64) -> f64 {
    1.0 / (1.0 + (-elo / ELO_PER_LOGIT).exp())
}

/// Wald's sequential probability ratio test between two Elo differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sprt {
    /// Elo difference of the null hypothesis: no better.
    pub elo_0: f64,
    /// Elo difference of the alternative: better.
    pub elo_1: f64,
    /// Chance of accepting the alternative when the null hypothesis is true.
    pub alpha: f64,
    /// Chance of accepting the null hypothesis when the alternative is true.
    pub beta: f64,
}

impl Default for Sprt {
    fn default() -> Self {
        Self {
            elo_0: 0.0,
            elo_1: 35.0,
            alpha: 0.05,
            beta: 0.05,
        }
    }
}

/// Where a sequential test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SprtVerdict {
    /// The alternative is accepted: promote.
    Better,
    /// The null hypothesis is accepted: refuse.
    NotBetter,
    /// More games are needed.
    Undecided,
}

impl Sprt {
    /// Logarithm of the likelihood ratio of the two hypotheses.
    pub fn log_likelihood_ratio(&self, score: MatchScore) -> f64 {
        let (p0, p1) = (expected_score(self.elo_0), expected_score(self.elo_1));
        f64::from(score.wins) * (p1 / p0).ln()
            + f64::from(score.losses) * ((1.0 - p1) / (1.0 - p0)).ln()
    }

    /// The bounds at which the test ends: lower, upper.
    pub fn bounds(&self) -> (f64, f64) {
        (
            (self.beta / (1.0 - self.alpha)).ln(),
            ((1.0 - self.beta) / self.alpha).ln(),
        )
    }

    /// Where the test stands after `score`.
    pub fn verdict(&self, score: MatchScore) -> SprtVerdict {
        let ratio = self.log_likelihood_ratio(score);
        let (lower, upper) = self.bounds();
        if ratio >= upper {
            SprtVerdict::Better
        } else if ratio <= lower {
            SprtVerdict::NotBetter
        } else {
            SprtVerdict::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(wins: u32, games: u32) -> MatchScore {
        MatchScore {
            wins,
            losses: games - wins,
        }
    }

    /// The floors of LEARNING section 9: the least wins whose lower bound lies above the bar.
    #[test]
    fn wilson_floors_are_those_of_the_literature() {
        for (bar, table) in [
            (0.85, [(48, 50), (92, 100), (180, 200), (354, 400)]),
            (0.60, [(37, 50), (70, 100), (134, 200), (260, 400)]),
        ] {
            for (wins, games) in table {
                assert!(score(wins, games).wilson().0 > bar, "{wins} of {games}");
                assert!(
                    score(wins - 1, games).wilson().0 <= bar,
                    "{wins} - 1 of {games}"
                );
            }
        }
        let (low, high) = score(5, 10).wilson();
        assert!((low - 0.2366).abs() < 1e-4 && (high - 0.7634).abs() < 1e-4);
        assert_eq!(MatchScore::default().wilson(), (0.0, 1.0));
    }

    #[test]
    fn elo_of_known_rates() {
        assert!((expected_score(0.0) - 0.5).abs() < 1e-12);
        assert!((expected_score(400.0) - 10.0 / 11.0).abs() < 1e-12);
        assert!(score(50, 100).elo().0.abs() < 1e-9);
        assert!((score(7_600, 10_000).elo().0 - 200.2).abs() < 0.5);
    }

    /// Wald's bounds at 5 % are +-2.944; 35 Elo is a rate of 0.5502, so a win adds 0.0957 and a loss takes 0.1058.
    #[test]
    fn sprt_walks_between_known_bounds() {
        let sprt = Sprt::default();
        let (lower, upper) = sprt.bounds();
        assert!((upper - 2.944).abs() < 1e-3 && (lower + 2.944).abs() < 1e-3);
        assert!((sprt.log_likelihood_ratio(score(1, 1)) - 0.0957).abs() < 1e-3);
        assert!((sprt.log_likelihood_ratio(score(0, 1)) + 0.1059).abs() < 1e-3);
        assert_eq!(sprt.verdict(score(31, 31)), SprtVerdict::Better);
        assert_eq!(sprt.verdict(score(30, 30)), SprtVerdict::Undecided);
        assert_eq!(sprt.verdict(score(0, 28)), SprtVerdict::NotBetter);
    }
}
