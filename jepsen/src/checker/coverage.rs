//! Did the run test anything?

use crate::history::{Actor, History, Kind};
use crate::nemesis::Fault;
use crate::verdict::Finding;

/// Every kind of fault that was ordered fired at least once.
pub fn faults_fired(history: &History, ordered: &[Fault]) -> Finding {
    const PROPERTY: &str = "faults fired";
    let fired = |fault: &Fault| {
        let name = fault.to_string();
        let of = |event: &&crate::history::Event| {
            event.actor == Actor::Nemesis && event.kind == Kind::Info && event.f == name
        };
        history.events.iter().filter(of).count()
    };
    let counts: Vec<_> = ordered.iter().map(|fault| (fault, fired(fault))).collect();
    let text: Vec<_> = counts
        .iter()
        .map(|(fault, count)| format!("{count} {fault}"))
        .collect();
    if counts.is_empty() || counts.iter().any(|(_, count)| *count == 0) {
        return Finding::unknown(PROPERTY, format!("not all of them: {}", text.join(", ")));
    }
    Finding::valid(PROPERTY, text.join(", "))
}

/// Operations of each kind succeeded between the first fault and the last.
pub fn work_was_done(history: &History) -> Finding {
    const PROPERTY: &str = "work was done";
    let faults = || {
        history
            .events
            .iter()
            .filter(|event| event.actor == Actor::Nemesis && event.kind == Kind::Info)
    };
    let (Some(first), Some(last)) = (faults().next(), faults().next_back()) else {
        return Finding::unknown(PROPERTY, "no fault to work through");
    };
    let mut parts = Vec::new();
    let mut idle = Vec::new();
    for f in ["submit", "jobs", "leader"] {
        let count = |kind: Kind| {
            let during = |index: usize| (first.index..=last.index).contains(&index);
            history
                .events
                .iter()
                .filter(|event| event.f == f && event.kind == kind && during(event.index))
                .count()
        };
        let (ok, fail, info) = (count(Kind::Ok), count(Kind::Fail), count(Kind::Info));
        parts.push(format!("{f} {ok} ok {fail} fail {info} info"));
        if ok == 0 {
            idle.push(f);
        }
    }
    if idle.is_empty() {
        Finding::valid(PROPERTY, parts.join("; "))
    } else {
        Finding::unknown(
            PROPERTY,
            format!(
                "never succeeded under faults: {}; {}",
                idle.join(", "),
                parts.join("; ")
            ),
        )
    }
}
