//! Workers with sessions and jobs on a mesh, and a leader that takes the jobs of dead ones back: by the rule that leaders go
//! by ([`SessionWatch`]), with what gossip tells the member that leads, in the state that the log leads to.
//!
//! Of consensus there is this much: a leader that is frozen for longer than an election takes has been replaced by another voter,
//! which remembers no sign of life. Keepalives go over streams: one of which a packet is lost comes later.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::limits::KEEPALIVE_EVERY;
use riftmesh_base::{LogIndex, Millis, NodeId, SessionId};
use riftmesh_membership::{MeshEvent, NodeState};
use riftmesh_raft::{OpenSessionFact, SessionWatch};
use riftmesh_statemachine::command::{Batch, Command};
use riftmesh_statemachine::effect::Effect;
use riftmesh_statemachine::job::{JobKind, JobSpec};
use riftmesh_statemachine::reply::Reply;
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::{Body, State};

use super::trials::{End, Pauses};
use super::world::{World, address};
use crate::jobs::configuration;

/// The first so many members vote; the others work, with one job each.
const VOTERS: u64 = 3;
/// The leader looks this often, as the chores of a node do.
const ROUND: Millis = Millis(250);
/// A leader that is frozen for longer has lost its office.
const ELECTION: Millis = Millis(1_000);
/// A keepalive of which a packet was lost comes so much later.
const RESENT: Millis = Millis(300);
/// A worker that was killed is started again after this time.
const AWAY: Millis = Millis::from_secs(90);

/// A job that was taken back from a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaim {
    /// Which worker.
    pub node: u64,
    /// How long after its end; none if it lived, which makes it a false one.
    pub after: Option<Millis>,
}

/// How a life ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    at: Millis,
    how: End,
}

/// The life of a worker that runs.
#[derive(Debug, Clone, Copy)]
struct Working {
    generation: u64,
    session: Option<SessionId>,
    /// When the leader hears of it next.
    heard_next: Millis,
}

/// What happened to a fleet.
#[derive(Debug, Default)]
pub struct FleetRecord {
    /// Jobs taken back, in order, with how the worker had ended.
    pub reclaims: Vec<(Reclaim, Option<End>)>,
    /// Workers that were killed.
    pub kills: usize,
    /// Verdicts of members about lives that were not over.
    pub false_verdicts: usize,
    /// How often another voter took over.
    pub terms: usize,
}

impl FleetRecord {
    /// Jobs taken from workers that lived.
    pub fn false_reclaims(&self) -> usize {
        let taken = self.reclaims.iter();
        taken.filter(|(taken, _)| taken.after.is_none()).count()
    }

    /// How long after ends of this kind the job was ready again, shortest first.
    pub fn waits(&self, end: End) -> Vec<Millis> {
        let taken = self.reclaims.iter().filter(|(_, how)| *how == Some(end));
        let mut waits: Vec<_> = taken.filter_map(|(taken, _)| taken.after).collect();
        waits.sort_unstable();
        waits
    }
}

/// The workers of a mesh, their leader, and what the log has made of both.
pub struct Fleet {
    nodes: u64,
    state: State,
    index: LogIndex,
    leader: u64,
    awake: Millis,
    watch: SessionWatch,
    workers: BTreeMap<u64, Working>,
    ended: BTreeMap<(u64, u64), Ended>,
    returns: BTreeSet<(Millis, u64, u64)>,
    rng: StdRng,
    record: FleetRecord,
}

impl Fleet {
    /// Gives every member of `world` from the fourth to the last of `nodes` a session and a job.
    pub fn new(world: &World, seed: u64, nodes: u64) -> Self {
        let idle = Working {
            generation: 1,
            session: None,
            heard_next: world.now,
        };
        let workers = VOTERS + 1..=nodes;
        let mut fleet = Self {
            nodes,
            state: State::new(),
            index: LogIndex(0),
            leader: 1,
            awake: world.now,
            watch: SessionWatch::new(world.now),
            workers: workers.clone().map(|node| (node, idle)).collect(),
            ended: BTreeMap::new(),
            returns: BTreeSet::new(),
            rng: StdRng::seed_from_u64(seed),
            record: FleetRecord::default(),
        };
        for node in workers {
            let job = JobSpec::plain(JobKind::Selfplay, configuration(), node.to_string());
            fleet.apply(world.now, Body::Submit { jobs: vec![job] });
            let record = NodeRecord {
                id: NodeId(node),
                name: format!("node-{node}"),
                role: Role::Worker,
                address: address(node).to_string(),
            };
            fleet.apply(world.now, Body::AdmitNode(record));
        }
        fleet.work(world);
        fleet
    }

    /// What has happened so far.
    pub fn record(&self) -> &FleetRecord {
        &self.record
    }

    /// Lets time pass.
    pub fn run(&mut self, world: &mut World, length: Millis) {
        let end = world.now + length;
        while world.now < end {
            world.run(ROUND.min(end.since(world.now)));
            self.come_back(world);
            self.hold_office(world);
            self.listen(world);
            self.take_back(world);
            self.work(world);
            self.judge(world);
        }
    }

    /// Ends a worker that is not frozen, and has it come back later. Which one is left to the dice.
    pub fn kill(&mut self, world: &mut World, how: End) {
        let awake = self
            .workers
            .iter()
            .filter(|(node, _)| !world.is_paused(**node));
        let awake: Vec<_> = awake.map(|(node, life)| (*node, life.generation)).collect();
        if awake.is_empty() {
            return;
        }
        let (node, generation) = awake[self.rng.random_range(0..awake.len())];
        world.hosts_answer = how == End::Killed;
        world.kill(node);
        self.workers.remove(&node);
        let at = world.now;
        self.ended.insert((node, generation), Ended { at, how });
        self.returns.insert((at + AWAY, node, generation + 1));
        self.record.kills += 1;
    }

    fn come_back(&mut self, world: &mut World) {
        while let Some(&(due, node, generation)) = self.returns.first()
            && due <= world.now
        {
            self.returns.pop_first();
            world.start(node, generation, address(node));
            let life = Working {
                generation,
                session: None,
                heard_next: world.now,
            };
            self.workers.insert(node, life);
        }
    }

    fn hold_office(&mut self, world: &World) {
        if !world.is_paused(self.leader) {
            self.awake = world.now;
        } else if world.now.since(self.awake) > ELECTION
            && let Some(other) = (1..=VOTERS).find(|voter| !world.is_paused(*voter))
        {
            self.leader = other;
            self.awake = world.now;
            self.watch = SessionWatch::new(world.now);
            self.record.terms += 1;
        }
    }

    /// The leader hears those who are awake, if it is.
    fn listen(&mut self, world: &World) {
        if world.is_paused(self.leader) {
            return;
        }
        for (node, life) in &mut self.workers {
            let Some(session) = life.session else {
                continue;
            };
            if world.is_paused(*node) || world.now < life.heard_next {
                continue;
            }
            if self.rng.random_bool(world.loss) {
                life.heard_next = world.now + RESENT;
            } else {
                self.watch.heard(session, world.now);
                life.heard_next = world.now + KEEPALIVE_EVERY;
            }
        }
    }

    fn take_back(&mut self, world: &World) {
        if world.is_paused(self.leader) {
            return;
        }
        let facts = self.state.sessions().map(|session| {
            let (node, generation) = (session.node.0, session.generation);
            let down = world.counts_out(self.leader, node, generation);
            let runs = world.is_running(node, generation);
            OpenSessionFact {
                session: session.id,
                down,
                refused: down && !runs && world.hosts_answer,
            }
        });
        let facts: Vec<_> = facts.collect();
        for (session, reason) in self.watch.expire(&facts, world.now) {
            let opened = self.state.sessions().find(|open| open.id == session);
            let life = opened.map(|open| (open.node.0, open.generation));
            let (_, effects) = self.apply(world.now, Body::ExpireSession { session, reason });
            let lost = effects.iter();
            let lost = lost.filter(|effect| matches!(effect, Effect::JobLost { .. }));
            let Some((node, generation)) = life else {
                continue;
            };
            for _ in lost {
                let ended = self.ended.get(&(node, generation)).copied();
                let after = ended.map(|ended| world.now.since(ended.at));
                let taken = Reclaim { node, after };
                self.record
                    .reclaims
                    .push((taken, ended.map(|ended| ended.how)));
            }
            for worker in self.workers.values_mut() {
                worker.session = worker.session.filter(|held| *held != session);
            }
        }
    }

    /// Workers without a session open one and ask for a job.
    fn work(&mut self, world: &World) {
        let idle = self
            .workers
            .iter()
            .filter(|(_, life)| life.session.is_none());
        let idle: Vec<_> = idle.map(|(node, life)| (*node, life.generation)).collect();
        for (node, generation) in idle.into_iter().filter(|(node, _)| !world.is_paused(*node)) {
            let open = Body::OpenSession {
                node: NodeId(node),
                generation,
                slots: 1,
                cuda: false,
            };
            let (replies, _) = self.apply(world.now, open);
            let Some(Reply::Session { session, .. }) = replies.into_iter().next() else {
                continue;
            };
            let claim = Body::Claim {
                session,
                kinds: vec![JobKind::Selfplay],
                jobs_max: 1,
            };
            self.apply(world.now, claim);
            if let Some(life) = self.workers.get_mut(&node) {
                life.session = Some(session);
                life.heard_next = world.now;
            }
        }
    }

    /// Counts verdicts about lives that are not over. There are millions of other events in a day.
    fn judge(&mut self, world: &mut World) {
        for (_, _, event) in std::mem::take(&mut world.events) {
            if let MeshEvent::Changed {
                node,
                generation,
                state: NodeState::Down,
            } = event
            {
                let over = self.ended.contains_key(&(node.0, generation));
                self.record.false_verdicts += usize::from(!over);
            }
        }
    }

    fn apply(&mut self, now: Millis, body: Body) -> (Vec<Reply>, Vec<Effect>) {
        self.index = LogIndex(self.index.0 + 1);
        let commands = vec![Command { origin: None, body }];
        self.state.apply(self.index, &Batch::new(now, commands))
    }
}

/// Freezes random members by `plan` for as long as `length`, and kills a worker every `kill_every`, by turns on a living host and
/// with its host.
pub fn a_busy_time(
    world: &mut World,
    fleet: &mut Fleet,
    seed: u64,
    plan: Pauses,
    length: Millis,
    kill_every: Millis,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    world.events.clear();
    let begin = world.now;
    let mut next_kill = begin + kill_every;
    while world.now.since(begin) < length {
        let node = rng.random_range(1..=fleet.nodes);
        let pause = rng.random_range(plan.shortest.0..=plan.longest.0);
        world.pause(node, Millis(pause));
        fleet.run(world, plan.every);
        if world.now >= next_kill {
            let how = [End::Killed, End::Silent][fleet.record.kills % 2];
            fleet.kill(world, how);
            next_kill += kill_every;
        }
    }
    // The last one to end is missed, too.
    fleet.run(world, AWAY);
}

#[cfg(test)]
#[path = "reclaims_tests.rs"]
mod tests;
