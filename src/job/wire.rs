//! What a node and its job child say to each other: one JSON assignment on the child's stdin, JSON lines on its
//! stdout. The child's stdin stays open; when it closes, the node is gone and the child leaves. Until then there is one
//! more line that the node may say: [`SAVE_LINE`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use riftmesh_base::{BlobHash, ConfigurationName, JobId, Millis, Seed};
use serde::{Deserialize, Serialize};

use super::payload::Payload;

/// Asks the child to write down how far it is, to say so with [`ChildLine::Stopped`] and to leave.
pub const SAVE_LINE: &str = "save";

/// The one line a child reads before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The job.
    pub job: JobId,
    /// For which configuration.
    pub configuration: ConfigurationName,
    /// What to do.
    pub payload: Payload,
    /// The job's own seed.
    pub seed: Seed,
    /// The champion, for jobs that play as it.
    pub champion: Option<BlobHash>,
    /// Verified files of the segments and weights the job needs.
    pub inputs: BTreeMap<BlobHash, PathBuf>,
    /// Verified manifests, by the model they belong to.
    pub manifests: BTreeMap<BlobHash, PathBuf>,
    /// Where an earlier attempt stopped: what [`ChildLine::Stopped`] or [`ChildLine::Saved`] named then.
    #[serde(default)]
    pub resume: Option<PathBuf>,
    /// An empty directory for what the job makes.
    pub out: PathBuf,
    /// Where this worker keeps optimiser states from one training to the next.
    pub optimizers: PathBuf,
    /// The device to bind to, `cpu` or `cuda:N`.
    pub device: String,
    /// Training writes down this often how far it is, in milliseconds; never if not given.
    #[serde(default)]
    pub save_every: Option<Millis>,
}

/// A line of a child's stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub enum ChildLine {
    /// How far it is, in the kind's unit.
    Progress {
        /// Done.
        done: u64,
        /// Out of.
        total: u64,
    },
    /// The job is done; the child exits with 0 next.
    Done {
        /// What it made.
        made: Made,
    },
    /// The job can go on from here if this process is lost; meanwhile it goes on by itself.
    Saved {
        /// From where.
        saved: Saved,
    },
    /// The job stopped because it was asked to; the child exits with 1 next.
    Stopped {
        /// From where another attempt can go on; none if it has to begin anew.
        saved: Option<Saved>,
    },
    /// The job failed; the child exits with 1 next.
    Failed {
        /// What went wrong and where.
        error: String,
        /// Whether another attempt could help.
        retry: bool,
    },
}

/// From where a job can go on. Which attempt of the same job can read it is the affair of the kind's runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// A file inside [`Assignment::out`].
    pub file: PathBuf,
    /// How far the job was, in the kind's unit.
    pub done: u64,
}

/// What a child made. Paths are inside [`Assignment::out`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "made")]
pub enum Made {
    /// A replay segment.
    Segment {
        /// The file.
        file: PathBuf,
        /// Games in it.
        games: u32,
        /// Training rows in it.
        rows: u32,
    },
    /// A network.
    Model {
        /// Safetensors.
        weights: PathBuf,
        /// JSON manifest.
        manifest: PathBuf,
        /// Optimiser steps since the fresh start.
        steps: u64,
    },
    /// A match result, from the candidate's side.
    Match {
        /// Games the candidate won.
        wins: u32,
        /// Games the opponent won.
        losses: u32,
    },
}
