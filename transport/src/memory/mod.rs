//! The in-memory twin of the QUIC endpoint: a whole network in one process, with seeded latency and loss, directed
//! cuts and crashes.
//!
//! It runs on tokio's clock, so tests may pause time; then one seed gives one history. Like QUIC it delays calls
//! instead of losing them when packets are lost, while datagrams are lost for good. A cut swallows everything
//! silently, as a firewall does; a stopped node's host answers "refused". There are no certificates here: every node
//! counts as a voter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::limits::{DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX};
use riftmesh_base::{BlobHash, NodeId, Role, Seed};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::blob::{BlobSink, blame};
use crate::link::{Attachment, BoxFuture, CallError, Handler, Lane, Link, Peer, Refused, Target};
use crate::relayed;

/// How long a lost packet of a call delays it the first time; doubles with each further loss.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(50);
/// A relay is looked at this often by those attached to it, and given up after so long without an answer.
const BEAT: Duration = Duration::from_millis(500);
const SILENCE_MAX: Duration = Duration::from_millis(2_500);
/// Bytes moved at a time while a blob is copied.
const CHUNK_BYTES: usize = 64 << 10;

/// A network whose nodes live in this process. Clones share one network.
#[derive(Clone)]
pub struct MemoryNetwork(Arc<Mutex<Weather>>);

/// What the network does to packets, and who listens where.
struct Weather {
    rng: StdRng,
    latency: RangeInclusive<Duration>,
    loss: f64,
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Nobody can dial them.
    hidden: BTreeSet<NodeId>,
    /// How many attachments a node has to a relay.
    attached: BTreeMap<(SocketAddr, NodeId), u64>,
    stations: BTreeMap<SocketAddr, Arc<Station>>,
}

/// One life of a node at one address.
struct Station {
    node: NodeId,
    address: SocketAddr,
    handler: watch::Sender<Option<Arc<dyn Handler>>>,
    running: watch::Sender<bool>,
}

impl MemoryNetwork {
    /// A network with a latency of 0.2 to 2 ms and no loss.
    pub fn new(seed: Seed) -> Self {
        Self(Arc::new(Mutex::new(Weather {
            rng: StdRng::seed_from_u64(seed.0),
            latency: Duration::from_micros(200)..=Duration::from_millis(2),
            loss: 0.0,
            cuts: BTreeSet::new(),
            hidden: BTreeSet::new(),
            attached: BTreeMap::new(),
            stations: BTreeMap::new(),
        })))
    }

    /// Sets the range of one-way delays.
    pub fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.weather().latency = latency;
    }

    /// Sets the share of packets lost, from 0 (none) to below 1.
    ///
    /// # Panics
    /// When `loss` is outside that range.
    pub fn set_loss(&self, loss: f64) {
        assert!((0.0..1.0).contains(&loss), "loss is a share below 1");
        self.weather().loss = loss;
    }

    /// Starts a life of `node` at `address`. An earlier life of the node, or of another at this address, is stopped.
    pub fn link(&self, node: NodeId, address: SocketAddr) -> Arc<MemoryLink> {
        self.stop(node);
        let station = Arc::new(Station {
            node,
            address,
            handler: watch::Sender::new(None),
            running: watch::Sender::new(true),
        });
        let previous = self.weather().stations.insert(address, station.clone());
        if let Some(previous) = previous {
            previous.running.send_replace(false);
        }
        Arc::new(MemoryLink {
            network: self.clone(),
            station,
        })
    }

    /// Crashes `node`: its handlers stop where they are, calls to it fail, its host answers "refused".
    pub fn stop(&self, node: NodeId) {
        for station in self.weather().stations.values() {
            if station.node == node {
                station.running.send_replace(false);
            }
        }
    }

    /// Swallows everything that `from` sends to `to` from now on.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.weather().cuts.insert((from, to));
    }

    /// Undoes [`MemoryNetwork::cut`].
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.weather().cuts.remove(&(from, to));
    }

    /// Cuts `node` off from every node known so far, in both directions.
    pub fn isolate(&self, node: NodeId) {
        let mut weather = self.weather();
        let others: Vec<NodeId> = weather.stations.values().map(|s| s.node).collect();
        for other in others.into_iter().filter(|other| *other != node) {
            weather.cuts.insert((node, other));
            weather.cuts.insert((other, node));
        }
    }

    /// Puts `node` behind a router that lets nobody in: it can dial, and what others send to its address vanishes.
    pub fn hide(&self, node: NodeId) {
        self.weather().hidden.insert(node);
    }

    /// Removes all cuts.
    pub fn heal_all(&self) {
        self.weather().cuts.clear();
    }

    fn weather(&self) -> MutexGuard<'_, Weather> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Weather {
    /// How long a packet takes, or `None` when it never arrives.
    fn trip(&mut self, from: NodeId, to: NodeId, retransmitted: bool) -> Option<Duration> {
        if self.cuts.contains(&(from, to)) {
            return None;
        }
        let mut delay = self.rng.random_range(self.latency.clone());
        let mut penalty = RETRANSMIT_AFTER;
        while self.rng.random_bool(self.loss) {
            if !retransmitted {
                return None;
            }
            delay += penalty;
            penalty *= 2;
        }
        Some(delay)
    }

    /// Who is behind the relay at `relay` under this id, if it is attached there.
    fn behind(&self, relay: SocketAddr, node: NodeId) -> Option<Arc<Station>> {
        self.attached.get(&(relay, node))?;
        let mut stations = self.stations.values();
        stations
            .find(|station| station.node == node && station.is_running())
            .cloned()
    }
}

impl Station {
    fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    /// Waits for the end of this life.
    async fn stopped(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        self.running
            .subscribe()
            .wait_for(|running| !running)
            .await
            .ok();
    }

    /// Waits until the node serves.
    async fn handler(&self) -> Option<Arc<dyn Handler>> {
        let mut handler = self.handler.subscribe();
        let served = handler.wait_for(Option::is_some).await.ok()?;
        served.clone()
    }
}

/// One node's end of a [`MemoryNetwork`].
pub struct MemoryLink {
    network: MemoryNetwork,
    station: Arc<Station>,
}

/// Who was reached, and how.
struct Reached {
    station: Arc<Station>,
    relay: Option<NodeId>,
}

impl MemoryLink {
    /// Sleeps through one trip to or from `peer`; for ever when the packet is swallowed.
    async fn travel(&self, from: NodeId, to: NodeId) {
        let trip = self.network.weather().trip(from, to, true);
        match trip {
            Some(delay) => sleep(delay).await,
            None => std::future::pending().await,
        }
    }

    fn at(&self, address: SocketAddr) -> Option<Arc<Station>> {
        self.network.weather().stations.get(&address).cloned()
    }

    /// The way back from who was reached.
    async fn back(&self, from: &Reached) {
        let own = self.station.node;
        match from.relay {
            Some(relay) => {
                self.travel(from.station.node, relay).await;
                self.travel(relay, own).await;
            }
            None => self.travel(from.station.node, own).await,
        }
    }

    /// Travels to `to`, through a relay if need be: the station there, if it lives and is who it should be.
    async fn reach(&self, to: Target) -> Result<Reached, CallError> {
        let Some(route) = relayed::route(to.address) else {
            let station = self.dial(to).await?;
            return Ok(Reached {
                station,
                relay: None,
            });
        };
        let Some(address) = route.relay else {
            let reason = "nobody can dial it, and its relay is not known".to_owned();
            return Err(CallError::Unreachable { target: to, reason });
        };
        let relay = self.dial(Target {
            node: None,
            address,
        });
        let relay = relay.await?.node;
        self.travel(relay, route.node).await;
        let station = self.network.weather().behind(address, route.node);
        match station {
            Some(station) => Self::expect(to, &station).map(|()| Reached {
                station,
                relay: Some(relay),
            }),
            // The relay has nobody to pass it on to, and says nothing.
            None => std::future::pending().await,
        }
    }

    fn expect(to: Target, station: &Station) -> Result<(), CallError> {
        match to.node {
            Some(node) if node != station.node => Err(CallError::Untrusted {
                target: to,
                reason: format!("node {} lives there", station.node),
            }),
            _ => Ok(()),
        }
    }

    /// Travels to an address and knocks.
    async fn dial(&self, to: Target) -> Result<Arc<Station>, CallError> {
        let unreachable = |reason: &str| CallError::Unreachable {
            target: to,
            reason: reason.to_owned(),
        };
        if !self.station.is_running() {
            return Err(unreachable("this node's link is closed"));
        }
        let resident = self.at(to.address).map(|station| station.node);
        let resident = resident.or(to.node).unwrap_or_default();
        self.travel(self.station.node, resident).await;
        if self.network.weather().hidden.contains(&resident) {
            std::future::pending::<()>().await;
        }
        let Some(station) = self.at(to.address).filter(|station| station.is_running()) else {
            self.travel(resident, self.station.node).await;
            return Err(unreachable("connection refused"));
        };
        Self::expect(to, &station).map(|()| station)
    }

    /// Runs `work` until it ends, the deadline passes or this node stops.
    async fn bounded<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            result = timeout(deadline, work) => {
                result.unwrap_or_else(|_| Err(CallError::Unknown(format!("no answer within {deadline:?}"))))
            }
            () = self.station.stopped() => Err(CallError::Unknown("this node's link was closed".to_owned())),
        }
    }

    async fn exchange(&self, to: Target, lane: Lane, request: Bytes) -> Result<Bytes, CallError> {
        let reached = self.reach(to).await?;
        let station = &reached.station;
        let died = |_| CallError::Unknown(format!("{} broke off the call", station.node));
        let lost = || CallError::Lost(format!("connection to {}", station.node));
        // A task of its own: a caller that gives up does not stop the work, as over a real network.
        let work = tokio::spawn(answer(station.clone(), self.peer(), lane, request));
        let reply = work.await.map_err(died)?.ok_or_else(lost)?;
        self.back(&reached).await;
        match reply {
            Ok(reply) => Ok(within(reply, "reply", MESSAGE_BYTES_MAX)?),
            Err(Refused(reason)) => Err(CallError::Refused(reason)),
        }
    }

    async fn copy(&self, to: Target, hash: BlobHash, into: &Path) -> Result<u64, CallError> {
        let reached = self.reach(to).await?;
        let station = &reached.station;
        let lost = || CallError::Lost(format!("connection to {}", station.node));
        let handler = station.handler().await.ok_or_else(lost)?;
        let missing = || CallError::Refused(format!("no blob {hash} here"));
        let path = handler.blob(self.peer(), hash).ok_or_else(missing)?;
        let mut file = tokio::fs::File::open(path).await.map_err(|_| missing())?;
        let mut sink = BlobSink::create(into).await.map_err(|e| blame(to, e))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            self.back(&reached).await;
            if !station.is_running() {
                return Err(lost());
            }
            let read = file.read(&mut chunk).await.map_err(|_| missing())?;
            if read == 0 {
                return sink.finish(hash).await.map_err(|e| blame(to, e));
            }
            sink.write(&chunk[..read]).await.map_err(|e| blame(to, e))?;
        }
    }

    /// Who is at an address that a datagram is sent to, and how long it takes there unless it is lost; none if the host
    /// there answers that nobody is.
    fn aim(&self, address: SocketAddr) -> Option<(Arc<Station>, Option<Duration>)> {
        let own = self.station.node;
        let mut weather = self.network.weather();
        let at = |weather: &Weather, address| {
            let station = weather.stations.get(&address).cloned();
            station.filter(|station| station.is_running())
        };
        let Some(route) = relayed::route(address) else {
            let station = at(&weather, address)?;
            let trip = weather.trip(own, station.node, false);
            let hidden = weather.hidden.contains(&station.node);
            return Some((station, trip.filter(|_| !hidden)));
        };
        let relay = at(&weather, route.relay?)?;
        let first = weather.trip(own, relay.node, false);
        let second = weather.trip(relay.node, route.node, false);
        let Some(station) = weather.behind(relay.address, route.node) else {
            return Some((relay, None));
        };
        Some((
            station,
            first.zip(second).map(|(first, second)| first + second),
        ))
    }

    /// To `at` and back: who lives there.
    async fn look(&self, at: Target) -> Result<NodeId, CallError> {
        let reached = self.reach(at).await?;
        self.back(&reached).await;
        Ok(reached.station.node)
    }

    fn peer(&self) -> Peer {
        Peer {
            node: self.station.node,
            role: Role::Voter,
            address: self.station.address,
        }
    }
}

/// A node's being attached to a relay.
struct Line {
    network: MemoryNetwork,
    key: (SocketAddr, NodeId),
}

impl Line {
    fn new(network: &MemoryNetwork, relay: SocketAddr, node: NodeId) -> Self {
        let key = (relay, node);
        *network.weather().attached.entry(key).or_insert(0) += 1;
        Self {
            network: network.clone(),
            key,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut weather = self.network.weather();
        if let Some(count) = weather.attached.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                weather.attached.remove(&self.key);
            }
        }
    }
}

/// Lets `station` answer a call; `None` when it stops meanwhile.
async fn answer(
    station: Arc<Station>,
    from: Peer,
    lane: Lane,
    request: Bytes,
) -> Option<Result<Bytes, Refused>> {
    let work = async { Some(station.handler().await?.call(from, lane, request).await) };
    tokio::select! {
            biased;
        reply = work => reply,
        () = station.stopped() => None,
    }
}

fn within(bytes: Bytes, what: &'static str, max: usize) -> Result<Bytes, CallError> {
    if bytes.len() <= max {
        Ok(bytes)
    } else {
        Err(CallError::TooLarge {
            what,
            bytes: bytes.len() as u64,
            max: max as u64,
        })
    }
}

impl Link for MemoryLink {
    fn serve(&self, handler: Arc<dyn Handler>) {
        let first = self.station.handler.send_if_modified(|slot| {
            let free = slot.is_none();
            if free {
                *slot = Some(handler);
            }
            free
        });
        if !first {
            tracing::error!(node = %self.station.node, "serve was called twice; the first handler stays");
        }
    }

    fn call(
        &self,
        to: Target,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async move {
            let request = within(request, "request", MESSAGE_BYTES_MAX)?;
            self.bounded(deadline, self.exchange(to, lane, request))
                .await
        })
    }

    fn datagram(&self, to: Target, payload: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            let payload = within(payload, "datagram", DATAGRAM_BYTES_MAX)?;
            let unreachable = |reason: &str| CallError::Unreachable {
                target: to,
                reason: reason.to_owned(),
            };
            if !self.station.is_running() {
                return Err(unreachable("this node's link is closed"));
            }
            let from = self.peer();
            let Some((station, trip)) = self.aim(to.address) else {
                return Err(unreachable("connection refused"));
            };
            if let Some(delay) = trip {
                tokio::spawn(async move {
                    sleep(delay).await;
                    let handler = station.handler.borrow().clone();
                    if let Some(handler) = handler.filter(|_| station.is_running()) {
                        handler.datagram(from, payload);
                    }
                });
            }
            Ok(())
        })
    }

    fn fetch<'a>(
        &'a self,
        to: Target,
        hash: BlobHash,
        into: &'a Path,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<u64, CallError>> {
        Box::pin(self.bounded(deadline, self.copy(to, hash, into)))
    }

    fn identify(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<NodeId, CallError>> {
        let target = Target {
            node: None,
            address,
        };
        Box::pin(self.bounded(deadline, async move {
            Ok(self.reach(target).await?.station.node)
        }))
    }

    fn port_refused(&self, address: SocketAddr, within: Duration) -> BoxFuture<'_, bool> {
        let target = Target {
            node: None,
            address,
        };
        Box::pin(async move {
            let knock = timeout(within, self.reach(target)).await;
            self.station.is_running() && matches!(knock, Ok(Err(CallError::Unreachable { .. })))
        })
    }

    fn attach(
        &self,
        relay: SocketAddr,
        within: Duration,
    ) -> BoxFuture<'_, Result<Attachment, CallError>> {
        let target = Target {
            node: None,
            address: relay,
        };
        Box::pin(async move {
            let own = MemoryLink {
                network: self.network.clone(),
                station: Arc::clone(&self.station),
            };
            let asked = tokio::time::Instant::now();
            let relay = self.bounded(within, own.look(target)).await?;
            let line = Line::new(&self.network, target.address, self.station.node);
            let target = Target {
                node: Some(relay),
                ..target
            };
            Ok(Attachment::new(target, asked.elapsed(), async move {
                let _line = line;
                while let Ok(Ok(_)) = timeout(SILENCE_MAX, own.look(target)).await {
                    sleep(BEAT).await;
                }
            }))
        })
    }

    fn local_address(&self) -> SocketAddr {
        self.station.address
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.station.running.send_replace(false);
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests;
