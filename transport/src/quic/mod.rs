//! The real network: one QUIC endpoint per node that both dials and answers.
//!
//! Four kinds of connections go to a peer, dialled when first needed: consensus, gossip, everything else that is small, and
//! blobs. A node answers on connections dialled by its peers and calls on those it dialled itself, so two nodes dialling
//! each other at once is no conflict.

mod accounts;
mod calls;
mod door;
mod frame;
mod gate;
mod pieces;
mod pool;
mod refusal;
mod relay;
mod serve;
mod settings;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ConnectionError, Endpoint, RecvStream, Runtime, SendStream, TokioRuntime, VarInt};
use riftmesh_base::limits::{BLOB_BYTES_MAX, DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX};
use riftmesh_base::{BlobHash, ClusterId, NodeId};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use self::accounts::{OversizeCounts, PeerTraffic};
use self::calls::NotSent;
use self::door::Door;
pub use self::door::knock;
use self::frame::{FrameError, Kind, Outcome};
use self::gate::Gate;
use self::pieces::PIECE_BYTES_MAX;
use self::pool::{Class, Dialled, Pool, lost};
use self::refusal::refused;
pub use self::relay::RelayCounts;
use self::relay::{Lines, RelaySocket, Switchboard};
use self::serve::Server;
pub use self::settings::QuicSettings;
use crate::blob::{BlobSink, blame};
use crate::identity::{CredentialError, NodeCredential};
use crate::link::{Attachment, BoxFuture, CallError, Handler, Lane, Link, Target};

/// A waiting call whose connection brings nothing for this long asks whether the peer's port is still open.
const DOUBT_AFTER: Duration = Duration::from_millis(300);
/// It asks less and less often, for calls that take long by nature.
const DOUBT_MAX: Duration = Duration::from_secs(5);
/// A living peer acknowledges within this time; a distant one is asked again.
const NUDGE: Duration = Duration::from_millis(100);
/// A datagram that needs a new connection waits this long for it.
const DATAGRAM_DIAL: Duration = Duration::from_secs(1);
/// Closing waits this long for peers to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of a blob taken from the stream at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Why we closed a connection, as its peer sees it.
const CLOSED: VarInt = VarInt::from_u32(0);
const STRANGER: VarInt = VarInt::from_u32(1);
const GONE: VarInt = VarInt::from_u32(2);

/// Why an endpoint did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The credential is not usable.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// A node's QUIC endpoint. It may be used from any tokio runtime; its own work runs on the one it was bound on.
pub struct QuicLink {
    node: NodeId,
    cluster: ClusterId,
    endpoint: Endpoint,
    address: SocketAddr,
    pool: Arc<Pool>,
    lines: Arc<Lines>,
    board: Arc<Switchboard>,
    sent: Arc<AtomicU64>,
    gate: Arc<Gate>,
    door: Arc<Door>,
    settings: QuicSettings,
    runtime: Handle,
    serving: AtomicBool,
}

impl QuicLink {
    /// Listens on `address` (port 0 picks one) as the node that `credential` names. Must be called on a tokio
    /// runtime, on which all its work runs from then on. Nothing is answered before [`Link::serve`].
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(
        address: SocketAddr,
        credential: &NodeCredential,
        settings: QuicSettings,
    ) -> Result<Arc<Self>, BindError> {
        let server = settings::server(credential, &settings)?;
        let client = settings::client(credential, &settings)?;
        let failed = |error| BindError::Socket { address, error };
        let socket = settings::socket(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (arrived, arrivals) = RelaySocket::queue();
        let board = Arc::new(Switchboard::new(
            credential.node(),
            address,
            settings.relay_lines_max,
            settings.relay_bytes_per_second,
            arrived.clone(),
        ));
        let lines = Arc::new(Lines::new(Arc::clone(&board), arrived));
        let udp = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        let socket = RelaySocket::new(udp, Arc::clone(&lines), arrivals);
        let sent = socket.sent();
        let endpoint = Endpoint::new_with_abstract_socket(
            settings::endpoint(credential)?,
            Some(server),
            Arc::new(socket),
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let gate = Arc::new(Gate::new(credential.cluster(), credential.trusted_keys()?));
        let pool = Arc::new(Pool::new(
            endpoint.clone(),
            credential.cluster(),
            Arc::clone(&gate),
            client,
            &settings,
        ));
        lines.dial_with(&pool);
        Ok(Arc::new(Self {
            node: credential.node(),
            cluster: credential.cluster(),
            address,
            endpoint,
            pool,
            lines,
            board,
            sent,
            gate,
            door: Arc::new(Door::new(credential)?),
            settings,
            runtime: Handle::current(),
            serving: AtomicBool::new(false),
        }))
    }

    /// The node this endpoint speaks for.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Uses a renewed credential for connections from now on; standing ones go on, unless it does not trust the authority
    /// of the other side's certificate any more.
    ///
    /// # Errors
    /// [`CredentialError::WrongCluster`] when it is another node's or another cluster's; nothing changes then.
    pub fn renew(&self, credential: &NodeCredential) -> Result<(), CredentialError> {
        let trusted = credential.trusted_keys()?;
        if (credential.node(), credential.cluster()) != (self.node, self.cluster) {
            let name = credential.facts.name.to_string();
            return Err(CredentialError::WrongCluster(name));
        }
        let server = settings::server(credential, &self.settings)?;
        let client = settings::client(credential, &self.settings)?;
        self.door.renew(credential)?;
        self.endpoint.set_server_config(Some(server));
        self.pool.replace_configs(client);
        if self.gate.trust(trusted) {
            self.pool.drop_unwelcome();
        }
        Ok(())
    }

    /// Like [`QuicLink::renew`]; strangers who trust another authority than that of `credential` are shown the one of
    /// `others` that is of theirs.
    ///
    /// # Errors
    /// As there.
    pub fn renew_with_others(
        &self,
        credential: &NodeCredential,
        others: Vec<NodeCredential>,
    ) -> Result<(), CredentialError> {
        self.door.replace_others(others);
        self.renew(credential)
    }

    /// Turns away nodes whose certificates were revoked: exactly these from now on. Their connections are closed.
    pub fn revoke(&self, nodes: BTreeSet<NodeId>) {
        if self.gate.revoke(nodes) {
            self.pool.drop_unwelcome();
        }
    }

    /// How many connections were refused here because of the other side's certificate, by reason.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.gate.refusals.counts()
    }

    /// Bytes sent so far, in UDP datagrams.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What went to a peer and came from it, if there was ever a connection to it, or from it.
    pub fn traffic(&self, peer: NodeId) -> Option<PeerTraffic> {
        self.gate.accounts.peer(peer)
    }

    /// The same of all peers together.
    pub fn traffic_of_all(&self) -> PeerTraffic {
        self.gate.accounts.total()
    }

    /// How many datagrams were too long.
    pub fn oversize(&self) -> OversizeCounts {
        self.gate.accounts.oversize()
    }

    /// What this node did as a relay for others.
    pub fn relay_counts(&self) -> RelayCounts {
        self.board.counts()
    }

    /// How long a packet takes to each node that this one has dialled, and back, as its connection measures it.
    pub fn round_trips(&self) -> BTreeMap<NodeId, Duration> {
        self.pool.round_trips()
    }

    fn server(&self, handler: Arc<dyn Handler>) -> Arc<Server> {
        let (gate, door) = (Arc::clone(&self.gate), Arc::clone(&self.door));
        let board = Arc::clone(&self.board);
        Arc::new(Server::new(gate, door, board, handler, &self.settings))
    }

    /// Has `begin` done on a connection to `to`. It sends nothing yet, so a connection that turns out to be closed is
    /// replaced once.
    async fn begin<T>(
        &self,
        to: Target,
        class: Class,
        begin: impl AsyncFn(&Dialled) -> Result<T, ConnectionError>,
    ) -> Result<(Dialled, T), CallError> {
        let dialled = self.pool.get(to, class).await?;
        if let Ok(begun) = begin(&dialled).await {
            return Ok((dialled, begun));
        }
        let dialled = self.pool.get(to, class).await?;
        match begin(&dialled).await {
            Ok(begun) => Ok((dialled, begun)),
            Err(error) => {
                let reason = lost(&error);
                Err(CallError::Unreachable { target: to, reason })
            }
        }
    }

    /// Like [`QuicLink::begin`], before a deadline.
    async fn begin_before<T>(
        &self,
        to: Target,
        class: Class,
        until: Until,
        begin: impl AsyncFn(&Dialled) -> Result<T, ConnectionError>,
    ) -> Result<(Dialled, T), CallError> {
        let begun = timeout_at(until.end, self.begin(to, class, begin)).await;
        begun.unwrap_or_else(|_| {
            let reason = format!("no connection within {:?}", until.deadline);
            Err(CallError::Unreachable { target: to, reason })
        })
    }

    /// Waits for the outcome of something that was begun: until the deadline, and as long as the peer lives.
    async fn attend<T>(
        &self,
        to: Target,
        class: Class,
        until: Until,
        dialled: &Dialled,
        exchange: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            result = timeout_at(until.end, exchange) => result.unwrap_or_else(|_| {
                self.pool.suspect(to.address, class, dialled);
                let reason = format!("{to} did not answer within {:?}", until.deadline);
                Err(CallError::Unknown(reason))
            }),
            () = found_dead(&self.pool, to.address, class, dialled) => {
                dialled.connection.close(GONE, b"your port is closed");
                Err(CallError::Unknown(format!("{to} has gone: its port is closed")))
            }
        }
    }

    /// Opens a stream and runs `exchange` on it, all before the deadline.
    async fn request<T>(
        &self,
        to: Target,
        class: Class,
        deadline: Duration,
        exchange: impl AsyncFnOnce(&mut Stream) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let until = Until::now(deadline);
        let open = async |dialled: &Dialled| dialled.connection.open_bi().await;
        let (dialled, (send, recv)) = self.begin_before(to, class, until, open).await?;
        let mut stream = Stream {
            dialled: dialled.clone(),
            send,
            recv,
        };
        let exchange = exchange(&mut stream);
        self.attend(to, class, until, &dialled, exchange).await
    }

    /// A call that is small enough to share a stream with others.
    async fn small_call(
        &self,
        to: Target,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let (class, until) = (lane.into(), Until::now(deadline));
        let open = async |dialled: &Dialled| dialled.calls().await;
        let (dialled, calls) = self.begin_before(to, class, until, open).await?;
        may_answer(to, lane, &dialled)?;
        let exchange = async {
            let asked = calls.ask(lane, request).await;
            let mut asked = asked.map_err(|NotSent| {
                let reason = "the connection was lost".to_owned();
                CallError::Unreachable { target: to, reason }
            })?;
            dialled.wire.call_made();
            understand(to, asked.answer().await)
        };
        self.attend(to, class, until, &dialled, exchange).await
    }

    async fn send_datagram(&self, to: Target, payload: Bytes) -> Result<(), CallError> {
        let dialled = self.for_datagrams(to).await?;
        let is_fresh = dialled.is_fresh(self.settings.idle);
        self.put(&dialled, to, payload.clone()).await?;
        if is_fresh {
            return Ok(());
        }
        // The peer may have started anew since the last packet of this connection, and says so when it gets this one.
        let ended = timeout(DATAGRAM_DIAL, dialled.connection.closed()).await;
        if ended.is_ok() {
            let dialled = self.for_datagrams(to).await?;
            self.put(&dialled, to, payload).await?;
        }
        Ok(())
    }

    async fn for_datagrams(&self, to: Target) -> Result<Dialled, CallError> {
        let dialled = timeout(DATAGRAM_DIAL, self.pool.get(to, Class::Gossip)).await;
        dialled.unwrap_or_else(|_| {
            let reason = format!("no connection within {DATAGRAM_DIAL:?}");
            Err(CallError::Unreachable { target: to, reason })
        })
    }

    /// Sends a datagram on a connection, as such or as a stream.
    async fn put(&self, dialled: &Dialled, to: Target, payload: Bytes) -> Result<(), CallError> {
        let connection = &dialled.connection;
        let fits = connection
            .max_datagram_size()
            .is_some_and(|max| payload.len() <= max);
        let sent = if fits {
            connection.send_datagram(payload).map_err(|e| e.to_string())
        } else {
            // The path takes smaller packets than it should: a stream of its own carries the datagram instead.
            self.gate.accounts.streamed();
            timeout(DATAGRAM_DIAL, send_as_stream(connection, &payload))
                .await
                .unwrap_or_else(|_| Err("the peer takes no more datagrams".to_owned()))
        };
        sent.map_err(|reason| CallError::Unreachable { target: to, reason })?;
        dialled.wire.datagram_sent();
        Ok(())
    }
}

async fn send_as_stream(connection: &quinn::Connection, payload: &[u8]) -> Result<(), String> {
    let mut stream = connection.open_uni().await.map_err(|e| e.to_string())?;
    stream.write_all(payload).await.map_err(|e| e.to_string())?;
    stream.finish().map_err(|e| e.to_string())
}

/// When a call has to be over.
#[derive(Debug, Clone, Copy)]
struct Until {
    deadline: Duration,
    end: Instant,
}

impl Until {
    fn now(deadline: Duration) -> Self {
        let end = Instant::now() + deadline;
        Self { deadline, end }
    }
}

/// One request's stream and the connection it runs on.
struct Stream {
    dialled: Dialled,
    send: SendStream,
    recv: RecvStream,
}

impl Stream {
    async fn ask(&mut self, to: Target, kind: Kind, body: Bytes) -> Result<Bytes, CallError> {
        frame::write_request(&mut self.send, kind, body)
            .await
            .map_err(|error| unanswered(to, &error))?;
        understand(to, frame::read_reply(&mut self.recv).await)
    }

    async fn receive(&mut self, to: Target, hash: BlobHash, into: &Path) -> Result<u64, CallError> {
        let request = Bytes::copy_from_slice(&hash.0);
        let announced = self.ask(to, Kind::Blob, request).await?;
        let announced = <[u8; 8]>::try_from(&announced[..]).map(u64::from_be_bytes);
        let announced = announced
            .map_err(|_| CallError::Unknown(format!("{to} announced a blob in a malformed way")))?;
        if announced > BLOB_BYTES_MAX {
            return Err(CallError::TooLarge {
                what: "blob",
                bytes: announced,
                max: BLOB_BYTES_MAX,
            });
        }
        let mut sink = BlobSink::create(into).await.map_err(|e| blame(to, e))?;
        let mut received = 0;
        while let Some(piece) = self
            .recv
            .read_chunk(PIECE_BYTES, true)
            .await
            .map_err(|error| CallError::Unknown(format!("{to}: {error}")))?
        {
            received += piece.bytes.len() as u64;
            if received > announced {
                let reason = format!("more bytes came than the {announced} announced");
                return Err(CallError::Corrupt { target: to, reason });
            }
            sink.write(&piece.bytes).await.map_err(|e| blame(to, e))?;
        }
        if received < announced {
            let reason = format!("{to} sent {received} of {announced} bytes of a blob");
            return Err(CallError::Unknown(reason));
        }
        sink.finish(hash).await.map_err(|e| blame(to, e))
    }
}

/// Whether a peer may be asked on this lane at all.
fn may_answer(to: Target, lane: Lane, dialled: &Dialled) -> Result<(), CallError> {
    let role = dialled.peer.role;
    if lane.may_answer(role) {
        return Ok(());
    }
    let reason = format!("a {role} answers no calls on lane {lane}");
    Err(CallError::Untrusted { target: to, reason })
}

/// What came back, or did not, to the caller.
fn understand(to: Target, reply: Result<(Outcome, Bytes), FrameError>) -> Result<Bytes, CallError> {
    match reply {
        Ok((outcome, body)) => judge(to, outcome, body),
        Err(FrameError::TooLarge(bytes)) => Err(too_large("reply", bytes)),
        Err(error) => Err(unanswered(to, &error)),
    }
}

/// What a stream that ended or makes no sense means to a caller whose request had left.
fn unanswered(to: Target, error: &FrameError) -> CallError {
    let reason = format!("{to}: {error}");
    match error {
        FrameError::Lost(_) => CallError::Lost(reason),
        FrameError::Unknown(_) | FrameError::TooLarge(_) => CallError::Unknown(reason),
    }
}

/// What a reply means to the caller.
fn judge(to: Target, outcome: Outcome, body: Bytes) -> Result<Bytes, CallError> {
    let text = || String::from_utf8_lossy(&body).into_owned();
    match outcome {
        Outcome::Done => Ok(body),
        Outcome::Refused => Err(CallError::Refused(text())),
        Outcome::ReplyTooLarge => Err(too_large("reply", text().parse().unwrap_or(0))),
        Outcome::Died => Err(CallError::Unknown(format!("{to} broke off the call"))),
        Outcome::TooLarge => Err(CallError::Unknown(format!(
            "{to} takes requests of {} bytes at most",
            text()
        ))),
    }
}

fn too_large(what: &'static str, bytes: u64) -> CallError {
    CallError::TooLarge {
        what,
        bytes,
        max: MESSAGE_BYTES_MAX as u64,
    }
}

/// Ends when the peer's host says that its port is closed, asked only while nothing arrives on the connection.
/// Meanwhile takes a connection that stays silent out of use, so that new calls try a fresh one.
async fn found_dead(pool: &Pool, address: SocketAddr, class: Class, dialled: &Dialled) {
    let mut doubt = DOUBT_AFTER;
    loop {
        let before = dialled.packets();
        sleep(doubt).await;
        if dialled.packets() != before {
            continue;
        }
        doubt = (2 * doubt).min(DOUBT_MAX);
        // An empty datagram has to be acknowledged and is otherwise ignored: a peer that merely works on a long
        // call shows that it lives. If it cannot be sent, the connection is closing and the call ends by itself.
        dialled.connection.send_datagram(Bytes::new()).ok();
        sleep(NUDGE).await;
        if dialled.packets() != before {
            continue;
        }
        if timeout(DOUBT_AFTER, refused(address)).await.is_ok() {
            return;
        }
        pool.suspect(address, class, dialled);
    }
}

impl Link for QuicLink {
    fn serve(&self, handler: Arc<dyn Handler>) {
        if self.serving.swap(true, Ordering::SeqCst) {
            tracing::error!(node = %self.node, "serve was called twice; the first handler stays");
            return;
        }
        let server = self.server(handler);
        self.runtime.spawn(server.run(self.endpoint.clone()));
    }

    fn call(
        &self,
        to: Target,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async move {
            if request.len() > MESSAGE_BYTES_MAX {
                return Err(too_large("request", request.len() as u64));
            }
            if request.len() <= PIECE_BYTES_MAX {
                return self.small_call(to, lane, request, deadline).await;
            }
            self.request(to, lane.into(), deadline, async |stream| {
                may_answer(to, lane, &stream.dialled)?;
                stream.dialled.wire.call_made();
                stream.ask(to, Kind::Call(lane), request).await
            })
            .await
        })
    }

    fn datagram(&self, to: Target, payload: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            if payload.len() > DATAGRAM_BYTES_MAX {
                self.gate.accounts.refused();
                return Err(CallError::TooLarge {
                    what: "datagram",
                    bytes: payload.len() as u64,
                    max: DATAGRAM_BYTES_MAX as u64,
                });
            }
            self.send_datagram(to, payload).await
        })
    }

    fn fetch<'a>(
        &'a self,
        to: Target,
        hash: BlobHash,
        into: &'a Path,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<u64, CallError>> {
        Box::pin(
            self.request(to, Class::Bulk, deadline, async move |stream| {
                stream.dialled.wire.call_made();
                stream.receive(to, hash, into).await
            }),
        )
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
        let class = Class::General;
        Box::pin(self.request(target, class, deadline, async move |stream| {
            // The round trip shows that the node still lives there.
            stream.ask(target, Kind::Hello, Bytes::new()).await?;
            Ok(stream.dialled.node())
        }))
    }

    fn port_refused(&self, address: SocketAddr, within: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async move { timeout(within, refused(address)).await.is_ok() })
    }

    fn attach(
        &self,
        relay: SocketAddr,
        within: Duration,
    ) -> BoxFuture<'_, Result<Attachment, CallError>> {
        Box::pin(self.lines.attach(relay, within))
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.endpoint.close(CLOSED, b"this node is leaving");
        Box::pin(async move {
            // Peers that do not hear the farewell notice by themselves.
            timeout(FAREWELL, self.endpoint.wait_idle()).await.ok();
        })
    }
}
