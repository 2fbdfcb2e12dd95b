//! Orders given several times: the same answer each time, and one effect.

use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use super::{Process, fresh_list, unreadable};
use crate::client::{Api, Trouble};
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::pace::Pace;

/// Settings that are written to this end.
const KEYS: i64 = 4;
/// Times an order is given.
const TIMES: usize = 4;

impl Process<'_> {
    /// Gives every order several times until the phase ends.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn repeat_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        while pace.wait(Duration::from_millis(self.rng.random_range(50..300))) {
            let number = self.next_turn();
            let client: u64 = self.rng.random();
            let key = format!("once-{}", number % KEYS);
            let order = Self::write_setting(&key, &number.to_string(), &json!("any"), &Value::Null);
            let mut nodes: Vec<_> = self.voters().into_iter().cycle().take(TIMES).collect();
            nodes.shuffle(&mut self.rng);
            let value = Edn::map([
                ("key", Edn::from(key.as_str())),
                ("order", Edn::Int(number)),
            ]);
            self.operation("repeat", value, |api| {
                let mut replies = Vec::new();
                let mut trouble = None;
                // Twice at once, on two nodes or one, and then again.
                for nodes in nodes.chunks(2) {
                    for outcome in at_once(api, nodes, client, &order) {
                        match outcome {
                            Ok(reply) => replies.push(Edn::from(reply.to_string().as_str())),
                            Err(why) => trouble = Some(why),
                        }
                    }
                }
                match trouble {
                    Some(why) if replies.is_empty() => Err(why),
                    _ => Ok(Edn::map([
                        ("key", Edn::from(key.as_str())),
                        ("order", Edn::Int(number)),
                        ("replies", Edn::Vector(replies)),
                    ])),
                }
            })?;
        }
        Ok(())
    }

    /// Reads the changes of the settings until the phase ends, before newer ones push them out.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn read_changes_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        while pace.wait(Duration::from_millis(1_500)) {
            let voter = self.any_voter();
            self.read_changes(&voter)?;
        }
        Ok(())
    }

    /// The changes of settings as `[revision key value]`, without those of registers and probes.
    pub(super) fn read_changes(&mut self, voter: &NodePlan) -> anyhow::Result<()> {
        let node = Edn::map([("node", Edn::from(voter.name.as_str()))]);
        self.operation("changes", node, |api| {
            let answer = api.get(voter, "/v1/settings/changes")?;
            let mut changes = Vec::new();
            for change in fresh_list(&answer)? {
                let key = change["key"].as_str().ok_or_else(|| unreadable(change))?;
                if !key.starts_with("once-") && !key.starts_with("guarded-") {
                    continue;
                }
                let revision = change["revision"]
                    .as_i64()
                    .ok_or_else(|| unreadable(change))?;
                changes.push(Edn::Vector(vec![
                    Edn::Int(revision),
                    Edn::from(key),
                    change["value"].as_str().into(),
                ]));
            }
            Ok(Edn::map([
                ("node", Edn::from(voter.name.as_str())),
                ("changes", Edn::Vector(changes)),
            ]))
        })?;
        Ok(())
    }

    /// All settings as text, to be compared between voters when nobody writes.
    pub(super) fn read_settings(&mut self, voter: &NodePlan) -> anyhow::Result<()> {
        let node = Edn::map([("node", Edn::from(voter.name.as_str()))]);
        self.operation("final-settings", node, |api| {
            let answer = api.get(voter, "/v1/settings")?;
            fresh_list(&answer)?;
            Ok(Edn::map([
                ("node", Edn::from(voter.name.as_str())),
                ("settings", Edn::from(answer["answer"].to_string().as_str())),
            ]))
        })?;
        Ok(())
    }
}

fn at_once(
    api: &Api,
    nodes: &[NodePlan],
    client: u64,
    order: &Value,
) -> Vec<Result<Value, Trouble>> {
    std::thread::scope(|scope| {
        let give = |node| scope.spawn(move || Process::order(api, node, client, order));
        let given: Vec<_> = nodes.iter().map(give).collect();
        let ended = given.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.collect()
    })
}
