//! How a cluster begins, exactly once: a pure decision from what a node knows and has heard.
//!
//! Each voter is started with the same seed list and the same expected count. They tell each other [`SeedFact`]s.
//! When all of exactly that many empty nodes agree on who they are, and each has heard all others, the one with the
//! lowest id writes the first entry. A node with data never does, and any disagreement is an error on every node that
//! sees it, because waiting silently would hide it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use riftmesh_base::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

/// What a node says about itself while a cluster is being formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFact {
    /// Who it is.
    pub node: NodeId,
    /// `host:port` at which the others reach it.
    pub address: String,
    /// Its `--bootstrap-expect`, none when it was started without.
    pub expect: Option<u16>,
    /// Its seed list, as given.
    pub seeds: BTreeSet<String>,
    /// The cluster it belongs to, once that has a name.
    pub cluster: Option<ClusterId>,
    /// The voters written in its log; empty for an empty node.
    pub voters: BTreeSet<NodeId>,
    /// Whether its log holds anything.
    pub has_data: bool,
    /// The seeds it has heard from lately, itself included.
    pub heard: BTreeSet<NodeId>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootstrapDecision {
    /// Ask again in a moment; the text says what is missing.
    Wait(String),
    /// Write the first entry with these voters and addresses. Exactly one node is ever told so.
    Initialise(BTreeMap<NodeId, String>),
    /// The cluster exists and this node has something of its log: follow.
    Join,
    /// People have to sort this out; the text names the disagreement.
    Error(String),
}

impl fmt::Display for BootstrapDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(reason) => write!(f, "waiting: {reason}"),
            Self::Initialise(voters) => write!(f, "initialising with {} voters", voters.len()),
            Self::Join => f.write_str("following the existing cluster"),
            Self::Error(reason) => write!(f, "cannot bootstrap: {reason}"),
        }
    }
}

/// Decides for the node that says `own`, from what the seeds said lately (by their node ids, `own` not included).
/// Facts older than a few seconds must not be passed: who has fallen silent has to be heard again.
pub fn decide_bootstrap(own: &SeedFact, others: &[SeedFact]) -> BootstrapDecision {
    match disagreement(own, others) {
        Some(reason) => BootstrapDecision::Error(reason),
        None if own.has_data => BootstrapDecision::Join,
        None => match others.iter().find(|other| other.voters.contains(&own.node)) {
            // Not yet: whoever wrote it may lose it again before anything of it is here.
            Some(other) => {
                BootstrapDecision::Wait(format!("for the first entry from {}", other.node))
            }
            None => agree(own, others),
        },
    }
}

/// What no amount of waiting will mend.
fn disagreement(own: &SeedFact, others: &[SeedFact]) -> Option<String> {
    let expect = own.expect?;
    if usize::from(expect) != own.seeds.len() && !own.has_data {
        return Some(format!(
            "--bootstrap-expect is {expect}, but the seed list names {} addresses ({}); name every voter once",
            own.seeds.len(),
            list(&own.seeds)
        ));
    }
    others
        .iter()
        .find_map(|other| differs(own, other, others, expect))
}

fn differs(own: &SeedFact, other: &SeedFact, others: &[SeedFact], expect: u16) -> Option<String> {
    let who = format!("{} at {}", other.node, other.address);
    if other.node == own.node {
        return Some(format!(
            "{who} has this node's id; a data directory was copied, and an id is never used twice"
        ));
    }
    if let (Some(theirs), Some(ours)) = (other.cluster, own.cluster)
        && theirs != ours
    {
        return Some(format!(
            "{who} belongs to cluster {theirs}, this node to {ours}"
        ));
    }
    if own.has_data {
        return None;
    }
    if other.has_data {
        let stranger = !other.voters.is_empty() && !other.voters.contains(&own.node);
        return stranger.then(|| a_cluster_without(own, other, others));
    }
    if other.expect != Some(expect) {
        let theirs = other
            .expect
            .map_or("no --bootstrap-expect".to_owned(), |n| {
                format!("--bootstrap-expect {n}")
            });
        return Some(format!(
            "{who} was started with {theirs}, this node with {expect}"
        ));
    }
    (other.seeds != own.seeds).then(|| {
        format!(
            "{who} was started with the seed list {}, this node with {}",
            list(&other.seeds),
            list(&own.seeds)
        )
    })
}

/// What to tell a voter that finds the cluster begun, and itself no part of it: most often its disk was lost. It is a
/// new voter then, whatever machine it runs on.
fn a_cluster_without(own: &SeedFact, other: &SeedFact, others: &[SeedFact]) -> String {
    let cluster = other
        .cluster
        .map_or("a cluster".to_owned(), |id| format!("cluster {id}"));
    let speaking: BTreeSet<NodeId> = others.iter().map(|fact| fact.node).collect();
    let missing: Vec<NodeId> = other.voters.difference(&speaking).copied().collect();
    let old = match &missing[..] {
        [one] => one.to_string(),
        _ => "OLD".to_owned(),
    };
    let new = own.node;
    format!(
        "{} at {} already belongs to {cluster}, whose voters ({}) do not include this node, {new}, which is empty; it does \
         not begin a second one. Start it again without --bootstrap-expect, with the same seeds; then, if it stands in for \
         a voter that lost its disk, `riftmesh raft remove-voter {old}`, and `riftmesh raft add-voter {new}`",
        other.node,
        other.address,
        list(&other.voters)
    )
}

/// Empty, in agreement so far: initialise once everyone has heard everyone.
fn agree(own: &SeedFact, others: &[SeedFact]) -> BootstrapDecision {
    let Some(expect) = own.expect.map(usize::from) else {
        return BootstrapDecision::Wait("for a cluster to add this node".to_owned());
    };
    let mut all: BTreeMap<NodeId, &SeedFact> =
        others.iter().map(|fact| (fact.node, fact)).collect();
    all.insert(own.node, own);
    let ids: BTreeSet<NodeId> = all.keys().copied().collect();
    if ids.len() > expect {
        return BootstrapDecision::Error(format!(
            "{} nodes answer ({}), but --bootstrap-expect is {expect}",
            ids.len(),
            list(&ids)
        ));
    }
    if ids.len() < expect {
        return BootstrapDecision::Wait(format!("{} of {expect} nodes have answered", ids.len()));
    }
    if let Some(member) = all.values().find(|fact| fact.has_data) {
        return BootstrapDecision::Wait(format!(
            "{} has data; waiting for its leader",
            member.node
        ));
    }
    if let Some(deaf) = all.values().find(|fact| fact.heard != ids) {
        return BootstrapDecision::Wait(format!("{} has not heard from all others yet", deaf.node));
    }
    match ids.first() {
        Some(lowest) if *lowest != own.node => {
            BootstrapDecision::Wait(format!("for {lowest} to write the first entry"))
        }
        _ => BootstrapDecision::Initialise(
            all.values()
                .map(|fact| (fact.node, fact.address.clone()))
                .collect(),
        ),
    }
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use BootstrapDecision::{Error, Initialise, Join, Wait};

    /// Nodes with ids 1, 2, ... as a small world: who is up, who has data, who has heard whom.
    struct World {
        facts: BTreeMap<u64, SeedFact>,
        up: BTreeSet<u64>,
        initialised: Vec<u64>,
    }

    impl World {
        fn new(n: u16) -> Self {
            let seeds: BTreeSet<String> = (1..=n).map(|i| format!("host{i}:7000")).collect();
            let fact = |i: u64| SeedFact {
                node: NodeId(i),
                address: format!("host{i}:7000"),
                expect: Some(n),
                seeds: seeds.clone(),
                cluster: None,
                voters: BTreeSet::new(),
                has_data: false,
                heard: BTreeSet::from([NodeId(i)]),
            };
            Self {
                facts: (1..=u64::from(n)).map(|i| (i, fact(i))).collect(),
                up: BTreeSet::new(),
                initialised: Vec::new(),
            }
        }

        /// Node `i` hears those that are up and not in `silent`, then decides; an initialisation is carried out.
        fn step(&mut self, i: u64, silent: &[u64]) -> BootstrapDecision {
            let reachable = |j: &u64| *j != i && self.up.contains(j) && !silent.contains(j);
            let others: Vec<SeedFact> = self
                .facts
                .iter()
                .filter(|(j, _)| reachable(j))
                .map(|(_, f)| f.clone())
                .collect();
            let own = self.facts.get_mut(&i).unwrap();
            own.heard = others.iter().map(|f| f.node).chain([NodeId(i)]).collect();
            let decision = decide_bootstrap(own, &others);
            if let Initialise(voters) = &decision {
                own.has_data = true;
                own.voters = voters.keys().copied().collect();
                self.initialised.push(i);
            }
            decision
        }
    }

    fn permutations(n: u64) -> Vec<Vec<u64>> {
        if n == 0 {
            return vec![Vec::new()];
        }
        let insert = |rest: Vec<u64>| {
            (0..=rest.len()).map(move |at| {
                let mut order = rest.clone();
                order.insert(at, n);
                order
            })
        };
        permutations(n - 1).into_iter().flat_map(insert).collect()
    }

    /// Whatever the order in which nodes come up and take their steps, exactly one initialises, with all as voters,
    /// and all others end up following it.
    #[test]
    fn every_start_order_initialises_once() {
        for start in permutations(3) {
            for turn in permutations(3) {
                let mut world = World::new(3);
                for up in &start {
                    world.up.insert(*up);
                    for i in turn
                        .iter()
                        .filter(|i| world.up.contains(i))
                        .copied()
                        .collect::<Vec<_>>()
                    {
                        world.step(i, &[]);
                    }
                }
                for _ in 0..3 {
                    turn.iter().for_each(|i| drop(world.step(*i, &[])));
                }
                assert_eq!(world.initialised, [1], "start {start:?}, turns {turn:?}");
                assert_eq!(world.step(1, &[]), Join);
                let expected = Wait("for the first entry from 0000000000000001".to_owned());
                assert!((2..=3).all(|i| world.step(i, &[]) == expected));
            }
        }
    }

    /// Nobody initialises while one cannot be heard, not even by a majority, and healing completes it.
    #[test]
    fn a_partition_delays_and_never_splits() {
        let mut world = World::new(3);
        world.up.extend([1, 2, 3]);
        for _ in 0..3 {
            assert_eq!(
                world.step(1, &[3]),
                Wait("2 of 3 nodes have answered".to_owned())
            );
            assert!(matches!(world.step(2, &[3]), Wait(_)));
            assert!(matches!(world.step(3, &[1, 2]), Wait(_)));
        }
        for _ in 0..3 {
            (1..=3).for_each(|i| drop(world.step(i, &[])));
        }
        assert_eq!(world.initialised, [1]);
    }

    /// Hearing is not enough: node 1 hears all, but 3 has not heard 2, so 3 might see another set.
    #[test]
    fn everyone_must_have_heard_everyone() {
        let mut world = World::new(3);
        world.up.extend([1, 2, 3]);
        world.step(2, &[]);
        world.step(3, &[2]);
        let expected = "0000000000000003 has not heard from all others yet";
        assert_eq!(world.step(1, &[]), Wait(expected.to_owned()));
    }

    /// The initialiser is killed right after its first entry and comes back: it follows its own data.
    #[test]
    fn a_killed_initialiser_resumes() {
        let mut world = World::new(3);
        world.up.extend([1, 2, 3]);
        for _ in 0..2 {
            [2, 3, 1].iter().for_each(|i| drop(world.step(*i, &[])));
        }
        assert_eq!(world.initialised, [1]);
        world.up.remove(&1);
        assert!(matches!(world.step(2, &[]), Wait(_)));
        world.up.insert(1);
        assert_eq!(world.step(1, &[]), Join);
        assert!(matches!(world.step(2, &[]), Wait(_)));
        world.facts.get_mut(&2).unwrap().has_data = true;
        assert_eq!(world.step(2, &[]), Join);
    }

    /// A single voter needs nobody.
    #[test]
    fn one_voter_starts_alone() {
        let mut world = World::new(1);
        world.up.insert(1);
        assert!(matches!(world.step(1, &[]), Initialise(voters) if voters.len() == 1));
    }

    fn error(change: impl FnOnce(&mut World)) -> String {
        let mut world = World::new(3);
        world.up.extend([1, 2, 3]);
        change(&mut world);
        match world.step(1, &[]) {
            Error(text) => text,
            other => panic!("expected an error, got {other}"),
        }
    }

    /// Each disagreement is an error whose text names both sides.
    #[test]
    fn disagreements_are_named() {
        let fact = |world: &mut World, i: u64, change: fn(&mut SeedFact)| {
            change(world.facts.get_mut(&i).unwrap());
        };
        let text = error(|w| fact(w, 2, |f| f.expect = Some(5)));
        assert!(
            text.contains("host2:7000") && text.contains("--bootstrap-expect 5"),
            "{text}"
        );
        let text = error(|w| fact(w, 3, |f| f.seeds.extend(["host9:7000".to_owned()])));
        assert!(text.contains("host9:7000"), "{text}");
        let text = error(|w| {
            fact(w, 2, |f| {
                f.has_data = true;
                f.cluster = Some(ClusterId([7; 16]));
                f.voters = BTreeSet::from([NodeId(2), NodeId(8)]);
            })
        });
        assert!(
            text.contains("do not include this node") && text.contains("0707"),
            "{text}"
        );
        let text = error(|w| fact(w, 2, |f| f.node = NodeId(1)));
        assert!(text.contains("copied"), "{text}");
        let text = error(|w| fact(w, 1, |f| f.seeds.extend(["host4:7000".to_owned()])));
        assert!(text.contains("4 addresses"), "{text}");
        let text = error(|w| {
            (1..=2).for_each(|i| {
                let fact = w.facts.get_mut(&i).unwrap();
                fact.has_data = true;
                fact.cluster = Some(ClusterId([i as u8; 16]));
            })
        });
        assert!(text.contains("0101") && text.contains("0202"), "{text}");
    }

    /// The disk of one voter of three is lost, and it is started again as it was the first time, under a new id: whoever
    /// answers it and whatever it has heard, it never begins a cluster, and is told what to type, with the ids.
    #[test]
    fn a_voter_that_lost_its_disk_begins_nothing() {
        let mut world = World::new(3);
        world.up.extend([1, 2, 3]);
        for _ in 0..2 {
            [1, 2, 3].iter().for_each(|i| drop(world.step(*i, &[])));
        }
        assert_eq!(world.initialised, [1]);
        let members: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
        for i in [2, 3] {
            let fact = world.facts.get_mut(&i).unwrap();
            fact.has_data = true;
            fact.voters = members.clone();
        }
        for lost in 1..=3 {
            let fresh = |fact: &SeedFact| SeedFact {
                node: NodeId(0xf),
                cluster: None,
                voters: BTreeSet::new(),
                has_data: false,
                heard: BTreeSet::from([NodeId(0xf)]),
                ..fact.clone()
            };
            let own = fresh(&world.facts[&lost]);
            let others: Vec<SeedFact> = (1..=3)
                .filter(|i| *i != lost)
                .map(|i| world.facts[&i].clone())
                .collect();
            for heard in [&others[..], &others[..1], &others[1..], &[]] {
                let everybody = heard
                    .iter()
                    .map(|fact| fact.node)
                    .chain([own.node])
                    .collect();
                let own = SeedFact {
                    heard: everybody,
                    ..own.clone()
                };
                match (decide_bootstrap(&own, heard), heard.len()) {
                    (Error(text), 2) => {
                        let old = NodeId(lost);
                        assert!(
                            text.contains(&format!("`riftmesh raft remove-voter {old}`")),
                            "{text}"
                        );
                        assert!(
                            text.contains("`riftmesh raft add-voter 000000000000000f`"),
                            "{text}"
                        );
                        assert!(text.contains("without --bootstrap-expect"), "{text}");
                    }
                    (Error(text), 1) => assert!(text.contains("remove-voter OLD"), "{text}"),
                    (Wait(_), 0) => {}
                    (other, _) => panic!("it should not go on: {other}"),
                }
                let waits = SeedFact {
                    expect: None,
                    ..own
                };
                assert!(matches!(decide_bootstrap(&waits, heard), Wait(_)));
            }
        }
    }

    /// A node that was started without an expectation waits to be added; it never begins a cluster.
    #[test]
    fn without_an_expectation_a_node_waits() {
        let mut world = World::new(1);
        world.facts.get_mut(&1).unwrap().expect = None;
        world.up.insert(1);
        assert!(matches!(world.step(1, &[]), Wait(_)));
    }
}
