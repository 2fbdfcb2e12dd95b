//! Jobs that wait for others.

use std::collections::BTreeMap;

use super::reads;
use crate::edn::Edn;
use crate::history::History;
use crate::observed::ObservedJob;
use crate::verdict::Finding;

/// Whoever shows a child that waits no more shows its parent done, however old what it shows is.
pub fn parents_come_first(history: &History) -> Finding {
    const PROPERTY: &str = "parents before children";
    let operations = history.operations();
    let chains = operations
        .iter()
        .filter(|operation| operation.invoke.f == "chain");
    let pair = |value: &Edn| {
        let jobs = value.get("jobs")?.items()?;
        match jobs {
            [Edn::Int(parent), Edn::Int(child)] => Some((*child, *parent)),
            _ => None,
        }
    };
    let parents: BTreeMap<i64, i64> = chains
        .filter_map(|operation| pair(operation.ok_value()?))
        .collect();
    let mut all = reads(&operations, "jobs");
    all.extend(reads(&operations, "final-jobs"));
    let mut seen = 0;
    for (operation, queue) in &all {
        let jobs: BTreeMap<i64, &ObservedJob> =
            queue.jobs.iter().map(|job| (job.id, job)).collect();
        for (child, parent) in &parents {
            let (Some(child), Some(parent)) = (jobs.get(child), jobs.get(parent)) else {
                continue;
            };
            let waits = ["waiting", "cancelled", "dead"].contains(&child.state.as_str());
            if !waits && parent.state != "done" {
                return Finding::invalid(
                    PROPERTY,
                    format!(
                        "event {} shows j{} {} while j{}, which it waits for, is {}",
                        operation.invoke.index, child.id, child.state, parent.id, parent.state
                    ),
                );
            }
            seen += usize::from(!waits);
        }
    }
    match seen {
        0 => Finding::unknown(PROPERTY, "no child was seen that waits no more"),
        seen => Finding::valid(PROPERTY, format!("{seen} looks at {} pairs", parents.len())),
    }
}
