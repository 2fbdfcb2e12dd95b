//! Pairs of jobs: a child that waits for its parent. Some parents give way to more urgent jobs.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::queue::{KEY_PREFIX, numbers};
use super::{Process, unreadable};
use crate::edn::Edn;
use crate::pace::Pace;

impl Process<'_> {
    /// Enters pairs until the phase ends.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn chain_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        for count in 0_u64.. {
            // Until the cluster is at the level that has them, jobs that give way are refused.
            self.ordered(&json!("raise-level"));
            let parent = format!("{KEY_PREFIX}-chain-{}-{count}", self.number);
            let gives_way = self.rng.random_bool(0.5);
            let priority = self.rng.random_range(100..200);
            let job = self.job(&parent, &[], priority);
            let entered = self.submit_one("parent", &parent, job, gives_way)?;
            if let Some(above) = entered {
                let child = format!("{parent}-child");
                let job = self.job(&child, &[above], 255);
                self.submit_one("chain", &child, job, false)?;
            }
            if !pace.wait(Duration::from_millis(self.rng.random_range(1_500..5_000))) {
                break;
            }
        }
        Ok(())
    }

    /// A short match as a job.
    fn job(&self, key: &str, after: &[i64], priority: u8) -> Value {
        let payload = json!({
            "do": "evaluate", "seed": 1, "shape": "tiny", "candidate": "heuristic", "opponent": "random",
            "games": 2,
        });
        let after: Vec<_> = after.iter().map(|job| format!("j{job}")).collect();
        json!({
            "spec": {
                "kind": "evaluate",
                "configuration": self.clients.configuration,
                "payload": payload.to_string(),
                "priority": priority,
                "unique_key": key,
                "after": after,
                "not_before": 0,
                "needs": {"slots": 1, "device": "any"},
                "retry": {"attempts_max": 5, "backoff": 1_000, "backoff_max": 10_000},
            },
            "terms": {
                "tenant": "", "labels": [], "gpu_memory_mib": 0, "after": "all-done", "scope": "cluster",
                "every": null,
            },
        })
    }

    /// Enters one job; its number, if that is known. What is acknowledged of a child names its parent.
    fn submit_one(
        &mut self,
        f: &str,
        key: &str,
        job: Value,
        give_way: bool,
    ) -> anyhow::Result<Option<i64>> {
        let voter = self.any_voter();
        let above = numbers(&job["spec"]["after"]).unwrap_or_default();
        let client = self.rng.random();
        let order = json!({"submit-jobs": {"jobs": [job], "give_way": give_way}});
        let mut entered = None;
        let invoke = Edn::map([("key", Edn::from(key))]);
        self.operation(f, invoke, |api| {
            let reply = Self::order(api, &voter, client, &order)?;
            let jobs = numbers(&reply["Submitted"]["jobs"]).ok_or_else(|| unreadable(&reply))?;
            let all = above.into_iter().chain(jobs.clone());
            entered = jobs.first().copied();
            Ok(Edn::map([
                ("key", Edn::from(key)),
                ("jobs", Edn::Vector(all.map(Edn::Int).collect())),
            ]))
        })?;
        Ok(entered)
    }
}
