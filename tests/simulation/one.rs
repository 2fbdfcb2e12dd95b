//! One seed in this process.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use riftmesh_tests::scenarios::{self, Scenario};
use riftmesh_tests::simulation::{self, Plan};

use crate::entropy;

/// A run that takes longer, in real time, hangs.
const HANG: Duration = Duration::from_secs(180);

/// Runs `work` on paused time with the entropy of `seed`, and aborts the process when it hangs.
fn alone<T>(seed: u64, work: impl Future<Output = T>) -> T {
    entropy::plant(seed);
    let (done, wait) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        if wait.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("seed {seed} hangs: {HANG:?} have passed");
            std::process::abort();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    #[expect(
        clippy::expect_used,
        reason = "without a runtime there is no simulation"
    )]
    let outcome = runtime.expect("a runtime").block_on(work);
    drop(done);
    outcome
}

/// Runs a seed and prints what came of it; whether all is well.
pub fn run(seed: u64, trace: bool) -> bool {
    let plan = Plan::of(seed);
    let report = alone(seed, simulation::run(plan));
    if trace {
        println!("{}", report.text);
    }
    println!("plan {plan:?}");
    println!("faults {:?}", report.faults);
    let (submitted, granted, completed, reads) = report.counts;
    println!(
        "{} entries, {} reigns, {submitted} submitted, {granted} granted, {completed} completed, {reads} read, {} \
         sessions expired, healed after {:?}",
        report.committed, report.reigns, report.expired, report.healed_after
    );
    println!("trace {}", report.trace);
    for breach in report.breaches.iter().take(20) {
        println!("breach {breach}");
    }
    report.breaches.is_empty()
}

/// Plays a situation with a seed and prints what came of it; whether all is well.
pub fn play(scenario: Scenario, seed: u64, trace: bool) -> bool {
    let outcome = alone(seed, scenarios::play(scenario, seed));
    if trace {
        println!("{}", outcome.text);
    }
    println!("trace {}", outcome.trace);
    match &outcome.result {
        Ok(after) => println!("after {} ms", after.as_millis()),
        Err(breach) => println!("breach {breach}"),
    }
    outcome.result.is_ok()
}
