//! How far a node may trust its own verdicts (Lifeguard's local health): one that is frozen now and then, or keeps
//! being suspected, gives others more time before it gives them up.

use riftmesh_base::Millis;

/// From 0, well, to 8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LocalHealth(u8);

const WORST: u8 = 8;

impl LocalHealth {
    /// The score, for gauges.
    pub(crate) fn score(self) -> u8 {
        self.0
    }

    /// This process was frozen.
    pub(crate) fn stalled(&mut self) {
        self.0 = (self.0 + 2).min(WORST);
    }

    /// Somebody suspected this node although it lives.
    pub(crate) fn suspected(&mut self) {
        self.0 = (self.0 + 1).min(WORST);
    }

    /// Some time went by.
    pub(crate) fn recover(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// The time to give suspects: up to twice as long at the worst.
    pub(crate) fn stretch(self, suspicion: Millis) -> Millis {
        Millis(suspicion.0 + suspicion.0 * u64::from(self.0) / u64::from(WORST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bad signs stretch the patience, at most to double; time heals.
    #[test]
    fn patience_follows_health() {
        let mut health = LocalHealth::default();
        assert_eq!(health.stretch(Millis(1_000)), Millis(1_000));
        health.stalled();
        health.suspected();
        assert_eq!(health.stretch(Millis(1_000)), Millis(1_375));
        for _ in 0..9 {
            health.stalled();
        }
        assert_eq!(health.stretch(Millis(1_000)), Millis(2_000));
        for _ in 0..9 {
            health.recover();
        }
        assert_eq!(health, LocalHealth::default());
    }
}
