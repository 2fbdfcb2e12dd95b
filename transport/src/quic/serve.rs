//! The answering side: connections accepted from peers, and the streams and datagrams on them.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use riftmesh_base::BlobHash;
use riftmesh_base::limits::{BLOB_BYTES_MAX, DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::STRANGER;
use super::accounts::Wire;
use super::door::Door;
use super::frame::{self, FrameError, Kind, Outcome};
use super::gate::Gate;
use super::pieces::{self, Message, Pieces};
use super::relay::{FRAME_BYTES_MAX, Port, Switchboard, canonical};
use super::settings::QuicSettings;
use crate::identity::CertificateFacts;
use crate::link::{Handler, Lane, Peer, Refused};

/// A peer must finish its handshake, send its request and take its reply within this time each.
const PEER_PATIENCE: Duration = Duration::from_secs(30);
/// A blob's peer must take each piece within this time.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a blob read from disk at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Calls of one peer that are carried out at a time, as far as they share a stream.
const CALLS_OPEN_MAX: usize = 1_024;
/// Behind everything else on the wire.
const BULK_PRIORITY: i32 = -1;

/// Longest one-way stream: a datagram that did not fit a packet, or a message on a line.
const ONE_WAY_BYTES_MAX: usize = if DATAGRAM_BYTES_MAX > FRAME_BYTES_MAX {
    DATAGRAM_BYTES_MAX
} else {
    FRAME_BYTES_MAX
};

/// The other end of an accepted connection.
#[derive(Clone)]
struct Caller {
    from: Peer,
    connection: Connection,
    gate: Arc<Gate>,
    /// The connection's place on the peer's account.
    wire: Arc<Wire>,
    /// Set once it has asked for the connection to be a line.
    port: Arc<OnceLock<Port>>,
    /// Room for calls that share a stream.
    open: Arc<Semaphore>,
}

impl Caller {
    /// Gives a datagram to whom it is for.
    fn sort(&self, handler: &dyn Handler, payload: Bytes) {
        if payload.is_empty() {
            // It only asks for an acknowledgement.
        } else if let Some(port) = self.port.get() {
            port.take(payload);
        } else if payload.len() <= DATAGRAM_BYTES_MAX {
            self.wire.datagram_received();
            handler.datagram(self.from, payload);
        } else {
            self.gate.accounts.dropped();
            tracing::debug!(peer = %self.from.node, bytes = payload.len(), "datagram too long");
        }
    }
}

/// Answers what arrives at an endpoint.
pub(super) struct Server {
    gate: Arc<Gate>,
    door: Arc<Door>,
    board: Arc<Switchboard>,
    handler: Arc<dyn Handler>,
    raft: Semaphore,
    client: Semaphore,
    mesh: Semaphore,
    blobs: Semaphore,
    connections: Arc<Semaphore>,
    patience: Duration,
}

impl Server {
    pub(super) fn new(
        gate: Arc<Gate>,
        door: Arc<Door>,
        board: Arc<Switchboard>,
        handler: Arc<dyn Handler>,
        settings: &QuicSettings,
    ) -> Self {
        let lane = || Semaphore::new(settings.calls_per_lane_max);
        Self {
            gate,
            door,
            board,
            handler,
            raft: lane(),
            client: lane(),
            mesh: lane(),
            blobs: Semaphore::new(settings.blobs_served_max),
            connections: Arc::new(Semaphore::new(settings.connections_accepted_max)),
            patience: settings.patience,
        }
    }

    /// Accepts connections until the endpoint is closed.
    pub(super) async fn run(self: Arc<Self>, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(place) = self.connections.clone().try_acquire_owned() else {
                tracing::warn!(from = %incoming.remote_address(), "refused: too many connections");
                incoming.refuse();
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                server.welcome(incoming).await;
                drop(place);
            });
        }
    }

    async fn welcome(self: &Arc<Self>, incoming: Incoming) {
        if Door::is_meant_by(&incoming) {
            match self.handler.door() {
                Some(keeper) => self.door.open(incoming, keeper).await,
                None => incoming.refuse(),
            }
            return;
        }
        let address = canonical(incoming.remote_address());
        let connection = match timeout(PEER_PATIENCE, incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.gate.note_failed(address, &error);
                return tracing::debug!(%address, %error, "handshake failed");
            }
            Err(_) => return tracing::debug!(%address, "handshake took too long"),
        };
        match self.gate.check(&connection) {
            Ok(facts) => self.attend(&connection, &facts, address).await,
            Err(reason) => tracing::warn!(%address, reason = reason.text, "refused"),
        }
    }

    /// Serves one connection until it ends, or the certificate behind it does.
    async fn attend(
        self: &Arc<Self>,
        connection: &Connection,
        facts: &CertificateFacts,
        address: SocketAddr,
    ) {
        let from = Peer {
            node: facts.name.node,
            role: facts.role,
            address,
        };
        let caller = Caller {
            from,
            connection: connection.clone(),
            gate: Arc::clone(&self.gate),
            wire: self.gate.accounts.of(from.node).open(connection),
            port: Arc::default(),
            open: Arc::new(Semaphore::new(CALLS_OPEN_MAX)),
        };
        let end = self.gate.end_of(facts);
        tokio::pin!(end);
        loop {
            tokio::select! {
                reason = &mut end => {
                    tracing::warn!(%address, reason = reason.text, "a connection was ended");
                    self.gate.refusals.note(reason.word);
                    return connection.close(STRANGER, reason.text.as_bytes());
                }
                stream = connection.accept_bi() => {
                    let Ok((send, recv)) = stream else { return };
                    let (server, caller) = (self.clone(), caller.clone());
                    tokio::spawn(async move {
                        if let Err(error) = server.answer(caller, send, recv).await {
                            tracing::debug!(peer = %from.node, %error, "request dropped");
                        }
                    });
                }
                stream = connection.accept_uni() => {
                    let Ok(recv) = stream else { return };
                    tokio::spawn(large_datagram(self.handler.clone(), caller.clone(), recv));
                }
                datagram = connection.read_datagram() => {
                    let Ok(payload) = datagram else { return };
                    caller.sort(self.handler.as_ref(), payload);
                }
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        caller: Caller,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), FrameError> {
        let (kind, length) = patiently(frame::read_kind(&mut recv)).await?;
        let from = caller.from;
        match kind {
            Kind::Hello => reply(send, Outcome::Done, Bytes::new()).await,
            Kind::Call(lane) => {
                caller.wire.call_answered();
                self.call(from, lane, length, send, recv).await
            }
            Kind::Calls => self.calls(caller, send, recv).await,
            Kind::Blob => {
                caller.wire.call_answered();
                self.blob(from, length, send, recv).await
            }
            Kind::Relay => match self.board.connect(from.node, &caller.connection) {
                Ok(port) => {
                    // It was a line already if that fails, and stays one.
                    caller.port.set(port).ok();
                    reply(send, Outcome::Done, Bytes::new()).await
                }
                Err(reason) => reply(send, Outcome::Refused, reason.into()).await,
            },
            Kind::Knock => Err(FrameError::Lost(
                "a knock on a node's connection".to_owned(),
            )),
        }
    }

    /// Carries out what comes on a stream of many calls, all at once and each in its own time.
    async fn calls(
        self: Arc<Self>,
        caller: Caller,
        send: SendStream,
        recv: RecvStream,
    ) -> Result<(), FrameError> {
        let (replies, queue) = mpsc::channel(CALLS_OPEN_MAX);
        tokio::spawn(async move {
            if let Err(error) = pieces::write_all(send, queue).await {
                tracing::debug!(%error, "replies dropped");
            }
        });
        let mut requests = Pieces::new(recv);
        while let Some(request) = requests.next().await? {
            let lane = match Kind::of(request.tag)? {
                Kind::Call(lane) if request.is_last => lane,
                _ => return Err(FrameError::Unknown(request.tag)),
            };
            caller.wire.call_answered();
            // Nothing more is read while so many calls of this peer are open.
            let Ok(open) = Arc::clone(&caller.open).acquire_owned().await else {
                return Ok(());
            };
            let Ok(place) = replies.clone().reserve_owned().await else {
                return Ok(());
            };
            let answer = Answer {
                place: Some(place),
                number: request.number,
            };
            let (server, from) = (Arc::clone(&self), caller.from);
            tokio::spawn(async move {
                answer.give(server.carry_out(from, lane, request.body).await);
                drop(open);
            });
        }
        Ok(())
    }

    async fn carry_out(&self, from: Peer, lane: Lane, request: Bytes) -> (Outcome, Bytes) {
        match self.admit(from, lane).await {
            Ok(_place) => self.handle(from, lane, request).await,
            Err(reason) => (Outcome::Refused, reason),
        }
    }

    /// A place for a call on a lane, or why there is none.
    async fn admit(&self, from: Peer, lane: Lane) -> Result<SemaphorePermit<'_>, Bytes> {
        if !lane.may_ask(from.role) {
            return Err(format!("a {} does not call on lane {lane}", from.role).into());
        }
        let place = self.place(self.places(lane)).await;
        place.ok_or_else(|| self.overloaded(lane))
    }

    async fn handle(&self, from: Peer, lane: Lane, request: Bytes) -> (Outcome, Bytes) {
        match self.handler.call(from, lane, request).await {
            Ok(body) if body.len() > MESSAGE_BYTES_MAX => {
                (Outcome::ReplyTooLarge, body.len().to_string().into())
            }
            Ok(body) => (Outcome::Done, body),
            Err(Refused(reason)) => (Outcome::Refused, reason.into()),
        }
    }

    /// One large call. The place comes before the body: requests that wait for one cost no memory.
    async fn call(
        &self,
        from: Peer,
        lane: Lane,
        length: u32,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), FrameError> {
        let _place = match self.admit(from, lane).await {
            Ok(place) => place,
            Err(reason) => return reply(send, Outcome::Refused, reason).await,
        };
        let request = match patiently(frame::read_body(&mut recv, length)).await {
            Err(FrameError::TooLarge(_)) => {
                let bound = MESSAGE_BYTES_MAX.to_string();
                return reply(send, Outcome::TooLarge, bound.into()).await;
            }
            request => request?,
        };
        let (outcome, body) = self.handle(from, lane, request).await;
        reply(send, outcome, body).await
    }

    async fn blob(
        &self,
        from: Peer,
        length: u32,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), FrameError> {
        let Some(_place) = self.place(&self.blobs).await else {
            return reply(send, Outcome::Refused, self.overloaded("blob")).await;
        };
        let body = patiently(frame::read_body(&mut recv, length)).await?;
        let Ok(hash) = <[u8; 32]>::try_from(&body[..]) else {
            return reply(send, Outcome::Refused, "a blob hash has 32 bytes".into()).await;
        };
        let hash = BlobHash(hash);
        let Some(path) = self.handler.blob(from, hash) else {
            return reply(
                send,
                Outcome::Refused,
                format!("no blob {hash} here").into(),
            )
            .await;
        };
        match tokio::fs::File::open(&path).await {
            Ok(file) => pour(file, send).await,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a blob cannot be read");
                reply(
                    send,
                    Outcome::Refused,
                    format!("blob {hash} cannot be read here").into(),
                )
                .await
            }
        }
    }

    fn places(&self, lane: Lane) -> &Semaphore {
        match lane {
            Lane::Raft => &self.raft,
            Lane::Client => &self.client,
            Lane::Mesh => &self.mesh,
        }
    }

    async fn place<'a>(&self, places: &'a Semaphore) -> Option<SemaphorePermit<'a>> {
        timeout(self.patience, places.acquire()).await.ok()?.ok()
    }

    fn overloaded(&self, what: impl std::fmt::Display) -> Bytes {
        format!(
            "overloaded: no place on lane {what} within {:?}; try again later",
            self.patience
        )
        .into()
    }
}

/// The answer that is owed to a call on a shared stream.
struct Answer {
    place: Option<OwnedPermit<Message>>,
    number: u32,
}

impl Answer {
    fn give(mut self, (outcome, body): (Outcome, Bytes)) {
        self.send(outcome, body);
    }

    fn send(&mut self, outcome: Outcome, body: Bytes) {
        if let Some(place) = self.place.take() {
            let (tag, number) = (outcome.byte(), self.number);
            place.send(Message { tag, number, body });
        }
    }
}

impl Drop for Answer {
    /// The handler panicked, or its runtime is going down: the caller need not wait until its deadline.
    fn drop(&mut self) {
        self.send(Outcome::Died, Bytes::new());
    }
}

async fn reply(mut send: SendStream, outcome: Outcome, body: Bytes) -> Result<(), FrameError> {
    patiently(frame::write_reply(&mut send, outcome, body)).await
}

async fn patiently<T>(work: impl Future<Output = Result<T, FrameError>>) -> Result<T, FrameError> {
    timeout(PEER_PATIENCE, work).await.unwrap_or_else(|_| {
        Err(FrameError::Lost(format!(
            "the peer took over {PEER_PATIENCE:?}"
        )))
    })
}

/// Announces the file's length in the reply and streams its bytes behind it.
async fn pour(mut file: tokio::fs::File, mut send: SendStream) -> Result<(), FrameError> {
    let disk = |error: std::io::Error| FrameError::Lost(format!("reading the blob: {error}"));
    let length = file.metadata().await.map_err(disk)?.len();
    if length > BLOB_BYTES_MAX {
        let reason = format!("the blob has {length} bytes, over the bound of {BLOB_BYTES_MAX}");
        return reply(send, Outcome::Refused, reason.into()).await;
    }
    // Fails only on a stream that has ended; writing would report that.
    send.set_priority(BULK_PRIORITY).ok();
    let announced = Bytes::copy_from_slice(&length.to_be_bytes());
    frame::write_head(&mut send, Outcome::Done, announced).await?;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        if file.read_buf(&mut piece).await.map_err(disk)? == 0 {
            send.finish().ok();
            return Ok(());
        }
        timeout(PIECE_PATIENCE, send.write_chunk(piece.freeze()))
            .await
            .map_err(|_| FrameError::Lost("the peer stopped taking the blob".to_owned()))??;
    }
}

/// A datagram that did not fit a packet came as a stream.
async fn large_datagram(handler: Arc<dyn Handler>, caller: Caller, mut recv: RecvStream) {
    let peer = caller.from.node;
    match timeout(PEER_PATIENCE, recv.read_to_end(ONE_WAY_BYTES_MAX)).await {
        Ok(Ok(payload)) => caller.sort(handler.as_ref(), payload.into()),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "datagram stream dropped"),
        Err(_) => tracing::debug!(%peer, "datagram stream took too long"),
    }
}
