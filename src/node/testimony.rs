//! Evidence of death: whoever ran a node and saw its process end testifies, in the node's name and with its key, that this
//! life of it is over (DISTRIBUTED rule 21). Its peers need not find out then.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt};
use rand::RngExt;
use riftmesh_base::NodeId;
use riftmesh_membership::{GenerationFile, PeerFile, goodbye};
use riftmesh_storage::DataDir;
use riftmesh_transport::link::{Lane, Link, Target};
use riftmesh_transport::{NodeCredential, QuicLink, QuicSettings};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::compose::{GENERATION_FILE, PEERS_FILE};
use super::trust;

/// Members that have to hear it: one tells all the others, and may die itself.
const WITNESSES: usize = 2;
/// Members that are told at a time.
const AT_A_TIME: usize = 8;
/// Time to tell them. Whoever testifies is about to start the node again, which says the same.
const WITHIN: Duration = Duration::from_secs(1);

/// What is known of a node by whoever runs it.
#[derive(Debug, Clone)]
pub struct Supervision {
    /// Its data directory.
    pub dir: PathBuf,
    /// The cluster's credential, if it is started with that.
    pub credential: Option<PathBuf>,
    /// Its seeds.
    pub seeds: Vec<SocketAddr>,
}

impl Supervision {
    /// Testifies that the last life of the node is over. Gives how many members heard it.
    ///
    /// # Errors
    /// The node lives: a process holds its directory. It never ran, or its directory cannot be used.
    pub fn testify(&self) -> anyhow::Result<usize> {
        let path = self.dir.join(GENERATION_FILE);
        ensure!(path.exists(), "no node has run in {}", self.dir.display());
        // Held until all is said: nobody starts the node meanwhile, and nobody has.
        let mut data = DataDir::open(&self.dir, || NodeId(rand::rng().random()))?;
        let generation = GenerationFile::new(path).last()?;
        let credential = trust::present(&mut data, self.credential.as_deref())?;
        let members = self.members(data.path(), data.node());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tell(&credential, members, generation))
    }

    /// Who may hear it: the seeds, and whom the node met.
    fn members(&self, dir: &Path, own: NodeId) -> Vec<Target> {
        let seeds = self.seeds.iter().map(|address| Target {
            node: None,
            address: *address,
        });
        let met = PeerFile::new(dir.join(PEERS_FILE)).read();
        let met = met.into_iter().filter(|peer| peer.node != Some(own));
        let mut members: Vec<Target> = Vec::new();
        for member in seeds.chain(met) {
            if !members.iter().any(|known| known.address == member.address) {
                members.push(member);
            }
        }
        members
    }
}

async fn tell(
    credential: &NodeCredential,
    members: Vec<Target>,
    generation: u64,
) -> anyhow::Result<usize> {
    let any = match members.first().map(|member| member.address) {
        Some(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Some(SocketAddr::V4(_)) | None => Ipv4Addr::UNSPECIFIED.into(),
    };
    let listen = SocketAddr::new(any, 0);
    let link = QuicLink::bind(listen, credential, QuicSettings::default())
        .context("cannot open a socket to testify")?;
    let told = members.into_iter().map(|member| {
        let link = Arc::clone(&link);
        async move {
            let heard = link.call(member, Lane::Mesh, goodbye(generation), WITHIN);
            let heard = heard.await;
            heard.inspect_err(|error| tracing::debug!(%error, "a goodbye was not heard"))
        }
    });
    let mut told = stream::iter(told).buffer_unordered(AT_A_TIME);
    let mut witnesses = 0;
    let enough = async {
        while witnesses < WITNESSES
            && let Some(heard) = told.next().await
        {
            witnesses += usize::from(heard.is_ok());
        }
    };
    // What was heard until then counts.
    timeout(WITHIN, enough).await.ok();
    link.close().await;
    Ok(witnesses)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody testifies to the death of a node that lives, or never lived.
    #[test]
    fn only_the_dead_are_testified_to() {
        let folder = tempfile::tempdir().unwrap();
        let supervision = Supervision {
            dir: folder.path().to_owned(),
            credential: None,
            seeds: Vec::new(),
        };
        let refused = || supervision.testify().unwrap_err().to_string();
        assert!(refused().contains("no node has run"), "{}", refused());
        let living = DataDir::open(folder.path(), || NodeId(1)).unwrap();
        std::fs::write(folder.path().join(GENERATION_FILE), "7\n").unwrap();
        assert!(
            refused().contains("another riftmesh process"),
            "{}",
            refused()
        );
        drop(living);
        assert!(refused().contains("certificate"), "{}", refused());
    }
}
