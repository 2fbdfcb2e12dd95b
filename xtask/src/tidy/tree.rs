//! The repository's text, read once.

use std::path::Path;

use super::tokens::{SourceToken, tokens};
use crate::shell;

/// One tracked file.
pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    /// Empty for what is not UTF-8.
    pub text: String,
    /// Tokens of a Rust file, empty for others.
    pub tokens: Vec<SourceToken>,
}

impl SourceFile {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is compiled for tests only, by its name: `tests.rs`, `*_tests.rs`, a conformance `suite.rs` or
    /// `*_suite.rs`, or in a `tests` folder of a crate.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let stem = name.trim_end_matches(".rs");
        let named = |kind: &str| stem == kind || stem.ends_with(&format!("_{kind}"));
        named("tests") || named("suite") || self.path.contains("/tests/")
    }
}

/// Every file that is tracked, or would be by `git add`.
pub struct SourceTree {
    /// In order of their paths.
    pub files: Vec<SourceFile>,
}

impl SourceTree {
    /// Reads the tree at `root`.
    ///
    /// # Errors
    /// When git does not list the files, or a Rust file is not Rust.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let listing = [
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ];
        let paths = shell::capture(root, "git", &listing)?;
        let mut files = Vec::new();
        for path in paths.split('\0').filter(|path| !path.is_empty()) {
            // Deleted but still in the index: gone with the next commit.
            let Ok(bytes) = std::fs::read(root.join(path)) else {
                continue;
            };
            files.push((
                path.to_owned(),
                String::from_utf8(bytes).unwrap_or_default(),
            ));
        }
        Self::new(files).map_err(anyhow::Error::msg)
    }

    /// A tree of `(path, text)`.
    ///
    /// # Errors
    /// Names the Rust file that is not Rust.
    pub fn new(files: Vec<(String, String)>) -> Result<Self, String> {
        let mut files = files
            .into_iter()
            .map(|(path, text)| {
                let tokens = if path.ends_with(".rs") {
                    tokens(&text).map_err(|error| format!("{path}: {error}"))?
                } else {
                    Vec::new()
                };
                Ok(SourceFile { path, text, tokens })
            })
            .collect::<Result<Vec<_>, String>>()?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// Whether `path` is a file or a folder of the tree.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self
                .files
                .iter()
                .any(|file| file.path == path || file.path.starts_with(&folder))
    }
}

#[cfg(test)]
impl SourceTree {
    /// A tree of literal files, for the tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self::new(files.iter().map(owned).collect()).expect("the test's files are Rust")
    }
}
