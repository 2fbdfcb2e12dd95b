//! Rules of this repository that no other tool knows. Each is a pure function from the tree's text to findings,
//! so that a test can show that it fires.

mod banned;
mod graph;
mod layout;
mod links;
mod names;
mod size;
mod tokens;
mod tree;

use std::fmt;
use std::path::Path;

use tree::SourceTree;

/// Whether a finding stops the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Warning,
    Error,
}

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    /// What is wrong and what to do instead.
    message: String,
}

impl Finding {
    fn error(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, line, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match self.line {
            0 => write!(f, "{severity}: {}: {}", self.path, self.message),
            line => write!(f, "{severity}: {}:{line}: {}", self.path, self.message),
        }
    }
}

/// One rule: everything that breaks it.
type Rule = fn(&SourceTree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    graph::crate_edges,
    graph::pure_crates,
    size::file_length,
    size::function_length,
    banned::banned_code,
    banned::banned_text,
    names::unique_public_types,
    layout::root_entries,
    layout::machine_paths,
    links::markdown_links,
];

/// Checks the tree at `root`, printing every finding.
///
/// # Errors
/// When the tree cannot be read, a Rust file cannot be tokenised, or a finding is an error.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let tree = SourceTree::read(root)?;
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.sort_by(|a, b| {
        (a.severity, &a.path, a.line, &a.message).cmp(&(b.severity, &b.path, b.line, &b.message))
    });
    for finding in &findings {
        eprintln!("{finding}");
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    if errors > 0 {
        anyhow::bail!("tidy found {errors} errors");
    }
    eprintln!("tidy: {} files are in order", tree.files.len());
    Ok(())
}
