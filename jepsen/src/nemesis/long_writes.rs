//! Writes that take packets of full length. A link that loses such packets does no harm to nodes that send none.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{BLOCKED, FaultOutcome};
use crate::net::wire::Tally;
use crate::pace::Pace;
use crate::workload::Process;

/// Bytes of a value: below the 4,096 that a setting may have, and of several packets.
const VALUE_BYTES: usize = 3_900;
/// Time between two of them.
const EVERY: Duration = Duration::from_millis(150);

/// What became of long writes while a fault was on.
#[derive(Debug, Default)]
pub struct LongWrites {
    given: u32,
    acknowledged: u32,
}

impl LongWrites {
    /// Writes for `time`.
    pub fn write_for(&mut self, time: Duration, scout: &Process<'_>, rng: &mut StdRng) {
        let (began, pace) = (Instant::now(), Pace::default());
        while began.elapsed() < time {
            let letters = (0..VALUE_BYTES).map(|_| char::from(rng.random_range(b'a'..=b'z')));
            self.given += 1;
            self.acknowledged += u32::from(scout.write_long(&letters.collect::<String>()));
            pace.wait(EVERY);
        }
    }

    /// How it went, with what the wire did meanwhile. The fault took if packets were lost for their length; that nothing
    /// came through all the while is told at the end.
    pub fn outcome(&self, tally: &Tally) -> FaultOutcome {
        let Self {
            given,
            acknowledged,
        } = self;
        let detail = format!("{tally}; {acknowledged} of {given} long writes acknowledged");
        match (tally.too_long, acknowledged) {
            (0, _) => FaultOutcome::Indeterminate(detail),
            (_, 0) => FaultOutcome::Installed(detail + BLOCKED),
            _ => FaultOutcome::Installed(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault took when packets were lost for their length, and what nobody could write is told.
    #[test]
    fn outcomes_tell_what_came_through() {
        let outcome = |too_long, acknowledged| {
            let tally = Tally {
                too_long,
                ..Tally::default()
            };
            let writes = LongWrites {
                given: 9,
                acknowledged,
            };
            writes.outcome(&tally)
        };
        assert!(matches!(outcome(0, 9), FaultOutcome::Indeterminate(_)));
        let said = |outcome| match outcome {
            FaultOutcome::Installed(detail) => detail,
            FaultOutcome::Indeterminate(why) => panic!("{why}"),
        };
        assert!(said(outcome(3, 1)).ends_with("3 too long; 1 of 9 long writes acknowledged"));
        assert!(said(outcome(3, 0)).ends_with(BLOCKED));
    }
}
