//! What the leader remembers of its workers' signs of life, and which sessions have been silent for too long.
//!
//! None of this is in the log: it is one leader's memory, and a new leader starts by giving everybody a full TTL and
//! a grace on top (DISTRIBUTED rule 31).

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::limits::{SESSION_GRACE, SESSION_SILENCE_WITH_EVIDENCE, SESSION_TTL};
use riftmesh_base::{Millis, SessionId};
use riftmesh_statemachine::command::Loss;

/// At least this many sessions may be expired in a minute, or 5 % of all, whichever is more.
const EXPIRY_MIN: usize = 10;
/// Silence after which the rate limit on expiries does not protect a session any more, in TTLs.
const HOPELESS_TTLS: u64 = 10;

/// When each session was last heard, on the leader's monotonic clock.
#[derive(Debug)]
pub struct SessionWatch {
    since: Millis,
    heard: BTreeMap<SessionId, Millis>,
    expired: Vec<Millis>,
}

/// An open session as the state has it, with what gossip says of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSessionFact {
    /// Which.
    pub session: SessionId,
    /// Gossip says *down*, or *left*, of the life that opened the session or of a later one of its node.
    pub down: bool,
    /// Its host told this leader that nobody listens at the node's address any more.
    pub refused: bool,
}

impl OpenSessionFact {
    /// Whether the end of the node shows: to some member, which told all others, and to this leader's own eyes. Either word can be
    /// forged; and a job that is taken back wrongly costs its work, since its holder's token is good for nothing then.
    fn is_evident(&self) -> bool {
        self.down && self.refused
    }
}

impl SessionWatch {
    /// The memory of a leader that took office at `now`.
    pub fn new(now: Millis) -> Self {
        Self {
            since: now,
            heard: BTreeMap::new(),
            expired: Vec::new(),
        }
    }

    /// A sign of life.
    pub fn heard(&mut self, session: SessionId, now: Millis) {
        self.heard.insert(session, now);
    }

    /// The sessions to expire now, and why. Forgets sessions that are not open any more.
    pub fn expire(&mut self, open: &[OpenSessionFact], now: Millis) -> Vec<(SessionId, Loss)> {
        let known: BTreeSet<_> = open.iter().map(|fact| fact.session).collect();
        self.heard.retain(|session, _| known.contains(session));
        self.expired
            .retain(|at| now.since(*at) < Millis::from_secs(60));
        let budget = EXPIRY_MIN
            .max(open.len() / 20)
            .saturating_sub(self.expired.len());
        let mut spent = 0;
        let mut verdicts = Vec::new();
        for fact in open {
            // A session never heard counts from when this leader first could have heard it.
            let heard = *self
                .heard
                .entry(fact.session)
                .or_insert(now.max(self.since));
            let silence = now.since(heard);
            let missed = fact.down && silence > SESSION_SILENCE_WITH_EVIDENCE;
            let reason = if missed || fact.is_evident() {
                Loss::Down
            } else if silence > SESSION_TTL + SESSION_GRACE {
                Loss::Silent
            } else {
                continue;
            };
            let hopeless = silence > Millis(SESSION_TTL.0 * HOPELESS_TTLS);
            if !hopeless && spent == budget {
                continue;
            }
            spent += usize::from(!hopeless);
            self.expired.push(now);
            verdicts.push((fact.session, reason));
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(1);

    fn open(down: bool) -> Vec<OpenSessionFact> {
        let refused = false;
        vec![OpenSessionFact {
            session: S,
            down,
            refused,
        }]
    }

    #[test]
    fn a_new_leader_gives_everybody_a_full_ttl_and_grace() {
        let mut watch = SessionWatch::new(Millis(5));
        assert!(watch.expire(&open(false), Millis(5)).is_empty());
        assert!(watch.expire(&open(false), Millis(40_005)).is_empty());
        assert_eq!(
            watch.expire(&open(false), Millis(40_006)),
            [(S, Loss::Silent)]
        );
    }

    #[test]
    fn gossip_alone_never_expires_and_with_silence_it_does() {
        let mut watch = SessionWatch::new(Millis(0));
        watch.heard(S, Millis(10_000));
        assert!(watch.expire(&open(true), Millis(18_000)).is_empty());
        assert_eq!(watch.expire(&open(true), Millis(18_001)), [(S, Loss::Down)]);
    }

    /// A closed port next to gossip's word needs no silence: the node may have been heard just before it was killed. By itself it
    /// says nothing: the way to the node may be closed for this leader alone.
    #[test]
    fn a_closed_port_that_gossip_knows_of_ends_a_session_at_once() {
        let mut watch = SessionWatch::new(Millis(0));
        watch.heard(S, Millis(10_000));
        let fact = |down| OpenSessionFact {
            session: S,
            down,
            refused: true,
        };
        assert!(watch.expire(&[fact(false)], Millis(39_000)).is_empty());
        watch.heard(S, Millis(40_000));
        assert_eq!(
            watch.expire(&[fact(true)], Millis(40_000)),
            [(S, Loss::Down)]
        );
    }

    #[test]
    fn a_sign_of_life_starts_the_silence_anew() {
        let mut watch = SessionWatch::new(Millis(0));
        for n in 0..100 {
            watch.heard(S, Millis(n * 3_000));
            assert!(
                watch
                    .expire(&open(false), Millis(n * 3_000 + 2_999))
                    .is_empty()
            );
        }
    }

    /// A leader that cannot hear anybody must not expire the fleet.
    #[test]
    fn expiries_per_minute_are_bounded() {
        let fleet: Vec<_> = (0..100)
            .map(|n| OpenSessionFact {
                session: SessionId(n),
                down: false,
                refused: false,
            })
            .collect();
        let mut watch = SessionWatch::new(Millis(0));
        watch.expire(&fleet, Millis(0));
        assert_eq!(watch.expire(&fleet, Millis(50_000)).len(), 10);
        assert_eq!(watch.expire(&fleet, Millis(51_000)).len(), 0);
        assert_eq!(watch.expire(&fleet, Millis(111_000)).len(), 10);
        assert_eq!(watch.expire(&fleet, Millis(301_000)).len(), 100);
    }
}
