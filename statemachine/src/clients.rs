//! The last reply of each client, so that a repeated command is answered and not applied again.

use std::collections::BTreeMap;

use riftmesh_base::{JobId, LogIndex, Token};
use serde::{Deserialize, Serialize};

use crate::command::Origin;
use crate::hold::JobCheckpoint;
use crate::job::Grant;
use crate::queue::Queue;
use crate::reply::Reply;

/// Bounded: with one client more than the cap, the one whose last command is oldest in log order is forgotten. A
/// command that client repeats after that is applied again, so the cap is far above the clients of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clients {
    entries: BTreeMap<u64, ClientEntry>,
    #[serde(skip)]
    oldest: BTreeMap<Position, u64>,
}

/// Where in the log a command stands: entry and ordinal within it.
pub(crate) type Position = (LogIndex, u32);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ClientEntry {
    seq: u64,
    at: Position,
    reply: StoredReply,
}

/// A reply as it is kept. Grants leave the specification out, which the queue has: a table of replies must not hold
/// another copy of every payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredReply {
    Granted(Vec<StoredGrant>),
    Other(Reply),
    /// With the checkpoints that some of the jobs could go on from.
    GrantedFrom(Vec<StoredGrant>, Vec<(JobId, JobCheckpoint)>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredGrant {
    job: JobId,
    token: Token,
    attempt: u32,
    losses: u32,
}

impl StoredReply {
    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Granted { grants } => Self::Granted(stored(grants)),
            Reply::GrantedFrom {
                grants,
                checkpoints,
            } => Self::GrantedFrom(stored(grants), checkpoints.clone()),
            other => Self::Other(other.clone()),
        }
    }

    /// The reply as it was. A grant whose job has left even the ring of finished jobs is left out: it is over.
    pub fn reply(&self, queue: &Queue) -> Reply {
        match self {
            Self::Other(reply) => reply.clone(),
            Self::Granted(grants) => Reply::Granted {
                grants: restored(grants, queue),
            },
            Self::GrantedFrom(grants, checkpoints) => Reply::GrantedFrom {
                grants: restored(grants, queue),
                checkpoints: checkpoints.clone(),
            },
        }
    }
}

fn stored(grants: &[Grant]) -> Vec<StoredGrant> {
    let stored = grants.iter().map(|grant| StoredGrant {
        job: grant.job,
        token: grant.token,
        attempt: grant.attempt,
        losses: grant.losses,
    });
    stored.collect()
}

fn restored(grants: &[StoredGrant], queue: &Queue) -> Vec<Grant> {
    let grants = grants.iter().filter_map(|grant| {
        Some(Grant {
            job: grant.job,
            token: grant.token,
            attempt: grant.attempt,
            losses: grant.losses,
            spec: queue.get(grant.job)?.spec.clone(),
        })
    });
    grants.collect()
}

/// What the table says about an origin.
pub(crate) enum Seen<'a> {
    /// Apply it.
    New,
    /// The same command again.
    Repeat(&'a StoredReply),
    /// The client has sent a later command already.
    Stale { last: u64 },
}

impl Clients {
    pub fn seen(&self, origin: Origin) -> Seen<'_> {
        match self.entries.get(&origin.client) {
            None => Seen::New,
            Some(entry) if origin.seq > entry.seq => Seen::New,
            Some(entry) if origin.seq == entry.seq => Seen::Repeat(&entry.reply),
            Some(entry) => Seen::Stale { last: entry.seq },
        }
    }

    /// Remembers the reply to `origin`, the command at `at`.
    pub fn store(&mut self, origin: Origin, reply: &Reply, at: Position, clients_max: usize) {
        let entry = ClientEntry {
            seq: origin.seq,
            at,
            reply: StoredReply::of(reply),
        };
        if let Some(before) = self.entries.insert(origin.client, entry) {
            self.oldest.remove(&before.at);
        }
        self.oldest.insert(at, origin.client);
        while self.entries.len() > clients_max
            && let Some((_, client)) = self.oldest.pop_first()
        {
            self.entries.remove(&client);
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Builds the index that is not part of the image.
    pub fn rebuild(&mut self) {
        self.oldest = self.entries.iter().map(|(id, e)| (e.at, *id)).collect();
    }
}
