//! Voters under crashes, cuts and loss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use riftmesh_base::{NodeId, Seed};
use riftmesh_statemachine::State;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::SimulatedClient;
use crate::voters::Voters;

const CHAOS: Duration = Duration::from_secs(9);
const HEAL_MAX: Duration = Duration::from_secs(40);

/// Whatever happens to voters and messages, every promise is kept, replicas never differ at the same index, and once
/// the faults end everything submitted is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_are_kept_by_voters() {
    for (count, seed) in [(3, 1), (5, 2)] {
        one_run(count, Seed(seed)).await;
    }
}

async fn one_run(count: u64, seed: Seed) {
    let hint = format!("{count} voters, {seed:?}");
    let voters = Voters::form(count, seed).await.expect(&hint);
    let mut tasks = start_clients(&voters, seed);
    let faults = break_things(&voters, count, seed).await;
    voters.calm();
    let state = heal(&voters, count)
        .await
        .unwrap_or_else(|why| panic!("{why}; {hint}"));
    voters.end();
    while let Some(task) = tasks.join_next().await {
        task.expect(&hint);
    }
    let oracle = voters.oracle.lock().unwrap().clone();
    assert_eq!(oracle.judge(&state), [], "{hint}, faults {faults:?}");
    let (submitted, granted, completed) = oracle.counts();
    assert!(
        submitted > 10 && granted > 10 && completed > 10,
        "{:?}; {hint}",
        oracle.counts()
    );
    assert!(
        faults.len() >= 3,
        "too little was broken: {faults:?}; {hint}"
    );
    println!(
        "{hint}: {:?} promises, {} sessions expired, faults {faults:?}",
        oracle.counts(),
        voters.expired()
    );
    for number in voters.numbers() {
        voters.crash(number).await;
    }
}

fn start_clients(voters: &Arc<Voters>, seed: Seed) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let rng = |number| StdRng::seed_from_u64(seed.derive("client", number).0);
    for number in 1..=3 {
        let client = SimulatedClient::worker(NodeId(100 + number), seed);
        tasks.spawn(Arc::clone(voters).drive(client, rng(number)));
    }
    tasks.spawn(Arc::clone(voters).drive(SimulatedClient::submitter(1, seed), rng(50)));
    tasks.spawn(Arc::clone(voters).reap(rng(60)));
    tasks
}

/// One fault at a time; gives how often each kind fired.
async fn break_things(
    voters: &Arc<Voters>,
    count: u64,
    seed: Seed,
) -> BTreeMap<&'static str, usize> {
    let mut rng = StdRng::seed_from_u64(seed.derive("faults", 0).0);
    let mut fired = BTreeMap::new();
    let all: Vec<u64> = (1..=count).collect();
    let end = Instant::now() + CHAOS;
    while Instant::now() < end {
        sleep(Duration::from_millis(rng.random_range(200..800))).await;
        voters.compare_replicas();
        let leader = voters.leader().map(|leader| leader.node().0);
        let victim = leader
            .filter(|_| rng.random_bool(0.5))
            .unwrap_or_else(|| *all.choose(&mut rng).unwrap());
        let other = all[(victim as usize) % all.len()];
        let long = Duration::from_millis(rng.random_range(200..1_500));
        let kind = *["crash", "isolate", "one-way", "loss"]
            .choose(&mut rng)
            .unwrap();
        *fired.entry(kind).or_default() += 1;
        match kind {
            "crash" => voters.crash(victim).await,
            "isolate" => voters.network.isolate(NodeId(victim)),
            "one-way" => voters.network.cut(NodeId(victim), NodeId(other)),
            _ => voters.network.set_loss(0.3),
        }
        sleep(long).await;
        if kind == "crash" {
            voters
                .start(victim)
                .await
                .expect("a crashed voter starts again");
        }
        voters.network.heal_all();
        voters.network.set_loss(0.0);
    }
    fired
}

/// Waits until everything is done and the replicas have met.
async fn heal(voters: &Voters, count: u64) -> Result<State, String> {
    let deadline = Instant::now() + HEAL_MAX;
    while Instant::now() < deadline {
        if let Some(state) = voters.settled() {
            let indexes = voters.compare_replicas();
            let first = indexes.values().next();
            if indexes.len() as u64 == count && indexes.values().all(|index| Some(index) == first) {
                return Ok(state);
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(format!(
        "not settled {HEAL_MAX:?} after the last fault; {:?}",
        voters.compare_replicas()
    ))
}
