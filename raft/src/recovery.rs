//! Beginning anew from what one node has: a quorum that is lost for good, and a snapshot that is restored.
//!
//! Both end in the same: a directory whose snapshot holds everything and names this node as the only voter, in a new
//! epoch of the cluster. The node starts from it, elects itself, and others are added as to any other cluster.

use std::collections::BTreeMap;

use riftmesh_base::{LogIndex, NodeId, Term, decode, encode};
use riftmesh_storage::{LogOp, PurgePoint, SavedSnapshot};

use crate::error::RecoverError;
use crate::inspect;
use crate::machine::Replica;
use crate::settings::RaftStore;
use crate::types::{Address, LogId, Membership};

/// What a node's directory holds, and who belonged to its group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holdings {
    /// The epoch of its cluster.
    pub epoch: u64,
    /// The last entry.
    pub last: LogIndex,
    /// Its term.
    pub term: Term,
    /// The last entry known to be committed. What lies behind it may never have been acknowledged to anybody, or may
    /// have been replaced on a quorum that this node did not hear of.
    pub committed: Option<LogIndex>,
    /// The voters, and where they were.
    pub voters: BTreeMap<NodeId, String>,
}

/// What a directory holds that no process uses now.
///
/// # Errors
/// [`RecoverError`].
pub fn holdings(store: &RaftStore) -> Result<Holdings, RecoverError> {
    let replica = replay(store)?;
    let last = replica.last.ok_or(RecoverError::Empty)?;
    let head = store.log.head()?;
    let committed = head.committed.as_deref().map(decode::<LogId>);
    let committed = committed
        .transpose()
        .map_err(|e| content("commit mark", &e))?;
    Ok(Holdings {
        epoch: store.epoch.get(),
        last: LogIndex(last.index),
        term: Term(last.leader_id.term),
        committed: committed.map(|id| LogIndex(id.index)),
        voters: voters(&replica.membership),
    })
}

/// Makes `node`, whose store this is, the only voter of a new epoch, reached at `address`. All entries it holds count as
/// committed. What the lost voters acknowledged and this node does not hold is lost.
///
/// A crash in between leaves a node that starts as what it was before or as the only voter; doing it again is safe.
///
/// # Errors
/// [`RecoverError`]; nothing is lost.
pub fn recover(store: &RaftStore, node: NodeId, address: String) -> Result<Holdings, RecoverError> {
    let before = holdings(store)?;
    let replica = replay(store)?;
    let last = replica.last.ok_or(RecoverError::Empty)?;
    // First of all: from here on the old members are refused, whatever happens.
    store.epoch.raise(before.epoch + 1)?;
    begin_from(store, last, &replica.state.snapshot(), node, address)?;
    Ok(Holdings {
        epoch: store.epoch.get(),
        voters: voters(&alone(last, node, Address::default())),
        ..before
    })
}

/// Makes `node`, whose store this is and which is empty, the only voter of a new cluster with the state of `saved`,
/// in the epoch after `epoch`.
///
/// # Errors
/// [`RecoverError::NotEmpty`] when the store holds anything; [`RecoverError::Open`] when the snapshot cannot be read.
pub fn restore(
    store: &RaftStore,
    saved: &SavedSnapshot,
    epoch: u64,
    node: NodeId,
    address: String,
) -> Result<LogIndex, RecoverError> {
    let head = store.log.head()?;
    if head.entries.is_some() || head.purged.is_some() || store.snapshots.load()?.is_some() {
        return Err(RecoverError::NotEmpty);
    }
    let replica = Replica::of(saved)?;
    let last = replica.last.ok_or(RecoverError::Empty)?;
    store.epoch.raise(epoch + 1)?;
    begin_from(store, last, &saved.image, node, address)?;
    Ok(LogIndex(last.index))
}

fn begin_from(
    store: &RaftStore,
    last: LogId,
    image: &[u8],
    node: NodeId,
    address: String,
) -> Result<(), RecoverError> {
    let members = alone(last, node, Address(address));
    store
        .snapshots
        .save(&encode(&(Some(last), members)), image)?;
    // Only what a durable snapshot covers.
    store.log.write(&[LogOp::Purge(PurgePoint {
        index: last.index,
        mark: encode(&last),
    })])?;
    Ok(())
}

fn alone(last: LogId, node: NodeId, address: Address) -> Membership {
    let voters = BTreeMap::from([(node.0, address)]);
    Membership::new(Some(last), openraft::Membership::from(voters))
}

fn voters(membership: &Membership) -> BTreeMap<NodeId, String> {
    let members = membership.membership();
    let address = |node: u64| members.get_node(&node).cloned().unwrap_or_default().0;
    members
        .voter_ids()
        .map(|node| (NodeId(node), address(node)))
        .collect()
}

/// The state after everything that the store holds.
fn replay(store: &RaftStore) -> Result<Replica, RecoverError> {
    let entries = store.log.head()?.entries;
    inspect::replay(
        store.snapshots.load()?.as_ref(),
        entries,
        |from, to, max| store.log.read(from, to, max),
    )
}

fn content(what: &str, error: &riftmesh_base::DecodeError) -> RecoverError {
    RecoverError::Open(crate::error::OpenError::Content(format!("{what}: {error}")))
}
