//! The endpoint's socket: UDP, and relayed addresses beside it.
//!
//! To the endpoint it is an IPv6 socket whatever the real one is, since relayed addresses are IPv6; the real one sees IPv4
//! addresses where it always did.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;

use super::line::Lines;
use super::{ARRIVALS_MAX, Arrival};
use crate::relayed;

pub(in crate::quic) struct RelaySocket {
    udp: Arc<dyn AsyncUdpSocket>,
    lines: Arc<Lines>,
    arrivals: Mutex<mpsc::Receiver<Arrival>>,
    sent: Arc<AtomicU64>,
}

impl RelaySocket {
    /// The two ends of the queue of packets that came over lines.
    pub(in crate::quic) fn queue() -> (mpsc::Sender<Arrival>, mpsc::Receiver<Arrival>) {
        mpsc::channel(ARRIVALS_MAX)
    }

    pub(in crate::quic) fn new(
        udp: Arc<dyn AsyncUdpSocket>,
        lines: Arc<Lines>,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> Self {
        Self {
            udp,
            lines,
            arrivals: Mutex::new(arrivals),
            sent: Arc::default(),
        }
    }

    /// Counts the bytes of UDP datagrams sent.
    pub(in crate::quic) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// Hands out packets that came over lines; how many, and whether a queue that is empty will wake the caller.
    fn take(&self, cx: &mut Context, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        while let (Some(buf), Some(meta)) = (bufs.get_mut(taken), meta.get_mut(taken)) {
            let Poll::Ready(Some(Arrival { from, packet })) = arrivals.poll_recv(cx) else {
                break;
            };
            let Some(room) = buf.get_mut(..packet.len()) else {
                continue;
            };
            room.copy_from_slice(&packet);
            *meta = RecvMeta {
                addr: from,
                len: packet.len(),
                stride: packet.len(),
                ecn: None,
                dst_ip: None,
            };
            taken += 1;
        }
        taken
    }
}

impl fmt::Debug for RelaySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelaySocket")
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for RelaySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.udp).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let Some(route) = relayed::route(transmit.destination) else {
            self.udp.try_send(&Transmit {
                destination: canonical(transmit.destination),
                ecn: transmit.ecn,
                contents: transmit.contents,
                segment_size: transmit.segment_size,
                src_ip: transmit.src_ip,
            })?;
            self.sent
                .fetch_add(transmit.contents.len() as u64, Ordering::Relaxed);
            return Ok(());
        };
        let whole = transmit.contents.len();
        let size = transmit.segment_size.unwrap_or(whole).max(1);
        for packet in transmit.contents.chunks(size) {
            self.lines.send(route, Bytes::copy_from_slice(packet));
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // First what came over lines: it came through the socket before, so it cannot keep the socket from being read.
        let taken = self.take(cx, bufs, meta);
        if taken > 0 {
            return Poll::Ready(Ok(taken));
        }
        let received = ready!(self.udp.poll_recv(cx, bufs, meta))?;
        for meta in &mut meta[..received] {
            meta.addr = mapped(meta.addr);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr().map(mapped)
    }

    fn max_transmit_segments(&self) -> usize {
        self.udp.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.udp.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.udp.may_fragment()
    }
}

/// An address as people and sockets know it.
pub(in crate::quic) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        // Whole: link-local addresses have a scope.
        IpAddr::V6(_) => address,
    }
}

/// An address as the endpoint knows it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        SocketAddr::V6(_) => address,
    }
}
