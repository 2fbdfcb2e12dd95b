//! Clients that do nothing but ask: who leads, and does each voter take writes?

use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::Process;
use crate::client::Trouble;
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::observed::ObservedLeader;
use crate::pace::Pace;

/// Time between two writes of a probe.
const WRITE_EVERY: Duration = Duration::from_millis(100);

impl Process<'_> {
    /// Writes at the voter number `number` until the phase ends, so that an outage is seen from every side.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn probe_writes_until(&mut self, number: usize, pace: &Pace) -> anyhow::Result<()> {
        let Some(voter) = self.voters().get(number).cloned() else {
            return Ok(());
        };
        let key = format!("probe-{}", voter.name);
        for count in 0_u64.. {
            let client = self.rng.random();
            let order = Self::write_setting(&key, &count.to_string(), &json!("any"), &Value::Null);
            let value = Edn::map([("node", Edn::from(voter.name.as_str()))]);
            self.operation("probe", value.clone(), |api| {
                Self::order(api, &voter, client, &order)?;
                Ok(value)
            })?;
            if !pace.wait(WRITE_EVERY) {
                break;
            }
        }
        Ok(())
    }

    /// Asks who leads until the phase ends, each voter in turn, a few times a second.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn ask_leader_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        let voters = self.voters();
        for voter in voters.iter().cycle() {
            self.ask_leader(voter)?;
            if !pace.wait(Duration::from_millis(200)) {
                break;
            }
        }
        Ok(())
    }

    /// Whether every voter confirms a leader.
    pub fn is_led_everywhere(&self) -> bool {
        let confirmed = |voter: &NodePlan| {
            let answer = self.api.get(voter, "/v1/leader").ok();
            let leader = answer.and_then(|answer| ObservedLeader::from_json(&answer).ok());
            leader.is_some_and(|leader| leader.confirmed)
        };
        self.voters().iter().all(confirmed)
    }

    /// The name of the leader that a quorum confirms, if some voter knows one.
    pub fn leader(&self) -> Option<String> {
        let says = |voter: &NodePlan| {
            let answer = self.api.get(voter, "/v1/leader").ok()?;
            let leader = ObservedLeader::from_json(&answer).ok()?;
            leader.name.filter(|_| leader.confirmed)
        };
        self.voters().iter().find_map(says)
    }

    /// The id that a node gives itself, if it answers.
    pub fn own_id(&self, node: &NodePlan) -> Option<String> {
        let answer = self.api.get(node, "/v1/leader").ok()?;
        answer["node"].as_str().map(str::to_owned)
    }

    /// Gives an order at any voter that takes it; whether one said that it is done.
    pub fn ordered(&self, order: &Value) -> bool {
        let client = rand::random();
        let done = |voter: &NodePlan| Self::order(&self.api, voter, client, order).is_ok();
        self.voters().iter().any(done)
    }

    /// Gives an order about who votes; the answer says whether it is done.
    ///
    /// # Errors
    /// In words.
    pub fn change_members(&self, node: &NodePlan, order: &Value) -> Result<Value, String> {
        let request = json!({"order": order, "expected": null});
        match self.api.post(node, "/v1/raft/members", &request) {
            Ok(mut answer) => Ok(answer["answer"].take()),
            Err(Trouble::Refused(why) | Trouble::Unknown(why)) => Err(why),
        }
    }

    fn ask_leader(&mut self, voter: &NodePlan) -> anyhow::Result<()> {
        self.operation(
            "leader",
            Edn::map([("node", Edn::from(voter.name.as_str()))]),
            |api| {
                let answer = api.get(voter, "/v1/leader")?;
                let leader = ObservedLeader::from_json(&answer)
                    .map_err(|error| Trouble::Refused(error.to_string()))?;
                Ok(leader.to_edn(&voter.name))
            },
        )?;
        Ok(())
    }
}
