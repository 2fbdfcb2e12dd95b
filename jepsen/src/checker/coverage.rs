//! Did the run test anything?

use crate::edn::Edn;
use crate::history::{Actor, Event, History, Kind};
use crate::nemesis::{Fault, HEAL};
use crate::verdict::Finding;
use crate::workload::Workload;

/// Every kind of fault that was ordered was seen to take at least once.
pub fn faults_fired(history: &History, ordered: &[Fault]) -> Finding {
    const PROPERTY: &str = "faults fired";
    let nemesis = || {
        history
            .events
            .iter()
            .filter(|event| event.actor == Actor::Nemesis)
    };
    let (mut parts, mut missing) = (Vec::new(), Vec::new());
    for fault in ordered {
        let name = fault.to_string();
        let ended = |outcome: &str| {
            let is = |event: &&Event| {
                let says = |field: &str| event.value.get(field).and_then(Edn::text);
                event.f == HEAL && says("fault") == Some(&name) && says("outcome") == Some(outcome)
            };
            nemesis().filter(is).count()
        };
        let skips = nemesis().filter(|event| event.f == name && event.kind == Kind::Fail);
        let why = skips
            .clone()
            .next_back()
            .and_then(|event| event.error.clone());
        let (installed, indeterminate) = (ended("installed"), ended("indeterminate"));
        parts.push(format!("{installed} {fault}"));
        if installed == 0 {
            let why = why.unwrap_or_else(|| match indeterminate {
                0 => "the run was over before its turn".to_owned(),
                count => format!("{count} times indeterminate"),
            });
            missing.push(format!("{fault} ({why})"));
        }
    }
    if parts.is_empty() {
        return Finding::unknown(PROPERTY, "none was ordered");
    }
    if !missing.is_empty() {
        return Finding::unknown(PROPERTY, format!("never: {}", missing.join(", ")));
    }
    Finding::valid(PROPERTY, parts.join(", "))
}

/// Operations of each kind succeeded between the first fault and the last.
pub fn work_was_done(history: &History, workloads: &[Workload]) -> Finding {
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
    let ordered = workloads.iter().flat_map(|workload| workload.operations());
    for f in ordered.chain(&["probe", "leader"]).copied() {
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
