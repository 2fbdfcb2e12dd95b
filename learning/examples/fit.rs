//! Trains a fresh tiny network on the replay segments of a folder and prints the losses on games kept apart. For tuning.
//!
//! `cargo run --release -p riftmesh-learning --example fit -- hex8_2p FOLDER 800 0.5 0.0001 128 2e-3`
//! (configuration, folder with segments, steps, share of the search's opinion, weight decay, batch, learning rate)

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use riftmesh_base::Seed;
use riftmesh_learning::segment::Segment;
use riftmesh_learning::train::{TrainJob, TrainSettings, train};
use riftmesh_learning::{Backend, NetShape};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |index: usize, default: &str| arguments.get(index).map_or(default, |text| text).to_owned();
    let mut settings = TrainSettings {
        steps_max: argument(2, "800").parse()?,
        search_share: argument(3, "0.5").parse()?,
        batch: argument(5, "128").parse()?,
        reuse_max: None,
        window: None,
        validation_share: 0.2,
        validation_rows_max: 8_192,
        ..TrainSettings::default()
    };
    settings.optimizer.decay = argument(4, "0.0001").parse()?;
    settings.optimizer.rate = argument(6, "2e-3").parse()?;
    settings.patience = u32::MAX;
    let job = TrainJob {
        configuration: argument(0, "hex8_2p").parse()?,
        shape: NetShape::Tiny,
        segments: segments(Path::new(&argument(1, ".")))?,
        parent: None,
        optimizer: None,
        seed: Seed(1),
        settings,
        revision: "example".to_owned(),
    };
    let outcome = train(&job, Backend::Cpu, &mut |_| {}, &AtomicBool::new(false))?;
    let range = outcome.checkpoint.manifest.data;
    let (held, seen) = (outcome.validation.unwrap_or_default(), outcome.training);
    writeln!(
        std::io::stdout(),
        "{} games {} rows, {} steps: policy {:.3} kept apart {:.3} (targets {:.3}), value {:.3} kept apart {:.4}, rank {:.3}, scores {:.3}",
        range.games,
        range.rows,
        outcome.steps,
        seen.policy,
        held.policy,
        held.policy_entropy,
        seen.value,
        held.value,
        held.rank,
        held.scores
    )?;
    Ok(())
}

/// Every file below `folder` that is a segment.
fn segments(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(segments(&path)?);
        } else if Segment::read(&path).is_ok() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
