//! A node has the last word about itself.

use std::sync::Arc;

use foca::BroadcastHandler;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{Millis, NodeId, decode, encode};

use super::{agent, life, metadata};
use crate::message::{MeshReply, MeshRequest, WholeView};
use crate::metadata::{Announcement, Announcements};
use crate::{Agent, Input, MeshEffect, NodeMetadata};

const NODE: u64 = 1;

/// What somebody says in the node's name.
fn lie(generation: u64, version: u32) -> Announcement {
    Announcement {
        node: NodeId(NODE),
        generation,
        version,
        left: false,
        relay: None,
        metadata: Arc::new(NodeMetadata {
            name: "impostor".to_owned(),
            ..metadata(NODE)
        }),
        body: None,
    }
}

fn view_with(announcement: Announcement) -> WholeView {
    WholeView {
        sender: life(2),
        members: Vec::new(),
        announcements: vec![announcement],
    }
}

/// Takes an input and does with the effects what the driver does: new lives are granted.
fn step(agent: &mut Agent, input: Input) {
    let mut effects = agent.step(Millis(1), input);
    while let Some(MeshEffect::Renew { floor }) = effects
        .iter()
        .find(|effect| matches!(effect, MeshEffect::Renew { .. }))
    {
        let generation = floor + 1;
        effects = agent.step(Millis(1), Input::Renewed { generation });
    }
}

/// What the node says of itself to whoever asks for its view.
fn said_by(agent: &mut Agent) -> Announcement {
    let body = encode(&MeshRequest::Exchange(WholeView {
        sender: life(3),
        members: Vec::new(),
        announcements: Vec::new(),
    }));
    let request = Input::Request {
        from: NodeId(3),
        ticket: 1,
        body: body.into(),
    };
    let replies = agent.step(Millis(1), request);
    let reply = replies.into_iter().find_map(|effect| match effect {
        MeshEffect::Reply { body, .. } => body.ok(),
        _ => None,
    });
    let Ok(MeshReply::View(view)) = decode(&reply.unwrap()) else {
        panic!("no view");
    };
    let mut own = view.announcements.into_iter();
    own.find(|said| said.node == NodeId(NODE)).unwrap()
}

/// Whatever is said in its name, in whatever order and on whatever way it comes, a node says what it is, and says it in a way that
/// whoever heard the rest believes it.
#[test]
fn a_node_has_the_last_word() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut node = agent(NODE);
        // Somebody who hears all of it, and what the node says after each.
        let mut listener = Announcements::default();
        let mut name = metadata(NODE).name;
        for round in 0..20 {
            let own = said_by(&mut node);
            let generation = match rng.random_range(0..4) {
                0 => own.generation.saturating_sub(1),
                1 => own.generation + rng.random_range(1..1_000),
                _ => own.generation,
            };
            let version = match rng.random_range(0..5) {
                0 => u32::MAX,
                1 => own.version,
                2 => own.version.saturating_sub(1),
                _ => own.version.saturating_add(rng.random_range(0..5)),
            };
            let lie = lie(generation, version);
            listener.receive_item(&encode(&lie), None).unwrap();
            match rng.random_range(0..4) {
                0 => {
                    let body = encode(&MeshReply::View(view_with(lie))).into();
                    step(&mut node, Input::Exchanged { body });
                }
                1 => {
                    let body = encode(&MeshRequest::Exchange(view_with(lie))).into();
                    let (from, ticket) = (NodeId(2), 9);
                    step(&mut node, Input::Request { from, ticket, body });
                }
                2 => {
                    // As foca hands in what gossip brings.
                    let heard = node.overhear(&encode(&lie));
                    assert!(!heard, "a lie is passed on");
                    step(
                        &mut node,
                        Input::PortRefused {
                            node: NodeId(7),
                            generation: 0,
                        },
                    );
                }
                _ => {
                    name = format!("node-{round}");
                    let described = NodeMetadata {
                        name: name.clone(),
                        ..metadata(NODE)
                    };
                    step(&mut node, Input::Describe(described));
                    let body = encode(&MeshReply::View(view_with(lie))).into();
                    step(&mut node, Input::Exchanged { body });
                }
            }
            let said = said_by(&mut node);
            assert_eq!(said.metadata.name, name, "seed {seed}, round {round}");
            assert_eq!(said.generation, node.identity().generation);
            listener.receive_item(&encode(&said), None).unwrap();
            let believed = listener.book().said_by(NodeId(NODE)).cloned();
            assert_eq!(believed, Some(said), "seed {seed}, round {round}");
        }
    }
}

/// An echo of what it said itself is no reason to say more, and what is older is nobody's concern. A node that left says no
/// more.
#[test]
fn echoes_are_left_alone() {
    let mut node = agent(NODE);
    let own = said_by(&mut node);
    let older = lie(own.generation - 1, u32::MAX);
    for echo in [own.clone(), older] {
        let body = encode(&MeshReply::View(view_with(echo))).into();
        step(&mut node, Input::Exchanged { body });
        assert_eq!(said_by(&mut node), own);
    }
    step(&mut node, Input::Leave);
    let lie = lie(own.generation, own.version + 5);
    assert!(!node.overhear(&encode(&lie)));
    let effects = node.step(Millis(2), Input::Leave);
    assert_eq!(effects, []);
}

/// No number of lives is followed that would leave a node none to live.
#[test]
fn absurd_lives_are_not_outdone() {
    let mut node = agent(NODE);
    let own = said_by(&mut node);
    for generation in [u64::MAX, u64::MAX - 1, own.generation + (1 << 40)] {
        let body = encode(&MeshReply::View(view_with(lie(generation, 0)))).into();
        let effects = node.step(Millis(1), Input::Exchanged { body });
        let is_renewal = |effect: &MeshEffect| matches!(effect, MeshEffect::Renew { .. });
        assert!(!effects.iter().any(is_renewal), "{generation}");
        assert_eq!(said_by(&mut node), own);
    }
}
