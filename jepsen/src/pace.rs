//! Waiting that can be ended.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A signal that all threads of a phase wait on between their steps.
#[derive(Debug, Default)]
pub struct Pace {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Pace {
    /// Ends the phase.
    pub fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for `time`; false when the phase ended first.
    pub fn wait(&self, time: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self
            .changed
            .wait_timeout_while(ended, time, |ended| !*ended);
        let (ended, _) = outcome.unwrap_or_else(PoisonError::into_inner);
        !*ended
    }

    /// Asks again and again until `done` or the time is over; whether it was done.
    pub fn wait_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + limit;
        loop {
            if done() {
                return true;
            }
            if Instant::now() >= until || !self.wait(Duration::from_millis(200)) {
                return false;
            }
        }
    }
}
