//! The mesh's promises in figures, on real nodes in network namespaces: members end or stop for a while, again and again. When
//! somebody was given up is what each node wrote down itself; when a job was ready again is what a voter applied.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::machine::{Machine, PORT};
use super::sightings::{self, Look};
use crate::net::namespace::Namespace;
use crate::net::rule::Rule;
use crate::net::wire::Wire;
use crate::pace::Pace;

const VOTERS: usize = 3;
/// What has not happened after this time does not happen.
const PATIENCE: Duration = Duration::from_secs(180);
/// The pauses that nobody may be given up for, in milliseconds.
const PAUSES: std::ops::RangeInclusive<u64> = 1_000..=10_000;

/// How members end, or do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ending {
    /// Node and jobs are killed with -9; the host lives
    Killed,
    /// The host is cut off in silence
    Silent,
    /// Node and jobs are stopped for 1 to 10 s
    Paused,
}

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub struct TrialPlan {
    /// Nodes, three of them voters.
    pub members: u8,
    /// How often a member ends.
    pub trials: usize,
    /// So many of them at the same moment.
    pub at_once: usize,
    /// How.
    pub ending: Ending,
    /// Threads that keep the processors busy meanwhile.
    pub busy_threads: usize,
}

impl TrialPlan {
    /// # Errors
    /// Says which number makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (5..=200).contains(&self.members),
            "--members takes 5 to 200"
        );
        let workers = usize::from(self.members) - VOTERS;
        ensure!(
            (1..=workers / 2).contains(&self.at_once),
            "--at-once takes 1 to {}, half of the workers",
            workers / 2
        );
        ensure!(self.trials > 0, "--trials takes at least 1");
        Ok(())
    }
}

/// Runs the trials in the room and gives their figures as one line of JSON.
///
/// # Errors
/// Something never happened, or the machine does not permit it.
pub fn run(binary: &Path, folder: &Path, plan: TrialPlan) -> anyhow::Result<String> {
    plan.check()?;
    let mut field = Field::build(binary, folder, plan.members)?;
    field.form()?;
    let _load = Load::start(plan.busy_threads);
    let mut found = Found::default();
    let mut next = VOTERS;
    let mut rng = StdRng::seed_from_u64(1);
    while found.trials < plan.trials {
        let victims: BTreeSet<usize> = (0..plan.at_once.min(plan.trials - found.trials))
            .map(|_| {
                next = if next + 1 < field.machines.len() {
                    next + 1
                } else {
                    VOTERS
                };
                next
            })
            .collect();
        match plan.ending {
            Ending::Paused => field.pause(&victims, rng.random_range(PAUSES), &mut found)?,
            ending => field.end(&victims, ending, &mut found)?,
        }
        found.trials += victims.len();
        tracing::info!(trials = found.trials, "so far");
    }
    Ok(found.figures(plan).to_string())
}

/// Times in milliseconds from the moment of the end.
#[derive(Default)]
struct Found {
    trials: usize,
    first: Vec<u64>,
    everywhere: Vec<u64>,
    sessions_over: Vec<u64>,
    jobs_ready: Vec<u64>,
    /// Verdicts about nodes that lived, each observer's counted.
    wrong: usize,
    /// Sessions of nodes that lived, ended.
    wrong_reclaims: usize,
}

impl Found {
    fn figures(&self, plan: TrialPlan) -> Value {
        let mut figures = json!({
            "experiment": format!("{:?}", plan.ending).to_lowercase(),
            "nodes": plan.members,
            "trials": self.trials,
            "at_once": plan.at_once,
            "busy_threads": plan.busy_threads,
            "false_verdicts": self.wrong,
            "false_reclaims": self.wrong_reclaims,
        });
        let times = [
            ("first_verdict", &self.first),
            ("everywhere", &self.everywhere),
            ("session_over", &self.sessions_over),
            ("job_ready", &self.jobs_ready),
        ];
        for (what, times) in times.into_iter().filter(|(_, times)| !times.is_empty()) {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |share: usize| times[(times.len() * share).div_ceil(100).max(1) - 1];
            figures[what] = json!({
                "count": times.len(), "p50_ms": at(50), "p95_ms": at(95), "max_ms": at(100),
            });
        }
        figures
    }
}

struct Field {
    /// Ends before the voter that it listens to, which it would complain about.
    ledger: Option<Ledger>,
    machines: Vec<Machine>,
    ids: Vec<String>,
    wire: Wire,
    seeds: String,
    credential: String,
}

impl Field {
    fn build(binary: &Path, folder: &Path, count: u8) -> anyhow::Result<Self> {
        let (mut machines, mut ends) = (Vec::new(), Vec::new());
        for number in 0..count {
            let name = format!("m{}", number + 1);
            let (namespace, end) = Namespace::create(&name, number, count)?;
            machines.push(Machine::new(&name, number, namespace, folder, binary)?);
            ends.push(end);
        }
        let seeds = machines[..VOTERS].iter();
        let seeds: Vec<_> = seeds.map(|m| format!("{}:{PORT}", m.address)).collect();
        Ok(Self {
            ledger: None,
            machines,
            ids: Vec::new(),
            wire: Wire::lay(ends, 1),
            seeds: seeds.join(","),
            credential: folder.join("cluster.credential").display().to_string(),
        })
    }

    fn form(&mut self) -> anyhow::Result<()> {
        self.machines[0].say(&["cluster", "create", "--out", &self.credential])?;
        for voter in &mut self.machines[..VOTERS] {
            voter.start(&[
                "--credential",
                &self.credential,
                "--seeds",
                &self.seeds,
                "--bootstrap-expect",
                "3",
                "--preset",
                "smoke",
            ])?;
        }
        let uses = (self.machines.len() - VOTERS).to_string();
        let mut token = None;
        wait_for("a token", || {
            let made = self.machines[0].say(&["token", "create", "--uses", &uses]);
            token = made.ok();
            Ok(token.is_some())
        })?;
        let token = token.context("no token")?.trim().to_owned();
        self.ledger = Some(Ledger::open(&self.machines[0])?);
        for worker in &mut self.machines[VOTERS..] {
            worker.start(&["--join", &token, "--seeds", &self.seeds, "--slots", "1"])?;
        }
        let count = self.machines.len();
        let mut ids = Vec::new();
        wait_for("everybody's name", || {
            let members = self.machines[0].ask(&["members"]).unwrap_or_default();
            let named = members.as_array().into_iter().flatten();
            let of = |name: &str| {
                let mut named = named.clone().filter(|member| member["name"] == name);
                named.next()?["node"].as_str().map(str::to_owned)
            };
            ids = self.machines.iter().filter_map(|m| of(&m.name)).collect();
            Ok(ids.len() == count)
        })?;
        self.ids = ids;
        self.wait_until_up()
    }

    /// Waits until all nodes see all others as up, each with its own eyes; who was cut off gave up the others.
    fn wait_until_up(&self) -> anyhow::Result<()> {
        let mut waiting: BTreeSet<_> = (0..self.machines.len()).collect();
        wait_for("all to be up everywhere", || {
            waiting.retain(|observer| {
                let seen = sightings::of(&self.machines[*observer]).unwrap_or_default();
                let others = self.ids.iter().filter(|id| **id != self.ids[*observer]);
                let mut looks = others.map(|id| sightings::look(&seen, id));
                !looks.all(|look| look == Some(Look::Up))
            });
            Ok(waiting.is_empty())
        })
    }

    /// These end at the same moment, are given up, and come back.
    fn end(
        &mut self,
        victims: &BTreeSet<usize>,
        ending: Ending,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let begin = sightings::now_ms();
        if ending == Ending::Killed {
            for victim in victims {
                self.machines[*victim].kill()?;
            }
        } else {
            self.wire.set(|from, to| Rule {
                cut: victims.contains(&from) || victims.contains(&to),
                ..Rule::default()
            });
        }
        let observers: Vec<_> = (0..self.machines.len())
            .filter(|machine| !victims.contains(machine))
            .collect();
        let mut verdicts = vec![Vec::new(); self.machines.len()];
        let mut waiting = observers.clone();
        wait_for("the verdicts", || {
            let mut late = Vec::new();
            for observer in &waiting {
                let times = self.verdicts_of(*observer, victims, begin)?;
                if times.len() < victims.len() {
                    late.push(*observer);
                    continue;
                }
                for (victim, at) in times {
                    verdicts[victim].push(at - begin);
                }
            }
            waiting = late;
            Ok(waiting.is_empty())
        })?;
        for victim in victims {
            found.first.extend(verdicts[*victim].iter().min());
            found.everywhere.extend(verdicts[*victim].iter().max());
            self.reclaim(*victim, begin, found)?;
        }
        for observer in observers {
            found.wrong += self.wrong_verdicts(observer, victims, begin)?;
        }
        if ending == Ending::Killed {
            for victim in victims {
                self.machines[*victim].start(&["--seeds", &self.seeds, "--slots", "1"])?;
            }
        } else {
            self.wire.mend();
        }
        self.wait_until_up()
    }

    /// When this observer gave the victims up, those that it has.
    fn verdicts_of(
        &self,
        observer: usize,
        victims: &BTreeSet<usize>,
        begin: u64,
    ) -> anyhow::Result<Vec<(usize, u64)>> {
        let seen = sightings::of(&self.machines[observer])?;
        let of = |victim: &usize| {
            let mut ends = seen.iter().filter(|sighting| {
                (sighting.look, &sighting.node) == (Look::Down, &self.ids[*victim])
                    && sighting.at >= begin
            });
            ends.next().map(|sighting| (*victim, sighting.at))
        };
        Ok(victims.iter().filter_map(of).collect())
    }

    fn wrong_verdicts(
        &self,
        observer: usize,
        victims: &BTreeSet<usize>,
        begin: u64,
    ) -> anyhow::Result<usize> {
        let seen = sightings::of(&self.machines[observer])?;
        let is_victim = |id: &String| victims.iter().any(|victim| self.ids[*victim] == *id);
        let wrong = seen.iter().filter(|sighting| {
            sighting.look == Look::Down && sighting.at >= begin && !is_victim(&sighting.node)
        });
        Ok(wrong.count())
    }

    /// Waits until the victim's session is over, which makes its jobs ready in the same entry.
    fn reclaim(&self, victim: usize, begin: u64, found: &mut Found) -> anyhow::Result<()> {
        let ledger = self.ledger.as_ref().context("nobody keeps the ledger")?;
        wait_for("the end of a session", || {
            let ends = ledger.ends()?;
            let mut ends = ends
                .iter()
                .filter(|end| end.node == self.ids[victim] && end.at >= begin);
            let Some(end) = ends.next() else {
                return Ok(false);
            };
            found.sessions_over.push(end.at - begin);
            if end.jobs_lost > 0 {
                found.jobs_ready.push(end.at - begin);
            }
            Ok(true)
        })
    }

    /// These are stopped for a while; nobody is to be given up, and no session to end.
    fn pause(
        &mut self,
        victims: &BTreeSet<usize>,
        millis: u64,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let begin = sightings::now_ms();
        for victim in victims {
            self.machines[*victim].freeze()?;
        }
        Pace::default().wait(Duration::from_millis(millis));
        for victim in victims {
            self.machines[*victim].thaw()?;
        }
        self.wait_until_up()?;
        for observer in 0..self.machines.len() {
            found.wrong += self.wrong_verdicts(observer, &BTreeSet::new(), begin)?;
        }
        let ledger = self.ledger.as_ref().context("nobody keeps the ledger")?;
        let ends = ledger.ends()?;
        found.wrong_reclaims += ends.iter().filter(|end| end.at >= begin).count();
        Ok(())
    }
}

/// Asks until it is so; what cannot be asked now may be later.
fn wait_for(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let mut trouble = None;
    let is_done = Pace::default().wait_until(PATIENCE, || match done() {
        Ok(done) => done,
        Err(error) => {
            trouble = Some(error);
            false
        }
    });
    let told = trouble.map_or(String::new(), |error| format!(": {error:#}"));
    ensure!(is_done, "waited in vain for {what}{told}");
    Ok(())
}

/// A worker's session that is over, as a voter applied it.
#[derive(Clone)]
struct SessionEnd {
    at: u64,
    node: String,
    jobs_lost: usize,
}

/// What happens to the state, as one voter tells it.
struct Ledger {
    ends: Arc<Mutex<Result<Vec<SessionEnd>, String>>>,
    teller: Child,
    reader: Option<JoinHandle<()>>,
}

impl Ledger {
    fn open(voter: &Machine) -> anyhow::Result<Self> {
        let mut teller = voter.listen(&["events", "tail", "--json"])?;
        let lines = BufReader::new(teller.stdout.take().context("no output")?).lines();
        let ends = Arc::new(Mutex::new(Ok(Vec::new())));
        let written = Arc::clone(&ends);
        let reader = std::thread::spawn(move || {
            for line in lines {
                let at = sightings::now_ms();
                let line = line.map_err(|error| error.to_string());
                let read = line.and_then(|line| session_ends(&line, at));
                let mut written = lock(&written);
                match read {
                    Ok(new) => {
                        if let Ok(ends) = written.as_mut() {
                            ends.extend(new);
                        }
                    }
                    Err(error) => *written = Err(error),
                }
            }
        });
        Ok(Self {
            ends,
            teller,
            reader: Some(reader),
        })
    }

    fn ends(&self) -> anyhow::Result<Vec<SessionEnd>> {
        lock(&self.ends).clone().map_err(anyhow::Error::msg)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let ended = self.teller.kill().and_then(|()| self.teller.wait());
        if let Err(error) = ended {
            tracing::warn!(%error, "the teller could not be ended");
        } else if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sessions that end in a line of `events tail`; with one, its jobs are given back in the effects that follow.
fn session_ends(line: &str, at: u64) -> Result<Vec<SessionEnd>, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let applied = value
        .get("applied")
        .ok_or_else(|| format!("a line is missing: {line}"))?;
    let mut ends: Vec<SessionEnd> = Vec::new();
    for effect in applied["effects"].as_array().into_iter().flatten() {
        if let Some(end) = effect.get("session-ended") {
            ends.push(SessionEnd {
                at,
                node: end["node"].as_str().unwrap_or_default().to_owned(),
                jobs_lost: 0,
            });
        } else if effect.get("job-lost").is_some()
            && let Some(end) = ends.last_mut()
        {
            end.jobs_lost += 1;
        }
    }
    Ok(ends)
}

/// Threads that do nothing but be busy.
struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(count: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let spin = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..count).map(|_| std::thread::spawn(spin(Arc::clone(&over))));
        let threads = threads.collect();
        Self { over, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which sessions ended and whether they held jobs; a gap in the ledger is an error, because times would be wrong.
    #[test]
    fn ends_of_sessions_are_read() {
        let line = r#"{"applied":{"index":7,"effects":[{"session-ended":{"session":"1","node":"0a","reason":"down"}},
            {"job-lost":{"job":"2","token":"3","reason":"down"}},{"job-ready":{"job":"2"}},
            {"session-ended":{"session":"4","node":"0b","reason":"down"}}]}}"#;
        let ends = session_ends(line, 5).unwrap();
        let ends: Vec<_> = ends
            .iter()
            .map(|e| (e.node.as_str(), e.jobs_lost))
            .collect();
        assert_eq!(ends, [("0a", 1), ("0b", 0)]);
        assert!(session_ends(r#""gap""#, 5).is_err());
    }
}
