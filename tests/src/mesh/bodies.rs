//! What nodes say at length, in meshes under a virtual clock: how soon others know it, and what that costs.

use bytes::Bytes;
use riftmesh_base::{Millis, NodeId};
use riftmesh_membership::Input;

use super::trials::formed;
use super::world::{World, address};

/// A node looks at its machine every 5 s, and news has to be everywhere within 15 s of a change.
const WITHIN: Millis = Millis::from_secs(10);

/// As long as the body of a node with a GPU or two.
fn body(node: u64, round: u64) -> Bytes {
    format!("{node:0>150} {round:0>150}").into()
}

fn publish(world: &mut World, node: u64, round: u64) {
    world.input(node, Input::Publish(body(node, round)));
}

fn knows(world: &World, observer: u64, node: u64, round: u64) -> bool {
    knows_all(world, observer, [(node, round)])
}

/// Whether an observer knows what these nodes said, each in its round.
fn knows_all(world: &World, observer: u64, said: impl IntoIterator<Item = (u64, u64)>) -> bool {
    let view = world.agent(observer).view(world.now);
    said.into_iter().all(|(node, round)| {
        let known = view.get(NodeId(node)).and_then(|seen| seen.body.as_ref());
        known.is_some_and(|known| known.bytes == body(node, round))
    })
}

/// A mesh at rest in which everybody knows what everybody says.
fn told(seed: u64, nodes: u64, loss: f64) -> World {
    let mut world = formed(seed, nodes, loss);
    for node in 1..=nodes {
        publish(&mut world, node, 0);
    }
    let everything = |world: &World| {
        let all = |observer| knows_all(world, observer, (1..=nodes).map(|node| (node, 0)));
        (1..=nodes).all(all)
    };
    let took = world.run_until(Millis::from_secs(60), "all of all", everything);
    println!("{nodes} nodes know what all say after {took}");
    world
}

/// News of one node is everywhere in time, in a mesh where all ask it and in one where most ask one another, under loss;
/// and somebody who joins then learns what all say.
#[test]
fn news_is_everywhere_in_time() {
    for nodes in [36, 200] {
        let mut world = told(21, nodes, 0.05);
        publish(&mut world, 7, 1);
        let everywhere = |world: &World| (1..=nodes).all(|observer| knows(world, observer, 7, 1));
        let took = world.run_until(WITHIN, "news", everywhere);
        println!("{nodes} nodes: news of one is everywhere after {took}");

        world.start(nodes + 1, 1, address(nodes + 1));
        let is_told = |world: &World| {
            let said = (1..=nodes).map(|node| (node, u64::from(node == 7)));
            knows_all(world, nodes + 1, said)
        };
        let took = world.run_until(Millis::from_secs(15), "a newcomer", is_told);
        println!("{nodes} nodes: a newcomer knows what all say after {took}");
    }
}

/// A node that nobody but its relay can dial tells and is told like the others.
#[test]
fn a_hidden_node_takes_part() {
    let mut world = told(22, 8, 0.0);
    world.start_hidden(9, 1);
    publish(&mut world, 9, 1);
    let both =
        |world: &World| (1..=8).all(|other| knows(world, other, 9, 1) && knows(world, 9, other, 0));
    world.run_until(WITHIN, "the hidden node", both);
}

/// One that cannot be asked any more by some is heard of through the others.
#[test]
fn a_one_way_cut_keeps_nobody_from_knowing() {
    let mut world = told(23, 12, 0.0);
    world.cut.insert((NodeId(3), NodeId(7)));
    publish(&mut world, 7, 1);
    world.run_until(WITHIN, "news around a cut", |world| knows(world, 3, 7, 1));
}

/// Nothing is asked for in a mesh where nobody has news; and what one change costs each of the others is bounded.
#[test]
fn silence_costs_nothing() {
    const MINUTE: Millis = Millis::from_secs(60);
    let nodes = 100;
    let per_node = |bytes: u64| bytes / nodes / 60;
    let mut quiet = formed(24, nodes, 0.0);
    quiet.bytes = 0;
    quiet.run(MINUTE);
    let mut world = told(24, nodes, 0.0);
    world.run(Millis::from_secs(10));
    world.bytes = 0;
    world.run(MINUTE);
    let (without, with) = (per_node(quiet.bytes), per_node(world.bytes));
    println!("{with} B/s with bodies, {without} B/s without");
    assert!(with <= without + 20, "{with} against {without}");
    world.bytes = 0;
    for round in 1..=60 {
        publish(&mut world, 1 + round % nodes, round);
        world.run(Millis::from_secs(1));
    }
    let busy = per_node(world.bytes);
    println!("{busy} B/s with one change a second among {nodes}");
    assert!(busy < with + 4_000, "{busy} against {with}");
}
