//! A node that nobody can dial: how it finds a relay and is found behind it, and why it judges nobody while it has none.

use std::net::SocketAddr;

use rand::seq::SliceRandom;
use riftmesh_base::Millis;
use riftmesh_transport::{Target, relayed};

use super::{Agent, Alarm, STALL_GRACE};
use crate::effect::MeshEffect;
use crate::identity::NodeIdentity;
use crate::track::{reach, relay_of};

/// Relays tried at a time: the seeds and some others.
const CANDIDATES_MAX: usize = 8;
/// When none of them was one, others are tried after this time.
const SEEK_AGAIN: Millis = Millis::from_secs(1);

impl Agent {
    /// Where to send to a life, and who must answer there.
    pub(super) fn target(&self, life: &NodeIdentity) -> Target {
        let book = self.announcements.book();
        reach(life, relay_of(life, book.said_by(life.node)))
    }

    /// Whether nothing can reach this node: what others answer to its probes gets lost, and says nothing about them.
    pub(super) fn is_deaf(&self) -> bool {
        self.settings.dial_out && self.own.relay.is_none()
    }

    /// Looks for a relay among seeds and members, and if there are too few of those, among members of an earlier life.
    pub(super) fn seek_relay(&mut self) {
        if self.left || !self.is_deaf() {
            return;
        }
        let own = self.identity().node;
        let mut members: Vec<_> = self
            .core
            .iter_members()
            .map(|member| *member.id())
            .filter(|life| life.node != own && !life.is_dial_out())
            .map(|life| self.target(&life))
            .collect();
        members.shuffle(&mut self.rng);
        let mut candidates: Vec<Target> = Vec::new();
        let seeds = self.foreign_seeds().into_iter().map(|address| Target {
            node: None,
            address,
        });
        let mut met: Vec<_> = self.met_before().collect();
        met.shuffle(&mut self.rng);
        let all = seeds.take(CANDIDATES_MAX / 2).chain(members).chain(met);
        for candidate in all {
            let known = candidates.iter().any(|c| c.address == candidate.address);
            // What has no relayed address is no relay.
            let usable = relayed::through(candidate.address, own).is_some();
            if usable && !known && candidates.len() < CANDIDATES_MAX {
                candidates.push(candidate);
            }
        }
        self.effects.push(MeshEffect::SeekRelay { candidates });
    }

    /// Takes note of the relay that was found, or that there is none any more.
    pub(super) fn relayed(&mut self, now: Millis, relay: Option<SocketAddr>) {
        let had_one = !self.is_deaf();
        self.own.relay = relay;
        match relay {
            Some(_) => {
                self.own.version += 1;
                self.publish(now);
                // What was not heard meanwhile is about to be asked again.
                self.steady_from = now + STALL_GRACE;
                self.seek(now, 0);
            }
            None if had_one => self.seek_relay(),
            None => self.schedule(now, SEEK_AGAIN, Alarm::SeekRelay),
        }
    }
}
