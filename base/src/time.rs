//! Time as a value. The only module of the workspace that reads the operating system's clock.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds, either a length of time or a point on a clock that the field's documentation names.
///
/// Arithmetic saturates: a clock that ran out is less harmful than a wrapped one.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// `seconds` whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// As a standard duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add for Millis {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Millis {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Millis {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.since(other)
    }
}

impl fmt::Display for Millis {
    /// `41ms`, `8.2s`, `3m12s`, `2h05m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        match seconds {
            0 => write!(f, "{}ms", self.0),
            1..=59 => write!(f, "{}.{}s", seconds, self.0 % 1_000 / 100),
            60..=3_599 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            _ => write!(f, "{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        }
    }
}

/// A monotonic clock. Production code takes one as an argument so that tests can turn the hands.
pub trait Clock: Send + Sync {
    /// Milliseconds since a fixed but arbitrary point in this process's life. Never goes back.
    fn now(&self) -> Millis;
}

/// The operating system's monotonic clock, counted from the creation of this value.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that reads zero now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        self.0.elapsed().into()
    }
}

/// Milliseconds since the Unix epoch, for file names, people, and the lives of certificates and join tokens. Never for
/// other decisions.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall_clock() -> Millis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(Millis(0), Millis::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_naturally() {
        let texts = [41, 8_200, 192_000, 7_500_000].map(|ms| Millis(ms).to_string());
        assert_eq!(texts, ["41ms", "8.2s", "3m12s", "2h05m"]);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Millis(1) - Millis(2), Millis(0));
        assert_eq!(Millis(u64::MAX) + Millis(1), Millis(u64::MAX));
    }
}
