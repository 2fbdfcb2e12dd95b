//! Sections as older versions wrote them, where the present ones have more in them.

use std::collections::{BTreeMap, VecDeque};

use riftmesh_base::{JobId, Millis, NodeId, SessionId, Token};
use serde::Deserialize;

use crate::job::{JobRecord, JobSpec, JobState, Output};
use crate::nodes::{Nodes, Session};
use crate::queue::Queue;
use crate::roster::{NodeEntry, SessionRecord};
use crate::terms::Terms;

/// Sessions before version 3 offered slots and a device, nothing else.
#[derive(Deserialize)]
pub(super) struct NodesV1 {
    roster: BTreeMap<NodeId, NodeEntry>,
    sessions: BTreeMap<SessionId, SessionV1>,
    opened: u64,
}

#[derive(Deserialize)]
struct SessionV1 {
    record: SessionRecordV1,
}

#[derive(Deserialize)]
struct SessionRecordV1 {
    id: SessionId,
    node: NodeId,
    generation: u64,
    slots: u16,
    cuda: bool,
    opened: Millis,
}

/// Jobs before version 3 had no terms.
#[derive(Deserialize)]
pub(super) struct QueueV1 {
    entered: u64,
    jobs: BTreeMap<JobId, JobRecordV1>,
    finished: VecDeque<JobId>,
}

#[derive(Deserialize)]
struct JobRecordV1 {
    id: JobId,
    last_token: Option<Token>,
    spec: JobSpec,
    state: JobState,
    failures: u32,
    losses: u32,
    progress: (u64, u64),
    submitted: Millis,
    changed: Millis,
    note: String,
    outputs: Vec<Output>,
}

impl From<NodesV1> for Nodes {
    fn from(old: NodesV1) -> Self {
        let sessions = old.sessions.into_iter();
        Self {
            roster: old.roster,
            sessions: sessions
                .map(|(id, session)| (id, Session::new(session.record.into())))
                .collect(),
            opened: old.opened,
        }
    }
}

impl From<SessionRecordV1> for SessionRecord {
    fn from(old: SessionRecordV1) -> Self {
        Self {
            id: old.id,
            node: old.node,
            generation: old.generation,
            slots: old.slots,
            cuda: old.cuda,
            opened: old.opened,
            gpu_memory_mib: 0,
            labels: Vec::new(),
        }
    }
}

impl From<QueueV1> for Queue {
    fn from(old: QueueV1) -> Self {
        let jobs = old.jobs.into_iter().map(|(id, job)| (id, job.into()));
        Self::from_parts(old.entered, jobs.collect(), old.finished)
    }
}

impl From<JobRecordV1> for JobRecord {
    fn from(old: JobRecordV1) -> Self {
        Self {
            id: old.id,
            last_token: old.last_token,
            spec: old.spec,
            state: old.state,
            failures: old.failures,
            losses: old.losses,
            progress: old.progress,
            submitted: old.submitted,
            changed: old.changed,
            note: old.note,
            outputs: old.outputs,
            terms: Terms::default(),
        }
    }
}
