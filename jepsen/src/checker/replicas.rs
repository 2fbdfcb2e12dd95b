//! The voters' copies.

use std::collections::{BTreeMap, BTreeSet};

use super::reads;
use crate::edn::Edn;
use crate::history::{History, Kind};
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

/// When nobody writes any more, all voters show the same settings, each by a linearizable read.
pub fn agree_on_settings(history: &History) -> Finding {
    const PROPERTY: &str = "replicas agree on settings";
    let mut shown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let reads = history
        .events
        .iter()
        .filter(|event| event.f == "final-settings" && event.kind == Kind::Ok);
    for event in reads {
        let of = |field: &str| event.value.get(field).and_then(Edn::text);
        if let (Some(node), Some(settings)) = (of("node"), of("settings")) {
            shown.entry(settings).or_default().push(node);
        }
    }
    let nodes = shown.values().map(Vec::len).sum::<usize>();
    match shown.len() {
        1 if nodes > 1 => Finding::valid(PROPERTY, format!("{nodes} voters show the same")),
        0 | 1 => Finding::unknown(PROPERTY, "not read on two voters in the end"),
        count => {
            let groups: Vec<_> = shown.values().collect();
            Finding::invalid(PROPERTY, format!("{count} different lists: {groups:?}"))
        }
    }
}
