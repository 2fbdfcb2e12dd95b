//! Checkpoints: weights as safetensors, a JSON manifest that says where they come from, and the optimiser's state in a
//! file of its own.
//!
//! A model's id is the BLAKE3 hash of its weights file. Loading is strict: every tensor of the architecture must be there
//! with its shape, and no other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use riftmesh_base::{BlobHash, ConfigurationName, Seed};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::optimizer::OptimizerState;
use crate::weights::{Layout, NetDims, NetShape, Weights};

/// Version of the manifest.
pub const MANIFEST_VERSION: u16 = 1;
/// Largest manifest that is read.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Largest weights or optimiser file that is read.
pub const WEIGHTS_BYTES_MAX: usize = 1 << 30;

/// What a network was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRange {
    /// Segments in the window.
    pub segments: u64,
    /// Games in the window.
    pub games: u64,
    /// Rows in the window.
    pub rows: u64,
    /// Rows that existed in all, the window's and older ones.
    pub rows_available: u64,
}

/// Where a network comes from and what it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u16,
    /// The weights file: the model's id.
    pub weights: BlobHash,
    /// The configuration it plays, such as `hex8_2p`.
    pub configuration: ConfigurationName,
    /// Shape of the network.
    pub shape: NetShape,
    /// The sizes that follow from shape, board, encoder and codec.
    pub dims: NetDims,
    /// Version of the action codec.
    pub codec: u16,
    /// Version of the input encoder.
    pub encoder: u16,
    /// The model it was trained from, none for a fresh start.
    pub parent: Option<BlobHash>,
    /// What it was trained on.
    pub data: DataRange,
    /// Training rows used since the fresh start, each use counted.
    pub rows: u64,
    /// Optimiser steps since the fresh start.
    pub steps: u64,
    /// The seed of the last training run, or of the fresh weights.
    pub seed: Seed,
    /// Figures of the last training run by name, such as `validation_policy`.
    pub metrics: BTreeMap<String, f64>,
    /// Source revision of the program that made it.
    pub revision: String,
}

/// Why a checkpoint was refused. Nothing was changed. The file is at fault, or was meant for another program version.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be read or written.
    #[error("cannot {act} {}: {reason}", path.display())]
    Io {
        /// `read` or `write`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A file is larger than any checkpoint can be.
    #[error("{what} has {found} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The limit.
        limit: usize,
    },
    /// The manifest is no JSON of the expected form.
    #[error("the manifest cannot be read: {0}")]
    Manifest(#[from] serde_json::Error),
    /// The manifest's version is not known.
    #[error("manifest version {found} cannot be read: this build reads {MANIFEST_VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// The weights file is not the one the manifest names.
    #[error("the weights are {found}, the manifest is for {expected}")]
    Hash {
        /// Named by the manifest.
        expected: BlobHash,
        /// Found.
        found: BlobHash,
    },
    /// The file is no safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// A tensor of the architecture is not there.
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    /// A tensor does not belong to the architecture.
    #[error("tensor `{0}` is unknown to this architecture")]
    UnknownTensor(String),
    /// A tensor has another shape or element type.
    #[error("tensor `{name}` is {found}, expected {expected}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its type and shape.
        found: String,
        /// What the architecture needs.
        expected: String,
    },
    /// A tensor has a number that is not finite.
    #[error("tensor `{0}` has a number that is not finite")]
    NotFinite(String),
    /// A tensor has a number that its meaning does not allow.
    #[error("tensor `{name}` has {what}")]
    Impossible {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The manifest was made for another configuration, codec or encoder.
    #[error("the network is for {found}, this is {expected}")]
    Mismatch {
        /// What the manifest says.
        found: String,
        /// What was needed.
        expected: String,
    },
}

/// A network with its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Where it comes from.
    pub manifest: Manifest,
    /// Its parameters.
    pub weights: Weights,
}

impl Checkpoint {
    /// Reads a checkpoint from its two files' bytes.
    ///
    /// # Errors
    /// [`CheckpointError`], for any byte out of place.
    pub fn from_bytes(manifest: &[u8], weights: &[u8]) -> Result<Self, CheckpointError> {
        bounded("the manifest", manifest.len() as u64, MANIFEST_BYTES_MAX)?;
        let manifest: Manifest = serde_json::from_slice(manifest)?;
        if manifest.version != MANIFEST_VERSION {
            return Err(CheckpointError::Version {
                found: manifest.version,
            });
        }
        let found = BlobHash::of(weights);
        if found != manifest.weights {
            return Err(CheckpointError::Hash {
                expected: manifest.weights,
                found,
            });
        }
        check_dims(&manifest.dims)?;
        let weights = weights_from_bytes(weights, Layout::new(manifest.dims))?;
        Ok(Self { manifest, weights })
    }

    /// Reads a checkpoint from two files.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn read(manifest: &Path, weights: &Path) -> Result<Self, CheckpointError> {
        Self::from_bytes(
            &read_bounded(manifest, "the manifest", MANIFEST_BYTES_MAX)?,
            &read_bounded(weights, "the weights", WEIGHTS_BYTES_MAX)?,
        )
    }

    /// The manifest's file. Its bytes are the same for equal manifests.
    pub fn manifest_bytes(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "a manifest has only finite numbers and text keys"
        )]
        let mut bytes = serde_json::to_vec_pretty(&self.manifest).expect("a manifest is JSON");
        bytes.push(b'\n');
        bytes
    }

    /// The weights' file, whose hash is the model's id.
    pub fn weights_bytes(&self) -> Vec<u8> {
        weights_to_bytes(&self.weights)
    }

    /// Writes both files, each under a temporary name, synced and renamed; the manifest last.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; a half-written file never has the final name.
    pub fn write(&self, manifest: &Path, weights: &Path) -> Result<(), CheckpointError> {
        write_whole(weights, &self.weights_bytes())?;
        write_whole(manifest, &self.manifest_bytes())
    }
}

/// Sizes beyond which a manifest is not believed.
fn check_dims(dims: &NetDims) -> Result<(), CheckpointError> {
    let sane = (1..=1024).contains(&dims.channels)
        && dims.blocks <= 128
        && dims.planes <= 1024
        && dims.globals <= 1024
        && dims.action_planes <= 1024
        && dims.specials <= 64;
    if sane {
        return Ok(());
    }
    Err(CheckpointError::Mismatch {
        found: format!("{dims:?}"),
        expected: "a network of at most 1024 channels and 128 blocks".to_owned(),
    })
}

/// The safetensors file of `weights`: one `f32` tensor per parameter.
pub fn weights_to_bytes(weights: &Weights) -> Vec<u8> {
    let bytes = le_bytes(&weights.values);
    let views = weights.layout.tensors().iter().map(|tensor| {
        let part = &bytes[4 * tensor.range.start..4 * tensor.range.end];
        (tensor.name.clone(), view(tensor.shape.clone(), part))
    });
    serialize(views)
}

/// Reads the weights for `layout`.
///
/// # Errors
/// [`CheckpointError`] naming the first tensor that is missing, unknown, of another shape or not finite.
pub fn weights_from_bytes(bytes: &[u8], layout: Layout) -> Result<Weights, CheckpointError> {
    let file = parse(bytes)?;
    let names = layout.tensors().iter().map(|tensor| tensor.name.as_str());
    refuse_unknown(&file, names)?;
    // A manifest may claim gigabytes; no more is reserved than the file can fill.
    let mut values = Vec::with_capacity(layout.len().min(bytes.len() / 4));
    for tensor in layout.tensors() {
        let read = read_tensor(&file, &tensor.name, &tensor.shape)?;
        check_magnitude(&tensor.name, &read)?;
        values.extend(read);
    }
    Ok(Weights { layout, values })
}

const OPTIMIZER_TENSORS: [&str; 3] = ["live", "first_moment", "second_moment"];

/// The optimiser's file: three flat `f32` tensors and the number of steps, for the model called `model`.
pub fn optimizer_to_bytes(state: &OptimizerState, model: BlobHash) -> Vec<u8> {
    let parts = [&state.live, &state.first_moment, &state.second_moment].map(|part| le_bytes(part));
    let views = OPTIMIZER_TENSORS
        .iter()
        .zip(&parts)
        .map(|(name, part)| ((*name).to_owned(), view(vec![part.len() / 4], part)));
    let steps = state.steps.to_le_bytes();
    let extra = [
        ("model".to_owned(), u8_view(&model.0)),
        ("steps".to_owned(), u8_view(&steps)),
    ];
    serialize(views.chain(extra))
}

/// Reads an optimiser's state for a network of `parameters` values, which must belong to `model`.
///
/// # Errors
/// [`CheckpointError`].
pub fn optimizer_from_bytes(
    bytes: &[u8],
    parameters: usize,
    model: BlobHash,
) -> Result<OptimizerState, CheckpointError> {
    bounded("the optimiser state", bytes.len() as u64, WEIGHTS_BYTES_MAX)?;
    let file = parse(bytes)?;
    refuse_unknown(
        &file,
        OPTIMIZER_TENSORS.into_iter().chain(["model", "steps"]),
    )?;
    let found = BlobHash(raw(&file, "model")?);
    if found != model {
        return Err(CheckpointError::Hash {
            expected: model,
            found,
        });
    }
    let state = OptimizerState {
        live: read_tensor(&file, "live", &[parameters])?,
        first_moment: read_tensor(&file, "first_moment", &[parameters])?,
        second_moment: read_tensor(&file, "second_moment", &[parameters])?,
        steps: u64::from_le_bytes(raw(&file, "steps")?),
    };
    check_state(&state)?;
    Ok(state)
}

/// Refuses parameters far beyond what training makes, such as one with a flipped bit in its exponent: they are finite, and
/// what a network computes with them is not.
pub(crate) fn check_magnitude(name: &str, values: &[f32]) -> Result<(), CheckpointError> {
    const MAGNITUDE_MAX: f32 = 1e3;
    if values.iter().all(|value| value.abs() <= MAGNITUDE_MAX) {
        return Ok(());
    }
    Err(CheckpointError::Impossible {
        name: name.to_owned(),
        what: "a number beyond 1000, which no training makes",
    })
}

/// Refuses a state from which the next step would not be one: roots of negative numbers, or a count that ends.
pub(crate) fn check_state(state: &OptimizerState) -> Result<(), CheckpointError> {
    /// More than any run takes.
    const STEPS_MAX: u64 = 1 << 48;
    let impossible = |name: &str, what| {
        let name = name.to_owned();
        Err(CheckpointError::Impossible { name, what })
    };
    check_magnitude("live", &state.live)?;
    if state.second_moment.iter().any(|moment| *moment < 0.0) {
        return impossible("second_moment", "a negative mean of squares");
    }
    if state.steps > STEPS_MAX {
        return impossible("steps", "more steps than any run takes");
    }
    Ok(())
}

pub(crate) fn parse(bytes: &[u8]) -> Result<SafeTensors<'_>, CheckpointError> {
    bounded("the weights", bytes.len() as u64, WEIGHTS_BYTES_MAX)?;
    SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Format(error.to_string()))
}

pub(crate) fn refuse_unknown<'a>(
    file: &SafeTensors<'_>,
    known: impl Iterator<Item = &'a str>,
) -> Result<(), CheckpointError> {
    let known: std::collections::BTreeSet<&str> = known.collect();
    let mut names = file.names();
    names.sort_unstable();
    match names.into_iter().find(|name| !known.contains(name)) {
        Some(name) => Err(CheckpointError::UnknownTensor(name.to_owned())),
        None => Ok(()),
    }
}

pub(crate) fn read_tensor(
    file: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, CheckpointError> {
    let tensor = expect_tensor(file, name, Dtype::F32, shape)?;
    let values: Vec<f32> = tensor
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect();
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(CheckpointError::NotFinite(name.to_owned()))
    }
}

fn raw<const N: usize>(file: &SafeTensors<'_>, name: &str) -> Result<[u8; N], CheckpointError> {
    let tensor = expect_tensor(file, name, Dtype::U8, &[N])?;
    let mut bytes = [0; N];
    bytes.copy_from_slice(tensor.data());
    Ok(bytes)
}

fn expect_tensor<'a>(
    file: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<TensorView<'a>, CheckpointError> {
    let missing = |_| CheckpointError::MissingTensor(name.to_owned());
    let tensor = file.tensor(name).map_err(missing)?;
    if tensor.dtype() == dtype && tensor.shape() == shape {
        return Ok(tensor);
    }
    Err(CheckpointError::Shape {
        name: name.to_owned(),
        found: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
        expected: format!("{dtype:?} {shape:?}"),
    })
}

pub(crate) fn view(shape: Vec<usize>, bytes: &[u8]) -> TensorView<'_> {
    #[expect(
        clippy::expect_used,
        reason = "the bytes were cut to the shape by the layout"
    )]
    TensorView::new(Dtype::F32, shape, bytes).expect("four bytes per element")
}

pub(crate) fn u8_view(bytes: &[u8]) -> TensorView<'_> {
    #[expect(clippy::expect_used, reason = "one byte per element")]
    TensorView::new(Dtype::U8, vec![bytes.len()], bytes).expect("one byte per element")
}

pub(crate) fn serialize<'a>(views: impl IntoIterator<Item = (String, TensorView<'a>)>) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "serialising to memory fails only for invalid views"
    )]
    safetensors::serialize(views, None).expect("views are valid")
}

pub(crate) fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(crate) fn bounded(what: &'static str, found: u64, limit: usize) -> Result<(), CheckpointError> {
    if found <= limit as u64 {
        return Ok(());
    }
    Err(CheckpointError::TooLarge { what, found, limit })
}

fn read_bounded(path: &Path, what: &'static str, limit: usize) -> Result<Vec<u8>, CheckpointError> {
    let io = |reason| CheckpointError::Io {
        act: "read",
        path: path.to_owned(),
        reason,
    };
    bounded(what, fs::metadata(path).map_err(io)?.len(), limit)?;
    fs::read(path).map_err(io)
}

/// Writes a file under a temporary name, syncs and renames it.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let io = |reason| CheckpointError::Io {
        act: "write",
        path: path.to_owned(),
        reason,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    fs::rename(&temporary, path).map_err(io)
}
