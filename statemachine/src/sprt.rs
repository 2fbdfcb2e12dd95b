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
