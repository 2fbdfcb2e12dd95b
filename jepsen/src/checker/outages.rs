//! How long no write was possible, fault by fault.

use std::collections::BTreeMap;

use crate::edn::Edn;
use crate::history::{Actor, History, Kind};
use crate::nemesis::{Fault, HEAL};
use crate::verdict::Finding;

/// With a majority alive and connected, writes may stop for so long at most. Generous against the bar of 2.5 s, because
/// the machine that runs the nodes also runs everything else.
const OUTAGE_NS_MAX: i64 = 20_000_000_000;
/// After the end of any fault, every voter has to take writes again within this.
const RECOVERY_NS_MAX: i64 = 60_000_000_000;

/// What one fault did to writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Its name.
    pub fault: String,
    /// When it began, in nanoseconds of the run.
    pub began_ns: i64,
    /// When it was mended.
    pub mended_ns: i64,
    /// Whether a majority was alive and connected all the time.
    pub had_majority: bool,
    /// The longest time without an acknowledged write that began while it was on.
    pub longest_ns: i64,
    /// From its mending until a write was acknowledged; none when there was none before the next fault.
    pub recovery_ns: Option<i64>,
    /// From its mending until every voter had acknowledged a write; none when not before the next fault.
    pub all_voters_ns: Option<i64>,
}

/// The outages of a history, in the order of the faults.
pub fn outages(history: &History) -> Vec<Outage> {
    let writes = writes(history);
    let voters: Vec<&str> =
        writes
            .iter()
            .map(|(_, node)| *node)
            .fold(Vec::new(), |mut all, node| {
                if !all.contains(&node) {
                    all.push(node);
                }
                all
            });
    let windows = windows(history);
    let votes_move = history.events.iter().any(|event| event.f == "remove-voter");
    let end = history.events.last().map_or(0, |event| event.time_ns);
    let next_fault = |at: usize| windows.get(at + 1).map_or(end, |(_, began, _)| *began);
    let measure = |(at, (fault, began, mended)): (usize, &(Fault, i64, i64))| {
        let until = next_fault(at);
        let after = |node: Option<&str>| {
            let mut late = writes
                .iter()
                .filter(|(time, by)| *time >= *mended && node.is_none_or(|node| node == *by));
            late.next().map(|(time, _)| time - mended).filter(|_| true)
        };
        let all = voters.iter().map(|voter| after(Some(voter)));
        let all = all
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max());
        Outage {
            fault: fault.to_string(),
            began_ns: *began,
            mended_ns: *mended,
            had_majority: fault.leaves_majority() && !(votes_move && fault.splits()),
            longest_ns: longest_gap(&writes, *began, *mended, until),
            recovery_ns: after(None),
            all_voters_ns: all.filter(|time| mended + time <= until),
        }
    };
    windows.iter().enumerate().map(measure).collect()
}

/// Writes had to go on wherever a majority was left, and to come back everywhere.
pub fn writes_go_on(history: &History) -> Finding {
    const PROPERTY: &str = "writes go on";
    let outages = outages(history);
    if outages.is_empty() || writes(history).is_empty() {
        return Finding::unknown(PROPERTY, "no fault, or no acknowledged write of a probe");
    }
    let mut of_fault: BTreeMap<&str, (i64, i64, usize)> = BTreeMap::new();
    for outage in &outages {
        let (longest, recovery, count) = of_fault.entry(&outage.fault).or_default();
        *longest = outage.longest_ns.max(*longest);
        *recovery = outage.recovery_ns.unwrap_or(0).max(*recovery);
        *count += 1;
    }
    let seconds = |ns: i64| ns as f64 / 1e9;
    let parts: Vec<_> = of_fault
        .iter()
        .map(|(fault, (longest, recovery, _))| {
            format!("{fault} {:.1}/{:.1}", seconds(*longest), seconds(*recovery))
        })
        .collect();
    let detail = format!("longest outage/recovery in s: {}", parts.join(", "));
    let stuck = |outage: &&Outage| {
        (outage.had_majority && outage.longest_ns > OUTAGE_NS_MAX)
            || outage.recovery_ns.is_none_or(|time| time > RECOVERY_NS_MAX)
    };
    match outages.iter().find(stuck) {
        Some(outage) => Finding::invalid(PROPERTY, format!("too long: {outage:?}; {detail}")),
        None => Finding::valid(PROPERTY, detail),
    }
}

/// When a probe's write was acknowledged, and at which voter.
fn writes(history: &History) -> Vec<(i64, &str)> {
    let acknowledged = history
        .events
        .iter()
        .filter(|event| event.f == "probe" && event.kind == Kind::Ok);
    acknowledged
        .filter_map(|event| Some((event.time_ns, event.value.get("node")?.text()?)))
        .collect()
}

/// Every fault that was on, from when to when.
fn windows(history: &History) -> Vec<(Fault, i64, i64)> {
    let mut windows = Vec::new();
    let mut began = None;
    let done =
        |event: &&crate::history::Event| event.actor == Actor::Nemesis && event.kind == Kind::Info;
    for event in history.events.iter().filter(done) {
        if event.f != HEAL {
            began = Some(event.time_ns);
            continue;
        }
        let name = event
            .value
            .get("fault")
            .and_then(Edn::text)
            .unwrap_or_default();
        if let (Some(began), Ok(fault)) = (began.take(), Fault::parse_list(name))
            && let [fault] = fault.as_slice()
        {
            windows.push((*fault, began, event.time_ns));
        }
    }
    windows
}

/// The longest time without a write that began in the fault's time; one that goes on after it counts to its end, but
/// for what lies after `until`.
fn longest_gap(writes: &[(i64, &str)], began: i64, mended: i64, until: i64) -> i64 {
    let within = writes
        .iter()
        .map(|(time, _)| *time)
        .filter(|time| (began..=until).contains(time));
    let mut longest = 0;
    let mut from = began;
    for time in within.chain([until]) {
        if from > mended {
            break;
        }
        longest = longest.max(time - from);
        from = time;
    }
    longest
}
