//! What the clients do: enter matches, read the queue, count games, ask who leads. Every step goes into the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::client::{Api, Trouble};
use crate::cluster::{Cluster, NodePlan};
use crate::edn::Edn;
use crate::history::{Actor, Kind, Recorder};
use crate::observed::{ObservedJob, ObservedLeader, ObservedQueue, is_linearizable};
use crate::pace::Pace;

/// Jobs asked for in one list: as many as the API gives. A run is short enough to see them all.
pub const JOBS_LISTED: usize = 1_000;
/// Games of a match: one pair, so that it is over soon.
const MATCH_GAMES: i64 = 2;

/// Keys of our matches begin with it.
const KEY_PREFIX: &str = "jepsen";

/// What the clients share.
pub struct Clients {
    cluster: Arc<Cluster>,
    recorder: Arc<Recorder>,
    configuration: String,
    next_process: AtomicI64,
}

/// One client: at most one operation under way.
pub struct Process<'a> {
    clients: &'a Clients,
    api: Api,
    rng: StdRng,
    number: i64,
}

impl Clients {
    /// Clients of `cluster` that write down what they do.
    pub fn new(cluster: Arc<Cluster>, recorder: Arc<Recorder>, configuration: String) -> Self {
        Self {
            cluster,
            recorder,
            configuration,
            next_process: AtomicI64::new(0),
        }
    }

    /// A new client.
    pub fn process(&self, seed: u64) -> Process<'_> {
        let number = self.next_process.fetch_add(1, Ordering::Relaxed);
        let rng = StdRng::seed_from_u64(seed ^ number.unsigned_abs());
        Process {
            clients: self,
            api: Api::default(),
            rng,
            number,
        }
    }
}

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

    /// Asks who leads until the phase ends, each voter in turn, a few times a second.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn probe_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        let voters = self.voters();
        for voter in voters.iter().cycle() {
            self.ask_leader(voter)?;
            if !pace.wait(Duration::from_millis(100)) {
                break;
            }
        }
        Ok(())
    }

    /// After the faults: every voter's queue, and the games counted between two reads of it.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn read_finally(&mut self) -> anyhow::Result<()> {
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
            let answer = self.api.get(voter.address, &path).ok()?;
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

    /// Whether every voter confirms a leader.
    pub fn is_led_everywhere(&self) -> bool {
        let confirmed = |voter: &NodePlan| {
            let answer = self.api.get(voter.address, "/v1/leader").ok();
            let leader = answer.and_then(|answer| ObservedLeader::from_json(&answer).ok());
            leader.is_some_and(|leader| leader.confirmed)
        };
        self.voters().iter().all(confirmed)
    }

    /// The name of the leader that a quorum confirms, if some voter knows one.
    pub fn leader(&self) -> Option<String> {
        let says = |voter: &NodePlan| {
            let answer = self.api.get(voter.address, "/v1/leader").ok()?;
            let leader = ObservedLeader::from_json(&answer).ok()?;
            leader.name.filter(|_| leader.confirmed)
        };
        self.voters().iter().find_map(says)
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
            let answer = api.post(voter.address, "/v1/matches", &body)?;
            let jobs = job_numbers(&answer).ok_or_else(|| unreadable(&answer))?;
            Ok(Edn::map([
                ("key", Edn::from(key)),
                (
                    "jobs",
                    Edn::Vector(jobs.into_iter().map(Edn::Int).collect()),
                ),
            ]))
        })
    }

    fn read_jobs(&mut self, f: &str, voter: &NodePlan) -> anyhow::Result<()> {
        self.operation(
            f,
            Edn::map([("node", Edn::from(voter.name.as_str()))]),
            |api| {
                let answer = api.get(voter.address, &format!("/v1/jobs?limit={JOBS_LISTED}"))?;
                let queue = ObservedQueue::from_json(&answer)
                    .map_err(|error| Trouble::Refused(format!("{error:#}")))?;
                Ok(queue.to_edn(&voter.name))
            },
        )
    }

    fn count_games(&mut self, voter: &NodePlan) -> anyhow::Result<()> {
        let configuration = self.clients.configuration.clone();
        self.operation(
            "games",
            Edn::map([("node", Edn::from(voter.name.as_str()))]),
            |api| {
                let answer = api.get(voter.address, "/v1/progress")?;
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
        )
    }

    fn ask_leader(&mut self, voter: &NodePlan) -> anyhow::Result<()> {
        self.operation(
            "leader",
            Edn::map([("node", Edn::from(voter.name.as_str()))]),
            |api| {
                let answer = api.get(voter.address, "/v1/leader")?;
                let leader = ObservedLeader::from_json(&answer)
                    .map_err(|error| Trouble::Refused(error.to_string()))?;
                Ok(leader.to_edn(&voter.name))
            },
        )
    }

    /// Records an operation around `act`. After an unknown outcome this client goes on under a new number.
    fn operation(
        &mut self,
        f: &str,
        value: Edn,
        act: impl FnOnce(&Api) -> Result<Edn, Trouble>,
    ) -> anyhow::Result<()> {
        let (recorder, actor) = (&self.clients.recorder, Actor::Client(self.number));
        recorder.record(actor, Kind::Invoke, f, value.clone(), None)?;
        match act(&self.api) {
            Ok(result) => recorder.record(actor, Kind::Ok, f, result, None)?,
            Err(Trouble::Refused(why)) => {
                recorder.record(actor, Kind::Fail, f, value, Some(why))?
            }
            Err(Trouble::Unknown(why)) => {
                recorder.record(actor, Kind::Info, f, value, Some(why))?;
                self.number = self.clients.next_process.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn voters(&self) -> Vec<NodePlan> {
        let nodes = self.clients.cluster.nodes().iter();
        nodes.filter(|plan| plan.voter).cloned().collect()
    }

    fn any_voter(&mut self) -> NodePlan {
        let mut voters = self.voters();
        let chosen = self.rng.random_range(0..voters.len());
        voters.swap_remove(chosen)
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
    let number = |id: &Value| id.as_str()?.strip_prefix('j')?.parse().ok();
    answer["answer"].as_array()?.iter().map(number).collect()
}

/// An answer that came and cannot be read: the request was carried out, and nothing is known of the result.
fn unreadable(answer: &Value) -> Trouble {
    Trouble::Unknown(format!("an answer of another shape: {answer}"))
}
