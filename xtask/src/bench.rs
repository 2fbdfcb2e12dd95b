//! Runs the benchmark programs of the crates and keeps their figures in `bench/history.ndjson`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

use crate::shell;

/// Where the figures are kept, relative to the root.
pub const HISTORY: &str = "bench/history.ndjson";

/// A benchmark program: an example that prints its figures on standard output, one a line, as JSON objects or for people.
struct Program {
    folder: &'static str,
    example: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program {
        folder: "rules",
        example: "playouts",
    },
    Program {
        folder: "tests",
        example: "mesh_simulation",
    },
    Program {
        folder: "tests",
        example: "mesh_live",
    },
    Program {
        folder: "raft",
        example: "voters",
    },
    Program {
        folder: "transport",
        example: "call_bench",
    },
];

/// What to run and how to label it.
#[derive(clap::Args)]
pub struct BenchArguments {
    /// Only programs whose `folder/example` contains this text, such as `rules`.
    only: Option<String>,
    /// The day of the run, `YYYY-MM-DD`; today, in UTC, if not given.
    #[arg(long, value_parser = parse_date)]
    date: Option<String>,
    /// Options for the programs, after `--`; the head of each program's source lists its own.
    #[arg(last = true)]
    options: Vec<String>,
}

/// Runs the programs in release mode and appends what they print.
///
/// # Errors
/// When a program is missing or fails, prints nothing, or the history cannot be written.
pub fn run(root: &Path, arguments: &BenchArguments) -> anyhow::Result<()> {
    let date = match &arguments.date {
        Some(date) => date.clone(),
        None => today(root)?,
    };
    let labels = labels(root, &date)?;
    let only = arguments.only.as_deref().unwrap_or_default();
    let mut lines = String::new();
    for program in PROGRAMS {
        let name = format!("{}/{}", program.folder, program.example);
        if !name.contains(only) {
            continue;
        }
        let package = format!("riftmesh-{}", program.folder);
        let mut cargo = vec![
            "run",
            "--locked",
            "--release",
            "--package",
            &package,
            "--example",
            program.example,
            "--",
        ];
        cargo.extend(arguments.options.iter().map(String::as_str));
        eprintln!("$ cargo {}", cargo.join(" "));
        let output = shell::capture(root, "cargo", &cargo)?;
        lines.push_str(&label(&output, &name, &labels)?);
    }
    ensure!(!lines.is_empty(), "no benchmark is called `{only}`");
    append(&root.join(HISTORY), &lines)?;
    eprint!("{lines}");
    Ok(())
}

/// The day, asked of the system's `date`: chores read no clock of their own.
fn today(root: &Path) -> anyhow::Result<String> {
    let date = shell::capture(root, "date", &["-u", "+%Y-%m-%d"])?;
    parse_date(date.trim())
        .map_err(|problem| anyhow::anyhow!("`date` said `{}`: {problem}", date.trim()))
}

/// Date, revision and machine of this run.
fn labels(root: &Path, date: &str) -> anyhow::Result<Map<String, Value>> {
    let revision = shell::capture(root, "git", &["rev-parse", "--short=12", "HEAD"])?;
    let changes = shell::capture(root, "git", &["status", "--porcelain"])?;
    let dirty = if changes.trim().is_empty() { "" } else { "+" };
    let mut labels = Map::new();
    labels.insert("date".into(), date.into());
    labels.insert(
        "revision".into(),
        format!("{}{dirty}", revision.trim()).into(),
    );
    labels.insert("machine".into(), machine().into());
    Ok(labels)
}

/// Processor and core count; "unknown" is a value.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    format!("{model}, {cores} cores")
}

/// The lines of `output`, each as a record with the labels and the program's name in front. A line for people is kept
/// as it is under `text`.
fn label(output: &str, program: &str, labels: &Map<String, Value>) -> anyhow::Result<String> {
    let mut lines = String::new();
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let mut record = labels.clone();
        record.insert("program".into(), program.into());
        match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(figures) => record.insert("figures".into(), figures.into()),
            Err(_) => record.insert("text".into(), line.trim().into()),
        };
        lines.push_str(&Value::from(record).to_string());
        lines.push('\n');
    }
    if lines.is_empty() {
        bail!("`{program}` printed no figures");
    }
    Ok(lines)
}

fn append(path: &Path, lines: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(context)?;
    file.write_all(lines.as_bytes()).with_context(context)
}

fn parse_date(text: &str) -> Result<String, String> {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    if shape == "0000-00-00" {
        Ok(text.to_owned())
    } else {
        Err("expected YYYY-MM-DD".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every figure says when, on what and from which revision it came.
    #[test]
    fn figures_are_labelled() {
        let mut labels = Map::new();
        labels.insert("date".into(), "2026-01-02".into());
        let output = "{\"p50_ms\":1.5}\n\n  8 clients: 900/s\n";
        let lines = label(output, "raft/voters", &labels).unwrap();
        let values: Vec<Value> = lines
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(values.len(), 2);
        assert!(
            values
                .iter()
                .all(|v| v["date"] == "2026-01-02" && v["program"] == "raft/voters")
        );
        assert_eq!(values[0]["figures"]["p50_ms"], 1.5);
        assert_eq!(values[1]["text"], "8 clients: 900/s");
    }

    /// A program that prints nothing is an error and not an empty record.
    #[test]
    fn silence_is_refused() {
        assert!(label("\n", "x", &Map::new()).is_err());
        assert!(parse_date("yesterday").is_err());
        assert!(parse_date("2026-01-02").is_ok());
    }
}
