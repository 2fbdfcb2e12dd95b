//! Latency and rate over the time of a run, with the faults as bands.

use std::collections::BTreeMap;

use super::svg::Chart;
use crate::checker::outages;
use crate::history::{Actor, History, Kind};

/// Latencies are drawn from a millisecond to ten seconds, by their logarithm.
const DECADES: [(f64, &str); 5] = [
    (0.0, "1 ms"),
    (1.0, "10 ms"),
    (2.0, "100 ms"),
    (3.0, "1 s"),
    (4.0, "10 s"),
];
const OUTCOMES: [(Kind, &str, &str); 3] = [
    (Kind::Ok, "ok", "#2a7f3f"),
    (Kind::Fail, "failed", "#c03030"),
    (Kind::Info, "unknown", "#d0a000"),
];
const RATE_TOPS: [f64; 8] = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];

/// Every operation as a dot: when it ended and how long it took.
pub fn latency(history: &History) -> String {
    let marks = DECADES.map(|(height, text)| (height, text.to_owned()));
    let mut chart = Chart::new("latency", seconds(history), 4.0, &marks);
    bands(history, &mut chart);
    for operation in history.operations() {
        let Some(outcome) = operation.outcome else {
            continue;
        };
        let colour = OUTCOMES.iter().find(|(kind, ..)| *kind == outcome.kind);
        if let (Some((_, _, colour)), Actor::Client(_)) = (colour, outcome.actor) {
            let ms = (outcome.time_ns - operation.invoke.time_ns) as f64 / 1e6;
            chart.dot(outcome.time_ns as f64 / 1e9, ms.max(1.0).log10(), colour);
        }
    }
    legend(&mut chart);
    chart.finish()
}

/// Operations ended in every second, by their outcome.
pub fn rate(history: &History) -> String {
    let mut counts: BTreeMap<(usize, i64), u32> = BTreeMap::new();
    for event in &history.events {
        let outcome = OUTCOMES.iter().position(|(kind, ..)| *kind == event.kind);
        if let (Some(outcome), Actor::Client(_)) = (outcome, event.actor) {
            *counts
                .entry((outcome, event.time_ns / 1_000_000_000))
                .or_default() += 1;
        }
    }
    let most = counts.values().max().copied().unwrap_or(0);
    let top = RATE_TOPS
        .into_iter()
        .find(|top| f64::from(most) <= *top)
        .unwrap_or(f64::from(most));
    let marks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (top * part, format!("{}/s", top * part)));
    let mut chart = Chart::new("operations", seconds(history), top, &marks);
    bands(history, &mut chart);
    let last = seconds(history) as i64;
    for (number, (_, _, colour)) in OUTCOMES.iter().enumerate() {
        let count = |second| counts.get(&(number, second)).copied().unwrap_or(0);
        let points = (0..=last).map(|second| (second as f64 + 0.5, f64::from(count(second))));
        chart.line(points, colour);
    }
    legend(&mut chart);
    chart.finish()
}

fn legend(chart: &mut Chart) {
    for (number, (_, name, colour)) in OUTCOMES.iter().enumerate() {
        chart.legend(number, name, colour);
    }
}

fn bands(history: &History, chart: &mut Chart) {
    for outage in outages(history) {
        let seconds = |ns: i64| ns as f64 / 1e9;
        chart.band(
            seconds(outage.began_ns),
            seconds(outage.mended_ns),
            &outage.fault,
        );
    }
}

fn seconds(history: &History) -> f64 {
    history
        .events
        .last()
        .map_or(0.0, |event| event.time_ns as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation that ended is a dot in the colour of its outcome, and a fault is a band over its time.
    #[test]
    fn charts_show_operations_and_faults() {
        let history = History::parse(
            "{:index 0, :time 0, :process 0, :type :invoke, :f :probe, :value {:node \"v1\"}}
{:index 1, :time 100000000, :process 0, :type :ok, :f :probe, :value {:node \"v1\"}}
{:index 2, :time 200000000, :process :nemesis, :type :info, :f :halves, :value {:what \"a < b\"}}
{:index 3, :time 300000000, :process 1, :type :invoke, :f :read, :value nil}
{:index 4, :time 900000000, :process :nemesis, :type :info, :f :heal, :value {:fault :halves, :outcome :installed}}
{:index 5, :time 4300000000, :process 1, :type :info, :f :read, :value nil}",
        )
        .unwrap();
        let latency = latency(&history);
        assert_eq!(latency.matches("<circle").count(), 2);
        assert!(latency.contains("<title>halves</title>"));
        let rate = rate(&history);
        assert_eq!(rate.matches("<polyline").count(), OUTCOMES.len());
        assert!(rate.starts_with("<svg") && rate.ends_with("</svg>\n"));
        assert!(chart_of_nothing().starts_with("<svg"));
    }

    fn chart_of_nothing() -> String {
        super::rate(&History::default())
    }
}
