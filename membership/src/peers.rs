//! Peers that a node has met, kept on its disk: where it asks for the mesh when no seed of its lives any more.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use riftmesh_base::NodeId;
use riftmesh_transport::{Target, relayed};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::driver::Membership;
use crate::durable;
use crate::metadata::AdvertisedRole;
use crate::view::{MembershipView, NodeState};

/// Peers remembered at most.
pub const PEERS_MAX: usize = 64;
/// Longest file that is read: so many lines and the longest addresses there are.
const FILE_BYTES_MAX: u64 = 128 * (PEERS_MAX as u64 + 1);
/// The first line of the file.
const HEAD: &str = "riftmesh peers 1";
/// Changes are written down no more often than this.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Where a node looks for the mesh while it knows no other member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeds {
    /// Named by whoever runs the node; asked first. The node's own address among them does no harm.
    pub named: Vec<SocketAddr>,
    /// Met in an earlier life; some of them are asked too once none of those has answered.
    pub met: Vec<Target>,
}

impl From<Vec<SocketAddr>> for Seeds {
    fn from(named: Vec<SocketAddr>) -> Self {
        let met = Vec::new();
        Self { named, met }
    }
}

/// Why what a file of peers says is of no use.
#[derive(Debug, thiserror::Error)]
enum PeersError {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("its first line is not `{HEAD}`")]
    Head,
    #[error("it names more than {PEERS_MAX} peers")]
    TooMany,
    #[error("line {0} is not `NODE ADDRESS`")]
    Line(usize),
}

/// The peers that a node has met, in a file. It may be lost: then a node whose seeds are all gone has to be told others.
#[derive(Debug)]
pub struct PeerFile {
    path: PathBuf,
    keep_every: Duration,
}

impl PeerFile {
    /// The file need not exist yet, its folder must.
    pub fn new(path: PathBuf) -> Self {
        let keep_every = KEEP_EVERY;
        Self { path, keep_every }
    }

    #[cfg(test)]
    pub(crate) fn eager(path: PathBuf) -> Self {
        let keep_every = Duration::from_millis(20);
        Self { path, keep_every }
    }

    /// Who was met, those first whom it is best to ask. Nobody if there is no file; if there is one that cannot be read, the log
    /// says so, and the next one replaces it.
    pub fn read(&self) -> Vec<Target> {
        read(&self.path).unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the peers met before are not known; the file is ignored");
            Vec::new()
        })
    }

    /// Writes down whom `membership` meets, for as long as it runs. Does not keep it running.
    pub async fn follow(self, membership: Membership) {
        let mut views = membership.subscribe();
        drop(membership);
        let mut known = self.read();
        loop {
            let now = remember(present(&views.borrow_and_update()), &known);
            if now != known {
                let (path, text) = (self.path.clone(), text(&now));
                let written = spawn_blocking(move || durable::replace(&path, &text)).await;
                match written {
                    Ok(Ok(())) => known = now,
                    Ok(Err(error)) => {
                        let path = self.path.display();
                        tracing::warn!(%path, %error, "the peers met are not written down");
                    }
                    // The runtime is going down.
                    Err(_) => return,
                }
            }
            sleep(self.keep_every).await;
            if views.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The members of a view that can be dialled, voters first, and of those the ones that have been there longest.
fn present(view: &MembershipView) -> Vec<Target> {
    let others = view.nodes.values().filter(|node| {
        let dialled = relayed::route(node.address).is_none();
        node.id != view.local && node.state == NodeState::Alive && dialled
    });
    let mut others: Vec<_> = others.collect();
    others.sort_by_key(|node| {
        let votes = node.role() == Some(AdvertisedRole::Voter);
        (!votes, node.since, node.id)
    });
    let targets = others.into_iter().map(|node| Target {
        node: Some(node.id),
        address: node.address,
    });
    targets.collect()
}

/// Those who are there now, and behind them whoever was there before, as long as there is room: a node that sees nobody
/// must not forget everybody.
fn remember(present: Vec<Target>, before: &[Target]) -> Vec<Target> {
    let former = before.iter().filter(|former| {
        let known = |now: &Target| now.node == former.node || now.address == former.address;
        !present.iter().any(known)
    });
    let mut all = present.clone();
    all.extend(former);
    all.truncate(PEERS_MAX);
    all
}

fn text(peers: &[Target]) -> String {
    let lines = peers.iter().filter_map(|peer| {
        let node = peer.node?;
        Some(format!("{node} {}\n", peer.address))
    });
    [format!("{HEAD}\n")].into_iter().chain(lines).collect()
}

fn read(path: &Path) -> Result<Vec<Target>, PeersError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(PeersError::TooLong);
    }
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(PeersError::Head);
    }
    let peers = (2..).zip(lines);
    let peers = peers.map(|(number, line)| peer(line).ok_or(PeersError::Line(number)));
    let peers = peers.collect::<Result<Vec<_>, _>>()?;
    if peers.len() > PEERS_MAX {
        return Err(PeersError::TooMany);
    }
    Ok(peers)
}

fn peer(line: &str) -> Option<Target> {
    let (node, address) = line.split_once(' ')?;
    let node: NodeId = node.parse().ok()?;
    let address: SocketAddr = address.parse().ok()?;
    let dialled = relayed::route(address).is_none() && address.port() != 0;
    dialled.then_some(Target {
        node: Some(node),
        address,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn target(node: u64, port: u16) -> Target {
        Target {
            node: Some(NodeId(node)),
            address: ([10, 0, 0, 1], port).into(),
        }
    }

    /// What was written comes back; nothing of a file that somebody has changed does, whatever is wrong with it, and the next
    /// one takes its place.
    #[test]
    fn peers_come_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        let file = PeerFile::new(path.clone());
        assert_eq!(file.read(), []);
        let peers: Vec<_> = (1..=PEERS_MAX as u64)
            .map(|n| target(n, 7_000 + n as u16))
            .collect();
        let good = text(&peers);
        durable::replace(&path, &good).unwrap();
        assert_eq!(file.read(), peers);
        let longer = text(&[&peers[..], &[target(99, 99)]].concat());
        let node = NodeId(1);
        let broken = [
            String::new(),
            good[1..].to_owned(),
            good[..good.len() - 8].to_owned(),
            longer,
            format!("{HEAD}\n{node} somewhere\n"),
            format!("{HEAD}\n{node} 10.0.0.1:0\n"),
            format!("{HEAD}\n{node} {}\n", relayed::nowhere(node)),
            format!("{HEAD}\nnode 10.0.0.1:7700\n"),
            format!("{HEAD}\n{}", "\n".repeat(1 << 20)),
        ];
        for text in broken {
            fs::write(&path, &text).unwrap();
            assert_eq!(file.read(), [], "{:.80}", text);
        }
        fs::write(&path, [0xff; 40]).unwrap();
        assert_eq!(file.read(), []);
        durable::replace(&path, &good).unwrap();
        assert_eq!(file.read(), peers);
    }

    /// Who is there comes first and replaces what was known of the same node or address; the rest stays while there is room.
    #[test]
    fn nobody_is_forgotten_while_there_is_room() {
        let before = [target(1, 1), target(2, 2), target(3, 3)];
        assert_eq!(remember(Vec::new(), &before), before);
        let present = vec![target(2, 9), target(4, 3)];
        assert_eq!(
            remember(present, &before),
            [target(2, 9), target(4, 3), target(1, 1)]
        );
        let many: Vec<_> = (10..10 + PEERS_MAX as u16)
            .map(|n| target(u64::from(n), n))
            .collect();
        assert_eq!(remember(many.clone(), &before), many);
    }
}
