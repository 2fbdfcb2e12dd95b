//! Three voters begin a cluster in every order, and are killed at every step of it, one of them or all. What a node was
//! told lingers for a while, a first entry that was not synced is lost with its node, and a synced one reaches others
//! only while its node is up.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::NodeId;

use crate::bootstrap::{BootstrapDecision, SeedFact, decide_bootstrap};

/// Steps after which a node forgets what it was told.
const FRESH: usize = 12;
/// Steps within which everything has happened once.
const STEPS: usize = 60;
/// Steps after the last kill within which the cluster has to stand.
const HEAL: usize = 120;

/// A first entry: who wrote it, in which of its lives.
type FirstEntry = (u64, u32);

#[derive(Default)]
struct Machine {
    up: bool,
    life: u32,
    /// The first entry, and whether it would survive.
    log: Option<(FirstEntry, bool)>,
    /// What the others said, and when.
    told: BTreeMap<u64, (SeedFact, usize)>,
    /// It follows a cluster, and asks nobody any more.
    follows: bool,
    /// What it does next.
    next: usize,
}

struct World {
    machines: BTreeMap<u64, Machine>,
    now: usize,
    /// First entries that reached a disk.
    written: BTreeSet<FirstEntry>,
}

impl World {
    fn new() -> Self {
        Self {
            machines: (1..=3).map(|i| (i, Machine::default())).collect(),
            now: 0,
            written: BTreeSet::new(),
        }
    }

    fn machine(&mut self, i: u64) -> &mut Machine {
        self.machines.get_mut(&i).unwrap()
    }

    fn start(&mut self, i: u64) {
        let machine = self.machine(i);
        if !machine.up {
            machine.up = true;
            machine.life += 1;
        }
    }

    /// The power goes: what was heard is forgotten, and what was not synced is lost.
    fn kill(&mut self, i: u64) {
        let machine = self.machine(i);
        machine.up = false;
        machine.told.clear();
        machine.follows = false;
        machine.next = 0;
        machine.log = machine.log.filter(|(_, synced)| *synced);
    }

    fn fact(&self, i: u64) -> SeedFact {
        let machine = &self.machines[&i];
        let has_data = machine.log.is_some();
        let told = machine
            .told
            .iter()
            .filter(|(_, (_, at))| self.now - at < FRESH);
        let everybody = BTreeSet::from([1, 2, 3].map(NodeId));
        SeedFact {
            node: NodeId(i),
            address: format!("host{i}:7000"),
            expect: Some(3),
            seeds: (1..=3).map(|i| format!("host{i}:7000")).collect(),
            cluster: None,
            voters: if has_data { everybody } else { BTreeSet::new() },
            has_data,
            heard: told.map(|(j, _)| NodeId(*j)).chain([NodeId(i)]).collect(),
        }
    }

    fn decide(&self, i: u64) -> BootstrapDecision {
        let told = self.machines[&i].told.values();
        let fresh = told.filter(|(_, at)| self.now - at < FRESH);
        let others: Vec<SeedFact> = fresh.map(|(fact, _)| fact.clone()).collect();
        decide_bootstrap(&self.fact(i), &others)
    }

    /// Node `i` does one thing: asks one of the others, decides, syncs its first entry, or gives it to one of the others.
    fn step(&mut self, i: u64) {
        self.now += 1;
        if !self.machines[&i].up {
            return;
        }
        let (one, other) = (1 + i % 3, 1 + (i + 1) % 3);
        let peer = if self.machines[&i].next.is_multiple_of(2) {
            one
        } else {
            other
        };
        self.machine(i).next += 1;
        match (self.machines[&i].log, self.machines[&i].next % 3) {
            (Some((entry, false)), _) => {
                self.machine(i).log = Some((entry, true));
                self.written.insert(entry);
            }
            (Some((entry, true)), 0) if self.machines[&peer].up => {
                self.machine(peer).log.get_or_insert((entry, true));
            }
            (_, 1) => match self.decide(i) {
                BootstrapDecision::Initialise(voters) => {
                    assert_eq!(voters.len(), 3);
                    let life = self.machines[&i].life;
                    self.machine(i).log = Some(((i, life), false));
                }
                BootstrapDecision::Join => self.machine(i).follows = true,
                BootstrapDecision::Wait(_) => {}
                BootstrapDecision::Error(reason) => panic!("{reason}"),
            },
            _ if self.machines[&peer].up && !self.machines[&i].follows => {
                let (fact, now) = (self.fact(peer), self.now);
                self.machine(i).told.insert(peer, (fact, now));
            }
            _ => {}
        }
    }

    /// Everybody is up: exactly one first entry was ever written, and everybody follows it.
    fn assert_one_cluster(&self, what: &str) {
        assert_eq!(self.written.len(), 1, "{what}: {:?}", self.written);
        for (i, machine) in &self.machines {
            let entry = machine.log.map(|(entry, _)| entry);
            assert_eq!(entry.as_ref(), self.written.first(), "{what}: node {i}");
            assert_eq!(self.decide(*i), BootstrapDecision::Join, "{what}: node {i}");
        }
    }
}

fn orders() -> [[u64; 3]; 6] {
    [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    ]
}

/// One cluster comes of it, never two, whoever is killed, and when, and however long it stays away.
#[test]
fn killed_at_every_step_there_is_one_cluster() {
    for order in orders() {
        for gap in [1, 4, 9] {
            for victims in [&[1][..], &[2], &[3], &[1, 2], &[1, 2, 3]] {
                for at in 0..STEPS {
                    for away in [1, 7, 2 * FRESH] {
                        let what = format!(
                            "order {order:?} gap {gap}, {victims:?} killed at {at} for {away}"
                        );
                        play(order, gap, victims, at, away).assert_one_cluster(&what);
                    }
                }
            }
        }
    }
}

/// Starts the nodes with `gap` steps of each in between, kills `victims` at step `at`, and starts them `away` steps later.
fn play(order: [u64; 3], gap: usize, victims: &[u64], at: usize, away: usize) -> World {
    let mut world = World::new();
    for turn in 0..STEPS + HEAL {
        if turn % gap == 0
            && let Some(i) = order.get(turn / gap)
        {
            world.start(*i);
        }
        if turn == at {
            victims.iter().for_each(|i| world.kill(*i));
        }
        if turn == at + away {
            victims.iter().for_each(|i| world.start(*i));
        }
        world.step(order[turn % 3]);
    }
    world
}
