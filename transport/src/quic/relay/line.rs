//! The other side: this node's lines to relays. A line is laid when a packet first wants to go over it, or when this node
//! itself wants to be reached over it, and taken down when neither has been so for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use riftmesh_base::NodeId;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::super::frame::{self as stream_frame, Kind, Outcome};
use super::super::pool::{Class, Pool};
use super::super::{CLOSED, judge};
use super::{Arrival, FRAME_BYTES_MAX, STREAM_PATIENCE, frame, open, pass};
use crate::link::{Attachment, CallError, Target};
use crate::relayed::{self, Route};

/// Lines at a time; a packet that would need one more is lost.
const LINES_MAX: usize = 256;
/// Packets that wait for a line: a handshake's worth and more.
const WAITING_MAX: usize = 256;
/// A line that nobody wants to be reached over is taken down after so long without a packet.
const UNUSED_MAX: Duration = Duration::from_secs(60);
/// A line over which this node wants to be reached is tried this often.
const BEAT: Duration = Duration::from_millis(500);
/// It is given up when nothing came over it for so long. A relay that is merely paused is no use meanwhile either, and
/// another one costs little; suspicion of this node takes many times longer.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// This node's lines.
pub(in crate::quic) struct Lines {
    /// Set once the endpoint stands; weak, because the endpoint's socket holds this.
    pool: OnceLock<Weak<Pool>>,
    board: Arc<super::Switchboard>,
    arrivals: mpsc::Sender<Arrival>,
    lines: Mutex<HashMap<SocketAddr, Line>>,
    runtime: Handle,
}

/// What others hold of a line; the rest is its task's.
#[derive(Clone)]
struct Line {
    packets: mpsc::Sender<(NodeId, Bytes)>,
    state: watch::Receiver<LineState>,
    /// As long as somebody besides line and task has one, this node wants to be reached over it.
    held: Arc<()>,
}

#[derive(Debug, Clone)]
enum LineState {
    Laying,
    Open { relay: NodeId, round_trip: Duration },
    Closed(CallError),
}

impl Lines {
    pub(in crate::quic) fn new(
        board: Arc<super::Switchboard>,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Self {
        Self {
            pool: OnceLock::new(),
            board,
            arrivals,
            lines: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// Dials through `pool` from now on.
    pub(in crate::quic) fn dial_with(&self, pool: &Arc<Pool>) {
        self.pool.get_or_init(|| Arc::downgrade(pool));
    }

    /// Sends a packet, or loses it.
    pub(super) fn send(self: &Arc<Self>, route: Route, packet: Bytes) {
        let Some(relay) = route.relay else {
            return;
        };
        if self.board.is_at(relay) {
            return self.board.send(route.node, &packet);
        }
        if let Some(line) = self.line(relay) {
            // A full queue loses it.
            line.packets.try_send((route.node, packet)).ok();
        }
    }

    /// Has this node reached over a line to `relay` for as long as the result lives.
    pub(in crate::quic) async fn attach(
        self: &Arc<Self>,
        relay: SocketAddr,
        within: Duration,
    ) -> Result<Attachment, CallError> {
        let to = Target {
            node: None,
            address: relay,
        };
        let unreachable = |reason: &str| CallError::Unreachable {
            target: to,
            reason: reason.to_owned(),
        };
        if !relay.ip().to_canonical().is_ipv4() {
            return Err(unreachable("a relay has an IPv4 address"));
        }
        if self.board.is_at(relay) {
            return Err(unreachable("a node is no relay for itself"));
        }
        let line = self.line(relay);
        let line = line.ok_or_else(|| unreachable("too many relays at a time"))?;
        let (mut state, held) = (line.state, line.held);
        let settled = state.wait_for(|state| !matches!(state, LineState::Laying));
        let settled = match timeout(within, settled).await {
            Ok(settled) => settled.map(|state| state.clone()),
            Err(_) => return Err(unreachable(&format!("no line within {within:?}"))),
        };
        match settled {
            Ok(LineState::Open {
                relay: node,
                round_trip,
            }) => Ok(Attachment::new(
                Target {
                    node: Some(node),
                    address: relay,
                },
                round_trip,
                async move {
                    let _held = held;
                    let closed = |state: &LineState| matches!(state, LineState::Closed(_));
                    // An error says that the task is gone, and the line with it.
                    state.wait_for(closed).await.ok();
                },
            )),
            Ok(LineState::Closed(error)) => Err(error),
            Ok(LineState::Laying) | Err(_) => Err(unreachable("this node's link is closed")),
        }
    }

    fn line(self: &Arc<Self>, relay: SocketAddr) -> Option<Line> {
        let mut lines = self.lines();
        if let Some(line) = lines.get(&relay) {
            return Some(line.clone());
        }
        if lines.len() >= LINES_MAX {
            return None;
        }
        let (packets, waiting) = mpsc::channel(WAITING_MAX);
        let (report, state) = watch::channel(LineState::Laying);
        let line = Line {
            packets,
            state,
            held: Arc::new(()),
        };
        let task = Task {
            lines: Arc::clone(self),
            relay,
            held: Arc::clone(&line.held),
            report,
        };
        lines.insert(relay, line.clone());
        self.runtime.spawn(task.run(waiting));
        Some(line)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<SocketAddr, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lays a line, works it and takes it down.
struct Task {
    lines: Arc<Lines>,
    relay: SocketAddr,
    held: Arc<()>,
    report: watch::Sender<LineState>,
}

impl Task {
    async fn run(self, waiting: mpsc::Receiver<(NodeId, Bytes)>) {
        let ended = match self.lay().await {
            Ok((connection, node)) => {
                self.report.send_replace(LineState::Open {
                    relay: node,
                    round_trip: connection.rtt(),
                });
                let reason = self.work(&connection, waiting).await;
                connection.close(CLOSED, reason.as_bytes());
                self.unreachable(reason)
            }
            Err(error) => error,
        };
        tracing::debug!(relay = %self.relay, %ended, "a line to a relay ended");
        // First off the list, so that who asks again gets another line.
        self.lines.lines().remove(&self.relay);
        self.report.send_replace(LineState::Closed(ended));
    }

    /// Dials the relay and asks it to be one.
    async fn lay(&self) -> Result<(Connection, NodeId), CallError> {
        let to = self.target();
        let pool = self.lines.pool.get().and_then(Weak::upgrade);
        let pool = pool.ok_or_else(|| self.unreachable("this node's link is closed"))?;
        let dialled = pool.get(to, Class::Relay).await?;
        let lost = |reason: String| CallError::Unreachable { target: to, reason };
        let asked = async {
            let opened = dialled.connection.open_bi().await;
            let (mut send, mut recv) = opened.map_err(|error| lost(error.to_string()))?;
            stream_frame::write_request(&mut send, Kind::Relay, Bytes::new())
                .await
                .map_err(|error| lost(error.to_string()))?;
            let (outcome, body): (Outcome, Bytes) = stream_frame::read_reply(&mut recv)
                .await
                .map_err(|error| lost(error.to_string()))?;
            judge(to, outcome, body).map(drop)
        };
        let answered = timeout(STREAM_PATIENCE, asked).await;
        answered.unwrap_or_else(|_| Err(self.unreachable("it does not answer as a relay")))?;
        Ok((dialled.connection.clone(), dialled.node()))
    }

    /// Carries packets both ways until the line is lost or nobody needs it; gives the reason.
    async fn work(
        &self,
        connection: &Connection,
        mut waiting: mpsc::Receiver<(NodeId, Bytes)>,
    ) -> &'static str {
        let received = || connection.stats().udp_rx.datagrams;
        let (mut packets, mut heard, mut used) = (received(), Instant::now(), Instant::now());
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                packet = waiting.recv() => {
                    let Some((to, packet)) = packet else { return "closed" };
                    used = Instant::now();
                    pass(connection, frame(to, &packet));
                }
                message = connection.read_datagram() => {
                    let Ok(message) = message else { return "lost" };
                    used = Instant::now();
                    deliver(&self.lines.arrivals, self.relay, message);
                }
                stream = connection.accept_uni() => {
                    let Ok(stream) = stream else { return "lost" };
                    tokio::spawn(read(stream, self.lines.arrivals.clone(), self.relay));
                }
                _ = beat.tick() => {
                    // The line's own copy and the task's.
                    let is_held = Arc::strong_count(&self.held) > 2;
                    if received() != packets || !is_held {
                        (packets, heard) = (received(), Instant::now());
                    }
                    if is_held && heard.elapsed() >= SILENCE_MAX {
                        return "silent";
                    }
                    if !is_held && used.elapsed() >= UNUSED_MAX {
                        return "unused";
                    }
                    if is_held {
                        // An empty datagram has to be acknowledged; a lost line shows on reading.
                        connection.send_datagram(Bytes::new()).ok();
                    }
                }
            }
        }
    }

    fn target(&self) -> Target {
        Target {
            node: None,
            address: self.relay,
        }
    }

    fn unreachable(&self, reason: &str) -> CallError {
        CallError::Unreachable {
            target: self.target(),
            reason: reason.to_owned(),
        }
    }
}

fn deliver(arrivals: &mpsc::Sender<Arrival>, relay: SocketAddr, message: Bytes) {
    let Some((from, packet)) = open(message) else {
        return;
    };
    if let Some(from) = relayed::through(relay, from) {
        // A full queue loses it.
        arrivals.try_send(Arrival { from, packet }).ok();
    }
}

/// A packet that did not fit a datagram of the line.
async fn read(mut stream: RecvStream, arrivals: mpsc::Sender<Arrival>, relay: SocketAddr) {
    if let Ok(Ok(message)) = timeout(STREAM_PATIENCE, stream.read_to_end(FRAME_BYTES_MAX)).await {
        deliver(&arrivals, relay, message.into());
    }
}
