//! What the wire does to the frames of one direction of one link. Pure: the same dice, the same fate.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// A longer queue behind a limited rate loses what comes next, as a router does.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// Bytes of a frame before its packet.
const HEADER_BYTES: usize = 14;

/// A rule. The default passes everything on at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rule {
    /// Nothing passes.
    pub cut: bool,
    /// Frames lost, in a thousand.
    pub loss: u32,
    /// Every frame comes so much later.
    pub delay: Duration,
    /// And up to so much later again, each by its own amount, which reorders them.
    pub jitter: Duration,
    /// Frames that come twice, in a thousand.
    pub duplicate: u32,
    /// Frames held back behind those that follow, in a thousand.
    pub reorder: u32,
    /// Frames with a flipped bit, in a thousand.
    pub corrupt: u32,
    /// Bytes a second; none for no limit.
    pub rate: Option<u32>,
    /// Bytes of the longest packet that passes, the link's own header not counted; longer ones vanish without a word.
    pub mtu: Option<u16>,
}

/// What becomes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Taken by a cut.
    Cut,
    /// Longer than the link takes.
    TooLong,
    /// Lost by chance, or behind a full queue.
    Lost,
    /// It arrives.
    Passes {
        /// So much later.
        after: Duration,
        /// And a second time after so long.
        again: Option<Duration>,
        /// Held back behind frames that follow.
        held_back: bool,
        /// The bit to flip.
        flip: Option<usize>,
    },
}

/// How long a frame that was picked for it is held back: longer than the frames of one burst take.
const HOLD_BACK_MS: std::ops::Range<u64> = 5..40;

impl Rule {
    /// Decides about a frame of `length` bytes. `backlog` is the time until the link is free, at a limited rate; it grows
    /// by what this frame takes.
    pub fn decide(&self, length: usize, backlog: &mut Duration, dice: &mut StdRng) -> Fate {
        let mut chance = |per_mille: u32| per_mille > 0 && dice.random_range(0..1_000) < per_mille;
        if self.cut {
            return Fate::Cut;
        }
        if self
            .mtu
            .is_some_and(|mtu| length > usize::from(mtu) + HEADER_BYTES)
        {
            return Fate::TooLong;
        }
        if chance(self.loss) || *backlog > BACKLOG_MAX {
            return Fate::Lost;
        }
        let (twice, held_back, corrupt) = (
            chance(self.duplicate),
            chance(self.reorder),
            chance(self.corrupt),
        );
        if let Some(rate) = self.rate {
            *backlog += Duration::from_secs_f64(length as f64 / f64::from(rate.max(1)));
        }
        let mut after = self.delay + *backlog;
        if !self.jitter.is_zero() {
            after += self.jitter.mul_f64(dice.random_range(0.0..1.0));
        }
        if held_back {
            after += Duration::from_millis(dice.random_range(HOLD_BACK_MS));
        }
        Fate::Passes {
            after,
            again: twice.then(|| after + Duration::from_millis(dice.random_range(0..20))),
            held_back,
            flip: corrupt.then(|| dice.random_range(0..usize::MAX)),
        }
    }

    /// Whether it changes anything.
    pub fn is_broken(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn fates(rule: Rule, count: usize) -> Vec<Fate> {
        let (mut dice, mut backlog) = (StdRng::seed_from_u64(1), Duration::ZERO);
        (0..count)
            .map(|_| rule.decide(1_000, &mut backlog, &mut dice))
            .collect()
    }

    #[test]
    fn a_whole_link_passes_everything_at_once() {
        let whole = Fate::Passes {
            after: Duration::ZERO,
            again: None,
            held_back: false,
            flip: None,
        };
        assert!(
            fates(Rule::default(), 100)
                .iter()
                .all(|fate| *fate == whole)
        );
        assert!(!Rule::default().is_broken());
    }

    /// Packets of the limit's length pass, longer ones do not.
    #[test]
    fn long_packets_vanish() {
        let rule = Rule {
            mtu: Some(1_300),
            ..Rule::default()
        };
        let (mut dice, mut backlog) = (StdRng::seed_from_u64(1), Duration::ZERO);
        let mut fate = |length| rule.decide(length, &mut backlog, &mut dice);
        assert!(matches!(fate(1_300 + HEADER_BYTES), Fate::Passes { .. }));
        assert_eq!(fate(1_301 + HEADER_BYTES), Fate::TooLong);
    }

    /// Each number of a rule shows in the share of frames it is for, and the same dice give the same fates.
    #[test]
    fn rules_do_what_they_say() {
        let count = |rule: Rule, of: fn(&Fate) -> bool| {
            assert_eq!(fates(rule, 10_000), fates(rule, 10_000));
            fates(rule, 10_000).iter().filter(|fate| of(fate)).count()
        };
        let whole = Rule::default();
        assert_eq!(
            count(Rule { cut: true, ..whole }, |f| *f == Fate::Cut),
            10_000
        );
        let near = |found: usize, expected: usize| found.abs_diff(expected) < 200;
        assert!(near(
            count(Rule { loss: 300, ..whole }, |f| *f == Fate::Lost),
            3_000
        ));
        let twice = |f: &Fate| matches!(f, Fate::Passes { again: Some(_), .. });
        assert!(near(
            count(
                Rule {
                    duplicate: 200,
                    ..whole
                },
                twice
            ),
            2_000
        ));
        let late = |f: &Fate| {
            matches!(
                f,
                Fate::Passes {
                    held_back: true,
                    ..
                }
            )
        };
        assert!(near(
            count(
                Rule {
                    reorder: 100,
                    ..whole
                },
                late
            ),
            1_000
        ));
        let bad = |f: &Fate| matches!(f, Fate::Passes { flip: Some(_), .. });
        assert!(near(
            count(
                Rule {
                    corrupt: 50,
                    ..whole
                },
                bad
            ),
            500
        ));
    }

    /// At 10,000 bytes a second, a thousand bytes take a tenth of a second each, and a second's backlog is the most.
    #[test]
    fn a_limited_rate_queues_and_then_loses() {
        let rule = Rule {
            rate: Some(10_000),
            ..Rule::default()
        };
        let fates = fates(rule, 20);
        let after = |fate: &Fate| match fate {
            Fate::Passes { after, .. } => Some(*after),
            Fate::Cut | Fate::TooLong | Fate::Lost => None,
        };
        assert_eq!(after(&fates[0]), Some(Duration::from_millis(100)));
        assert_eq!(after(&fates[9]), Some(Duration::from_secs(1)));
        assert_eq!(after(&fates[19]), None);
    }
}
