//! Training a network on a window of replay segments.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use riftmesh_base::{BlobHash, Seed};
use riftmesh_rules::Configuration;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    Checkpoint, CheckpointError, DataRange, MANIFEST_VERSION, Manifest, optimizer_to_bytes,
};
use crate::codec::CODEC_VERSION;
use crate::device::Backend;
use crate::encode::ENCODER_VERSION;
use crate::evaluator::{check_fits, dims_of};
use crate::frame::Frame;
use crate::gates::DataGate;
use crate::gradient::{GradientEngine, engine};
use crate::loss::{HeadLosses, LossWeights};
use crate::optimizer::{OptimizerSettings, OptimizerState};
use crate::replay::Reject;
use crate::resume::{PauseNotes, TrainPause};
use crate::rows::TrainingRow;
use crate::segment::{Segment, SegmentError};
use crate::weights::{NetShape, Weights};
use crate::window::{RowStream, WindowGame, WindowSettings};

/// Settings of a training run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Rows per step.
    pub batch: usize,
    /// Most steps of the run.
    pub steps_max: u64,
    /// Most training rows used per row that is new since the parent (4, in short runs 8); none where `steps_max` alone
    /// decides because whoever ordered the run has counted the rows.
    pub reuse_max: Option<f64>,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Weights of the heads.
    pub loss: LossWeights,
    /// Share of the search's root value in the value target, 0 to 1; the rest is the winner. Validation always uses the
    /// winner alone.
    pub search_share: f32,
    /// How far back the run looks; none where the segments given are the window.
    pub window: Option<WindowSettings>,
    /// Share of the games kept for validation.
    pub validation_share: f64,
    /// Most rows the validation loss is measured on.
    pub validation_rows_max: usize,
    /// The validation loss is measured every so many steps, and at the end.
    pub validate_every: u64,
    /// Measurements without a new least validation loss after which the run stops early.
    pub patience: u32,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            batch: 128,
            steps_max: 1_000,
            reuse_max: Some(4.0),
            optimizer: OptimizerSettings::default(),
            loss: LossWeights::default(),
            search_share: 0.5,
            window: Some(WindowSettings::default()),
            validation_share: 0.05,
            validation_rows_max: 512,
            validate_every: 200,
            patience: 3,
        }
    }
}

/// What to train on and from.
#[derive(Debug, Clone)]
pub struct TrainJob {
    /// Board and number of players.
    pub configuration: Configuration,
    /// Shape of the network.
    pub shape: NetShape,
    /// Replay segments, oldest first.
    pub segments: Vec<PathBuf>,
    /// The network to go on from, none for a fresh start.
    pub parent: Option<Checkpoint>,
    /// Its optimiser's state; without it the optimiser starts anew from the parent's weights.
    pub optimizer: Option<OptimizerState>,
    /// Seed of fresh weights and of the order of rows.
    pub seed: Seed,
    /// Settings.
    pub settings: TrainSettings,
    /// Source revision, for the manifest.
    pub revision: String,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainProgress {
    /// Steps taken in this run.
    pub steps: u64,
    /// Steps this run will take.
    pub steps_planned: u64,
    /// Mean losses since the last report.
    pub losses: HeadLosses,
}

/// What a run made.
#[derive(Debug)]
pub struct TrainOutcome {
    /// The averaged network with its manifest.
    pub checkpoint: Checkpoint,
    /// The optimiser's state after the last step.
    pub optimizer: OptimizerState,
    /// Steps of this run.
    pub steps: u64,
    /// Losses of the averaged network on the validation games, none if there were none.
    pub validation: Option<HeadLosses>,
    /// Losses over the last steps of training.
    pub training: HeadLosses,
    /// What the gates refused.
    pub rejected: BTreeMap<Reject, u64>,
    /// Where it stopped, if it was told to before it was through.
    pub pause: Option<TrainPause>,
}

impl TrainOutcome {
    /// The optimiser's file, bound to the checkpoint.
    pub fn optimizer_bytes(&self) -> Vec<u8> {
        optimizer_to_bytes(&self.optimizer, self.checkpoint.manifest.weights)
    }
}

/// Why a run made nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The parent does not fit the job.
    #[error("the parent cannot be trained on: {0}")]
    Parent(#[from] CheckpointError),
    /// A segment could not be read from disk; another worker may succeed.
    #[error("{0}")]
    Segment(SegmentError),
    /// No game of the segments may train.
    #[error("none of {segments} segments has a row that may train; refused: {rejected:?}")]
    NoRows {
        /// Segments given.
        segments: usize,
        /// Refusals by reason.
        rejected: BTreeMap<Reject, u64>,
    },
    /// The loss is not finite; the data or the settings are at fault.
    #[error("the loss is not finite at step {0}; lower the learning rate")]
    Diverged(u64),
    /// A run was to go on that was another one, or had other data; it can start anew.
    #[error("the paused run is not this one: its {0} differs")]
    OtherRun(&'static str),
}

/// Games of the window, split by what they are for.
struct Data {
    training: Vec<WindowGame>,
    validation: Vec<WindowGame>,
    range: DataRange,
    gate: DataGate,
}

/// What whoever follows a run wants before its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainWish {
    /// The step.
    GoOn,
    /// To be given the run as it is, and then the step.
    Save,
    /// No more steps.
    Stop,
}

/// Who follows a run, and may interrupt it between two steps.
pub trait TrainFollower {
    /// Hears how far the run is, every so many steps.
    fn progress(&mut self, progress: TrainProgress);
    /// Is asked before every step.
    fn wish(&mut self) -> TrainWish;
    /// Takes the run as it is, from which another run of the same job can go on.
    fn save(&mut self, pause: TrainPause);
}

/// Hears of progress, and may stop the run.
struct Listener<'a> {
    progress: &'a mut dyn FnMut(TrainProgress),
    stop: &'a AtomicBool,
}

impl TrainFollower for Listener<'_> {
    fn progress(&mut self, progress: TrainProgress) {
        (self.progress)(progress);
    }

    fn wish(&mut self) -> TrainWish {
        match self.stop.load(Ordering::Relaxed) {
            true => TrainWish::Stop,
            false => TrainWish::GoOn,
        }
    }

    /// Never wished for.
    fn save(&mut self, _pause: TrainPause) {}
}

/// Trains until the row budget or the step budget is used, the validation loss stops falling, or `stop` is set.
///
/// # Errors
/// [`TrainError`]; nothing is written anywhere in any case.
pub fn train(
    job: &TrainJob,
    backend: Backend,
    progress: &mut dyn FnMut(TrainProgress),
    stop: &AtomicBool,
) -> Result<TrainOutcome, TrainError> {
    train_on(job, None, backend, &mut Listener { progress, stop })
}

/// Like [`train`], from where an earlier run of the same job stopped if one did, under the eyes of `follower`. On the CPU the
/// outcome is that of a run that was never interrupted.
///
/// # Errors
/// [`TrainError`]; nothing is written anywhere in any case.
pub fn train_on(
    job: &TrainJob,
    pause: Option<TrainPause>,
    backend: Backend,
    follower: &mut dyn TrainFollower,
) -> Result<TrainOutcome, TrainError> {
    if let Some(parent) = &job.parent {
        check_fits(parent, job.configuration)?;
    }
    let data = load_data(job)?;
    let steps = planned_steps(job, &data);
    let mut run = Run::new(job, &data, backend);
    if let Some(pause) = pause {
        run.go_on(pause, data.range)?;
    }
    tracing::info!(%backend, engine = run.engine.name(), steps, from = run.taken(), "training starts");
    let stopped = run.steps(steps, data.range, follower)?;
    let training = match mean(&run.recent) {
        Some(recent) if stopped => recent,
        _ => run.last,
    };
    let validation = run.validate();
    let steps = run.taken();
    let checkpoint = run.checkpoint(data.range, steps, &training, validation.as_ref());
    Ok(TrainOutcome {
        checkpoint,
        pause: stopped.then(|| run.pause(data.range)),
        optimizer: run.optimizer,
        steps,
        validation,
        training,
        rejected: data.gate.rejected,
    })
}

/// Steps the row budget allows. A fresh network may use every row there is.
fn planned_steps(job: &TrainJob, data: &Data) -> u64 {
    let Some(reuse) = job.settings.reuse_max else {
        return job.settings.steps_max;
    };
    let seen = job
        .parent
        .as_ref()
        .map_or(0, |parent| parent.manifest.data.rows_available);
    let fresh = data.range.rows_available.saturating_sub(seen);
    let budget = fresh as f64 * reuse / job.settings.batch as f64;
    (budget.ceil() as u64).clamp(1, job.settings.steps_max)
}

fn load_data(job: &TrainJob) -> Result<Data, TrainError> {
    let mut gate = DataGate::new();
    let mut segments = Vec::new();
    for path in &job.segments {
        match Segment::read(path) {
            Ok(segment) => {
                if gate
                    .admit_segment(&segment.header, job.configuration)
                    .is_ok()
                {
                    segments.push(segment);
                }
            }
            Err(error) if error.is_damage() => gate.count(Reject::Damaged),
            Err(error) => return Err(TrainError::Segment(error)),
        }
    }
    let sizes: Vec<u64> = segments
        .iter()
        .map(|segment| segment.rows() as u64)
        .collect();
    let used = match &job.settings.window {
        Some(window) => window.segments(&sizes),
        None => segments.len(),
    };
    let window = segments.split_off(segments.len() - used);
    let mut games = Vec::new();
    for segment in window {
        for record in segment.games {
            if gate
                .admit_game(&segment.header, job.configuration, &record)
                .is_ok()
            {
                games.push(WindowGame::new(&segment.header, record));
            }
        }
    }
    let range = DataRange {
        segments: used as u64,
        games: games.len() as u64,
        rows: games.iter().map(|game| game.record.rows() as u64).sum(),
        rows_available: sizes.iter().sum(),
    };
    let share = job.settings.validation_share;
    let (validation, training): (Vec<_>, Vec<_>) =
        games.into_iter().partition(|game| game.validates(share));
    if training.iter().all(|game| game.record.rows() == 0) {
        return Err(TrainError::NoRows {
            segments: job.segments.len(),
            rejected: gate.rejected,
        });
    }
    Ok(Data {
        training,
        validation,
        range,
        gate,
    })
}

struct Run<'a> {
    job: &'a TrainJob,
    engine: Box<dyn GradientEngine>,
    stream: RowStream<'a>,
    validation: Vec<TrainingRow>,
    average: Weights,
    optimizer: OptimizerState,
    first_step: u64,
    best: Option<HeadLosses>,
    misses: u32,
    /// Losses since the last report.
    recent: Vec<HeadLosses>,
    /// Losses of the last report.
    last: HeadLosses,
}

impl<'a> Run<'a> {
    fn new(job: &'a TrainJob, data: &'a Data, backend: Backend) -> Self {
        let dims = dims_of(job.shape, job.configuration);
        let average = match &job.parent {
            Some(parent) => parent.weights.clone(),
            None => Weights::fresh(dims, job.seed),
        };
        let resumed = job
            .optimizer
            .clone()
            .filter(|state| state.live.len() == average.values.len());
        let optimizer = resumed.unwrap_or_else(|| OptimizerState::fresh(&average));
        let seed = job.seed.derive("train", optimizer.steps);
        let mut check = RowStream::new(
            job.configuration,
            &data.validation,
            job.seed.derive("validation", 0),
        );
        let available: usize = data.validation.iter().map(|game| game.record.rows()).sum();
        Self {
            job,
            engine: engine(backend, Frame::of(job.configuration.board())),
            stream: RowStream::new(job.configuration, &data.training, seed)
                .with_search_share(job.settings.search_share),
            validation: check.draw(available.min(job.settings.validation_rows_max)),
            first_step: optimizer.steps,
            average,
            optimizer,
            best: None,
            misses: 0,
            recent: Vec::new(),
            last: HeadLosses::default(),
        }
    }

    /// Steps of this run so far.
    fn taken(&self) -> u64 {
        self.optimizer.steps - self.first_step
    }

    /// Takes an earlier run of this job up where it stopped.
    fn go_on(&mut self, pause: TrainPause, data: DataRange) -> Result<(), TrainError> {
        let own = self.notes(data);
        let TrainPause {
            average,
            optimizer,
            notes,
        } = pause;
        let agreement = [
            ("seed", own.seed == notes.seed),
            ("parent", own.parent == notes.parent),
            ("data", own.data == notes.data),
            ("batch", own.batch == notes.batch),
            ("shape", self.average.values.len() == average.len()),
        ];
        if let Some((what, _)) = agreement.into_iter().find(|(_, agrees)| !agrees) {
            return Err(TrainError::OtherRun(what));
        }
        // The optimiser of the parent may have been at hand there and not here, or the other way round: the rows follow
        // from where it was.
        let seed = self.job.seed.derive("train", notes.first_step);
        self.stream.restart(seed);
        for _ in notes.first_step..notes.steps {
            self.stream.draw(self.job.settings.batch);
        }
        self.average.values = average;
        self.optimizer = optimizer;
        self.first_step = notes.first_step;
        self.best = notes.best;
        self.misses = notes.misses;
        self.recent = notes.recent;
        self.last = notes.last;
        Ok(())
    }

    fn notes(&self, data: DataRange) -> PauseNotes {
        let parent = self.job.parent.as_ref();
        PauseNotes {
            seed: self.job.seed,
            parent: parent.map(|parent| parent.manifest.weights),
            data,
            batch: self.job.settings.batch as u64,
            first_step: self.first_step,
            steps: self.optimizer.steps,
            best: self.best,
            misses: self.misses,
            recent: self.recent.clone(),
            last: self.last,
        }
    }

    fn pause(&self, data: DataRange) -> TrainPause {
        TrainPause {
            average: self.average.values.clone(),
            optimizer: self.optimizer.clone(),
            notes: self.notes(data),
        }
    }

    /// Takes the steps that are left; true if it was stopped before it was through.
    fn steps(
        &mut self,
        steps: u64,
        data: DataRange,
        follower: &mut dyn TrainFollower,
    ) -> Result<bool, TrainError> {
        const REPORT_EVERY: u64 = 20;
        for step in self.taken() + 1..=steps {
            match follower.wish() {
                TrainWish::GoOn => {}
                TrainWish::Save => follower.save(self.pause(data)),
                TrainWish::Stop => return Ok(true),
            }
            let losses = self.step()?;
            self.recent.push(losses);
            if step % REPORT_EVERY == 0 || step == steps {
                self.last = mean(&self.recent).unwrap_or(self.last);
                self.recent.clear();
                follower.progress(TrainProgress {
                    steps: step,
                    steps_planned: steps,
                    losses: self.last,
                });
            }
            if step % self.job.settings.validate_every == 0 && self.is_worse() {
                break;
            }
        }
        Ok(false)
    }

    fn step(&mut self) -> Result<HeadLosses, TrainError> {
        let settings = &self.job.settings;
        let rows = self.stream.draw(settings.batch);
        let live = Weights {
            layout: self.average.layout.clone(),
            values: std::mem::take(&mut self.optimizer.live),
        };
        let (losses, gradient) = self.engine.gradient(&live, &rows, &settings.loss);
        self.optimizer.live = live.values;
        if !losses.total(&settings.loss).is_finite() {
            return Err(TrainError::Diverged(self.optimizer.steps));
        }
        self.optimizer.step(
            &settings.optimizer,
            &live.layout,
            &gradient,
            &mut self.average.values,
        );
        Ok(losses)
    }

    /// Measures the validation loss; whether it has not fallen for too long.
    fn is_worse(&mut self) -> bool {
        let Some(losses) = self.validate() else {
            return false;
        };
        let total = |losses: &HeadLosses| losses.total(&self.job.settings.loss);
        match &self.best {
            Some(best) if total(&losses) >= total(best) => self.misses += 1,
            _ => {
                self.misses = 0;
                self.best = Some(losses);
            }
        }
        self.misses >= self.job.settings.patience
    }

    /// Losses of the average on the validation rows.
    fn validate(&mut self) -> Option<HeadLosses> {
        let mut mean = HeadLosses::default();
        for rows in self.validation.chunks(self.job.settings.batch) {
            let loss = &self.job.settings.loss;
            let losses = self.engine.losses(&self.average, rows, loss);
            mean.add(&losses, rows.len() as f32 / self.validation.len() as f32);
        }
        (!self.validation.is_empty()).then_some(mean)
    }

    fn checkpoint(
        &self,
        data: DataRange,
        steps: u64,
        training: &HeadLosses,
        validation: Option<&HeadLosses>,
    ) -> Checkpoint {
        let parent = self.job.parent.as_ref().map(|parent| &parent.manifest);
        let rows = steps * self.job.settings.batch as u64;
        let mut metrics = metrics_of("training", training);
        if let Some(validation) = validation {
            metrics.extend(metrics_of("validation", validation));
        }
        let mut checkpoint = Checkpoint {
            manifest: Manifest {
                version: MANIFEST_VERSION,
                weights: BlobHash([0; 32]),
                configuration: self.job.configuration.into(),
                shape: self.job.shape,
                dims: self.average.layout.dims,
                codec: CODEC_VERSION,
                encoder: ENCODER_VERSION,
                parent: parent.map(|parent| parent.weights),
                data,
                rows: rows + parent.map_or(0, |parent| parent.rows),
                steps: steps + parent.map_or(0, |parent| parent.steps),
                seed: self.job.seed,
                metrics,
                revision: self.job.revision.clone(),
            },
            weights: self.average.clone(),
        };
        checkpoint.manifest.weights = BlobHash::of(&checkpoint.weights_bytes());
        checkpoint
    }
}

fn mean(losses: &[HeadLosses]) -> Option<HeadLosses> {
    let mut mean = HeadLosses::default();
    for part in losses {
        mean.add(part, 1.0 / losses.len() as f32);
    }
    (!losses.is_empty()).then_some(mean)
}

fn metrics_of(prefix: &str, losses: &HeadLosses) -> BTreeMap<String, f64> {
    let named = losses.named().into_iter();
    named
        .map(|(name, loss)| (format!("{prefix}_{name}"), f64::from(loss)))
        .collect()
}

/// The checkpoint of a fresh network: the untrained player.
pub fn untrained(
    configuration: Configuration,
    shape: NetShape,
    seed: Seed,
    revision: &str,
) -> Checkpoint {
    let weights = Weights::fresh(dims_of(shape, configuration), seed);
    let mut checkpoint = Checkpoint {
        manifest: Manifest {
            version: MANIFEST_VERSION,
            weights: BlobHash([0; 32]),
            configuration: configuration.into(),
            shape,
            dims: weights.layout.dims,
            codec: CODEC_VERSION,
            encoder: ENCODER_VERSION,
            parent: None,
            data: DataRange::default(),
            rows: 0,
            steps: 0,
            seed,
            metrics: BTreeMap::new(),
            revision: revision.to_owned(),
        },
        weights,
    };
    checkpoint.manifest.weights = BlobHash::of(&checkpoint.weights_bytes());
    checkpoint
}
