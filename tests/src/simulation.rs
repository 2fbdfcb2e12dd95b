//! One run of the simulation: chaos, then all faults off, and the group must converge and serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use riftmesh_base::{BlobHash, NodeId, Seed};
use riftmesh_statemachine::State;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::SimulatedClient;
use crate::faults::Faults;
use crate::users::Users;
use crate::voters::{Voters, lock};

/// How often everything is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// How long the group has to converge after the last fault.
const HEAL_MAX: Duration = Duration::from_secs(30);

/// What a run does, all of it from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: Seed,
    /// Voters at the beginning, 3 to 7.
    pub voters: u64,
    /// Workers, each with a client of its own.
    pub workers: u64,
    /// How long faults go on.
    pub chaos: Duration,
    /// Whether voters come and go.
    pub churn: bool,
    /// Whether autopilot keeps their number while one is lost for good; only without `churn`.
    pub autopilot: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let seed = Seed(seed);
        let mut rng = StdRng::seed_from_u64(seed.derive("plan", 0).0);
        Self {
            seed,
            voters: rng.random_range(3..=7),
            workers: rng.random_range(4..=12),
            chaos: Duration::from_secs(rng.random_range(8..=16)),
            churn: rng.random_bool(0.6),
            autopilot: rng.random_bool(0.5),
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct SimulationReport {
    /// What was broken, as sentences.
    pub breaches: Vec<String>,
    /// Submissions, grants, completions and linearizable reads that were acknowledged.
    pub counts: (usize, usize, usize, usize),
    /// Leaders' reigns seen.
    pub reigns: usize,
    /// Sessions expired.
    pub expired: usize,
    /// The newest entry committed.
    pub committed: u64,
    /// How often each fault fired.
    pub faults: BTreeMap<&'static str, usize>,
    /// How long the group took to converge once the faults were off.
    pub healed_after: Duration,
    /// Hash of everything that happened, in order.
    pub trace: BlobHash,
    /// Everything that happened.
    pub text: String,
}

/// Runs a plan. Must be called on a single-threaded runtime with paused time.
pub async fn run(plan: Plan) -> SimulationReport {
    let voters = match Voters::form(plan.voters, plan.seed).await {
        Ok(voters) => voters,
        Err(error) => return failed(format!("the group was not formed: {error}")),
    };
    let users = Users::of(Arc::clone(&voters));
    let faults = Faults::new(Arc::clone(&users));
    let mut tasks = start_users(&users, plan);
    let rng = |number| StdRng::seed_from_u64(plan.seed.derive("faults", number).0);
    let mut breaking = JoinSet::new();
    breaking.spawn(Arc::clone(&faults).network(rng(0)));
    breaking.spawn(Arc::clone(&faults).machines(rng(1)));
    if plan.churn {
        breaking.spawn(Arc::clone(&faults).members(rng(2)));
    } else if plan.autopilot {
        breaking.spawn(Arc::clone(&faults).loss(rng(3)));
        tasks.spawn(Arc::clone(&faults).autopilot());
    }
    while voters.elapsed() < plan.chaos {
        sleep(TICK).await;
        voters.look();
    }
    users.calm();
    while !breaking.is_empty() {
        sleep(TICK).await;
        voters.look();
        while breaking.try_join_next().is_some() {}
    }
    faults.end().await;
    let healing = Instant::now();
    let state = heal(&voters).await;
    let healed_after = healing.elapsed();
    users.end();
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    report(&users, &faults, state.as_ref(), healed_after)
}

pub(crate) fn start_users(users: &Arc<Users>, plan: Plan) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let rng = |kind, number| StdRng::seed_from_u64(plan.seed.derive(kind, number).0);
    for number in 1..=plan.workers {
        let client = SimulatedClient::worker(NodeId(100 + number), plan.seed);
        tasks.spawn(Arc::clone(users).drive(client, rng("driver", number)));
    }
    for number in 1..=2 {
        let client = SimulatedClient::submitter(number, plan.seed);
        tasks.spawn(Arc::clone(users).drive(client, rng("driver", 1_000 + number)));
        tasks.spawn(Arc::clone(users).read(rng("reader", number)));
    }
    tasks.spawn(Arc::clone(users).reap(rng("reaper", 0)));
    tasks
}

/// Waits until everything is done and the voters have met; gives the state they agree on.
async fn heal(voters: &Voters) -> Option<State> {
    let deadline = Instant::now() + HEAL_MAX;
    while Instant::now() < deadline {
        sleep(TICK).await;
        voters.look();
        if let Some(state) = voters.settled() {
            return Some(state);
        }
    }
    None
}

fn report(
    users: &Users,
    faults: &Faults,
    state: Option<&State>,
    healed_after: Duration,
) -> SimulationReport {
    let voters = &users.voters;
    let oracle = lock(&voters.oracle).clone();
    let mut breaches: Vec<String> = {
        let checker = lock(&voters.checker);
        checker.breaches().iter().map(ToString::to_string).collect()
    };
    if let Some(error) = faults.failure() {
        breaches.push(format!(
            "a machine did not start on what its disk held: {error}"
        ));
    }
    match state {
        Some(state) => breaches.extend(oracle.judge(state).iter().map(ToString::to_string)),
        None => {
            breaches.push(format!("not converged {HEAL_MAX:?} after the last fault"));
            breaches.extend(oracle.breaches().iter().map(ToString::to_string));
        }
    }
    breaches.dedup();
    let (submitted, granted, completed) = oracle.counts();
    let checker = lock(&voters.checker);
    let trace = lock(&voters.trace);
    SimulationReport {
        breaches,
        counts: (submitted, granted, completed, oracle.reads()),
        reigns: checker.reigns(),
        expired: users.expired(),
        committed: checker.committed(),
        faults: faults.fired(),
        healed_after,
        trace: trace.hash(),
        text: trace.text().to_owned(),
    }
}

fn failed(breach: String) -> SimulationReport {
    SimulationReport {
        breaches: vec![breach],
        counts: (0, 0, 0, 0),
        reigns: 0,
        expired: 0,
        committed: 0,
        faults: BTreeMap::new(),
        healed_after: Duration::ZERO,
        trace: BlobHash::of(b""),
        text: String::new(),
    }
}
