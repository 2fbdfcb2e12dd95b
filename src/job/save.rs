//! Training that is written down while it goes on, so that a lost process loses minutes.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use riftmesh_learning::checkpoint::write_whole;
use riftmesh_learning::resume::TrainPause;
use riftmesh_learning::train::{TrainFollower, TrainProgress, TrainWish};

use super::run::Progress;
use super::wire::{Assignment, Saved};

/// Follows a training run for the node.
pub(super) struct Saver<'a, 'b> {
    progress: &'a mut Progress<'b>,
    folder: &'a Path,
    every: Option<Duration>,
    last: Instant,
    written: u64,
}

impl<'a, 'b> Saver<'a, 'b> {
    pub(super) fn new(progress: &'a mut Progress<'b>, assignment: &'a Assignment) -> Self {
        Self {
            progress,
            folder: &assignment.out,
            every: assignment.save_every.map(|every| every.duration()),
            last: Instant::now(),
            written: 0,
        }
    }
}

impl TrainFollower for Saver<'_, '_> {
    fn progress(&mut self, progress: TrainProgress) {
        let figures = progress.losses.named();
        let figures = figures.map(|(name, loss)| (name, f64::from(loss)));
        self.progress
            .report(progress.steps, progress.steps_planned, figures);
    }

    fn wish(&mut self) -> TrainWish {
        if self.progress.stop.load(Ordering::Relaxed) {
            return TrainWish::Stop;
        }
        match self.every {
            Some(every) if self.last.elapsed() >= every => TrainWish::Save,
            _ => TrainWish::GoOn,
        }
    }

    fn save(&mut self, pause: TrainPause) {
        self.last = Instant::now();
        self.written += 1;
        // The node may still be reading the one before.
        let file = self.folder.join(format!("save-{}", self.written % 2));
        match write_pause(&pause, file) {
            Ok(saved) => self.progress.listener.saved(saved),
            Err(error) => crate::cli::talk(&format!("not saved this time: {error:#}")),
        }
    }
}

/// Writes down how far a run is.
pub(super) fn write_pause(pause: &TrainPause, file: PathBuf) -> anyhow::Result<Saved> {
    write_whole(&file, &pause.to_bytes()).context("checkpoint")?;
    let done = pause.steps();
    Ok(Saved { file, done })
}
