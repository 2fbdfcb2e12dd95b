//! Two situations that pre-vote and the quorum-loss probe are there for, played on five voters.

use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::{BlobHash, NodeId, Seed};
use tokio::time::{Instant, sleep};

use crate::simulation::{Plan, TICK, start_users};
use crate::users::Users;
use crate::voters::{Voters, lock};

/// A majority that can talk has to serve again within this.
const BRIDGE_MAX: Duration = Duration::from_secs(3);
/// How long a voter is away.
const AWAY: Duration = Duration::from_secs(4);
/// A voter that is back has to catch up within this, although the leader began to send it a snapshot while it was away.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// Nobody else may lead for this long after a voter has come back.
const CALM: Duration = Duration::from_secs(3);
/// It has caught up when it is this close.
const BEHIND_MAX: u64 = 50;

/// A situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// The leader keeps one link, to a voter that still sees two others, and the fifth is cut off: the majority hears
    /// the leader through the bridge and must free itself from it (DISTRIBUTED rule 15).
    Bridge,
    /// A follower is cut off, comes back, and must not cost anybody the leader (DISTRIBUTED rule 14).
    Comeback,
}

/// What came of a situation.
#[derive(Debug, Clone)]
pub struct ScenarioReport {
    /// How long it took until all was well.
    pub result: Result<Duration, String>,
    /// Hash of everything that happened, in order.
    pub trace: BlobHash,
    /// Everything that happened.
    pub text: String,
}

/// Plays a situation. Must be called on a single-threaded runtime with paused time.
pub async fn play(scenario: Scenario, seed: u64) -> ScenarioReport {
    let voters = match Voters::form(5, Seed(seed)).await {
        Ok(voters) => voters,
        Err(error) => {
            return ScenarioReport {
                result: Err(error.to_string()),
                trace: BlobHash::of(b""),
                text: String::new(),
            };
        }
    };
    let plan = Plan {
        workers: 4,
        voters: 5,
        ..Plan::of(seed)
    };
    let users = Users::of(Arc::clone(&voters));
    let mut tasks = start_users(&users, plan);
    let result = match scenario {
        Scenario::Bridge => cut_to_one_link(&voters).await,
        Scenario::Comeback => come_back(&voters).await,
    };
    users.end();
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    let trace = lock(&voters.trace);
    ScenarioReport {
        result,
        trace: trace.hash(),
        text: trace.text().to_owned(),
    }
}

async fn watch(voters: &Voters, long: Duration) {
    let until = Instant::now() + long;
    while Instant::now() < until {
        sleep(TICK).await;
        voters.look();
    }
}

/// Lets the group come to rest and gives its leader.
async fn settle(voters: &Voters) -> Result<u64, String> {
    watch(voters, Duration::from_secs(3)).await;
    let leader = voters.leader().ok_or("nobody leads after 3 s")?;
    Ok(leader.node().0)
}

/// The time, unless a rule of consensus was broken meanwhile.
fn unless_broken(voters: &Voters, after: Duration) -> Result<Duration, String> {
    let checker = lock(&voters.checker);
    let broken = checker.breaches().first().map(ToString::to_string);
    broken.map_or(Ok(after), Err)
}

async fn cut_to_one_link(voters: &Voters) -> Result<Duration, String> {
    let leader = settle(voters).await?;
    let others: Vec<u64> = (1..=5).filter(|number| *number != leader).collect();
    let (bridge, isolated) = (others[0], others[3]);
    for from in 1..=5 {
        for to in (1..=5).filter(|to| *to != from) {
            let single = |one: u64, other: u64| one == leader && other != bridge;
            if from == isolated || to == isolated || single(from, to) || single(to, from) {
                voters.network.cut(NodeId(from), NodeId(to));
            }
        }
    }
    voters.note(&format!("bridge {bridge} of leader {leader}"));
    voters.look();
    let cut = Instant::now();
    let before = lock(&voters.checker).committed();
    while cut.elapsed() < BRIDGE_MAX {
        sleep(TICK).await;
        voters.look();
        let freed = voters.leader().filter(|node| node.node().0 != leader);
        // Something new that clients asked for, not only the leader's first entry.
        if freed.is_some() && lock(&voters.checker).committed() > before + 2 {
            return unless_broken(voters, cut.elapsed());
        }
    }
    Err(format!(
        "the majority did not serve again within {BRIDGE_MAX:?}"
    ))
}

async fn come_back(voters: &Voters) -> Result<Duration, String> {
    let leader = settle(voters).await?;
    let reign = || {
        let leader = voters.leader()?;
        Some((leader.node(), leader.status().term))
    };
    let before = reign();
    let away = 1 + leader % 5;
    voters.network.isolate(NodeId(away));
    voters.note(&format!("{away} is away"));
    watch(voters, AWAY).await;
    voters.network.heal_all();
    voters.note(&format!("{away} is back"));
    let back = Instant::now();
    let node = voters
        .node(away)
        .ok_or("the voter that came back is down")?;
    let mut caught_up = None;
    while back.elapsed() < CALM {
        watch(voters, TICK).await;
        let after = reign();
        if after.is_some() && after != before {
            return Err(format!(
                "{away} came back and the leader changed: {before:?}, {after:?}"
            ));
        }
        let committed = lock(&voters.checker).committed();
        let behind = committed.saturating_sub(node.read(|index, _| index.0));
        if behind <= BEHIND_MAX {
            caught_up.get_or_insert(back.elapsed());
        } else if caught_up.is_none() && back.elapsed() >= CATCH_UP_MAX {
            return Err(format!(
                "{away} came back and is {behind} entries behind after {CATCH_UP_MAX:?}"
            ));
        }
    }
    unless_broken(voters, caught_up.unwrap_or(CALM))
}
