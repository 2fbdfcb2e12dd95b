//! What the clients do. Every step goes into the history.

mod chains;
mod locks;
mod members;
mod probe;
mod queue;
mod registers;
mod repeats;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::client::{Api, Trouble};
use crate::cluster::{Cluster, NodePlan};
use crate::edn::Edn;
use crate::history::{Actor, Kind, Recorder};
use crate::pace::Pace;

use locks::Counters;
pub use queue::JOBS_LISTED;

/// A kind of work for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Matches are entered, jobs read, games counted; workers run them.
    Queue,
    /// Registers in the settings: read, write, compare-and-set.
    Register,
    /// Locks that guard counters outside the cluster, with and without a check of the token, and settings inside.
    Lock,
    /// Every order is given several times, to several nodes, at once.
    Repeat,
    /// Voters lose their vote, learn, and get one again; 5 voters or more.
    Members,
    /// What happens is watched, at one voter after the other.
    Watch,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Queue => "queue",
            Self::Register => "register",
            Self::Lock => "lock",
            Self::Repeat => "repeat",
            Self::Members => "members",
            Self::Watch => "watch",
        })
    }
}

impl Workload {
    /// Operations that have to succeed under faults, or the run has tested nothing.
    pub fn operations(self) -> &'static [&'static str] {
        match self {
            Self::Queue => &["submit", "chain", "jobs"],
            Self::Register => &["read", "write", "cas"],
            Self::Lock => &["acquire", "count", "guarded", "release", "changes"],
            Self::Repeat => &["repeat", "changes"],
            Self::Members => &["members", "remove-voter", "add-voter"],
            Self::Watch => &["watch"],
        }
    }
}

/// One thread's work: until the phase ends.
pub type Work = fn(&mut Process<'_>, &Pace) -> anyhow::Result<()>;

/// What the clients share.
pub struct Clients {
    cluster: Arc<Cluster>,
    recorder: Arc<Recorder>,
    configuration: String,
    next_process: AtomicI64,
    /// Counts the operations on registers, which choose the register, and the values written.
    turns: AtomicI64,
    counters: Counters,
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
            turns: AtomicI64::new(0),
            counters: Counters::default(),
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

    /// The work of every thread of a run: `threads` of them for each of `workloads`, and the probes.
    pub fn work(&self, workloads: &[Workload], threads: usize) -> Vec<Work> {
        let mut work: Vec<Work> = Vec::new();
        for workload in workloads {
            match workload {
                Workload::Queue => {
                    work.push(|process, pace| process.submit_until(pace));
                    work.push(|process, pace| process.submit_until(pace));
                    work.push(|process, pace| process.read_until(pace));
                    work.push(|process, pace| process.chain_until(pace));
                }
                Workload::Register => {
                    let one: Work = |process, pace| process.use_registers_until(pace);
                    work.extend(vec![one; threads]);
                }
                Workload::Lock => {
                    let one: Work = |process, pace| process.use_locks_until(pace);
                    work.extend(vec![one; threads]);
                }
                Workload::Repeat => {
                    let one: Work = |process, pace| process.repeat_until(pace);
                    work.extend(vec![one; threads.div_ceil(2)]);
                }
                // One operator: what it was told is compared with what it sees.
                Workload::Members => {
                    work.push(|process, pace| process.change_members_until(pace));
                    work.push(|process, pace| process.read_members_until(pace));
                }
                Workload::Watch => {
                    let one: Work = |process, pace| process.watch_until(pace);
                    work.extend(vec![one; threads.div_ceil(2)]);
                }
            }
        }
        if workloads
            .iter()
            .any(|of| matches!(of, Workload::Lock | Workload::Repeat))
        {
            work.push(|process, pace| process.read_changes_until(pace));
        }
        work.push(|process, pace| process.ask_leader_until(pace));
        work
    }
}

impl Process<'_> {
    /// After the faults: what every voter shows in the end.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn read_finally(&mut self, workloads: &[Workload]) -> anyhow::Result<()> {
        if workloads.contains(&Workload::Queue) {
            self.read_queue_finally()?;
        }
        for voter in self.voters() {
            self.read_changes(&voter)?;
            self.read_settings(&voter)?;
        }
        Ok(())
    }

    /// Gives an order under the number `client`, which makes it this one order for ever.
    fn order(api: &Api, node: &NodePlan, client: u64, order: &Value) -> Result<Value, Trouble> {
        let answer = api.post(
            node,
            "/v1/orders",
            &json!({"client": client, "order": order}),
        )?;
        match answer["answer"]["reply"].clone() {
            Value::Null => Err(unreadable(&answer)),
            reply => Ok(reply),
        }
    }

    /// An order to write a setting.
    fn write_setting(key: &str, value: &str, expected: &Value, guard: &Value) -> Value {
        json!({"write-setting": {
            "key": key, "value": value, "expected": expected, "author": "jepsen", "guard": guard,
        }})
    }

    /// Records an operation around `act`. After an unknown outcome this client goes on under a new number.
    fn operation(
        &mut self,
        f: &str,
        value: Edn,
        act: impl FnOnce(&Api) -> Result<Edn, Trouble>,
    ) -> anyhow::Result<Option<Edn>> {
        let (recorder, actor) = (&self.clients.recorder, Actor::Client(self.number));
        recorder.record(actor, Kind::Invoke, f, value.clone(), None)?;
        match act(&self.api) {
            Ok(result) => {
                recorder.record(actor, Kind::Ok, f, result.clone(), None)?;
                return Ok(Some(result));
            }
            Err(Trouble::Refused(why)) => {
                recorder.record(actor, Kind::Fail, f, value, Some(why))?;
            }
            Err(Trouble::Unknown(why)) => {
                recorder.record(actor, Kind::Info, f, value, Some(why))?;
                self.number = self.clients.next_process.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(None)
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

    /// A number that nothing else has.
    fn next_turn(&self) -> i64 {
        self.clients.turns.fetch_add(1, Ordering::Relaxed)
    }
}

/// An answer that came and cannot be read: the request was carried out, and nothing is known of the result.
fn unreadable(answer: &Value) -> Trouble {
    Trouble::Unknown(format!("an answer of another shape: {answer}"))
}

/// A line that cannot be read; nothing was changed by it.
fn unreadable_line(line: &str, error: &anyhow::Error) -> Trouble {
    Trouble::Refused(format!("a line of another shape: {line}: {error:#}"))
}

/// What an answer of a read lists, if the answer includes every write acknowledged before the question.
fn fresh_list(answer: &Value) -> Result<&Vec<Value>, Trouble> {
    let linearizable = crate::observed::is_linearizable(answer)
        .map_err(|error| Trouble::Refused(error.to_string()))?;
    if !linearizable {
        return Err(Trouble::Refused("stale".to_owned()));
    }
    answer["answer"]
        .as_array()
        .ok_or_else(|| unreadable(answer))
}
