//! What a client was told about its jobs.

use std::collections::{BTreeMap, BTreeSet};

use super::reads;
use crate::edn::Edn;
use crate::history::{History, Operation};
use crate::observed::ObservedJob;
use crate::verdict::Finding;
use crate::workload::JOBS_LISTED;

/// Every acknowledged submission is there in the end, none was given up, and no two were given the same job. Whether
/// all of them get done is judged by the run, which waits for it.
pub fn acknowledged_jobs_exist(history: &History) -> Finding {
    const PROPERTY: &str = "no acked job lost";
    let operations = history.operations();
    let acknowledged = match acknowledged(&operations) {
        Ok(acknowledged) => acknowledged,
        Err(problem) => return Finding::invalid(PROPERTY, problem),
    };
    let finals: Vec<_> = reads(&operations, "final-jobs")
        .into_iter()
        .filter(|(_, queue)| queue.linearizable)
        .collect();
    let Some((_, last)) = finals.last() else {
        return Finding::unknown(
            PROPERTY,
            "no linearizable read of the queue after the faults",
        );
    };
    let jobs: BTreeMap<i64, &ObservedJob> = last.jobs.iter().map(|job| (job.id, job)).collect();
    // A full list may leave out old jobs; what lies below its oldest was not looked at.
    let oldest = if last.jobs.len() < JOBS_LISTED {
        0
    } else {
        jobs.keys().next().copied().unwrap_or(i64::MAX)
    };
    for (job, key) in &acknowledged {
        match jobs.get(job) {
            None if *job >= oldest => {
                return Finding::invalid(
                    PROPERTY,
                    format!("j{job}, acknowledged for `{key}`, is not in the queue"),
                );
            }
            Some(found) if found.is_over() && found.state != "done" => {
                return Finding::invalid(
                    PROPERTY,
                    format!(
                        "j{job}, acknowledged for `{key}`, is {} in the end",
                        found.state
                    ),
                );
            }
            _ => {}
        }
    }
    let listed = acknowledged.keys().filter(|job| **job >= oldest).count();
    if listed == 0 {
        return Finding::unknown(PROPERTY, "no acknowledged submission to look for");
    }
    Finding::valid(PROPERTY, format!("{listed} acknowledged jobs are there"))
}

/// Job and key of every acknowledged submission.
fn acknowledged(operations: &[Operation<'_>]) -> Result<BTreeMap<i64, String>, String> {
    let mut jobs: BTreeMap<i64, String> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| operation.invoke.f == "submit")
    {
        let Some(value) = operation.ok_value() else {
            continue;
        };
        let key = value.get("key").and_then(Edn::text).unwrap_or_default();
        for job in value
            .get("jobs")
            .and_then(Edn::items)
            .into_iter()
            .flatten()
            .filter_map(Edn::int)
        {
            if let Some(other) = jobs.insert(job, key.to_owned()) {
                return Err(format!(
                    "j{job} was acknowledged for `{other}` and for `{key}`"
                ));
            }
        }
    }
    Ok(jobs)
}

/// A job that was seen done stays done with the same result, and has one.
pub fn jobs_finish_once(history: &History) -> Finding {
    const PROPERTY: &str = "jobs complete once";
    let operations = history.operations();
    let mut done: BTreeMap<i64, ObservedJob> = BTreeMap::new();
    let mut states = BTreeSet::new();
    for f in ["jobs", "final-jobs"] {
        for (operation, queue) in reads(&operations, f) {
            for job in queue.jobs {
                states.insert(job.state.clone());
                if job.state != "done" {
                    // A stale answer may lag behind a newer one.
                    if queue.linearizable && done.contains_key(&job.id) {
                        return Finding::invalid(
                            PROPERTY,
                            format!(
                                "j{} was done and is {} at {}",
                                job.id, job.state, operation.invoke.index
                            ),
                        );
                    }
                    continue;
                }
                if job.outputs != 1 {
                    return Finding::invalid(
                        PROPERTY,
                        format!("j{} is done with {} outputs", job.id, job.outputs),
                    );
                }
                let first = done.entry(job.id).or_insert_with(|| job.clone());
                if *first != job {
                    return Finding::invalid(
                        PROPERTY,
                        format!(
                            "j{} was done as {first:?} and is {job:?} at {}",
                            job.id, operation.invoke.index
                        ),
                    );
                }
            }
        }
    }
    if done.is_empty() {
        return Finding::unknown(
            PROPERTY,
            format!("no job was seen done; states seen: {states:?}"),
        );
    }
    Finding::valid(PROPERTY, format!("{} jobs were seen done", done.len()))
}
