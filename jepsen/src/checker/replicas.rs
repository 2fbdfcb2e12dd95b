//! The voters' copies.

use std::collections::{BTreeMap, BTreeSet};

use super::reads;
use crate::edn::Edn;
use crate::history::History;
use crate::observed::ObservedJob;
use crate::verdict::Finding;

/// What is done does not change, so every voter must show a finished job alike, whenever it was asked.
pub fn agree_on_finished_jobs(history: &History) -> Finding {
    const PROPERTY: &str = "replicas agree";
    let operations = history.operations();
    let mut known: BTreeMap<i64, (ObservedJob, BTreeSet<String>)> = BTreeMap::new();
    let mut all = reads(&operations, "jobs");
    all.extend(reads(&operations, "final-jobs"));
    for (operation, queue) in all {
        let node = operation
            .invoke
            .value
            .get("node")
            .and_then(Edn::text)
            .unwrap_or_default();
        for job in queue.jobs.into_iter().filter(|job| job.state == "done") {
            let (first, nodes) = known
                .entry(job.id)
                .or_insert_with(|| (job.clone(), BTreeSet::new()));
            if *first != job {
                return Finding::invalid(
                    PROPERTY,
                    format!("{node} shows {job:?}, {nodes:?} showed {first:?}"),
                );
            }
            nodes.insert(node.to_owned());
        }
    }
    let shared = known.values().filter(|(_, nodes)| nodes.len() > 1).count();
    if shared == 0 {
        return Finding::unknown(PROPERTY, "no finished job was seen on two voters");
    }
    Finding::valid(
        PROPERTY,
        format!("{shared} finished jobs are alike on two voters or more"),
    )
}
