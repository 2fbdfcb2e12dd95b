//! Our own CPU network against burn, on random weights and inputs.

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::Seed;
use riftmesh_learning::codec::Codec;
use riftmesh_learning::evaluator::dims_of;
use riftmesh_learning::frame::Frame;
use riftmesh_learning::infer::{Inference, NetEvaluation, PositionInput};
use riftmesh_learning::{BurnNet, CpuNet, NetShape, Weights};
use riftmesh_rules::Board;

use crate::common::configuration;

struct RandomInput {
    planes: Vec<f32>,
    globals: Vec<f32>,
    actions: Vec<u32>,
    players: usize,
}

impl RandomInput {
    fn new(weights: &Weights, board: Board, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (dims, frame, size) = (
            weights.layout.dims,
            Frame::of(board),
            Codec::of(board).size(),
        );
        let mask = frame.mask();
        let planes = (0..dims.planes * frame.area())
            .map(|i| mask[i % frame.area()] * rng.random_range(-1.0..1.0));
        let planes = planes.collect();
        let actions = (0..60)
            .map(|_| rng.random_range(0..size as u32))
            .chain(size as u32 - 6..size as u32)
            .collect();
        Self {
            planes,
            globals: (0..dims.globals)
                .map(|_| rng.random_range(0.0..1.0))
                .collect(),
            actions,
            players: rng.random_range(2..=4),
        }
    }

    fn input(&self) -> PositionInput<'_> {
        PositionInput {
            planes: &self.planes,
            globals: &self.globals,
            actions: &self.actions,
            players: self.players,
        }
    }
}

/// Weights whose biases and small layers are not small, so that every term matters.
fn loud_weights(board: Board, shape: NetShape) -> Weights {
    let mut weights = Weights::fresh(dims_of(shape, configuration(board, 2)), Seed(5));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
    for value in &mut weights.values {
        *value += rng.random_range(-0.03..0.03);
    }
    weights
}

fn difference(a: &NetEvaluation, b: &NetEvaluation) -> f32 {
    assert_eq!(a.logits.len(), b.logits.len());
    let pairs = a
        .logits
        .iter()
        .zip(&b.logits)
        .chain(a.values.iter().zip(&b.values));
    pairs
        .map(|(a, b)| (a - b).abs() / (1.0 + a.abs()))
        .fold(0.0, f32::max)
}

/// Every board: square and hexagonal frames, with and without the diagonal taps; a batch that does not fill its chunks.
#[test]
fn the_cpu_network_agrees_with_burn() {
    for board in Board::ALL {
        let weights = loud_weights(board, NetShape::Tiny);
        let inputs: Vec<_> = (0..11)
            .map(|seed| RandomInput::new(&weights, board, seed))
            .collect();
        let batch: Vec<_> = inputs.iter().map(RandomInput::input).collect();
        let ours = CpuNet::new(&weights, Frame::of(board)).infer(&batch);
        let theirs = BurnNet::new(&weights, Frame::of(board), &Device::flex()).infer(&batch);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(
                difference(ours, theirs) < 1e-4,
                "{board}: {ours:?} {theirs:?}"
            );
            assert!((ours.values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        for (input, ours) in inputs.iter().zip(&ours) {
            assert!(
                ours.values[input.players..]
                    .iter()
                    .all(|value| *value == 0.0)
            );
        }
    }
}

/// Channels that fill no whole vectors.
#[test]
fn odd_widths_agree_with_burn() {
    let board = Board::Square8;
    let mut dims = dims_of(NetShape::Tiny, configuration(board, 2));
    dims.channels = 13;
    let weights = Weights::fresh(dims, Seed(9));
    let input = RandomInput::new(&weights, board, 3);
    let ours = CpuNet::new(&weights, Frame::of(board)).infer(&[input.input()]);
    let theirs = BurnNet::new(&weights, Frame::of(board), &Device::flex()).infer(&[input.input()]);
    assert!(difference(&ours[0], &theirs[0]) < 1e-4);
}

/// The heart of reproducible self-play: a position's numbers do not depend on its neighbours in the batch.
#[test]
fn a_position_evaluates_to_the_same_bits_in_every_batch() {
    let weights = loud_weights(Board::Hex8, NetShape::Tiny);
    let inputs: Vec<_> = (0..20)
        .map(|seed| RandomInput::new(&weights, Board::Hex8, seed))
        .collect();
    let batch: Vec<_> = inputs.iter().map(RandomInput::input).collect();
    let mut net = CpuNet::new(&weights, Frame::of(Board::Hex8));
    let together = net.infer(&batch);
    for (input, together) in batch.iter().zip(together).rev() {
        assert_eq!(net.infer(std::slice::from_ref(input)), [together]);
    }
}
