//! Changes of the members and of the leader: one at a time, each decided on the members it will change.
//!
//! A node gets a vote in steps: it follows as a learner, catches up, stays close for a while, and only then counts for
//! the quorum. Each order carries out the next step that is possible and says what is missing; ordered again it goes
//! on, on whatever node leads then. So no order outlives its leader, and repeating one is harmless.

use std::sync::Weak;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use riftmesh_base::{LogIndex, Millis, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::change;
use crate::error::MemberError;
use crate::node::{Inner, RaftNode};
use crate::reads::NoRound;
use crate::standing::{self, Steadiness, Verdict};
use crate::status::{RaftRole, RaftStatus};
use crate::wire::ReadRefusal;

/// Orders waiting for their turn at most.
const ORDERS_MAX: usize = 16;
/// How often learners are looked at, and whether a change was left half done.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a leader waits for its heir before it removes itself from the group.
const HANDOVER_MAX: Duration = Duration::from_secs(2);

/// An order to change who belongs to the group, or who leads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberOrder {
    /// Adds a member that follows the log without a vote.
    AddLearner {
        /// Who.
        node: NodeId,
        /// `host:port` of its QUIC endpoint.
        address: String,
    },
    /// Gives a node a vote: adds it as a learner, and once it has caught up and stayed close, promotes it.
    AddVoter {
        /// Who.
        node: NodeId,
        /// `host:port` of its QUIC endpoint.
        address: String,
    },
    /// Removes a member, voter or not. A leader that is to remove itself hands leadership over first.
    Remove {
        /// Who.
        node: NodeId,
    },
    /// Hands leadership to another voter.
    MoveLeader {
        /// To whom; none for the voter that is closest behind.
        to: Option<NodeId>,
    },
    /// Gives the vote of one member to another in one change, whose quorum needs neither of them. The new one is a
    /// learner already, and gets it once it has caught up and stayed close; the other one is a learner from then on.
    Replace {
        /// Whose vote ends.
        gone: NodeId,
        /// Who votes instead.
        by: NodeId,
    },
}

/// How far an order has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberProgress {
    /// Things are as ordered; the text says how.
    Done(String),
    /// A step was taken, or has to be waited for: order again. The text says what is missing.
    Waiting(String),
}

impl RaftNode {
    /// Takes the next step of an order. Only the leader does it; `expected` is the log index of the members that the
    /// caller saw ([`RaftStatus::members_index`]), and if they have changed since, nothing is done.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn change_members(
        &self,
        order: MemberOrder,
        expected: Option<LogIndex>,
        deadline: Duration,
    ) -> Result<MemberProgress, MemberError> {
        let until = Instant::now() + deadline;
        let (reply, outcome) = oneshot::channel();
        let ask = Ask {
            order,
            expected,
            until,
            reply,
        };
        let busy = || MemberError::Refused("other changes are waiting; order again".to_owned());
        let stopped = || MemberError::Stopped("the node is shutting down".to_owned());
        self.0.members.0.try_send(ask).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => busy(),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        match timeout_at(until, outcome).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(stopped())),
            Err(_) => Err(MemberError::Unknown(format!(
                "no outcome within {}",
                Millis::from(deadline)
            ))),
        }
    }

    /// Hands leadership to `to`, or to the voter closest behind, and waits for the change.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when no voter is close enough behind, or the one named is not;
    /// [`MemberError::Unknown`] when the change did not come in time.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        deadline: Duration,
    ) -> Result<NodeId, MemberError> {
        let status = self.status();
        if status.role != RaftRole::Leader {
            let hint = status.hint();
            return Err(MemberError::NotLeader { hint });
        }
        let heir = standing::heir(&status, to)?;
        let trigger = self.0.core.trigger().transfer_leader(heir.0).await;
        trigger.map_err(|fatal| MemberError::Stopped(fatal.to_string()))?;
        let own = self.0.node.0;
        let others = move |leader: Option<u64>| leader.is_some_and(|leader| leader != own);
        let wait = self.0.core.wait(Some(deadline));
        let changed = wait
            .metrics(|metrics| others(metrics.current_leader), "leadership moves")
            .await;
        changed
            .map(|metrics| metrics.current_leader.map_or(heir, NodeId))
            .map_err(|_| {
                MemberError::Unknown(format!(
                    "{heir} did not take over within {}",
                    Millis::from(deadline)
                ))
            })
    }
}

/// The front of the one task that changes members; it lives as long as the node.
pub(crate) struct Members(mpsc::Sender<Ask>);

struct Ask {
    order: MemberOrder,
    expected: Option<LogIndex>,
    until: Instant,
    reply: oneshot::Sender<Result<MemberProgress, MemberError>>,
}

impl Members {
    /// The front, and the task to be started once the node exists.
    pub fn new() -> (Self, Actor) {
        let (front, asks) = mpsc::channel(ORDERS_MAX);
        let actor = Actor {
            asks,
            steadiness: Steadiness::default(),
        };
        (Self(front), actor)
    }
}

/// Carries out orders one after the other, watches learners, and finishes what a leader before left half done.
pub(crate) struct Actor {
    asks: mpsc::Receiver<Ask>,
    steadiness: Steadiness,
}

impl Actor {
    /// Works until the node is gone. It holds the node only while it works, so that a dropped node is closed.
    pub async fn run(mut self, node: Weak<Inner>) {
        let mut turn = interval(LOOK_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ask = tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => return,
                },
                _ = turn.tick() => None,
            };
            let Some(node) = node.upgrade().map(RaftNode) else {
                return;
            };
            self.look(&node).await;
            if let Some(ask) = ask.filter(|ask| ask.until > Instant::now()) {
                let outcome = self.carry_out(&node, ask.order, ask.expected).await;
                // Fails when the caller has gone.
                drop(ask.reply.send(outcome));
            }
        }
    }

    async fn look(&mut self, node: &RaftNode) {
        let status = node.status();
        self.steadiness.note(&status, Instant::now());
        if status.role != RaftRole::Leader || !status.has_quorum || !status.joint {
            return;
        }
        if status.members_index > status.committed {
            return;
        }
        tracing::warn!(members = ?status.members_index, "finishing a change of the members that was left half done");
        if let Err(error) = self.apply(node, change::finish()).await {
            tracing::warn!(%error, "finishing a change of the members");
        }
    }

    async fn carry_out(
        &mut self,
        node: &RaftNode,
        order: MemberOrder,
        expected: Option<LogIndex>,
    ) -> Result<MemberProgress, MemberError> {
        confirm(node).await?;
        let status = node.status();
        if status.role != RaftRole::Leader {
            let hint = status.hint();
            return Err(MemberError::NotLeader { hint });
        }
        if status.members_index > status.committed {
            let words = "a change of the members is under way".to_owned();
            return Ok(MemberProgress::Waiting(words));
        }
        let steady = Millis(node.0.timings.learner_steady.0);
        let verdict = standing::judge(&order, &status, &self.steadiness, steady, Instant::now())?;
        if let Verdict::Done(words) = verdict {
            return Ok(MemberProgress::Done(words));
        }
        same_members(&status, expected)?;
        match verdict {
            Verdict::Done(words) => Ok(MemberProgress::Done(words)),
            Verdict::Wait(words) => Ok(MemberProgress::Waiting(words)),
            Verdict::HandOver => {
                let heir = node.transfer_leader(None, HANDOVER_MAX).await?;
                tracing::info!(%heir, "handed over, to be removed");
                Err(MemberError::NotLeader { hint: node.hint() })
            }
            Verdict::Move(to) => {
                let leader = node.transfer_leader(to, HANDOVER_MAX).await?;
                Ok(MemberProgress::Done(format!("{leader} leads")))
            }
            Verdict::Change {
                change,
                then,
                words,
            } => {
                self.apply(node, change).await?;
                Ok(match then {
                    standing::Then::Done => MemberProgress::Done(words),
                    standing::Then::Wait => MemberProgress::Waiting(words),
                })
            }
        }
    }

    /// Writes a change on condition that the members are still those this node knows of now.
    async fn apply(&self, node: &RaftNode, change: change::Change) -> Result<(), MemberError> {
        let seen = {
            let metrics = node.0.core.metrics();
            let metrics = metrics.borrow_watched();
            *metrics.membership_config.log_id()
        };
        let outcome = change::write(&node.0.core, change, seen).await;
        outcome.map_err(|error| match error {
            MemberError::NotLeader { .. } => MemberError::NotLeader { hint: node.hint() },
            other => other,
        })
    }
}

/// Makes sure that this node leads: one that was deposed and has not heard of it would say of the members it knew that they
/// are as ordered.
async fn confirm(node: &RaftNode) -> Result<(), MemberError> {
    match node.0.reads.index().await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ReadRefusal::NotLeader | ReadRefusal::NoQuorum(_))) => {
            Err(MemberError::NotLeader { hint: node.hint() })
        }
        Err(NoRound::Full) => Err(MemberError::Refused(
            "too many reads are waiting; order again".to_owned(),
        )),
        Err(NoRound::Stopped) => Err(MemberError::Stopped("the node is shutting down".to_owned())),
    }
}

/// Refuses an order given for other members than there are now.
fn same_members(status: &RaftStatus, expected: Option<LogIndex>) -> Result<(), MemberError> {
    match expected {
        Some(expected) if status.members_index != Some(expected) => {
            let now = status
                .members_index
                .map_or_else(|| "unknown".to_owned(), |index| index.to_string());
            Err(MemberError::Refused(format!(
                "the members have changed since you looked: they are those of entry {now}, not {expected}; look again and decide anew"
            )))
        }
        _ => Ok(()),
    }
}
