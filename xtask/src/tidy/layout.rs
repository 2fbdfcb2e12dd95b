//! What may lie at the root, and what no file may say about the machine it was written on.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::SourceTree;

/// The top level is the architecture: nothing else lies there.
const ROOT: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "base",
    "bench",
    "clippy.toml",
    "deny.toml",
    "docs",
    "jepsen",
    "learning",
    "membership",
    "raft",
    "rules",
    "rustfmt.toml",
    "search",
    "src",
    "statemachine",
    "storage",
    "tests",
    "transport",
    "xtask",
];

/// Absolute folders of somebody's machine.
const MACHINE: &[&str] = &["/home/", "/root/", "/Users/", "C:\\Users\\"];

/// Entries at the root that are not in the list.
pub fn root_entries(tree: &SourceTree) -> Vec<Finding> {
    let entries: BTreeSet<_> = tree
        .files
        .iter()
        .filter_map(|file| file.path.split('/').next())
        .collect();
    entries
        .into_iter()
        .filter(|entry| !ROOT.contains(entry))
        .map(|entry| {
            let message = "does not belong at the root: decisions go to docs/adr, history to CHANGELOG.md, code to a crate";
            Finding::error(entry, 0, message)
        })
        .collect()
}

/// Absolute paths of a developer's machine.
pub fn machine_paths(tree: &SourceTree) -> Vec<Finding> {
    let mut findings = Vec::new();
    // This file has to name them.
    let others = tree
        .files
        .iter()
        .filter(|file| file.path != "xtask/src/tidy/layout.rs");
    for file in others {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = MACHINE.iter().find(|path| names_machine(line, path)) {
                let message =
                    format!("`{path}` is a path of one machine; make it relative, or an argument");
                findings.push(Finding::error(&file.path, number + 1, message));
            }
        }
    }
    findings
}

/// Whether `path` occurs in `line` as the start of a path, not inside a longer one or a URL.
fn names_machine(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_file_at_the_root_is_found() {
        let tree = SourceTree::of(&[("PLAN.md", ""), ("src/lib.rs", ""), ("notes/a.md", "")]);
        let found: Vec<_> = root_entries(&tree).into_iter().map(|f| f.path).collect();
        assert_eq!(found, ["PLAN.md", "notes"]);
    }

    /// Only the start of an absolute path counts: URLs and relative paths go on.
    #[test]
    fn a_machine_path_is_found() {
        let text = "see https://example.org/home/x\nlet a = \"/home/ann/x\";\n./home/x";
        let findings = machine_paths(&SourceTree::of(&[("docs/a.md", text)]));
        assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [2]);
    }
}
