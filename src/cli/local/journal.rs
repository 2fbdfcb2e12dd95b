//! What runs without a cluster leave for `riftmesh report`: a line of JSON per training report and per match, in a file
//! beside their results.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Name of the file.
pub const JOURNAL: &str = "journal.ndjson";
/// Largest journal that is read.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// Mean losses since the line before.
    Training {
        /// Board and number of players.
        configuration: String,
        /// Optimiser steps since the fresh network.
        step: u64,
        /// Losses by head.
        losses: BTreeMap<String, f64>,
    },
    /// A match.
    Match {
        /// Board and number of players.
        configuration: String,
        /// Whose wins are counted.
        player: String,
        /// Against whom.
        opponent: String,
        /// Games won.
        wins: u32,
        /// Games lost.
        losses: u32,
    },
}

/// A journal that is written to.
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens the journal of `folder`, made when missing.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(JOURNAL);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self {
            file: file.with_context(|| path.display().to_string())?,
        })
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn add(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).context(JOURNAL)
    }
}

/// Reads a journal.
///
/// # Errors
/// It cannot be read, or says which line is no entry. A last line without an end was cut off by a crash and is left out.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let context = || path.display().to_string();
    let length = fs::metadata(path).with_context(context)?.len();
    anyhow::ensure!(
        length <= JOURNAL_BYTES_MAX,
        "{} has {length} bytes, more than any journal",
        path.display()
    );
    let text = fs::read_to_string(path).with_context(context)?;
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), number + 1))
    };
    whole.lines().enumerate().map(parse).collect()
}
