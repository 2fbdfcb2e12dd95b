//! Networks that change their number of players.

use std::sync::atomic::AtomicBool;

use riftmesh_base::Seed;
use riftmesh_learning::decision::Decision;
use riftmesh_learning::evaluator::check_fits;
use riftmesh_learning::train::{TrainJob, TrainSettings, train, untrained};
use riftmesh_learning::transfer::{TransferError, transfer};
use riftmesh_learning::{Backend, Checkpoint, NetEvaluator, NetShape};
use riftmesh_rules::{Board, RuleOptions};
use riftmesh_search::{Evaluation, Evaluator, Leaf};

use crate::common::{configuration, hex8, job, segment};

/// A network of two players whose value outputs have learned something: no two are alike.
fn parent() -> Checkpoint {
    let mut parent = untrained(hex8(), NetShape::Tiny, Seed(6), "test");
    let spec = parent.weights.layout.get("value.out.bias").unwrap().clone();
    parent.weights.values[spec.range].copy_from_slice(&[0.5, -0.5, 7.0, -7.0]);
    parent.manifest.weights = riftmesh_base::BlobHash::of(&parent.weights_bytes());
    parent
}

/// Everything is copied but the outputs for slots that did not exist; those are means of the ones that did.
#[test]
fn new_slots_start_from_the_mean() {
    let parent = parent();
    for players in [3, 4] {
        let to = configuration(Board::Hex8, players);
        let child = transfer(&parent, to, "test").unwrap();
        assert!(check_fits(&child, to).is_ok());
        assert_eq!(child.manifest.parent, Some(parent.manifest.weights));
        let bias = child.weights.tensor("value.out.bias");
        assert_eq!(&bias[..2], &[0.5, -0.5], "known slots keep theirs");
        assert_eq!(bias[2], 0.0, "the mean of 0.5 and -0.5");
        assert_eq!(bias[3], if players == 4 { 0.0 } else { -7.0 });
        let (before, after) = (
            parent.weights.tensor("value.out.weight"),
            child.weights.tensor("value.out.weight"),
        );
        for (before, after) in before.chunks(4).zip(after.chunks(4)) {
            assert_eq!(after[..2], before[..2]);
            assert_eq!(after[2], (before[0] + before[1]) / 2.0);
        }
        let (before, after) = (
            parent.weights.tensor("aux.owner.weight"),
            child.weights.tensor("aux.owner.weight"),
        );
        let row = |rows: &[f32], class: usize, channel: usize| rows[class * 32 + channel];
        for channel in 0..32 {
            let mean = (row(before, 1, channel) + row(before, 2, channel)) / 2.0;
            assert_eq!(row(after, 3, channel), mean);
            assert_eq!(
                row(after, 0, channel),
                row(before, 0, channel),
                "nobody stays nobody"
            );
        }
        let changed: Vec<&str> = child
            .weights
            .layout
            .tensors()
            .iter()
            .map(|tensor| tensor.name.as_str())
            .filter(|name| child.weights.tensor(name) != parent.weights.tensor(name))
            .collect();
        let heads = ["value.out", "aux.owner", "aux.rank", "aux.scores"];
        assert!(!changed.is_empty());
        let in_heads = |name: &&str| heads.iter().any(|head| name.starts_with(head));
        assert!(changed.iter().all(in_heads), "{changed:?}");
    }
}

/// The chances of a position with three players, from the decider on.
fn values(checkpoint: &Checkpoint) -> Evaluation {
    let configuration = configuration(Board::Hex8, 3);
    let mut evaluator =
        NetEvaluator::from_checkpoint(checkpoint, configuration, Backend::Cpu).unwrap();
    let start = Decision::start(configuration, RuleOptions::default());
    let actions = start.choices().to_vec();
    let leaf = Leaf {
        game: &start,
        actions: &actions,
    };
    evaluator.evaluate(&[leaf]).remove(0)
}

/// A third player starts between the two that were known, not with whatever an unused output happened to hold, and
/// training goes on from there.
#[test]
fn a_transferred_network_plays_and_trains() {
    let three = configuration(Board::Hex8, 3);
    let child = transfer(&parent(), three, "test").unwrap();
    let values = values(&child).values;
    let [first, second, third] = [values[0], values[1], values[2]];
    assert!(first > third && third > second, "{first} {third} {second}");

    let folder = tempfile::tempdir().unwrap();
    let job = TrainJob {
        configuration: three,
        shape: NetShape::Tiny,
        segments: vec![segment(&job(three, 1, 2, 51), folder.path(), "s")],
        parent: Some(child.clone()),
        optimizer: None,
        seed: Seed(7),
        settings: TrainSettings {
            batch: 16,
            steps_max: 2,
            validation_share: 0.0,
            ..TrainSettings::default()
        },
        revision: "test".to_owned(),
    };
    let outcome = train(&job, Backend::Cpu, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(
        outcome.checkpoint.manifest.parent,
        Some(child.manifest.weights)
    );
}

/// Fewer players are the same network, and another board is another game.
#[test]
fn only_the_number_of_players_changes() {
    let four = transfer(&parent(), configuration(Board::Hex8, 4), "test").unwrap();
    let back = transfer(&four, hex8(), "test").unwrap();
    assert_eq!(back.weights, four.weights);
    let error = transfer(&parent(), configuration(Board::Square8, 2), "test").unwrap_err();
    assert!(matches!(error, TransferError::OtherBoard { .. }));
    assert_eq!(
        error.to_string(),
        "a network for hex8_2p cannot play square8_2p: only the number of players may change"
    );
}
