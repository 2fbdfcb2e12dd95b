//! Every operation as a bar in the lane of its client, with the faults behind them, as one page without any script.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::svg::escape;
use crate::checker::outages;
use crate::history::{Actor, History, Kind};

/// Operations drawn at most, the earliest first; a browser shows no more in reasonable time.
const BARS_MAX: usize = 20_000;
/// Pixels of a second, and of a lane.
const SECOND: f64 = 60.0;
const LANE: usize = 14;
const TEXT_MAX: usize = 400;

const HEAD: &str = r#"<!doctype html><meta charset="utf-8"><title>timeline</title><style>
body{font:11px sans-serif;margin:8px}#t{position:relative}
#t div{position:absolute;height:12px;overflow:hidden;white-space:nowrap;font-size:9px}
#t .f{background:#fbdcc8;color:#a04000}.ok{background:#bfe3c6}.fail{background:#f0b8b8}.info{background:#f3e0a0}.invoke{background:#ccc}
</style>"#;

/// The page.
pub fn html(history: &History) -> String {
    let operations = history.operations();
    let end = history.events.last().map_or(0, |event| event.time_ns);
    let shown = operations
        .iter()
        .filter(|op| op.invoke.actor != Actor::Nemesis)
        .take(BARS_MAX);
    let mut lanes: Vec<i64> = Vec::new();
    let mut bars = String::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut drawn = 0;
    for operation in shown {
        drawn += 1;
        let (from, to) = (
            operation.invoke.time_ns,
            operation.outcome.map_or(end, |event| event.time_ns),
        );
        // The first lane that is free: clients change their numbers after an unknown outcome, lanes need not.
        let lane = lanes
            .iter()
            .position(|busy| *busy <= from)
            .unwrap_or(lanes.len());
        match lanes.get_mut(lane) {
            Some(busy) => *busy = to,
            None => lanes.push(to),
        }
        let class = match operation.outcome.map(|event| event.kind) {
            Some(Kind::Ok) => "ok",
            Some(Kind::Fail) => "fail",
            Some(Kind::Info) => "info",
            Some(Kind::Invoke) | None => "invoke",
        };
        *counts.entry(class).or_default() += 1;
        let outcome = operation
            .outcome
            .map(ToString::to_string)
            .unwrap_or_default();
        let title: String = format!("{}\n{outcome}", operation.invoke)
            .chars()
            .take(TEXT_MAX)
            .collect();
        bar(
            &mut bars,
            class,
            from,
            to,
            lane * LANE,
            &operation.invoke.f,
            &title,
        );
    }
    let height = lanes.len() * LANE;
    let mut bands = String::new();
    for outage in outages(history) {
        let what = format!("{outage:?}");
        let (from, to) = (outage.began_ns, outage.mended_ns);
        bar(&mut bands, "f", from, to, height, &outage.fault, &what);
    }
    let left_out = operations.len().saturating_sub(drawn);
    format!(
        "{HEAD}<p>{counts:?}; one second is {SECOND} pixels; not drawn: {left_out}. Hover to read an operation.</p>\
         <div id=\"t\" style=\"height:{}px;width:{:.0}px\">{bands}{bars}</div>\n",
        height + 2 * LANE,
        end as f64 / 1e9 * SECOND
    )
}

fn bar(out: &mut String, class: &str, from: i64, to: i64, top: usize, text: &str, title: &str) {
    let at = |ns: i64| ns as f64 / 1e9 * SECOND;
    let width = (at(to) - at(from)).max(2.0);
    let (text, title) = (escape(text), escape(title));
    // Writing to a string cannot fail.
    let written = writeln!(
        out,
        "<div class=\"{class}\" style=\"left:{:.1}px;width:{width:.1}px;top:{top}px\" title=\"{title}\">{text}</div>",
        at(from)
    );
    debug_assert!(written.is_ok());
}
