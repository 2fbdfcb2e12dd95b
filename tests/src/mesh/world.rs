//! Many agents in one thread under one seed: a network with latency, loss and pauses, and a virtual clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::limits::DATAGRAM_BYTES_MAX;
use riftmesh_base::{Millis, NodeId, Seed};
use riftmesh_membership::{
    Acquaintances, AdvertisedRole, Agent, Input, MembershipSettings, MeshEffect, MeshEvent,
    NodeIdentity, NodeMetadata, NodeState,
};
use riftmesh_transport::Target;
use riftmesh_transport::relayed::{self, Route};

use super::standings::Standings;

/// Messages kept in [`World::overheard`].
const OVERHEARD_MAX: usize = 200;

/// Those behind a relay give it up after this time without an answer.
const RELAY_SILENCE_MAX: Millis = Millis(2_500);

/// What is on its way to an agent.
enum Delivery {
    Input(Input),
    /// A call, and who waits for its answer.
    Call {
        from: NodeId,
        body: Bytes,
    },
}

struct Event {
    due: Millis,
    order: u64,
    /// The life meant; what is on its way to an earlier life at the address is lost.
    to: NodeIdentity,
    delivery: Delivery,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

struct Station {
    agent: Agent,
    /// The incarnation of the process: which start of the node this is.
    life: NodeIdentity,
    paused_until: Millis,
}

/// All agents, and what happens next.
pub struct World {
    /// The virtual clock.
    pub now: Millis,
    /// What agents are started with.
    pub settings: MembershipSettings,
    /// Share of the datagrams that are lost.
    pub loss: f64,
    /// Bytes sent, calls included, for the figures.
    pub bytes: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Whether hosts of dead processes answer "port closed".
    pub hosts_answer: bool,
    /// Each change some agent noticed: when, who, what.
    pub events: Vec<(Millis, NodeId, MeshEvent)>,
    /// The newest things that agents were sent, for those who want to send something like it.
    pub overheard: VecDeque<Input>,
    /// Directions in which nothing gets through: (from, to).
    pub cut: BTreeSet<(NodeId, NodeId)>,
    standings: Standings,
    doors: BTreeMap<SocketAddr, NodeIdentity>,
    /// The relays of the nodes that nobody can dial.
    relays: BTreeMap<NodeId, NodeIdentity>,
    stations: BTreeMap<NodeId, Station>,
    seeds: Vec<SocketAddr>,
    queue: BinaryHeap<Reverse<Event>>,
    tickets: BTreeMap<u64, NodeIdentity>,
    order: u64,
    rng: StdRng,
    transcript: Option<String>,
}

/// Where a node lives unless it is started elsewhere.
pub fn address(node: u64) -> SocketAddr {
    ([10, 0, (node >> 8) as u8, node as u8], 7_000).into()
}

/// What a node says about itself.
pub fn metadata(node: u64) -> NodeMetadata {
    NodeMetadata {
        name: format!("node-{node}"),
        role: AdvertisedRole::Worker,
    }
}

impl World {
    /// An empty world; the first three nodes are the seeds of all.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Millis(0),
            settings: MembershipSettings::default(),
            loss: 0.0,
            bytes: 0,
            datagrams: 0,
            hosts_answer: false,
            events: Vec::new(),
            overheard: VecDeque::new(),
            cut: BTreeSet::new(),
            standings: Standings::default(),
            doors: BTreeMap::new(),
            relays: BTreeMap::new(),
            stations: BTreeMap::new(),
            seeds: (1..=3).map(address).collect(),
            queue: BinaryHeap::new(),
            tickets: BTreeMap::new(),
            order: 0,
            rng: StdRng::seed_from_u64(seed),
            transcript: None,
        }
    }

    /// Writes down from now on what agents do.
    pub fn record(&mut self) {
        self.transcript = Some(String::new());
    }

    /// Adds a line to the recording, if there is one.
    pub fn note(&mut self, line: &str) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push_str(line);
            transcript.push('\n');
        }
    }

    /// Stops recording and gives what was recorded.
    pub fn pause_recording(&mut self) -> String {
        self.transcript.take().unwrap_or_default()
    }

    /// Goes on recording after `so_far`.
    pub fn resume_recording(&mut self, so_far: String) {
        self.transcript = Some(so_far);
    }

    /// Starts a node, or another life of it.
    pub fn start(&mut self, node: u64, generation: u64, address: SocketAddr) {
        self.prepare(node, generation, address);
        let now = self.now;
        if let Some(station) = self.stations.get_mut(&NodeId(node)) {
            let effects = station.agent.start(now);
            self.perform(NodeId(node), effects);
        }
    }

    /// Puts a node in its place, or another life of it, that does nothing yet.
    #[expect(clippy::expect_used, reason = "the description is a short literal")]
    fn prepare(&mut self, node: u64, generation: u64, address: SocketAddr) {
        let life = NodeIdentity {
            node: NodeId(node),
            generation,
            address,
        };
        let seed = Seed(node).derive("world", generation);
        let settings = MembershipSettings {
            dial_out: life.is_dial_out(),
            ..self.settings.clone()
        };
        let agent = Agent::new(settings, life, metadata(node), self.seeds.clone(), seed);
        let station = Station {
            agent: agent.expect("a description within its bounds"),
            life,
            paused_until: Millis(0),
        };
        self.kill(node);
        self.stations.insert(life.node, station);
        self.doors.insert(address, life);
    }

    /// Starts a node that nobody can dial, or another life of it.
    pub fn start_hidden(&mut self, node: u64, generation: u64) {
        self.start(node, generation, relayed::nowhere(NodeId(node)));
    }

    /// The relay of a node that nobody can dial.
    pub fn relay_of(&self, node: u64) -> Option<u64> {
        self.relays.get(&NodeId(node)).map(|life| life.node.0)
    }

    /// Starts the nodes 1 to `count` as members that have known one another for a while, not all on the same tick.
    pub fn start_acquainted(&mut self, count: u64) {
        for node in 1..=count {
            self.prepare(node, 1, address(node));
        }
        let all: Acquaintances = self
            .stations
            .values()
            .map(|station| &station.agent)
            .collect();
        for node in (1..=count).map(NodeId) {
            let now = self.now;
            let Some(station) = self.stations.get_mut(&node) else {
                continue;
            };
            let mut effects = station.agent.acquaint(now, &all);
            effects.extend(station.agent.start(now));
            let late = Millis(self.rng.random_range(0..self.settings.probe_every.0));
            for effect in &mut effects {
                if let MeshEffect::Schedule { after, .. } = effect {
                    *after += late;
                }
            }
            self.perform(node, effects);
            // Everybody noticing everybody is no news.
            self.events = Vec::new();
        }
    }

    /// Starts the nodes 1 to `count`.
    pub fn start_all(&mut self, count: u64) {
        for node in 1..=count {
            self.start(node, 1, address(node));
        }
    }

    /// Ends the process without a word.
    pub fn kill(&mut self, node: u64) {
        if let Some(station) = self.stations.remove(&NodeId(node)) {
            self.doors.remove(&station.life.address);
            self.relays.remove(&NodeId(node));
            self.silence_relay(station.life);
        }
        self.standings.forget_observer(NodeId(node));
    }

    /// Freezes a running node.
    pub fn pause(&mut self, node: u64, length: Millis) {
        let until = self.now + length;
        if let Some(station) = self.stations.get_mut(&NodeId(node)) {
            station.paused_until = until;
            let life = station.life;
            if length > RELAY_SILENCE_MAX {
                self.silence_relay(life);
            }
        }
    }

    /// Those behind a relay notice after a while that it is gone.
    fn silence_relay(&mut self, relay: NodeIdentity) {
        let behind: Vec<_> = self
            .relays
            .iter()
            .filter(|(_, life)| **life == relay)
            .map(|(node, _)| *node)
            .collect();
        for node in behind {
            self.relays.remove(&node);
            if let Some(station) = self.stations.get(&node) {
                let lost = Input::Relayed { relay: None };
                self.push(RELAY_SILENCE_MAX, station.life, Delivery::Input(lost));
            }
        }
    }

    /// Attaches a node that nobody can dial to the quickest of those that answer it.
    fn seek_relay(&mut self, life: NodeIdentity, candidates: &[Target]) {
        self.relays.remove(&life.node);
        let mut quickest: Option<(Millis, NodeIdentity)> = None;
        for candidate in candidates {
            let relay = self.doors.get(&candidate.address).copied();
            let round_trip = Millis(self.rng.random_range(2..=10));
            if let Some(relay) = relay
                && self.is_open(life.node, relay.node)
                && self.is_open(relay.node, life.node)
                && quickest.is_none_or(|(best, _)| round_trip < best)
            {
                quickest = Some((round_trip, relay));
            }
        }
        let (after, relay) = match quickest {
            Some((round_trip, relay)) => {
                self.relays.insert(life.node, relay);
                (round_trip, Some(relay.address))
            }
            None => (RELAY_SILENCE_MAX, None),
        };
        self.push(after, life, Delivery::Input(Input::Relayed { relay }));
    }

    /// Whether messages of one node get to the other, which must not be frozen to answer one that it relays.
    fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        let awake = |station: &Station| station.paused_until <= self.now;
        !self.cut.contains(&(from, to)) && self.stations.get(&from).is_some_and(awake)
    }

    /// Whether this life of a node runs, frozen or not.
    pub fn is_running(&self, node: u64, generation: u64) -> bool {
        let station = self.stations.get(&NodeId(node));
        station.is_some_and(|station| station.life.generation == generation)
    }

    /// Whether a node is frozen now.
    pub fn is_paused(&self, node: u64) -> bool {
        let station = self.stations.get(&NodeId(node));
        station.is_some_and(|station| station.paused_until > self.now)
    }

    /// Whether a node counts this life of another, or a later one, as gone: dead, or out by its own word.
    pub fn counts_out(&self, observer: u64, node: u64, generation: u64) -> bool {
        let seen = self.standings.get(NodeId(observer), NodeId(node));
        seen.is_some_and(|seen| {
            seen.generation >= generation && matches!(seen.state, NodeState::Down | NodeState::Left)
        })
    }

    /// Gives a running node an input.
    pub fn input(&mut self, node: u64, input: Input) {
        if let Some(station) = self.stations.get_mut(&NodeId(node)) {
            let effects = station.agent.step(self.now, input);
            self.perform(NodeId(node), effects);
        }
    }

    /// A running node's agent.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn agent(&self, node: u64) -> &Agent {
        &self.stations[&NodeId(node)].agent
    }

    /// Lets this much time pass.
    pub fn run(&mut self, length: Millis) {
        let end = self.now + length;
        while let Some(Reverse(event)) = self.queue.peek()
            && event.due <= end
        {
            let Some(Reverse(event)) = self.queue.pop() else {
                break;
            };
            self.now = self.now.max(event.due);
            self.deliver(event);
        }
        self.now = end;
    }

    /// Runs until `done` and gives how long it took.
    ///
    /// # Panics
    /// When `limit` is reached first.
    pub fn run_until(&mut self, limit: Millis, what: &str, done: impl Fn(&Self) -> bool) -> Millis {
        let start = self.now;
        while !done(self) {
            assert!(self.now.since(start) < limit, "{what}: not within {limit}");
            self.run(Millis(50));
        }
        self.now.since(start)
    }

    /// How `node` looks to every other running node.
    pub fn seen_by_others(&self, node: u64) -> BTreeSet<(Option<u64>, Option<NodeState>)> {
        let others = self.stations.keys().filter(|other| other.0 != node);
        others
            .map(|other| self.standings.get(*other, NodeId(node)))
            .map(|seen| (seen.map(|s| s.generation), seen.map(|s| s.state)))
            .collect()
    }

    /// Whether `node` looks like this to every other running node.
    pub fn everybody_sees(&self, node: u64, generation: u64, state: NodeState) -> bool {
        self.seen_by_others(node) == [(Some(generation), Some(state))].into()
    }

    /// Whether every running node sees every other one, description included, and none as gone.
    pub fn is_complete(&self) -> bool {
        let is_known = |observer: NodeId, node: NodeId| {
            self.standings.get(observer, node).is_some_and(|standing| {
                standing.described
                    && matches!(standing.state, NodeState::Alive | NodeState::Suspect)
            })
        };
        let mut nodes = self.stations.keys();
        nodes.all(|node| {
            let mut others = self.stations.keys();
            others.all(|other| is_known(*other, *node))
        })
    }

    fn deliver(&mut self, event: Event) {
        let Some(station) = self.stations.get_mut(&event.to.node) else {
            return;
        };
        if station.life != event.to {
            return;
        }
        if station.paused_until > self.now {
            // The worst order on waking: first all that was waited for, then what was heard.
            let is_timer = matches!(event.delivery, Delivery::Input(Input::Timer(_)));
            let due = station.paused_until + Millis(if is_timer { 0 } else { 50 });
            self.queue.push(Reverse(Event { due, ..event }));
            return;
        }
        let input = match event.delivery {
            Delivery::Input(input) => input,
            Delivery::Call { from, body } => {
                self.order += 1;
                if let Some(caller) = self.stations.get(&from) {
                    self.tickets.insert(self.order, caller.life);
                }
                Input::Request {
                    from,
                    ticket: self.order,
                    body,
                }
            }
        };
        if !matches!(input, Input::Timer(_)) {
            self.overheard.truncate(OVERHEARD_MAX);
            self.overheard.push_front(input.clone());
        }
        self.input(event.to.node.0, input);
    }

    fn perform(&mut self, node: NodeId, effects: Vec<MeshEffect>) {
        let life = self.stations[&node].life;
        for effect in effects {
            self.write_down(node, &effect);
            match effect {
                MeshEffect::Send { to, payload } => {
                    assert!(
                        payload.len() <= DATAGRAM_BYTES_MAX,
                        "a datagram is too long"
                    );
                    self.datagrams += 1;
                    self.bytes += payload.len() as u64;
                    if !self.rng.random_bool(self.loss) {
                        let input = Input::Datagram {
                            from: node,
                            payload,
                        };
                        self.send(node, to, Delivery::Input(input));
                    }
                }
                MeshEffect::Schedule { timer, after } => {
                    self.push(after, life, Delivery::Input(Input::Timer(timer)));
                }
                MeshEffect::Exchange { to, body } => {
                    self.bytes += body.len() as u64;
                    self.send(node, to, Delivery::Call { from: node, body });
                }
                MeshEffect::Reply { ticket, body } => {
                    let caller = self.tickets.remove(&ticket);
                    if let (Some(caller), Ok(body)) = (caller, body) {
                        self.bytes += body.len() as u64;
                        self.answer(node, caller, Delivery::Input(Input::Exchanged { body }));
                    }
                }
                MeshEffect::Investigate {
                    node: suspect,
                    generation,
                    address,
                } => {
                    if self.hosts_answer && !self.doors.contains_key(&address) {
                        let input = Input::PortRefused {
                            node: suspect,
                            generation,
                        };
                        self.push(Millis(1), life, Delivery::Input(input));
                    }
                }
                MeshEffect::SeekRelay { candidates } => self.seek_relay(life, &candidates),
                MeshEffect::Renew { floor } => {
                    let input = Input::Renewed {
                        generation: floor + 1,
                    };
                    self.push(Millis(5), life, Delivery::Input(input));
                }
                MeshEffect::Notify(event) => {
                    self.standings.observe(node, &event);
                    self.events.push((self.now, node, event));
                }
            }
        }
    }

    fn send(&mut self, from: NodeId, to: Target, delivery: Delivery) {
        if let Some(route) = relayed::route(to.address) {
            return self.send_through(from, route, delivery);
        }
        let Some(life) = self.doors.get(&to.address).copied() else {
            return;
        };
        if to.node.is_none_or(|node| node == life.node) {
            self.answer(from, life, delivery);
        }
    }

    /// Over a relay, which passes it on if whom it is for is still attached to it.
    fn send_through(&mut self, from: NodeId, route: Route, delivery: Delivery) {
        let relay = route
            .relay
            .and_then(|relay| self.doors.get(&relay))
            .copied();
        let behind = self.stations.get(&route.node).map(|station| station.life);
        let (Some(relay), Some(life)) = (relay, behind) else {
            return;
        };
        if self.relays.get(&route.node) == Some(&relay)
            && !self.cut.contains(&(from, relay.node))
            && self.is_open(relay.node, life.node)
        {
            let latency = Millis(self.rng.random_range(1..=5) + self.rng.random_range(1..=5));
            self.push(latency, life, delivery);
        }
    }

    /// To a life by the way that a call of it came, or that its address names.
    fn answer(&mut self, from: NodeId, to: NodeIdentity, delivery: Delivery) {
        if self.cut.contains(&(from, to.node)) {
            return;
        }
        let latency = Millis(self.rng.random_range(1..=5));
        self.push(latency, to, delivery);
    }

    fn push(&mut self, after: Millis, to: NodeIdentity, delivery: Delivery) {
        self.order += 1;
        let due = self.now + after;
        self.queue.push(Reverse(Event {
            due,
            order: self.order,
            to,
            delivery,
        }));
    }

    fn write_down(&mut self, node: NodeId, effect: &MeshEffect) {
        if self.transcript.is_some() && !matches!(effect, MeshEffect::Schedule { .. }) {
            let line = format!("{:>7}  {:x}  {effect}", self.now.0, node.0);
            self.note(&line);
        }
    }
}
