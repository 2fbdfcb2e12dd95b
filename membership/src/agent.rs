//! The membership protocol as a pure state machine: inputs and the time go in, effects come out.
//!
//! [`Agent::step`] is the only door. The driver performs every [`MeshEffect`] and owns sockets, timers and the disk. Two
//! agents with one seed that see the same inputs at the same times do the same.
//!
//! foca does the probing and the spreading of news. Around it the agent adds joining and repair by push-pull,
//! descriptions, goodbyes, evidence of death, and distrust of its own verdicts after it was frozen itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Foca, Member, OwnedNotification, PostcardCodec, State, Timer};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{Millis, NodeId, Seed, decode, encode};
use riftmesh_transport::Target;

use crate::config::MembershipSettings;
use crate::effect::{Input, MeshEffect, MeshEvent, TimerId};
use crate::health::LocalHealth;
use crate::identity::NodeIdentity;
use crate::message::{MeshRequest, WholeView};
use crate::metadata::{Announcement, Announcements, MetadataError, NODES_MAX, NodeMetadata};
use crate::track::Tracker;
use crate::view::{MembershipView, NodeState};

/// A timer this late means that this process was frozen, so what it missed says nothing about others.
const STALL: Millis = Millis::from_secs(2);
/// After a stall no member is given up for this long: their answers and objections are still being read.
const STALL_GRACE: Millis = Millis::from_secs(3);
/// While a member is suspect, it is looked at this often, by about this many of the others.
const INVESTIGATORS: usize = 6;
const INVESTIGATE_EVERY: Millis = Millis::from_secs(4);
/// Seeking slows down to this multiple of its period.
const SEEK_SLOWDOWN_MAX: u64 = 5;

type Core = Foca<NodeIdentity, PostcardCodec, StdRng, Announcements>;
type CoreRuntime = AccumulatingRuntime<NodeIdentity>;

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Alarm {
    Core(Timer<NodeIdentity>),
    Seek { tries: u64 },
    Repair,
    Investigate(NodeIdentity),
    Verdict(Member<NodeIdentity>),
}

/// The membership protocol of one node.
pub struct Agent {
    settings: MembershipSettings,
    seeds: Vec<SocketAddr>,
    core: Core,
    announcements: Announcements,
    own: Announcement,
    tracker: Tracker,
    alarms: BTreeMap<TimerId, (Millis, Alarm)>,
    timers_made: u64,
    rng: StdRng,
    effects: Vec<MeshEffect>,
    health: LocalHealth,
    /// No member is given up before this time.
    steady_from: Millis,
    seeking: bool,
    left: bool,
}

impl Agent {
    /// An agent for `identity`, whose generation is durable already. `seeds` are asked while no other member is
    /// known; its own address among them does no harm.
    ///
    /// # Errors
    /// When a text in `metadata` is over its bound.
    pub fn new(
        settings: MembershipSettings,
        identity: NodeIdentity,
        metadata: NodeMetadata,
        seeds: Vec<SocketAddr>,
        seed: Seed,
    ) -> Result<Self, MetadataError> {
        metadata.check()?;
        let announcements = Announcements::default();
        let core = Foca::with_custom_broadcast(
            identity,
            settings.protocol(settings.suspicion()),
            StdRng::seed_from_u64(seed.derive("foca", 0).0),
            PostcardCodec,
            announcements.clone(),
        );
        let own = Announcement {
            node: identity.node,
            generation: identity.generation,
            version: 0,
            left: false,
            metadata,
        };
        Ok(Self {
            settings,
            seeds,
            core,
            announcements,
            own,
            tracker: Tracker::default(),
            alarms: BTreeMap::new(),
            timers_made: 0,
            rng: StdRng::seed_from_u64(seed.derive("agent", 0).0),
            effects: Vec::new(),
            health: LocalHealth::default(),
            steady_from: Millis(0),
            seeking: false,
            left: false,
        })
    }

    /// Starts seeking; call once, before the first step.
    pub fn start(&mut self, now: Millis) -> Vec<MeshEffect> {
        self.publish(now);
        self.seek(now, 0);
        self.schedule(now, self.settings.repair_every, Alarm::Repair);
        self.finish(now)
    }

    /// Takes one input. `now` is the driver's monotonic clock and never goes back.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<MeshEffect> {
        match input {
            Input::Datagram { from, payload } => self.datagram(now, from, &payload),
            Input::Timer(timer) => self.timer(now, timer),
            Input::Request { from, ticket, body } => {
                let body = self.request(now, from, &body);
                self.effects.push(MeshEffect::Reply { ticket, body });
            }
            Input::Exchanged { body } => match decode::<WholeView>(&body) {
                Ok(view) => self.merge(now, view),
                Err(error) => tracing::warn!(%error, "a view was refused"),
            },
            Input::PortRefused { node, generation } => self.port_refused(now, node, generation),
            Input::Renewed { generation } => self.renewed(now, generation),
            Input::Describe(metadata) => match metadata.check() {
                Ok(()) => {
                    self.own.metadata = metadata;
                    self.own.version += 1;
                    self.publish(now);
                }
                Err(error) => tracing::error!(%error, "the description was not changed"),
            },
            Input::Leave => self.leave(now),
        }
        self.finish(now)
    }

    /// Who this node is now.
    pub fn identity(&self) -> NodeIdentity {
        *self.core.identity()
    }

    /// How this node does itself, from 0 (well) to 8 (often frozen or suspected); a gauge.
    pub fn health(&self) -> u8 {
        self.health.score()
    }

    /// What this node believes.
    pub fn view(&self, now: Millis) -> MembershipView {
        MembershipView {
            local: self.identity().node,
            at: now,
            nodes: self.tracker.nodes().clone(),
        }
    }

    fn finish(&mut self, now: Millis) -> Vec<MeshEffect> {
        let own = self.identity();
        let members = self.core.iter_membership_state();
        let others = members.filter(|m| m.id().node != own.node);
        let state = if self.left {
            NodeState::Left
        } else {
            NodeState::Alive
        };
        let seen = others
            .map(|m| (*m.id(), NodeState::from(m.state())))
            .chain([(own, state)])
            .collect();
        let events = self.tracker.refresh(now, seen, &self.announcements.book());
        for event in events {
            if let MeshEvent::Changed {
                node,
                state: NodeState::Suspect,
                ..
            } = event
                && let Some(member) = self.member(node)
            {
                self.investigate(now, *member.id());
            }
            self.effects.push(MeshEffect::Notify(event));
        }
        std::mem::take(&mut self.effects)
    }

    fn datagram(&mut self, now: Millis, from: NodeId, payload: &[u8]) {
        let header = foca::Codec::<NodeIdentity>::decode_header(&mut PostcardCodec, payload);
        match header {
            Ok(header) if header.src.node == from => {
                self.run(now, |core, runtime| core.handle_data(payload, runtime));
            }
            Ok(header) => tracing::warn!(%from, claimed = %header.src, "a datagram was refused"),
            Err(error) => tracing::warn!(%from, %error, "a datagram was refused"),
        }
    }

    /// Lets foca act and carries out what it asks for.
    fn run(
        &mut self,
        now: Millis,
        act: impl FnOnce(&mut Core, &mut CoreRuntime) -> Result<(), foca::Error>,
    ) {
        let mut runtime = CoreRuntime::new();
        if let Err(error) = act(&mut self.core, &mut runtime) {
            tracing::debug!(%error, "foca refused an input");
        }
        while let Some((to, payload)) = runtime.to_send() {
            let to = to.target();
            self.effects.push(MeshEffect::Send { to, payload });
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            self.schedule(now, after.into(), Alarm::Core(timer));
        }
        while let Some(notification) = runtime.to_notify() {
            self.notified(now, &notification);
        }
    }

    fn notified(&mut self, now: Millis, notification: &OwnedNotification<NodeIdentity>) {
        match notification {
            OwnedNotification::Active => self.effects.push(MeshEffect::Notify(MeshEvent::Joined)),
            OwnedNotification::Idle => {
                self.effects.push(MeshEffect::Notify(MeshEvent::Alone));
                self.seek(now, 0);
            }
            OwnedNotification::Defunct if !self.left => {
                let floor = self.identity().generation;
                self.effects.push(MeshEffect::Renew { floor });
            }
            // The tracker compares whole states, which misses nothing.
            OwnedNotification::Defunct
            | OwnedNotification::MemberUp(_)
            | OwnedNotification::MemberDown(_)
            | OwnedNotification::Rename(..)
            | OwnedNotification::Rejoin(_) => {}
        }
    }

    fn schedule(&mut self, now: Millis, after: Millis, alarm: Alarm) {
        self.timers_made += 1;
        let timer = TimerId(self.timers_made);
        self.alarms.insert(timer, (now + after, alarm));
        self.effects.push(MeshEffect::Schedule { timer, after });
    }

    fn timer(&mut self, now: Millis, timer: TimerId) {
        let Some((due, alarm)) = self.alarms.remove(&timer) else {
            return;
        };
        if now.since(due) > STALL {
            tracing::warn!(late = %now.since(due), "this process was frozen; verdicts are put off");
            self.steady_from = now + STALL_GRACE;
            self.feel(LocalHealth::stalled);
        }
        let is_verdict = matches!(
            alarm,
            Alarm::Verdict(_) | Alarm::Core(Timer::ChangeSuspectToDown { .. })
        );
        if is_verdict && now < self.steady_from {
            return self.schedule(now, self.steady_from.since(now), alarm);
        }
        match alarm {
            Alarm::Core(timer) => self.run(now, |core, runtime| core.handle_timer(timer, runtime)),
            Alarm::Seek { tries } => {
                self.seeking = false;
                self.seek(now, tries);
            }
            Alarm::Repair => self.repair(now),
            Alarm::Investigate(suspect) => self.investigate(now, suspect),
            Alarm::Verdict(suspect) => self.give_up(now, &suspect),
        }
    }

    /// Asks seeds and gone members for their views, as long as no member is known.
    fn seek(&mut self, now: Millis, tries: u64) {
        if self.left || self.seeking || self.core.num_members() > 0 {
            return;
        }
        self.seeking = true;
        for seed in self.foreign_seeds() {
            self.exchange(Target {
                node: None,
                address: seed,
            });
        }
        if let Some(gone) = self.random_gone() {
            self.exchange(gone);
        }
        let slowdown = (tries / 10 + 1).min(SEEK_SLOWDOWN_MAX);
        let period = Millis(self.settings.seek_every.0 * slowdown);
        self.schedule(now, period, Alarm::Seek { tries: tries + 1 });
    }

    /// Compares views with a random member, and with a seed and a gone member in case of another island.
    fn repair(&mut self, now: Millis) {
        if self.left {
            return;
        }
        self.feel(LocalHealth::recover);
        let member = self.core.iter_members().choose(&mut self.rng);
        let member = member.map(|member| member.id().target());
        let known: Vec<_> = self.core.iter_members().map(|m| m.id().address).collect();
        let mut seeds = self.foreign_seeds();
        seeds.retain(|seed| !known.contains(seed));
        let seed = seeds.into_iter().choose(&mut self.rng);
        let seed = seed.map(|address| Target {
            node: None,
            address,
        });
        let gone = self.random_gone();
        for partner in [member, seed, gone].into_iter().flatten() {
            self.exchange(partner);
        }
        let period = self.settings.repair_every;
        let jitter = Millis(self.rng.random_range(0..=period.0 / 10));
        self.schedule(now, period + jitter, Alarm::Repair);
    }

    fn foreign_seeds(&self) -> Vec<SocketAddr> {
        let own = self.identity().address;
        let seeds = self.seeds.iter().copied();
        seeds.filter(|seed| *seed != own).collect()
    }

    fn random_gone(&mut self) -> Option<Target> {
        let nodes = self.tracker.nodes().values();
        let gone = nodes.filter(|node| node.state == NodeState::Down);
        gone.choose(&mut self.rng).map(|node| Target {
            node: Some(node.id),
            address: node.address,
        })
    }

    fn exchange(&mut self, to: Target) {
        let body = encode(&MeshRequest::Exchange(self.whole_view())).into();
        self.effects.push(MeshEffect::Exchange { to, body });
    }

    fn whole_view(&self) -> WholeView {
        let sender = self.identity();
        let members = self.core.iter_membership_state();
        WholeView {
            sender,
            members: members
                .filter(|m| m.id().node != sender.node)
                .cloned()
                .collect(),
            announcements: self.announcements.book().values().cloned().collect(),
        }
    }

    fn request(&mut self, now: Millis, from: NodeId, body: &[u8]) -> Result<Bytes, String> {
        if from == self.identity().node {
            return Err("a node does not call itself".to_owned());
        }
        if self.left {
            return Err("this node is leaving".to_owned());
        }
        match decode::<MeshRequest>(body).map_err(|error| error.to_string())? {
            MeshRequest::Exchange(view) if view.sender.node != from => {
                Err(format!("{from} sent a view of {}", view.sender.node))
            }
            MeshRequest::Exchange(view) => {
                self.merge(now, view);
                Ok(encode(&self.whole_view()).into())
            }
            MeshRequest::Goodbye { generation } => {
                if let Some(member) = self.member(from)
                    && member.id().generation == generation
                {
                    self.give_up(now, &member);
                }
                Ok(Bytes::new())
            }
        }
    }

    /// Takes over what another node knows and this one does not.
    fn merge(&mut self, now: Millis, view: WholeView) {
        if view.members.len() > NODES_MAX || view.announcements.len() > NODES_MAX {
            return tracing::warn!(sender = %view.sender, "a view with too many nodes was refused");
        }
        let own = self.identity();
        let mut members = view.members.iter();
        if members.any(|member| *member.id() == own && member.state() == State::Suspect) {
            self.feel(LocalHealth::suspected);
        }
        let members = [Member::alive(view.sender)].into_iter().chain(view.members);
        self.run(now, |core, runtime| core.apply_many(members, true, runtime));
        for news in self.announcements.select_news(view.announcements) {
            self.run(now, |core, _| core.add_broadcast(&news).map(drop));
        }
    }

    /// Takes note of how this node does, which decides how patient it is with others.
    fn feel(&mut self, change: impl FnOnce(&mut LocalHealth)) {
        let before = self.health;
        change(&mut self.health);
        if self.health == before {
            return;
        }
        let suspicion = self.health.stretch(self.settings.suspicion());
        if let Err(error) = self.core.set_config(self.settings.protocol(suspicion)) {
            tracing::error!(%error, "foca refused its settings");
        }
    }

    /// Spreads this node's description.
    fn publish(&mut self, now: Millis) {
        let bytes = encode(&self.own);
        self.run(now, |core, _| core.add_broadcast(&bytes).map(drop));
    }

    fn member(&self, node: NodeId) -> Option<Member<NodeIdentity>> {
        let mut members = self.core.iter_members();
        members.find(|member| member.id().node == node).cloned()
    }

    fn is_suspect(&self, life: NodeIdentity) -> Option<Member<NodeIdentity>> {
        self.member(life.node)
            .filter(|member| *member.id() == life && member.state() == State::Suspect)
    }

    /// Looks at a suspect over other paths, again and again while it is suspect: a call tells it of the suspicion
    /// even if datagrams do not get through, and its host may say that its port is closed.
    fn investigate(&mut self, now: Millis, suspect: NodeIdentity) {
        if self.is_suspect(suspect).is_none() {
            return;
        }
        let members = self.core.num_members();
        if self.rng.random_range(0..members) < INVESTIGATORS {
            self.exchange(suspect.target());
            self.effects.push(MeshEffect::Investigate {
                node: suspect.node,
                generation: suspect.generation,
                address: suspect.address,
            });
        }
        self.schedule(now, INVESTIGATE_EVERY, Alarm::Investigate(suspect));
    }

    /// Shortens the suspicion of a node whose port is closed. It may still be restarting, hence not at once.
    fn port_refused(&mut self, now: Millis, node: NodeId, generation: u64) {
        let suspect = self.member(node).filter(|member| {
            member.id().generation == generation && member.state() == State::Suspect
        });
        if let Some(suspect) = suspect {
            let patience = self.settings.evidence_patience;
            self.schedule(now, patience, Alarm::Verdict(suspect));
        }
    }

    /// Declares a life over, unless it objected or was replaced since `known` was seen.
    fn give_up(&mut self, now: Millis, known: &Member<NodeIdentity>) {
        if self.member(known.id().node).as_ref() == Some(known) {
            let down = Member::new(*known.id(), known.incarnation(), State::Down);
            self.run(now, |core, runtime| {
                core.apply_many([down].into_iter(), true, runtime)
            });
        }
    }

    /// Returns under a new generation after the cluster gave this node up.
    fn renewed(&mut self, now: Millis, generation: u64) {
        if self.left || generation <= self.identity().generation {
            return;
        }
        let identity = NodeIdentity {
            generation,
            ..self.identity()
        };
        self.run(now, |core, runtime| core.change_identity(identity, runtime));
        self.own.generation = generation;
        self.own.version = 0;
        self.publish(now);
        // Nothing is applied, but foca looks around and finds that it is connected.
        self.run(now, |core, runtime| {
            core.apply_many([].into_iter(), true, runtime)
        });
        let partner = self.core.iter_members().choose(&mut self.rng);
        match partner.map(|member| member.id().target()) {
            Some(partner) => self.exchange(partner),
            None => self.seek(now, 0),
        }
    }

    fn leave(&mut self, now: Millis) {
        if self.left {
            return;
        }
        self.left = true;
        self.own.left = true;
        self.own.version += 1;
        self.publish(now);
        self.run(now, |core, runtime| core.leave_cluster(runtime));
    }
}

impl From<State> for NodeState {
    fn from(state: State) -> Self {
        match state {
            State::Alive => Self::Alive,
            State::Suspect => Self::Suspect,
            State::Down => Self::Down,
        }
    }
}
