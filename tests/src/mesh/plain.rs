//! foca by itself, for comparison: its own settings for a local network, and nothing of ours around it. Time, latency, loss and
//! the worst order on waking are those of [`super::World`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::num::NonZeroU32;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Config, Foca, Identity, Member, NoCustomBroadcast, OwnedNotification,
    PostcardCodec, Timer,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use riftmesh_base::{Millis, NodeId};
use serde::{Deserialize, Serialize};

use super::lifeguard::{DownVerdict, Field};

/// A life of a node. One that was given up returns under the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    node: u64,
    number: u64,
}

impl Identity for Life {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            number: self.number + 1,
            ..*self
        })
    }

    fn addr(&self) -> u64 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.number > adversary.number
    }
}

type Core = Foca<Life, PostcardCodec, StdRng, NoCustomBroadcast>;

enum Delivery {
    Datagram(Bytes),
    Timer(Timer<Life>),
}

/// When it is due and in which order it was made, to whom, and what. Compared by the first two, which are never the same
/// twice.
struct Event {
    due: (Millis, u64),
    to: u64,
    delivery: Delivery,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
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
        self.due.cmp(&other.due)
    }
}

/// Nodes of plain foca that all know each other from the start.
pub struct PlainWorld {
    now: Millis,
    loss: f64,
    cores: BTreeMap<u64, Core>,
    dead: BTreeSet<u64>,
    paused_until: BTreeMap<u64, Millis>,
    queue: BinaryHeap<Reverse<Event>>,
    order: u64,
    rng: StdRng,
    verdicts: Vec<DownVerdict>,
}

impl PlainWorld {
    /// The nodes 1 to `count`, at rest.
    ///
    /// # Panics
    /// When `count` is 0.
    #[expect(
        clippy::expect_used,
        reason = "a mesh of nobody is a mistake of the experiment"
    )]
    pub fn formed(seed: u64, count: u32, loss: f64) -> Self {
        let config = Config::new_lan(NonZeroU32::new(count).expect("at least one node"));
        let mut rng = StdRng::seed_from_u64(seed);
        let lives: Vec<_> = (1..=u64::from(count))
            .map(|node| Life { node, number: 1 })
            .collect();
        let mut cores: BTreeMap<_, _> = lives
            .iter()
            .map(|life| {
                let dice = StdRng::seed_from_u64(rng.random());
                let core = Core::new(*life, config.clone(), dice, PostcardCodec);
                (life.node, core)
            })
            .collect();
        let mut world = Self {
            now: Millis(0),
            loss,
            cores: BTreeMap::new(),
            dead: BTreeSet::new(),
            paused_until: BTreeMap::new(),
            queue: BinaryHeap::new(),
            order: 0,
            rng,
            verdicts: Vec::new(),
        };
        for (node, core) in &mut cores {
            let mut runtime = AccumulatingRuntime::new();
            let others = lives.iter().filter(|life| life.node != *node);
            core.apply_many(others.map(|life| Member::alive(*life)), false, &mut runtime)
                .expect("foca takes members");
            // Not all on the same tick.
            let jitter = Millis(world.rng.random_range(0..1_000));
            while let Some((after, timer)) = runtime.to_schedule() {
                world.push(jitter + after.into(), *node, Delivery::Timer(timer));
            }
        }
        world.cores = cores;
        world.run(Millis::from_secs(10));
        world
    }

    fn push(&mut self, after: Millis, to: u64, delivery: Delivery) {
        self.order += 1;
        self.queue.push(Reverse(Event {
            due: (self.now + after, self.order),
            to,
            delivery,
        }));
    }

    fn deliver(&mut self, event: Event) {
        let node = event.to;
        if self.dead.contains(&node) {
            return;
        }
        let until = self.paused_until.get(&node).copied().unwrap_or_default();
        if until > self.now {
            let is_timer = matches!(event.delivery, Delivery::Timer(_));
            let after = until.since(self.now) + Millis(if is_timer { 0 } else { 50 });
            return self.push(after, node, event.delivery);
        }
        let Some(core) = self.cores.get_mut(&node) else {
            return;
        };
        let mut runtime = AccumulatingRuntime::new();
        let outcome = match event.delivery {
            Delivery::Datagram(payload) => core.handle_data(&payload, &mut runtime),
            Delivery::Timer(timer) => core.handle_timer(timer, &mut runtime),
        };
        // What it refuses it has complained about; it is the comparison's own business.
        drop(outcome);
        self.perform(node, runtime);
    }

    fn perform(&mut self, node: u64, mut runtime: AccumulatingRuntime<Life>) {
        while let Some((to, payload)) = runtime.to_send() {
            if !self.rng.random_bool(self.loss) {
                let latency = Millis(self.rng.random_range(1..=5));
                self.push(latency, to.node, Delivery::Datagram(payload));
            }
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            self.push(after.into(), node, Delivery::Timer(timer));
        }
        while let Some(notification) = runtime.to_notify() {
            if let OwnedNotification::MemberDown(life) = notification {
                self.verdicts.push(DownVerdict {
                    at: self.now,
                    by: NodeId(node),
                    about: NodeId(life.node),
                });
            }
        }
    }
}

impl Field for PlainWorld {
    fn now(&self) -> Millis {
        self.now
    }

    fn run(&mut self, length: Millis) {
        let end = self.now + length;
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(event)| event.due.0 <= end)
        {
            let Some(Reverse(event)) = self.queue.pop() else {
                break;
            };
            self.now = self.now.max(event.due.0);
            self.deliver(event);
        }
        self.now = end;
    }

    fn pause(&mut self, node: u64, length: Millis) {
        self.paused_until.insert(node, self.now + length);
    }

    fn kill(&mut self, node: u64) {
        self.dead.insert(node);
    }

    fn take_verdicts(&mut self) -> Vec<DownVerdict> {
        std::mem::take(&mut self.verdicts)
    }
}
