//! Is a history linearizable? Wing and Gong's search with Lowe's cache of visited configurations.
//!
//! A history is linearizable when every operation that was acknowledged can be given one instant between its call and
//! its return, and every operation of unknown outcome an instant after its call or none at all, so that executed in
//! that order a sequential object gives the results that were seen.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A sequential object.
pub trait Sequential {
    /// Its state.
    type State: Clone + Eq + Hash;
    /// An operation together with the result that was seen.
    type Op;

    /// The state at the beginning.
    fn initial(&self) -> Self::State;

    /// The state after `op`, or none when the object would not have given that result.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// An operation and when it ran. Times only need an order; equal times count as concurrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<Op> {
    /// What was done and seen.
    pub op: Op,
    /// When it was called.
    pub called: i64,
    /// When it was acknowledged; none for an unknown outcome, which may take effect at any later time or never.
    pub returned: Option<i64>,
}

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linearizability {
    /// There is an order.
    Linearizable,
    /// There is none; the acknowledged operation at this position could not be placed by the longest attempt.
    Violated(usize),
    /// The budget ran out before either was shown.
    Exhausted,
}

/// How long a search may go on. The problem is NP-complete: some histories cannot be decided in any useful time.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Configurations visited; each is kept in memory.
    pub configurations: usize,
    /// Time spent.
    pub time: Duration,
}

impl Default for Budget {
    /// Enough for a few hundred operations with a dozen unknown outcomes, within about a gibibyte.
    fn default() -> Self {
        Self {
            configurations: 5_000_000,
            time: Duration::from_secs(60),
        }
    }
}

/// Looks for an order of `operations` within `budget`.
pub fn check<M: Sequential>(
    model: &M,
    operations: &[Timed<M::Op>],
    budget: Budget,
) -> Linearizability {
    Search::new(operations).run(model, operations, budget)
}

/// The clock is looked at once in so many configurations.
const CLOCK_STRIDE: usize = 4_096;

/// A call or a return in a doubly linked list of events in the order of time.
#[derive(Clone, Copy)]
struct Node {
    operation: usize,
    /// Position of the return that belongs to this call; none for a return, and for a call without one.
    returns_at: Option<usize>,
    is_call: bool,
    previous: usize,
    next: usize,
}

/// Position of the list's head, before the first event, and of its end.
const HEAD: usize = 0;

struct Search {
    nodes: Vec<Node>,
}

impl Search {
    fn new<Op>(operations: &[Timed<Op>]) -> Self {
        // Calls before returns at equal times, so that touching intervals are concurrent.
        let mut events: Vec<(i64, bool, usize)> = Vec::new();
        for (i, operation) in operations.iter().enumerate() {
            events.push((operation.called, false, i));
            events.extend(
                operation
                    .returned
                    .map(|at| (at.max(operation.called), true, i)),
            );
        }
        events.sort_unstable();
        let count = events.len() + 1;
        let link = |position: usize, operation, is_call| Node {
            operation,
            returns_at: None,
            is_call,
            previous: (position + count - 1) % count,
            next: (position + 1) % count,
        };
        let mut nodes = vec![link(HEAD, usize::MAX, false)];
        let mut called_at = vec![HEAD; operations.len()];
        for (_, is_return, operation) in events {
            let position = nodes.len();
            if is_return {
                nodes[called_at[operation]].returns_at = Some(position);
            } else {
                called_at[operation] = position;
            }
            nodes.push(link(position, operation, !is_return));
        }
        Self { nodes }
    }

    fn run<M: Sequential>(
        mut self,
        model: &M,
        operations: &[Timed<M::Op>],
        budget: Budget,
    ) -> Linearizability {
        let began = Instant::now();
        let mut state = model.initial();
        let mut placed = vec![0_u64; operations.len().div_ceil(64)];
        let mut seen: HashSet<(Vec<u64>, M::State)> = HashSet::new();
        // The calls placed so far, each with the state before it.
        let mut trail: Vec<(usize, M::State)> = Vec::new();
        let mut deepest = (0, 0);
        let mut at = self.nodes[HEAD].next;
        loop {
            // Past the last return, everything acknowledged has its place; what is left may never have happened.
            if at == HEAD {
                return Linearizability::Linearizable;
            }
            let node = self.nodes[at];
            if node.is_call {
                let after = model.step(&state, &operations[node.operation].op);
                flip(&mut placed, node.operation);
                if let Some(after) =
                    after.filter(|after| seen.insert((placed.clone(), after.clone())))
                {
                    let is_late = seen.len() % CLOCK_STRIDE == 0 && began.elapsed() > budget.time;
                    if seen.len() > budget.configurations || is_late {
                        return Linearizability::Exhausted;
                    }
                    trail.push((at, std::mem::replace(&mut state, after)));
                    self.lift(at);
                    at = self.nodes[HEAD].next;
                } else {
                    flip(&mut placed, node.operation);
                    at = node.next;
                }
                continue;
            }
            // This operation returned here, so it has to be placed before; an earlier choice was wrong.
            if trail.len() >= deepest.0 {
                deepest = (trail.len(), node.operation);
            }
            let Some((call, before)) = trail.pop() else {
                return Linearizability::Violated(deepest.1);
            };
            state = before;
            flip(&mut placed, self.nodes[call].operation);
            self.unlift(call);
            at = self.nodes[call].next;
        }
    }

    /// Takes a call and its return out of the list.
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        if let Some(position) = self.nodes[call].returns_at {
            self.unlink(position);
        }
    }

    /// Puts them back; lifts are undone in reverse order, so that the neighbours are the same.
    fn unlift(&mut self, call: usize) {
        if let Some(position) = self.nodes[call].returns_at {
            self.relink(position);
        }
        self.relink(call);
    }

    fn unlink(&mut self, position: usize) {
        let Node { previous, next, .. } = self.nodes[position];
        self.nodes[previous].next = next;
        self.nodes[next].previous = previous;
    }

    fn relink(&mut self, position: usize) {
        let Node { previous, next, .. } = self.nodes[position];
        self.nodes[previous].next = position;
        self.nodes[next].previous = position;
    }
}

fn flip(bits: &mut [u64], at: usize) {
    bits[at / 64] ^= 1 << (at % 64);
}
