//! The roster and the sessions.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::limits::{NODE_NAME_BYTES_MAX, SESSION_TTL};
use riftmesh_base::{ClusterId, JobId, NodeId, SessionId};
use serde::{Deserialize, Serialize};

use crate::bounds::{NAME_BYTES_MAX, RETRY_AFTER, SLOTS_MAX};
use crate::command::Loss;
use crate::effect::Effect;
use crate::job::{DeviceNeed, Needs};
use crate::reply::{Refusal, Reply};
use crate::roster::{NodeEntry, NodeRecord, SessionRecord};
use crate::state::{State, Turn};

/// Who is in the cluster and who offers work to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nodes {
    pub roster: BTreeMap<NodeId, NodeEntry>,
    pub sessions: BTreeMap<SessionId, Session>,
    /// Sessions opened so far.
    pub opened: u64,
}

/// A session and what it holds. The latter follows from the leases and is not part of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub record: SessionRecord,
    #[serde(skip)]
    pub held: BTreeSet<JobId>,
    #[serde(skip)]
    pub slots_used: u16,
    #[serde(skip)]
    pub cuda_used: bool,
}

impl Session {
    fn new(record: SessionRecord) -> Self {
        Self {
            record,
            held: BTreeSet::new(),
            slots_used: 0,
            cuda_used: false,
        }
    }

    pub fn slots_free(&self) -> u16 {
        self.record.slots - self.slots_used
    }

    /// Takes what `job` needs. The caller has checked that it is free; of a damaged image nobody has, so this
    /// saturates and leaves it to the invariants to object.
    pub fn reserve(&mut self, job: JobId, needs: Needs) {
        self.held.insert(job);
        self.slots_used = self.slots_used.saturating_add(needs.slots);
        self.cuda_used |= needs.device == DeviceNeed::Cuda;
    }

    pub fn give_back(&mut self, job: JobId, needs: Needs) {
        self.held.remove(&job);
        self.slots_used -= needs.slots;
        if needs.device == DeviceNeed::Cuda {
            self.cuda_used = false;
        }
    }
}

impl State {
    pub(crate) fn found(&mut self, turn: &mut Turn, cluster: ClusterId) -> Result<Reply, Refusal> {
        match self.head.cluster {
            Some(known) if known == cluster => Ok(Reply::Done),
            Some(known) => Err(Refusal::Conflict(format!(
                "this is cluster {known} already"
            ))),
            None => {
                self.head.cluster = Some(cluster);
                turn.tell(Effect::ClusterFounded { cluster });
                Ok(Reply::Done)
            }
        }
    }

    pub(crate) fn admit(&mut self, turn: &mut Turn, record: &NodeRecord) -> Result<Reply, Refusal> {
        check_record(record)?;
        let nodes_max = self.head.bounds.nodes_max;
        if let Some(entry) = self.nodes.roster.get_mut(&record.id) {
            entry.record = record.clone();
        } else if self.nodes.roster.len() >= nodes_max {
            return Err(Refusal::Full {
                what: "the roster".to_owned(),
                max: nodes_max as u64,
                retry_after: RETRY_AFTER,
            });
        } else {
            let entry = NodeEntry {
                record: record.clone(),
                admitted: turn.now,
                generation: 0,
                draining: false,
                session: None,
            };
            self.nodes.roster.insert(record.id, entry);
        }
        turn.tell(Effect::NodeAdmitted { node: record.id });
        Ok(Reply::Done)
    }

    fn node_mut(&mut self, node: NodeId) -> Result<&mut NodeEntry, Refusal> {
        self.nodes
            .roster
            .get_mut(&node)
            .ok_or_else(|| Refusal::Unknown(format!("node {node} in the roster")))
    }

    pub(crate) fn drain(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        drain: bool,
    ) -> Result<Reply, Refusal> {
        let entry = self.node_mut(node)?;
        if entry.draining != drain {
            entry.draining = drain;
            turn.tell(Effect::NodeDraining { node, drain });
        }
        Ok(Reply::Done)
    }

    pub(crate) fn forget(&mut self, turn: &mut Turn, node: NodeId) -> Result<Reply, Refusal> {
        if let Some(session) = self.node_mut(node)?.session {
            return Err(Refusal::Conflict(format!(
                "node {node} still has session {session}"
            )));
        }
        self.nodes.roster.remove(&node);
        for configuration in self.configurations.values_mut() {
            configuration.ledger.drop_holder(node);
            configuration.registry.drop_holder(node);
        }
        turn.tell(Effect::NodeForgotten { node });
        Ok(Reply::Done)
    }

    pub(crate) fn open_session(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        generation: u64,
        slots: u16,
        cuda: bool,
    ) -> Result<Reply, Refusal> {
        if slots > SLOTS_MAX {
            return Err(Refusal::Invalid(format!(
                "{slots} slots offered, at most {SLOTS_MAX} are allowed"
            )));
        }
        let entry = self.node_mut(node)?;
        if generation < entry.generation {
            return Err(Refusal::Conflict(format!(
                "generation {generation} of node {node} is older than its last one, {}",
                entry.generation
            )));
        }
        if let Some(older) = entry.session {
            self.end_session(turn, older, Loss::Replaced);
        }
        self.nodes.opened += 1;
        let id = SessionId(self.nodes.opened);
        let entry = self.node_mut(node)?;
        entry.generation = generation;
        entry.session = Some(id);
        let record = SessionRecord {
            id,
            node,
            generation,
            slots,
            cuda,
            opened: turn.now,
        };
        self.nodes.sessions.insert(id, Session::new(record));
        turn.tell(Effect::SessionOpened { session: id, node });
        Ok(Reply::Session {
            session: id,
            ttl: SESSION_TTL,
        })
    }

    pub(crate) fn expire(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        reason: Loss,
    ) -> Result<Reply, Refusal> {
        if !self.nodes.sessions.contains_key(&session) {
            return Err(Refusal::SessionOver(session));
        }
        self.end_session(turn, session, reason);
        Ok(Reply::Done)
    }

    /// Ends a session and loses its jobs, in the order of their ids.
    fn end_session(&mut self, turn: &mut Turn, session: SessionId, reason: Loss) {
        let Some(ended) = self.nodes.sessions.get(&session) else {
            return;
        };
        let node = ended.record.node;
        let held = ended.held.clone();
        turn.tell(Effect::SessionEnded {
            session,
            node,
            reason,
        });
        for job in held {
            self.lose(turn, job, reason);
        }
        self.nodes.sessions.remove(&session);
        if let Some(entry) = self.nodes.roster.get_mut(&node) {
            entry.session = None;
        }
    }
}

fn check_record(record: &NodeRecord) -> Result<(), Refusal> {
    let name = record.name.len();
    if !(1..=NODE_NAME_BYTES_MAX).contains(&name) {
        return Err(Refusal::Invalid(format!(
            "a node name of {name} bytes: it must have 1 to {NODE_NAME_BYTES_MAX}"
        )));
    }
    let address = record.address.len();
    if address > NAME_BYTES_MAX {
        return Err(Refusal::Invalid(format!(
            "an address of {address} bytes: it must have at most {NAME_BYTES_MAX}"
        )));
    }
    Ok(())
}
