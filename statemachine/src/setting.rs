//! Settings: small values by key, with revisions and a history.

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::Millis;
use serde::{Deserialize, Serialize};

use crate::lock::LockGuard;

/// Writes or deletes one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingWrite {
    /// Which; 1 to `NAME_BYTES_MAX` bytes of printable ASCII without spaces.
    pub key: String,
    /// The new value, at most `SETTING_BYTES_MAX` bytes; none deletes the setting.
    pub value: Option<String>,
    /// What must be there now. Anything else refuses the write.
    pub expected: Expected,
    /// Who writes, for the history; the bound of the key.
    pub author: String,
    /// A lock the writer must still hold.
    pub guard: Option<LockGuard>,
}

/// The condition of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// The setting does not exist.
    Absent,
    /// The setting has this revision.
    Revision(u64),
}

/// A setting as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRecord {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The revision that wrote it.
    pub revision: u64,
    /// Who wrote it.
    pub author: String,
    /// Cluster time of the write.
    pub changed: Millis,
}

/// One write of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Counts the changes of all settings from 1.
    pub revision: u64,
    /// Which setting.
    pub key: String,
    /// What it became, none when it was deleted.
    pub value: Option<String>,
    /// Who wrote it.
    pub author: String,
    /// Cluster time of the write.
    pub at: Millis,
}

impl Display for SettingWrite {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.value {
            Some(value) => write!(f, "set {} to `{value}`", self.key)?,
            None => write!(f, "delete setting {}", self.key)?,
        }
        match self.expected {
            Expected::Any => {}
            Expected::Absent => f.write_str(" if it is absent")?,
            Expected::Revision(revision) => write!(f, " if it has revision {revision}")?,
        }
        if let Some(guard) = &self.guard {
            write!(f, ", {guard}")?;
        }
        write!(f, " (by {})", self.author)
    }
}

impl Display for SettingChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (revision, key, author, at) = (self.revision, &self.key, &self.author, self.at);
        match &self.value {
            Some(value) => write!(f, "{revision} {key} = `{value}` by {author} at {at}"),
            None => write!(f, "{revision} {key} deleted by {author} at {at}"),
        }
    }
}
