//! What went to each peer and came from it. Counting costs an addition; QUIC counts the bytes anyway, so they are looked up when
//! somebody asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use quinn::Connection;
use riftmesh_base::NodeId;
use serde::{Deserialize, Serialize};

/// Peers with an account of their own at most, as many as a mesh may have members. All others share one.
const ACCOUNTS_MAX: usize = 16_384;

/// What went to a peer and came from it since this endpoint was opened, on connections that either side dialled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTraffic {
    /// Bytes sent, in UDP datagrams.
    pub bytes_sent: u64,
    /// Bytes received, likewise.
    pub bytes_received: u64,
    /// Calls made to it, requests for blobs included.
    pub calls_made: u64,
    /// Calls that it made, likewise. Each was answered, if by a refusal.
    pub calls_answered: u64,
    /// Gossip datagrams sent, those that took a stream included.
    pub datagrams_sent: u64,
    /// Gossip datagrams received, likewise.
    pub datagrams_received: u64,
}

/// Datagrams that were too long, since this endpoint was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OversizeCounts {
    /// Over the bound, and refused to whoever wanted to send them here.
    pub refused: u64,
    /// Within the bound and too long for the path: they took a stream.
    pub streamed: u64,
    /// Over the bound, and dropped when they came.
    pub dropped: u64,
}

/// All accounts of an endpoint.
#[derive(Default)]
pub(super) struct Accounts {
    peers: Mutex<BTreeMap<NodeId, Arc<Account>>>,
    others: Arc<Account>,
    refused: AtomicU64,
    streamed: AtomicU64,
    dropped: AtomicU64,
}

impl Accounts {
    /// The account of a peer; the common one, if it is one too many.
    pub(super) fn of(&self, node: NodeId) -> Arc<Account> {
        let mut peers = lock(&self.peers);
        if let Some(account) = peers.get(&node) {
            return Arc::clone(account);
        }
        if peers.len() >= ACCOUNTS_MAX {
            return Arc::clone(&self.others);
        }
        Arc::clone(peers.entry(node).or_default())
    }

    /// What is on a peer's own account, if it has one.
    pub(super) fn peer(&self, node: NodeId) -> Option<PeerTraffic> {
        let account = lock(&self.peers).get(&node).cloned();
        account.map(|account| account.read())
    }

    /// What is on all of them.
    pub(super) fn total(&self) -> PeerTraffic {
        let all: Vec<_> = lock(&self.peers).values().cloned().collect();
        let all = all.iter().chain([&self.others]);
        all.fold(PeerTraffic::default(), |sum, account| {
            let one = account.read();
            PeerTraffic {
                bytes_sent: sum.bytes_sent + one.bytes_sent,
                bytes_received: sum.bytes_received + one.bytes_received,
                calls_made: sum.calls_made + one.calls_made,
                calls_answered: sum.calls_answered + one.calls_answered,
                datagrams_sent: sum.datagrams_sent + one.datagrams_sent,
                datagrams_received: sum.datagrams_received + one.datagrams_received,
            }
        })
    }

    pub(super) fn refused(&self) {
        add(&self.refused);
    }

    pub(super) fn streamed(&self) {
        add(&self.streamed);
    }

    pub(super) fn dropped(&self) {
        add(&self.dropped);
    }

    pub(super) fn oversize(&self) -> OversizeCounts {
        OversizeCounts {
            refused: read(&self.refused),
            streamed: read(&self.streamed),
            dropped: read(&self.dropped),
        }
    }
}

/// One peer's.
#[derive(Default)]
pub(super) struct Account {
    calls_made: AtomicU64,
    calls_answered: AtomicU64,
    datagrams_sent: AtomicU64,
    datagrams_received: AtomicU64,
    wires: Mutex<Wires>,
}

#[derive(Default)]
struct Wires {
    live: Vec<Weak<Wire>>,
    /// Bytes of those that have ended.
    ended: WireBytes,
    /// The most that was ever read, so that nobody reads less: a connection that ends at this moment is on neither list.
    read: WireBytes,
}

/// Sent and received.
#[derive(Debug, Clone, Copy, Default)]
struct WireBytes(u64, u64);

impl WireBytes {
    fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0, self.1 + other.1)
    }

    fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0), self.1.max(other.1))
    }
}

impl Account {
    /// A connection's bytes are on this account from now on, for as long as what this returns is held.
    pub(super) fn open(self: &Arc<Self>, connection: &Connection) -> Arc<Wire> {
        let wire = Arc::new(Wire {
            connection: connection.clone(),
            account: Arc::clone(self),
        });
        lock(&self.wires).live.push(Arc::downgrade(&wire));
        wire
    }

    fn bytes(&self) -> WireBytes {
        // Held until the lock is free again: the end of a wire takes the lock.
        let (live, ended): (Vec<_>, _) = {
            let wires = lock(&self.wires);
            let live = wires.live.iter().filter_map(Weak::upgrade).collect();
            (live, wires.ended)
        };
        let sum = live
            .iter()
            .fold(ended, |sum, wire: &Arc<Wire>| sum.plus(wire.bytes()));
        let mut wires = lock(&self.wires);
        wires.read = wires.read.max(sum);
        wires.read
    }

    fn read(&self) -> PeerTraffic {
        let WireBytes(bytes_sent, bytes_received) = self.bytes();
        PeerTraffic {
            bytes_sent,
            bytes_received,
            calls_made: read(&self.calls_made),
            calls_answered: read(&self.calls_answered),
            datagrams_sent: read(&self.datagrams_sent),
            datagrams_received: read(&self.datagrams_received),
        }
    }
}

/// A connection on its peer's account.
pub(super) struct Wire {
    connection: Connection,
    account: Arc<Account>,
}

impl Wire {
    fn bytes(&self) -> WireBytes {
        let stats = self.connection.stats();
        WireBytes(stats.udp_tx.bytes, stats.udp_rx.bytes)
    }

    pub(super) fn call_made(&self) {
        add(&self.account.calls_made);
    }

    pub(super) fn call_answered(&self) {
        add(&self.account.calls_answered);
    }

    pub(super) fn datagram_sent(&self) {
        add(&self.account.datagrams_sent);
    }

    pub(super) fn datagram_received(&self) {
        add(&self.account.datagrams_received);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let bytes = self.bytes();
        let mut wires = lock(&self.account.wires);
        wires.ended = wires.ended.plus(bytes);
        wires.live.retain(|wire| wire.strong_count() > 0);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many peers come, there are so many accounts; those who come late are counted together with others.
    #[test]
    fn accounts_are_bounded() {
        let accounts = Accounts::default();
        for node in 0..=ACCOUNTS_MAX as u64 {
            add(&accounts.of(NodeId(node)).calls_made);
        }
        let last = NodeId(ACCOUNTS_MAX as u64);
        add(&accounts.of(last).calls_made);
        add(&accounts.of(NodeId(0)).calls_made);
        assert_eq!(accounts.peer(last), None);
        assert_eq!(accounts.peer(NodeId(0)).unwrap().calls_made, 2);
        assert_eq!(accounts.total().calls_made, ACCOUNTS_MAX as u64 + 3);
    }
}
