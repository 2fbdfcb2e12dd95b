//! Cluster time: the number a leader stamps on each entry.

use riftmesh_base::limits::CLOCK_STEP_MAX;
use riftmesh_base::{Millis, Term};

/// Cluster time as a leader counts it: it continues from the replicated value and follows the monotonic clock by at
/// most `CLOCK_STEP_MAX` per turn of the proposer's loop. Time between leaders, and time while the leader was paused,
/// does not count: leases may last longer than asked, never shorter.
#[derive(Debug, Default)]
pub(crate) struct ClusterClock {
    leading: Option<Reign>,
}

#[derive(Debug, Clone, Copy)]
struct Reign {
    term: Term,
    now: Millis,
    turned: Millis,
}

impl ClusterClock {
    /// One turn of the loop: `leading` is the term this node leads, `monotonic` its own clock, `replicated` the
    /// cluster time of the applied state. Gives the cluster time to stamp.
    pub fn turn(&mut self, leading: Option<Term>, monotonic: Millis, replicated: Millis) -> Millis {
        let Some(term) = leading else {
            self.leading = None;
            return replicated;
        };
        let now = match self.leading {
            Some(reign) if reign.term == term => {
                let step = monotonic.since(reign.turned).min(CLOCK_STEP_MAX);
                (reign.now + step).max(replicated)
            }
            _ => replicated,
        };
        self.leading = Some(Reign {
            term,
            now,
            turned: monotonic,
        });
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Option<Term> = Some(Term(1));

    /// Time flows with the monotonic clock while leading.
    #[test]
    fn time_flows_under_one_leader() {
        let mut clock = ClusterClock::default();
        let stamps = [0, 300, 900, 1_000].map(|at| clock.turn(T1, Millis(50 + at), Millis(7_000)));
        assert_eq!(stamps, [7_000, 7_300, 7_900, 8_000].map(Millis));
    }

    /// A leader that was paused for an hour lets one step pass: nobody's lease runs out by its waking up.
    #[test]
    fn a_pause_counts_one_step() {
        let mut clock = ClusterClock::default();
        clock.turn(T1, Millis(0), Millis(100));
        assert_eq!(
            clock.turn(T1, Millis(3_600_000), Millis(100)),
            Millis(1_100)
        );
    }

    /// The time without a leader, or under another one, does not count; the replicated value always does.
    #[test]
    fn time_between_reigns_does_not_count() {
        let mut clock = ClusterClock::default();
        clock.turn(T1, Millis(0), Millis(100));
        assert_eq!(clock.turn(None, Millis(500), Millis(150)), Millis(150));
        assert_eq!(
            clock.turn(Some(Term(3)), Millis(900), Millis(170)),
            Millis(170)
        );
        assert_eq!(
            clock.turn(Some(Term(3)), Millis(950), Millis(170)),
            Millis(220)
        );
        assert_eq!(
            clock.turn(Some(Term(4)), Millis(990), Millis(400)),
            Millis(400)
        );
    }
}
