//! Training: it fits what it is shown, it is reproducible, and it resumes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use riftmesh_base::Seed;
use riftmesh_learning::checkpoint::{Checkpoint, optimizer_from_bytes};
use riftmesh_learning::optimizer::OptimizerSettings;
use riftmesh_learning::resume::TrainPause;
use riftmesh_learning::train::{
    TrainError, TrainFollower, TrainJob, TrainOutcome, TrainProgress, TrainSettings, TrainWish,
    train, train_on,
};
use riftmesh_learning::window::WindowSettings;
use riftmesh_learning::{Backend, NetShape};

use crate::common::{hex8, job, segment};

fn training(segments: Vec<PathBuf>, steps: u64) -> TrainJob {
    TrainJob {
        configuration: hex8(),
        shape: NetShape::Tiny,
        segments,
        parent: None,
        optimizer: None,
        seed: Seed(21),
        settings: TrainSettings {
            batch: 32,
            steps_max: steps,
            reuse_max: None,
            validation_share: 0.0,
            ..TrainSettings::default()
        },
        revision: "test".to_owned(),
    }
}

fn run(job: &TrainJob) -> TrainOutcome {
    train(job, Backend::Cpu, &mut |_| {}, &AtomicBool::new(false)).unwrap()
}

/// The rows of four games are learned until little but the targets' own entropy is left: the policy to within 0.05, and
/// who won.
#[test]
fn a_few_games_are_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = training(
        vec![segment(&job(hex8(), 4, 4, 1), folder.path(), "s")],
        600,
    );
    job.settings.search_share = 0.0;
    job.settings.optimizer = OptimizerSettings {
        rate: 4e-3,
        warmup_steps: 10,
        decay: 0.0,
        ..OptimizerSettings::default()
    };
    let mut first = None;
    let mut progress = |progress: riftmesh_learning::train::TrainProgress| {
        first.get_or_insert(progress.losses);
    };
    let outcome = train(&job, Backend::Cpu, &mut progress, &AtomicBool::new(false)).unwrap();
    let gap = |losses: riftmesh_learning::loss::HeadLosses| losses.policy - losses.policy_entropy;
    let (before, after) = (gap(first.unwrap()), gap(outcome.training));
    assert!(after < 0.05, "policy gap {before} to {after}");
    assert!(outcome.training.value < 0.2, "{:?}", outcome.training);
}

/// The same seed and segments give the same checkpoint, twice; resumed training goes on from where it stopped.
#[test]
fn training_is_reproducible_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let segments = vec![segment(&job(hex8(), 1, 2, 2), folder.path(), "s")];
    let first = run(&training(segments.clone(), 3));
    let again = run(&training(segments.clone(), 3));
    assert_eq!(first.checkpoint, again.checkpoint);
    assert_eq!(first.optimizer, again.optimizer);

    let manifest = first.checkpoint.manifest_bytes();
    let parent = Checkpoint::from_bytes(&manifest, &first.checkpoint.weights_bytes()).unwrap();
    let state = optimizer_from_bytes(
        &first.optimizer_bytes(),
        parent.weights.values.len(),
        parent.manifest.weights,
    );
    let mut more = training(segments.clone(), 2);
    more.settings.reuse_max = Some(1e6);
    more.optimizer = Some(state.unwrap());
    more.parent = Some(parent);
    // A second segment makes new rows; without any the run takes a single step.
    more.segments
        .push(segment(&job(hex8(), 1, 2, 3), folder.path(), "t"));
    let resumed = run(&more);
    let manifest = &resumed.checkpoint.manifest;
    assert_eq!((manifest.steps, resumed.optimizer.steps), (5, 5));
    assert_eq!(manifest.parent, Some(first.checkpoint.manifest.weights));
    assert_eq!(manifest.data.segments, 2);
    assert_eq!(resumed.checkpoint, run(&more).checkpoint);
}

/// Wants the run saved after so many steps, once.
struct SaveOnce {
    after: u64,
    asked: u64,
    saved: Option<TrainPause>,
}

impl TrainFollower for SaveOnce {
    fn progress(&mut self, _progress: TrainProgress) {}

    fn wish(&mut self) -> TrainWish {
        self.asked += 1;
        match self.asked > self.after && self.saved.is_none() {
            true => TrainWish::Save,
            false => TrainWish::GoOn,
        }
    }

    fn save(&mut self, pause: TrainPause) {
        self.saved = Some(pause);
    }
}

/// A run that was stopped, or saved, between two steps goes on from its file and ends with the network, the optimiser and
/// the figures of a run that never was; one with other data does not go on from it.
#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let segments = vec![segment(&job(hex8(), 6, 2, 4), folder.path(), "s")];
    let mut order = training(segments, 24);
    order.settings.batch = 8;
    order.settings.validation_share = 0.5;
    order.settings.validate_every = 7;
    let whole = run(&order);

    let stop = AtomicBool::new(false);
    let mut reports = |_| stop.store(true, Ordering::Relaxed);
    let part = train(&order, Backend::Cpu, &mut reports, &stop).unwrap();
    let pause = part.pause.unwrap();
    assert_eq!((part.steps, pause.steps()), (20, 20));
    let bytes = pause.to_bytes();
    let parameters = part.checkpoint.weights.values.len();
    let pause = TrainPause::from_bytes(&bytes, parameters).unwrap();
    let mut saving = SaveOnce {
        after: 9,
        asked: 0,
        saved: None,
    };
    let saved = train_on(&order, None, Backend::Cpu, &mut saving).unwrap();
    assert_eq!(saved.checkpoint, whole.checkpoint);
    assert_eq!(saved.pause, None);
    let save = saving.saved.clone().unwrap();
    assert_eq!(save.steps(), 9);
    let rest = train_on(&order, Some(save), Backend::Cpu, &mut saving).unwrap();
    assert_eq!(rest.checkpoint, whole.checkpoint);

    let mut go_on =
        |order: &TrainJob| train_on(order, Some(pause.clone()), Backend::Cpu, &mut saving);
    let rest = go_on(&order).unwrap();
    assert_eq!(rest.checkpoint, whole.checkpoint);
    assert_eq!(rest.optimizer, whole.optimizer);
    assert_eq!((rest.steps, rest.pause), (24, None));

    order
        .segments
        .push(segment(&job(hex8(), 1, 2, 5), folder.path(), "t"));
    assert!(matches!(go_on(&order), Err(TrainError::OtherRun("data"))));
    for cut in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        assert!(TrainPause::from_bytes(&bytes[..cut], parameters).is_err());
    }
    assert!(TrainPause::from_bytes(&bytes, parameters + 1).is_err());
}

/// Segments that were given as the window all train; a run that has to choose takes the newest.
#[test]
fn a_window_given_is_not_cut_again() {
    let folder = tempfile::tempdir().unwrap();
    let segments = ["a", "b"].map(|name| {
        let seed = u64::from(name.as_bytes()[0]);
        segment(&job(hex8(), 1, 2, seed), folder.path(), name)
    });
    let mut order = training(segments.to_vec(), 1);
    let segments_used = |order: &TrainJob| run(order).checkpoint.manifest.data.segments;
    order.settings.window = Some(WindowSettings {
        floor_rows: 1,
        power: 0.0,
    });
    assert_eq!(segments_used(&order), 1);
    order.settings.window = None;
    assert_eq!(segments_used(&order), 2);
}

/// A run without anything to learn says why instead of shipping a network.
#[test]
fn nothing_to_learn_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = segment(&job(hex8(), 1, 2, 4), folder.path(), "s");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let job = training(vec![path], 1);
    let error = train(&job, Backend::Cpu, &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::NoRows { .. }), "{error}");
    assert!(error.to_string().contains("Damaged"), "{error}");
}
