//! How the played move is sampled in the opening. The training target never depends on it.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// What a temperature may depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemperatureContext {
    /// Decisions already made in this game, by all seats.
    pub decision: u32,
    /// Entropy of the improved policy divided by that of the uniform one over the same moves, 0 to 1.
    pub entropy: f64,
    /// How far training has come, 0 to 1.
    pub progress: f64,
}

/// Temperature over a game. 1 samples from the improved policy as it is, above 1 flatter, below 1 sharper, and 0
/// plays the search's choice. Decisions count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TemperatureSchedule {
    /// Always the same.
    Constant {
        /// The temperature.
        value: f64,
    },
    /// From `start` down to 0 at decision `until`.
    Linear {
        /// At the first decision.
        start: f64,
        /// The first decision at 0.
        until: u32,
    },
    /// Halves every `half_life` decisions; 0 below 0.05.
    Exponential {
        /// At the first decision.
        start: f64,
        /// Decisions per halving, at least 1.
        half_life: u32,
    },
    /// `value` before decision `until`, then 0.
    Step {
        /// The temperature in the opening.
        value: f64,
        /// The first decision at 0.
        until: u32,
    },
    /// Half a cosine wave from `start` down to 0 at decision `until`.
    Cosine {
        /// At the first decision.
        start: f64,
        /// The first decision at 0.
        until: u32,
    },
    /// `max` times the policy's relative entropy before decision `until`, then 0: certain positions are played
    /// sharply, open ones are explored.
    Adaptive {
        /// At full entropy.
        max: f64,
        /// The first decision at 0.
        until: u32,
    },
    /// Before decision `until` from `start` in an untrained run to `end` in a finished one, then 0.
    Curriculum {
        /// At progress 0.
        start: f64,
        /// At progress 1.
        end: f64,
        /// The first decision at 0.
        until: u32,
    },
}

impl Default for TemperatureSchedule {
    /// Samples the first 15 decisions, which suits the small boards.
    fn default() -> Self {
        Self::Step {
            value: 1.0,
            until: 15,
        }
    }
}

/// Below this an exponential schedule counts as 0, so that it ends.
const EXPONENTIAL_MIN: f64 = 0.05;

impl TemperatureSchedule {
    /// The temperature of the next decision, not negative.
    pub fn at(&self, context: TemperatureContext) -> f64 {
        let decision = context.decision;
        let before = |until: u32, value: f64| if decision < until { value } else { 0.0 };
        let share = |until: u32| f64::from(decision) / f64::from(until.max(1));
        match *self {
            Self::Constant { value } => value,
            Self::Linear { start, until } => before(until, start * (1.0 - share(until))),
            Self::Exponential { start, half_life } => {
                let value = start * (-share(half_life)).exp2();
                if value < EXPONENTIAL_MIN { 0.0 } else { value }
            }
            Self::Step { value, until } => before(until, value),
            Self::Cosine { start, until } => before(
                until,
                start * 0.5 * (1.0 + (std::f64::consts::PI * share(until)).cos()),
            ),
            Self::Adaptive { max, until } => before(until, max * context.entropy),
            Self::Curriculum { start, end, until } => {
                before(until, start + (end - start) * context.progress)
            }
        }
    }
}

/// The entropy of `policy` divided by that of the uniform policy over as many moves; 0 for a single move.
pub fn relative_entropy(policy: &[f64]) -> f64 {
    if policy.len() < 2 {
        return 0.0;
    }
    let entropy: f64 = policy
        .iter()
        .filter(|p| **p > 0.0)
        .map(|p| -p * p.ln())
        .sum();
    (entropy / (policy.len() as f64).ln()).clamp(0.0, 1.0)
}

/// Draws an index with probability proportional to `policy` to the power `1 / temperature`.
///
/// # Panics
/// When `policy` is empty or `temperature` is not positive: temperature 0 is the search's choice, not a draw.
pub fn sample(policy: &[f64], temperature: f64, rng: &mut impl Rng) -> usize {
    assert!(
        temperature > 0.0 && !policy.is_empty(),
        "temperature {temperature} over {} moves",
        policy.len()
    );
    let max = policy.iter().copied().fold(0.0, f64::max);
    let weights: Vec<f64> = policy
        .iter()
        .map(|p| (p / max).powf(1.0 / temperature))
        .collect();
    let mut rest = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (i, weight) in weights.iter().enumerate() {
        rest -= weight;
        if rest < 0.0 {
            return i;
        }
    }
    // Rounding can leave a sliver behind the last move; the most probable move is never wrong.
    crate::transform::argmax(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    fn at(schedule: TemperatureSchedule, decision: u32) -> f64 {
        schedule.at(TemperatureContext {
            decision,
            entropy: 0.5,
            progress: 0.25,
        })
    }

    /// Every kind at its beginning, in the middle and at its end.
    #[test]
    fn schedules_start_and_end_where_they_say() {
        use TemperatureSchedule as T;
        let values = |schedule: T| [at(schedule, 0), at(schedule, 5), at(schedule, 10)];
        let close = |got: [f64; 3], expected: [f64; 3]| {
            got.iter()
                .zip(expected)
                .for_each(|(got, expected)| assert!((got - expected).abs() < 1e-12, "{got}"));
        };
        close(values(T::Constant { value: 0.7 }), [0.7; 3]);
        close(
            values(T::Linear {
                start: 1.0,
                until: 10,
            }),
            [1.0, 0.5, 0.0],
        );
        close(
            values(T::Exponential {
                start: 1.0,
                half_life: 5,
            }),
            [1.0, 0.5, 0.25],
        );
        assert_eq!(
            at(
                T::Exponential {
                    start: 1.0,
                    half_life: 5
                },
                30
            ),
            0.0
        );
        close(
            values(T::Step {
                value: 0.8,
                until: 6,
            }),
            [0.8, 0.8, 0.0],
        );
        close(
            values(T::Cosine {
                start: 1.0,
                until: 10,
            }),
            [1.0, 0.5, 0.0],
        );
        close(
            values(T::Adaptive {
                max: 1.0,
                until: 10,
            }),
            [0.5, 0.5, 0.0],
        );
        close(
            values(T::Curriculum {
                start: 1.0,
                end: 0.2,
                until: 10,
            }),
            [0.8, 0.8, 0.0],
        );
    }

    /// Temperature 1 draws with the policy's own frequencies, a low one almost always the best move.
    #[test]
    fn draws_follow_the_policy() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let policy = [0.1, 0.6, 0.0, 0.3];
        let mut counts = [0u32; 4];
        (0..10_000).for_each(|_| counts[sample(&policy, 1.0, &mut rng)] += 1);
        for (count, p) in counts.iter().zip(policy) {
            assert!(
                (f64::from(*count) / 10_000.0 - p).abs() < 0.02,
                "{counts:?}"
            );
        }
        let sharp = (0..1_000)
            .filter(|_| sample(&policy, 0.05, &mut rng) == 1)
            .count();
        assert!(sharp > 990, "{sharp}");
    }

    #[test]
    fn entropy_is_relative() {
        assert!((relative_entropy(&[0.25; 4]) - 1.0).abs() < 1e-12);
        assert_eq!(relative_entropy(&[1.0, 0.0]), 0.0);
        assert_eq!(relative_entropy(&[1.0]), 0.0);
    }
}
