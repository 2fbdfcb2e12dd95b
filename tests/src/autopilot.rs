//! Autopilot among voters that crash, come back and are lost for good.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use riftmesh_base::{Millis, NodeId};
use riftmesh_raft::{
    AutopilotPolicy, AutopilotStep, Presence, RaftStatus, Silences, VoterFact, next_step,
};
use tokio::time::{Instant, sleep};

use crate::faults::Faults;
use crate::voters::{Voters, address};

/// How long one step may take.
const ORDER_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at the voters.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Much shorter than anybody would set it, so that machines that come back find their place taken.
const POLICY: AutopilotPolicy = AutopilotPolicy {
    voters: None,
    replace_after: Millis(500),
    remove_after: Millis(5_000),
};

impl Faults {
    /// Runs on whoever leads, until it is aborted.
    pub async fn autopilot(self: Arc<Self>) {
        let mut silences = Silences::default();
        loop {
            sleep(LOOK_EVERY).await;
            let Some(leader) = self.voters().leader() else {
                continue;
            };
            let status = leader.status();
            silences.note(&status, Instant::now());
            let facts = facts(self.voters(), &status);
            let step = next_step(&POLICY, &status, &facts, &silences, Instant::now());
            if let AutopilotStep::Order(order, reason) = step {
                let seen = status.members_index;
                let outcome = leader.change_members(order, seen, ORDER_WITHIN).await;
                self.fire("autopilot", &format!("{reason}: {outcome:?}"));
            }
        }
    }

    /// Some voter never comes back, once another machine stands by.
    pub async fn loss(self: Arc<Self>, mut rng: StdRng) {
        if let Err(error) = self.voters().add_machine().await {
            return self.broke(error);
        }
        sleep(Duration::from_millis(rng.random_range(500..6_000))).await;
        let voting = self.voters().leader().map(|leader| leader.status().members);
        let voting: Vec<u64> = voting
            .into_iter()
            .flatten()
            .filter(|member| member.voter)
            .map(|member| member.node.0)
            .collect();
        if let Some(lost) = voting.choose(&mut rng) {
            self.fire("loss", &lost.to_string());
            self.voters().retire(*lost).await;
        }
    }
}

/// A mesh that knows at once who is up.
fn facts(voters: &Voters, status: &RaftStatus) -> Vec<VoterFact> {
    let mut numbers = voters.numbers();
    numbers.extend(status.members.iter().map(|member| member.node.0));
    numbers.sort_unstable();
    numbers.dedup();
    let fact = |number| VoterFact {
        node: NodeId(number),
        address: address(number).to_string(),
        zone: None,
        presence: match voters.node(number) {
            Some(_) => Presence::Here,
            None => Presence::Gone,
        },
        willing: true,
    };
    numbers.into_iter().map(fact).collect()
}
