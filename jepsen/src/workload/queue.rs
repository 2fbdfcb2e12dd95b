//! The queue: enter matches, read the jobs, count games.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Process, unreadable};
use crate::client::Trouble;
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::observed::{ObservedJob, ObservedQueue, is_linearizable};
use crate::pace::Pace;

/// Jobs asked for in one list: as many as the API gives. A run is short enough to see them all.
pub const JOBS_LISTED: usize = 1_000;
/// Games of a match: one pair, so that it is over soon.
const MATCH_GAMES: i64 = 2;

/// Keys of our jobs begin with it.
pub(super) const KEY_PREFIX: &str = "jepsen";

impl Process<'_> {
    /// Enters matches until the phase ends.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn submit_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        for count in 0_u64.. {
            let key = format!("{KEY_PREFIX}-{}-{count}", self.number);
            self.submit(&key)?;
            if !pace.wait(Duration::from_millis(self.rng.random_range(1_500..5_000))) {
                break;
            }
        }
        Ok(())
    }

    /// Reads the queue and counts games until the phase ends.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn read_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        while pace.wait(Duration::from_millis(self.rng.random_range(300..900))) {
            let voter = self.any_voter();
            self.read_jobs("jobs", &voter)?;
        }
        Ok(())
    }

    /// After the faults: every voter's queue, and the games counted between two reads of it.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn read_queue_finally(&mut self) -> anyhow::Result<()> {
        for voter in self.voters() {
            self.read_jobs("final-jobs", &voter)?;
            self.count_games(&voter)?;
        }
        for voter in self.voters() {
            self.read_jobs("final-jobs", &voter)?;
        }
        Ok(())
    }

    /// How many jobs have to be over yet, by a linearizable read: all of ours, and one of self-play, so that there are
    /// games to count. None when no voter can say.
    pub fn unfinished(&self) -> Option<usize> {
        let path = format!("/v1/jobs?limit={JOBS_LISTED}");
        let look = |voter: &NodePlan| {
            let answer = self.api.get(voter, &path).ok()?;
            let queue = ObservedQueue::from_json(&answer).ok()?;
            let left = |job: &&ObservedJob| is_ours(job) && !job.is_over();
            let made_games = queue
                .jobs
                .iter()
                .any(|job| job.kind == "selfplay" && job.state == "done");
            let count = || queue.jobs.iter().filter(left).count() + usize::from(!made_games);
            queue.linearizable.then(count)
        };
        self.voters().iter().find_map(look)
    }

    fn submit(&mut self, key: &str) -> anyhow::Result<()> {
        let voter = self.any_voter();
        let body = json!({
            "configuration": self.clients.configuration,
            "candidate": "heuristic",
            "opponent": "random",
            "games": MATCH_GAMES,
            "key": key,
        });
        let invoke = Edn::map([
            ("node", Edn::from(voter.name.as_str())),
            ("key", Edn::from(key)),
        ]);
        self.operation("submit", invoke, |api| {
            let answer = api.post(&voter, "/v1/matches", &body)?;
            let jobs = job_numbers(&answer).ok_or_else(|| unreadable(&answer))?;
            Ok(Edn::map([
                ("key", Edn::from(key)),
                (
                    "jobs",
                    Edn::Vector(jobs.into_iter().map(Edn::Int).collect()),
                ),
            ]))
        })?;
        Ok(())
    }

    fn read_jobs(&mut self, f: &str, voter: &NodePlan) -> anyhow::Result<()> {
        self.operation(
            f,
            Edn::map([("node", Edn::from(voter.name.as_str()))]),
            |api| {
                let answer = api.get(voter, &format!("/v1/jobs?limit={JOBS_LISTED}"))?;
                let queue = ObservedQueue::from_json(&answer)
                    .map_err(|error| Trouble::Refused(format!("{error:#}")))?;
                Ok(queue.to_edn(&voter.name))
            },
        )?;
        Ok(())
    }

    fn count_games(&mut self, voter: &NodePlan) -> anyhow::Result<()> {
        let configuration = self.clients.configuration.clone();
        self.operation(
            "games",
            Edn::map([("node", Edn::from(voter.name.as_str()))]),
            |api| {
                let answer = api.get(voter, "/v1/progress")?;
                let linearizable = is_linearizable(&answer)
                    .map_err(|error| Trouble::Refused(error.to_string()))?;
                let loops = answer["answer"]
                    .as_array()
                    .ok_or_else(|| unreadable(&answer))?;
                let ours = loops
                    .iter()
                    .find(|of| of["configuration"] == configuration.as_str());
                let games = ours.map_or(Some(0), |of| of["games"].as_i64());
                let games = games.ok_or_else(|| unreadable(&answer))?;
                Ok(Edn::map([
                    ("node", Edn::from(voter.name.as_str())),
                    ("linearizable", Edn::Bool(linearizable)),
                    ("games", Edn::Int(games)),
                ]))
            },
        )?;
        Ok(())
    }
}

/// Whether a job is of a match that some client here entered.
fn is_ours(job: &ObservedJob) -> bool {
    job.key
        .as_deref()
        .is_some_and(|key| key.contains(KEY_PREFIX))
}

/// The jobs in the answer to a submission.
fn job_numbers(answer: &Value) -> Option<Vec<i64>> {
    numbers(&answer["answer"])
}

/// The numbers in a list of ids of jobs.
pub(super) fn numbers(ids: &Value) -> Option<Vec<i64>> {
    let number = |id: &Value| id.as_str()?.strip_prefix('j')?.parse().ok();
    ids.as_array()?.iter().map(number).collect()
}
