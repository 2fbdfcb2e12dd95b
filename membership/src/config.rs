//! The protocol's timing. Pause tolerance is the one number an operator chooses; the rest follows.

use std::num::{NonZeroU8, NonZeroUsize};

use foca::{Config, PeriodicParams};
use riftmesh_base::Millis;
use riftmesh_base::limits::DATAGRAM_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// How the mesh watches its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MembershipSettings {
    /// The longest time a healthy node may be frozen (starved, swapped, stopped) without being given up. A silent
    /// node is given up this long after it is first suspected, plus one probe period.
    pub pause_tolerance: Millis,
    /// Each node probes another one this often.
    pub probe_every: Millis,
    /// A probe is repeated through others when not answered within this time; at most half of `probe_every`.
    pub probe_rtt: Millis,
    /// Each node compares its whole view with another's this often.
    pub repair_every: Millis,
    /// While alone, the seeds are asked this often.
    pub seek_every: Millis,
    /// A suspect whose host says that its port is closed is given this long to show another life.
    pub evidence_patience: Millis,
    /// A node that does badly itself gives others more time. Off only to see what that is worth.
    pub local_health: bool,
    /// Nobody can dial this node: it is reached through a relay, which it looks for among the others.
    pub dial_out: bool,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self {
            pause_tolerance: Millis::from_secs(16),
            probe_every: Millis(700),
            probe_rtt: Millis(350),
            repair_every: Millis::from_secs(30),
            seek_every: Millis::from_secs(1),
            evidence_patience: Millis::from_secs(1),
            local_health: true,
            dial_out: false,
        }
    }
}

/// Members asked to probe in one's stead.
const INDIRECT_PROBES: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Times an update is passed on; enough for a thousand members. With 12, one member in some ten thousand misses it.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(18).unwrap();
/// News is also sent between probes, this often and to this many.
const GOSSIP_EVERY: Millis = Millis(200);
const GOSSIP_FANOUT: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Gone members are called this often, in case a partition healed.
const CALL_GONE_EVERY: Millis = Millis::from_secs(20);
const CALL_GONE_FANOUT: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// Gone members are remembered this long.
const REMEMBER_GONE: Millis = Millis::from_secs(24 * 3_600);
const PACKET_BYTES: NonZeroUsize = NonZeroUsize::new(DATAGRAM_BYTES_MAX).unwrap();

impl MembershipSettings {
    /// How long a suspect has to object. The extra period covers the spreading of the suspicion and of its denial.
    pub fn suspicion(&self) -> Millis {
        self.pause_tolerance
    }

    /// The settings in foca's terms, with this time for suspects to object.
    pub(crate) fn protocol(&self, suspicion: Millis) -> Config {
        Config {
            probe_period: self.probe_every.duration(),
            probe_rtt: self.probe_rtt.duration(),
            num_indirect_probes: INDIRECT_PROBES,
            max_transmissions: TRANSMISSIONS,
            suspect_to_down_after: suspicion.duration(),
            remove_down_after: Some(REMEMBER_GONE.duration()),
            max_packet_size: PACKET_BYTES,
            notify_down_members: true,
            // Push-pull finds members that gossip missed; see `agent`.
            periodic_announce: None,
            periodic_announce_to_down_members: Some(PeriodicParams {
                frequency: CALL_GONE_EVERY.duration(),
                num_members: CALL_GONE_FANOUT,
            }),
            periodic_gossip: Some(PeriodicParams {
                frequency: GOSSIP_EVERY.duration(),
                num_members: GOSSIP_FANOUT,
            }),
        }
    }
}
