//! The state machine behind a simulated log.

use crate::log_world::{LogPlan, WorldReport, run};
use crate::oracle::Breach;
use crate::subject::Flaw;

/// Seeds of the everyday run. `RIFTMESH_SEED=N` runs that one alone.
const SEEDS: u64 = 100;

fn seeds() -> Vec<u64> {
    let chosen = std::env::var("RIFTMESH_SEED").ok();
    chosen.map_or_else(
        || (0..SEEDS).collect(),
        |seed| vec![seed.parse().expect("RIFTMESH_SEED is a number")],
    )
}

fn replay(test: &str, seed: u64) -> String {
    format!("replay with RIFTMESH_SEED={seed} cargo test -p riftmesh-tests {test}")
}

/// Under lost, late and repeated messages, changes of leader, restarts, sleeping and dying workers, every promise is
/// kept, and once the faults end everything submitted is done.
#[test]
fn promises_are_kept_behind_a_log() {
    let (mut zombies, mut resumed) = (0, 0);
    for seed in seeds() {
        let report = run(LogPlan::new(seed, Flaw::None));
        let hint = replay("promises_are_kept_behind_a_log", seed);
        assert_eq!(report.breaches, [], "seed {seed}; {hint}");
        let (submitted, granted, completed) = report.counts;
        assert!(
            submitted > 50 && granted > 50 && completed > 50,
            "{report:?}; {hint}"
        );
        zombies += report.zombies;
        resumed += report.resumed;
    }
    assert!(resumed > 0, "no job went on from a checkpoint");
    assert!(
        zombies > 0,
        "no worker outlived its session, so the fence was not tested"
    );
}

/// One seed, one history: a failure can be replayed.
#[test]
fn a_seed_runs_the_same_twice() {
    for seed in [3, 4] {
        assert_eq!(
            run(LogPlan::new(seed, Flaw::None)).trace,
            run(LogPlan::new(seed, Flaw::None)).trace
        );
    }
    assert_ne!(
        run(LogPlan::new(3, Flaw::None)).trace,
        run(LogPlan::new(4, Flaw::None)).trace
    );
}

/// The oracle finds each planted bug, by the promise it breaks, within a few seeds.
#[test]
fn planted_bugs_are_found() {
    find(Flaw::NoTokenCheck, |breach| {
        matches!(breach, Breach::StaleCompletion { .. })
    });
    find(Flaw::NoRepeatCheck, |breach| {
        matches!(breach, Breach::InventedJob { .. })
    });
    find(Flaw::LosesSubmissions, |breach| {
        matches!(breach, Breach::LostJob { .. })
    });
    find(Flaw::LocalClock, |breach| {
        matches!(breach, Breach::Diverged { .. })
    });
}

fn find(flaw: Flaw, expected: fn(&Breach) -> bool) {
    let found = |seed| {
        let WorldReport { breaches, .. } = run(LogPlan::new(seed, flaw));
        breaches.iter().any(expected)
    };
    assert!((0..SEEDS).any(found), "{flaw:?} went unnoticed");
}
