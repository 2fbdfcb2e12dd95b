//! What must hold in any group of voters at any moment, whatever happens to them (DISTRIBUTED section 4.3).
//!
//! The checker is shown every voter's log and status, tick by tick, and remembers what it has seen. It knows logs,
//! votes and quorums; what commands mean is the oracle's business.
//!
//! openraft tells leaders apart by term *and* node, so one term may see several leaders, of which the one with the
//! higher node id takes over from the lower. Where a paper says "term", this says [`Reign`].

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{BlobHash, LogIndex, NodeId, Term};
use riftmesh_raft::lines::{LogLine, VoteLine};
use riftmesh_raft::{RaftRole, RaftStatus};

use crate::disk::LogPicture;

/// One leader's time: its term and who it is.
pub type Reign = (Term, NodeId);

/// A rule of consensus that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SafetyBreach {
    /// Election safety: a node leads a reign for the second time, after a crash, or one that is not its own.
    #[error(
        "election safety: {node} leads {reign:?} in its life {life}, life {earlier} did before"
    )]
    LedAgain {
        /// Who.
        node: NodeId,
        /// What.
        reign: Reign,
        /// Counts its starts.
        life: u64,
        /// The life that led it before.
        earlier: u64,
    },
    /// Log matching: two logs hold different entries of one reign at one index, or the same behind different ones.
    #[error("log matching: {node} holds another entry {index} of {reign:?} than was seen before")]
    Mismatch {
        /// Where.
        node: NodeId,
        /// The entry.
        index: LogIndex,
        /// Who wrote it.
        reign: Reign,
    },
    /// Leader completeness: a new leader lacks an entry that was committed before.
    #[error("leader completeness: {node} leads {reign:?} without the committed entry {index}")]
    Incomplete {
        /// Who.
        node: NodeId,
        /// What.
        reign: Reign,
        /// The entry.
        index: LogIndex,
    },
    /// A committed entry was replaced by another.
    #[error(
        "state machine safety: entry {index} is committed on {node} and was committed otherwise before"
    )]
    Changed {
        /// Where.
        node: NodeId,
        /// The entry.
        index: LogIndex,
    },
    /// The newest committed entry is durable on no quorum.
    #[error("entry {index} is committed and durable only on {holders:?}")]
    NoQuorum {
        /// The entry.
        index: LogIndex,
        /// Who has it.
        holders: Vec<NodeId>,
    },
    /// Something that only grows has shrunk.
    #[error("{what} of {node} fell from {before} to {after}")]
    Fell {
        /// Term, vote, commit, applied or snapshot index.
        what: &'static str,
        /// Where.
        node: NodeId,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
    /// A node acts in a term that it would not remember after a crash.
    #[error("{node} acts in term {term}, its durable vote is {durable:?}")]
    VoteNotDurable {
        /// Where.
        node: NodeId,
        /// The term.
        term: Term,
        /// What would survive.
        durable: Option<VoteLine>,
    },
    /// A node's numbers contradict each other.
    #[error("{node} has {what}")]
    Disorder {
        /// Where.
        node: NodeId,
        /// What is larger than what.
        what: String,
    },
    /// Consensus died on a node that was not harmed.
    #[error("consensus died on {node}: {reason}")]
    Died {
        /// Where.
        node: NodeId,
        /// Why.
        reason: String,
    },
}

/// One voter at one moment. A voter that is down has no status; its disk is still there.
pub struct Sight<'a> {
    /// Who.
    pub node: NodeId,
    /// Counts its starts.
    pub life: u64,
    /// What it says of itself.
    pub status: Option<RaftStatus>,
    /// The log it may read.
    pub accepted: &'a LogPicture,
    /// The log that would survive a crash.
    pub durable: &'a LogPicture,
}

/// What is remembered of a voter.
#[derive(Debug, Default)]
struct Memory {
    life: u64,
    term: Term,
    committed: u64,
    applied: u64,
    snapshot: u64,
    vote: Option<VoteLine>,
    /// The last entry that was compared; all before it are unchanged as long as it is.
    compared: Option<(u64, BlobHash)>,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub struct Checker {
    reigns: BTreeMap<Reign, u64>,
    /// By index and reign: the entry, and the reign of the entry before it.
    entries: BTreeMap<(u64, Reign), (BlobHash, Option<Reign>)>,
    committed: BTreeMap<u64, (Reign, BlobHash)>,
    /// Committed sets of voters, by the index that set them.
    voters: BTreeMap<u64, Vec<BTreeSet<NodeId>>>,
    memories: BTreeMap<NodeId, Memory>,
    breaches: Vec<SafetyBreach>,
}

fn reign(line: &LogLine) -> Reign {
    (line.term, line.leader)
}

impl Checker {
    /// Looks at all voters, those that are down among them, at one moment.
    pub fn look(&mut self, sights: &[Sight<'_>]) {
        for sight in sights {
            self.compare_log(sight);
            self.check_vote(sight);
            if let Some(status) = &sight.status {
                self.check_growth(sight, status);
                self.check_commits(sight, status);
            }
        }
        for sight in sights {
            if let Some(status) = &sight.status {
                self.check_leader(sight, status);
            }
        }
        self.check_quorum(sights);
    }

    /// Consensus has died on a node.
    pub fn died(&mut self, node: NodeId, reason: String) {
        self.breaches.push(SafetyBreach::Died { node, reason });
    }

    /// What was broken so far.
    pub fn breaches(&self) -> &[SafetyBreach] {
        &self.breaches
    }

    /// The newest entry known to be committed.
    pub fn committed(&self) -> u64 {
        self.committed
            .last_key_value()
            .map_or(0, |(index, _)| *index)
    }

    /// How many reigns were seen.
    pub fn reigns(&self) -> usize {
        self.reigns.len()
    }

    fn memory(&mut self, sight: &Sight<'_>) -> &mut Memory {
        self.memories.entry(sight.node).or_default()
    }

    /// Log matching, for the entries that are new since the last look.
    fn compare_log(&mut self, sight: &Sight<'_>) {
        let lines = &sight.accepted.lines;
        let unchanged = self
            .memory(sight)
            .compared
            .filter(|(index, hash)| lines.get(index).is_some_and(|line| line.hash == *hash));
        let from = unchanged.map_or(0, |(index, _)| index);
        let mut before: Option<&LogLine> = None;
        for (&index, line) in lines.range(from..) {
            let follows = before.map(reign);
            before = Some(line);
            let known = self
                .entries
                .entry((index, reign(line)))
                .or_insert((line.hash, follows));
            known.1 = known.1.or(follows);
            if known.0 != line.hash || follows.is_some_and(|follows| known.1 != Some(follows)) {
                self.breaches.push(SafetyBreach::Mismatch {
                    node: sight.node,
                    index: LogIndex(index),
                    reign: reign(line),
                });
            }
        }
        self.memory(sight).compared = lines
            .last_key_value()
            .map(|(index, line)| (*index, line.hash));
    }

    fn check_vote(&mut self, sight: &Sight<'_>) {
        let (before, after) = (self.memory(sight).vote, sight.durable.vote);
        if before > after {
            self.fell(
                "the durable vote",
                sight.node,
                format!("{before:?}"),
                format!("{after:?}"),
            );
        }
        self.memory(sight).vote = after;
        let term = sight.status.as_ref().map_or(Term(0), |status| status.term);
        if term > after.map_or(Term(0), |vote| vote.term) {
            self.breaches.push(SafetyBreach::VoteNotDurable {
                node: sight.node,
                term,
                durable: after,
            });
        }
    }

    fn fell(&mut self, what: &'static str, node: NodeId, before: String, after: String) {
        self.breaches.push(SafetyBreach::Fell {
            what,
            node,
            before,
            after,
        });
    }

    /// Within one life, terms and indexes only grow, and each is bounded by the one it follows.
    fn check_growth(&mut self, sight: &Sight<'_>, status: &RaftStatus) {
        let value = |index: Option<LogIndex>| index.map_or(0, |index| index.0);
        let now = Memory {
            life: sight.life,
            term: status.term,
            committed: value(status.committed),
            applied: value(status.applied),
            snapshot: value(status.snapshot),
            ..Memory::default()
        };
        let memory = self.memory(sight);
        let before = [
            memory.term.0,
            memory.committed,
            memory.applied,
            memory.snapshot,
        ];
        let same_life = memory.life == now.life;
        (memory.life, memory.term) = (now.life, now.term);
        (memory.committed, memory.applied) = (now.committed, now.applied);
        memory.snapshot = now.snapshot;
        let after = [now.term.0, now.committed, now.applied, now.snapshot];
        let names = [
            "the term",
            "the commit index",
            "the applied index",
            "the snapshot index",
        ];
        for (what, (before, after)) in names.into_iter().zip(before.into_iter().zip(after)) {
            if same_life && before > after {
                self.fell(what, sight.node, before.to_string(), after.to_string());
            }
        }
        let purged = value(status.purged);
        if now.applied > now.committed || now.snapshot > now.applied || purged > now.snapshot {
            let what = format!(
                "purged {purged}, snapshot {}, applied {}, committed {}",
                now.snapshot, now.applied, now.committed
            );
            self.breaches.push(SafetyBreach::Disorder {
                node: sight.node,
                what,
            });
        }
    }

    /// What this voter holds to be committed is what everybody else did.
    fn check_commits(&mut self, sight: &Sight<'_>, status: &RaftStatus) {
        let Some(committed) = status.committed else {
            return;
        };
        // What everybody agreed on was compared when it was new to this voter, and log matching covers what lies below.
        let from = self.committed().min(committed.0);
        for (&index, line) in sight.accepted.lines.range(from..=committed.0) {
            let known = self
                .committed
                .entry(index)
                .or_insert((reign(line), line.hash));
            if *known != (reign(line), line.hash) {
                self.breaches.push(SafetyBreach::Changed {
                    node: sight.node,
                    index: LogIndex(index),
                });
            }
            if let Some(voters) = &line.voters {
                self.voters.insert(index, voters.clone());
            }
        }
    }

    /// Election safety and leader completeness, for a leader that was not seen before.
    fn check_leader(&mut self, sight: &Sight<'_>, status: &RaftStatus) {
        if status.role != RaftRole::Leader {
            return;
        }
        let reign = (status.term, status.leader.unwrap_or(sight.node));
        let (node, life) = (sight.node, sight.life);
        let earlier = *self.reigns.entry(reign).or_insert(life);
        if earlier != life || reign.1 != node {
            self.breaches.push(SafetyBreach::LedAgain {
                node,
                reign,
                life,
                earlier,
            });
        }
        let older = self.committed.iter().rev().find(|(_, (of, _))| *of < reign);
        let Some((&index, (_, hash))) = older else {
            return;
        };
        if !has(sight.accepted, index, *hash) {
            self.breaches.push(SafetyBreach::Incomplete {
                node,
                reign,
                index: LogIndex(index),
            });
        }
    }

    /// The newest committed entry is durable on a majority of each set of voters that it needed. While voters change,
    /// the entry may have been committed by the sets before the change or by those after it.
    fn check_quorum(&mut self, sights: &[Sight<'_>]) {
        let Some((&index, &(_, hash))) = self.committed.last_key_value() else {
            return;
        };
        let holds = |sight: &&Sight<'_>| has(sight.durable, index, hash);
        let holders: Vec<NodeId> = sights
            .iter()
            .filter(holds)
            .map(|sight| sight.node)
            .collect();
        let majority = |set: &BTreeSet<NodeId>| {
            2 * set.iter().filter(|node| holders.contains(node)).count() > set.len()
        };
        let then = self
            .voters
            .range(..=index)
            .next_back()
            .map(|(_, sets)| sets);
        let later = sights
            .iter()
            .flat_map(|sight| sight.accepted.lines.range(index + 1..));
        let later = later.filter_map(|(_, line)| line.voters.as_ref());
        if !then
            .into_iter()
            .chain(later)
            .any(|sets| sets.iter().all(majority))
        {
            self.breaches.push(SafetyBreach::NoQuorum {
                index: LogIndex(index),
                holders,
            });
        }
    }
}

/// Whether a log has the entry, or had it and covers it with a snapshot.
fn has(log: &LogPicture, index: u64, hash: BlobHash) -> bool {
    index <= log.purged || log.lines.get(&index).is_some_and(|line| line.hash == hash)
}
