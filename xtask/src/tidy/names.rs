//! One noun, one type: a public type's name is unique across the workspace.

use std::collections::BTreeMap;

use super::Finding;
use super::tokens::SourceToken;
use super::tree::SourceTree;

/// Public structs, enums, traits, unions and aliases that share a name. The later path is reported.
pub fn unique_public_types(tree: &SourceTree) -> Vec<Finding> {
    let mut first: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    let mut findings = Vec::new();
    for file in tree
        .rust()
        .filter(|file| is_product(&file.path) && !file.is_test())
    {
        for (name, line) in public_types(&file.tokens) {
            match first.get(name) {
                Some((path, at)) => {
                    let message = format!(
                        "`{name}` is also the name of a public type at {path}:{at}; say what differs"
                    );
                    findings.push(Finding::error(&file.path, line, message));
                }
                None => {
                    first.insert(name, (&file.path, line));
                }
            }
        }
    }
    findings
}

/// Sources of libraries and binaries, without tests, examples and benches.
fn is_product(path: &str) -> bool {
    path.starts_with("src/") || path.contains("/src/")
}

/// Name and line of every `pub` type; `pub(crate)` is nobody else's business.
fn public_types(tokens: &[SourceToken]) -> impl Iterator<Item = (&str, usize)> {
    tokens.windows(3).filter_map(|window| {
        let [public, keyword, name] = window else {
            return None;
        };
        let keywords = ["struct", "enum", "trait", "union", "type"];
        let is_type = public.text == "pub" && keywords.contains(&keyword.text.as_str());
        // `pub struct $name` in a macro has no name yet.
        (is_type && name.text != "$").then_some((name.text.as_str(), name.line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same public name in two crates is refused; private, test and macro names are not.
    #[test]
    fn a_second_definition_is_found() {
        let tree = SourceTree::of(&[
            (
                "base/src/a.rs",
                "pub struct NodeView;\nmacro_rules! m { () => { pub struct $name; } }",
            ),
            (
                "raft/src/b.rs",
                "\npub enum NodeView {}\npub(crate) struct Other;\nstruct Mine;",
            ),
            (
                "raft/src/c.rs",
                "#[cfg(test)]\nmod tests { pub struct NodeView; }\npub(crate) struct Other;",
            ),
            ("raft/examples/d.rs", "pub struct NodeView;"),
        ]);
        let findings = unique_public_types(&tree);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            (findings[0].path.as_str(), findings[0].line),
            ("raft/src/b.rs", 2)
        );
        assert!(findings[0].message.contains("base/src/a.rs:1"));
    }
}
