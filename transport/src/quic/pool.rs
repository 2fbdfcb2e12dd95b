//! The connections this node has dialled, one per peer address and purpose.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use riftmesh_base::time::wall_clock;
use riftmesh_base::{ClusterId, NodeId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::accounts::Wire;
use super::calls::Calls;
use super::frame::{self, Kind, Outcome};
use super::gate::Gate;
use super::refusal::refused;
use super::relay::canonical;
use super::settings::{DialConfigs, QuicSettings};
use super::{STRANGER, trust};
use crate::identity::{CertificateFacts, NodeName};
use crate::link::{BoxFuture, CallError, Lane, Target};
use crate::relayed;

/// A dialled connection unused for this long is let go.
const UNUSED_MAX: Duration = Duration::from_secs(300);
/// One for gossip after this: in a mesh of two thousand each member is probed every 23 minutes, and a handshake costs more than
/// what keeps the connection alive for so long.
const UNUSED_GOSSIP_MAX: Duration = Duration::from_secs(1_800);
/// A connection that brings nothing although calls wait on it is replaced after this long. Not sooner: a busy or
/// distant peer may miss a few short deadlines.
const SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// What a connection is for. Consensus shares with nobody, neither can bulk data hold up small calls, and on a line to a relay
/// nothing else has a place. Gossip goes to everybody, but rarely, so that its connections may be silent for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    Consensus,
    General,
    Gossip,
    Bulk,
    /// A line to a relay.
    Relay,
}

impl From<Lane> for Class {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Raft => Self::Consensus,
            Lane::Client => Self::General,
            Lane::Mesh => Self::Gossip,
        }
    }
}

impl Class {
    /// How long a connection may go unused.
    fn unused_max(self) -> Duration {
        match self {
            Self::Gossip => UNUSED_GOSSIP_MAX,
            Self::Consensus | Self::General | Self::Bulk | Self::Relay => UNUSED_MAX,
        }
    }
}

/// A connection on which both sides accepted the other's certificate.
#[derive(Clone)]
pub(super) struct Dialled {
    pub(super) connection: Connection,
    /// What the other side's certificate says.
    pub(super) peer: CertificateFacts,
    /// Its place on the peer's account.
    pub(super) wire: Arc<Wire>,
    progress: Arc<Mutex<Progress>>,
    /// The stream for small calls, once there was one.
    calls: Arc<Mutex<Option<Arc<Calls>>>>,
    /// Where its work is done.
    runtime: Handle,
}

/// When packets last arrived, as far as calls noticed.
struct Progress {
    packets: u64,
    at: Instant,
}

impl Dialled {
    pub(super) fn node(&self) -> NodeId {
        self.peer.name.node
    }

    /// The stream for small calls: the one that stands, or a fresh one.
    pub(super) async fn calls(&self) -> Result<Arc<Calls>, ConnectionError> {
        let standing = lock(&self.calls).clone();
        if let Some(calls) = standing.filter(|calls| !calls.is_lost()) {
            return Ok(calls);
        }
        // Of two that are opened at once both work, and the second is used from then on.
        let calls = Arc::new(Calls::open(&self.connection, &self.runtime).await?);
        *lock(&self.calls) = Some(Arc::clone(&calls));
        Ok(calls)
    }

    /// Packets received so far.
    pub(super) fn packets(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// True when nothing has arrived for too long. Asked after a call went unanswered.
    fn is_silent(&self) -> bool {
        self.note_progress();
        lock(&self.progress).at.elapsed() >= SILENCE_MAX
    }

    /// Whether something was known to have arrived within this time. Asked before each use, so that the first one after a long
    /// silence can tell.
    pub(super) fn is_fresh(&self, within: Duration) -> bool {
        let noted = lock(&self.progress).at;
        self.note_progress();
        noted.elapsed() < within
    }

    fn note_progress(&self) {
        let packets = self.packets();
        let mut progress = lock(&self.progress);
        if packets != progress.packets {
            let at = Instant::now();
            *progress = Progress { packets, at };
        }
    }
}

/// Why no connection stands. Shared by all who waited for it.
#[derive(Debug, Clone)]
pub(super) enum DialFailure {
    Unreachable(String),
    Untrusted(String),
}

impl DialFailure {
    pub(super) fn blame(self, target: Target) -> CallError {
        match self {
            Self::Unreachable(reason) => CallError::Unreachable { target, reason },
            Self::Untrusted(reason) => CallError::Untrusted { target, reason },
        }
    }
}

type Dial = Shared<BoxFuture<'static, Result<Dialled, DialFailure>>>;

struct Entry {
    dial: Dial,
    used: Instant,
}

impl Entry {
    /// Neither failed nor closed: standing or on its way.
    fn is_usable(&self) -> bool {
        match self.dial.peek() {
            Some(Ok(dialled)) => {
                dialled.connection.close_reason().is_none() && wall_clock() < dialled.peer.expires
            }
            Some(Err(_)) => false,
            None => true,
        }
    }
}

/// All dialled connections.
pub(super) struct Pool {
    endpoint: Endpoint,
    cluster: ClusterId,
    gate: Arc<Gate>,
    configs: Mutex<DialConfigs>,
    dial_timeout: Duration,
    connections_max: usize,
    /// Places for dials of gossip.
    gossip_dials: Arc<Semaphore>,
    /// Where dialling and the connections run, whatever runtime the callers are on.
    runtime: Handle,
    entries: Mutex<HashMap<(SocketAddr, Class), Entry>>,
}

impl Pool {
    pub(super) fn new(
        endpoint: Endpoint,
        cluster: ClusterId,
        gate: Arc<Gate>,
        configs: DialConfigs,
        settings: &QuicSettings,
    ) -> Self {
        Self {
            endpoint,
            cluster,
            gate,
            configs: Mutex::new(configs),
            dial_timeout: settings.dial,
            connections_max: settings.connections_dialled_max,
            gossip_dials: Arc::new(Semaphore::new(settings.gossip_dials_max)),
            runtime: Handle::current(),
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// Dials with `configs` from now on.
    pub(super) fn replace_configs(&self, configs: DialConfigs) {
        *lock(&self.configs) = configs;
    }

    /// How far the nodes are to which there are connections; of several to a node the shortest counts.
    pub(super) fn round_trips(&self) -> BTreeMap<NodeId, Duration> {
        let mut shortest = BTreeMap::new();
        for entry in lock(&self.entries)
            .values()
            .filter(|entry| entry.is_usable())
        {
            if let Some(Ok(dialled)) = entry.dial.peek() {
                let rtt = dialled.connection.rtt();
                let known = shortest.entry(dialled.node()).or_insert(rtt);
                *known = rtt.min(*known);
            }
        }
        shortest
    }

    /// Closes the connections to nodes that are no longer welcome, or were so with a certificate that is not any more.
    pub(super) fn drop_unwelcome(&self) {
        lock(&self.entries).retain(|_, entry| {
            let dialled = entry.dial.peek().and_then(|result| result.as_ref().ok());
            let unwelcome = dialled.filter(|dialled| {
                self.gate.is_revoked(dialled.node()) || !self.gate.is_trusted(&dialled.peer)
            });
            if let Some(dialled) = unwelcome {
                let reason = format!("the certificate of {} was revoked", dialled.peer.name);
                dialled.connection.close(STRANGER, reason.as_bytes());
            }
            unwelcome.is_none()
        });
    }

    /// A connection to `target`, standing or freshly dialled. Whoever asks meanwhile waits for the same dial, and
    /// one that gives up does not end it for the others.
    pub(super) async fn get(&self, target: Target, class: Class) -> Result<Dialled, CallError> {
        let dial = self.entry(target.address, class);
        let dialled = dial.await.map_err(|failure| failure.blame(target))?;
        match target.node {
            Some(node) if node != dialled.node() => Err(CallError::Untrusted {
                target,
                reason: format!("node {} lives there", dialled.node()),
            }),
            _ => Ok(dialled),
        }
    }

    fn entry(&self, address: SocketAddr, class: Class) -> Dial {
        let mut entries = lock(&self.entries);
        let now = Instant::now();
        if let Some(entry) = entries.get_mut(&(address, class))
            && entry.is_usable()
        {
            entry.used = now;
            return entry.dial.clone();
        }
        entries
            .retain(|(_, class), entry| entry.is_usable() && now - entry.used < class.unused_max());
        if entries.len() >= self.connections_max
            && let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| *key)
        {
            entries.remove(&oldest);
        }
        let dial = self.dial(address, class);
        let entry = Entry {
            dial: dial.clone(),
            used: now,
        };
        entries.insert((address, class), entry);
        dial
    }

    fn dial(&self, address: SocketAddr, class: Class) -> Dial {
        let endpoint = self.endpoint.clone();
        let configs = lock(&self.configs).clone();
        let (config, places) = match class {
            Class::Gossip => (configs.gossip, Some(Arc::clone(&self.gossip_dials))),
            Class::Consensus | Class::General | Class::Bulk | Class::Relay => (configs.usual, None),
        };
        let (cluster, dial_timeout) = (self.cluster, self.dial_timeout);
        let gate = Arc::clone(&self.gate);
        let task = self.runtime.spawn(async move {
            // The semaphore is never closed; and without a place one dials all the same.
            let _place = match &places {
                Some(places) => places.acquire().await.ok(),
                None => None,
            };
            tokio::select! {
                result = timeout(dial_timeout, establish(&endpoint, config, address, cluster, &gate)) => result
                    .unwrap_or_else(|_| {
                        Err(DialFailure::Unreachable(format!("no answer within {dial_timeout:?}")))
                    }),
                () = refused(address) => Err(DialFailure::Unreachable("connection refused".to_owned())),
            }
        });
        let result = task.map(|joined| {
            joined.unwrap_or_else(|_| Err(DialFailure::Unreachable("dialling stopped".to_owned())))
        });
        result.boxed().shared()
    }

    /// Looks at a connection on which a call went unanswered; a silent one serves no new calls. Calls that still
    /// wait on it keep it until they end: the peer may only be paused.
    pub(super) fn suspect(&self, address: SocketAddr, class: Class, dialled: &Dialled) {
        if !dialled.is_silent() {
            return;
        }
        let mut entries = lock(&self.entries);
        let is_current = entries.get(&(address, class)).is_some_and(|entry| {
            let current = entry.dial.peek().and_then(|result| result.as_ref().ok());
            current.is_some_and(|c| c.connection.stable_id() == dialled.connection.stable_id())
        });
        if is_current {
            entries.remove(&(address, class));
        }
    }
}

/// Dials, checks who answered and waits until the peer has accepted us too: in TLS 1.3 the dialler is done before
/// its own certificate is looked at.
async fn establish(
    endpoint: &Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    cluster: ClusterId,
    gate: &Gate,
) -> Result<Dialled, DialFailure> {
    can_dial(endpoint, address)?;
    let connecting = endpoint
        .connect_with(config, address, &NodeName::any_of(cluster))
        .map_err(|error| DialFailure::Unreachable(error.to_string()))?;
    let connection = connecting.await.map_err(|error| {
        gate.note_failed(address, &error);
        trust::blame(&error)
    })?;
    let peer = gate
        .check(&connection)
        .map_err(|reason| DialFailure::Untrusted(reason.text))?;
    let lost = |connection: &Connection, reason: String| match connection.close_reason() {
        Some(error) => trust::blame(&error),
        None => DialFailure::Unreachable(reason),
    };
    match greet(&connection).await {
        Ok(Outcome::Done) => Ok(Dialled {
            progress: Arc::new(Mutex::new(Progress {
                packets: connection.stats().udp_rx.datagrams,
                at: Instant::now(),
            })),
            calls: Arc::default(),
            runtime: Handle::current(),
            wire: gate.accounts.of(peer.name.node).open(&connection),
            connection,
            peer,
        }),
        Ok(outcome) => Err(DialFailure::Unreachable(format!(
            "the peer answered the greeting with {outcome:?}"
        ))),
        Err(reason) => Err(lost(&connection, reason)),
    }
}

/// The endpoint takes any address; the socket beneath it may not.
fn can_dial(endpoint: &Endpoint, address: SocketAddr) -> Result<(), DialFailure> {
    let unreachable = |reason: &str| Err(DialFailure::Unreachable(reason.to_owned()));
    let own = endpoint.local_addr().map(canonical);
    match relayed::route(address) {
        Some(route) if route.relay.is_none() => {
            unreachable("nobody can dial it, and its relay is not known")
        }
        None if canonical(address).is_ipv6() && own.is_ok_and(|own| own.is_ipv4()) => {
            unreachable("it has an IPv6 address, and this node listens on an IPv4 one")
        }
        Some(_) | None => Ok(()),
    }
}

async fn greet(connection: &Connection) -> Result<Outcome, String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|e| e.to_string())?;
    frame::write_request(&mut send, Kind::Hello, bytes::Bytes::new())
        .await
        .map_err(|e| e.to_string())?;
    let (outcome, _) = frame::read_reply(&mut recv)
        .await
        .map_err(|e| e.to_string())?;
    Ok(outcome)
}

/// A lost connection in one word for callers.
pub(super) fn lost(error: &ConnectionError) -> String {
    format!("connection lost: {error}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
