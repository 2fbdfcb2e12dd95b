//! What the endpoint is tuned to, and the sockets and configurations built from it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};
use rand::RngExt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::identity::{CredentialError, NodeCredential};
use crate::tls;

/// Tuning of a QUIC endpoint. The defaults are meant for production; tests shorten some of them.
#[derive(Debug, Clone)]
pub struct QuicSettings {
    /// Whoever dialled a connection sends a packet on it at least this often.
    pub keep_alive: Duration,
    /// A connection silent for this long is lost.
    pub idle: Duration,
    /// The same for connections that carry gossip only. In time there is one to every member, and each is used once in a round
    /// of probes: what keeps them alive must not cost more than the gossip.
    pub gossip_keep_alive: Duration,
    /// See [`QuicSettings::gossip_keep_alive`]. Whether a member lives is found out by probing it, not by this.
    pub gossip_idle: Duration,
    /// A new connection must stand within this time.
    pub dial: Duration,
    /// Connections for gossip that are dialled at a time; others wait. A machine that starts more handshakes than it can finish in
    /// time finishes none.
    pub gossip_dials_max: usize,
    /// Connections kept open to peers at most; beyond that the least recently used ones are let go.
    pub connections_dialled_max: usize,
    /// Connections accepted from peers at most; more are refused.
    pub connections_accepted_max: usize,
    /// Calls answered at a time on each lane.
    pub calls_per_lane_max: usize,
    /// Blobs served at a time.
    pub blobs_served_max: usize,
    /// Nodes that this one relays for at most.
    pub relay_lines_max: usize,
    /// Bytes a second that each of them, and each node that talks to one of them, may send through this one.
    pub relay_bytes_per_second: u32,
    /// How long a call may wait for one of those places before it is refused as overloaded.
    pub patience: Duration,
}

impl Default for QuicSettings {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(5),
            idle: Duration::from_secs(20),
            gossip_keep_alive: Duration::from_secs(140),
            gossip_idle: Duration::from_secs(300),
            dial: Duration::from_secs(3),
            gossip_dials_max: 32,
            connections_dialled_max: 2_048,
            connections_accepted_max: 4_096,
            calls_per_lane_max: 1_024,
            blobs_served_max: 32,
            relay_lines_max: 512,
            relay_bytes_per_second: 8 << 20,
            patience: Duration::from_secs(1),
        }
    }
}

/// Streams that one connection may have open at a time.
const STREAMS_MAX: u32 = 1_024;
/// One-way streams carry only datagrams that do not fit a packet.
const UNI_STREAMS_MAX: u32 = 64;
/// Bytes in flight on one stream and on one connection: 1 Gbit/s over 100 ms is 12 MB.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Datagrams waiting to be read or sent; the oldest are dropped.
const DATAGRAM_BUFFER_BYTES: usize = 1 << 20;
/// Largest packet that a path is tried with: within one machine and where frames are jumbo, a sixth of the packets do. The
/// library hands ten of them to the system at once, which takes 64 KiB.
const PACKET_BYTES_MAX: u16 = 6_144;
/// A peer acknowledges after so many packets, or after this time. Most calls are answered sooner, and the answer says as much.
const ACK_EVERY_PACKETS: u32 = 10;
const ACK_WITHIN: Duration = Duration::from_millis(5);
/// Asked of the operating system, which may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A bound from `limits`, as QUIC counts.
pub(super) const fn bytes_u32(bytes: usize) -> u32 {
    assert!(bytes <= 1 << 24, "small enough for every window");
    bytes as u32
}

/// What is sent so that a connection does not end, how often, and after what silence it ends all the same.
struct Patience {
    keep_alive: Option<Duration>,
    idle: Duration,
}

fn transport(patience: &Patience) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(patience.keep_alive)
        .max_idle_timeout(IdleTimeout::try_from(patience.idle).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    let mut path = MtuDiscoveryConfig::default();
    path.upper_bound(PACKET_BYTES_MAX);
    let mut acknowledging = AckFrequencyConfig::default();
    acknowledging
        .ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY_PACKETS))
        .max_ack_delay(Some(ACK_WITHIN));
    config
        .mtu_discovery_config(Some(path))
        .ack_frequency_config(Some(acknowledging));
    Arc::new(config)
}

/// Who answers leaves it to who dialled to keep the connection alive, and to say how long its silence may last: of what both
/// sides offer the shorter time counts.
pub(super) fn server(
    credential: &NodeCredential,
    settings: &QuicSettings,
) -> Result<ServerConfig, CredentialError> {
    let crypto = QuicServerConfig::try_from(tls::server(credential)?)
        .map_err(|e| CredentialError::Crypto(e.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(&Patience {
        keep_alive: None,
        idle: settings.gossip_idle.max(settings.idle),
    }));
    config.max_incoming(settings.connections_accepted_max);
    Ok(config)
}

/// What connections are dialled with.
#[derive(Clone)]
pub(super) struct DialConfigs {
    pub(super) usual: ClientConfig,
    /// For those that carry gossip only.
    pub(super) gossip: ClientConfig,
}

pub(super) fn client(
    credential: &NodeCredential,
    settings: &QuicSettings,
) -> Result<DialConfigs, CredentialError> {
    let crypto = QuicClientConfig::try_from(tls::client(credential)?)
        .map_err(|e| CredentialError::Crypto(e.to_string()))?;
    let mut usual = ClientConfig::new(Arc::new(crypto));
    let mut gossip = usual.clone();
    usual.transport_config(transport(&Patience {
        keep_alive: Some(settings.keep_alive),
        idle: settings.idle,
    }));
    gossip.transport_config(transport(&Patience {
        keep_alive: Some(settings.gossip_keep_alive),
        idle: settings.gossip_idle,
    }));
    Ok(DialConfigs { usual, gossip })
}

/// A restarted node must be able to tell its peers that their old connections are gone, so the key of those
/// resets is derived from the node's key instead of being drawn at each start.
pub(super) fn endpoint(credential: &NodeCredential) -> Result<EndpointConfig, CredentialError> {
    let secret = credential.key.secret_pkcs8_der();
    let key = blake3::derive_key("riftmesh 2026 QUIC stateless reset", secret);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(key)));
    config.cid_generator(|| Box::new(RandomIds));
    config
        .max_udp_payload_size(PACKET_BYTES_MAX)
        .map_err(|e| CredentialError::Crypto(e.to_string()))?;
    Ok(config)
}

struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let signature = blake3::keyed_hash(&self.0, data);
        signature_out.copy_from_slice(&signature.as_bytes()[..signature_out.len()]);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Hashes compare in constant time.
        let given = <[u8; 32]>::try_from(signature).map_err(|_| CryptoError)?;
        let valid = blake3::keyed_hash(&self.0, data) == blake3::Hash::from_bytes(given);
        valid.then_some(()).ok_or(CryptoError)
    }
}

/// Random connection ids. The library's default ids carry a per-process mark and a restarted node would drop
/// packets with an older mark in silence instead of resetting their connection.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::rng().random::<[u8; 8]>())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A bound socket with large buffers: the default ones lose bursts while the process is busy.
pub(super) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
