//! Rules broken on purpose, one by one, so that the simulation can show that it would notice.
//!
//! Without the feature `mutants` nothing here can be switched on, and the compiler removes what asks for it. With the
//! feature nothing is broken either, until a test program plants a mutant.

use std::fmt;

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A restarted leader goes on in its term (DISTRIBUTED rule 7).
    LeaderRestore,
    /// Entries are acknowledged before they are synced (rule 8).
    AckBeforeSync,
    /// A vote is given before it is durable (rule 11).
    VoteNotDurable,
    /// A restart forgets the purge point (rule 11).
    ForgetPurgePoint,
    /// A wiped disk keeps its node id (rule 13). The test program wipes the disks.
    ReusedId,
    /// No pre-vote (rules 14 and 15).
    NoPreVote,
    /// A leader without a quorum never falls silent (rule 15).
    NoProbe,
    /// A linearizable read is answered from the state as it is (rule 32).
    LocalRead,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LeaderRestore,
        Self::AckBeforeSync,
        Self::VoteNotDurable,
        Self::ForgetPurgePoint,
        Self::ReusedId,
        Self::NoPreVote,
        Self::NoProbe,
        Self::LocalRead,
    ];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaderRestore => "leader-restore",
            Self::AckBeforeSync => "ack-before-sync",
            Self::VoteNotDurable => "vote-not-durable",
            Self::ForgetPurgePoint => "forget-purge-point",
            Self::ReusedId => "reused-id",
            Self::NoPreVote => "no-pre-vote",
            Self::NoProbe => "no-probe",
            Self::LocalRead => "local-read",
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(feature = "mutants")]
static PLANTED: std::sync::OnceLock<Mutant> = std::sync::OnceLock::new();

/// Breaks the rule of this name.
///
/// # Errors
/// There is no such rule; the text lists them.
#[cfg(feature = "mutants")]
pub fn plant_named(name: &str) -> Result<(), String> {
    let named = |mutant: &Mutant| mutant.as_str() == name;
    let mutant = Mutant::ALL.into_iter().find(named).ok_or_else(|| {
        let all = Mutant::ALL.map(Mutant::as_str).join(", ");
        format!("there is no rule `{name}` to break, only {all}")
    })?;
    tracing::warn!(%mutant, "this node breaks a rule on purpose");
    plant(mutant);
    Ok(())
}

/// Breaks a rule for the rest of the process. Only the first call counts.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Mutant) {
    PLANTED.get_or_init(|| mutant);
}

/// Whether the rule is broken in this process.
#[cfg(feature = "mutants")]
pub fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(&mutant)
}

/// Whether the rule is broken in this process: never.
#[cfg(not(feature = "mutants"))]
pub const fn is_planted(_: Mutant) -> bool {
    false
}
