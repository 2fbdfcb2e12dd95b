//! Who may become a voter, who may be removed, who may lead next: pure rules over a leader's status.

use std::collections::BTreeMap;

use riftmesh_base::{Millis, NodeId, Term};
use tokio::time::Instant;

use crate::change::{self, Change};
use crate::error::MemberError;
use crate::members::MemberOrder;
use crate::status::{MemberStatus, RaftRole, RaftStatus};

/// Leadership goes only to a voter at most this far behind.
const TRANSFER_LAG_MAX: u64 = 100;
/// A member further behind has not caught up.
const CAUGHT_UP_LAG_MAX: u64 = 1_000;
/// A member that has not answered for this long is not there.
const SILENCE_MAX: Millis = Millis(10_000);
/// A member that is to leave, and has not answered for this long, is not waited for.
const DISMISSAL_SILENCE_MAX: Millis = Millis(3_000);

/// What an order calls for now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: things are as ordered.
    Done(String),
    /// Patience.
    Wait(String),
    /// The leader hands over before it is removed.
    HandOver,
    /// Leadership moves.
    Move(Option<NodeId>),
    /// An entry.
    Change {
        change: Change,
        then: Then,
        words: String,
    },
}

/// What is left of an order once its entry is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Done,
    Wait,
}

/// Since when something has been true of each member, as this leader saw it.
#[derive(Debug, Default)]
pub(crate) struct Spells {
    term: Term,
    since: BTreeMap<NodeId, Instant>,
}

impl Spells {
    /// Notes of whom it is true now. A new term starts everybody anew: time without a leader does not count, and what
    /// another leader saw is not known here.
    pub fn note(&mut self, status: &RaftStatus, now: Instant, holds: fn(&MemberStatus) -> bool) {
        if status.role != RaftRole::Leader || status.term != self.term {
            self.since.clear();
            self.term = status.term;
        }
        if status.role != RaftRole::Leader {
            return;
        }
        let members = status.members.iter().filter(|member| holds(member));
        let nodes: Vec<NodeId> = members.map(|member| member.node).collect();
        self.since.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.since.entry(node).or_insert(now);
        }
    }

    /// For how long it has been true of `node`.
    pub fn of(&self, node: NodeId, now: Instant) -> Option<Millis> {
        let since = self.since.get(&node)?;
        Some(now.saturating_duration_since(*since).into())
    }
}

/// Since when each learner has been close behind.
#[derive(Debug, Default)]
pub(crate) struct Steadiness(Spells);

impl Steadiness {
    /// Notes how the learners do.
    pub fn note(&mut self, status: &RaftStatus, now: Instant) {
        let close = |member: &MemberStatus| !member.voter && caught_up(member);
        self.0.note(status, now, close);
    }

    fn of(&self, node: NodeId, now: Instant) -> Option<Millis> {
        self.0.of(node, now)
    }
}

pub(crate) fn answers(member: &MemberStatus) -> bool {
    member.contact_age.is_some_and(|age| age < SILENCE_MAX)
}

pub(crate) fn caught_up(member: &MemberStatus) -> bool {
    answers(member) && member.lag.is_some_and(|lag| lag < CAUGHT_UP_LAG_MAX)
}

/// What `order` calls for, on the leader whose status this is. A learner gets its vote after `steady` close behind.
pub(crate) fn judge(
    order: &MemberOrder,
    status: &RaftStatus,
    steadiness: &Steadiness,
    steady: Millis,
    now: Instant,
) -> Result<Verdict, MemberError> {
    let member = |node: &NodeId| status.members.iter().find(|known| known.node == *node);
    Ok(match order {
        MemberOrder::AddLearner { node, address } => match member(node) {
            Some(_) => Verdict::Done(format!("{node} is a member already")),
            None => Verdict::Change {
                change: change::add_learner(*node, address.clone()),
                then: Then::Done,
                words: format!("{node} follows as a learner"),
            },
        },
        MemberOrder::AddVoter { node, address } => match member(node) {
            Some(member) if member.voter => Verdict::Done(format!("{node} votes")),
            Some(learner) => promotion(learner, steadiness.of(*node, now), steady),
            None => Verdict::Change {
                change: change::add_learner(*node, address.clone()),
                then: Then::Wait,
                words: format!(
                    "{node} follows as a learner; it gets its vote when it has caught up"
                ),
            },
        },
        MemberOrder::Remove { node } => match member(node) {
            None => Verdict::Done(format!("{node} is no member")),
            Some(member) if member.voter => removal(status, *node)?,
            Some(learner) => dismissal(status, learner),
        },
        MemberOrder::MoveLeader { to } if *to == Some(status.node) => {
            Verdict::Done(format!("{} leads", status.node))
        }
        MemberOrder::MoveLeader { to } => Verdict::Move(*to),
        MemberOrder::Replace { gone, by } => {
            let votes = |node| member(node).is_some_and(|member| member.voter);
            match (votes(gone), member(by)) {
                (_, None) => return Err(no_learner(*by)),
                (false, Some(by)) if by.voter => {
                    Verdict::Done(format!("{} votes in place of {gone}", by.node))
                }
                (true, Some(by)) if !by.voter => {
                    if *gone == status.node {
                        return Err(MemberError::Refused(
                            "the leader is not replaced; move leadership first".to_owned(),
                        ));
                    }
                    let promotion = promotion(by, steadiness.of(by.node, now), steady);
                    replacement(status, *gone, by.node, promotion)?
                }
                (_, Some(_)) => {
                    return Err(MemberError::Refused(format!(
                        "{by} takes the place of {gone} only if {gone} votes and {by} does not"
                    )));
                }
            }
        }
    })
}

fn no_learner(node: NodeId) -> MemberError {
    MemberError::Refused(format!("{node} is no member; add it as a learner first"))
}

/// The change in place of a promotion that is due.
fn replacement(
    status: &RaftStatus,
    gone: NodeId,
    by: NodeId,
    promotion: Verdict,
) -> Result<Verdict, MemberError> {
    let Verdict::Change { then, .. } = promotion else {
        return Ok(promotion);
    };
    let others = |member: &&MemberStatus| member.voter && member.node != gone;
    let others: Vec<&MemberStatus> = status.members.iter().filter(others).collect();
    let present = others.iter().filter(|member| answers(member)).count();
    let needed = others.len().div_ceil(2) + 1;
    if present < needed {
        return Err(MemberError::Refused(format!(
            "only {present} of the {} voters that stay would answer, and {needed} must",
            others.len()
        )));
    }
    Ok(Verdict::Change {
        change: change::replace(gone, by),
        then,
        words: format!("{by} votes in place of {gone}"),
    })
}

fn promotion(learner: &MemberStatus, been: Option<Millis>, steady: Millis) -> Verdict {
    let node = learner.node;
    if !answers(learner) {
        return Verdict::Wait(format!("{node} does not answer the leader; is it running?"));
    }
    match been {
        Some(been) if been >= steady => Verdict::Change {
            change: change::promote(node),
            then: Then::Done,
            words: format!("{node} votes"),
        },
        Some(been) => Verdict::Wait(format!(
            "{node} has caught up and has been steady for {been} of {steady}"
        )),
        None => {
            let lag = learner
                .lag
                .map_or_else(|| "an unknown number of".to_owned(), |lag| lag.to_string());
            Verdict::Wait(format!("{node} is {lag} entries behind and catches up"))
        }
    }
}

/// A voter leaves only if those that stay are a working quorum: the change itself needs one, and so does everything
/// after it.
fn removal(status: &RaftStatus, node: NodeId) -> Result<Verdict, MemberError> {
    let rest: Vec<&MemberStatus> = status
        .members
        .iter()
        .filter(|member| member.voter && member.node != node)
        .collect();
    if rest.is_empty() {
        return Err(MemberError::Refused(
            "the last voter cannot be removed; add another one first".to_owned(),
        ));
    }
    let (needed, present) = (
        rest.len() / 2 + 1,
        rest.iter().filter(|member| answers(member)).count(),
    );
    if present < needed {
        let silent: Vec<&MemberStatus> = rest.iter().filter(|m| !answers(m)).copied().collect();
        let names: Vec<String> = silent.iter().map(|m| m.node.to_string()).collect();
        let words = format!(
            "without {node} only {present} of the other {} voters would answer, and {needed} must; remove or restart {} first",
            rest.len(),
            names.join(", ")
        );
        // A leader that has just begun has not heard from anybody yet.
        return match silent.iter().any(|member| member.contact_age.is_none()) {
            true => Ok(Verdict::Wait(words)),
            false => Err(MemberError::Refused(words)),
        };
    }
    if node == status.node {
        return Ok(Verdict::HandOver);
    }
    Ok(Verdict::Change {
        change: change::take_vote(node),
        then: Then::Wait,
        words: format!("{node} votes no more, and leaves when it has heard so"),
    })
}

/// A learner that is there and has caught up leaves once it has the members it is part of. It may have been a voter
/// until now, and after this nobody tells it anything: one that believes to vote would ask for votes for ever.
fn dismissal(status: &RaftStatus, learner: &MemberStatus) -> Verdict {
    let node = learner.node;
    let listens = learner
        .contact_age
        .is_some_and(|age| age < DISMISSAL_SILENCE_MAX);
    if listens && caught_up(learner) && learner.matched < status.members_index {
        return Verdict::Wait(format!("{node} has not heard yet that it votes no more"));
    }
    Verdict::Change {
        change: change::remove_learner(node),
        then: Then::Done,
        words: format!("{node} is no member any more"),
    }
}

/// The voter to hand leadership to.
pub(crate) fn heir(status: &RaftStatus, wanted: Option<NodeId>) -> Result<NodeId, MemberError> {
    let able = |member: &&MemberStatus| {
        member.voter
            && member.node != status.node
            && wanted.is_none_or(|wanted| wanted == member.node)
            && member.lag.is_some_and(|lag| lag < TRANSFER_LAG_MAX)
    };
    let nearest = status
        .members
        .iter()
        .filter(able)
        .min_by_key(|m| (m.contact_age, m.lag));
    nearest.map(|member| member.node).ok_or_else(|| {
        MemberError::Refused(match wanted {
            Some(node) => {
                format!("{node} is no other voter within {TRANSFER_LAG_MAX} entries of the leader")
            }
            None => format!("no other voter is within {TRANSFER_LAG_MAX} entries of the leader"),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use riftmesh_base::LogIndex;

    use super::*;

    const STEADY: Millis = Millis(10_000);

    fn member(node: u64, voter: bool, lag: u64, age: u64) -> MemberStatus {
        MemberStatus {
            node: NodeId(node),
            address: format!("host{node}:7000"),
            voter,
            matched: Some(LogIndex(5_000 - lag)),
            lag: Some(lag),
            contact_age: Some(Millis(age)),
        }
    }

    /// Leader 1 of term 3.
    fn status(members: Vec<MemberStatus>) -> RaftStatus {
        RaftStatus {
            node: NodeId(1),
            role: RaftRole::Leader,
            epoch: 0,
            term: Term(3),
            leader: Some(NodeId(1)),
            quorum_ack_age: Some(Millis(1)),
            has_quorum: true,
            initialised: true,
            members,
            members_index: Some(LogIndex(9)),
            joint: false,
            last_log: Some(LogIndex(5_000)),
            committed: Some(LogIndex(5_000)),
            applied: Some(LogIndex(5_000)),
            snapshot: None,
            purged: None,
            sync_p50_micros: 0,
            sync_p99_micros: 0,
            dead: None,
        }
    }

    fn trio(age_of_3: u64) -> Vec<MemberStatus> {
        vec![
            member(1, true, 0, 0),
            member(2, true, 0, 50),
            member(3, true, 0, age_of_3),
        ]
    }

    fn add(node: u64) -> MemberOrder {
        MemberOrder::AddVoter {
            node: NodeId(node),
            address: "host4:7000".to_owned(),
        }
    }

    /// A node walks from stranger to voter: learner, behind, steady, voter; a stumble or a new leader starts the wait
    /// anew.
    #[test]
    fn a_vote_is_given_after_a_steady_while() {
        let begin = Instant::now();
        let at = |secs| begin + Duration::from_secs(secs);
        let mut steadiness = Steadiness::default();
        let with = |lag, age| {
            let mut members = trio(50);
            members.push(member(4, false, lag, age));
            status(members)
        };
        let judge = |status: &RaftStatus, steadiness: &Steadiness, secs| {
            judge(&add(4), status, steadiness, STEADY, at(secs)).unwrap()
        };
        let stranger = judge(&status(trio(50)), &steadiness, 0);
        assert!(
            matches!(
                stranger,
                Verdict::Change {
                    then: Then::Wait,
                    ..
                }
            ),
            "{stranger:?}"
        );
        steadiness.note(&with(4_000, 50), at(1));
        let Verdict::Wait(words) = judge(&with(4_000, 50), &steadiness, 1) else {
            panic!()
        };
        assert!(words.contains("4000 entries behind"), "{words}");
        for secs in 2..=11 {
            steadiness.note(&with(3, 50), at(secs));
            let Verdict::Wait(words) = judge(&with(3, 50), &steadiness, secs) else {
                panic!()
            };
            assert!(words.contains("steady"), "{words}");
        }
        // A stumble.
        steadiness.note(&with(2_000, 50), at(11));
        steadiness.note(&with(3, 50), at(12));
        assert!(matches!(
            judge(&with(3, 50), &steadiness, 21),
            Verdict::Wait(_)
        ));
        let ready = judge(&with(3, 50), &steadiness, 22);
        assert!(
            matches!(
                ready,
                Verdict::Change {
                    then: Then::Done,
                    ..
                }
            ),
            "{ready:?}"
        );
        // Silence is not steadiness, however long it was close before.
        assert!(matches!(
            judge(&with(3, 10_000), &steadiness, 22),
            Verdict::Wait(_)
        ));
        let mut later = with(3, 50);
        later.term = Term(4);
        steadiness.note(&later, at(22));
        assert!(matches!(judge(&later, &steadiness, 23), Verdict::Wait(_)));
        let mut voter = with(0, 50);
        voter.members[3].voter = true;
        assert!(matches!(judge(&voter, &steadiness, 0), Verdict::Done(_)));
    }

    /// A voter is not removed when the rest could not go on, and the text says who is in the way.
    #[test]
    fn a_removal_leaves_a_working_quorum() {
        let judge = |status: &RaftStatus, node| {
            let order = MemberOrder::Remove { node: NodeId(node) };
            judge(
                &order,
                status,
                &Steadiness::default(),
                STEADY,
                Instant::now(),
            )
        };
        assert!(matches!(
            judge(&status(trio(50)), 2),
            Ok(Verdict::Change {
                then: Then::Wait,
                ..
            })
        ));
        assert_eq!(judge(&status(trio(50)), 1), Ok(Verdict::HandOver));
        let error = judge(&status(trio(60_000)), 2).unwrap_err().to_string();
        assert!(
            error.contains("remove or restart 0000000000000003 first"),
            "{error}"
        );
        // A new leader has yet to hear from the others: that is no reason to refuse for good.
        let mut young = trio(50);
        (young[1].contact_age, young[2].contact_age) = (None, None);
        assert!(matches!(judge(&status(young), 1), Ok(Verdict::Wait(_))));
        assert!(matches!(
            judge(&status(trio(60_000)), 3),
            Ok(Verdict::Change { .. })
        ));
        let alone = status(vec![member(1, true, 0, 0)]);
        assert!(
            judge(&alone, 1)
                .unwrap_err()
                .to_string()
                .contains("last voter")
        );
        assert!(matches!(judge(&alone, 7), Ok(Verdict::Done(_))));
    }

    /// A voter whose vote was taken hears of it before it leaves; one that does not listen is not waited for.
    #[test]
    fn who_leaves_has_heard_of_it() {
        let judge = |lag, age| {
            let mut members = trio(50);
            members[1] = member(2, false, lag, age);
            let mut status = status(members);
            status.members_index = Some(LogIndex(4_990));
            let order = MemberOrder::Remove { node: NodeId(2) };
            let now = Instant::now();
            judge(&order, &status, &Steadiness::default(), STEADY, now).unwrap()
        };
        let leaves = |verdict| {
            matches!(
                verdict,
                Verdict::Change {
                    then: Then::Done,
                    ..
                }
            )
        };
        assert!(matches!(judge(11, 50), Verdict::Wait(_)));
        assert!(leaves(judge(10, 50)));
        assert!(leaves(judge(11, 3_000)), "it is silent");
        assert!(leaves(judge(4_000, 50)), "it never caught up");
    }
}
