//! Every link from a Markdown file to a file of this repository leads somewhere.

use super::Finding;
use super::tree::SourceTree;

/// Links whose target is not in the tree. Web addresses, and anchors within a page, are not followed.
pub fn markdown_links(tree: &SourceTree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut fenced = false;
        for (number, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in targets(line).filter(|target| is_local(target)) {
                let path = resolve(&file.path, target);
                if !path.as_deref().is_some_and(|path| tree.has(path)) {
                    let message = format!("the link to `{target}` leads nowhere");
                    findings.push(Finding::error(&file.path, number + 1, message));
                }
            }
        }
    }
    findings
}

/// What stands in the parentheses of `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter_map(|target| target.split_whitespace().next())
}

fn is_local(target: &str) -> bool {
    !target.starts_with('#') && !target.contains("://") && !target.starts_with("mailto:")
}

/// The path from the root that `target` means in the file `from`; none when it leaves the tree.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files and folders resolve from the page's own place; fenced examples are not links.
    #[test]
    fn a_dead_link_is_found() {
        let page = "[up](../README.md#words) [folder](../src) [web](https://x.y/z)\n\
                    [dead](gone.md), [out](../../x)\n```\n[not](a-link.md)\n```";
        let tree = SourceTree::of(&[("README.md", ""), ("src/lib.rs", ""), ("docs/a.md", page)]);
        let findings = markdown_links(&tree);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().all(|f| f.line == 2));
    }
}
