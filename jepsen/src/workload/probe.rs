//! Clients that do nothing but ask: who leads, and does each voter take writes?

use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::Process;
use crate::client::Trouble;
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::observed::{ObservedLeader, ObservedPart};
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

    /// Whether every voter has its vote and hears a leader.
    pub fn is_led_everywhere(&self) -> bool {
        let parts = self.parts();
        parts.is_some_and(|parts| parts.iter().all(|part| part.votes && part.is_led))
    }

    /// What a voter says of its own part in the group, if it answers.
    pub fn part(&self, voter: &NodePlan) -> Option<ObservedPart> {
        let answer = self.api.get(voter, "/v1/raft").ok()?;
        ObservedPart::from_json(&answer).ok()
    }

    /// The same of every voter; none when one does not answer.
    pub fn parts(&self) -> Option<Vec<ObservedPart>> {
        self.voters().iter().map(|voter| self.part(voter)).collect()
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

    /// The id that a node gives itself, if it answers. It is asked for its certificate, which is its own: most questions
    /// a node passes on that has no state or cannot confirm it, and the answer names who gave it.
    pub fn own_id(&self, node: &NodePlan) -> Option<String> {
        let answer = self.api.get(node, "/v1/certificate").ok()?;
        answer["node"].as_str().map(str::to_owned)
    }

    /// Gives an order at any voter that takes it; whether one said that it is done.
    pub fn ordered(&self, order: &Value) -> bool {
        let client = rand::random();
        let done = |voter: &NodePlan| Self::order(&self.api, voter, client, order).is_ok();
        self.voters().iter().any(done)
    }

    /// Writes a setting that nobody reads, at any voter that takes it; whether one said that it is done.
    pub fn write_long(&self, value: &str) -> bool {
        let (any, free) = (json!("any"), Value::Null);
        self.ordered(&Self::write_setting("long", value, &any, &free))
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::client::tests::{node, serve};
    use crate::cluster::{Cluster, Site};
    use crate::history::Recorder;
    use crate::workload::Clients;

    /// Clients of one voter that gives these answers.
    fn clients(answers: Vec<(&'static str, String)>, folder: &Path) -> Clients {
        let site = Site {
            plans: vec![node(serve(answers))],
            wire: None,
            reaper: None,
        };
        let cluster = Cluster::create(Path::new("/bin/true"), folder, site, 1).unwrap();
        let recorder = Recorder::new(Box::new(std::io::sink()));
        Clients::new(Arc::new(cluster), Arc::new(recorder), String::new())
    }

    fn raft(members: &str) -> String {
        let status = format!(
            r#"{{"node":"0b","has_quorum":true,"joint":false,"committed":7,"applied":6,"members":{members}}}"#
        );
        format!(r#"{{"node":"0b","mode":"stale","answer":{{"status":{status}}}}}"#)
    }

    /// A node that lost its disk passes questions on to those that vote. It is not taken for one of them, nor for a voter:
    /// it was, and the next disk that was wiped was then the majority's.
    #[test]
    fn who_passes_questions_on_is_not_who_answers_them() {
        let folder = tempfile::tempdir().unwrap();
        let told = r#"{"node":"0a","mode":"linearizable","answer":{"name":"v1","confirmed":true,"term":3}}"#;
        let own = r#"{"node":"0b","mode":"linearizable","answer":{}}"#;
        let others = r#"[{"node":"0a","voter":true},{"node":"0b","voter":false}]"#;
        let stranger = clients(
            vec![
                ("/v1/leader", told.to_owned()),
                ("/v1/certificate", own.to_owned()),
                ("/v1/raft", raft(others)),
            ],
            folder.path(),
        );
        let scout = stranger.process(1);
        assert_eq!(scout.own_id(&plan_of(&scout)).as_deref(), Some("0b"));
        assert_eq!(scout.leader().as_deref(), Some("v1"));
        assert!(!scout.is_led_everywhere());

        let voter = clients(
            vec![("/v1/raft", raft(r#"[{"node":"0b","voter":true}]"#))],
            folder.path(),
        );
        let scout = voter.process(1);
        let part = scout.part(&plan_of(&scout)).unwrap();
        assert_eq!((part.committed, part.applied), (7, 6));
        assert!(scout.is_led_everywhere());
    }

    fn plan_of(scout: &Process<'_>) -> NodePlan {
        scout.voters().remove(0)
    }
}
