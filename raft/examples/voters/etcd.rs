//! The same calls to three etcd processes on the same disk, over gRPC.
//!
//! How this client differs: plain HTTP/2 over TCP instead of QUIC with both sides authenticated, and etcd's key-value
//! `Put` and `Range` instead of a setting of the replicated state. As with the voters, callers share a few connections
//! and talk to the leader. The three messages that are needed are encoded by hand.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, Version};
use tokio::net::TcpStream;

use crate::group::{CONNECTIONS, VOTERS};

const READY_MAX: Duration = Duration::from_secs(30);

pub struct Etcd {
    members: Vec<Child>,
    connections: Vec<SendRequest<Bytes>>,
    leader: SocketAddr,
    pub version: String,
}

impl Etcd {
    /// Three fresh members below `directory`, or `None` when there is no `etcd` on the PATH.
    pub async fn start(directory: &Path) -> Result<Option<Self>, Box<dyn Error>> {
        let Ok(output) = Command::new("etcd").arg("--version").output() else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().unwrap_or("etcd").to_owned();
        let ports = free_ports(2 * VOTERS)?;
        let peers: Vec<String> = (0..VOTERS)
            .map(|n| format!("m{n}=http://127.0.0.1:{}", ports[n]))
            .collect();
        let peers = peers.join(",");
        let members: Result<Vec<Child>, _> = (0..VOTERS)
            .map(|n| {
                let (peer, client) = (
                    format!("http://127.0.0.1:{}", ports[n]),
                    format!("http://127.0.0.1:{}", ports[VOTERS + n]),
                );
                Command::new("etcd")
                    .args(["--name", &format!("m{n}"), "--log-level", "error"])
                    .arg("--data-dir")
                    .arg(directory.join(n.to_string()))
                    .args(["--listen-peer-urls", &peer])
                    .args(["--initial-advertise-peer-urls", &peer])
                    .args(["--listen-client-urls", &client])
                    .args(["--advertise-client-urls", &client])
                    .args(["--initial-cluster", &peers])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
            })
            .collect();
        let mut etcd = Self {
            members: members?,
            connections: Vec::new(),
            leader: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            version,
        };
        etcd.leader = leader(&ports[VOTERS..]).await?;
        for _ in 0..CONNECTIONS {
            etcd.connections.push(connect(etcd.leader).await?);
        }
        Ok(Some(etcd))
    }

    /// The members' processes.
    pub fn processes(&self) -> Vec<u32> {
        self.members.iter().map(Child::id).collect()
    }

    /// One caller's end.
    pub fn caller(&self, caller: usize) -> Caller {
        Caller(self.connections[caller % self.connections.len()].clone())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill().ok();
            member.wait().ok();
        }
    }
}

/// Makes calls on a connection that it shares.
#[derive(Clone)]
pub struct Caller(SendRequest<Bytes>);

impl Caller {
    pub async fn put(self, key: &str, value: &[u8]) -> Result<(), String> {
        let mut message = BytesMut::new();
        field(&mut message, 1, key.as_bytes());
        field(&mut message, 2, value);
        self.call("/etcdserverpb.KV/Put", &message).await.map(drop)
    }

    /// A linearizable read of one key.
    pub async fn get(self, key: &str) -> Result<(), String> {
        let mut message = BytesMut::new();
        field(&mut message, 1, key.as_bytes());
        let reply = self.call("/etcdserverpb.KV/Range", &message).await?;
        // A response header alone has less than 64 bytes; the value has 64.
        (reply.len() > 64)
            .then_some(())
            .ok_or_else(|| "no value".to_owned())
    }

    /// A unary gRPC call: one message there, one back, the status in the trailers.
    async fn call(self, path: &str, message: &[u8]) -> Result<Bytes, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://etcd{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|e| text(&e))?;
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.put_slice(message);
        let mut connection = self.0.ready().await.map_err(|e| text(&e))?;
        let (response, mut body) = connection
            .send_request(request, false)
            .map_err(|e| text(&e))?;
        body.send_data(frame.freeze(), true).map_err(|e| text(&e))?;
        let mut reply = response.await.map_err(|e| text(&e))?.into_body();
        let mut bytes = BytesMut::new();
        while let Some(part) = reply.data().await {
            let part = part.map_err(|e| text(&e))?;
            reply
                .flow_control()
                .release_capacity(part.len())
                .map_err(|e| text(&e))?;
            bytes.put(part);
        }
        let trailers = reply.trailers().await.map_err(|e| text(&e))?;
        let status = trailers
            .as_ref()
            .and_then(|trailers| trailers.get("grpc-status")?.to_str().ok());
        if status != Some("0") {
            return Err(format!("gRPC status {status:?}"));
        }
        if bytes.len() < 5 {
            return Err("no message".to_owned());
        }
        bytes.advance(5);
        Ok(bytes.freeze())
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Bytes>, Box<dyn Error>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to etcd ended");
        }
    });
    Ok(sender)
}

/// Asks every member who it is and who leads, until one says that it leads itself.
async fn leader(ports: &[u16]) -> Result<SocketAddr, Box<dyn Error>> {
    let deadline = Instant::now() + READY_MAX;
    while Instant::now() < deadline {
        for port in ports {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            if let Ok(connection) = connect(address).await
                && let Ok(reply) = Caller(connection)
                    .call("/etcdserverpb.Maintenance/Status", &[])
                    .await
                && leads(&reply).unwrap_or(false)
            {
                return Ok(address);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("etcd has no leader".into())
}

/// Whether a `StatusResponse` (1: header with 2: member id; 4: leader) comes from the leader.
fn leads(reply: &[u8]) -> Option<bool> {
    let header = field_of(reply, 1)?;
    let member = field_of(header.bytes()?, 2)?.number()?;
    let leader = field_of(reply, 4)?.number()?;
    Some(leader != 0 && member == leader)
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Bytes(_) => None,
        }
    }
    fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

/// A field of a protobuf message that has only numbers, strings and messages in it.
fn field_of(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = varint(&mut message)? as usize;
                let bytes = message.get(..length)?;
                message = &message[length..];
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(field);
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A field of bytes shorter than 128.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    message.put_u8(bytes.len() as u8);
    message.put_slice(bytes);
}

fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = (0..count).map(bind).collect::<Result<Vec<_>, _>>()?;
    listeners
        .iter()
        .map(|l| Ok(l.local_addr()?.port()))
        .collect()
}
