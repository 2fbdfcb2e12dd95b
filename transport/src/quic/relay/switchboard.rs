//! The relay's side: who has a line to this node, and passing packets from one line to another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::Connection;
use riftmesh_base::NodeId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::budget::{Budget, Counters, RelayCounts};
use super::{Arrival, frame, open, pass};
use crate::relayed;

/// Every node is a relay for those that ask it to be one, within bounds.
pub(in crate::quic) struct Switchboard {
    node: NodeId,
    /// Where this node listens: what those behind it have in their addresses.
    address: SocketAddr,
    lines_max: usize,
    bytes_per_second: u32,
    lines: Mutex<HashMap<NodeId, Connection>>,
    arrivals: mpsc::Sender<Arrival>,
    counters: Counters,
}

/// A line's end here; it is taken off the board when this is dropped.
pub(in crate::quic) struct Port {
    board: Arc<Switchboard>,
    from: NodeId,
    line: usize,
    budget: Mutex<Budget>,
}

impl Switchboard {
    pub(in crate::quic) fn new(
        node: NodeId,
        address: SocketAddr,
        lines_max: usize,
        bytes_per_second: u32,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Self {
        Self {
            node,
            address,
            lines_max,
            bytes_per_second,
            lines: Mutex::default(),
            arrivals,
            counters: Counters::default(),
        }
    }

    /// Takes `connection` as the line of `from`, which replaces one it had. Its budget begins anew, which gains it no more
    /// than a handshake costs.
    ///
    /// # Errors
    /// Why not, for the other side.
    pub(in crate::quic) fn connect(
        self: &Arc<Self>,
        from: NodeId,
        connection: &Connection,
    ) -> Result<Port, &'static str> {
        if relayed::through(self.address, from).is_none() {
            return Err("this node relays for nobody: it has no IPv4 address");
        }
        let mut lines = self.lines();
        if lines.len() >= self.lines_max && !lines.contains_key(&from) {
            return Err("this node relays for as many as it can; choose another");
        }
        lines.insert(from, connection.clone());
        drop(lines);
        Ok(Port {
            board: Arc::clone(self),
            from,
            line: connection.stable_id(),
            budget: Mutex::new(Budget::new(self.bytes_per_second, Instant::now())),
        })
    }

    /// Sends a packet of this node's own to one that has a line here.
    pub(super) fn send(&self, to: NodeId, packet: &[u8]) {
        self.deliver(to, frame(self.node, packet));
    }

    /// Whether packets for nodes behind the relay at this address are for this board.
    pub(super) fn is_at(&self, relay: SocketAddr) -> bool {
        relay == self.address
    }

    pub(in crate::quic) fn counts(&self) -> RelayCounts {
        self.counters.read(self.lines().len())
    }

    fn deliver(&self, to: NodeId, frame: Bytes) {
        let bytes = frame.len();
        let line = self.lines().get(&to).cloned();
        if line.is_some_and(|line| pass(&line, frame)) {
            self.counters.passed(bytes);
        } else {
            self.counters.undeliverable();
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<NodeId, Connection>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// Takes a message from the line and passes its packet on. Whom it is from is what the line's certificate says.
    pub(in crate::quic) fn take(&self, message: Bytes) {
        let bytes = message.len();
        let Some((to, packet)) = open(message) else {
            return self.board.counters.malformed();
        };
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = budget.spend(bytes, Instant::now());
        drop(budget);
        if !granted {
            return self.board.counters.over_budget();
        }
        if to != self.board.node {
            return self.board.deliver(to, frame(self.from, &packet));
        }
        let Some(from) = relayed::through(self.board.address, self.from) else {
            return self.board.counters.undeliverable();
        };
        match self.board.arrivals.try_send(Arrival { from, packet }) {
            Ok(()) => self.board.counters.passed(bytes),
            Err(_) => self.board.counters.undeliverable(),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut lines = self.board.lines();
        let own = lines.get(&self.from);
        if own.is_some_and(|line| line.stable_id() == self.line) {
            lines.remove(&self.from);
        }
    }
}
