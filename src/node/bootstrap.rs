//! How a voter comes to belong to a cluster: it introduces itself to the seeds until all agree, and one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{ClusterId, NodeId};
use riftmesh_raft::{BootstrapDecision, RaftNode, SeedFact, decide_bootstrap};
use riftmesh_transport::link::{Lane, SharedLink, Target};
use tokio::time::{Instant, sleep};

use crate::protocol::{Request, Response};

/// Time between two rounds of introductions.
const ROUND: Duration = Duration::from_millis(300);
/// Longest wait for one seed.
const CALL: Duration = Duration::from_millis(1_000);
/// What was heard longer ago is forgotten.
const FRESH: Duration = Duration::from_secs(3);
/// A disagreement that lasts this long ends the node: people have to sort it out.
const DISAGREE_MAX: Duration = Duration::from_secs(10);

/// What a voter knows of itself and has heard of the others while a cluster is being formed.
pub struct Introductions {
    node: NodeId,
    address: String,
    expect: Option<u16>,
    seeds: BTreeSet<String>,
    cluster: ClusterId,
    heard: Mutex<BTreeMap<NodeId, (Instant, SeedFact)>>,
}

impl Introductions {
    /// Of this node, before it has heard anybody.
    pub fn new(
        node: NodeId,
        address: String,
        expect: Option<u16>,
        seeds: BTreeSet<String>,
        cluster: ClusterId,
    ) -> Self {
        Self {
            node,
            address,
            expect,
            seeds,
            cluster,
            heard: Mutex::new(BTreeMap::new()),
        }
    }

    /// What this node says about itself now.
    pub fn own(&self, raft: &RaftNode) -> SeedFact {
        let status = raft.status();
        let heard = self
            .fresh()
            .into_iter()
            .map(|fact| fact.node)
            .chain([self.node])
            .collect();
        SeedFact {
            node: self.node,
            address: self.address.clone(),
            expect: self.expect,
            seeds: self.seeds.clone(),
            cluster: Some(self.cluster),
            voters: status
                .members
                .iter()
                .filter(|member| member.voter)
                .map(|member| member.node)
                .collect(),
            has_data: status.initialised,
            heard,
        }
    }

    fn fresh(&self) -> Vec<SeedFact> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, (at, _)| at.elapsed() < FRESH);
        heard.values().map(|(_, fact)| fact.clone()).collect()
    }

    fn note(&self, fact: SeedFact) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(fact.node, (Instant::now(), fact));
    }
}

/// Introduces this node to the seeds until it belongs to a cluster.
///
/// # Errors
/// The nodes disagree about the cluster that is to be; the text names the disagreement.
pub async fn join(
    raft: &RaftNode,
    link: &SharedLink,
    known: &Arc<Introductions>,
) -> anyhow::Result<()> {
    let mut disagreeing: Option<Instant> = None;
    let mut said = String::new();
    loop {
        let own = known.own(raft);
        let decision = decide_bootstrap(&own, &known.fresh());
        if said != decision.to_string() {
            said = decision.to_string();
            tracing::info!("{said}");
        }
        match decision {
            BootstrapDecision::Join => return Ok(()),
            BootstrapDecision::Initialise(voters) => {
                if let Err(error) = raft.initialize(voters).await {
                    tracing::warn!(%error, "initialising");
                }
            }
            BootstrapDecision::Wait(_) => disagreeing = None,
            BootstrapDecision::Error(reason) => {
                let since = *disagreeing.get_or_insert_with(Instant::now);
                anyhow::ensure!(since.elapsed() < DISAGREE_MAX, "{reason}");
            }
        }
        ask_all(link, known).await;
        sleep(ROUND).await;
    }
}

async fn ask_all(link: &SharedLink, known: &Introductions) {
    let request = Bytes::from(riftmesh_base::encode(&Request::Introduce));
    let others = known
        .seeds
        .iter()
        .filter(|seed| **seed != known.address)
        .filter_map(|seed| seed.parse().ok());
    let calls = others.map(|address| {
        link.call(
            Target {
                node: None,
                address,
            },
            Lane::Client,
            request.clone(),
            CALL,
        )
    });
    for answer in futures::future::join_all(calls).await.into_iter().flatten() {
        match riftmesh_base::decode(&answer) {
            Ok(Response::Introduction(fact)) => known.note(fact),
            Ok(other) => tracing::debug!(?other, "unexpected answer to an introduction"),
            Err(error) => tracing::warn!(%error, "a seed answered nonsense"),
        }
    }
}
