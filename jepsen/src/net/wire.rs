//! The wire between namespaces: one process forwards every frame by a table of rules that can be changed at any time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frame::{self, Destination};
use super::masquerade::Masquerade;
use super::rule::{Fate, Rule};

/// Longest frame a TAP device of ours gives.
const FRAME_BYTES_MAX: usize = 2_048;
/// Frames under way at most; more are lost.
const UNDER_WAY_MAX: usize = 16_384;
/// How often a reader looks whether the wire was taken down.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// What rules did to frames since the wire was laid, or over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed on, at once or late.
    pub passed: u64,
    /// Taken by a cut.
    pub cut: u64,
    /// Longer than the link takes.
    pub too_long: u64,
    /// Lost by chance or behind a full queue.
    pub lost: u64,
    /// Came later than they could have.
    pub delayed: u64,
    /// Came twice.
    pub doubled: u64,
    /// Held back behind later ones.
    pub reordered: u64,
    /// Came with a flipped bit.
    pub corrupted: u64,
}

impl Tally {
    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            passed: self.passed - earlier.passed,
            cut: self.cut - earlier.cut,
            too_long: self.too_long - earlier.too_long,
            lost: self.lost - earlier.lost,
            delayed: self.delayed - earlier.delayed,
            doubled: self.doubled - earlier.doubled,
            reordered: self.reordered - earlier.reordered,
            corrupted: self.corrupted - earlier.corrupted,
        }
    }

    /// Frames that a rule did something to.
    pub fn touched(&self) -> u64 {
        self.cut
            + self.too_long
            + self.lost
            + self.delayed
            + self.doubled
            + self.reordered
            + self.corrupted
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames passed", self.passed)?;
        for (count, what) in [
            (self.cut, "cut"),
            (self.too_long, "too long"),
            (self.lost, "lost"),
            (self.delayed, "delayed"),
            (self.doubled, "doubled"),
            (self.reordered, "reordered"),
            (self.corrupted, "corrupted"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Counters {
    passed: AtomicU64,
    cut: AtomicU64,
    too_long: AtomicU64,
    lost: AtomicU64,
    delayed: AtomicU64,
    doubled: AtomicU64,
    reordered: AtomicU64,
    corrupted: AtomicU64,
}

/// A frame on its way: when it is due, its number (for a stable order), where to, and its bytes.
type UnderWay = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// Is shown every frame that a node sends.
type Watch = Box<dyn FnMut(&[u8]) + Send>;

struct Shared {
    ends: Vec<File>,
    /// By sender and receiver, row by row.
    rules: RwLock<Vec<Rule>>,
    /// Of nodes that nobody can send to unasked.
    routers: Mutex<BTreeMap<usize, Masquerade>>,
    watch: Mutex<Option<Watch>>,
    counters: Counters,
    under_way: Mutex<BinaryHeap<UnderWay>>,
    changed: Condvar,
    number: AtomicU64,
    down: AtomicBool,
}

/// A wire that is laid. Dropping it takes it down.
pub struct Wire {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Lays the wire between the TAP devices behind `ends`. The dice of its rules follow from `seed`.
    pub fn lay(ends: Vec<File>, seed: u64) -> Self {
        let count = ends.len();
        let shared = Arc::new(Shared {
            ends,
            rules: RwLock::new(vec![Rule::default(); count * count]),
            routers: Mutex::default(),
            watch: Mutex::default(),
            counters: Counters::default(),
            under_way: Mutex::default(),
            changed: Condvar::new(),
            number: AtomicU64::new(0),
            down: AtomicBool::new(false),
        });
        let mut threads: Vec<_> = (0..count)
            .map(|from| {
                let shared = Arc::clone(&shared);
                let dice = StdRng::seed_from_u64(seed ^ from as u64);
                std::thread::spawn(move || shared.read(from, dice))
            })
            .collect();
        let late = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || late.deliver_late()));
        Self { shared, threads }
    }

    /// Changes every rule at once; `of` is asked for each sender and receiver.
    pub fn set(&self, of: impl Fn(usize, usize) -> Rule) {
        let count = self.shared.ends.len();
        let rules = (0..count * count)
            .map(|at| of(at / count, at % count))
            .collect();
        *self
            .shared
            .rules
            .write()
            .unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Puts a router with address translation before a node, from now on.
    pub fn masquerade(&self, node: usize, router: Masquerade) {
        lock(&self.shared.routers).insert(node, router);
    }

    /// Shows every frame that a node sends to `watch` from now on, as it is on the wire.
    pub fn watch(&self, watch: impl FnMut(&[u8]) + Send + 'static) {
        *lock(&self.shared.watch) = Some(Box::new(watch));
    }

    /// Makes every link whole.
    pub fn mend(&self) {
        self.set(|_, _| Rule::default());
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        Tally {
            passed: read(&counters.passed),
            cut: read(&counters.cut),
            too_long: read(&counters.too_long),
            lost: read(&counters.lost),
            delayed: read(&counters.delayed),
            doubled: read(&counters.doubled),
            reordered: read(&counters.reordered),
            corrupted: read(&counters.corrupted),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the wire panicked");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Takes the frames that node `from` sends, until the wire is taken down.
    fn read(&self, from: usize, mut dice: StdRng) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let count = self.ends.len();
        // By receiver: when the link is free again, for rules with a rate.
        let mut free_at = vec![Instant::now(); count];
        let mut end = &self.ends[from];
        while !self.is_down() {
            let mut ready = [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)];
            if !poll(&mut ready, Some(&LOOK_EVERY)).is_ok_and(|count| count > 0) {
                continue;
            }
            // A node that is being killed may take its device down for a moment.
            let Ok(length) = end.read(&mut buffer) else {
                continue;
            };
            let frame = &mut buffer[..length];
            if let Some(router) = lock(&self.routers).get_mut(&from)
                && !router.leave(frame, Instant::now())
            {
                continue;
            }
            if let Some(watch) = lock(&self.watch).as_mut() {
                watch(frame);
            }
            let frame = &*frame;
            for (to, free_at) in free_at.iter_mut().enumerate() {
                let is_for = match frame::destination(frame) {
                    Destination::Node(number) => to == number,
                    Destination::All => to != from,
                    Destination::Nobody => false,
                };
                if is_for {
                    self.forward(from, to, frame, free_at, &mut dice);
                }
            }
        }
    }

    fn forward(
        &self,
        from: usize,
        to: usize,
        frame: &[u8],
        free_at: &mut Instant,
        dice: &mut StdRng,
    ) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let rule =
            self.rules.read().unwrap_or_else(PoisonError::into_inner)[from * self.ends.len() + to];
        let now = Instant::now();
        let mut backlog = free_at.saturating_duration_since(now);
        let fate = rule.decide(frame.len(), &mut backlog, dice);
        *free_at = now + backlog;
        let (after, again, held_back, flip) = match fate {
            Fate::Cut => {
                add(&self.counters.cut);
                return;
            }
            Fate::TooLong => {
                add(&self.counters.too_long);
                return;
            }
            Fate::Lost => {
                add(&self.counters.lost);
                return;
            }
            Fate::Passes {
                after,
                again,
                held_back,
                flip,
            } => (after, again, held_back, flip),
        };
        let mut bytes = frame.to_vec();
        if let Some(router) = lock(&self.routers).get_mut(&to)
            && !router.enter(&mut bytes, now)
        {
            add(&self.counters.cut);
            return;
        }
        if flip.is_some_and(|bit| frame::corrupt(&mut bytes, bit)) {
            add(&self.counters.corrupted);
        }
        if held_back {
            add(&self.counters.reordered);
        } else if !after.is_zero() {
            add(&self.counters.delayed);
        }
        add(&self.counters.passed);
        if let Some(again) = again {
            add(&self.counters.doubled);
            self.send_later(now + again, to, bytes.clone());
        }
        if after.is_zero() {
            self.deliver(to, &bytes);
        } else {
            self.send_later(now + after, to, bytes);
        }
    }

    fn send_later(&self, due: Instant, to: usize, bytes: Vec<u8>) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if under_way.len() >= UNDER_WAY_MAX {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        under_way.push(Reverse((due, number, to, bytes)));
        self.changed.notify_one();
    }

    /// Delivers what is late, until the wire is taken down.
    fn deliver_late(&self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !self.is_down() {
            let now = Instant::now();
            let wait = match under_way.peek() {
                Some(Reverse((due, ..))) if *due <= now => {
                    if let Some(Reverse((_, _, to, bytes))) = under_way.pop() {
                        self.deliver(to, &bytes);
                    }
                    continue;
                }
                Some(Reverse((due, ..))) => *due - now,
                None => Duration::from_millis(200),
            };
            let outcome = self.changed.wait_timeout(under_way, wait);
            (under_way, _) = outcome.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn deliver(&self, to: usize, bytes: &[u8]) {
        // A full or closed device loses the frame, as a real one does.
        if (&self.ends[to]).write_all(bytes).is_err() {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
