//! How long nobody led.

use crate::edn::Edn;
use crate::history::{Actor, History};
use crate::verdict::Finding;

/// Probes ask one voter at a time and a dead voter answers slowly, so gaps are known to about this.
const RESOLUTION: &str = "0.1 to 3 s resolution";

/// The longest time between two answers with a leader that a quorum confirmed, and how many were longer than a second.
/// How long is too long is judged by the writes that were possible: see [`super::outages`].
pub fn leaderless_gaps(history: &History) -> Finding {
    const PROPERTY: &str = "leader availability";
    let operations = history.operations();
    let confirmed = operations.iter().filter_map(|operation| {
        let value = operation
            .ok_value()
            .filter(|_| operation.invoke.f == "leader")?;
        let leads = value.get("confirmed") == Some(&Edn::Bool(true))
            && value.get("leader").and_then(Edn::text).is_some();
        operation
            .outcome
            .filter(|_| leads)
            .map(|event| event.time_ns)
    });
    let mut times: Vec<i64> = confirmed.collect();
    times.sort_unstable();
    let mut gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let Some(longest) = gaps.last().copied() else {
        return Finding::unknown(PROPERTY, "no two answers with a confirmed leader");
    };
    let over_second = gaps.iter().filter(|gap| **gap > 1_000_000_000).count();
    let faults = history
        .events
        .iter()
        .filter(|event| event.actor == Actor::Nemesis && event.f == "heal")
        .count();
    let detail = format!(
        "longest gap {:.1} s, {over_second} over 1 s, with {faults} faults ({RESOLUTION})",
        longest as f64 / 1e9
    );
    Finding::valid(PROPERTY, detail)
}
