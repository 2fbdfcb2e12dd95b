//! Judging a history. Each checker looks at one property and needs nothing but the history.

mod chains;
mod coverage;
mod disks;
mod games;
mod leaders;
mod locks;
mod members;
mod outages;
mod packets;
mod promises;
mod repeats;
mod replicas;
mod tokens;
mod watches;

use crate::edn::Edn;
use crate::history::{Event, History, Operation};
use crate::linear::Budget;
use crate::nemesis::{Fault, HEAL};
use crate::objects::{Keys, registers_are_linearizable};
use crate::observed::ObservedQueue;
use crate::verdict::Finding;
use crate::workload::Workload;

pub use outages::{Outage, outages};

/// Everything that is checked, with the faults and the work that were ordered.
pub fn judge(history: &History, faults: &[Fault], workloads: &[Workload]) -> Vec<Finding> {
    let mut findings = vec![
        coverage::faults_fired(history, faults),
        coverage::work_was_done(history, workloads),
        outages::writes_go_on(history),
        leaders::leaderless_gaps(history),
        replicas::agree_on_settings(history),
    ];
    if faults.contains(&Fault::SyncError) {
        findings.push(disks::failed_syncs_end_the_process(history));
    }
    if faults.contains(&Fault::Mtu) {
        findings.push(packets::long_writes_come_through(history));
    }
    for workload in workloads {
        match workload {
            Workload::Queue => findings.extend([
                promises::acknowledged_jobs_exist(history),
                promises::jobs_finish_once(history),
                tokens::tokens_rise(history),
                games::counted_once(history),
                chains::parents_come_first(history),
                replicas::agree_on_finished_jobs(history),
            ]),
            Workload::Register => findings.push(registers_are_linearizable(
                history,
                Keys::InValue,
                Budget::default(),
            )),
            Workload::Lock => findings.extend([
                locks::are_held_by_one(history),
                locks::fenced_counts_hold(history),
                locks::guarded_settings_follow_tokens(history),
            ]),
            Workload::Repeat => findings.extend([
                repeats::get_the_same_reply(history),
                repeats::take_effect_once(history),
            ]),
            Workload::Members => findings.push(members::follow_orders(history)),
            Workload::Watch => findings.push(watches::tell_everything_once(history)),
        }
    }
    findings
}

/// Where the history says that `fault` took, each with the details of its outcome.
fn installed(history: &History, fault: Fault) -> Vec<(usize, &str)> {
    let name = fault.to_string();
    let took = |event: &&Event| {
        let says = |field: &str| event.value.get(field).and_then(Edn::text);
        event.f == HEAL && says("fault") == Some(&name) && says("outcome") == Some("installed")
    };
    let found = history.events.iter().filter(took);
    let detailed = found.map(|event| {
        let detail = event.value.get("detail").and_then(Edn::text);
        (event.index, detail.unwrap_or_default())
    });
    detailed.collect()
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
