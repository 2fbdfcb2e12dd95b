//! Who sends the junk: a socket that belongs to nobody, and a peer with a certificate of the cluster that builds its packets
//! and frames itself.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, Endpoint};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::NodeId;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::UdpSocket;

use riftmesh_tests::mesh::live::LiveMembers;

/// What the peer with the certificate is called.
const NODE: NodeId = NodeId(99);
/// Longest packet sent.
const PACKET_BYTES_MAX: usize = 1_400;
/// The kinds of streams that there are, and some that there are not.
const STREAM_KINDS: u8 = 9;
/// The kind that makes a line of a connection.
const RELAY: u8 = 6;
/// Packets recorded of an honest handshake, to be sent again with changes.
const RECORDED_MAX: usize = 64;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything, from nobody.
    Random,
    /// A packet of an honest handshake, changed, from nobody.
    Mutated,
    /// A gossip datagram or a piece of one, from the peer.
    Gossip,
    /// The beginning of a request, from the peer.
    Request,
    /// The beginning of a one-way stream, from the peer.
    OneWay,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Random,
        Self::Mutated,
        Self::Gossip,
        Self::Request,
        Self::OneWay,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Random => "random packets",
            Self::Mutated => "mutated packets",
            Self::Gossip => "gossip datagrams",
            Self::Request => "requests",
            Self::OneWay => "one-way streams",
        })
    }
}

pub struct Attacker {
    rng: StdRng,
    stranger: UdpSocket,
    recorded: Vec<Bytes>,
    endpoint: Endpoint,
    name: String,
    connections: Vec<(SocketAddr, Connection)>,
    counts: [u64; Kind::ALL.len()],
}

impl Attacker {
    pub async fn new(members: &LiveMembers, seed: u64) -> Result<Self, Box<dyn Error>> {
        let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        endpoint.set_default_client_config(client(members)?);
        let name = format!("node.{}.riftmesh", members.cluster());
        let mut attacker = Self {
            rng: StdRng::seed_from_u64(seed),
            stranger: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            recorded: record(members, &name).await?,
            endpoint,
            name,
            connections: Vec::new(),
            counts: Default::default(),
        };
        for address in members.addresses() {
            for _ in 0..2 {
                let connection = attacker.dial(address).await?;
                attacker.connections.push((address, connection));
            }
        }
        Ok(attacker)
    }

    pub fn sent(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// Sends one piece to one of the members.
    pub async fn send(&mut self) -> Result<(), Box<dyn Error>> {
        let kind = Kind::ALL[self.rng.random_range(0..Kind::ALL.len())];
        let to = self.rng.random_range(0..self.connections.len());
        let (address, connection) = self.connections[to].clone();
        let sent = match kind {
            Kind::Random => {
                let packet = self.bytes(PACKET_BYTES_MAX);
                self.strange(&packet, address).await
            }
            Kind::Mutated => {
                let packet = self.mutated();
                self.strange(&packet, address).await
            }
            Kind::Gossip => {
                let payload = self.bytes(1_100);
                connection.send_datagram_wait(payload.into()).await.is_ok()
            }
            Kind::Request => self.request(&connection, to % 2 == 0).await.is_some(),
            Kind::OneWay => self.one_way(&connection).await.is_some(),
        };
        if !sent {
            // The member may close a connection on which it heard nonsense; the peer comes again.
            let connection = self.dial(address).await?;
            self.connections[to].1 = connection;
        }
        self.counts[kind as usize] += 1;
        Ok(())
    }

    async fn dial(&self, address: SocketAddr) -> Result<Connection, Box<dyn Error>> {
        Ok(self.endpoint.connect(address, &self.name)?.await?)
    }

    /// A full socket loses it, which is as good.
    async fn strange(&self, packet: &[u8], to: SocketAddr) -> bool {
        self.stranger.send_to(packet, to).await.ok();
        true
    }

    /// A frame with a kind, a length that may be wrong and a body that may be cut, on a stream that is ended or dropped.
    /// Every other connection never becomes a line to a relay, on which gossip is no gossip any more.
    async fn request(&mut self, connection: &Connection, is_plain: bool) -> Option<()> {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        let body = self.bytes(200);
        let kind = self.rng.random_range(0..STREAM_KINDS);
        let is_line = is_plain && kind == RELAY;
        let mut frame = vec![if is_line { 0 } else { kind }];
        let length = match self.rng.random_range(0..4) {
            0 => self.rng.random(),
            1 => self.rng.random_range(0..1_000),
            _ => body.len() as u32,
        };
        frame.extend(length.to_be_bytes());
        frame.extend(&body);
        let cut = self.rng.random_range(0..=frame.len());
        // Most of them whole, so that what is behind the frames hears nonsense too.
        let whole = self.rng.random_bool(0.7);
        let frame = if whole { &frame[..] } else { &frame[..cut] };
        send.write_all(frame).await.ok()?;
        if self.rng.random_bool(0.8) {
            send.finish().ok()?;
        } else {
            send.reset(0_u32.into()).ok()?;
        }
        recv.stop(0_u32.into()).ok();
        Some(())
    }

    async fn one_way(&mut self, connection: &Connection) -> Option<()> {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&self.bytes(2_000)).await.ok()?;
        if self.rng.random_bool(0.8) {
            stream.finish().ok()
        } else {
            stream.reset(0_u32.into()).ok()
        }
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.rng.random_range(1..=max)];
        self.rng.fill(&mut bytes[..]);
        // Small numbers name kinds and variants more often than others.
        if self.rng.random_bool(0.5) {
            bytes[0] %= 8;
        }
        bytes
    }

    fn mutated(&mut self) -> Vec<u8> {
        let at = self.rng.random_range(0..self.recorded.len());
        let mut packet = self.recorded[at].to_vec();
        for _ in 0..self.rng.random_range(1..4) {
            let at = self.rng.random_range(0..packet.len());
            match self.rng.random_range(0..3) {
                0 if at > 0 => packet.truncate(at),
                1 => packet[at] = self.rng.random(),
                _ => packet[at] ^= 1 << self.rng.random_range(0..8),
            }
        }
        packet
    }
}

/// The packets that a client sends in an honest handshake with a member and just after it.
async fn record(members: &LiveMembers, name: &str) -> Result<Vec<Bytes>, Box<dyn Error>> {
    let member = *members.addresses().first().ok_or("no members")?;
    let (front, back) = (
        Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?),
        Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?),
    );
    back.connect(member).await?;
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(client(members)?);
    let (client, address) = (endpoint.local_addr()?, front.local_addr()?);
    let answers = tokio::spawn({
        let (front, back) = (Arc::clone(&front), Arc::clone(&back));
        async move {
            let mut packet = [0; 2_048];
            while let Ok(length) = back.recv(&mut packet).await {
                front.send_to(&packet[..length], client).await.ok();
            }
        }
    });
    let honest = endpoint.connect(address, name)?;
    tokio::pin!(honest);
    let (mut recorded, mut packet) = (Vec::new(), [0; 2_048]);
    let mut standing = None;
    while recorded.len() < RECORDED_MAX {
        tokio::select! {
            connection = &mut honest, if standing.is_none() => {
                let connection = connection?;
                for _ in 0..RECORDED_MAX {
                    connection.send_datagram(Bytes::new())?;
                }
                standing = Some(connection);
            }
            length = front.recv(&mut packet) => {
                let length = length?;
                recorded.push(Bytes::copy_from_slice(&packet[..length]));
                back.send(&packet[..length]).await?;
            }
            () = tokio::time::sleep(std::time::Duration::from_secs(1)), if standing.is_some() => break,
        }
    }
    answers.abort();
    Ok(recorded)
}

/// A client of the cluster, made from what a node has on its disk.
fn client(members: &LiveMembers) -> Result<quinn::ClientConfig, Box<dyn Error>> {
    let pem = members.credential(NODE)?.to_pem();
    let sections = pem::parse_many(&pem)?;
    let [key, certificate, authority] = &sections[..] else {
        return Err("a credential has three parts".into());
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.contents().to_vec()))?;
    let key = PrivateKeyDer::try_from(key.contents().to_vec())?;
    let chain = vec![CertificateDer::from(certificate.contents().to_vec())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = vec![b"riftmesh/2".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    Ok(quinn::ClientConfig::new(Arc::new(crypto)))
}
