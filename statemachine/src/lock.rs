//! Locks: what can be asked of them and what the cluster keeps of them.
//!
//! A lock without a checked token is not a lock: its holder may have been paused for a minute without noticing. So
//! every lock has the fencing token of the entry that gave it, tokens only rise, and whatever the lock protects has to
//! refuse an older token than it has seen. Settings do that here ([`LockGuard`]); anything outside does it by itself.

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::{Millis, Token};
use serde::{Deserialize, Serialize};

use crate::display::place;

/// What can be asked of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockVerb {
    /// Takes a free lock and gives it a new token. Refused while anybody holds it, the same owner included: a process
    /// that was started again must not share the lock with the one it replaces.
    Acquire {
        /// Which lock; 1 to `NAME_BYTES_MAX` bytes of printable ASCII without spaces.
        name: String,
        /// Who takes it, for people; the same bound.
        owner: String,
        /// For how long in cluster time, `LOCK_TTL_MIN` to `LOCK_TTL_MAX`.
        ttl: Millis,
    },
    /// Holds it for longer. Never shortens the time that was promised before.
    Renew {
        /// Which lock.
        name: String,
        /// The token it was acquired under.
        token: Token,
        /// For how long from now.
        ttl: Millis,
    },
    /// Gives it back before its time.
    Release {
        /// Which lock.
        name: String,
        /// The token it was acquired under.
        token: Token,
    },
}

/// A lock that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Its name.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// The fencing token. Higher than that of every earlier holder.
    pub token: Token,
    /// Cluster time at which it was acquired.
    pub since: Millis,
    /// Cluster time at which it is free again unless it is renewed.
    pub until: Millis,
}

/// A condition on a command: it is refused unless the lock is held under this very token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockGuard {
    /// Which lock.
    pub name: String,
    /// The token the sender holds it under.
    pub token: Token,
}

impl Display for LockVerb {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Acquire { name, owner, ttl } => write!(f, "lock {name} for {owner}, {ttl}"),
            Self::Renew { name, token, ttl } => {
                write!(f, "renew lock {name} under {} for {ttl}", place(*token))
            }
            Self::Release { name, token } => write!(f, "unlock {name} under {}", place(*token)),
        }
    }
}

impl Display for LockRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (name, owner, until) = (&self.name, &self.owner, self.until);
        write!(
            f,
            "{name}: {owner} under {} until {until}",
            place(self.token)
        )
    }
}

impl Display for LockGuard {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "holding {} under {}", self.name, place(self.token))
    }
}
