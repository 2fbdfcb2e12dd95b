//! Numbers for programs that watch many nodes, in the text format of Prometheus. All are of this node alone.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use riftmesh_base::Millis;
use riftmesh_transport::QuicLink;

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
"
        );
    }
}
