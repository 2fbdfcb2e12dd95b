//! Puts a node together: opens what is on its disk, starts each part on its runtime, and stops them in order.

use std::sync::Arc;

use anyhow::Context;
use rand::RngExt;
use riftmesh_base::{ClusterId, NodeId};
use riftmesh_membership::{
    AdvertisedRole, GenerationFile, Membership, MembershipSettings, NodeMetadata, PeerFile, Seeds,
};
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_storage::{BlobStore, DataDir};
use riftmesh_transport::link::SharedLink;
use riftmesh_transport::{QuicLink, QuicSettings, relayed};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::NodeConfig;
use super::body::{NodeBody, PROTOCOLS};
use super::clients::ClientFactory;
use super::events::Watchers;
use super::gossip::Gossip;
use super::handler::{NoVoter, NodeHandler};
use super::http::{self, Answerer, CertificateDesk, Edge};
use super::machine;
use super::matches::Desk;
use super::mesh::SharedMesh;
use super::mesh_desk::MeshDesk;
use super::mesh_log::MeshLog;
use super::metrics::MetricsDesk;
use super::relay::Relay;
use super::sweep::Sweeper;
use super::trust::{self, AuthorityRing, CertificateKeeper, Issuer, follow_asked, follow_voters};
use crate::agent::{AgentConfig, WorkerAgent};
use crate::blobs::BlobAccess;
use crate::client::LocalService;

/// In the data directory: which life of the node this is.
pub(super) const GENERATION_FILE: &str = "generation";
/// In the data directory: members that it met.
pub(super) const PEERS_FILE: &str = "peers";

/// A running node.
pub struct Node {
    link: SharedLink,
    membership: Membership,
    raft: Option<RaftNode>,
    /// Tasks that end by themselves once told to stop.
    tasks: Vec<Task>,
    leaving: watch::Receiver<bool>,
    failures: watch::Receiver<Option<String>>,
    /// Holds the directory's lock.
    _data: DataDir,
}

/// What every part is made from.
pub(super) struct Parts {
    pub config: NodeConfig,
    pub node: NodeId,
    pub cluster: ClusterId,
    pub link: SharedLink,
    pub quic: Arc<QuicLink>,
    /// The cluster's, if this node was given it.
    pub authority: Option<AuthorityRing>,
    pub keeper: Arc<CertificateKeeper>,
    pub membership: Membership,
    pub mesh: SharedMesh,
    pub desk: Arc<MeshDesk>,
    pub blobs: Arc<BlobAccess>,
    pub work: Handle,
    pub stopping: watch::Receiver<bool>,
    pub failed: watch::Sender<Option<String>>,
    pub data: DataDir,
}

/// Starts a node. Must be called on the control runtime; `work` is the other one.
///
/// # Errors
/// A directory, credential or address cannot be used; the text says what to do.
pub async fn start(
    config: NodeConfig,
    work: Handle,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<Node> {
    let mut data = DataDir::open(&config.dir, || NodeId(rand::rng().random()))?;
    let identity = trust::obtain(&config, &mut data).await?;
    let (node, authority) = (data.node(), identity.authority.clone());
    let quic = QuicLink::bind(config.listen, &identity.credential, QuicSettings::default())
        .context("--listen")?;
    let link: SharedLink = Arc::clone(&quic) as SharedLink;
    let store = Arc::new(BlobStore::open(&data.blobs())?);
    let blobs = Arc::new(BlobAccess::new(Arc::clone(&store), Arc::clone(&link), node));
    let listener = work.spawn(http::bind(config.http)).await??;
    let (failed, failures) = watch::channel(None);
    let membership = start_membership(&config, &data, &link)?;
    // Sessions name this life of the node, which it finds in its own view with the first step of the mesh.
    let mut views = membership.subscribe();
    views
        .wait_for(|view| view.get(node).is_some())
        .await
        .map(drop)
        .context("the mesh did not start")?;
    let mesh: SharedMesh = Arc::new(Gossip::new(membership.clone(), Arc::clone(&quic)));
    let desk = {
        let (log, link) = (MeshLog::default(), Arc::clone(&link));
        tokio::spawn(log.clone().follow(membership.clone()));
        let desk = MeshDesk::new(node, config.name.clone(), link, Arc::clone(&mesh), log);
        Arc::new(desk)
    };
    let keeper = {
        let asking = ClientFactory {
            node,
            mesh: Arc::clone(&mesh),
            link: Arc::clone(&link),
            seeds: config.seeds.clone(),
            own: None,
        };
        let (name, client) = (config.name.clone(), Arc::new(asking.make()));
        Arc::new(CertificateKeeper::new(
            name,
            identity,
            Arc::clone(&quic),
            client,
        ))
    };
    tokio::spawn(Arc::clone(&keeper).run());
    let cluster = data.cluster().context("the directory has no cluster")?;
    tracing::info!(%node, name = config.name, %cluster, listen = %config.listen, http = %config.http, "starting");
    let parts = Parts {
        config,
        node,
        cluster,
        link: Arc::clone(&link),
        quic,
        authority,
        keeper,
        membership: membership.clone(),
        mesh,
        desk,
        blobs,
        work: work.clone(),
        stopping,
        failed,
        data,
    };
    let started = match parts.config.role {
        Role::Voter => parts.voter().await?,
        Role::Worker => parts.worker(),
    };
    let Started {
        raft,
        clients,
        edge,
        mut tasks,
    } = started;
    let telling = machine::tell(membership.clone(), parts.body(), parts.stopping.clone());
    tasks.push(work.spawn(async move {
        telling.await.inspect_err(|error| {
            tracing::error!("others hear no more of this node's load: {error:#}")
        })
    }));
    let sweeper = Sweeper {
        store,
        client: clients.make(),
    };
    let sweeping = sweeper.run(parts.stopping.clone());
    tasks.push(work.spawn(async move {
        sweeping.await;
        Ok(())
    }));
    tasks.extend(parts.agent(clients)?);
    let failed = parts.failed.clone();
    work.spawn(async move {
        if let Err(error) = http::serve(listener, edge).await {
            failed.send_replace(Some(format!("HTTP: {error}")));
        }
    });
    Ok(Node {
        link,
        membership,
        raft,
        tasks,
        leaving: parts.desk.leaving(),
        failures,
        _data: parts.data,
    })
}

fn start_membership(
    config: &NodeConfig,
    data: &DataDir,
    link: &SharedLink,
) -> anyhow::Result<Membership> {
    let metadata = NodeMetadata {
        name: config.name.clone(),
        role: match config.role {
            Role::Voter => AdvertisedRole::Voter,
            Role::Worker => AdvertisedRole::Worker,
        },
    };
    let generations = GenerationFile::new(data.path().join(GENERATION_FILE));
    let named = config.seeds.iter().copied();
    let peers = PeerFile::new(data.path().join(PEERS_FILE));
    let seeds = Seeds {
        named: named.filter(|seed| *seed != config.listen).collect(),
        met: peers.read(),
    };
    let membership = Membership::start(
        MembershipSettings {
            dial_out: config.dial_out,
            ..MembershipSettings::default()
        },
        Arc::clone(link),
        data.node(),
        config.listen,
        generations,
        metadata,
        seeds,
    )?;
    tokio::spawn(peers.follow(membership.clone()));
    Ok(membership)
}

/// A task that ends by itself once the node is told to stop.
pub(super) type Task = JoinHandle<anyhow::Result<()>>;

/// What differs between a voter and a worker, once started.
pub(super) struct Started {
    pub raft: Option<RaftNode>,
    pub clients: ClientFactory,
    pub edge: Edge,
    pub tasks: Vec<Task>,
}

impl Parts {
    fn worker(&self) -> Started {
        self.serve(None, Arc::new(NoVoter), None);
        let clients = self.clients(None);
        let (client, quic) = (clients.make(), Arc::clone(&self.quic));
        let revoked = follow_voters(client, quic, self.stopping.clone());
        let revoked = self.work.spawn(async move {
            revoked.await;
            Ok(())
        });
        let keeper = Arc::clone(&self.keeper);
        let authorities = follow_asked(keeper, clients.make(), self.stopping.clone());
        let authorities = self.work.spawn(async move {
            authorities.await;
            Ok(())
        });
        let relay = Relay {
            node: self.node,
            name: self.config.name.clone(),
            client: Arc::new(clients.make()),
            mesh: Arc::clone(&self.mesh),
        };
        let edge = self.edge(Arc::new(relay), &clients);
        Started {
            raft: None,
            clients,
            edge,
            tasks: vec![revoked, authorities],
        }
    }

    /// Begins to answer peers.
    pub(super) fn serve(
        &self,
        raft: Option<RaftNode>,
        service: Arc<dyn LocalService>,
        issuer: Option<Arc<Issuer>>,
    ) {
        let handler = NodeHandler {
            raft,
            service,
            membership: self.membership.clone(),
            blobs: Arc::clone(&self.blobs),
            issuer,
        };
        self.link.serve(Arc::new(handler));
    }

    /// What HTTP needs.
    pub(super) fn edge(&self, answerer: Arc<dyn Answerer>, clients: &ClientFactory) -> Edge {
        let desk = Desk {
            node: self.node,
            name: self.config.name.clone(),
            client: Arc::new(clients.make()),
            loops: self.config.loops.clone(),
            raft: clients.own.as_ref().map(|(_, raft)| raft.clone()),
            watchers: Watchers::default(),
        };
        Edge {
            answerer,
            desk: Arc::new(desk),
            certificates: Arc::clone(&self.keeper) as Arc<dyn CertificateDesk>,
            mesh: Arc::clone(&self.desk),
            metrics: Arc::new(MetricsDesk {
                keeper: Arc::clone(&self.keeper),
                mesh: Arc::clone(&self.mesh),
                link: Arc::clone(&self.quic),
            }),
        }
    }

    /// Makes clients; `own` are this node's service and consensus if it votes.
    pub(super) fn clients(&self, own: Option<(Arc<dyn LocalService>, RaftNode)>) -> ClientFactory {
        ClientFactory {
            node: self.node,
            mesh: Arc::clone(&self.mesh),
            link: Arc::clone(&self.link),
            seeds: self.config.seeds.clone(),
            own,
        }
    }

    /// The node as it is entered in the roster.
    pub(super) fn record(&self) -> NodeRecord {
        NodeRecord {
            id: self.node,
            name: self.config.name.clone(),
            role: self.config.role,
            address: match self.config.dial_out {
                true => relayed::nowhere(self.node),
                false => self.config.listen,
            }
            .to_string(),
        }
    }

    /// What the node says about itself at length, but for its machine.
    fn body(&self) -> NodeBody {
        NodeBody {
            zone: self.config.zone.clone(),
            labels: self.config.labels.iter().cloned().collect(),
            slots: self.config.slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocols: PROTOCOLS,
            http: self.config.http,
            report: None,
        }
    }

    /// The worker agent, if the node offers slots.
    fn agent(&self, clients: ClientFactory) -> anyhow::Result<Option<Task>> {
        if self.config.slots == 0 {
            return Ok(None);
        }
        let view = self.membership.view();
        let own = view
            .get(self.node)
            .context("the mesh does not know its own node")?;
        let config = AgentConfig {
            record: self.record(),
            generation: own.generation,
            slots: self.config.slots,
            cuda: self.config.cuda.clone(),
            gpu_memory_mib: self.config.gpu_memory_mib,
            labels: self.config.labels.clone(),
            work_dir: self.config.dir.join("work"),
            optimizers: self.config.dir.join("optimizers"),
            exe: std::env::current_exe().context("cannot find this program's own file")?,
        };
        let session = Arc::new(clients.make());
        let agent = WorkerAgent::new(
            config,
            session,
            Box::new(move || clients.make()),
            Arc::clone(&self.blobs),
        );
        let (stopping, failed) = (self.stopping.clone(), self.failed.clone());
        Ok(Some(self.work.spawn(async move {
            let outcome = agent.run(stopping).await;
            if let Err(error) = &outcome {
                failed.send_replace(Some(format!("the worker agent: {error:#}")));
            }
            outcome
        })))
    }
}

impl Node {
    /// Pends until a part of the node dies; gives the reason.
    pub async fn failure(&self) -> String {
        let mut failures = self.failures.clone();
        match failures.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends when somebody has asked the node to leave.
    pub async fn told_to_leave(&self) {
        let mut leaving = self.leaving.clone();
        if leaving.wait_for(|leaving| *leaving).await.is_err() {
            std::future::pending().await
        }
    }

    /// Stops: jobs first, then leadership is handed over and goodbyes are said.
    pub async fn stop(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a task did not end well");
            }
        }
        if let Some(raft) = &self.raft {
            raft.shutdown().await;
        }
        self.membership.leave().await;
        self.link.close().await;
    }
}
