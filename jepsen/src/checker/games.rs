//! Every game counts once.

use super::reads;
use crate::edn::Edn;
use crate::history::History;
use crate::observed::ObservedQueue;
use crate::verdict::Finding;
use crate::workload::JOBS_LISTED;

/// The games counted lie between those of the self-play jobs done before the count and after it.
pub fn counted_once(history: &History) -> Finding {
    const PROPERTY: &str = "games counted once";
    let operations = history.operations();
    let queues: Vec<_> = reads(&operations, "final-jobs")
        .into_iter()
        .filter(|(_, queue)| queue.linearizable && queue.jobs.len() < JOBS_LISTED)
        .collect();
    let mut checked = Vec::new();
    for count in operations
        .iter()
        .filter(|operation| operation.invoke.f == "games")
    {
        let Some(value) = count
            .ok_value()
            .filter(|value| value.get("linearizable") == Some(&Edn::Bool(true)))
        else {
            continue;
        };
        let (Some(games), Some(outcome)) = (value.get("games").and_then(Edn::int), count.outcome)
        else {
            continue;
        };
        let ended = |read: &&(crate::history::Operation<'_>, ObservedQueue)| {
            read.0
                .outcome
                .is_some_and(|event| event.index < count.invoke.index)
        };
        let before = queues
            .iter()
            .filter(ended)
            .map(|(_, queue)| made(queue))
            .max();
        let after = queues
            .iter()
            .filter(|(read, _)| read.invoke.index > outcome.index)
            .map(|(_, queue)| made(queue))
            .min();
        let (Some(before), Some(after)) = (before, after) else {
            continue;
        };
        if games < before || games > after {
            return Finding::invalid(
                PROPERTY,
                format!(
                    "{games} games counted at {}; jobs done made {before} before and {after} after",
                    count.invoke.index
                ),
            );
        }
        checked.push(games);
    }
    match checked.last() {
        Some(0) => Finding::unknown(PROPERTY, "no game was recorded"),
        Some(games) => Finding::valid(PROPERTY, format!("{games} games, {} counts", checked.len())),
        None => Finding::unknown(PROPERTY, "no count between two whole linearizable lists"),
    }
}

/// Games of the self-play jobs that are done.
fn made(queue: &ObservedQueue) -> i64 {
    let done = queue
        .jobs
        .iter()
        .filter(|job| job.state == "done" && job.kind == "selfplay");
    done.map(|job| job.games).sum()
}
