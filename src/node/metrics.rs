//! Numbers for programs that watch many nodes, in the text format of Prometheus. All are of this node alone.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use riftmesh_base::Millis;
use riftmesh_transport::{OversizeCounts, PeerTraffic, QuicLink};

use super::mesh::{MeshState, SharedMesh};
use super::trust::{CertificateKeeper, Expiries};

/// Where the numbers come from.
pub struct MetricsDesk {
    /// Knows until when the node is trusted, and whom it turned away.
    pub keeper: Arc<CertificateKeeper>,
    /// Knows who is there.
    pub mesh: SharedMesh,
    /// Counts what it sends.
    pub link: Arc<QuicLink>,
}

/// The numbers at one moment.
struct Numbers {
    expiries: Expiries,
    refused: BTreeMap<String, u64>,
    members: Vec<(MeshState, usize)>,
    bytes_sent: u64,
    traffic: PeerTraffic,
    oversize: OversizeCounts,
}

impl MetricsDesk {
    /// The numbers as they are now.
    pub fn text(&self) -> String {
        let members = self.mesh.members();
        let count = |state| {
            let seen = members.iter().filter(|member| member.state == state);
            (state, seen.count())
        };
        Numbers {
            expiries: *self.keeper.expires().borrow(),
            refused: self.keeper.refused(),
            members: MeshState::ALL.into_iter().map(count).collect(),
            bytes_sent: self.link.bytes_sent(),
            traffic: self.link.traffic_of_all(),
            oversize: self.link.oversize(),
        }
        .text()
    }
}

impl Numbers {
    fn text(&self) -> String {
        let refused = self.refused.iter();
        let members = self.members.iter();
        [
            family(
                "riftmesh_certificate_expiry_timestamp_seconds",
                "gauge",
                "When this node's certificate expires, in seconds since the Unix epoch.",
                [(String::new(), seconds(self.expiries.certificate))],
            ),
            family(
                "riftmesh_authority_expiry_timestamp_seconds",
                "gauge",
                "When the authority that issued it expires, in seconds since the Unix epoch.",
                [(String::new(), seconds(self.expiries.authority))],
            ),
            family(
                "riftmesh_refused_total",
                "counter",
                "Connections, requests and strangers that this node turned away, by reason.",
                refused.map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), *count)),
            ),
            family(
                "riftmesh_mesh_members",
                "gauge",
                "Nodes that gossip knows, this one included, by state.",
                members.map(|(state, count)| (format!("{{state=\"{}\"}}", state.name()), *count)),
            ),
            family(
                "riftmesh_udp_sent_bytes_total",
                "counter",
                "Bytes sent to other nodes, in UDP datagrams.",
                [(String::new(), self.bytes_sent)],
            ),
            self.between_nodes(),
        ]
        .concat()
    }

    /// What went to all peers and came from them. How much it was for each, `mesh ping` tells: a label for every peer would be
    /// a thousand of them.
    fn between_nodes(&self) -> String {
        let (traffic, long) = (&self.traffic, &self.oversize);
        let both = |sent, received| {
            [("sent", sent), ("received", received)]
                .map(|(way, count)| (format!("{{direction=\"{way}\"}}"), count))
        };
        let oversize = [
            ("refused", long.refused),
            ("streamed", long.streamed),
            ("dropped", long.dropped),
        ];
        [
            family(
                "riftmesh_peer_bytes_total",
                "counter",
                "Bytes exchanged with nodes that were let in, in UDP datagrams.",
                both(traffic.bytes_sent, traffic.bytes_received),
            ),
            family(
                "riftmesh_peer_calls_total",
                "counter",
                "Calls made to other nodes, and by them.",
                both(traffic.calls_made, traffic.calls_answered),
            ),
            family(
                "riftmesh_peer_datagrams_total",
                "counter",
                "Gossip datagrams exchanged with other nodes.",
                both(traffic.datagrams_sent, traffic.datagrams_received),
            ),
            family(
                "riftmesh_datagrams_oversize_total",
                "counter",
                "Datagrams that were too long: refused here, sent on a stream instead, dropped when they came.",
                oversize.map(|(what, count)| (format!("{{outcome=\"{what}\"}}"), count)),
            ),
        ]
        .concat()
    }
}

fn seconds(at: Millis) -> u64 {
    at.0 / 1_000
}

/// One metric with all its label sets. The labels are words of ours, which need no escapes.
fn family<N: Display>(
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, N)>,
) -> String {
    let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    let samples = samples.into_iter();
    let lines = samples.map(|(labels, value)| format!("{name}{labels} {value}\n"));
    [head].into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text as programs read it.
    #[test]
    fn the_text_is_pinned() {
        let numbers = Numbers {
            expiries: Expiries {
                certificate: Millis(1_800_000_604_999),
                authority: Millis(2_100_000_000_000),
            },
            refused: BTreeMap::from([("expired".to_owned(), 2), ("revoked".to_owned(), 1)]),
            members: vec![(MeshState::Up, 4), (MeshState::Suspect, 0)],
            bytes_sent: 1_234,
            traffic: PeerTraffic {
                bytes_sent: 1_000,
                bytes_received: 2_000,
                calls_made: 3,
                calls_answered: 4,
                datagrams_sent: 5,
                datagrams_received: 6,
            },
            oversize: OversizeCounts {
                refused: 7,
                streamed: 8,
                dropped: 9,
            },
        };
        assert_eq!(
            numbers.text(),
            "\
# HELP riftmesh_certificate_expiry_timestamp_seconds When this node's certificate expires, in seconds since the Unix epoch.
# TYPE riftmesh_certificate_expiry_timestamp_seconds gauge
riftmesh_certificate_expiry_timestamp_seconds 1800000604
# HELP riftmesh_authority_expiry_timestamp_seconds When the authority that issued it expires, in seconds since the Unix epoch.
# TYPE riftmesh_authority_expiry_timestamp_seconds gauge
riftmesh_authority_expiry_timestamp_seconds 2100000000
# HELP riftmesh_refused_total Connections, requests and strangers that this node turned away, by reason.
# TYPE riftmesh_refused_total counter
riftmesh_refused_total{reason=\"expired\"} 2
riftmesh_refused_total{reason=\"revoked\"} 1
# HELP riftmesh_mesh_members Nodes that gossip knows, this one included, by state.
# TYPE riftmesh_mesh_members gauge
riftmesh_mesh_members{state=\"up\"} 4
riftmesh_mesh_members{state=\"suspect\"} 0
# HELP riftmesh_udp_sent_bytes_total Bytes sent to other nodes, in UDP datagrams.
# TYPE riftmesh_udp_sent_bytes_total counter
riftmesh_udp_sent_bytes_total 1234
# HELP riftmesh_peer_bytes_total Bytes exchanged with nodes that were let in, in UDP datagrams.
# TYPE riftmesh_peer_bytes_total counter
riftmesh_peer_bytes_total{direction=\"sent\"} 1000
riftmesh_peer_bytes_total{direction=\"received\"} 2000
# HELP riftmesh_peer_calls_total Calls made to other nodes, and by them.
# TYPE riftmesh_peer_calls_total counter
riftmesh_peer_calls_total{direction=\"sent\"} 3
riftmesh_peer_calls_total{direction=\"received\"} 4
# HELP riftmesh_peer_datagrams_total Gossip datagrams exchanged with other nodes.
# TYPE riftmesh_peer_datagrams_total counter
riftmesh_peer_datagrams_total{direction=\"sent\"} 5
riftmesh_peer_datagrams_total{direction=\"received\"} 6
# HELP riftmesh_datagrams_oversize_total Datagrams that were too long: refused here, sent on a stream instead, dropped when they came.
# TYPE riftmesh_datagrams_oversize_total counter
riftmesh_datagrams_oversize_total{outcome=\"refused\"} 7
riftmesh_datagrams_oversize_total{outcome=\"streamed\"} 8
riftmesh_datagrams_oversize_total{outcome=\"dropped\"} 9
"
        );
    }
}
