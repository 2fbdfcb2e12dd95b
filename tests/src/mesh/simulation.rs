//! Thirty-six agents in one thread. Every test names its seeds; a failure repeats exactly.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{Millis, NodeId};
use riftmesh_membership::metadata::NODES_MAX;
use riftmesh_membership::{Input, NodeState};

use super::trials::{self, given_up};
use super::world::{World, address};

const NODES: u64 = 36;
const MINUTE: Millis = Millis::from_secs(60);

fn formed(seed: u64) -> World {
    trials::formed(seed, NODES, 0.0)
}

/// Nodes started together through three seeds all know each other, descriptions included, within seconds; one
/// that comes later is known everywhere as soon.
#[test]
fn nodes_find_each_other() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        world.loss = 0.05;
        world.start_all(NODES);
        let joined = world.run_until(Millis::from_secs(20), "forming", World::is_complete);
        world.run(Millis::from_secs(10));
        world.start(NODES + 1, 1, address(NODES + 1));
        let late = world.run_until(Millis::from_secs(5), "one more", World::is_complete);
        println!("seed {seed}: {NODES} joined in {joined}, one more in {late}");
    }
}

/// A host that falls silent is down everywhere within 20 s, never before the pause tolerance, and nobody else is.
#[test]
fn silence_is_death_after_a_while() {
    for seed in 0..5 {
        let mut world = formed(seed);
        world.loss = 0.02;
        world.kill(20);
        let killed = world.now;
        let took = world.run_until(Millis::from_secs(20), "detection", |world| {
            world.everybody_sees(20, 1, NodeState::Down)
        });
        let first = given_up(&world).first().unwrap().0.since(killed);
        assert!(first >= world.settings.pause_tolerance);
        assert!(given_up(&world).iter().all(|(_, node)| *node == NodeId(20)));
        println!("seed {seed}: first verdict after {first}, everywhere after {took}");
    }
}

/// A closed port is evidence: a killed process on a living host is down everywhere within 6 s, half of the time within 3.
#[test]
fn a_closed_port_is_evidence() {
    let mut times = Vec::new();
    for seed in 0..9 {
        let mut world = formed(seed);
        world.hosts_answer = true;
        world.kill(20);
        let took = world.run_until(Millis::from_secs(6), "detection", |world| {
            world.everybody_sees(20, 1, NodeState::Down)
        });
        println!("seed {seed}: everywhere after {took}");
        times.push(took);
    }
    times.sort_unstable();
    assert!(times[times.len() / 2] <= Millis::from_secs(3));
}

/// A supervisor's testimony is believed at once, if it is about the life it outlived.
#[test]
fn testimony_ends_a_life_at_once() {
    let mut world = formed(1);
    world.kill(20);
    let testimony = |generation| Input::Request {
        from: NodeId(20),
        ticket: 0,
        body: riftmesh_membership::goodbye(generation),
    };
    world.input(7, testimony(0));
    world.run(Millis::from_secs(1));
    assert!(
        given_up(&world).is_empty(),
        "an older life's end says nothing"
    );
    world.input(7, testimony(1));
    let took = world.run_until(Millis::from_secs(3), "spreading", |world| {
        world.everybody_sees(20, 1, NodeState::Down)
    });
    println!("everywhere after {took}");
}

/// Members frozen for 4 s up to the tolerance, three at a time and over and over, are never given up by anybody,
/// although they first act on all their late timers when they wake. Nor do they return under another generation, as one
/// does who was given up: foca 2.0.0 tells a member that it was, although it objected in time.
#[test]
fn pauses_below_the_tolerance_are_forgiven() {
    for seed in 0..2 {
        let mut world = formed(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..8 {
            for node in [3, 17, 30] {
                world.pause(node, Millis(rng.random_range(4_000..=16_000)));
            }
            world.run(Millis::from_secs(20));
        }
        assert_eq!(given_up(&world), []);
        let generations: BTreeSet<_> = (1..=NODES)
            .map(|node| world.agent(node).identity().generation)
            .collect();
        assert_eq!(generations, [1].into());
    }
}

/// An observer that suspects a paused node and is then frozen itself does not act, on waking, on what the other has
/// long denied.
#[test]
fn a_frozen_observer_condemns_nobody() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        world.start_all(3);
        world.run(Millis::from_secs(10));
        world.pause(3, Millis::from_secs(12));
        world.run(Millis::from_secs(8));
        world.pause(1, Millis::from_secs(15));
        world.run(Millis::from_secs(16));
        let health = world.agent(1).health();
        assert!(health > 0, "a node that was frozen trusts itself less");
        world.run(MINUTE);
        assert_eq!(given_up(&world), []);
        assert_eq!(world.agent(1).health(), 0, "and recovers");
    }
}

/// Who is cut off from all others blames nobody but itself: once it is back, only it has had to return under another generation. And
/// however often that happens, a host that falls silent afterwards is missed in time.
#[test]
fn who_was_cut_off_condemns_nobody() {
    for seed in 0..3 {
        let mut world = formed(seed);
        let cut_off = [5, 12, 20, 33, 8, 27];
        for node in cut_off {
            for other in (1..=NODES).filter(|other| *other != node) {
                world.cut.insert((NodeId(node), NodeId(other)));
                world.cut.insert((NodeId(other), NodeId(node)));
            }
            world.run(Millis::from_secs(30));
            world.cut.clear();
            let limit = Millis::from_secs(30);
            world.run_until(limit, "return", |world| {
                world.everybody_sees(node, 2, NodeState::Alive)
            });
        }
        let is_cut_off = |node: &u64| cut_off.contains(node);
        assert!(given_up(&world).iter().all(|(_, node)| is_cut_off(&node.0)));
        for node in (1..=NODES).filter(|node| !is_cut_off(node)) {
            assert_eq!(world.agent(node).identity().generation, 1, "node {node}");
        }
        world.kill(30);
        let took = world.run_until(Millis::from_secs(20), "detection", |world| {
            world.everybody_sees(30, 1, NodeState::Down)
        });
        println!("seed {seed}: silence is noticed everywhere after {took}");
    }
}

/// A node frozen for longer is given up, and returns by itself under a new generation that all accept at once.
#[test]
fn the_wrongly_buried_return() {
    let mut world = formed(2);
    let paused = world.now;
    world.pause(20, Millis::from_secs(40));
    world.run_until(Millis::from_secs(24), "detection", |world| {
        let seen = world.seen_by_others(20);
        seen == [(Some(1), Some(NodeState::Down))].into()
    });
    let woken = paused + Millis::from_secs(40);
    world.run(woken.since(world.now));
    let took = world.run_until(Millis::from_secs(10), "return", |world| {
        world.everybody_sees(20, 2, NodeState::Alive)
    });
    assert_eq!(world.agent(20).identity().generation, 2);
    println!("back {took} after waking");
}

/// A crashed node that comes back with a higher generation at another address replaces its former life at once,
/// down or not yet missed.
#[test]
fn a_new_life_replaces_the_old_one() {
    let mut world = formed(3);
    for (generation, wait) in [(2, 0), (3, 30)] {
        world.kill(20);
        world.run(Millis::from_secs(wait));
        world.start(20, generation, address(1_000 + generation));
        let took = world.run_until(Millis::from_secs(4), "rejoin", |world| {
            world.everybody_sees(20, generation, NodeState::Alive)
        });
        let seen = world
            .agent(9)
            .view(world.now)
            .get(NodeId(20))
            .unwrap()
            .address;
        assert_eq!(seen, address(1_000 + generation));
        println!("generation {generation} everywhere after {took}");
    }
}

/// A node that says goodbye is `Left` everywhere within seconds, and is not missed.
#[test]
fn leaving_is_not_dying() {
    let mut world = formed(4);
    world.input(20, Input::Leave);
    let took = world.run_until(Millis::from_secs(4), "leaving", |world| {
        world.everybody_sees(20, 1, NodeState::Left)
    });
    world.kill(20);
    world.run(MINUTE);
    assert!(world.everybody_sees(20, 1, NodeState::Left));
    println!("left everywhere after {took}");
}

/// A changed description is known everywhere within seconds, under loss.
#[test]
fn descriptions_spread() {
    let mut world = formed(5);
    world.loss = 0.1;
    let mut described = super::world::metadata(20);
    described.name = "renamed".to_owned();
    world.input(20, Input::Describe(described.clone()));
    let took = world.run_until(Millis::from_secs(5), "spreading", |world| {
        (1..=NODES).all(|node| {
            let view = world.agent(node).view(world.now);
            view.get(NodeId(20)).unwrap().metadata.as_deref() == Some(&described)
        })
    });
    println!("described everywhere after {took}");
}

/// Two halves that gave each other up become one mesh again when the cut heals.
#[test]
fn halves_become_whole() {
    let mut world = formed(6);
    let half = |node: u64| node <= NODES / 2;
    for from in 1..=NODES {
        for to in (1..=NODES).filter(|to| half(from) != half(*to)) {
            world.cut.insert((NodeId(from), NodeId(to)));
        }
    }
    world.run(MINUTE);
    assert!(world.everybody_sees(1, 1, NodeState::Alive) ^ !given_up(&world).is_empty());
    world.cut.clear();
    let took = world.run_until(Millis::from_secs(90), "healing", World::is_complete);
    println!("whole {took} after the cut healed");
}

/// What an idle member sends stays small and does not grow with the mesh: views that are the same are not sent.
#[test]
fn gossip_is_cheap() {
    for nodes in [NODES, 4 * NODES] {
        let mut world = trials::formed(7, nodes, 0.0);
        world.run(MINUTE);
        let per_node = trials::idle_bytes_per_second(&mut world, nodes, MINUTE);
        println!("{nodes} nodes: {per_node} B/s per node");
        assert!(per_node < 100, "{nodes} nodes: {per_node} B/s");
    }
}

/// Junk from an authenticated but broken peer is refused without harm: no panic, no change of the view.
#[test]
fn junk_is_refused() {
    let mut world = formed(9);
    let mut rng = StdRng::seed_from_u64(9);
    let before = world.agent(1).view(Millis(0));
    for _ in 0..3_000 {
        let mut junk = vec![0; rng.random_range(0..200)];
        rng.fill(&mut junk[..]);
        // Also what begins well: a valid kind of message with junk behind it.
        if let Some(first) = junk.first_mut() {
            *first %= 3;
        }
        let from = NodeId(20);
        let body = Bytes::from(junk);
        let payload = body.clone();
        for input in [
            Input::Datagram { from, payload },
            Input::Exchanged { body: body.clone() },
            Input::Request {
                from,
                ticket: 0,
                body,
            },
        ] {
            world.input(1, input);
        }
    }
    assert_eq!(world.agent(1).view(Millis(0)).nodes, before.nodes);
}

/// Messages of authenticated but broken peers, close to real ones, do no harm that grows: no panic, and never more nodes than a
/// mesh may have, although some of what they say is well formed and names nodes that do not exist.
#[test]
fn broken_messages_are_bounded() {
    let mut world = World::new(10);
    world.start_all(6);
    // While they introduce themselves, messages are full of news.
    world.run(Millis(500));
    trials::mutated_messages(&mut world, 10, 1, 100_000);
    let nodes = world.agent(1).view(world.now).nodes.len();
    println!("{nodes} nodes after it");
    assert!((7..=NODES_MAX).contains(&nodes), "{nodes}");
}

/// Of 36 members six can be dialled by nobody. They join through the seeds like all others, each finds a relay, everybody sees
/// everybody, and a pause is forgiven them as well. One that ends is missed as soon as any other.
#[test]
fn the_hidden_are_members() {
    for seed in 0..3 {
        let mut world = with_hidden(seed);
        for _ in 0..4 {
            for node in [3, 31, 33] {
                world.pause(node, Millis::from_secs(15));
            }
            world.run(Millis::from_secs(20));
        }
        assert_eq!(given_up(&world), [], "seed {seed}");
        world.kill(36);
        let took = world.run_until(Millis::from_secs(20), "detection", |world| {
            world.everybody_sees(36, 1, NodeState::Down)
        });
        assert!(given_up(&world).iter().all(|(_, node)| *node == NodeId(36)));
        println!("seed {seed}: a hidden one is down everywhere after {took}");
    }
}

/// When a relay ends, those behind it find another, and neither are they given up nor give they up anybody but the relay.
#[test]
fn a_relay_is_replaced() {
    for seed in 0..3 {
        let mut world = with_hidden(seed);
        let relay = world.relay_of(36).unwrap();
        let behind: Vec<_> = (31..=NODES)
            .filter(|node| world.relay_of(*node) == Some(relay))
            .collect();
        world.kill(relay);
        world.run_until(Millis::from_secs(20), "detection", |world| {
            world.everybody_sees(relay, 1, NodeState::Down)
        });
        world.run(MINUTE);
        assert!(given_up(&world).iter().all(|(_, node)| node.0 == relay));
        for node in behind {
            assert!(world.everybody_sees(node, 1, NodeState::Alive));
            let now = world.relay_of(node).unwrap();
            assert_ne!(now, relay);
            let view = world.agent(9).view(world.now);
            let seen = view.get(NodeId(node)).unwrap().relay;
            assert_eq!(seen, Some(address(now)), "seed {seed}, node {node}");
        }
    }
}

/// One that finds no relay judges nobody, stays out, and comes in once there is one.
#[test]
fn without_a_relay_nobody_is_judged() {
    let mut world = with_hidden(3);
    let others: Vec<_> = (1..=NODES).filter(|node| *node != 36).collect();
    // It hears nobody, but is heard.
    for node in &others {
        world.cut.insert((NodeId(*node), NodeId(36)));
    }
    let relay = world.relay_of(36).unwrap();
    world.input(36, Input::Relayed { relay: None });
    world.run(MINUTE);
    let wrong: Vec<_> = given_up(&world)
        .into_iter()
        .filter(|(_, node)| node.0 != 36)
        .collect();
    assert_eq!(wrong, [], "by one that was attached to {relay}");
    world.cut.clear();
    let took = world.run_until(MINUTE, "return", World::is_complete);
    println!("back after {took}");
}

fn with_hidden(seed: u64) -> World {
    let mut world = World::new(seed);
    world.loss = 0.02;
    world.start_all(30);
    for node in 31..=NODES {
        world.start_hidden(node, 1);
    }
    world.run_until(Millis::from_secs(20), "forming", World::is_complete);
    world.run(Millis::from_secs(10));
    for node in 31..=NODES {
        assert!(world.relay_of(node).is_some());
    }
    world.events.clear();
    world
}

/// One seed, one history.
#[test]
fn histories_repeat() {
    let history = || {
        let mut world = World::new(8);
        world.loss = 0.1;
        world.start_all(8);
        world.run(MINUTE);
        world.kill(5);
        world.run(MINUTE);
        (world.bytes, world.datagrams, world.events)
    };
    assert_eq!(history(), history());
}
