//! How often somebody was turned away, by reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts refusals. The reasons are those written in the code, so there are few.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<&'static str, u64>>);

impl Refusals {
    /// Counts one more.
    pub fn note(&self, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    /// All so far; a reason that never occurred is absent.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
