//! The table of settings and its history.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::bounds::{SETTING_BYTES_MAX, SETTING_CHANGES_KEPT, SETTINGS_MAX};
use crate::effect::Effect;
use crate::jobs::{check_full, check_name};
use crate::reply::{Refusal, Reply};
use crate::setting::{Expected, SettingChange, SettingRecord, SettingWrite};
use crate::state::{State, Turn};

/// Settings by key. One counter numbers the changes of all of them, so that a reader of the history sees the order in
/// which two settings changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Changes so far.
    revision: u64,
    records: BTreeMap<String, SettingRecord>,
    /// The last changes, oldest first.
    history: VecDeque<SettingChange>,
}

impl Settings {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, key: &str) -> Option<&SettingRecord> {
        self.records.get(key)
    }

    pub fn records(&self) -> impl ExactSizeIterator<Item = &SettingRecord> {
        self.records.values()
    }

    pub fn history(&self) -> &VecDeque<SettingChange> {
        &self.history
    }

    fn write(&mut self, change: SettingChange) {
        self.revision = change.revision;
        match &change.value {
            None => {
                self.records.remove(&change.key);
            }
            Some(value) => {
                let record = SettingRecord {
                    key: change.key.clone(),
                    value: value.clone(),
                    revision: change.revision,
                    author: change.author.clone(),
                    changed: change.at,
                };
                self.records.insert(change.key.clone(), record);
            }
        }
        self.history.push_back(change);
        if self.history.len() > SETTING_CHANGES_KEPT {
            self.history.pop_front();
        }
    }
}

impl State {
    pub(crate) fn write_setting(
        &mut self,
        turn: &mut Turn,
        write: &SettingWrite,
    ) -> Result<Reply, Refusal> {
        check_name("the key of a setting", &write.key)?;
        check_name("the author of a setting", &write.author)?;
        let bytes = write.value.as_ref().map_or(0, String::len);
        if bytes > SETTING_BYTES_MAX {
            return Err(Refusal::Invalid(format!(
                "a value of {bytes} bytes for setting `{}`, at most {SETTING_BYTES_MAX} are allowed",
                write.key
            )));
        }
        self.check_guard(write.guard.as_ref())?;
        let known = self.settings.get(&write.key);
        check_expected(write, known)?;
        if write.value.is_none() && known.is_none() {
            return Err(Refusal::Unknown(format!("setting `{}`", write.key)));
        }
        let after = self.settings.records.len() + usize::from(known.is_none());
        check_full("the table of settings", after as u64, SETTINGS_MAX as u64)?;
        let revision = self.settings.revision + 1;
        self.settings.write(SettingChange {
            revision,
            key: write.key.clone(),
            value: write.value.clone(),
            author: write.author.clone(),
            at: turn.now,
        });
        turn.tell(Effect::SettingChanged {
            key: write.key.clone(),
            revision,
        });
        Ok(Reply::Revision { revision })
    }
}

fn check_expected(write: &SettingWrite, known: Option<&SettingRecord>) -> Result<(), Refusal> {
    let found = known.map(|record| record.revision);
    let (key, expected) = (&write.key, write.expected);
    match (expected, found) {
        (Expected::Any, _) | (Expected::Absent, None) => Ok(()),
        (Expected::Revision(wanted), Some(revision)) if wanted == revision => Ok(()),
        (Expected::Absent, Some(revision)) => Err(Refusal::Conflict(format!(
            "setting `{key}` exists with revision {revision}"
        ))),
        (Expected::Revision(wanted), Some(revision)) => Err(Refusal::Conflict(format!(
            "setting `{key}` has revision {revision}, not {wanted}"
        ))),
        (Expected::Revision(wanted), None) => Err(Refusal::Conflict(format!(
            "setting `{key}` does not exist, so it has no revision {wanted}"
        ))),
    }
}
