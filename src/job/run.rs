//! The three runners: self-play, training, evaluation. Each turns an assignment into calls of the learning crate and
//! its result into files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use riftmesh_base::{BlobHash, Seed};
use riftmesh_learning::checkpoint::{Checkpoint, optimizer_from_bytes, write_whole};
use riftmesh_learning::device::{Backend, DeviceChoice};
use riftmesh_learning::evaluator::{CountingEvaluator, NetEvaluator, dims_of};
use riftmesh_learning::optimizer::OptimizerState;
use riftmesh_learning::record::GameRecord;
use riftmesh_learning::resume::TrainPause;
use riftmesh_learning::segment::{Segment, SegmentWriter};
use riftmesh_learning::selfplay::{self, SelfPlayJob, SelfPlaySettings};
use riftmesh_learning::teacher::HeuristicEvaluator;
use riftmesh_learning::train::{TrainError, TrainJob, TrainSettings, train_on, untrained};
use riftmesh_learning::weights::{Layout, NetShape};
use riftmesh_rules::Configuration;
use riftmesh_search::SearchSettings;

use super::judge::Pairing;
use super::payload::{Beginner, Payload, TrainOrder};
use super::save::Saver;
use super::wire::{Assignment, Made, Saved};

/// Games in play at a time: one batch of the evaluator.
pub const CONCURRENT: usize = 32;
/// Time between two progress lines.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// Optimiser states kept on a worker, newest first.
const OPTIMIZERS_KEPT: usize = 8;
/// Which program made a network.
pub const REVISION: &str = concat!("riftmesh ", env!("CARGO_PKG_VERSION"));

/// Why a job was not done.
#[derive(Debug)]
pub struct JobError {
    /// What went wrong.
    pub error: anyhow::Error,
    /// Whether another attempt could help.
    pub retry: bool,
}

impl From<anyhow::Error> for JobError {
    fn from(error: anyhow::Error) -> Self {
        Self { error, retry: true }
    }
}

/// An error that no repetition mends.
pub(super) fn hopeless(error: impl Into<anyhow::Error>) -> JobError {
    JobError {
        error: error.into(),
        retry: false,
    }
}

/// How far a job is, in the kind's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// Done.
    pub done: u64,
    /// Out of.
    pub total: u64,
    /// What else there is to say, by name: losses of training, rows of self-play, wins of a match.
    pub figures: Vec<(&'static str, f64)>,
}

/// Hears how a job goes.
pub trait JobListener {
    /// How far it is.
    fn advance(&mut self, advance: Advance);
    /// From where it can go on if this process is lost.
    fn saved(&mut self, saved: Saved);
}

/// For jobs that are not asked to save; see [`Assignment::save_every`].
impl<F: FnMut(Advance)> JobListener for F {
    fn advance(&mut self, advance: Advance) {
        self(advance);
    }

    fn saved(&mut self, _saved: Saved) {}
}

/// Says how far a job is, not too often.
pub(super) struct Progress<'a> {
    pub(super) listener: &'a mut dyn JobListener,
    said: Option<Instant>,
    pub(super) stop: &'a AtomicBool,
}

impl Progress<'_> {
    pub(super) fn report<const N: usize>(
        &mut self,
        done: u64,
        total: u64,
        figures: [(&'static str, f64); N],
    ) {
        if done == total || self.said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            let figures = figures.to_vec();
            self.listener.advance(Advance {
                done,
                total,
                figures,
            });
        }
    }
}

/// What all runners need.
pub(super) struct Bench<'a> {
    pub(super) assignment: &'a Assignment,
    pub(super) configuration: Configuration,
    backend: Backend,
}

/// What a job came to.
#[derive(Debug)]
pub struct JobOutcome {
    /// All that was asked for, or what is whole of it.
    pub made: Made,
    /// What is left to do.
    pub left: Left,
}

/// What is left of a job that ended.
#[derive(Debug)]
pub enum Left {
    /// Nothing: it is done.
    Nothing,
    /// A part, and another attempt can go on from here.
    Rest(Pause),
    /// A part, and another attempt has to begin anew.
    All,
}

/// Where a job stopped.
#[derive(Debug)]
pub enum Pause {
    /// The segment that was made has the games so far.
    Games(u64),
    /// A training run between two steps.
    Training(Box<TrainPause>),
}

/// Does what the assignment says. When `stop` is set it ends soon with what is whole: finished games, the network as it
/// is, pairs of games.
///
/// # Errors
/// See [`JobError`]; files may be left in the scratch directory.
pub fn run(
    assignment: &Assignment,
    listener: &mut dyn JobListener,
    stop: &AtomicBool,
) -> Result<JobOutcome, JobError> {
    let configuration = Configuration::try_from(&assignment.configuration).map_err(hopeless)?;
    let choice: DeviceChoice = assignment.device.parse().map_err(hopeless)?;
    let backend = Backend::resolve(choice).map_err(hopeless)?;
    let bench = Bench {
        assignment,
        configuration,
        backend,
    };
    let mut progress = Progress {
        listener,
        said: None,
        stop,
    };
    match &assignment.payload {
        Payload::Selfplay {
            beginner,
            seed,
            games,
            simulations,
            full_percent,
            shape,
        } => {
            let mut player = bench.player(*beginner, shape, *seed)?;
            let settings = SelfPlaySettings {
                games: (*games).into(),
                concurrent: CONCURRENT.min(*games as usize),
                search: SearchSettings::gumbel(*simulations),
                full_share: f64::from(*full_percent) / 100.0,
                ..SelfPlaySettings::default()
            };
            bench.selfplay(player.as_mut(), settings, &mut progress)
        }
        Payload::Train(order) => bench.train(order, &mut progress),
        Payload::Evaluate {
            seed,
            shape,
            candidate,
            opponent,
            games,
        } => {
            let pairing = Pairing {
                run_seed: *seed,
                shape,
                candidate,
                opponent,
            };
            bench.judge(&pairing, *games, &mut progress)
        }
    }
}

impl Bench<'_> {
    fn selfplay(
        &self,
        player: &mut dyn CountingEvaluator,
        settings: SelfPlaySettings,
        progress: &mut Progress<'_>,
    ) -> Result<JobOutcome, JobError> {
        let Assignment {
            champion,
            job,
            seed,
            ..
        } = self.assignment;
        let job = SelfPlayJob {
            configuration: self.configuration,
            job: *job,
            seed: *seed,
            model: *champion,
            settings,
        };
        let earlier = self.earlier_games(&job);
        let file = self.assignment.out.join("games.segment");
        let mut writer = SegmentWriter::create(&file, &job.header()).context("segment")?;
        let stop = progress.stop;
        let mut report = |done: selfplay::SelfPlayProgress| {
            let figures = [
                ("rows", done.rows as f64),
                ("evaluations", done.evaluator.evaluations as f64),
                ("batch", done.evaluator.batch_mean()),
            ];
            progress.report(done.games, done.games_planned, figures);
        };
        selfplay::play_rest(
            &job,
            earlier,
            player,
            &mut |game| writer.push(&game),
            &mut report,
            stop,
        )
        .context("self-play")?;
        let summary = writer.finish().context("segment")?;
        let rows = u32::try_from(summary.rows).map_err(hopeless)?;
        let games = u64::from(summary.games);
        let left = match games {
            all if all == settings.games => Left::Nothing,
            0 => Left::All,
            part => Left::Rest(Pause::Games(part)),
        };
        let games = summary.games;
        let made = Made::Segment { file, games, rows };
        Ok(JobOutcome { made, left })
    }

    /// The games of an earlier attempt at this job, if it left any.
    fn earlier_games(&self, job: &SelfPlayJob) -> Vec<GameRecord> {
        let Some(path) = &self.assignment.resume else {
            return Vec::new();
        };
        match Segment::read(path) {
            Ok(segment) if segment.header == job.header() => segment.games,
            Ok(_) => {
                say("the games so far are of another job or model; it begins anew");
                Vec::new()
            }
            Err(error) => {
                say(&format!(
                    "the games so far cannot be read: {error}; the job begins anew"
                ));
                Vec::new()
            }
        }
    }

    /// Who plays: the champion, or a beginner while there is none.
    fn player(
        &self,
        beginner: Beginner,
        shape: &str,
        run_seed: Seed,
    ) -> Result<Box<dyn CountingEvaluator>, JobError> {
        let checkpoint = match (&self.assignment.champion, beginner) {
            (Some(model), _) => self.checkpoint(model)?,
            // All jobs of a run play the same one.
            (None, Beginner::Untrained) => self.untrained(shape, run_seed, 0)?,
            (None, Beginner::Heuristic) => return Ok(Box::new(HeuristicEvaluator::default())),
        };
        Ok(Box::new(self.evaluator(&checkpoint)?))
    }

    fn train(
        &self,
        order: &TrainOrder,
        progress: &mut Progress<'_>,
    ) -> Result<JobOutcome, JobError> {
        let parent = order
            .parent
            .map(|model| self.checkpoint(&model))
            .transpose()?;
        let optimizer = parent.as_ref().and_then(|parent| self.optimizer(parent));
        let job = TrainJob {
            configuration: self.configuration,
            shape: net_shape(&order.shape)?,
            segments: order
                .segments
                .iter()
                .map(|hash| self.input(hash))
                .collect::<Result<_, _>>()?,
            parent,
            optimizer,
            seed: self.assignment.seed,
            settings: TrainSettings {
                batch: order.batch as usize,
                steps_max: order.steps,
                // The leader has chosen the window and counted the rows of the whole ledger, of which this job sees a part.
                reuse_max: None,
                window: None,
                ..TrainSettings::default()
            },
            revision: REVISION.to_owned(),
        };
        let mut follower = Saver::new(progress, self.assignment);
        let outcome = match train_on(
            &job,
            self.paused_training(&job),
            self.backend,
            &mut follower,
        ) {
            Err(error @ TrainError::OtherRun(_)) => {
                say(&format!("{error}; it begins anew"));
                train_on(&job, None, self.backend, &mut follower)
            }
            outcome => outcome,
        };
        let mut outcome = outcome.context("training")?;
        let (weights, manifest) = (
            self.assignment.out.join("weights"),
            self.assignment.out.join("manifest"),
        );
        outcome
            .checkpoint
            .write(&manifest, &weights)
            .context("checkpoint")?;
        self.keep_optimizer(
            outcome.checkpoint.manifest.weights,
            &outcome.optimizer_bytes(),
        )?;
        let made = Made::Model {
            weights,
            manifest,
            steps: outcome.checkpoint.manifest.steps,
        };
        let left = match outcome.pause.take() {
            None => Left::Nothing,
            Some(pause) if pause.steps() == 0 => Left::All,
            Some(pause) => Left::Rest(Pause::Training(Box::new(pause))),
        };
        Ok(JobOutcome { made, left })
    }

    /// Where an earlier attempt at this job stopped, if it left that.
    fn paused_training(&self, job: &TrainJob) -> Option<TrainPause> {
        let path = self.assignment.resume.as_ref()?;
        let parameters = Layout::new(dims_of(job.shape, job.configuration)).len();
        let pause = fs::read(path)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Ok(TrainPause::from_bytes(&bytes, parameters)?));
        pause
            .map_err(|error| {
                say(&format!(
                    "the run so far cannot be read: {error:#}; it begins anew"
                ))
            })
            .ok()
    }

    pub(super) fn evaluator(&self, checkpoint: &Checkpoint) -> Result<NetEvaluator, JobError> {
        NetEvaluator::from_checkpoint(checkpoint, self.configuration, self.backend)
            .map_err(hopeless)
    }

    /// One of a run's untrained networks.
    pub(super) fn untrained(
        &self,
        shape: &str,
        run_seed: Seed,
        draw: u64,
    ) -> Result<Checkpoint, JobError> {
        Ok(untrained(
            self.configuration,
            net_shape(shape)?,
            run_seed.derive("untrained", draw),
            REVISION,
        ))
    }

    pub(super) fn checkpoint(&self, model: &BlobHash) -> Result<Checkpoint, JobError> {
        let manifest = self.assignment.manifests.get(model);
        let manifest = manifest
            .with_context(|| format!("model {} came without its manifest", model.short()))?;
        Ok(Checkpoint::read(manifest, &self.input(model)?)
            .with_context(|| format!("model {}", model.short()))?)
    }

    fn input(&self, hash: &BlobHash) -> Result<PathBuf, JobError> {
        let path = self.assignment.inputs.get(hash);
        Ok(path
            .with_context(|| format!("the job came without its input {}", hash.short()))?
            .clone())
    }

    /// The optimiser as it was after the parent's training, if that was done on this worker. Elsewhere the optimiser
    /// starts anew, which costs some steps and nothing else.
    fn optimizer(&self, parent: &Checkpoint) -> Option<OptimizerState> {
        let model = parent.manifest.weights;
        let bytes = fs::read(self.optimizer_path(model)).ok()?;
        let state = optimizer_from_bytes(&bytes, parent.weights.values.len(), model);
        state
            .map_err(|error| say(&format!("the optimiser starts anew: {error}")))
            .ok()
    }

    fn keep_optimizer(&self, model: BlobHash, bytes: &[u8]) -> Result<(), JobError> {
        let dir = &self.assignment.optimizers;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        write_whole(&self.optimizer_path(model), bytes).context("optimiser state")?;
        Ok(forget_old(dir).with_context(|| format!("cannot tidy {}", dir.display()))?)
    }

    fn optimizer_path(&self, model: BlobHash) -> PathBuf {
        self.assignment
            .optimizers
            .join(format!("{model}.safetensors"))
    }
}

fn net_shape(name: &str) -> Result<NetShape, JobError> {
    name.parse()
        .map_err(|unknown: riftmesh_learning::weights::UnknownShape| hopeless(unknown))
}

/// Removes all but the newest states.
fn forget_old(dir: &Path) -> std::io::Result<()> {
    let mut files = fs::read_dir(dir)?
        .map(|entry| entry.and_then(|entry| Ok((entry.metadata()?.modified()?, entry.path()))))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let excess = files.len().saturating_sub(OPTIMIZERS_KEPT);
    files
        .iter()
        .take(excess)
        .try_for_each(|(_, path)| fs::remove_file(path))
}

/// A word for the node's log: a child's stderr.
fn say(text: &str) {
    crate::cli::talk(text);
}
