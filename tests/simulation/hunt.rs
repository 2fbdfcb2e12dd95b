//! Mutants: each rule broken in turn, and the check that notices.

use std::time::Duration;

use riftmesh_raft::mutants::Mutant;

use crate::many::{Job, Soak, soak};

/// Seeds within which a mutant has to be noticed.
fn budget(mutant: Mutant) -> (Job, u64) {
    match mutant {
        Mutant::NoProbe => (Job::Bridge, 10),
        Mutant::NoPreVote => (Job::Comeback, 10),
        Mutant::LocalRead | Mutant::ForgetPurgePoint | Mutant::ReusedId => (Job::Run, 10),
        Mutant::LeaderRestore | Mutant::AckBeforeSync | Mutant::VoteNotDurable => (Job::Run, 100),
    }
}

/// Plants each mutant and prints what noticed it, and when; whether all were noticed.
pub fn all() -> bool {
    if cfg!(not(feature = "mutants")) {
        println!("this program was built without the feature `mutants`: add `--features mutants`");
        return false;
    }
    println!("| mutant | seeds | seconds | noticed by |\n|---|---|---|---|");
    let missed = Mutant::ALL
        .into_iter()
        .filter(|mutant| !hunt(*mutant))
        .count();
    missed == 0
}

fn hunt(mutant: Mutant) -> bool {
    let (job, seeds) = budget(mutant);
    let summary = soak(&Soak {
        job,
        seeds: (0, seeds),
        time: Duration::from_secs(1_800),
        jobs: None,
        twice: false,
        mutant: Some(mutant),
        first: true,
    });
    let noticed = summary.failures.first();
    println!(
        "| {mutant} | {} of {seeds} | {:.0} | {} |",
        summary.seeds,
        summary.took.as_secs_f64(),
        noticed.map_or("nothing", |(_, why)| why)
    );
    noticed.is_some()
}
