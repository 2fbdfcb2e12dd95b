//! The agent's hands: timers, datagrams, calls and the disk. With `peers`, all that is async in this crate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{Millis, NodeId, Seed};
use riftmesh_transport::{Attachment, Lane, Peer, Refused, SharedLink, Target, relayed};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::Agent;
use crate::bodies::BODY_BYTES_MAX;
use crate::config::MembershipSettings;
use crate::effect::{Input, MeshEffect, MeshEvent, TimerId};
use crate::identity::{Generations, NodeIdentity};
use crate::metadata::{MetadataError, NodeMetadata, within};
use crate::peers::Seeds;
use crate::view::MembershipView;

/// Inputs waiting for the driver; beyond that datagrams are dropped and callers wait.
const INPUTS_MAX: usize = 1_024;
/// Sends and calls under way at a time; beyond that they are dropped, as a full network would.
const UNDER_WAY_MAX: usize = 512;
/// An exchange of views must end within this time.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(5);
/// A look at a suspect's port takes this long at most.
const INVESTIGATE_WITHIN: Duration = Duration::from_secs(1);
/// A relay must answer within this time.
const ATTACH_WITHIN: Duration = Duration::from_millis(1_500);
/// While inputs wait, readers are told no more often than this: a new view takes time in proportion to the mesh.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// Leaving waits this long for the goodbye to go out.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// Why membership did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The generation could not be made durable.
    #[error("cannot keep this node's generation: {0}")]
    Generation(#[from] io::Error),
    /// Peers cannot call this address: it stands for all of this machine's, or has no port.
    #[error("{0} cannot be advertised: name the address by which peers reach this node")]
    Unreachable(SocketAddr),
    /// The description is over a bound.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// A node's part in the mesh. Clones share it; it runs until it left or the last clone is gone.
#[derive(Clone)]
pub struct Membership {
    node: NodeId,
    inputs: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<MembershipView>>,
    started: Instant,
}

/// What the handle asks of the driver.
enum Command {
    Input(Input),
    Call(NodeId, Bytes, oneshot::Sender<Result<Bytes, Refused>>),
    Leave(oneshot::Sender<()>),
}

impl Membership {
    /// Takes a new generation and joins the mesh through `seeds`. `advertised` is where peers reach this node, unless the
    /// settings say that none can. Runs on the tokio runtime it is called on; gossip deserves one of its own.
    ///
    /// # Errors
    /// See [`StartError`]; nothing has been announced then.
    pub fn start(
        settings: MembershipSettings,
        link: SharedLink,
        node: NodeId,
        advertised: SocketAddr,
        mut generations: impl Generations,
        metadata: NodeMetadata,
        seeds: impl Into<Seeds>,
    ) -> Result<Self, StartError> {
        let advertised = match settings.dial_out {
            true => relayed::nowhere(node),
            false if advertised.ip().is_unspecified() || advertised.port() == 0 => {
                return Err(StartError::Unreachable(advertised));
            }
            false => advertised,
        };
        metadata.check()?;
        let identity = NodeIdentity {
            node,
            generation: generations.advance(0)?,
            address: advertised,
        };
        // No two lives draw the same numbers, and a life can be replayed from its identity.
        let seed = Seed(node.0).derive("membership", identity.generation);
        let agent = Agent::new(settings, identity, metadata, seeds, seed)?;
        let started = Instant::now();
        let (inputs, commands) = mpsc::channel(INPUTS_MAX);
        let (results_in, results) = mpsc::channel(UNDER_WAY_MAX);
        let (publish, view) = watch::channel(Arc::new(agent.view(Millis(0))));
        let driver = Driver {
            agent,
            link,
            generations: Box::new(generations),
            started,
            timers: BinaryHeap::new(),
            calls: BTreeMap::new(),
            tickets: 0,
            under_way: JoinSet::new(),
            relay: JoinSet::new(),
            results: results_in,
            publish,
            untold: false,
            told: started,
        };
        tokio::spawn(driver.run(commands, results));
        Ok(Self {
            node,
            inputs,
            view,
            started,
        })
    }

    /// The node this is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What this node believes now.
    pub fn view(&self) -> Arc<MembershipView> {
        self.view.borrow().clone()
    }

    /// The view as it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<MembershipView>> {
        self.view.clone()
    }

    /// The mesh clock by which the view's times are given.
    pub fn now(&self) -> Millis {
        self.started.elapsed().into()
    }

    /// Describes this node anew; others know within seconds.
    ///
    /// # Errors
    /// When a text is over its bound; nothing changes then.
    pub async fn update_metadata(&self, metadata: NodeMetadata) -> Result<(), MetadataError> {
        metadata.check()?;
        // Gone after leaving, when nobody is left to tell.
        self.inputs
            .send(Command::Input(Input::Describe(metadata)))
            .await
            .ok();
        Ok(())
    }

    /// Says this at length about this node from now on; others fetch it within seconds. What has not changed costs nothing.
    ///
    /// # Errors
    /// When it is longer than [`BODY_BYTES_MAX`]; nothing changes then.
    pub async fn publish(&self, body: Bytes) -> Result<(), MetadataError> {
        within("body", body.len(), BODY_BYTES_MAX)?;
        // Gone after leaving, when nobody is left to tell.
        self.inputs
            .send(Command::Input(Input::Publish(body)))
            .await
            .ok();
        Ok(())
    }

    /// Says goodbye, so that nobody waits for this node. Returns when the goodbye has been sent.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.inputs.send(Command::Leave(done)).await.is_ok() {
            left.await.ok();
        }
    }

    /// Takes a gossip datagram from the link. Never blocks: what does not fit the queue is dropped.
    pub fn handle_datagram(&self, from: Peer, payload: Bytes) {
        let input = Input::Datagram {
            from: from.node,
            payload,
        };
        if self.inputs.try_send(Command::Input(input)).is_err() {
            tracing::debug!(from = %from.node, "a datagram was dropped");
        }
    }

    /// Answers a call on the mesh lane.
    ///
    /// # Errors
    /// [`Refused`] with the reason, for instance after leaving.
    pub async fn handle_call(&self, from: Peer, request: Bytes) -> Result<Bytes, Refused> {
        let gone = || Refused("membership has ended here".to_owned());
        let (reply, answer) = oneshot::channel();
        let command = Command::Call(from.node, request, reply);
        self.inputs.send(command).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Driver {
    agent: Agent,
    link: SharedLink,
    generations: Box<dyn Generations>,
    started: Instant,
    timers: BinaryHeap<Reverse<(Instant, TimerId)>>,
    calls: BTreeMap<u64, oneshot::Sender<Result<Bytes, Refused>>>,
    tickets: u64,
    under_way: JoinSet<()>,
    /// Looks for a relay, then watches over it.
    relay: JoinSet<()>,
    results: mpsc::Sender<Input>,
    publish: watch::Sender<Arc<MembershipView>>,
    /// The view has changed since readers were told.
    untold: bool,
    /// When they were told last.
    told: Instant,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut results: mpsc::Receiver<Input>,
    ) {
        let effects = self.agent.start(self.now());
        self.perform(effects);
        loop {
            if self.untold && (commands.is_empty() || self.told.elapsed() >= TELL_EVERY) {
                self.tell();
            }
            let due = self.timers.peek().map(|Reverse((due, _))| *due);
            // Messages before timers: after a pause, what was heard meanwhile comes before what was waited for.
            tokio::select! {
                biased;
                Some(_) = self.under_way.join_next() => {}
                command = commands.recv() => match command {
                    Some(Command::Leave(done)) => {
                        self.step(Input::Leave);
                        self.tell();
                        self.farewell().await;
                        // Whoever asked may have stopped waiting.
                        done.send(()).ok();
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(result) = results.recv() => self.step(result),
                () = wait_until(due) => self.timer(),
            }
        }
    }

    fn now(&self) -> Millis {
        self.started.elapsed().into()
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Input(input) => self.step(input),
            Command::Call(from, body, reply) => {
                self.tickets += 1;
                let ticket = self.tickets;
                self.calls.insert(ticket, reply);
                self.step(Input::Request { from, ticket, body });
            }
            Command::Leave(_) => {}
        }
    }

    fn timer(&mut self) {
        if let Some(Reverse((_, timer))) = self.timers.pop() {
            self.step(Input::Timer(timer));
        }
    }

    fn step(&mut self, input: Input) {
        let effects = self.agent.step(self.now(), input);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<MeshEffect>) {
        for effect in effects {
            match effect {
                MeshEffect::Send { to, payload } => self.send(to, payload),
                MeshEffect::Schedule { timer, after } => {
                    let due = Instant::now() + after.duration();
                    self.timers.push(Reverse((due, timer)));
                }
                MeshEffect::Exchange { to, body } => self.exchange(to, body),
                MeshEffect::Reply { ticket, body } => {
                    if let Some(reply) = self.calls.remove(&ticket) {
                        // The caller may have given up.
                        reply.send(body.map_err(Refused)).ok();
                    }
                }
                MeshEffect::Investigate {
                    node,
                    generation,
                    address,
                } => self.investigate(node, generation, address),
                MeshEffect::Renew { floor } => self.renew(floor),
                MeshEffect::SeekRelay { candidates } => self.seek_relay(candidates),
                MeshEffect::Notify(event) => {
                    match event {
                        // Machines are busy now and then: that is no news.
                        MeshEvent::Learned { .. } => tracing::debug!(%event, "mesh"),
                        _ => tracing::info!(%event, "mesh"),
                    }
                    self.untold = true;
                }
            }
        }
    }

    fn tell(&mut self) {
        (self.untold, self.told) = (false, Instant::now());
        let view = Arc::new(self.agent.view(self.now()));
        self.publish.send_replace(view);
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        if self.under_way.len() < UNDER_WAY_MAX {
            self.under_way.spawn(work);
        } else {
            tracing::warn!("the network is too slow: a message was dropped");
        }
    }

    fn send(&mut self, to: Target, payload: Bytes) {
        let link = self.link.clone();
        self.spawn(async move {
            if let Err(error) = link.datagram(to, payload).await {
                tracing::debug!(%error, "a datagram was not sent");
            }
        });
    }

    fn exchange(&mut self, to: Target, body: Bytes) {
        let (link, results) = (self.link.clone(), self.results.clone());
        self.spawn(async move {
            let call = link.call_repeatable(to, Lane::Mesh, body, EXCHANGE_WITHIN);
            match call.await {
                // The driver ends before this task only when it leaves.
                Ok(body) => drop(results.send(Input::Exchanged { body }).await),
                Err(error) => tracing::debug!(%error, "a call of the mesh was not answered"),
            }
        });
    }

    fn investigate(&mut self, node: NodeId, generation: u64, address: SocketAddr) {
        let (link, results) = (self.link.clone(), self.results.clone());
        self.spawn(async move {
            if link.port_refused(address, INVESTIGATE_WITHIN).await {
                let evidence = Input::PortRefused { node, generation };
                drop(results.send(evidence).await);
            }
        });
    }

    fn seek_relay(&mut self, candidates: Vec<Target>) {
        let (link, results) = (self.link.clone(), self.results.clone());
        // The former search, or the relay it found, ends here.
        self.relay = JoinSet::new();
        self.relay.spawn(async move {
            let mut tries = JoinSet::new();
            for candidate in candidates {
                let link = link.clone();
                tries.spawn(async move { link.attach(candidate.address, ATTACH_WITHIN).await });
            }
            let found = tries.join_all().await.into_iter().filter_map(|answer| {
                let refused = |error| tracing::debug!(%error, "no relay");
                answer.map_err(refused).ok()
            });
            let say = async |relay| drop(results.send(Input::Relayed { relay }).await);
            match found.min_by_key(Attachment::round_trip) {
                Some(attachment) => {
                    let relay = attachment.relay();
                    let round_trip = attachment.round_trip();
                    tracing::info!(%relay, ?round_trip, "reached through a relay from now on");
                    say(Some(relay.address)).await;
                    attachment.lost().await;
                    tracing::warn!(%relay, "the relay is lost");
                    say(None).await;
                }
                None => {
                    tracing::warn!("no relay answers: nobody can reach this node");
                    say(None).await;
                }
            }
        });
    }

    /// Blocks for one small file: it is rare, and nothing may be announced before it is done.
    fn renew(&mut self, floor: u64) {
        match self.generations.advance(floor.saturating_add(1)) {
            Ok(generation) => self.step(Input::Renewed { generation }),
            Err(error) => {
                tracing::error!(%error, "this node stays out of the mesh: no new generation")
            }
        }
    }

    async fn farewell(&mut self) {
        let sent = async { while self.under_way.join_next().await.is_some() {} };
        if timeout(FAREWELL_WITHIN, sent).await.is_err() {
            tracing::warn!("not everybody could be told goodbye");
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
