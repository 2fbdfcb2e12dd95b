//! What others say in this node's name: an echo of an earlier life, or a lie. Others believe whatever is newest, so this node
//! says something newer.

use riftmesh_base::Millis;

use super::Agent;
use crate::effect::MeshEffect;

/// A life that claims to be later than this one by more is not outdone: generations are milliseconds of a wall clock or count
/// up, and a node that followed any number would soon have none left. Ten years.
const LEAP_MAX: u64 = 10 * 366 * 24 * 3_600_000;

impl Agent {
    /// Says anew what this node is, if somebody has said something else that others may take for newer.
    pub(super) fn refute(&mut self, now: Millis) {
        let foreign = self.announcements.book().take_foreign();
        let Some((generation, version)) = foreign.filter(|_| !self.left) else {
            return;
        };
        tracing::warn!(
            generation,
            version,
            "somebody else spoke in this node's name"
        );
        let leap = generation.saturating_sub(self.own.generation);
        match version.checked_add(1) {
            Some(newer) if leap == 0 => {
                self.own.version = newer;
                self.publish(now);
            }
            _ if leap <= LEAP_MAX => self.effects.push(MeshEffect::Renew { floor: generation }),
            _ => tracing::warn!(
                generation,
                "no node has lived that often; it is not outdone"
            ),
        }
    }
}
