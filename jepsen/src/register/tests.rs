use super::*;
use crate::linear::{Budget, Linearizability, Timed, check};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const BUDGET: Budget = Budget {
    configurations: 1_000_000,
    time: Duration::from_secs(600),
};

fn timed(op: RegisterOp, called: i64, returned: impl Into<Option<i64>>) -> Timed<RegisterOp> {
    Timed {
        op,
        called,
        returned: returned.into(),
    }
}

/// A read must not go back behind one that returned before it began.
#[test]
fn a_stale_read_is_found() {
    let mut history = vec![
        timed(RegisterOp::Write(1), 0, 1),
        timed(RegisterOp::Write(2), 2, 9),
        timed(RegisterOp::Read(Some(2)), 3, 4),
        timed(RegisterOp::Read(Some(1)), 5, 6),
    ];
    assert_eq!(
        check(&Register, &history, BUDGET),
        Linearizability::Violated(3)
    );
    // Concurrent with the write, either value may be read, in this order.
    history.swap(2, 3);
    (history[2].called, history[2].returned) = (3, Some(4));
    (history[3].called, history[3].returned) = (5, Some(6));
    assert_eq!(
        check(&Register, &history, BUDGET),
        Linearizability::Linearizable
    );
}

/// A write of unknown outcome may take effect long after, or never, but not before it was called.
#[test]
fn unknown_outcomes_stay_possible() {
    let maybe = timed(RegisterOp::Write(7), 2, None);
    let read = |value, at| timed(RegisterOp::Read(value), at, at + 1);
    let history = vec![maybe.clone(), read(None, 10), read(Some(7), 20)];
    assert_eq!(
        check(&Register, &history, BUDGET),
        Linearizability::Linearizable
    );
    let history = vec![maybe.clone(), read(None, 10), read(None, 20)];
    assert_eq!(
        check(&Register, &history, BUDGET),
        Linearizability::Linearizable
    );
    let history = vec![maybe, read(Some(7), 0)];
    assert_eq!(
        check(&Register, &history, BUDGET),
        Linearizability::Violated(1)
    );
}

/// Running out of budget is neither a pass nor a failure.
#[test]
fn a_small_budget_is_admitted() {
    let history: Vec<_> = (0..12)
        .map(|i| timed(RegisterOp::Write(i), 0, 100))
        .collect();
    let small = Budget {
        configurations: 10,
        ..BUDGET
    };
    assert_eq!(
        check(&Register, &history, small),
        Linearizability::Exhausted
    );
}

/// A thousand operations of eight clients on a real register: found linearizable, and quickly.
#[test]
fn a_long_history_is_decided() {
    let mut rng = StdRng::seed_from_u64(5);
    let history = honest_history(&mut rng, 1_000, 8);
    assert_eq!(
        check(&Register, &history, BUDGET),
        Linearizability::Linearizable
    );
}

/// The search agrees with the definition, executed literally, on a hundred thousand small random histories of both
/// kinds.
#[test]
fn the_search_agrees_with_brute_force() {
    let (mut linearizable, mut violated) = (0, 0);
    for seed in 0..100_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut history = honest_history(&mut rng, 6, 3);
        if rng.random_bool(0.6) {
            let victim = rng.random_range(0..history.len());
            let value = rng.random_range(0..3);
            history[victim].op = match rng.random_bool(0.7) {
                true => RegisterOp::Read(Some(value)),
                false => RegisterOp::Mismatch(value),
            };
        }
        let expected = brute_force(&history, &mut Vec::new(), &None);
        let found = check(&Register, &history, BUDGET);
        assert_eq!(
            found == Linearizability::Linearizable,
            expected,
            "seed {seed}: {history:?}"
        );
        assert_ne!(found, Linearizability::Exhausted);
        if expected {
            linearizable += 1
        } else {
            violated += 1
        }
    }
    assert!(
        linearizable > 20_000 && violated > 20_000,
        "{linearizable} and {violated} of 100000"
    );
}

/// Operations of `clients` on one register, each taking effect at an instant between its call and its return; one
/// in ten is never acknowledged, and half of those take no effect.
fn honest_history(rng: &mut StdRng, operations: usize, clients: usize) -> Vec<Timed<RegisterOp>> {
    let mut free_at = vec![0_i64; clients];
    let mut spans: Vec<(i64, i64, i64)> = (0..operations)
        .map(|_| {
            let client = rng.random_range(0..clients);
            let called = free_at[client] + rng.random_range(0..5);
            let effect = called + rng.random_range(1..10);
            let returned = effect + rng.random_range(1..10);
            free_at[client] = returned + 1;
            (effect, called, returned)
        })
        .collect();
    spans.sort_unstable();
    let mut state = None;
    let mut history = Vec::new();
    for (_, called, returned) in spans {
        let unknown = rng.random_bool(0.1);
        let op = random_op(rng, state);
        if !(unknown && rng.random_bool(0.5)) {
            state = Register
                .step(&state, &op)
                .expect("the operation saw the register as it was");
        }
        history.push(timed(op, called, (!unknown).then_some(returned)));
    }
    history
}

fn random_op(rng: &mut StdRng, state: Option<i64>) -> RegisterOp {
    match (rng.random_range(0..4), state) {
        (0, _) => RegisterOp::Write(rng.random_range(0..3)),
        (3, Some(value)) => RegisterOp::Mismatch((value + 1) % 3),
        (1, Some(expected)) => RegisterOp::CompareAndSet {
            expected,
            new: rng.random_range(0..3),
        },
        _ => RegisterOp::Read(state),
    }
}

/// Tries every order of every subset that contains all acknowledged operations.
fn brute_force(history: &[Timed<RegisterOp>], order: &mut Vec<usize>, state: &Option<i64>) -> bool {
    let left: Vec<_> = (0..history.len()).filter(|i| !order.contains(i)).collect();
    if left.iter().all(|&i| history[i].returned.is_none()) {
        return true;
    }
    left.iter().any(|&next| {
        // Nothing that is still to come may have returned before this one was called.
        let too_early = |&other: &usize| {
            history[other]
                .returned
                .is_some_and(|at| at < history[next].called)
        };
        if left.iter().any(too_early) {
            return false;
        }
        Register
            .step(state, &history[next].op)
            .is_some_and(|after| {
                order.push(next);
                let found = brute_force(history, order, &after);
                order.pop();
                found
            })
    })
}
