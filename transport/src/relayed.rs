//! Addresses of nodes that nobody can dial. Such a node keeps a connection to a relay, and its address says which relay and
//! which node: an IPv6 address of a kind that is never on a wire, so that it fits wherever an address does.
//!
//! Layout: four bytes that no real address begins with, the node's id, the relay's IPv4 address; the port is the relay's.
//! Hence a relay has an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use riftmesh_base::NodeId;

/// From the range for local use (RFC 4193), with a global id of our own.
const PREFIX: [u8; 4] = [0xfd, b'r', b'm', b'r'];

/// The way to a node that nobody can dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where its relay listens; none while the node has none, or while it is not known.
    pub relay: Option<SocketAddr>,
    /// The node behind it.
    pub node: NodeId,
}

/// Where `node` is reached through the relay at `relay`; none if that address is not IPv4.
pub fn through(relay: SocketAddr, node: NodeId) -> Option<SocketAddr> {
    match relay.ip().to_canonical() {
        IpAddr::V4(ip) => Some(address(ip, relay.port(), node)),
        IpAddr::V6(_) => None,
    }
}

/// Stands for a node that nobody can dial and whose relay is not known: nothing reaches it there.
pub fn nowhere(node: NodeId) -> SocketAddr {
    address(Ipv4Addr::UNSPECIFIED, 0, node)
}

/// Reads such an address; none for one that can be dialled.
pub fn route(address: SocketAddr) -> Option<Route> {
    let IpAddr::V6(ip) = address.ip() else {
        return None;
    };
    let octets = ip.octets();
    let rest = octets.strip_prefix(&PREFIX)?;
    let (node, relay) = rest.split_first_chunk::<8>()?;
    let relay = <[u8; 4]>::try_from(relay).ok()?;
    let relay = SocketAddr::from((relay, address.port()));
    Some(Route {
        relay: (relay.port() != 0).then_some(relay),
        node: NodeId(u64::from_be_bytes(*node)),
    })
}

fn address(relay: Ipv4Addr, port: u16, node: NodeId) -> SocketAddr {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&PREFIX);
    octets[4..12].copy_from_slice(&node.0.to_be_bytes());
    octets[12..].copy_from_slice(&relay.octets());
    SocketAddr::from((Ipv6Addr::from(octets), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A route comes out of an address as it went in; other addresses are no routes.
    #[test]
    fn routes_survive_being_addresses() {
        let node = NodeId(0x0123_4567_89ab_cdef);
        let relay: SocketAddr = "10.1.2.3:7700".parse().unwrap();
        let address = through(relay, node).unwrap();
        assert_eq!(
            address.to_string(),
            "[fd72:6d72:123:4567:89ab:cdef:a01:203]:7700"
        );
        let found = route(address).unwrap();
        assert_eq!((found.relay, found.node), (Some(relay), node));
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:7700".parse().unwrap();
        assert_eq!(through(mapped, node), Some(address));
        let lost = route(nowhere(node)).unwrap();
        assert_eq!((lost.relay, lost.node), (None, node));
        for other in ["10.1.2.3:7700", "[fd00::1]:7700", "[::1]:7700"] {
            assert_eq!(route(other.parse().unwrap()), None, "{other}");
        }
        assert_eq!(through("[fd00::1]:7700".parse().unwrap(), node), None);
    }
}
