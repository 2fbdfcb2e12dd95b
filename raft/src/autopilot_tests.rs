//! The rule that keeps voters healthy, situation by situation and on groups drawn at random.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{LogIndex, Millis, NodeId, Term};
use tokio::time::Instant;

use crate::autopilot::{AutopilotPolicy, AutopilotStep, Presence, Silences, VoterFact, next_step};
use crate::members::MemberOrder;
use crate::status::{MemberStatus, RaftRole, RaftStatus};

const POLICY: AutopilotPolicy = AutopilotPolicy {
    voters: None,
    replace_after: Millis(300_000),
    remove_after: Millis(72 * 3_600_000),
};
const HOUR: Duration = Duration::from_secs(3_600);

/// A group as node 1 leads it, the nodes around it, and the clock.
#[derive(Clone)]
struct World {
    voters: Vec<u64>,
    learners: Vec<u64>,
    /// Nodes that were started to vote, with the zone each stands in; those gone are in `gone` as well.
    nodes: BTreeMap<u64, Option<&'static str>>,
    gone: Vec<u64>,
    draining: Vec<u64>,
    began: Instant,
    elapsed: Duration,
    silences: std::rc::Rc<std::cell::RefCell<Silences>>,
}

impl World {
    fn new(voters: u64, standby: u64) -> Self {
        Self {
            voters: (1..=voters).collect(),
            learners: Vec::new(),
            nodes: (1..=voters + standby).map(|node| (node, None)).collect(),
            gone: Vec::new(),
            draining: Vec::new(),
            began: Instant::now(),
            elapsed: Duration::ZERO,
            silences: std::rc::Rc::default(),
        }
    }

    fn status(&self) -> RaftStatus {
        let member = |node: &u64, voter| MemberStatus {
            node: NodeId(*node),
            address: address(*node),
            voter,
            matched: Some(LogIndex(100)),
            lag: Some(0),
            contact_age: match self.gone.contains(node) {
                true => Some(Millis(60_000)),
                false => Some(Millis(20)),
            },
        };
        let voters = self.voters.iter().map(|node| member(node, true));
        let learners = self.learners.iter().map(|node| member(node, false));
        RaftStatus {
            node: NodeId(1),
            role: RaftRole::Leader,
            epoch: 0,
            term: Term(3),
            leader: Some(NodeId(1)),
            quorum_ack_age: Some(Millis(1)),
            has_quorum: true,
            initialised: true,
            members: voters.chain(learners).collect(),
            members_index: Some(LogIndex(9)),
            joint: false,
            last_log: Some(LogIndex(100)),
            committed: Some(LogIndex(100)),
            applied: Some(LogIndex(100)),
            snapshot: None,
            purged: None,
            sync_p50_micros: 0,
            sync_p99_micros: 0,
            dead: None,
        }
    }

    fn facts(&self) -> Vec<VoterFact> {
        let fact = |(node, zone): (&u64, &Option<&str>)| VoterFact {
            node: NodeId(*node),
            address: address(*node),
            zone: zone.map(str::to_owned),
            presence: match self.gone.contains(node) {
                true => Presence::Gone,
                false => Presence::Here,
            },
            willing: !self.draining.contains(node),
        };
        self.nodes.iter().map(fact).collect()
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.elapsed += time;
        self
    }

    fn step(&self, policy: &AutopilotPolicy) -> AutopilotStep {
        self.step_of(policy, &self.status(), &self.facts())
    }

    fn step_of(
        &self,
        policy: &AutopilotPolicy,
        status: &RaftStatus,
        facts: &[VoterFact],
    ) -> AutopilotStep {
        let now = self.began + self.elapsed;
        let mut silences = self.silences.borrow_mut();
        silences.note(status, now);
        next_step(policy, status, facts, &silences, now)
    }

    fn order(&self, policy: &AutopilotPolicy) -> Option<MemberOrder> {
        match self.step(policy) {
            AutopilotStep::Order(order, _) => Some(order),
            AutopilotStep::Rest | AutopilotStep::Wait(_) => None,
        }
    }

    /// As the actor carries it out.
    fn carry_out(&mut self, order: &MemberOrder) {
        match order {
            MemberOrder::AddLearner { node, .. } => self.learners.push(node.0),
            MemberOrder::AddVoter { node, .. } => self.votes(node.0),
            MemberOrder::Remove { node } if self.voters.contains(&node.0) => self.learns(node.0),
            MemberOrder::Remove { node } => self.learners.retain(|known| known != &node.0),
            MemberOrder::Replace { gone, by } => {
                self.learns(gone.0);
                self.votes(by.0);
            }
            MemberOrder::MoveLeader { .. } => panic!("{order:?}"),
        }
    }

    fn votes(&mut self, node: u64) {
        self.learners.retain(|known| *known != node);
        self.voters.push(node);
    }

    fn learns(&mut self, node: u64) {
        self.voters.retain(|known| *known != node);
        self.learners.push(node);
    }

    fn healthy(&self) -> usize {
        let voters = self.voters.iter();
        voters.filter(|node| !self.gone.contains(node)).count()
    }

    /// Steps until nothing is left to do; gives the orders.
    fn settle(&mut self, policy: &AutopilotPolicy) -> Vec<MemberOrder> {
        let mut orders = Vec::new();
        while let Some(order) = self.order(policy) {
            self.carry_out(&order);
            orders.push(order);
            assert!(orders.len() < 50, "{orders:?}");
        }
        orders
    }
}

fn address(node: u64) -> String {
    format!("10.0.0.{node}:7000")
}

fn learn(node: u64) -> MemberOrder {
    MemberOrder::AddLearner {
        node: NodeId(node),
        address: address(node),
    }
}

fn vote(node: u64) -> MemberOrder {
    MemberOrder::AddVoter {
        node: NodeId(node),
        address: address(node),
    }
}

fn replace(gone: u64, by: u64) -> MemberOrder {
    MemberOrder::Replace {
        gone: NodeId(gone),
        by: NodeId(by),
    }
}

fn remove(node: u64) -> MemberOrder {
    MemberOrder::Remove { node: NodeId(node) }
}

fn wanted(voters: u16) -> AutopilotPolicy {
    AutopilotPolicy {
        voters: Some(voters),
        ..POLICY
    }
}

/// A voter that is gone for good gives its place to the node that stands by, but not before its time, and nobody else
/// is touched.
#[test]
fn a_lost_voter_is_replaced() {
    let mut world = World::new(3, 1);
    assert_eq!(world.step(&POLICY), AutopilotStep::Rest);
    world.gone = vec![3];
    assert_eq!(world.order(&POLICY), None);
    world.pass(Duration::from_secs(299));
    assert_eq!(world.order(&POLICY), None);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.settle(&POLICY), [learn(4), replace(3, 4), remove(3)]);
    assert_eq!(world.voters, [1, 2, 4]);
    assert_eq!(world.step(&POLICY), AutopilotStep::Rest);
}

/// Silence alone is no death, nor is a verdict of the mesh: both have to agree, and a voter that answers again starts
/// anew. What another leader saw does not count.
#[test]
fn two_witnesses_and_a_steady_while_are_needed() {
    let mut world = World::new(3, 1);
    world.gone = vec![3];
    world.step(&POLICY);
    world.pass(HOUR);
    let mut facts = world.facts();
    facts[2].presence = Presence::Doubted;
    let step = world.step_of(&POLICY, &world.status(), &facts);
    assert_eq!(step, AutopilotStep::Rest);
    let mut status = world.status();
    status.members[2].contact_age = Some(Millis(20));
    let step = world.step_of(&POLICY, &status, &world.facts());
    assert_eq!(step, AutopilotStep::Rest);
    assert_eq!(world.order(&POLICY), None, "it answered a moment ago");
    world.pass(HOUR);
    assert!(world.order(&POLICY).is_some());
    let mut status = world.status();
    status.term = Term(4);
    let step = world.step_of(&POLICY, &status, &world.facts());
    assert_eq!(step, AutopilotStep::Rest);
}

/// Nothing is begun while a change is under way, by others than the leader, or without a quorum; a learner that lags is
/// waited for.
#[test]
fn one_change_at_a_time() {
    let mut world = World::new(3, 1);
    world.gone = vec![3];
    world.step(&POLICY);
    world.pass(HOUR);
    world.learners = vec![4];
    let step = |change: fn(&mut RaftStatus)| {
        let mut status = world.status();
        change(&mut status);
        world.step_of(&POLICY, &status, &world.facts())
    };
    assert!(matches!(step(|s| s.joint = true), AutopilotStep::Wait(_)));
    let uncommitted = step(|s| s.members_index = Some(LogIndex(101)));
    assert!(matches!(uncommitted, AutopilotStep::Wait(_)));
    let AutopilotStep::Wait(words) = step(|s| s.members[3].lag = Some(5_000)) else {
        panic!()
    };
    assert!(words.contains("caught up"), "{words}");
    assert_eq!(step(|s| s.has_quorum = false), AutopilotStep::Rest);
    assert_eq!(step(|s| s.role = RaftRole::Follower), AutopilotStep::Rest);
}

/// Nobody to take its place: a group of three says so for ever, one of five lets go after three days.
#[test]
fn without_a_replacement_the_dead_stay_long() {
    let mut three = World::new(3, 0);
    three.gone = vec![3];
    three.step(&POLICY);
    three.pass(HOUR * 100);
    let AutopilotStep::Wait(words) = three.step(&POLICY) else {
        panic!()
    };
    assert!(words.contains("--role voter"), "{words}");

    let mut five = World::new(5, 0);
    five.gone = vec![4, 5];
    five.step(&POLICY);
    five.pass(HOUR * 71);
    assert_eq!(five.order(&POLICY), None);
    five.pass(HOUR);
    // The second one is surplus then: four are no better than three.
    let orders = five.settle(&POLICY);
    assert_eq!(orders, [remove(4), remove(5), remove(4), remove(5)]);
    assert_eq!((five.voters.len(), five.learners.len()), (3, 0));
}

/// A group grows to the odd number that is wanted once it can be reached, never to an even one; zones first. Whoever is
/// being drained, and whoever the operator took out of a group of the right size, stays out.
#[test]
fn a_group_grows_by_two() {
    let mut world = World::new(1, 1);
    assert_eq!(world.step(&wanted(3)), AutopilotStep::Rest);
    assert_eq!(World::new(1, 4).step(&POLICY), AutopilotStep::Rest);
    world.nodes.extend([(3, Some("b")), (4, Some("c"))]);
    let orders = world.settle(&wanted(3));
    assert_eq!(orders, [learn(3), learn(4), vote(3), vote(4)]);
    assert_eq!(world.voters, [1, 3, 4], "2 shares a zone with 1");

    let mut drained = World::new(3, 2);
    drained.draining = vec![5];
    assert_eq!(drained.step(&wanted(5)), AutopilotStep::Rest);
}

/// A learner on its way to a vote is let go when it is gone, so that the log can be purged; voters that are too many
/// stay as long as they are healthy.
#[test]
fn surplus_goes_only_when_it_is_dead() {
    let mut world = World::new(4, 1);
    world.learners = vec![5];
    assert_eq!(world.step(&POLICY), AutopilotStep::Rest);
    world.gone = vec![4, 5];
    world.step(&POLICY);
    world.pass(HOUR);
    assert_eq!(world.settle(&POLICY), [remove(4), remove(5), remove(4)]);
    assert_eq!((world.voters, world.learners), (vec![1, 2, 3], vec![]));
}

/// Groups, losses and arrivals at random: no order takes a vote from somebody who is there, or leaves fewer voters than
/// a quorum of them needs, or touches the leader; and when all is done no node that could take a lost one's place is
/// left idle.
#[test]
fn whatever_happens_a_quorum_stays() {
    for seed in 0..2_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(rng.random_range(1..=7), rng.random_range(0..=4));
        let policy = AutopilotPolicy {
            voters: [None, Some(1), Some(3), Some(5)][rng.random_range(0..4)],
            ..POLICY
        };
        for _ in 0..12 {
            disturb(&mut world, &mut rng);
            world.step(&policy);
            world.pass(Duration::from_secs(rng.random_range(1..600)));
            if let Some(order) = world.order(&policy) {
                checked(seed, &mut world, &order);
            }
        }
        world.step(&policy);
        world.pass(HOUR * 80);
        while let Some(order) = world.order(&policy) {
            checked(seed, &mut world, &order);
        }
        let facts = world.facts();
        let idle = facts.iter().any(|fact| {
            fact.presence == Presence::Here && fact.willing && !world.voters.contains(&fact.node.0)
        });
        let lost = world.healthy() < world.voters.len();
        assert!(!(idle && lost), "seed {seed}: {:?}", world.voters);
    }
}

/// Somebody goes for good or comes; never more go than the group bears.
fn disturb(world: &mut World, rng: &mut StdRng) {
    let node = rng.random_range(1..=12);
    let voters = world.voters.len();
    if rng.random_bool(0.3) {
        world.nodes.insert(node, None);
    } else if rng.random_bool(0.2) {
        world.gone.retain(|known| *known != node);
    } else if node != 1 && world.nodes.contains_key(&node) && !world.gone.contains(&node) {
        let votes = usize::from(world.voters.contains(&node));
        if world.healthy() - votes > voters / 2 {
            world.gone.push(node);
        }
    }
}

fn checked(seed: u64, world: &mut World, order: &MemberOrder) {
    let before = world.clone();
    world.carry_out(order);
    let lost: Vec<_> = before
        .voters
        .iter()
        .filter(|v| !world.voters.contains(v))
        .collect();
    assert!(
        lost.iter().all(|node| before.gone.contains(node)),
        "seed {seed}: {order:?}"
    );
    assert!(world.voters.contains(&1), "seed {seed}: {order:?}");
    let quorum = world.voters.len() / 2 + 1;
    assert!(
        world.healthy() >= quorum,
        "seed {seed}: {order:?} leaves {:?}",
        world.voters
    );
}
