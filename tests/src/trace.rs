//! What happened in a run, line by line: two runs of one seed must write the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use riftmesh_base::BlobHash;
use riftmesh_raft::RaftStatus;

/// The lines of one run.
#[derive(Debug, Default)]
pub struct Trace {
    text: String,
    lines: usize,
    statuses: BTreeMap<u64, String>,
}

impl Trace {
    /// Adds a line.
    pub fn note(&mut self, at: Duration, line: &str) {
        self.lines += 1;
        // Writing to a string cannot fail.
        writeln!(self.text, "{:>9.3} {line}", at.as_secs_f64()).ok();
    }

    /// Adds a line about a voter if anything has changed with it.
    pub fn status(&mut self, at: Duration, number: u64, status: Option<&RaftStatus>) {
        let Some(status) = status else {
            self.statuses.remove(&number);
            return;
        };
        let index = |index: Option<riftmesh_base::LogIndex>| index.map_or(0, |index| index.0);
        let line = format!(
            "{number} {} {} log {} committed {} applied {} snapshot {} purged {}",
            status.role,
            status.term,
            index(status.last_log),
            index(status.committed),
            index(status.applied),
            index(status.snapshot),
            index(status.purged),
        );
        if self.statuses.get(&number) != Some(&line) {
            self.note(at, &line);
            self.statuses.insert(number, line);
        }
    }

    /// All lines.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many there are.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// A hash of all lines.
    pub fn hash(&self) -> BlobHash {
        BlobHash::of(self.text.as_bytes())
    }
}
