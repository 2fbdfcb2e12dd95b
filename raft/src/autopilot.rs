//! Which step would make the set of voters healthy: a pure rule over what the leader and the mesh know.
//!
//! It gives one order at a time, to be carried out by the one actor that changes members, and looks anew afterwards. A
//! voter counts as lost only when the mesh says that it is gone *and* the leader has not heard from it for a while; it
//! is replaced in one joint change, whose quorum needs neither the lost voter nor the new one.

use riftmesh_base::{Millis, NodeId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::members::MemberOrder;
use crate::standing::{Spells, answers, caught_up};
use crate::status::{MemberStatus, RaftRole, RaftStatus};

/// A lost voter that cannot be replaced leaves only groups larger than this.
const VOTERS_MIN: usize = 3;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutopilotPolicy {
    /// How many voters there should be, odd; none for as many as there are.
    pub voters: Option<u16>,
    /// A voter that is gone for this long is replaced, if there is a node to take its place.
    pub replace_after: Millis,
    /// A voter that is gone for this long is removed without a replacement, if enough are left.
    pub remove_after: Millis,
}

/// A node that was started to vote, member or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterFact {
    /// Who.
    pub node: NodeId,
    /// `host:port` of its QUIC endpoint.
    pub address: String,
    /// Where it stands; nodes of unknown zone share one.
    pub zone: Option<String>,
    /// What the mesh says.
    pub presence: Presence,
    /// Whether it may be made a voter; not so while it is being drained.
    pub willing: bool,
}

/// Whether the mesh sees a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It answers.
    Here,
    /// It has not answered lately.
    Doubted,
    /// It said goodbye, was declared dead, or nobody has met it.
    Gone,
}

/// What autopilot does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutopilotStep {
    /// Nothing: the voters are as they should be.
    Rest,
    /// Nothing yet; the text says what is waited for, or what an operator has to do.
    Wait(String),
    /// This, for that reason.
    Order(MemberOrder, String),
}

/// For how long the leader has not heard from each member, as far as it has watched.
#[derive(Debug, Default)]
pub struct Silences(Spells);

impl Silences {
    /// Notes who does not answer.
    pub fn note(&mut self, status: &RaftStatus, now: Instant) {
        self.0.note(status, now, |member| !answers(member));
    }

    fn of(&self, node: NodeId, now: Instant) -> Option<Millis> {
        self.0.of(node, now)
    }
}

/// The next step towards healthy voters, on the leader whose status this is.
pub fn next_step(
    policy: &AutopilotPolicy,
    status: &RaftStatus,
    nodes: &[VoterFact],
    silences: &Silences,
    now: Instant,
) -> AutopilotStep {
    if status.role != RaftRole::Leader || !status.has_quorum {
        return AutopilotStep::Rest;
    }
    if status.joint || status.members_index > status.committed {
        return AutopilotStep::Wait("a change of the members is under way".to_owned());
    }
    let group = Group::of(status, nodes, silences, now);
    let lost = group.lost_for(policy.replace_after);
    let goal = group.goal(policy, lost.len());
    let healthy = group.voters.len() - lost.len();
    if let Some(gone) = lost.first() {
        return group.replace_or_remove(policy, gone, healthy, goal);
    }
    if healthy < goal {
        return group.grow(goal - healthy);
    }
    group.forget_learner(policy.replace_after)
}

/// The largest odd number that is not larger.
fn odd(count: usize) -> usize {
    count.saturating_sub(1 - count % 2)
}

/// A member with everything known about it.
struct Member<'a> {
    status: &'a MemberStatus,
    fact: Option<&'a VoterFact>,
    /// How long it has been silent *and* gone.
    gone: Option<Millis>,
}

struct Group<'a> {
    voters: Vec<Member<'a>>,
    learners: Vec<Member<'a>>,
    /// Nodes that could become voters, the best first.
    standby: Vec<&'a VoterFact>,
}

impl<'a> Group<'a> {
    fn of(
        status: &'a RaftStatus,
        nodes: &'a [VoterFact],
        silences: &Silences,
        now: Instant,
    ) -> Self {
        let member = |member: &'a MemberStatus| {
            let fact = nodes.iter().find(|fact| fact.node == member.node);
            let is_gone = fact.is_some_and(|fact| fact.presence == Presence::Gone);
            Member {
                status: member,
                fact,
                gone: silences.of(member.node, now).filter(|_| is_gone),
            }
        };
        let all = status.members.iter().map(member);
        let (voters, learners): (Vec<_>, Vec<_>) = all.partition(|member| member.status.voter);
        let mut group = Self {
            voters,
            learners,
            standby: Vec::new(),
        };
        let votes = |fact: &&VoterFact| group.voters.iter().any(|v| v.status.node == fact.node);
        let able = |fact: &&VoterFact| fact.presence == Presence::Here && fact.willing;
        let mut standby: Vec<_> = nodes.iter().filter(able).filter(|f| !votes(f)).collect();
        standby.sort_by_key(|fact| (group.voters_in(&fact.zone), !group.learns(fact), fact.node));
        group.standby = standby;
        group
    }

    /// Voters that are there, in a zone.
    fn voters_in(&self, zone: &Option<String>) -> usize {
        let facts = self.voters.iter().filter(|voter| voter.gone.is_none());
        let zones = facts.map(|voter| voter.fact.and_then(|fact| fact.zone.clone()));
        zones.filter(|known| known == zone).count()
    }

    fn learner(&self, fact: &VoterFact) -> Option<&MemberStatus> {
        let mut learners = self.learners.iter().map(|learner| learner.status);
        learners.find(|learner| learner.node == fact.node)
    }

    fn learns(&self, fact: &VoterFact) -> bool {
        self.learner(fact).is_some()
    }

    /// Voters that have been lost for so long, the longest lost first.
    fn lost_for(&self, long: Millis) -> Vec<&Member<'a>> {
        let is_lost = |voter: &&Member| voter.gone.is_some_and(|gone| gone >= long);
        let mut lost: Vec<_> = self.voters.iter().filter(is_lost).collect();
        lost.sort_by_key(|voter| (std::cmp::Reverse(voter.gone), voter.status.node));
        lost
    }

    /// How many voters there should be. Their number stays, or grows to an odd one that can be reached now: an even one
    /// needs more of them for the same tolerance.
    fn goal(&self, policy: &AutopilotPolicy, lost: usize) -> usize {
        let present = odd(self.voters.len());
        let wanted = policy
            .voters
            .map_or(present, |voters| odd(usize::from(voters)));
        let reachable = odd(self.voters.len() - lost + self.standby.len());
        present.min(wanted).max(wanted.min(reachable))
    }

    fn replace_or_remove(
        &self,
        policy: &AutopilotPolicy,
        lost: &Member<'a>,
        healthy: usize,
        goal: usize,
    ) -> AutopilotStep {
        let (node, gone) = (lost.status.node, lost.gone.unwrap_or_default());
        let rest = self.voters.len() - 1;
        let quorum = rest / 2 + 1;
        if rest >= goal && healthy >= quorum {
            let reason = format!("{node} has been gone for {gone}, and {rest} voters are enough");
            return AutopilotStep::Order(MemberOrder::Remove { node }, reason);
        }
        if let Some(by) = self.standby.first() {
            let reason = format!(
                "{node} has been gone for {gone}; {} takes its place",
                by.node
            );
            return self.prepare(
                by,
                || MemberOrder::Replace {
                    gone: node,
                    by: by.node,
                },
                reason,
            );
        }
        if gone >= policy.remove_after && rest >= VOTERS_MIN && healthy >= quorum {
            let reason = format!("{node} has been gone for {gone}, and nobody takes its place");
            return AutopilotStep::Order(MemberOrder::Remove { node }, reason);
        }
        AutopilotStep::Wait(format!(
            "voter {node} has been gone for {gone} and no node stands by to take its place: start one with --role voter"
        ))
    }

    /// All that are missing learn first, so that the group is not left at an even number for long.
    fn grow(&self, missing: usize) -> AutopilotStep {
        let chosen: Vec<_> = self.standby.iter().take(missing).collect();
        let Some(first) = chosen.first() else {
            return AutopilotStep::Rest;
        };
        let next = chosen.iter().find(|fact| !self.is_ready(fact));
        let fact = next.unwrap_or(first);
        let reason = format!(
            "{missing} more voters are wanted; {} becomes one",
            fact.node
        );
        let vote = || MemberOrder::AddVoter {
            node: fact.node,
            address: fact.address.clone(),
        };
        self.prepare(fact, vote, reason)
    }

    fn is_ready(&self, fact: &VoterFact) -> bool {
        self.learner(fact).is_some_and(caught_up)
    }

    /// `order` once `fact` is a learner that has caught up.
    fn prepare(
        &self,
        fact: &VoterFact,
        order: impl FnOnce() -> MemberOrder,
        reason: String,
    ) -> AutopilotStep {
        let learn = || MemberOrder::AddLearner {
            node: fact.node,
            address: fact.address.clone(),
        };
        match self.learner(fact) {
            None => AutopilotStep::Order(learn(), reason),
            Some(learner) if caught_up(learner) => AutopilotStep::Order(order(), reason),
            Some(_) => AutopilotStep::Wait(format!("{reason} once it has caught up")),
        }
    }

    /// A learner that was to vote and is gone holds up the purge of the log for nothing.
    fn forget_learner(&self, long: Millis) -> AutopilotStep {
        let lost = |learner: &&Member| learner.gone.is_some_and(|gone| gone >= long);
        match self.learners.iter().find(lost) {
            None => AutopilotStep::Rest,
            Some(learner) => {
                let (node, gone) = (learner.status.node, learner.gone.unwrap_or_default());
                let reason = format!("learner {node} has been gone for {gone}");
                AutopilotStep::Order(MemberOrder::Remove { node }, reason)
            }
        }
    }
}

/// What autopilot last did or waits for, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotReport {
    /// Whether it changes members; `autopilot.enabled` switches it.
    pub enabled: bool,
    /// What it waits for, or what an operator has to mend; none while the voters are as they should be.
    pub problem: Option<String>,
    /// The last change that it ordered while this node led, in words.
    pub last: Option<String>,
}
