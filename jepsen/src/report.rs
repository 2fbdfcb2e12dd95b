//! A run's folder: the history, the logs of every process, and the results.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::history::History;
use crate::verdict::{Finding, worst};

/// Name of the history in a run's folder.
pub const HISTORY_FILE: &str = "history.edn";
/// Name of the results.
pub const RESULTS_FILE: &str = "results.json";

/// Writes the results beside the history.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    folder: &Path,
    history: &History,
    findings: &[Finding],
    replay: &str,
) -> anyhow::Result<()> {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "property": finding.property,
                "validity": finding.validity.to_string(),
                "detail": finding.detail,
            })
        })
        .collect();
    let results = json!({
        "validity": worst(findings).to_string(),
        "findings": rows,
        "events": history.events.len(),
        "replay": replay,
    });
    let path = folder.join(RESULTS_FILE);
    std::fs::write(&path, format!("{results:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the history of a run's folder.
///
/// # Errors
/// It is missing or damaged.
pub fn read_history(folder: &Path) -> anyhow::Result<History> {
    let path = folder.join(HISTORY_FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    History::parse(&text).with_context(|| path.display().to_string())
}
