//! The promotion rule: a sequential probability ratio test in integers.
//!
//! Each game is a Bernoulli trial. H0 says the candidate wins with p0 = 1/2 (0 Elo), H1 with
//! p1 = 1 / (1 + 10^(-35/400)) = 0.550199 (+35 Elo). The log-likelihood ratio grows by ln(p1 / p0) with a win and by
//! ln((1 - p1) / (1 - p0)) with a loss. With alpha = beta = 0.05, Wald's bounds are +-ln((1 - beta) / alpha) = ln 19.
//! The three constants are those numbers in millionths of a nat, rounded; a test compares them with floating point.
//!
//! Games are played in pairs with exchanged seats, and the two games of a pair lean against each other. Counting them
//! as independent overstates the variance of the sum, so the errors stay below alpha and beta.

use crate::models::Verdict;
use crate::rating;

/// ln(p1 / p0), in millionths of a nat.
const WIN: i64 = 95_673;
/// ln((1 - p1) / (1 - p0)), in millionths of a nat.
const LOSS: i64 = -105_804;
/// ln 19, in millionths of a nat.
const BOUND: i64 = 2_944_439;
/// Games after which the nearer hypothesis is taken. The test would go on for ever on a candidate that lies between
/// the two.
pub(crate) const GAMES_MAX: u32 = 400;

/// The log-likelihood ratio of H1 over H0, in millionths of a nat.
pub(crate) fn log_likelihood_ratio(wins: u32, losses: u32) -> i64 {
    WIN * i64::from(wins) + LOSS * i64::from(losses)
}

/// What the rule says after so many games.
pub(crate) fn judge(wins: u32, losses: u32) -> Verdict {
    let ratio = log_likelihood_ratio(wins, losses);
    let games = u64::from(wins) + u64::from(losses);
    let capped = games >= u64::from(GAMES_MAX);
    let words = words(wins, losses, ratio);
    if ratio >= BOUND {
        Verdict::Promoted { reason: words }
    } else if ratio <= -BOUND {
        Verdict::Rejected { reason: words }
    } else if capped && ratio > 0 {
        Verdict::Promoted {
            reason: format!("{words}, nearer to +35 than to 0 Elo at the cap of {GAMES_MAX} games"),
        }
    } else if capped {
        Verdict::Rejected {
            reason: format!("{words}, nearer to 0 than to +35 Elo at the cap of {GAMES_MAX} games"),
        }
    } else {
        Verdict::Undecided { reason: words }
    }
}

/// Such as `+133 Elo after 92 games (63-29), SPRT 2.95 of 2.94`.
fn words(wins: u32, losses: u32, ratio: i64) -> String {
    let games = u64::from(wins) + u64::from(losses);
    if games == 0 {
        return "no games against the present champion yet".to_owned();
    }
    format!(
        "{} Elo after {games} games ({wins}-{losses}), SPRT {} of {}",
        rating::signed_elo(u64::from(wins), u64::from(losses)),
        nats(ratio),
        nats(BOUND)
    )
}

/// A number of millionths with two decimals, cut towards zero.
fn nats(micro: i64) -> String {
    let hundredths = micro / 10_000;
    let sign = if hundredths < 0 { "-" } else { "" };
    let hundredths = hundredths.unsigned_abs();
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riftmesh_base::Seed;

    use super::*;

    fn win_probability(elo: f64) -> f64 {
        1.0 / (1.0 + 10f64.powf(-elo / 400.0))
    }

    /// The integers are the numbers the module's text derives.
    #[test]
    fn constants_are_the_derived_ones() {
        let p1 = win_probability(35.0);
        let derived = [
            (p1 / 0.5).ln(),
            ((1.0 - p1) / 0.5).ln(),
            (0.95f64 / 0.05).ln(),
        ];
        for (constant, derived) in [WIN, LOSS, BOUND].into_iter().zip(derived) {
            assert!(
                (constant as f64 - derived * 1e6).abs() <= 0.5,
                "{constant} is not {derived}"
            );
        }
    }

    /// Plays candidates of a known strength until the rule decides; gives the share promoted and the mean length.
    /// The cap is left out when `capped` is false, which is the test LEARNING's figures are about.
    fn play(elo: f64, capped: bool) -> (f64, f64) {
        const CANDIDATES: u64 = 2_000;
        let threshold = (win_probability(elo) * 2f64.powi(32)) as u64;
        let (mut promoted, mut games) = (0, 0);
        for candidate in 0..CANDIDATES {
            let (mut wins, mut losses) = (0, 0);
            let mut random = Seed(elo as i64 as u64).derive("candidate", candidate).0;
            let accepted = loop {
                // One step of splitmix64.
                random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = random;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                if (z ^ (z >> 31)) >> 32 < threshold {
                    wins += 1
                } else {
                    losses += 1
                }
                let ratio = log_likelihood_ratio(wins, losses);
                if ratio.abs() >= BOUND || capped && wins + losses >= GAMES_MAX {
                    break matches!(judge(wins, losses), Verdict::Promoted { .. });
                }
            };
            promoted += u32::from(accepted);
            games += wins + losses;
        }
        let candidates = CANDIDATES as f64;
        (
            f64::from(promoted) / candidates,
            f64::from(games) / candidates,
        )
    }

    /// Without the cap the test needs as many games as the literature and LEARNING say, and errs as rarely as promised.
    #[test]
    fn lengths_and_errors_are_those_of_the_test() {
        for (elo, games) in [
            (120.0, 105.0),
            (70.0, 200.0),
            (35.0, 540.0),
            (0.0, 530.0),
            (-50.0, 150.0),
        ] {
            let (promoted, mean) = play(elo, false);
            assert!(
                (mean / games - 1.0).abs() < 0.15,
                "{elo} Elo: {mean} games, expected about {games}"
            );
            let right = if elo >= 35.0 {
                promoted
            } else {
                1.0 - promoted
            };
            assert!(right > 0.94, "{elo} Elo: right in {right}");
        }
    }

    /// The cap costs certainty near the two hypotheses and none far from them.
    #[test]
    fn the_cap_bounds_the_length() {
        let (strong, games) = play(120.0, true);
        assert!(strong > 0.99 && games < 120.0, "{strong} {games}");
        let (equal, games) = play(0.0, true);
        assert!(
            equal < 0.25 && games < f64::from(GAMES_MAX),
            "{equal} {games}"
        );
        let (good, _) = play(35.0, true);
        assert!(good > 0.75, "{good}");
    }

    proptest! {
        /// A win never makes a promoted candidate undecided, and no score is both promoted and refused.
        #[test]
        fn more_wins_never_hurt(wins in 0u32..500, losses in 0u32..500) {
            let rank = |verdict: &Verdict| match verdict {
                Verdict::Rejected { .. } => 0,
                Verdict::Undecided { .. } => 1,
                Verdict::Promoted { .. } => 2,
            };
            let (now, then) = (judge(wins, losses), judge(wins + 1, losses));
            // Reaching the cap may turn "more games are needed" into a refusal.
            let capped = wins + losses + 1 == GAMES_MAX;
            prop_assert!(capped || rank(&then) >= rank(&now));
        }
    }

    /// Reasons are for people.
    #[test]
    fn reasons_read_well() {
        let reason = match judge(63, 29) {
            Verdict::Promoted { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason, "+133 Elo after 92 games (63-29), SPRT 2.95 of 2.94");
        let reason = match judge(35, 62) {
            Verdict::Rejected { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason, "-98 Elo after 97 games (35-62), SPRT -3.21 of 2.94");
    }
}
