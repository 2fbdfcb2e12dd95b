//! The little that a node says about itself in gossip, and the book of what all nodes said.
//!
//! It travels as foca's custom broadcasts. What takes more words is a body of its own, of which gossip carries the hash;
//! see `bodies`. Newcomers get all digests in the first exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foca::{BroadcastHandler, Invalidates};
use riftmesh_base::limits::{MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX};
use riftmesh_base::{BlobHash, DecodeError, NodeId, decode, encode};
use serde::{Deserialize, Serialize};

use crate::identity::NodeIdentity;

/// Nodes remembered at most, gone ones included.
pub const NODES_MAX: usize = 16_384;

const _: () = assert!(
    NODES_MAX * 256 <= MESSAGE_BYTES_MAX,
    "all that a node knows of the mesh fits one message"
);

/// What a node offers. A claim, spread by gossip; the roster in the log says what it was admitted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AdvertisedRole {
    /// It can replicate the log and vote.
    Voter,
    /// It runs jobs.
    Worker,
}

impl fmt::Display for AdvertisedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Voter => "voter",
            Self::Worker => "worker",
        })
    }
}

/// What a node says about itself in gossip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMetadata {
    /// Its name, for people; need not be unique.
    pub name: String,
    /// What it offers to be.
    pub role: AdvertisedRole,
}

/// A description over its bounds. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {bytes} bytes, over the bound of {max}")]
pub struct MetadataError {
    /// Which part.
    pub field: &'static str,
    /// Its length.
    pub bytes: usize,
    /// The bound.
    pub max: usize,
}

impl NodeMetadata {
    /// Checks that the name is within its bound.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<(), MetadataError> {
        within("name", self.name.len(), NODE_NAME_BYTES_MAX)
    }
}

/// Refuses what has more than `max` bytes.
pub(crate) fn within(field: &'static str, bytes: usize, max: usize) -> Result<(), MetadataError> {
    if bytes > max {
        return Err(MetadataError { field, bytes, max });
    }
    Ok(())
}

/// One version of a node's description, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    pub(crate) node: NodeId,
    pub(crate) generation: u64,
    /// Counts up within a generation.
    pub(crate) version: u32,
    /// The node left on purpose with this generation.
    pub(crate) left: bool,
    /// Where the relay listens by which the node is reached, if nobody can dial it.
    pub(crate) relay: Option<SocketAddr>,
    /// Shared with the views that readers hold.
    #[serde(with = "shared")]
    pub(crate) metadata: Arc<NodeMetadata>,
    /// The hash of what it says at length, if it says anything.
    pub(crate) body: Option<BlobHash>,
}

impl Announcement {
    pub(crate) fn age(&self) -> (u64, u32) {
        (self.generation, self.version)
    }
}

/// A shared value travels as itself.
mod shared {
    use super::{Arc, Deserialize, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

/// Why an announcement from the network was refused; the sender's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnouncementError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// The newest announcement of each node.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) nodes: BTreeMap<NodeId, Arc<Announcement>>,
    /// Counts what was learned, so that a reader can tell that nothing was.
    pub(crate) changes: u64,
    /// Who said something new since the last look, with what was known before.
    news: BTreeMap<NodeId, Option<Arc<Announcement>>>,
    /// Announced at the last clearing by nodes that were not members.
    strangers: BTreeSet<NodeId>,
    /// What this node says of itself. Nobody else's word about it is kept.
    own: Option<Announcement>,
    /// The age of the newest word that somebody else put into this node's mouth and others may believe.
    foreign: Option<(u64, u32)>,
}

impl Book {
    pub(crate) fn said_by(&self, node: NodeId) -> Option<&Announcement> {
        self.nodes.get(&node).map(Arc::as_ref)
    }

    /// Who said something new since this was last called, with what was known of them before.
    pub(crate) fn take_news(&mut self) -> BTreeMap<NodeId, Option<Arc<Announcement>>> {
        std::mem::take(&mut self.news)
    }

    /// From now on this is what this node says of itself.
    pub(crate) fn own_up_to(&mut self, own: Announcement) {
        self.own = Some(own);
    }

    /// The age of what somebody else has said in this node's name since this was last called, if others may take it for newer
    /// than what this node says.
    pub(crate) fn take_foreign(&mut self) -> Option<(u64, u32)> {
        self.foreign.take()
    }

    /// Whether this is said in this node's name and not by it; notes how old it claims to be.
    fn is_foreign(&mut self, announcement: &Announcement) -> bool {
        let own = self.own.as_ref();
        let own = own.filter(|own| own.node == announcement.node && *own != announcement);
        let Some(own) = own else { return false };
        if announcement.age() >= own.age() {
            self.foreign = self.foreign.max(Some(announcement.age()));
        }
        true
    }

    fn keep(&mut self, announcement: Arc<Announcement>) {
        let node = announcement.node;
        let before = self.nodes.insert(node, announcement);
        self.news.entry(node).or_insert(before);
        self.changes += 1;
    }

    /// Keeps all of these, as far as nothing is known of their nodes.
    pub(crate) fn extend(&mut self, said: &[Arc<Announcement>]) {
        for announcement in said {
            if !self.nodes.contains_key(&announcement.node) && self.nodes.len() < NODES_MAX {
                self.keep(Arc::clone(announcement));
            }
        }
        // In no more room than it must have.
        self.nodes = std::mem::take(&mut self.nodes).into_iter().collect();
    }

    /// Forgets what nodes said that are not members and were not at the last clearing either. An announcement may arrive
    /// before the news that its node exists; without an end, the book would fill with nodes that are gone for good.
    pub(crate) fn clear_strangers(&mut self, is_member: impl Fn(NodeId) -> bool) {
        let strangers: BTreeSet<_> = self
            .nodes
            .keys()
            .copied()
            .filter(|node| !is_member(*node))
            .collect();
        self.nodes
            .retain(|node, _| !(strangers.contains(node) && self.strangers.contains(node)));
        self.strangers = strangers;
    }
}

/// The book, shared between the agent and foca, which hands in what gossip brings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcements(Arc<Mutex<Book>>);

impl Announcements {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `announcement` if it is news.
    fn learn(&self, announcement: Announcement) -> Result<bool, MetadataError> {
        announcement.metadata.check()?;
        let mut book = self.book();
        if book.is_foreign(&announcement) {
            return Ok(false);
        }
        let known = book.nodes.get(&announcement.node);
        let is_news = match known {
            Some(known) => announcement.age() > known.age(),
            None => book.nodes.len() < NODES_MAX,
        };
        if is_news {
            book.keep(Arc::new(announcement));
        }
        Ok(is_news)
    }

    /// Keeps those of `announcements` that are news and gives their bytes, to be spread further.
    pub(crate) fn select_news(&self, announcements: Vec<Announcement>) -> Vec<Vec<u8>> {
        let mut book = self.book();
        let mut is_news = |a: &Announcement| {
            let is_foreign = book.is_foreign(a);
            let known = book.nodes.get(&a.node);
            !is_foreign && known.is_none_or(|known| a.age() > known.age())
        };
        announcements
            .iter()
            .filter(|a| is_news(a))
            .map(encode)
            .collect()
    }
}

/// Which announcement some bytes are; a newer one of the same node replaces an older one in the queue.
#[derive(Debug)]
pub(crate) struct AnnouncementKey {
    node: NodeId,
    age: (u64, u32),
}

impl Invalidates for AnnouncementKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.node == other.node && self.age >= other.age
    }
}

impl BroadcastHandler<NodeIdentity> for Announcements {
    type Key = AnnouncementKey;
    type Error = AnnouncementError;

    fn receive_item(
        &mut self,
        data: &[u8],
        _sender: Option<&NodeIdentity>,
    ) -> Result<Option<AnnouncementKey>, AnnouncementError> {
        let announcement: Announcement = decode(data)?;
        let (node, age) = (announcement.node, announcement.age());
        let is_news = self.learn(announcement)?;
        Ok(is_news.then_some(AnnouncementKey { node, age }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(generation: u64, version: u32, name: &str) -> Announcement {
        Announcement {
            node: NodeId(1),
            generation,
            version,
            left: false,
            relay: None,
            metadata: Arc::new(NodeMetadata {
                name: name.to_owned(),
                role: AdvertisedRole::Worker,
            }),
            body: None,
        }
    }

    /// Only a newer announcement replaces what is known; what is over a bound or malformed changes nothing.
    #[test]
    fn only_news_is_kept() {
        let mut book = Announcements::default();
        let mut receive = |a: &Announcement| book.receive_item(&encode(a), None);
        assert!(receive(&announcement(5, 1, "new")).unwrap().is_some());
        assert!(receive(&announcement(5, 1, "same")).unwrap().is_none());
        assert!(
            receive(&announcement(4, 9, "older life"))
                .unwrap()
                .is_none()
        );
        assert!(receive(&announcement(6, 0, &"x".repeat(65))).is_err());
        assert!(book.receive_item(b"junk", None).is_err());
        assert_eq!(book.book().nodes[&NodeId(1)].metadata.name, "new");
    }

    /// What a node said is forgotten once it is no member at two clearings, so that newcomers always find room.
    #[test]
    fn the_gone_make_room() {
        let announcements = Announcements::default();
        announcements.learn(announcement(1, 0, "gone")).unwrap();
        announcements.book().clear_strangers(|_| false);
        assert_eq!(announcements.book().nodes.len(), 1, "it may be joining");
        announcements.book().clear_strangers(|_| true);
        announcements.book().clear_strangers(|_| false);
        assert_eq!(announcements.book().nodes.len(), 1, "it was a member");
        announcements.book().clear_strangers(|_| false);
        assert_eq!(announcements.book().nodes.len(), 0);
    }

    /// The largest digest leaves room for gossip in a datagram.
    #[test]
    fn digests_are_small() {
        let mut largest = announcement(u64::MAX, u32::MAX, &"x".repeat(NODE_NAME_BYTES_MAX));
        largest.relay = Some("[ffff:ffff::1]:65535".parse().unwrap());
        largest.body = Some(BlobHash([255; 32]));
        assert!(encode(&largest).len() <= 160);
    }
}
