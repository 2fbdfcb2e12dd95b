//! Checkpoints: what is written is read, and nothing else is.

use riftmesh_base::{BlobHash, Seed};
use riftmesh_learning::NetShape;
use riftmesh_learning::checkpoint::{
    Checkpoint, CheckpointError, optimizer_from_bytes, optimizer_to_bytes, weights_from_bytes,
};
use riftmesh_learning::evaluator::check_fits;
use riftmesh_learning::optimizer::OptimizerState;
use riftmesh_learning::train::untrained;
use riftmesh_rules::Board;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::common::{configuration, hex8};

fn checkpoint() -> Checkpoint {
    untrained(hex8(), NetShape::Tiny, Seed(4), "test")
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, weights) = (
        folder.path().join("m.json"),
        folder.path().join("w.safetensors"),
    );
    checkpoint().write(&manifest, &weights).unwrap();
    let read = Checkpoint::read(&manifest, &weights).unwrap();
    assert_eq!(read, checkpoint());
    assert_eq!(read.weights_bytes(), checkpoint().weights_bytes());
    assert!(check_fits(&read, hex8()).is_ok());
    let other = check_fits(&read, configuration(Board::Square8, 2));
    assert!(matches!(other, Err(CheckpointError::Mismatch { .. })));
}

/// A file with `change` made to its list of tensors.
fn altered(change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<u8>)>)) -> Vec<u8> {
    let bytes = checkpoint().weights_bytes();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    tensors.sort();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, shape, data)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}

/// Every refusal names the tensor.
#[test]
fn foreign_tensors_are_refused_by_name() {
    let layout = checkpoint().weights.layout;
    let load = |bytes: Vec<u8>| {
        weights_from_bytes(&bytes, layout.clone())
            .unwrap_err()
            .to_string()
    };
    assert!(weights_from_bytes(&altered(|_| {}), layout.clone()).is_ok());
    let missing = altered(|tensors| tensors.retain(|tensor| tensor.0 != "value.out.bias"));
    assert_eq!(load(missing), "tensor `value.out.bias` is missing");
    let unknown = altered(|tensors| tensors.push(("extra".into(), vec![1], vec![0; 4])));
    assert_eq!(
        load(unknown),
        "tensor `extra` is unknown to this architecture"
    );
    let reshaped = altered(|tensors| {
        let tensor = tensors
            .iter_mut()
            .find(|tensor| tensor.0 == "value.out.bias")
            .unwrap();
        tensor.1 = vec![2, 2];
    });
    assert_eq!(
        load(reshaped),
        "tensor `value.out.bias` is F32 [2, 2], expected F32 [4]"
    );
    let infinite = altered(|tensors| {
        let tensor = tensors
            .iter_mut()
            .find(|tensor| tensor.0 == "value.out.bias")
            .unwrap();
        tensor.2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert_eq!(
        load(infinite),
        "tensor `value.out.bias` has a number that is not finite"
    );
    assert!(load(vec![7; 40]).starts_with("not a safetensors file"));
}

#[test]
fn a_manifest_belongs_to_its_weights() {
    let mut checkpoint = checkpoint();
    let weights = checkpoint.weights_bytes();
    let manifest = checkpoint.manifest_bytes();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    let error = Checkpoint::from_bytes(&manifest, &other).unwrap_err();
    assert!(matches!(error, CheckpointError::Hash { .. }), "{error}");
    checkpoint.manifest.version = 99;
    let error = Checkpoint::from_bytes(&checkpoint.manifest_bytes(), &weights).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Version { found: 99 }),
        "{error}"
    );
}

#[test]
fn optimiser_state_round_trips_and_knows_its_model() {
    let checkpoint = checkpoint();
    let mut state = OptimizerState::fresh(&checkpoint.weights);
    state.steps = 321;
    state.first_moment[5] = 0.25;
    let bytes = optimizer_to_bytes(&state, checkpoint.manifest.weights);
    let parameters = checkpoint.weights.values.len();
    let read = optimizer_from_bytes(&bytes, parameters, checkpoint.manifest.weights);
    assert_eq!(read.unwrap(), state);
    assert!(optimizer_from_bytes(&bytes, parameters + 1, checkpoint.manifest.weights).is_err());
    let other = optimizer_from_bytes(&bytes, parameters, BlobHash([1; 32]));
    assert!(matches!(other, Err(CheckpointError::Hash { .. })));
}
