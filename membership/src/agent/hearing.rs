//! How far this node may trust what it makes of others' silence: whether it hears anybody at all, and how it does itself.

use riftmesh_base::Millis;

use super::{Agent, Alarm, STALL_GRACE};
use crate::health::LocalHealth;

/// A node that knows two others and has heard nobody for this long is more likely cut off than alone in the world: even
/// one of three is probed every 0.7 s.
const CUT_OFF_AFTER: Millis = Millis::from_secs(5);
/// After this long it gives the others up all the same.
const CUT_OFF_MAX: Millis = Millis::from_secs(5 * 60);
/// Health recovers by one step in this time, so that bad signs count when they come again and again, and else are soon forgotten.
const RECOVER_EVERY: Millis = Millis::from_secs(5);

impl Agent {
    /// Something came from another member.
    pub(super) fn hear(&mut self, now: Millis) {
        if self.is_cut_off(now) {
            tracing::info!(silence = %now.since(self.heard), "this node was cut off; verdicts are put off");
            self.steady_from = self.steady_from.max(now + STALL_GRACE);
        }
        self.heard = now;
    }

    /// Whether the silence of all others says something about this node, and nothing about them: what it gave up now would be
    /// given up everywhere once it is back. With one other there is no telling.
    pub(super) fn is_cut_off(&self, now: Millis) -> bool {
        let silence = now.since(self.heard);
        self.core.num_members() >= 2 && silence > CUT_OFF_AFTER && silence <= CUT_OFF_MAX
    }

    /// Takes note of a sign of how this node does, which decides how patient it is with others.
    pub(super) fn feel(&mut self, now: Millis, sign: impl FnOnce(&mut LocalHealth)) {
        self.change_health(sign);
        if !self.recovering && self.health != LocalHealth::default() {
            self.recovering = true;
            self.schedule(now, RECOVER_EVERY, Alarm::Recover);
        }
    }

    /// Some time went by without anything worse.
    pub(super) fn recover(&mut self, now: Millis) {
        self.recovering = false;
        self.feel(now, LocalHealth::recover);
    }

    fn change_health(&mut self, change: impl FnOnce(&mut LocalHealth)) {
        let before = self.health;
        change(&mut self.health);
        if self.health == before || !self.settings.local_health {
            return;
        }
        let suspicion = self.health.stretch(self.settings.suspicion());
        if let Err(error) = self.core.set_config(self.settings.protocol(suspicion)) {
            tracing::error!(%error, "foca refused its settings");
        }
    }
}
