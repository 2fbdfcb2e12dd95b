//! Three voter processes on loopback, and clients that call them over QUIC.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use riftmesh_base::time::wall_clock;
use riftmesh_base::{ClusterId, Millis, NodeId, Role, decode, encode};
use riftmesh_raft::{RaftRole, RaftStatus};
use riftmesh_statemachine::{Body, Command as Order, Reply};
use riftmesh_storage::LogKind;
use riftmesh_transport::{ClusterAuthority, Lane, Link, QuicLink, QuicSettings, Target};

use crate::voter::{Answer, Ask, Identity};

pub const VOTERS: usize = 3;
/// Connections that all callers of one process share.
pub const CONNECTIONS: usize = 8;
const CALL_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
const READY_MAX: Duration = Duration::from_secs(60);

pub struct Group {
    directory: PathBuf,
    authority: PathBuf,
    addresses: Vec<SocketAddr>,
    engine: LogKind,
    voters: Vec<Option<Child>>,
    pub clients: Arc<Clients>,
}

/// The callers' ends.
pub struct Clients {
    links: Vec<Arc<QuicLink>>,
    targets: Vec<Target>,
}

impl Group {
    /// Three fresh voters below `directory`, with a leader.
    pub async fn start(directory: &Path, engine: LogKind) -> Result<Self, Box<dyn Error>> {
        std::fs::create_dir_all(directory)?;
        let authority = directory.join("authority");
        let made = ClusterAuthority::create(ClusterId([7; 16]), wall_clock())?;
        made.write(&authority)?;
        let addresses = free_addresses()?;
        let links = (0..CONNECTIONS).map(|n| -> Result<_, Box<dyn Error>> {
            let node = NodeId(1_000 + n as u64);
            let credential = made.issue(
                node,
                Role::Voter,
                Millis::from_secs(24 * 3_600),
                wall_clock(),
            )?;
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            Ok(QuicLink::bind(any, &credential, QuicSettings::default())?)
        });
        let targets = addresses.iter().enumerate().map(|(n, address)| Target {
            node: Some(Identity::node(n)),
            address: *address,
        });
        let mut group = Self {
            directory: directory.to_owned(),
            authority,
            clients: Arc::new(Clients {
                links: links.collect::<Result<_, _>>()?,
                targets: targets.collect(),
            }),
            addresses,
            engine,
            voters: (0..VOTERS).map(|_| None).collect(),
        };
        for number in 0..VOTERS {
            group.spawn(number)?;
        }
        group.leader().await?;
        Ok(group)
    }

    pub fn spawn(&mut self, number: usize) -> io::Result<()> {
        let identity = Identity {
            number,
            directory: self.directory_of(number),
            authority: self.authority.clone(),
            addresses: self.addresses.clone(),
            engine: self.engine,
        };
        let child = Command::new(std::env::current_exe()?)
            .args(identity.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        self.voters[number] = Some(child);
        Ok(())
    }

    pub fn directory_of(&self, number: usize) -> PathBuf {
        self.directory.join(number.to_string())
    }

    /// Signal 9, and waits until the process is gone.
    pub fn kill(&mut self, number: usize) -> io::Result<()> {
        if let Some(mut voter) = self.voters[number].take() {
            voter.kill()?;
            voter.wait()?;
        }
        Ok(())
    }

    /// Signal 9 to all, before any of them is waited for.
    pub fn kill_all(&mut self) -> io::Result<()> {
        for voter in self.voters.iter_mut().flatten() {
            voter.kill()?;
        }
        (0..VOTERS).try_for_each(|number| self.kill(number))
    }

    /// The confirmed leader.
    pub async fn leader(&self) -> Result<usize, Box<dyn Error>> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            for number in 0..VOTERS {
                let status = self.clients.status(number).await;
                if status.is_some_and(|s| s.role == RaftRole::Leader && s.has_quorum) {
                    return Ok(number);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err("no leader".into())
    }

    /// Waits until all voters have applied what the leader has committed.
    pub async fn settled(&self) -> Result<usize, Box<dyn Error>> {
        let leader = self.leader().await?;
        let goal = self.clients.status(leader).await.and_then(|s| s.last_log);
        let deadline = Instant::now() + READY_MAX;
        for number in 0..VOTERS {
            loop {
                let status = self.clients.status(number).await;
                if status.is_some_and(|status| status.applied >= goal) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("voter {number} does not catch up").into());
                }
                tokio::time::sleep(LOOK_EVERY * 10).await;
            }
        }
        Ok(leader)
    }

    /// The voters' processes.
    pub fn processes(&self) -> Vec<u32> {
        self.voters.iter().flatten().map(Child::id).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for number in 0..VOTERS {
            self.kill(number).ok();
        }
    }
}

impl Clients {
    /// Calls voter `to` on behalf of caller `caller`.
    pub async fn ask(&self, caller: usize, to: usize, ask: &Ask) -> Result<Answer, String> {
        let link = &self.links[caller % self.links.len()];
        let call = link.call(self.targets[to], Lane::Client, encode(ask).into(), CALL_MAX);
        let answer = call.await.map_err(|e| e.to_string())?;
        decode(&answer).map_err(|e| e.to_string())
    }

    /// Has `body` carried out by voter `to`.
    pub async fn order(&self, caller: usize, to: usize, body: Body) -> Result<Reply, String> {
        let ask = Ask::Propose(Order { origin: None, body });
        match self.ask(caller, to, &ask).await? {
            Answer::Applied(_, Reply::Refused(refusal)) => Err(refusal.to_string()),
            Answer::Applied(_, reply) => Ok(reply),
            other => Err(format!("{other:?}")),
        }
    }

    pub async fn status(&self, of: usize) -> Option<RaftStatus> {
        let link = &self.links[0];
        let ask = encode(&Ask::Status);
        let short = Duration::from_millis(200);
        let call = link.call(self.targets[of], Lane::Client, ask.into(), short);
        match decode(&call.await.ok()?).ok()? {
            Answer::Status(status) => Some(*status),
            _ => None,
        }
    }
}

/// Ports that were free a moment ago.
fn free_addresses() -> io::Result<Vec<SocketAddr>> {
    let sockets: Result<Vec<_>, _> = (0..VOTERS)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect();
    sockets?.iter().map(UdpSocket::local_addr).collect()
}

/// Bytes of all files below a directory, as they take up the disk.
pub fn bytes_below(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
