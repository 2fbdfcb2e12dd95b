//! What a relay grants each node, and what it counts.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// What a relay did with the packets it was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// Nodes that have a line to it now.
    pub lines: u64,
    /// Packets passed on.
    pub passed: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Packets dropped because their sender was over its budget.
    pub over_budget: u64,
    /// Packets for a node that has no line here, or too long for the line that it has.
    pub undeliverable: u64,
    /// Messages that were no packets.
    pub malformed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    passed: AtomicU64,
    bytes: AtomicU64,
    over_budget: AtomicU64,
    undeliverable: AtomicU64,
    malformed: AtomicU64,
}

impl Counters {
    pub(super) fn passed(&self, bytes: usize) {
        self.passed.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn over_budget(&self) {
        self.over_budget.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn undeliverable(&self) {
        self.undeliverable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, lines: usize) -> RelayCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayCounts {
            lines: lines as u64,
            passed: read(&self.passed),
            bytes: read(&self.bytes),
            over_budget: read(&self.over_budget),
            undeliverable: read(&self.undeliverable),
            malformed: read(&self.malformed),
        }
    }
}

/// Bytes that a node may still send through the relay: so many a second, and one second's worth in advance.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            left: f64::from(per_second),
            at: now,
        }
    }

    /// Whether so many bytes may pass now; if so, they are spent.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) -> bool {
        let rate = f64::from(self.per_second);
        self.left = (self.left + (now - self.at).as_secs_f64() * rate).min(rate);
        self.at = now;
        let cost = bytes as f64;
        let granted = cost <= self.left;
        if granted {
            self.left -= cost;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A second's worth at once, then as much as time brings, and never more than a second's worth saved up.
    #[test]
    fn a_budget_is_a_rate_with_a_burst() {
        let mut now = Instant::now();
        let mut budget = Budget::new(1_000, now);
        assert!(budget.spend(1_000, now));
        assert!(!budget.spend(1, now));
        now += Duration::from_millis(100);
        assert!(!budget.spend(102, now));
        assert!(budget.spend(99, now));
        now += Duration::from_secs(60);
        assert!(!budget.spend(1_001, now));
        assert!(budget.spend(1_000, now));
    }
}
