//! Imports go one way: the drawn list of edges between crates, and what pure crates may not depend on.

use super::Finding;
use super::tokens::{find, pattern};
use super::tree::SourceTree;

/// Folder of a member, and the members it may depend on. A new edge is rare and argued: write an ADR with it.
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("rules", &["base"]),
    ("rules/fuzz", &["rules"]),
    ("search", &["base", "rules"]),
    ("learning", &["base", "rules", "search"]),
    ("statemachine", &["base"]),
    ("storage", &["base"]),
    ("transport", &["base"]),
    ("membership", &["base", "transport"]),
    ("raft", &["base", "statemachine", "storage", "transport"]),
    (
        "",
        &[
            "base",
            "rules",
            "search",
            "learning",
            "statemachine",
            "storage",
            "transport",
            "membership",
            "raft",
        ],
    ),
    (
        "tests",
        &[
            "base",
            "statemachine",
            "storage",
            "transport",
            "membership",
            "raft",
        ],
    ),
    // A black box: it may name things the way clients do, and nothing more.
    ("jepsen", &["base"]),
    ("xtask", &[]),
];

/// Crates that take time, randomness and I/O as arguments.
const PURE: &[&str] = &["base", "rules", "search", "statemachine"];
/// Modules with the same duty inside a crate that also has a driver.
const PURE_MODULES: &[&str] = &["membership/src/agent/"];
/// What drags in a runtime, a network, a disk or a device.
const IMPURE: &[&str] = &[
    "tokio",
    "quinn",
    "sled",
    "openraft",
    "openraft-rt",
    "foca",
    "burn",
    "burn-cuda",
    "axum",
    "ureq",
    "rustls",
    "rustix",
    "sysinfo",
];

const PREFIX: &str = "riftmesh-";

/// Every dependency between members is in the drawn list.
pub fn crate_edges(tree: &SourceTree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (manifest, folder, dependency) in dependencies(tree) {
        let Some(to) = dependency.strip_prefix(PREFIX) else {
            continue;
        };
        let message = match EDGES.iter().find(|(from, _)| *from == folder) {
            Some((_, allowed)) if allowed.contains(&to) => continue,
            Some((_, allowed)) => format!(
                "`{folder}` may not depend on `{to}` (only on: {}); imports go one way, see ARCHITECTURE.md",
                allowed.join(", ")
            ),
            None => format!(
                "`{folder}` is not in the drawn crate graph; add it to xtask/src/tidy/graph.rs"
            ),
        };
        findings.push(Finding::error(&manifest, 0, message));
    }
    findings
}

/// Pure crates and pure modules name nothing that does I/O.
pub fn pure_crates(tree: &SourceTree) -> Vec<Finding> {
    let mut findings: Vec<_> = dependencies(tree)
        .into_iter()
        .filter(|(_, folder, name)| PURE.contains(&folder.as_str()) && IMPURE.contains(&name.as_str()))
        .map(|(manifest, folder, name)| {
            let message = format!("`{folder}` is pure and may not depend on `{name}`; put the adapter in a driver crate");
            Finding::error(&manifest, 0, message)
        })
        .collect();
    for file in tree.rust() {
        if !PURE_MODULES
            .iter()
            .any(|module| file.path.starts_with(module))
        {
            continue;
        }
        // The agent is foca with effects as values, so that foca alone is at home there.
        for name in IMPURE.iter().filter(|name| **name != "foca") {
            let ident = pattern(&name.replace('-', "_"));
            findings.extend(find(&file.tokens, &ident).map(|line| {
                let message =
                    format!("this module is pure and may not name `{name}`; use the driver");
                Finding::error(&file.path, line, message)
            }));
        }
    }
    findings
}

/// `(manifest path, folder, dependency)` of every member.
fn dependencies(tree: &SourceTree) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    for file in &tree.files {
        let Some(folder) = file.path.strip_suffix("Cargo.toml") else {
            continue;
        };
        let Ok(manifest) = file.text.parse::<toml::Table>() else {
            continue;
        };
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(table).and_then(toml::Value::as_table);
            for name in names.into_iter().flat_map(|names| names.keys()) {
                let folder = folder.trim_end_matches('/').to_owned();
                out.push((file.path.clone(), folder, name.clone()));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An edge against the drawn direction is refused, whatever table it hides in.
    #[test]
    fn an_upward_edge_is_found() {
        let manifest =
            "[dev-dependencies]\nriftmesh-raft.workspace = true\nriftmesh-base.workspace = true";
        let findings = crate_edges(&SourceTree::of(&[("rules/Cargo.toml", manifest)]));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0]
                .message
                .contains("`rules` may not depend on `raft`")
        );
    }

    /// A member nobody drew is refused as soon as it depends on another.
    #[test]
    fn an_unknown_member_is_found() {
        let manifest = "[dependencies]\nriftmesh-base.workspace = true";
        assert_eq!(
            crate_edges(&SourceTree::of(&[("extra/Cargo.toml", manifest)])).len(),
            1
        );
    }

    /// The drawn graph has no cycle: every edge goes to an earlier line.
    #[test]
    fn the_drawn_graph_is_acyclic() {
        for (i, (from, allowed)) in EDGES.iter().enumerate() {
            for to in *allowed {
                assert!(
                    EDGES[..i].iter().any(|(name, _)| name == to),
                    "{from} -> {to}"
                );
            }
        }
    }

    /// Neither a pure crate's manifest nor a pure module may name a runtime.
    #[test]
    fn impurity_is_found() {
        let tree = SourceTree::of(&[
            ("statemachine/Cargo.toml", "[dependencies]\ntokio = \"1\""),
            (
                "membership/src/agent/probe.rs",
                "use foca::Foca;\nuse tokio::time::sleep;",
            ),
            ("membership/src/driver.rs", "use tokio::time::sleep;"),
        ]);
        let findings = pure_crates(&tree);
        let places: Vec<_> = findings.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(
            places,
            [
                ("statemachine/Cargo.toml", 0),
                ("membership/src/agent/probe.rs", 2)
            ]
        );
    }
}
