//! `model inspect`: what the files of a model say.

use std::path::{Path, PathBuf};

use riftmesh_learning::checkpoint::{Checkpoint, Manifest};
use riftmesh_learning::evaluator::check_fits;
use riftmesh_rules::Configuration;
use serde::Serialize;

use super::Exit;
use super::model_files::ModelFiles;
use super::output::{data, json, table};

/// A tensor with the size of its numbers.
#[derive(Debug, Serialize)]
struct TensorLine {
    name: String,
    shape: Vec<usize>,
    /// Root of the mean square of its numbers.
    rms: f64,
    largest: f32,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Inspection {
    manifest_file: PathBuf,
    weights_file: PathBuf,
    manifest: Manifest,
    parameters: usize,
    /// Why this build cannot play with it, if it cannot.
    unfit: Option<String>,
    tensors: Vec<TensorLine>,
}

/// Reads a model strictly and prints what it is. Fails when a file is damaged or this build cannot play with it.
pub fn run(path: &Path, weights: Option<&Path>, as_json: bool) -> anyhow::Result<Exit> {
    let files = ModelFiles::find(path, weights)?;
    let checkpoint = files.read()?;
    let found = Inspection {
        parameters: checkpoint.weights.values.len(),
        unfit: unfit(&checkpoint),
        tensors: tensors(&checkpoint),
        manifest_file: files.manifest,
        weights_file: files.weights,
        manifest: checkpoint.manifest,
    };
    if as_json {
        json(&found)?;
    } else {
        found.print();
    }
    Ok(Exit::of(found.unfit.is_none()))
}

fn unfit(checkpoint: &Checkpoint) -> Option<String> {
    match Configuration::try_from(&checkpoint.manifest.configuration) {
        Ok(configuration) => check_fits(checkpoint, configuration)
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn tensors(checkpoint: &Checkpoint) -> Vec<TensorLine> {
    let line = |tensor: &riftmesh_learning::weights::TensorSpec| {
        let values = &checkpoint.weights.values[tensor.range.clone()];
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        TensorLine {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            rms: (squares / values.len().max(1) as f64).sqrt(),
            largest: values
                .iter()
                .fold(0.0, |largest, value| value.abs().max(largest)),
        }
    };
    let layout = &checkpoint.weights.layout;
    layout.tensors().iter().map(line).collect()
}

impl Inspection {
    fn print(&self) {
        let manifest = &self.manifest;
        table(
            &["TENSOR", "SHAPE", "RMS", "LARGEST"],
            self.tensors.iter().map(|tensor| {
                vec![
                    tensor.name.clone(),
                    format!("{:?}", tensor.shape),
                    format!("{:.4}", tensor.rms),
                    format!("{:.4}", tensor.largest),
                ]
            }),
        );
        data(&format!(
            "{} of {}: {}, {} parameters, {} steps on {} rows, seed {}",
            manifest.weights,
            manifest.configuration,
            manifest.shape,
            self.parameters,
            manifest.steps,
            manifest.rows,
            manifest.seed
        ));
        let parent = manifest
            .parent
            .map_or_else(|| "none".to_owned(), |parent| parent.to_string());
        data(&format!("  parent    {parent}"));
        data(&format!(
            "  window    {} segments, {} games, {} rows",
            manifest.data.segments, manifest.data.games, manifest.data.rows
        ));
        data(&format!(
            "  made by   {}; codec {}, encoder {}",
            manifest.revision, manifest.codec, manifest.encoder
        ));
        for (name, value) in &manifest.metrics {
            data(&format!("  {name:<26} {value:.4}"));
        }
        if let Some(unfit) = &self.unfit {
            data(&format!("  cannot be played by this build: {unfit}"));
        }
    }
}
