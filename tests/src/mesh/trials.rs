//! Experiments on meshes: how soon an end is noticed, who is given up wrongly, what being idle costs.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{Millis, NodeId};
use riftmesh_membership::{Input, MembershipSettings, MeshEvent, NodeState};

use super::world::{World, address};

/// Forming takes seconds; a mesh that has not formed after this long is a failure.
const FORMING_MAX: Millis = Millis::from_secs(120);
/// After forming, the news about it runs dry within this time.
const CALM: Millis = Millis::from_secs(10);

/// How a member ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its process is killed; its host lives and says that the port is closed.
    Killed,
    /// Its host is cut off or loses power: silence.
    Silent,
}

/// How an end was noticed, from the moment of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The first member gave it up.
    pub first: Millis,
    /// All had given it up.
    pub everywhere: Millis,
}

/// A mesh of `nodes` that has formed and come to rest.
///
/// # Panics
/// When it does not form.
pub fn formed(seed: u64, nodes: u64, loss: f64) -> World {
    formed_with(MembershipSettings::default(), seed, nodes, loss)
}

/// As [`formed`], with other settings.
///
/// # Panics
/// When it does not form.
pub fn formed_with(settings: MembershipSettings, seed: u64, nodes: u64, loss: f64) -> World {
    let mut world = World::new(seed);
    world.settings = settings;
    world.loss = loss;
    storm(&mut world, nodes);
    world.run(CALM);
    world.events = Vec::new();
    world
}

/// A mesh of `nodes` at rest that never had to form, for sizes at which that takes too long.
pub fn acquainted(seed: u64, nodes: u64) -> World {
    let mut world = World::new(seed);
    world.start_acquainted(nodes);
    world.run(CALM);
    world
}

/// Starts so many nodes at the same moment and gives the time until everybody knows everybody, descriptions included.
///
/// # Panics
/// When they never do.
pub fn storm(world: &mut World, nodes: u64) -> Millis {
    world.start_all(nodes);
    world.run_until(FORMING_MAX, "forming", World::is_complete)
}

/// The nodes that somebody gave up since the events were last cleared, with the time.
pub fn given_up(world: &World) -> Vec<(Millis, NodeId)> {
    let is_down = |event: &MeshEvent| match *event {
        MeshEvent::Changed { node, state, .. } => (state == NodeState::Down).then_some(node),
        _ => None,
    };
    let events = world.events.iter();
    events
        .filter_map(|(at, _, event)| is_down(event).map(|node| (*at, node)))
        .collect()
}

/// Ends a member, waits until all others have given it up, and starts it again.
///
/// # Panics
/// When that takes longer than `limit`, or anybody else was given up.
pub fn detection(world: &mut World, node: u64, life: u64, end: End, limit: Millis) -> Detection {
    world.events.clear();
    world.hosts_answer = end == End::Killed;
    let ended = world.now;
    world.kill(node);
    let everywhere = world.run_until(limit, "detection", |world| {
        world.everybody_sees(node, life, NodeState::Down)
    });
    let verdicts = given_up(world);
    let wrong: BTreeSet<_> = verdicts
        .iter()
        .map(|v| v.1)
        .filter(|n| n.0 != node)
        .collect();
    assert!(wrong.is_empty(), "given up wrongly: {wrong:?}");
    let first = verdicts.first().map_or(everywhere, |v| v.0.since(ended));
    world.start(node, life + 1, address(node));
    world.run_until(FORMING_MAX, "return", |world| {
        world.everybody_sees(node, life + 1, NodeState::Alive)
    });
    world.run(CALM);
    Detection { first, everywhere }
}

/// How long members pause, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// The shortest pause.
    pub shortest: Millis,
    /// The longest pause.
    pub longest: Millis,
    /// From the beginning of one to the beginning of the next.
    pub every: Millis,
}

/// Freezes random members, `count` times; verdicts are in [`given_up`].
pub fn pauses(world: &mut World, seed: u64, nodes: u64, plan: Pauses, count: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    world.events.clear();
    for _ in 0..count {
        let node = rng.random_range(1..=nodes);
        let length = rng.random_range(plan.shortest.0..=plan.longest.0);
        world.pause(node, Millis(length));
        world.run(plan.every);
        // Only verdicts matter, and a day has millions of other events.
        world.events.retain(|(_, _, event)| {
            matches!(event, MeshEvent::Changed { state, .. } if *state == NodeState::Down)
        });
    }
}

/// Sends `node` messages like those that were overheard, with flipped bits, cut off, or with bytes of others put in, from
/// whom they were from.
pub fn mutated_messages(world: &mut World, seed: u64, node: u64, count: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let heard: Vec<Input> = world.overheard.iter().cloned().collect();
    for number in 0..count {
        let Some(model) = heard.get(rng.random_range(0..heard.len().max(1))) else {
            return;
        };
        let input = match model.clone() {
            Input::Datagram { from, payload } => Input::Datagram {
                from,
                payload: mutated(&mut rng, &payload),
            },
            Input::Request { from, body, .. } => Input::Request {
                from,
                ticket: number,
                body: mutated(&mut rng, &body),
            },
            Input::Exchanged { body } => Input::Exchanged {
                body: mutated(&mut rng, &body),
            },
            other => other,
        };
        world.input(node, input);
        // Timers fire too, as they would.
        if number % 100 == 0 {
            world.run(Millis(50));
        }
    }
}

fn mutated(rng: &mut StdRng, bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let Some(last) = bytes.len().checked_sub(1) else {
            break;
        };
        let at = rng.random_range(0..=last);
        match rng.random_range(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 => bytes[at] = rng.random(),
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
    }
    bytes.into()
}

/// Bytes per second that a node of a mesh at rest sends, calls included.
pub fn idle_bytes_per_second(world: &mut World, nodes: u64, span: Millis) -> u64 {
    world.bytes = 0;
    world.run(span);
    world.bytes * 1_000 / span.0.max(1) / nodes
}
