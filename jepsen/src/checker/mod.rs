//! Judging a history. Each checker looks at one property and needs nothing but the history.

mod availability;
mod coverage;
mod games;
mod promises;
mod replicas;
mod tokens;

use crate::history::{History, Operation};
use crate::nemesis::Fault;
use crate::observed::ObservedQueue;
use crate::verdict::Finding;

/// Everything that is checked, with the faults that were ordered.
pub fn judge(history: &History, ordered: &[Fault]) -> Vec<Finding> {
    vec![
        coverage::faults_fired(history, ordered),
        coverage::work_was_done(history),
        promises::acknowledged_jobs_exist(history),
        promises::jobs_finish_once(history),
        tokens::tokens_rise(history),
        games::counted_once(history),
        replicas::agree_on_finished_jobs(history),
        availability::leaderless_gaps(history),
    ]
}

/// Acknowledged reads of the queue, in the order they were invoked.
fn reads<'a>(operations: &[Operation<'a>], f: &str) -> Vec<(Operation<'a>, ObservedQueue)> {
    operations
        .iter()
        .filter(|operation| operation.invoke.f == f)
        .filter_map(|operation| Some((*operation, ObservedQueue::from_edn(operation.ok_value()?)?)))
        .collect()
}

#[cfg(test)]
mod tests;
