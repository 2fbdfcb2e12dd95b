//! Which life of which node, where: the identity that gossip spreads, and the number that orders a node's lives.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use riftmesh_base::{Millis, NodeId};
use riftmesh_transport::relayed;
use serde::{Deserialize, Serialize};

use crate::durable;

/// One life of a node at one address. Of two lives of a node the one with the higher generation counts, whatever
/// its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Which node.
    pub node: NodeId,
    /// Which life; rises with each start and each return after a false verdict.
    pub generation: u64,
    /// Where its endpoint listens; of a node that nobody can dial, [`relayed::nowhere`].
    pub address: SocketAddr,
}

impl NodeIdentity {
    /// Whether nobody can dial it.
    pub fn is_dial_out(&self) -> bool {
        relayed::route(self.address).is_some()
    }
}

impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} at {}", self.node, self.generation, self.address)
    }
}

impl foca::Identity for NodeIdentity {
    type Addr = NodeId;

    /// Never by itself: a new generation must be durable before it is announced, which the driver sees to.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Where a node's generation is kept, so that no two of its lives share one.
pub trait Generations: Send + 'static {
    /// A generation above every earlier one and at least `floor`, durable when this returns.
    ///
    /// # Errors
    /// When it could not be made durable; the node must not announce itself then.
    fn advance(&mut self, floor: u64) -> io::Result<u64>;
}

/// The generation in a file: the larger of its successor, the floor and the wall clock in milliseconds. The clock
/// only helps a node whose file was lost; order never depends on it.
#[derive(Debug)]
pub struct GenerationFile {
    path: PathBuf,
    wall_clock: fn() -> Millis,
}

impl GenerationFile {
    /// The file need not exist yet, its folder must.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            wall_clock: riftmesh_base::time::wall_clock,
        }
    }

    /// The generation of the last life; 0 before the first.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn last(&self) -> io::Result<u64> {
        match fs::read_to_string(&self.path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let reason = format!("{}: not a generation number", self.path.display());
                io::Error::new(io::ErrorKind::InvalidData, reason)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Generations for GenerationFile {
    fn advance(&mut self, floor: u64) -> io::Result<u64> {
        let next = self.last()?.saturating_add(1);
        let generation = next.max(floor).max((self.wall_clock)().0);
        durable::replace(&self.path, &format!("{generation}\n"))?;
        Ok(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity;

    /// Generations rise over restarts, over a clock set back and over a floor from the cluster; a damaged file
    /// stops the node instead of restarting its count.
    #[test]
    fn generations_only_rise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation");
        let open = |clock: fn() -> Millis| GenerationFile {
            path: path.clone(),
            wall_clock: clock,
        };
        assert_eq!(open(|| Millis(1_000)).advance(0).unwrap(), 1_000);
        assert_eq!(open(|| Millis(10)).advance(0).unwrap(), 1_001);
        assert_eq!(open(|| Millis(10)).advance(5_000).unwrap(), 5_000);
        assert_eq!(open(|| Millis(10)).advance(0).unwrap(), 5_001);
        fs::write(&path, "5OO2").unwrap();
        let error = open(|| Millis(10)).advance(0).unwrap_err();
        assert!(error.to_string().contains("not a generation number"));
    }

    /// A newer life wins whatever its address; equal lives do not replace each other.
    #[test]
    fn newer_lives_win() {
        let life = |generation, port| NodeIdentity {
            node: NodeId(1),
            generation,
            address: ([127, 0, 0, 1], port).into(),
        };
        assert!(life(2, 9).win_addr_conflict(&life(1, 8)));
        assert!(!life(1, 9).win_addr_conflict(&life(2, 8)));
        assert!(!life(1, 9).win_addr_conflict(&life(1, 8)));
    }
}
