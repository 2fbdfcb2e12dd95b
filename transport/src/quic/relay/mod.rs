//! Ways to nodes that nobody can dial. Such a node keeps a connection, its *line*, to a relay; whoever wants to reach it has
//! a line to that relay too. On lines travel the packets of ordinary QUIC connections between the two ends, each with the
//! node it is for in front, which the relay replaces by the node it is from.
//!
//! So a relay sees who talks to whom and how much, and nothing else: certificates are checked end to end, inside. To the
//! rest of the endpoint a relayed node is one more address ([`crate::relayed`]), which the socket knows how to send to.

mod budget;
mod line;
mod socket;
mod switchboard;

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use quinn::Connection;
use riftmesh_base::NodeId;
use tokio::time::{Duration, timeout};

pub use self::budget::RelayCounts;
pub(super) use self::line::Lines;
pub(super) use self::socket::{RelaySocket, canonical};
pub(super) use self::switchboard::{Port, Switchboard};

/// Longest packet of a relayed connection: what the endpoint's path discovery goes up to, with room.
const PACKET_BYTES_MAX: usize = 1_500;
/// A packet that every path must take (RFC 9000 section 14), on a stream if it does not fit a datagram of the line. Longer
/// ones only look for more room.
const PACKET_BYTES_SURE: usize = 1_200;
/// What stands before each packet on a line: the other node's id.
const HEAD_BYTES: usize = 8;
/// Longest message on a line.
pub(super) const FRAME_BYTES_MAX: usize = HEAD_BYTES + PACKET_BYTES_MAX;
/// Packets that have come and were not read yet; beyond that they are lost, as on any network.
const ARRIVALS_MAX: usize = 1_024;
/// A packet that took a stream must have left within this time.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// A packet that came over a line.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The relayed address of the node it is from.
    from: SocketAddr,
    packet: Bytes,
}

/// A packet with the other node's id in front.
fn frame(other: NodeId, packet: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + packet.len());
    frame.put_u64(other.0);
    frame.put_slice(packet);
    frame.freeze()
}

/// The other node, and the packet; none if this is no such message.
fn open(mut frame: Bytes) -> Option<(NodeId, Bytes)> {
    if frame.len() <= HEAD_BYTES || frame.len() > FRAME_BYTES_MAX {
        return None;
    }
    let packet = frame.split_off(HEAD_BYTES);
    let node = <[u8; HEAD_BYTES]>::try_from(&frame[..]).ok()?;
    Some((NodeId(u64::from_be_bytes(node)), packet))
}

/// Sends a message down a line without waiting; whether it left.
fn pass(line: &Connection, frame: Bytes) -> bool {
    if line
        .max_datagram_size()
        .is_some_and(|max| frame.len() <= max)
    {
        return line.send_datagram(frame).is_ok();
    }
    if frame.len() > HEAD_BYTES + PACKET_BYTES_SURE {
        return false;
    }
    // Until the path to the other end of the line is known to take more, even the shortest first packet of a connection
    // is too long for a datagram. The other end bounds the number of these streams.
    let Some(Ok(mut stream)) = line.open_uni().now_or_never() else {
        return false;
    };
    tokio::spawn(timeout(STREAM_PATIENCE, async move {
        // Lost with the line, like any packet.
        stream.write_all(&frame).await.ok();
        stream.finish().ok();
    }));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line carries is read as it was written; anything else is no packet.
    #[test]
    fn frames_are_bounded() {
        let (node, packet) = open(frame(NodeId(7), b"packet")).unwrap();
        assert_eq!((node, &packet[..]), (NodeId(7), &b"packet"[..]));
        for bad in [&b""[..], &[0; HEAD_BYTES], &[0; FRAME_BYTES_MAX + 1]] {
            assert!(open(Bytes::copy_from_slice(bad)).is_none(), "{}", bad.len());
        }
        assert!(open(Bytes::from(vec![0; FRAME_BYTES_MAX])).is_some());
    }
}
