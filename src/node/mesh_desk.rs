//! What people ask of a node's own place in the mesh: how far another node is, what was seen, and to leave.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use riftmesh_base::NodeId;
use riftmesh_transport::CallError;
use riftmesh_transport::link::SharedLink;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::events::{Lines, as_line};
use super::http::{AnswerError, to_json};
use super::mesh::SharedMesh;
use super::mesh_log::MeshLog;
use crate::answers::{Envelope, MeshLine, PingAnswer, PingRequest, ReadMode};

/// Longest wait for an answer to one packet: a person is promised an answer in two seconds.
const PING_MAX: Duration = Duration::from_millis(1_400);
/// Those who follow the mesh at a time.
const FOLLOWERS_MAX: usize = 64;

/// A node's place in the mesh.
pub struct MeshDesk {
    node: NodeId,
    name: String,
    link: SharedLink,
    mesh: SharedMesh,
    log: MeshLog,
    followers: Arc<Semaphore>,
    /// Turns true when somebody wants the node to leave.
    leaving: watch::Sender<bool>,
}

impl MeshDesk {
    /// The place of `node`, which is called `name`.
    pub fn new(
        node: NodeId,
        name: String,
        link: SharedLink,
        mesh: SharedMesh,
        log: MeshLog,
    ) -> Self {
        Self {
            node,
            name,
            link,
            mesh,
            log,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            leaving: watch::Sender::new(false),
        }
    }

    /// Turns true when somebody wants the node to leave.
    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    /// Sends one small question to another node and waits for its answer; both take the way that gossip takes.
    ///
    /// # Errors
    /// [`AnswerError::NotFound`] when gossip does not know the node, [`AnswerError::Invalid`] when it is this one. A packet
    /// that is lost is an answer.
    pub async fn ping(&self, request: &PingRequest) -> Result<String, AnswerError> {
        if request.node == self.node {
            let reason = format!("{} is the node that answers", self.name);
            return Err(AnswerError::Invalid(reason));
        }
        let members = self.mesh.members();
        let member = members.iter().find(|member| member.node == request.node);
        let member = member.ok_or_else(|| {
            AnswerError::NotFound(format!("the mesh does not know node {}", request.node))
        })?;
        let wait = Duration::from_millis(request.timeout_ms).min(PING_MAX);
        let sent = Instant::now();
        let answered = self.link.identify(member.address, wait).await;
        let took = sent.elapsed();
        let lost = match answered {
            Ok(node) if node == request.node => None,
            Ok(node) => Some(format!("node {node} lives there now")),
            Err(error) => Some(in_short(&error)),
        };
        let rtt_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.wrap(PingAnswer {
            node: request.node,
            address: member.address.to_string(),
            rtt_us: lost.is_none().then_some(rtt_us),
            lost,
            traffic: self.mesh.traffic(request.node),
        })
    }

    /// What this node saw in the mesh, as far as it is kept; with `follow` also what it sees from now on.
    ///
    /// # Errors
    /// [`AnswerError::Unavailable`] when too many are following.
    pub fn events(&self, follow: bool) -> Result<Lines, AnswerError> {
        let mut reader = self.log.read();
        let first = stream::iter(reader.rest());
        if !follow {
            return Ok(first.filter_map(line).boxed());
        }
        let place = Arc::clone(&self.followers).try_acquire_owned();
        let place = place.map_err(|_| {
            AnswerError::Unavailable(format!("{FOLLOWERS_MAX} others are following this node"))
        })?;
        let next = stream::unfold((reader, place), |(mut reader, place)| async move {
            let lines = reader.more().await?;
            Some((stream::iter(lines), (reader, place)))
        });
        Ok(first.chain(next.flatten()).filter_map(line).boxed())
    }

    /// Has the node leave: its jobs are handed back, it says goodbye, and its process ends.
    ///
    /// # Errors
    /// Never for the type used here.
    pub fn leave(&self) -> Result<String, AnswerError> {
        tracing::info!("asked to leave");
        self.leaving.send_replace(true);
        self.wrap(self.node)
    }

    fn wrap<T: Serialize>(&self, answer: T) -> Result<String, AnswerError> {
        let mode = ReadMode::Gossip;
        to_json(&Envelope::without_state(
            self.node, &self.name, mode, answer,
        ))
    }
}

/// Why there was no answer; who was asked is said elsewhere.
fn in_short(error: &CallError) -> String {
    match error {
        CallError::Unreachable { reason, .. } | CallError::Untrusted { reason, .. } => {
            reason.clone()
        }
        other => other.to_string(),
    }
}

async fn line(line: MeshLine) -> Option<Result<Bytes, Infallible>> {
    as_line(&line)
}
