//! The parts that only a voter has: consensus, its service, chores and copies of the models.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use riftmesh_base::SystemClock;
use riftmesh_membership::Membership;
use riftmesh_raft::{AutopilotReport, RaftNode, RaftSettings, RaftStore, RaftTimings};
use riftmesh_statemachine::command::Body;
use tokio::sync::watch;

use super::answer::Answers;
use super::archive::ArchiveKeeper;
use super::autopilot::Autopilot;
use super::bootstrap::{self, Introductions};
use super::clients::ClientFactory;
use super::compose::{Parts, Started, Task};
use super::replicate;
use super::trust::{Issuer, follow_own, follow_state};
use super::voter::VoterService;
use crate::chores::Chores;
use crate::client::deadlines;

/// Wait before asking again to be entered in the roster.
const ADMIT_PAUSE: Duration = Duration::from_secs(1);

impl Parts {
    /// Starts consensus and everything around it.
    ///
    /// # Errors
    /// What is on the disk cannot be used.
    pub(super) async fn voter(&self) -> anyhow::Result<Started> {
        let settings = RaftSettings {
            node: self.node,
            store: RaftStore::on_disk(&self.data.raft())?,
            timings: RaftTimings::patient(),
        };
        let clock = Arc::new(SystemClock::start());
        let raft = RaftNode::open(settings, Arc::clone(&self.link), clock.clone()).await?;
        let known = self.introductions();
        let report = Arc::new(watch::Sender::new(AutopilotReport::default()));
        let answers = Arc::new(Answers {
            name: self.config.name.clone(),
            raft: raft.clone(),
            mesh: Arc::clone(&self.mesh),
            blobs: Arc::clone(&self.blobs),
            expires: self.keeper.expires(),
            autopilot: report.subscribe(),
            client: OnceLock::new(),
        });
        let introduction = {
            let (known, raft) = (Arc::clone(&known), raft.clone());
            Box::new(move || known.own(&raft))
        };
        let service = Arc::new(VoterService::new(
            raft.clone(),
            Arc::clone(&self.mesh),
            clock,
            Arc::clone(&answers),
            introduction,
        ));
        let clients = self.clients(Some((service.clone(), raft.clone())));
        self.keeper.order_with(clients.make());
        answers.client.get_or_init(|| Arc::new(clients.make()));
        let issuer = self.issuer(&raft, &clients);
        if let Some(issuer) = &issuer {
            service.renew_with(Arc::clone(issuer));
        }
        self.serve(Some(raft.clone()), service.clone(), issuer);
        self.watch_consensus(&raft, &known);
        let mut tasks = self.voter_tasks(&raft, service, &clients);
        tasks.push(self.autopilot(&raft, report));
        let edge = self.edge(answers, &clients);
        Ok(Started {
            raft: Some(raft),
            clients,
            edge,
            tasks,
        })
    }

    /// Lets nodes in, if this one holds the cluster's authority.
    fn issuer(&self, raft: &RaftNode, clients: &ClientFactory) -> Option<Arc<Issuer>> {
        let ring = self.authority.clone()?;
        Some(Arc::new(Issuer {
            ring,
            raft: raft.clone(),
            client: Arc::new(clients.make()),
            refusals: self.keeper.refusals(),
        }))
    }

    fn introductions(&self) -> Arc<Introductions> {
        let seeds: BTreeSet<_> = self.config.seeds.iter().map(ToString::to_string).collect();
        Arc::new(Introductions::new(
            self.node,
            self.config.listen.to_string(),
            self.config.bootstrap_expect,
            seeds,
            self.cluster,
        ))
    }

    fn voter_tasks(
        &self,
        raft: &RaftNode,
        service: Arc<VoterService>,
        clients: &ClientFactory,
    ) -> Vec<Task> {
        let chores = Chores::new(
            raft.clone(),
            Arc::clone(&self.mesh),
            service,
            self.cluster,
            self.config.loops.clone(),
        );
        let stopping = self.stopping.clone();
        let chores = async move {
            chores.run(stopping).await;
            Ok(())
        };
        let keeper = ArchiveKeeper {
            raft: raft.clone(),
            mesh: Arc::clone(&self.mesh),
            blobs: Arc::clone(&self.blobs),
            client: clients.make(),
        };
        let stopping = self.stopping.clone();
        let archive = async move {
            keeper.run(stopping).await;
            Ok(())
        };
        let (mesh, blobs) = (Arc::clone(&self.mesh), Arc::clone(&self.blobs));
        let followed = raft.clone();
        let (client, raft, stopping) = (clients.make(), raft.clone(), self.stopping.clone());
        let copies = async move {
            replicate::run(raft, mesh, blobs, client, stopping).await;
            Ok(())
        };
        let authorities = follow_own(
            Arc::clone(&self.keeper),
            followed.clone(),
            clients.make(),
            self.stopping.clone(),
        );
        let authorities = async move {
            authorities.await;
            Ok(())
        };
        let revoked = follow_state(followed, Arc::clone(&self.quic), self.stopping.clone());
        let revoked = async move {
            revoked.await;
            Ok(())
        };
        vec![
            self.work.spawn(revoked),
            self.work.spawn(authorities),
            self.work.spawn(chores),
            self.work.spawn(copies),
            self.work.spawn(archive),
            self.work.spawn(self.admit(clients)),
        ]
    }

    fn autopilot(&self, raft: &RaftNode, report: Arc<watch::Sender<AutopilotReport>>) -> Task {
        let autopilot = Autopilot {
            raft: raft.clone(),
            mesh: Arc::clone(&self.mesh),
            report,
        };
        let stopping = self.stopping.clone();
        self.work.spawn(async move {
            autopilot.run(stopping).await;
            Ok(())
        })
    }

    /// Forms or joins the cluster, and reports the death of consensus.
    fn watch_consensus(&self, raft: &RaftNode, known: &Arc<Introductions>) {
        let (failed, death) = (self.failed.clone(), raft.death());
        tokio::spawn(async move {
            let reason = death.await;
            failed.send_replace(Some(format!("consensus has died: {reason}")));
        });
        tokio::spawn(note_addresses(raft.clone(), self.membership.clone()));
        let (failed, raft, link, known) = (
            self.failed.clone(),
            raft.clone(),
            Arc::clone(&self.link),
            Arc::clone(known),
        );
        tokio::spawn(async move {
            if let Err(error) = bootstrap::join(&raft, &link, &known).await {
                failed.send_replace(Some(format!("{error:#}")));
            }
        });
    }

    /// Enters a voter in the roster; a worker does it with its session.
    fn admit(&self, clients: &ClientFactory) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let (client, record, mut stopping) = (clients.make(), self.record(), self.stopping.clone());
        async move {
            let admitted = async {
                while let Err(error) = client
                    .propose(Body::AdmitNode(record.clone()), deadlines::COMMAND)
                    .await
                {
                    tracing::debug!(%error, "not in the roster yet");
                    tokio::time::sleep(ADMIT_PAUSE).await;
                }
            };
            tokio::select! {
                () = admitted => {}
                _ = stopping.changed() => {}
            }
            Ok(())
        }
    }
}

/// Tells consensus where gossip has met its members: an address in the log may be an old one.
async fn note_addresses(raft: RaftNode, membership: Membership) {
    let mut views = membership.subscribe();
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        for node in view.active().filter(|node| node.id != view.local) {
            raft.note_address(node.id, node.address);
        }
    }
}
