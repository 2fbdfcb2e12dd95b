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
use crate::tenants::check_labels;
use crate::terms::{Offer, Terms};

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
    /// Whether a job has the device, or a part of it.
    #[serde(skip)]
    pub cuda_used: bool,
    /// Memory of the device that is reserved, in MiB.
    #[serde(skip)]
    pub gpu_memory_used: u32,
    /// Jobs that share the device.
    #[serde(skip)]
    pub sharers: u32,
}

impl Session {
    pub fn new(record: SessionRecord) -> Self {
        Self {
            record,
            held: BTreeSet::new(),
            slots_used: 0,
            cuda_used: false,
            gpu_memory_used: 0,
            sharers: 0,
        }
    }

    pub fn slots_free(&self) -> u16 {
        self.record.slots - self.slots_used
    }

    /// Takes what `job` needs. The caller has checked that it is free; of a damaged image nobody has, so this
    /// saturates and leaves it to the invariants to object.
    pub fn reserve(&mut self, job: JobId, needs: Needs, terms: &Terms) {
        self.held.insert(job);
        self.slots_used = self.slots_used.saturating_add(needs.slots);
        if needs.device == DeviceNeed::Cuda {
            self.cuda_used = true;
            self.gpu_memory_used = self.gpu_memory_used.saturating_add(terms.gpu_memory_mib);
            self.sharers += u32::from(terms.gpu_memory_mib > 0);
        }
    }

    pub fn give_back(&mut self, job: JobId, needs: Needs, terms: &Terms) {
        self.held.remove(&job);
        self.slots_used -= needs.slots;
        if needs.device == DeviceNeed::Cuda {
            self.gpu_memory_used -= terms.gpu_memory_mib;
            self.sharers -= u32::from(terms.gpu_memory_mib > 0);
            self.cuda_used = self.sharers > 0;
        }
    }

    /// Whether a CUDA job that asks for this much memory, zero for the whole device, can have it now.
    pub fn device_free(&self, gpu_memory_mib: u32) -> bool {
        if gpu_memory_mib == 0 {
            return !self.cuda_used;
        }
        // A device that is used and has no sharers is one job's alone.
        let alone = self.cuda_used && self.sharers == 0;
        let free = self
            .record
            .gpu_memory_mib
            .saturating_sub(self.gpu_memory_used);
        !alone && gpu_memory_mib <= free
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
        self.trust
            .check_welcome(record.id)
            .map_err(Refusal::NotWelcome)?;
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
        // Whoever is drained anew may take its time, unless this says otherwise too.
        self.drains.clear(node);
        Ok(Reply::Done)
    }

    pub(crate) fn forget(&mut self, turn: &mut Turn, node: NodeId) -> Result<Reply, Refusal> {
        if let Some(session) = self.node_mut(node)?.session {
            return Err(Refusal::Conflict(format!(
                "node {node} still has session {session}"
            )));
        }
        self.nodes.roster.remove(&node);
        self.drains.clear(node);
        self.forget_reports();
        for configuration in self.configurations.values_mut() {
            configuration.ledger.drop_holder(node);
            configuration.registry.drop_holder(node);
        }
        self.drop_archive_holder(turn, node);
        turn.tell(Effect::NodeForgotten { node });
        Ok(Reply::Done)
    }

    pub(crate) fn open_session(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        generation: u64,
        offer: &Offer,
    ) -> Result<Reply, Refusal> {
        let slots = offer.slots;
        if slots > SLOTS_MAX {
            return Err(Refusal::Invalid(format!(
                "{slots} slots offered, at most {SLOTS_MAX} are allowed"
            )));
        }
        check_labels(&offer.labels)?;
        self.trust
            .check_welcome(node)
            .map_err(Refusal::NotWelcome)?;
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
            cuda: offer.cuda,
            opened: turn.now,
            gpu_memory_mib: offer.gpu_memory_mib,
            labels: offer.labels.clone(),
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
    pub(crate) fn end_session(&mut self, turn: &mut Turn, session: SessionId, reason: Loss) {
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
