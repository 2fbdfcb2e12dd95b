//! Registers in the settings: the values of one history each, with a key that is used for a while and then left.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Process, fresh_list, unreadable};
use crate::client::{Api, Trouble};
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::history::MISMATCH;
use crate::pace::Pace;

/// Operations on a register before the next one's turn: few enough for the checker to decide.
const OPERATIONS_OF_REGISTER: i64 = 150;

/// How the API says that a setting was not as expected.
const OTHER_REVISION: [&str; 3] = ["has revision", "exists with revision", "has no revision"];

/// What a register held when it was read.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: i64,
    value: i64,
    revision: u64,
}

impl Process<'_> {
    /// Reads, writes and compares-and-sets registers until the phase ends.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn use_registers_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        let mut held: Option<Held> = None;
        while pace.wait(Duration::from_millis(self.rng.random_range(10..120))) {
            let turn = self.next_turn();
            let key = turn / OPERATIONS_OF_REGISTER;
            let node = self.any_voter();
            let known = held.take().filter(|held| held.key == key);
            match (self.rng.random_range(0..10), known) {
                (0..3, _) => self.write_register(&node, key, turn)?,
                (3..7, Some(known)) => self.set_register(&node, known, turn)?,
                _ => held = self.read_register(&node, key)?,
            }
        }
        Ok(())
    }

    fn read_register(&mut self, node: &NodePlan, key: i64) -> anyhow::Result<Option<Held>> {
        let mut held = None;
        self.operation("read", pair(key, Edn::Nil), |api| {
            held = look(api, node, key)?;
            Ok(pair(key, held.map(|held| held.value).into()))
        })?;
        Ok(held)
    }

    fn write_register(&mut self, node: &NodePlan, key: i64, value: i64) -> anyhow::Result<()> {
        let client = self.rng.random();
        let written = pair(key, Edn::Int(value));
        let order =
            Self::write_setting(&name(key), &value.to_string(), &json!("any"), &Value::Null);
        self.operation("write", written.clone(), |api| {
            Self::order(api, node, client, &order)?;
            Ok(written)
        })?;
        Ok(())
    }

    /// Compares the revision, and so the value: no value is written twice.
    fn set_register(&mut self, node: &NodePlan, held: Held, value: i64) -> anyhow::Result<()> {
        let client = self.rng.random();
        let change = Edn::Vector(vec![Edn::Int(held.value), Edn::Int(value)]);
        let written = pair(held.key, change);
        let expected = json!({"revision": held.revision});
        let order =
            Self::write_setting(&name(held.key), &value.to_string(), &expected, &Value::Null);
        self.operation("cas", written.clone(), |api| {
            match Self::order(api, node, client, &order) {
                Ok(_) => Ok(written),
                Err(Trouble::Refused(why)) if OTHER_REVISION.iter().any(|so| why.contains(so)) => {
                    Err(Trouble::Refused(format!("{MISMATCH}: {why}")))
                }
                Err(other) => Err(other),
            }
        })?;
        Ok(())
    }
}

fn look(api: &Api, node: &NodePlan, key: i64) -> Result<Option<Held>, Trouble> {
    let answer = api.get(node, "/v1/settings")?;
    let name = name(key);
    let found = fresh_list(&answer)?
        .iter()
        .find(|setting| setting["key"] == name.as_str());
    let Some(setting) = found else {
        return Ok(None);
    };
    let value = setting["value"].as_str().and_then(|text| text.parse().ok());
    match (value, setting["revision"].as_u64()) {
        (Some(value), Some(revision)) => Ok(Some(Held {
            key,
            value,
            revision,
        })),
        _ => Err(unreadable(setting)),
    }
}

fn name(key: i64) -> String {
    format!("register-{key}")
}

fn pair(key: i64, value: Edn) -> Edn {
    Edn::Vector(vec![Edn::Int(key), value])
}
