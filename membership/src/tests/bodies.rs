//! Bodies: what is asked of whom, and what is believed.

use std::sync::Arc;

use bytes::Bytes;
use foca::{Member, State};
use riftmesh_base::{BlobHash, Millis, NodeId, decode, encode};
use riftmesh_transport::Target;

use super::{agent, life};
use crate::bodies::{BODIES_PER_CALL, BODY_BYTES_MAX};
use crate::message::{MeshReply, MeshRequest, WholeView};
use crate::metadata::Announcement;
use crate::{Agent, Input, MeshEffect, TimerId};

const SPEAKER: u64 = 2;

/// The view of `SPEAKER`, who says what has this hash in this version of its digest, and of `others`.
fn view(version: u32, hash: BlobHash, others: std::ops::Range<u64>) -> Input {
    let announcement = Announcement {
        node: NodeId(SPEAKER),
        generation: 1,
        version,
        left: false,
        relay: None,
        metadata: Arc::new(super::metadata(SPEAKER)),
        body: Some(hash),
    };
    let view = WholeView {
        sender: life(SPEAKER),
        members: others.map(|node| Member::alive(life(node))).collect(),
        announcements: vec![announcement],
    };
    exchanged(&MeshReply::View(view))
}

fn exchanged(reply: &MeshReply) -> Input {
    let body = encode(reply).into();
    Input::Exchanged { body }
}

fn bodies(bodies: &[&[u8]]) -> Input {
    let bodies = bodies.iter().map(|bytes| bytes.to_vec()).collect();
    exchanged(&MeshReply::Bodies(bodies))
}

fn known(agent: &Agent) -> Option<Bytes> {
    let view = agent.view(Millis(0));
    let body = view.get(NodeId(SPEAKER)).unwrap().body.clone();
    body.map(|known| known.bytes)
}

/// An agent whose timers fire when they are due, and who else does nothing of what it wants.
struct Alone {
    agent: Agent,
    now: Millis,
    timers: Vec<(Millis, TimerId)>,
    /// Bodies asked for: when, of whom, which.
    asked: Vec<(Millis, Target, Vec<BlobHash>)>,
}

impl Alone {
    fn new(agent: Agent) -> Self {
        Self {
            agent,
            now: Millis(0),
            timers: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.agent.step(self.now, input) {
            match effect {
                MeshEffect::Schedule { timer, after } => {
                    self.timers.push((self.now + after, timer))
                }
                MeshEffect::Exchange { to, body } => {
                    if let Ok(MeshRequest::Bodies { hashes }) = decode(&body) {
                        self.asked.push((self.now, to, hashes));
                    }
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, length: Millis) {
        let end = self.now + length;
        while let Some(next) = self
            .timers
            .iter()
            .copied()
            .min()
            .filter(|(due, _)| *due <= end)
        {
            self.timers.retain(|timer| *timer != next);
            self.now = next.0;
            self.step(Input::Timer(next.1));
        }
        self.now = end;
    }
}

/// What does not have the hash that was announced is not believed, and asked for again; nor is what nobody announced.
#[test]
fn a_body_is_believed_by_its_hash() {
    let mut one = Alone::new(agent(1));
    one.step(view(1, BlobHash::of(b"busy"), 0..0));
    one.run(Millis(501));
    let (_, whom, which) = one.asked.remove(0);
    assert_eq!(
        (whom.node, which),
        (Some(NodeId(SPEAKER)), vec![BlobHash::of(b"busy")])
    );
    one.step(bodies(&[b"idle"]));
    assert_eq!(known(&one.agent), None);
    one.run(Millis::from_secs(2));
    assert!(!one.asked.is_empty(), "it asks again");
    one.step(bodies(&[b"idle", b"busy"]));
    assert_eq!(known(&one.agent).unwrap(), "busy");
    one.asked.clear();
    one.run(Millis::from_secs(10));
    assert_eq!(one.asked, [], "nothing is missing");
    // It is shown until the next one is here.
    one.step(view(2, BlobHash::of(b"the next"), 0..0));
    assert_eq!(known(&one.agent).unwrap(), "busy");
}

/// Too long a body, too many of them and a call for too many are refused, whoever sends them.
#[test]
fn sizes_are_bounded() {
    let long = vec![7; BODY_BYTES_MAX + 1];
    let mut one = agent(1);
    one.step(Millis(0), view(1, BlobHash::of(&long), 0..0));
    one.step(Millis(1), bodies(&[&long]));
    assert_eq!(known(&one), None);

    one.step(Millis(2), view(2, BlobHash::of(b"busy"), 0..0));
    let many = vec![b"busy".as_slice(); BODIES_PER_CALL + 1];
    one.step(Millis(3), bodies(&many));
    assert_eq!(known(&one), None);

    let before = one.digest();
    one.step(Millis(4), Input::Publish(long.into()));
    assert_eq!(one.digest(), before, "nothing was announced");

    let hashes = vec![BlobHash::of(b"busy"); BODIES_PER_CALL + 1];
    let effects = one.step(
        Millis(5),
        Input::Request {
            from: NodeId(3),
            ticket: 9,
            body: encode(&MeshRequest::Bodies { hashes }).into(),
        },
    );
    let refused = "65 bodies were asked for; one call is for 64".to_owned();
    let refusal = MeshEffect::Reply {
        ticket: 9,
        body: Err(refused),
    };
    assert!(effects.contains(&refusal), "{effects:?}");
}

/// Who has a body gives it to whoever asks with the hash, its own or another's.
#[test]
fn bodies_are_passed_on() {
    let mut one = agent(1);
    one.step(Millis(0), Input::Publish(Bytes::from_static(b"mine")));
    one.step(Millis(1), view(1, BlobHash::of(b"busy"), 0..0));
    one.step(Millis(2), bodies(&[b"busy"]));
    let hashes = [b"busy".as_slice(), b"mine", b"nobody's"].map(BlobHash::of);
    let body = encode(&MeshRequest::Bodies {
        hashes: hashes.to_vec(),
    })
    .into();
    let (from, ticket) = (NodeId(3), 1);
    let effects = one.step(Millis(3), Input::Request { from, ticket, body });
    let given = effects.into_iter().find_map(|effect| match effect {
        MeshEffect::Reply { body: Ok(body), .. } => Some(body),
        _ => None,
    });
    let MeshReply::Bodies(mut given) = decode(&given.unwrap()).unwrap() else {
        panic!("another answer");
    };
    given.sort();
    assert_eq!(given, [b"busy".to_vec(), b"mine".to_vec()]);
}

/// A peer that does not answer is asked more and more rarely, and others as well, until it is gone.
#[test]
fn a_silent_peer_is_not_pressed() {
    let mut one = Alone::new(agent(1));
    one.step(view(1, BlobHash::of(b"busy"), 3..6));
    one.run(Millis::from_secs(10));
    let calls = one.asked.len();
    assert!((5..=8).contains(&calls), "{calls} calls");
    let others = one
        .asked
        .iter()
        .filter(|(_, to, _)| to.node != Some(NodeId(SPEAKER)));
    assert!(others.count() > 0, "others may have it");
    let gone = WholeView {
        sender: life(3),
        members: vec![Member::new(life(SPEAKER), 0, State::Down)],
        announcements: Vec::new(),
    };
    one.step(exchanged(&MeshReply::View(gone)));
    one.asked.clear();
    one.run(Millis::from_secs(10));
    assert_eq!(one.asked, []);
}
