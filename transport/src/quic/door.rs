//! The door for machines that have no certificate yet. Connections to it are marked in their very first packet and meet
//! a TLS configuration of their own, so that the one for nodes needs no exception; the mark decides nothing else.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, ConnectionId, Endpoint, EndpointConfig, IdleTimeout, Incoming,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rand::RngExt;
use riftmesh_base::limits::JOIN_BYTES_MAX;
use riftmesh_base::{BlobHash, ClusterId};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::frame::{self, FrameError, Kind, Outcome};
use super::pool::DialFailure;
use super::relay::canonical;
use super::{CLOSED, judge, settings, trust};
use crate::identity::{CredentialError, NodeCredential, NodeName};
use crate::link::{CallError, Doorkeeper, Refused, Target};
use crate::tls;

/// The first bytes of the connection id that a stranger's first packet is addressed to. The other twelve are random.
const MARK: [u8; 8] = *b"rm-join1";
/// Strangers talked to at a time.
const STRANGERS_MAX: usize = 32;
/// A stranger has this long for its handshake and again for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// The answer waits for an entry in the log, and must then be taken.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A node's door.
pub(super) struct Door {
    config: Mutex<Arc<ServerConfig>>,
    /// What is shown to strangers who trust another authority than that of the node's own certificate.
    others: Mutex<Vec<NodeCredential>>,
    places: Semaphore,
}

impl Door {
    pub(super) fn new(credential: &NodeCredential) -> Result<Self, CredentialError> {
        Ok(Self {
            config: Mutex::new(server(&[credential])?),
            others: Mutex::default(),
            places: Semaphore::new(STRANGERS_MAX),
        })
    }

    pub(super) fn renew(&self, credential: &NodeCredential) -> Result<(), CredentialError> {
        let others = lock(&self.others);
        let all: Vec<_> = std::iter::once(credential).chain(others.iter()).collect();
        *lock(&self.config) = server(&all)?;
        Ok(())
    }

    /// Shows these, too, the next time that [`Door::renew`] is called.
    pub(super) fn replace_others(&self, others: Vec<NodeCredential>) {
        *lock(&self.others) = others;
    }

    pub(super) fn is_meant_by(incoming: &Incoming) -> bool {
        incoming.orig_dst_cid().starts_with(&MARK)
    }

    /// Hears one stranger out.
    pub(super) async fn open(&self, incoming: Incoming, keeper: &dyn Doorkeeper) {
        let from = canonical(incoming.remote_address());
        let Ok(_place) = self.places.try_acquire() else {
            tracing::warn!(%from, "a stranger was sent away: too many at the door");
            return incoming.refuse();
        };
        let config = Arc::clone(&lock(&self.config));
        let handshake = async { incoming.accept_with(config)?.await };
        let connection = match timeout(PATIENCE, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return tracing::debug!(%from, %error, "a stranger's handshake failed");
            }
            Err(_) => return tracing::debug!(%from, "a stranger's handshake took too long"),
        };
        match listen(&connection, from, keeper).await {
            // The stranger closes once it has the answer; one that does not is not waited for.
            Ok(()) => drop(timeout(PATIENCE, connection.closed()).await),
            Err(error) => tracing::debug!(%from, %error, "a stranger's request was dropped"),
        }
        connection.close(CLOSED, b"goodbye");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(
    connection: &Connection,
    from: SocketAddr,
    keeper: &dyn Doorkeeper,
) -> Result<(), FrameError> {
    let lost = |error: quinn::ConnectionError| FrameError::Lost(error.to_string());
    let late = |_| FrameError::Lost("it took too long".to_owned());
    let asked = async {
        let (send, mut recv) = connection.accept_bi().await.map_err(lost)?;
        let (kind, length) = frame::read_kind(&mut recv).await?;
        if kind != Kind::Knock {
            return Err(FrameError::Lost(format!("{kind:?} at the door")));
        }
        if length as usize > JOIN_BYTES_MAX {
            return Err(FrameError::TooLarge(u64::from(length)));
        }
        Ok((send, frame::read_body(&mut recv, length).await?))
    };
    let (mut send, request) = timeout(PATIENCE, asked).await.map_err(late)??;
    let answered = async {
        let (outcome, body) = match keeper.knocked(from, request).await {
            Ok(body) => (Outcome::Done, body),
            Err(Refused(reason)) => (Outcome::Refused, Bytes::from(reason)),
        };
        frame::write_reply(&mut send, outcome, body).await
    };
    timeout(ANSWER_MAX, answered).await.map_err(late)?
}

/// Asks the voter at `address` to be let in: one request, one answer, at most `JOIN_BYTES_MAX` each. Nothing is sent
/// before the other side has shown that it is a voter of `cluster`, certified by the authority with this fingerprint.
///
/// # Errors
/// [`CallError::Untrusted`] when it shows something else; see [`CallError`] for the rest.
pub async fn knock(
    address: SocketAddr,
    cluster: ClusterId,
    authority: BlobHash,
    request: Bytes,
    deadline: Duration,
) -> Result<Bytes, CallError> {
    let to = Target {
        node: None,
        address,
    };
    let unreachable = |reason: String| CallError::Unreachable { target: to, reason };
    let endpoint = stranger(address).map_err(|error| unreachable(error.to_string()))?;
    let config = client(authority, cluster).map_err(|error| unreachable(error.to_string()))?;
    let asked = async {
        let connection = endpoint
            .connect_with(config, address, &NodeName::door(authority, cluster))
            .map_err(|error| unreachable(error.to_string()))?
            .await
            .map_err(|error| blame_door(&error).blame(to))?;
        let answer = ask(&connection, to, request).await;
        connection.close(CLOSED, b"thank you");
        answer
    };
    let answer = timeout(deadline, asked).await.unwrap_or_else(|_| {
        Err(CallError::Unknown(format!(
            "{to} did not answer within {deadline:?}"
        )))
    });
    // Lets the farewell leave.
    timeout(PATIENCE, endpoint.wait_idle()).await.ok();
    answer
}

async fn ask(connection: &Connection, to: Target, request: Bytes) -> Result<Bytes, CallError> {
    let unknown = |error: String| CallError::Unknown(format!("{to}: {error}"));
    let opened = connection.open_bi().await;
    let (mut send, mut recv) = opened.map_err(|error| unknown(error.to_string()))?;
    frame::write_request(&mut send, Kind::Knock, request)
        .await
        .map_err(|error| unknown(error.to_string()))?;
    let (outcome, body) = frame::read_reply(&mut recv)
        .await
        .map_err(|error| unknown(error.to_string()))?;
    judge(to, outcome, body)
}

/// A door that is shut refuses the connection; only a voter with the cluster's authority opens one.
fn blame_door(error: &quinn::ConnectionError) -> DialFailure {
    match error {
        quinn::ConnectionError::ConnectionClosed(close)
            if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED =>
        {
            let reason = "it lets nobody in: no voter with the cluster's credential, or too busy";
            DialFailure::Unreachable(reason.to_owned())
        }
        other => trust::blame(other),
    }
}

fn stranger(address: SocketAddr) -> std::io::Result<Endpoint> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    let config = EndpointConfig::default();
    Endpoint::new(config, None, socket, Arc::new(TokioRuntime))
}

fn client(authority: BlobHash, cluster: ClusterId) -> Result<ClientConfig, CredentialError> {
    let crypto = QuicClientConfig::try_from(tls::stranger(authority, cluster)?)
        .map_err(|e| CredentialError::Crypto(e.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    config.initial_dst_cid_provider(Arc::new(marked_id));
    Ok(config)
}

/// What a stranger's first packet is addressed to.
pub(super) fn marked_id() -> ConnectionId {
    let mut id = [0; 20];
    id[..MARK.len()].copy_from_slice(&MARK);
    rand::rng().fill(&mut id[MARK.len()..]);
    ConnectionId::new(&id)
}

fn server(credentials: &[&NodeCredential]) -> Result<Arc<ServerConfig>, CredentialError> {
    let crypto = QuicServerConfig::try_from(tls::door(credentials)?)
        .map_err(|e| CredentialError::Crypto(e.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    Ok(Arc::new(config))
}

/// A stranger has one stream, no datagrams, and little room.
fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let window = VarInt::from_u32(4 * settings::bytes_u32(JOIN_BYTES_MAX));
    config
        .max_idle_timeout(IdleTimeout::try_from(ANSWER_MAX + PATIENCE).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(window)
        .receive_window(window)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}
