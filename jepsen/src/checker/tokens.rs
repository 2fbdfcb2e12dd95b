//! Fencing tokens, as linearizable reads of the queue show them.

use std::collections::BTreeMap;

use super::reads;
use crate::history::History;
use crate::verdict::Finding;

/// A job's token and losses never fall, and no token is shown for two jobs.
///
/// Reads are compared in the order of their completion, and only when one ended before the next began.
pub fn tokens_rise(history: &History) -> Finding {
    const PROPERTY: &str = "tokens rise";
    let operations = history.operations();
    let mut reads: Vec<_> = reads(&operations, "jobs");
    reads.extend(super::reads(&operations, "final-jobs"));
    reads.retain(|(_, queue)| queue.linearizable);
    reads.sort_by_key(|(operation, _)| operation.outcome.map(|event| event.index));

    let mut owners: BTreeMap<i64, i64> = BTreeMap::new();
    // By job: what the latest read showed, and where that read ended.
    let mut latest: BTreeMap<i64, (usize, i64, i64)> = BTreeMap::new();
    let mut rises = 0;
    for (operation, queue) in &reads {
        let (began, ended) = (
            operation.invoke.index,
            operation.outcome.map_or(usize::MAX, |event| event.index),
        );
        for job in &queue.jobs {
            let Some(token) = job.token else { continue };
            let owner = *owners.entry(token).or_insert(job.id);
            if owner != job.id {
                return Finding::invalid(
                    PROPERTY,
                    format!("t{token} was given for j{owner} and for j{}", job.id),
                );
            }
            let (seen, before, losses) = latest
                .get(&job.id)
                .copied()
                .unwrap_or((0, token, job.losses));
            if seen < began && (token < before || job.losses < losses) {
                return Finding::invalid(
                    PROPERTY,
                    format!(
                        "j{} went from t{before} ({losses} losses) to t{token} ({}) at {began}",
                        job.id, job.losses
                    ),
                );
            }
            rises += usize::from(token > before);
            latest.insert(job.id, (ended, token.max(before), job.losses.max(losses)));
        }
    }
    if owners.is_empty() {
        return Finding::unknown(PROPERTY, "no token was seen");
    }
    Finding::valid(
        PROPERTY,
        format!(
            "{} tokens, {rises} of them given for a job again",
            owners.len()
        ),
    )
}
