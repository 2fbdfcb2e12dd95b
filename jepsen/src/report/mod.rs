//! A run's folder: plan, history, results, pictures, and the logs of every process.

mod chart;
mod svg;
mod timeline;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::checker::{Outage, outages};
use crate::edn::Edn;
use crate::history::History;
use crate::plan::RunPlan;
use crate::verdict::{Finding, worst};

/// Name of the history in a run's folder.
pub const HISTORY_FILE: &str = "history.edn";
/// Name of the results.
pub const RESULTS_FILE: &str = "results.json";
/// Name of the link to the newest run, beside the runs.
const LATEST: &str = "latest";
/// Runs of one store.
const RUNS_MAX: u32 = 100_000;

/// Makes a folder for a new run below `store`, named by its number and `title`, and points `latest` to it.
///
/// # Errors
/// The store cannot be written, or is full.
pub fn make_folder(store: &Path, title: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(store).with_context(|| format!("cannot make {}", store.display()))?;
    let taken = |number: u32| {
        let prefix = format!("{number:05}-");
        let entries = std::fs::read_dir(store).into_iter().flatten().flatten();
        entries
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
    };
    let number = (1..RUNS_MAX).find(|number| !taken(*number));
    let number = number.with_context(|| format!("{} is full of runs", store.display()))?;
    let name = format!("{number:05}-{title}");
    let folder = store.join(&name);
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let latest = store.join(LATEST);
    if latest.is_symlink() {
        std::fs::remove_file(&latest)?;
    }
    ensure!(!latest.exists(), "{} is in the way", latest.display());
    std::os::unix::fs::symlink(&name, &latest)?;
    Ok(folder)
}

/// Writes the results and the pictures beside the history.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    folder: &Path,
    plan: &RunPlan,
    history: &History,
    findings: &[Finding],
) -> anyhow::Result<()> {
    let results = results(plan, history, findings);
    put(folder, RESULTS_FILE, &format!("{results:#}\n"))?;
    put(folder, "results.edn", &format!("{}\n", from_json(&results)))?;
    draw(folder, history)
}

/// Draws the timeline and the charts of a history.
///
/// # Errors
/// A file cannot be written.
pub fn draw(folder: &Path, history: &History) -> anyhow::Result<()> {
    put(folder, "timeline.html", &timeline::html(history))?;
    put(folder, "latency.svg", &chart::latency(history))?;
    put(folder, "rate.svg", &chart::rate(history))
}

fn results(plan: &RunPlan, history: &History, findings: &[Finding]) -> Value {
    let row = |finding: &Finding| {
        json!({
            "property": finding.property,
            "validity": finding.validity.to_string(),
            "detail": finding.detail,
        })
    };
    let ms = |ns: i64| ns / 1_000_000;
    let outage = |outage: &Outage| {
        json!({
            "fault": outage.fault,
            "began_ms": ms(outage.began_ns),
            "mended_ms": ms(outage.mended_ns),
            "had_majority": outage.had_majority,
            "longest_outage_ms": ms(outage.longest_ns),
            "recovery_ms": outage.recovery_ns.map(ms),
            "all_voters_ms": outage.all_voters_ns.map(ms),
        })
    };
    json!({
        "validity": worst(findings).to_string(),
        "findings": findings.iter().map(row).collect::<Vec<_>>(),
        "availability": outages(history).iter().map(outage).collect::<Vec<_>>(),
        "events": history.events.len(),
        "command": plan.command(),
    })
}

/// The same value as EDN, with keywords for the names of fields.
fn from_json(value: &Value) -> Edn {
    match value {
        Value::Null => Edn::Nil,
        Value::Bool(value) => Edn::Bool(*value),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Edn::Str(number.to_string()), Edn::Int),
        Value::String(text) => Edn::from(text.as_str()),
        Value::Array(items) => Edn::Vector(items.iter().map(from_json).collect()),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| (Edn::keyword(name), from_json(value));
            Edn::Map(fields.iter().map(pair).collect())
        }
    }
}

fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a history, or that of a run's folder.
///
/// # Errors
/// It is missing or damaged.
pub fn read_history(path: &Path) -> anyhow::Result<History> {
    let path = match path.is_dir() {
        true => path.join(HISTORY_FILE),
        false => path.to_owned(),
    };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    History::parse(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs are numbered, and `latest` always points to the newest.
    #[test]
    fn folders_are_numbered() {
        let store = tempfile::tempdir().unwrap();
        let first = make_folder(store.path(), "register").unwrap();
        let second = make_folder(store.path(), "lock").unwrap();
        assert_eq!(first.file_name().unwrap(), "00001-register");
        assert_eq!(second.file_name().unwrap(), "00002-lock");
        let latest = std::fs::read_link(store.path().join(LATEST)).unwrap();
        assert_eq!(latest.to_str(), Some("00002-lock"));
    }

    #[test]
    fn results_are_the_same_in_both_forms() {
        let json = json!({"n": [1, null, true, 0.5, "valid"]});
        let edn = from_json(&json).to_string();
        assert_eq!(edn, r#"{:n [1 nil true "0.5" "valid"]}"#);
    }
}
