//! Where a training run stopped, as a file from which another run of the same job goes on.
//!
//! The order of rows follows from the job's seed, so a run that goes on draws the same rows as one that was never
//! stopped, and on the CPU ends with the same network, bit by bit.

use riftmesh_base::{BlobHash, Seed, codec, decode, encode};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    CheckpointError, DataRange, WEIGHTS_BYTES_MAX, bounded, check_magnitude, check_state, le_bytes,
    parse, read_tensor, refuse_unknown, serialize, u8_view, view,
};
use crate::loss::HeadLosses;
use crate::optimizer::OptimizerState;

const MAGIC: [u8; 4] = *b"RMtp";
const VERSION: u16 = 1;
/// Tensors of `f32`, each with one number per parameter.
const TENSORS: [&str; 4] = ["average", "live", "first_moment", "second_moment"];
const NOTES: &str = "notes";
/// Largest notes that are read: a few numbers and the losses of a few steps.
const NOTES_BYTES_MAX: usize = 64 << 10;

/// A training run between two of its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPause {
    /// The averaged parameters.
    pub(crate) average: Vec<f32>,
    /// The optimiser.
    pub(crate) optimizer: OptimizerState,
    /// Everything else.
    pub(crate) notes: PauseNotes,
}

/// What has to agree for a run to go on, and what it knows besides its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PauseNotes {
    /// Seed of the job.
    pub seed: Seed,
    /// The network it started from.
    pub parent: Option<BlobHash>,
    /// What it trains on.
    pub data: DataRange,
    /// Rows in one step.
    pub batch: u64,
    /// Steps of the optimiser before this run.
    pub first_step: u64,
    /// Steps of the optimiser so far.
    pub steps: u64,
    /// The least losses on the validation games.
    pub best: Option<HeadLosses>,
    /// Measurements since then.
    pub misses: u32,
    /// Losses of the steps since the last report.
    pub recent: Vec<HeadLosses>,
    /// Losses of the last report.
    pub last: HeadLosses,
}

impl TrainPause {
    /// Steps that the run has taken.
    pub fn steps(&self) -> u64 {
        self.notes.steps.saturating_sub(self.notes.first_step)
    }

    /// Its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let optimizer = &self.optimizer;
        let values = [
            &self.average,
            &optimizer.live,
            &optimizer.first_moment,
            &optimizer.second_moment,
        ];
        let parts = values.map(|values| le_bytes(values));
        let views = TENSORS
            .iter()
            .zip(&parts)
            .map(|(name, part)| ((*name).to_owned(), view(vec![part.len() / 4], part)));
        let notes = codec::seal(MAGIC, VERSION, &encode(&self.notes));
        serialize(views.chain([(NOTES.to_owned(), u8_view(&notes))]))
    }

    /// Reads what [`TrainPause::to_bytes`] wrote, for a network of `parameters` values.
    ///
    /// # Errors
    /// [`CheckpointError`]; the run has to start anew.
    pub fn from_bytes(bytes: &[u8], parameters: usize) -> Result<Self, CheckpointError> {
        bounded("the paused run", bytes.len() as u64, WEIGHTS_BYTES_MAX)?;
        let file = parse(bytes)?;
        refuse_unknown(&file, TENSORS.into_iter().chain([NOTES]))?;
        let notes = file
            .tensor(NOTES)
            .map_err(|_| CheckpointError::MissingTensor(NOTES.to_owned()))?;
        bounded("the notes", notes.data().len() as u64, NOTES_BYTES_MAX)?;
        let notes = read_notes(notes.data())?;
        let tensor = |name| read_tensor(&file, name, &[parameters]);
        let average = tensor("average")?;
        check_magnitude("average", &average)?;
        let optimizer = OptimizerState {
            live: tensor("live")?,
            first_moment: tensor("first_moment")?,
            second_moment: tensor("second_moment")?,
            steps: notes.steps,
        };
        check_state(&optimizer)?;
        Ok(Self {
            average,
            optimizer,
            notes,
        })
    }
}

fn read_notes(bytes: &[u8]) -> Result<PauseNotes, CheckpointError> {
    let format = |error: riftmesh_base::DecodeError| CheckpointError::Format(error.to_string());
    let (notes, rest) = codec::open(MAGIC, VERSION, bytes).map_err(format)?;
    let notes: PauseNotes = decode(notes).map_err(format)?;
    if !rest.is_empty() || notes.steps < notes.first_step {
        return Err(CheckpointError::Format(
            "the notes do not make sense".to_owned(),
        ));
    }
    Ok(notes)
}
