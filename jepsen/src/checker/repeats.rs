//! Orders that were given several times.

use std::collections::BTreeMap;

use crate::edn::Edn;
use crate::history::{History, Kind};
use crate::verdict::Finding;

/// The same order gets the same reply, however often and wherever it is given.
pub fn get_the_same_reply(history: &History) -> Finding {
    const PROPERTY: &str = "same reply to a repeat";
    let mut repeated = 0;
    for event in history
        .events
        .iter()
        .filter(|event| event.f == "repeat" && event.kind == Kind::Ok)
    {
        let replies = event
            .value
            .get("replies")
            .and_then(Edn::items)
            .unwrap_or_default();
        if let [first, rest @ ..] = replies
            && let Some(other) = rest.iter().find(|reply| *reply != first)
        {
            let detail = format!("event {}: {first} and {other}", event.index);
            return Finding::invalid(PROPERTY, detail);
        }
        repeated += usize::from(replies.len() > 1);
    }
    match repeated {
        0 => Finding::unknown(PROPERTY, "no order was answered twice"),
        _ => Finding::valid(PROPERTY, format!("{repeated} orders answered alike")),
    }
}

/// An order that was given several times changed its setting once.
pub fn take_effect_once(history: &History) -> Finding {
    const PROPERTY: &str = "each effect once";
    let mut orders: BTreeMap<String, i64> = BTreeMap::new();
    for (revision, (key, value)) in changes(history) {
        if !key.starts_with("once-") {
            continue;
        }
        if let Some(other) = orders.insert(value.clone(), revision) {
            let detail = format!("order {value} made revision {other} and revision {revision}");
            return Finding::invalid(PROPERTY, detail);
        }
    }
    match orders.len() {
        0 => Finding::unknown(PROPERTY, "no repeated order was seen to take effect"),
        count => Finding::valid(PROPERTY, format!("{count} orders took effect once")),
    }
}

/// Every change of a setting that any reader saw, by its revision.
pub fn changes(history: &History) -> BTreeMap<i64, (String, String)> {
    let mut all = BTreeMap::new();
    let reads = history
        .events
        .iter()
        .filter(|event| event.f == "changes" && event.kind == Kind::Ok);
    for event in reads {
        for change in event
            .value
            .get("changes")
            .and_then(Edn::items)
            .unwrap_or_default()
        {
            if let Some([Edn::Int(revision), Edn::Str(key), Edn::Str(value)]) = change.items() {
                all.insert(*revision, (key.clone(), value.clone()));
            }
        }
    }
    all
}
