//! The view is kept up to date by what changes; here it is compared with one made from everything, after each of some thousands
//! of random steps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{Millis, NodeId, Seed, encode};
use riftmesh_transport::relayed;

use super::{life, metadata};
use crate::message::MeshRequest;
use crate::{
    Agent, Input, MembershipSettings, MeshEffect, MeshEvent, NodeIdentity, NodeView, TimerId,
};

const AGENTS: u64 = 6;
/// Nobody can dial this one.
const HIDDEN: u64 = 6;
const STEPS: usize = 8_000;
/// What is under way beyond this is lost.
const UNDER_WAY_MAX: usize = 60;

/// A node's agent, and what the test knows it to believe.
struct Witnessed {
    agent: Agent,
    believed: BTreeMap<NodeId, NodeView>,
    timers: Vec<TimerId>,
}

/// Agents whose timers fire in any order, early or late, and whose messages arrive in any order or not at all.
struct Disorder {
    now: Millis,
    agents: BTreeMap<NodeId, Witnessed>,
    under_way: Vec<(NodeId, Input)>,
    callers: BTreeMap<u64, NodeId>,
    generation: u64,
    rng: StdRng,
    /// How often each kind of event was seen.
    seen: BTreeMap<&'static str, u32>,
}

fn kind(event: &MeshEvent) -> &'static str {
    match event {
        MeshEvent::Changed { state, .. } => match state {
            crate::NodeState::Alive => "alive",
            crate::NodeState::Suspect => "suspect",
            crate::NodeState::Down => "down",
            crate::NodeState::Left => "left",
        },
        MeshEvent::Described { .. } => "described",
        MeshEvent::Learned { .. } => "learned",
        MeshEvent::Forgotten { .. } => "forgotten",
        MeshEvent::Joined => "joined",
        MeshEvent::Alone => "alone",
    }
}

/// What readers have to be told when the view changes from `before` to `after`.
fn differences(
    before: &BTreeMap<NodeId, NodeView>,
    after: &BTreeMap<NodeId, NodeView>,
) -> BTreeSet<String> {
    let mut events = BTreeSet::new();
    let mut expect = |event: MeshEvent| events.insert(event.to_string());
    for (node, now) in after {
        let was = before.get(node);
        let (node, generation, state) = (*node, now.generation, now.state);
        let look = |view: &NodeView| (view.generation, view.state, view.address);
        if was.map(look) != Some(look(now)) {
            expect(MeshEvent::Changed {
                node,
                generation,
                state,
            });
        }
        if was.and_then(|was| was.metadata.as_ref()) != now.metadata.as_ref() {
            expect(MeshEvent::Described { node });
        }
        if was.and_then(|was| was.body.as_ref()) != now.body.as_ref() {
            expect(MeshEvent::Learned { node });
        }
    }
    for node in before.keys().filter(|node| !after.contains_key(node)) {
        expect(MeshEvent::Forgotten { node: *node });
    }
    events
}

impl Disorder {
    fn new(seed: u64) -> Self {
        let mut disorder = Self {
            now: Millis(0),
            agents: BTreeMap::new(),
            under_way: Vec::new(),
            callers: BTreeMap::new(),
            generation: 0,
            rng: StdRng::seed_from_u64(seed),
            seen: BTreeMap::new(),
        };
        for node in 1..=AGENTS {
            disorder.start(node);
        }
        disorder
    }

    /// Starts a node, or another life of it, sometimes at another address.
    fn start(&mut self, node: u64) {
        self.generation += 1;
        let elsewhere = ([10, 9, 9, node as u8], self.rng.random_range(1..9)).into();
        let address: SocketAddr = match node {
            HIDDEN => relayed::nowhere(NodeId(node)),
            _ if self.rng.random_bool(0.5) => elsewhere,
            _ => life(node).address,
        };
        let identity = NodeIdentity {
            generation: self.generation,
            address,
            ..life(node)
        };
        let settings = MembershipSettings {
            dial_out: identity.is_dial_out(),
            ..MembershipSettings::default()
        };
        let seeds = vec![life(1).address, life(2).address];
        let seed = Seed(self.generation);
        let mut agent = Agent::new(settings, identity, metadata(node), seeds, seed).unwrap();
        let effects = agent.start(self.now);
        let witnessed = Witnessed {
            agent,
            believed: BTreeMap::new(),
            timers: Vec::new(),
        };
        self.agents.insert(identity.node, witnessed);
        self.check(identity.node, &effects);
        self.perform(identity.node, effects);
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let Some(witnessed) = self.agents.get_mut(&node) else {
            return;
        };
        let effects = witnessed.agent.step(self.now, input);
        self.check(node, &effects);
        self.perform(node, effects);
    }

    /// The view must be what it is when made from everything, and the events must tell the difference.
    fn check(&mut self, node: NodeId, effects: &[MeshEffect]) {
        let witnessed = self.agents.get_mut(&node).unwrap();
        let (mut expected, missing) = witnessed.agent.made_from_everything();
        for (id, view) in &mut expected {
            let before = witnessed.believed.get(id);
            let standing = (view.generation, view.state);
            let same = before.filter(|before| (before.generation, before.state) == standing);
            view.since = same.map_or(self.now, |before| before.since);
        }
        assert_eq!(witnessed.agent.view(self.now).nodes, expected);
        assert_eq!(*witnessed.agent.missing(), missing);
        let mut told = BTreeSet::new();
        for effect in effects {
            let MeshEffect::Notify(event) = effect else {
                continue;
            };
            *self.seen.entry(kind(event)).or_default() += 1;
            if !matches!(event, MeshEvent::Joined | MeshEvent::Alone) {
                assert!(told.insert(event.to_string()), "{event} was told twice");
            }
        }
        assert_eq!(told, differences(&witnessed.believed, &expected));
        witnessed.believed = expected;
    }

    fn at(&self, address: SocketAddr) -> Option<NodeId> {
        let behind = relayed::route(address).filter(|route| route.relay.is_some());
        let mut agents = self.agents.iter();
        let there = agents.find(|(_, w)| w.agent.identity().address == address);
        behind
            .map(|route| route.node)
            .or(there.map(|(node, _)| *node))
    }

    fn perform(&mut self, node: NodeId, effects: Vec<MeshEffect>) {
        for effect in effects {
            match effect {
                MeshEffect::Send { to, payload } => {
                    if let Some(to) = self.at(to.address) {
                        let from = node;
                        self.under_way.push((to, Input::Datagram { from, payload }));
                    }
                }
                MeshEffect::Schedule { timer, .. } => {
                    self.agents.get_mut(&node).unwrap().timers.push(timer);
                }
                MeshEffect::Exchange { to, body } => {
                    if let Some(to) = self.at(to.address) {
                        self.request(node, to, body);
                    }
                }
                MeshEffect::Reply { ticket, body } => {
                    if let (Some(caller), Ok(body)) = (self.callers.remove(&ticket), body) {
                        self.under_way.push((caller, Input::Exchanged { body }));
                    }
                }
                MeshEffect::Renew { .. } => {
                    self.generation += 1;
                    let generation = self.generation;
                    self.under_way.push((node, Input::Renewed { generation }));
                }
                MeshEffect::SeekRelay { .. } => {
                    let relay = Some(([10, 9, 9, 9], self.rng.random_range(1..9)).into());
                    self.under_way.push((node, Input::Relayed { relay }));
                }
                MeshEffect::Investigate { .. } | MeshEffect::Notify(_) => {}
            }
        }
        while self.under_way.len() > UNDER_WAY_MAX {
            let lost = self.rng.random_range(0..self.under_way.len());
            self.under_way.swap_remove(lost);
        }
    }

    fn request(&mut self, from: NodeId, to: NodeId, body: Bytes) {
        let ticket = self.rng.random();
        self.callers.insert(ticket, from);
        let call = Input::Request { from, ticket, body };
        self.under_way.push((to, call));
    }

    fn anybody(&mut self) -> NodeId {
        NodeId(self.rng.random_range(1..=AGENTS))
    }

    fn anything(&mut self) {
        self.now += Millis(self.rng.random_range(0..400));
        match self.rng.random_range(0..100) {
            0..45 => {
                let node = self.anybody();
                let timers = &mut self.agents.get_mut(&node).unwrap().timers;
                if !timers.is_empty() {
                    let timer = timers.swap_remove(self.rng.random_range(0..timers.len()));
                    self.step(node, Input::Timer(timer));
                }
            }
            45..90 if !self.under_way.is_empty() => {
                let next = self.rng.random_range(0..self.under_way.len());
                let (node, input) = self.under_way.swap_remove(next);
                let input = self.damaged(input);
                self.step(node, input);
            }
            _ => self.happening(),
        }
    }

    /// Now and then bytes are not what was sent.
    fn damaged(&mut self, input: Input) -> Input {
        match input {
            Input::Datagram { from, payload } if self.rng.random_bool(0.05) => {
                let mut bytes = payload.to_vec();
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.rng.random_range(0..8);
                let payload = bytes.into();
                Input::Datagram { from, payload }
            }
            other => other,
        }
    }

    fn happening(&mut self) {
        let (node, other) = (self.anybody(), self.anybody());
        let generation = self.agents[&other].agent.identity().generation;
        let word = *["busy", "idle", "worn"].choose(&mut self.rng).unwrap();
        let input = match self.rng.random_range(0..40) {
            0 => return self.start(node.0),
            1 => Input::Leave,
            2..5 => {
                let node = other;
                Input::PortRefused { node, generation }
            }
            5 => {
                let goodbye = MeshRequest::Goodbye { generation };
                return self.request(other, node, encode(&goodbye).into());
            }
            6..20 => {
                let mut described = metadata(node.0);
                described.name = word.to_owned();
                Input::Describe(described)
            }
            20..22 if node.0 == HIDDEN => Input::Relayed { relay: None },
            _ => Input::Publish(Bytes::from_static(word.as_bytes())),
        };
        self.step(node, input);
    }
}

/// Whatever happens, in whatever order, to a handful of agents.
#[test]
fn the_view_is_that_of_everything_known() {
    let mut seen = BTreeMap::new();
    for seed in 0..4 {
        let mut disorder = Disorder::new(seed);
        for _ in 0..STEPS {
            disorder.anything();
        }
        for (kind, count) in disorder.seen {
            *seen.entry(kind).or_insert(0) += count;
        }
    }
    println!("{seen:?}");
    for kind in [
        "alive",
        "suspect",
        "down",
        "left",
        "described",
        "learned",
        "forgotten",
    ] {
        assert!(
            seen.get(kind).is_some_and(|count| *count > 10),
            "{kind}: {seen:?}"
        );
    }
}
