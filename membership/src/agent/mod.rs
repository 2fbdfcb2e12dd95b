//! The membership protocol as a pure state machine: inputs and the time go in, effects come out.
//!
//! [`Agent::step`] is the only door. The driver performs every [`MeshEffect`] and owns sockets, timers and the disk. Two
//! agents with one seed that see the same inputs at the same times do the same.
//!
//! foca does the probing and the spreading of news. Around it the agent adds joining and repair by push-pull,
//! descriptions, goodbyes, evidence of death, and distrust of its own verdicts after it was frozen itself.

mod admission;
mod exchange;
mod fetch;
mod hearing;
mod look;
mod refute;
mod relay;
#[cfg(test)]
mod scratch;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use foca::{AccumulatingRuntime, Foca, Member, OwnedNotification, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use riftmesh_base::{Millis, NodeId, Seed, decode, encode};

pub use self::look::Acquaintances;
use self::look::LastDigest;
use crate::bodies::Bodies;
use crate::config::MembershipSettings;
use crate::effect::{Input, MeshEffect, MeshEvent, TimerId};
use crate::health::LocalHealth;
use crate::identity::NodeIdentity;
use crate::message::MeshReply;
use crate::metadata::{Announcement, Announcements, MetadataError, NodeMetadata};
use crate::notes::{MemberNotes, NotingCodec};
use crate::peers::Seeds;
use crate::track::Tracker;
use crate::view::NodeState;

/// A timer this late means that this process was frozen, so what it missed says nothing about others.
const STALL: Millis = Millis::from_secs(2);
/// After a stall no member is given up for this long: their answers and objections are still being read.
const STALL_GRACE: Millis = Millis::from_secs(3);
/// While a member is suspect, it is looked at this often, by about this many of the others.
const INVESTIGATORS: usize = 6;
const INVESTIGATE_EVERY: Millis = Millis::from_secs(4);
/// Seeking slows down to this multiple of its period.
const SEEK_SLOWDOWN_MAX: u64 = 5;

type Core = Foca<NodeIdentity, NotingCodec, StdRng, Announcements>;
type CoreRuntime = AccumulatingRuntime<NodeIdentity>;

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Alarm {
    Core(Timer<NodeIdentity>),
    Seek { tries: u64 },
    Repair,
    SeekRelay,
    Fetch,
    Recover,
    Investigate(NodeIdentity),
    Verdict(Member<NodeIdentity>),
}

/// The membership protocol of one node.
pub struct Agent {
    settings: MembershipSettings,
    seeds: Seeds,
    core: Core,
    announcements: Announcements,
    own: Announcement,
    bodies: Bodies,
    tracker: Tracker,
    notes: MemberNotes,
    /// Gone nodes that foca has forgotten since the last look.
    forgotten: Vec<NodeId>,
    /// This node's life as readers know it.
    shown: Option<(NodeIdentity, NodeState)>,
    last_digest: LastDigest,
    alarms: BTreeMap<TimerId, (Millis, Alarm)>,
    timers_made: u64,
    rng: StdRng,
    effects: Vec<MeshEffect>,
    health: LocalHealth,
    /// An alarm is set for the next step of recovery.
    recovering: bool,
    /// No member is given up before this time.
    steady_from: Millis,
    /// When anything came from another member last.
    heard: Millis,
    seeking: bool,
    /// An alarm is set for the next call after missing bodies.
    fetching: bool,
    /// Calls after bodies since one brought something.
    fruitless: u64,
    left: bool,
}

impl Agent {
    /// An agent for `identity`, whose generation is durable already. `seeds` are asked while no other member is
    /// known.
    ///
    /// # Errors
    /// When a text in `metadata` is over its bound.
    pub fn new(
        settings: MembershipSettings,
        identity: NodeIdentity,
        metadata: NodeMetadata,
        seeds: impl Into<Seeds>,
        seed: Seed,
    ) -> Result<Self, MetadataError> {
        metadata.check()?;
        let announcements = Announcements::default();
        let notes = MemberNotes::default();
        let core = Foca::with_custom_broadcast(
            identity,
            settings.protocol(settings.suspicion()),
            StdRng::seed_from_u64(seed.derive("foca", 0).0),
            NotingCodec::new(notes.clone()),
            announcements.clone(),
        );
        let own = Announcement {
            node: identity.node,
            generation: identity.generation,
            version: 0,
            left: false,
            relay: None,
            metadata: Arc::new(metadata),
            body: None,
        };
        Ok(Self {
            settings,
            seeds: seeds.into(),
            core,
            announcements,
            own,
            bodies: Bodies::default(),
            tracker: Tracker::default(),
            notes,
            forgotten: Vec::new(),
            shown: None,
            last_digest: LastDigest::default(),
            alarms: BTreeMap::new(),
            timers_made: 0,
            rng: StdRng::seed_from_u64(seed.derive("agent", 0).0),
            effects: Vec::new(),
            health: LocalHealth::default(),
            recovering: false,
            steady_from: Millis(0),
            heard: Millis(0),
            seeking: false,
            fetching: false,
            fruitless: 0,
            left: false,
        })
    }

    /// Starts seeking; call once, before the first step.
    pub fn start(&mut self, now: Millis) -> Vec<MeshEffect> {
        self.publish(now);
        self.seek_relay();
        self.seek(now, 0);
        self.schedule(now, self.settings.repair_every, Alarm::Repair);
        self.finish(now)
    }

    /// Takes one input. `now` is the driver's monotonic clock and never goes back.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<MeshEffect> {
        if input.is_message() {
            self.hear(now);
        }
        match input {
            Input::Datagram { from, payload } => self.datagram(now, from, &payload),
            Input::Timer(timer) => self.timer(now, timer),
            Input::Request { from, ticket, body } => {
                let body = self.request(now, from, &body);
                self.effects.push(MeshEffect::Reply { ticket, body });
            }
            Input::Exchanged { body } => match decode(&body) {
                Ok(MeshReply::View(view)) => self.merge(now, view),
                Ok(MeshReply::Different(life)) => self.exchange(self.target(&life)),
                Ok(MeshReply::Same) => {}
                Ok(MeshReply::Bodies(bodies)) => self.learn_bodies(now, bodies),
                Err(error) => tracing::warn!(%error, "an answer was refused"),
            },
            Input::PortRefused { node, generation } => self.port_refused(now, node, generation),
            Input::Renewed { generation } => self.renewed(now, generation),
            Input::Relayed { relay } => self.relayed(now, relay),
            Input::Describe(metadata) => match metadata.check() {
                Ok(()) => {
                    self.own.metadata = Arc::new(metadata);
                    self.own.version += 1;
                    self.publish(now);
                }
                Err(error) => tracing::error!(%error, "the description was not changed"),
            },
            Input::Publish(body) => self.say(now, body),
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
            let to = self.target(&to);
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
            // They leave suspicions out; what the codec notes misses nothing.
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
            self.feel(now, LocalHealth::stalled);
        }
        let is_timeout = matches!(alarm, Alarm::Core(Timer::ChangeSuspectToDown { .. }));
        let is_verdict = is_timeout || matches!(alarm, Alarm::Verdict(_));
        if is_verdict && self.is_deaf() || is_timeout && self.is_cut_off(now) {
            return self.schedule(now, STALL_GRACE, alarm);
        }
        if is_verdict && now < self.steady_from {
            return self.schedule(now, self.steady_from.since(now), alarm);
        }
        match alarm {
            // foca 2.0.0 leaves a member alone that has objected, but tells it all the same that it was given up, upon
            // which the member would return under another generation.
            Alarm::Core(Timer::ChangeSuspectToDown {
                ref member_id,
                incarnation,
                ..
            }) if self
                .is_suspect(*member_id)
                .is_none_or(|member| member.incarnation() != incarnation) => {}
            Alarm::Core(Timer::SendIndirectProbe { probed_id, token }) => {
                self.probe_late(now, probed_id, token);
            }
            Alarm::Core(Timer::RemoveDown(life)) => {
                let timer = Timer::RemoveDown(life);
                self.run(now, |core, runtime| core.handle_timer(timer, runtime));
                self.forget(life.node);
            }
            Alarm::Core(timer) => self.run(now, |core, runtime| core.handle_timer(timer, runtime)),
            Alarm::Seek { tries } => {
                self.seeking = false;
                self.seek(now, tries);
            }
            Alarm::Repair => self.repair(now),
            Alarm::SeekRelay => self.seek_relay(),
            Alarm::Fetch => self.fetch_bodies(now),
            Alarm::Recover => self.recover(now),
            Alarm::Investigate(suspect) => {
                // The verdict, or the denial, may be known everywhere but here.
                if self.is_suspect(suspect).is_some()
                    && let Some(member) = self.random_member()
                {
                    self.compare(member);
                }
                self.investigate(now, suspect);
            }
            Alarm::Verdict(suspect) => self.give_up(now, &suspect),
        }
    }

    /// Spreads this node's description.
    fn publish(&mut self, now: Millis) {
        self.announcements.book().own_up_to(self.own.clone());
        let bytes = encode(&self.own);
        self.run(now, |core, _| core.add_broadcast(&bytes).map(drop));
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
        match self.random_member() {
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
        self.tell_goodbye();
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
