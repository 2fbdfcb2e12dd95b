//! A mesh has room for so many nodes, whoever names more.

use foca::Member;
use riftmesh_base::{Millis, encode};

use super::{agent, life};
use crate::message::{MeshReply, WholeView};
use crate::metadata::NODES_MAX;
use crate::{Agent, Input, MeshEffect};

fn view_of(nodes: std::ops::Range<u64>) -> Input {
    let view = WholeView {
        sender: life(nodes.start),
        members: nodes.map(|node| Member::alive(life(node))).collect(),
        announcements: Vec::new(),
    };
    let body = encode(&MeshReply::View(view)).into();
    Input::Exchanged { body }
}

fn known(agent: &Agent) -> usize {
    agent.view(Millis(0)).nodes.len()
}

/// Neither views nor datagrams bring in more; those who are known are still heard.
#[test]
fn a_full_mesh_lets_nobody_in() {
    let mut full = agent(1);
    full.step(Millis(0), view_of(100..12_100));
    assert_eq!(known(&full), 12_001);
    full.step(Millis(0), view_of(20_000..28_000));
    // Itself is not among the members that foca keeps.
    assert_eq!(known(&full), NODES_MAX + 1);

    let mut stranger = agent(2);
    let effects = stranger.step(Millis(0), view_of(1..2));
    let payload = effects
        .into_iter()
        .chain(stranger.step(Millis(1), Input::Leave));
    let mut payload = payload.filter_map(|effect| match effect {
        MeshEffect::Send { payload, .. } => Some(payload),
        _ => None,
    });
    let from = stranger.identity().node;
    let payload = payload.next().unwrap();
    full.step(Millis(1), Input::Datagram { from, payload });
    assert_eq!(known(&full), NODES_MAX + 1);
    assert!(full.view(Millis(1)).get(from).is_none());
}
