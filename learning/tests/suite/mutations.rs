//! A thousand damaged segments and a thousand damaged models. Each is refused by its name or read as what was written;
//! none panics and none trains.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::{BlobHash, Seed, decode, encode};
use riftmesh_learning::checkpoint::{
    Checkpoint, CheckpointError, optimizer_from_bytes, optimizer_to_bytes,
};
use riftmesh_learning::decision::Decision;
use riftmesh_learning::evaluator::check_fits;
use riftmesh_learning::gates::DataGate;
use riftmesh_learning::optimizer::{OptimizerSettings, OptimizerState};
use riftmesh_learning::record::GameRecord;
use riftmesh_learning::replay::Reject;
use riftmesh_learning::segment::{Segment, SegmentError};
use riftmesh_learning::selfplay::SelfPlayJob;
use riftmesh_learning::train::{
    TrainError, TrainJob, TrainOutcome, TrainSettings, train, untrained,
};
use riftmesh_learning::{Backend, NetEvaluator, NetShape};
use riftmesh_rules::RuleOptions;
use riftmesh_search::{Search, SearchSettings, run};

use crate::common::{games, hex8, job, segment};
use crate::damage::{COPIES, damaged, generator};

fn played() -> SelfPlayJob {
    job(hex8(), 3, 2, 31)
}

/// A finished segment and the places of its numbers: versions, lengths and checksums of every seal, and the trailer.
fn whole_segment() -> (Vec<u8>, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(segment(&played(), folder.path(), "s")).unwrap();
    let seals = bytes
        .windows(3)
        .enumerate()
        .filter(|(_, text)| **text == *b"RMs");
    let fields = seals
        .flat_map(|(at, _)| [at + 4, at + 6, at + 10])
        .collect();
    (bytes, fields)
}

fn damaged_segments() -> impl Iterator<Item = Vec<u8>> {
    let (bytes, fields) = whole_segment();
    (0..COPIES).map(move |number| damaged(&bytes, &fields, &mut generator(number)))
}

/// A reader that takes a damaged byte for data would train on it. What is read are games that were written, nothing else;
/// everything else has a reason, and a disk is never to blame.
#[test]
fn damaged_segments_are_refused_or_read_as_written() {
    let written = games(&played());
    let mut outcomes = BTreeMap::<&str, u64>::new();
    for (number, copy) in damaged_segments().enumerate() {
        let outcome = match Segment::from_bytes(&copy) {
            Ok(read) => {
                let known = read.games.iter().all(|game| written.contains(game));
                assert!(known, "copy {number} has a game that nobody played");
                "read"
            }
            Err(SegmentError::Foreign(_)) => "foreign",
            Err(SegmentError::Damaged { .. }) => "damaged",
            Err(error) => panic!("copy {number}: {error}"),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert_eq!(outcomes.values().sum::<u64>(), COPIES);
    assert_eq!(outcomes.len(), 3, "every outcome occurs: {outcomes:?}");
}

fn training(segments: Vec<PathBuf>) -> TrainJob {
    TrainJob {
        configuration: hex8(),
        shape: NetShape::Tiny,
        segments,
        parent: None,
        optimizer: None,
        seed: Seed(5),
        settings: TrainSettings {
            batch: 16,
            steps_max: 2,
            validation_share: 0.0,
            ..TrainSettings::default()
        },
        revision: "test".to_owned(),
    }
}

fn outcome(job: &TrainJob) -> Result<TrainOutcome, TrainError> {
    train(job, Backend::Cpu, &mut |_| {}, &AtomicBool::new(false))
}

/// Beside one good segment every damaged one is counted as such, and the network comes out as if they had not been there,
/// to the bit.
#[test]
fn damaged_segments_do_not_train() {
    let folder = tempfile::tempdir().unwrap();
    let good = segment(&played(), folder.path(), "good");
    let refused = damaged_segments().filter(|copy| Segment::from_bytes(copy).is_err());
    let mut files = vec![good.clone()];
    for (number, copy) in refused.enumerate() {
        files.push(folder.path().join(number.to_string()));
        fs::write(&files[number + 1], copy).unwrap();
    }
    let bad = files.len() as u64 - 1;
    assert!(bad > COPIES / 2, "{bad}");
    let alone = outcome(&training(vec![good])).unwrap();
    let beside = outcome(&training(files)).unwrap();
    assert_eq!(beside.rejected, BTreeMap::from([(Reject::Damaged, bad)]));
    assert_eq!(beside.checkpoint, alone.checkpoint);
}

/// A game whose bytes were changed and sealed again: the checksums are right and the content is not. None when the bytes
/// are no game any more.
fn forged(game: &GameRecord, rng: &mut Xoshiro256PlusPlus) -> Option<GameRecord> {
    let bytes = damaged(&encode(game), &[], rng);
    decode(&bytes).ok().filter(GameRecord::is_bounded)
}

/// Checksums prove nothing about who wrote them: the rules have the last word. What passes was played like that, by moves
/// and decisions, and its targets are distributions; everything else has a named reason, and is counted under it.
#[test]
fn forged_games_meet_the_rules() {
    let job = played();
    let written = games(&job);
    let (mut passed, mut reasons) = (0, BTreeSet::new());
    for number in 0..COPIES {
        let mut rng = generator(number);
        let original = &written[number as usize % written.len()];
        let Some(game) = forged(original, &mut rng) else {
            continue;
        };
        let mut gate = DataGate::new();
        match gate.admit_game(&job.header(), hex8(), &game) {
            Ok(_) => {
                passed += 1;
                assert_eq!(game.moves, original.moves, "copy {number}");
                assert_eq!((game.winner, game.end), (original.winner, original.end));
            }
            Err(reason) => {
                assert_eq!(
                    gate.rejected,
                    BTreeMap::from([(reason, 1)]),
                    "copy {number}"
                );
                reasons.insert(reason.name());
            }
        }
    }
    // A changed number of simulations, or a game's own number, contradicts nothing.
    assert!(
        passed > 0 && reasons.len() >= 5,
        "{passed} passed, refused as {reasons:?}"
    );
}

fn model() -> Checkpoint {
    untrained(hex8(), NetShape::Tiny, Seed(4), "test")
}

/// Damages one of a model's files. When the weights are hit, half of the manifests name the damaged file: then its
/// contents have to speak for themselves.
fn damaged_model(rng: &mut Xoshiro256PlusPlus) -> (Vec<u8>, Vec<u8>) {
    let mut model = model();
    let (manifest, weights) = (model.manifest_bytes(), model.weights_bytes());
    let names_and_shapes: Vec<usize> = (0..4_000).collect();
    match rng.random_range(0..3) {
        0 => (damaged(&manifest, &[], rng), weights),
        1 => (manifest, damaged(&weights, &[], rng)),
        _ => {
            // Anywhere, the header's length, or the names, shapes and offsets that follow it.
            let fields = match rng.random_range(0..3) {
                0 => &[][..],
                1 => &names_and_shapes[..1],
                _ => &names_and_shapes,
            };
            let weights = damaged(&weights, fields, rng);
            model.manifest.weights = BlobHash::of(&weights);
            (model.manifest_bytes(), weights)
        }
    }
}

/// A model is refused by name, or its numbers are those of the file that its manifest names; one that does not fit the
/// configuration neither plays nor is trained on. A network that plays finds a legal move.
#[test]
fn damaged_models_are_refused_or_play() {
    let mut outcomes = BTreeMap::<String, u64>::new();
    let start = Decision::start(hex8(), RuleOptions::default());
    for number in 0..COPIES {
        let mut rng = generator(number);
        let (manifest, weights) = damaged_model(&mut rng);
        let read = Checkpoint::from_bytes(&manifest, &weights);
        let loaded = read.and_then(|model| {
            assert_eq!(
                BlobHash::of(&weights),
                model.manifest.weights,
                "copy {number}"
            );
            let player = NetEvaluator::from_checkpoint(&model, hex8(), Backend::Cpu);
            assert_eq!(player.is_ok(), check_fits(&model, hex8()).is_ok());
            player
        });
        let outcome = match loaded {
            Ok(mut player) => {
                let mut search = Search::new(start.clone(), SearchSettings::gumbel(4), &mut rng);
                let choice = run(&mut search, &mut player).action();
                assert!(start.choices().contains(&choice), "copy {number}");
                "plays".to_owned()
            }
            Err(error) => kind(&error),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    for expected in ["plays", "Manifest", "Hash", "Format", "Impossible"] {
        assert!(outcomes.contains_key(expected), "{outcomes:?}");
    }
}

fn kind(error: &CheckpointError) -> String {
    let text = format!("{error:?}");
    let end = text
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// A network as large as a manifest may claim, over a small file: refused for what is missing, before any memory is
/// asked for it.
#[test]
fn a_claimed_size_is_not_believed() {
    let mut model = model();
    model.manifest.dims.channels = 1_024;
    model.manifest.dims.blocks = 128;
    let error =
        Checkpoint::from_bytes(&model.manifest_bytes(), &model.weights_bytes()).unwrap_err();
    assert!(matches!(error, CheckpointError::Shape { .. }), "{error}");
}

/// An optimiser's state is refused by name, or a step from it gives finite weights: a training run never ships what a
/// damaged state made of it.
#[test]
fn damaged_optimisers_are_refused_or_step() {
    let model = model();
    let mut state = OptimizerState::fresh(&model.weights);
    state.steps = 40;
    let layout = model.weights.layout.clone();
    let gradient = vec![1e-3; layout.len()];
    let settings = OptimizerSettings::default();
    let mut average = model.weights.values.clone();
    state.step(&settings, &layout, &gradient, &mut average);
    let bytes = optimizer_to_bytes(&state, model.manifest.weights);
    let (mut read, mut refused) = (0, BTreeSet::new());
    for number in 0..COPIES / 2 {
        let mut rng = generator(number);
        let copy = damaged(&bytes, &[], &mut rng);
        match optimizer_from_bytes(&copy, layout.len(), model.manifest.weights) {
            Ok(mut state) => {
                read += 1;
                let mut average = model.weights.values.clone();
                state.step(&settings, &layout, &gradient, &mut average);
                let finite = average.iter().all(|value| value.is_finite());
                assert!(finite, "copy {number} makes a network of no numbers");
            }
            Err(error) => {
                refused.insert(kind(&error));
            }
        }
    }
    assert!(
        read > 0 && refused.len() >= 3,
        "{read} read, refused as {refused:?}"
    );
}
