//! Our own gradient against burn's automatic one and against differences of the loss, on rows of played games.

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::Seed;
use riftmesh_learning::evaluator::dims_of;
use riftmesh_learning::frame::Frame;
use riftmesh_learning::gradient::{BurnGradient, GradientEngine};
use riftmesh_learning::loss::LossWeights;
use riftmesh_learning::rows::TrainingRow;
use riftmesh_learning::window::{RowStream, WindowGame};
use riftmesh_learning::{CpuGradient, NetShape, Weights};
use riftmesh_rules::{Board, Configuration};

use crate::common::{configuration, games, hex8, job};

/// Rows of self-played games: all kinds of decisions, empty boards and full ones.
fn rows(configuration: Configuration, count: usize) -> Vec<TrainingRow> {
    let job = job(configuration, 1, 2, 31);
    let played = games(&job).into_iter();
    let played: Vec<_> = played
        .map(|game| WindowGame::new(&job.header(), game))
        .collect();
    RowStream::new(configuration, &played, Seed(3)).draw(count)
}

/// A network whose biases and small layers are not small, so that every term matters.
fn loud_weights(configuration: Configuration, channels: usize, blocks: usize) -> Weights {
    let mut dims = dims_of(NetShape::Tiny, configuration);
    (dims.channels, dims.blocks) = (channels, blocks);
    let mut weights = Weights::fresh(dims, Seed(5));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
    for value in &mut weights.values {
        *value += rng.random_range(-0.03..0.03);
    }
    weights
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values
        .map(|value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Compares losses and the gradient of every tensor with burn's.
///
/// Losses are sums of some thousand terms: 1e-5 is a few dozen roundings of f32. A tensor's gradient sums over rows and
/// cells with cancellation, which costs about one more digit: 1e-4 of the tensor's norm. A tensor whose gradient all but
/// vanishes, such as that of an action which is legal in one row and predicted well there, is a difference of nearly equal
/// numbers and is held to one rounding of the whole gradient, 1e-7 of its norm. An activation so near to zero that the two
/// disagree about its sign moves a gradient by one cell's share, which is below the bound too.
fn assert_agreement(configuration: Configuration, weights: &Weights, rows: &[TrainingRow]) {
    let frame = Frame::of(configuration.board());
    let loss = LossWeights::default();
    let mut ours = CpuGradient::new(frame);
    let mut theirs = BurnGradient::new(frame, &Device::flex());
    let (our_losses, our_gradient) = ours.gradient(weights, rows, &loss);
    let (their_losses, their_gradient) = theirs.gradient(weights, rows, &loss);
    for ((head, ours), (_, theirs)) in our_losses.named().into_iter().zip(their_losses.named()) {
        assert!(
            (ours - theirs).abs() <= 1e-5 * theirs.abs(),
            "{head}: {ours} {theirs}"
        );
    }
    assert_eq!(ours.losses(weights, rows, &loss), our_losses);
    let floor = 1e-3 * norm(their_gradient.iter().copied());
    let mut worst = (0.0, "");
    for tensor in weights.layout.tensors() {
        let (a, b) = (
            &our_gradient[tensor.range.clone()],
            &their_gradient[tensor.range.clone()],
        );
        let error = norm(a.iter().zip(b).map(|(a, b)| a - b)) / (norm(b.iter().copied()) + floor);
        if error > worst.0 {
            worst = (error, &tensor.name);
        }
    }
    assert!(worst.0 < 1e-4, "{configuration}: {worst:?}");
}

/// Square and hexagonal frames, batches that do not fill their chunks, absent seats, and more rows than one chunk.
#[test]
fn the_gradient_agrees_with_burn() {
    for (board, players, count) in [
        (Board::Hex8, 2, 27),
        (Board::Square8, 2, 16),
        (Board::Square8, 4, 21),
        (Board::Square8, 3, 5),
    ] {
        let configuration = configuration(board, players);
        let weights = loud_weights(configuration, 32, 3);
        assert_agreement(configuration, &weights, &rows(configuration, count));
    }
}

/// A board whose kernels have dead taps, and channels that fill no whole vectors.
#[test]
fn dead_taps_and_odd_widths_agree_with_burn() {
    let large = configuration(Board::Hexagonal, 2);
    assert_agreement(large, &loud_weights(large, 16, 2), &rows(large, 9));
    assert_agreement(hex8(), &loud_weights(hex8(), 13, 1), &rows(hex8(), 9));
}

/// More rows than the engine holds chunks of at once, and a network of other sizes before.
#[test]
fn large_batches_agree_with_burn() {
    let weights = loud_weights(hex8(), 16, 1);
    let few = rows(hex8(), 60);
    let many: Vec<_> = few.iter().cycle().take(150).cloned().collect();
    assert_agreement(hex8(), &weights, &many);
    let mut engine = CpuGradient::new(Frame::of(Board::Hex8));
    let loss = LossWeights::default();
    let other = loud_weights(hex8(), 32, 2);
    let fresh = CpuGradient::new(Frame::of(Board::Hex8)).gradient(&other, &few, &loss);
    engine.gradient(&weights, &few, &loss);
    assert_eq!(engine.gradient(&other, &few, &loss), fresh);
}

/// Independent of burn: along each tensor's gradient the loss rises by the gradient's norm per unit. Steps are small enough
/// for the loss to be almost straight and large enough to be seen in f32.
#[test]
fn the_loss_rises_along_the_gradient() {
    let weights = loud_weights(hex8(), 32, 2);
    let rows = rows(hex8(), 24);
    let loss = LossWeights::default();
    let mut engine = CpuGradient::new(Frame::of(Board::Hex8));
    let (_, gradient) = engine.gradient(&weights, &rows, &loss);
    for tensor in weights.layout.tensors() {
        let slope = norm(gradient[tensor.range.clone()].iter().copied());
        let step = (0.004 / slope).min(0.02);
        let mut at = |distance: f64| {
            let mut moved = weights.clone();
            for index in tensor.range.clone() {
                moved.values[index] += (distance * f64::from(gradient[index]) / slope) as f32;
            }
            f64::from(engine.losses(&moved, &rows, &loss).total(&loss))
        };
        let measured = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (measured - slope).abs() < 0.05 * slope + 2e-6 / step,
            "{}: {measured} for {slope}",
            tensor.name
        );
    }
}

/// However many threads there are, the numbers are the same to the bit.
#[test]
fn threads_do_not_change_the_gradient() {
    let weights = loud_weights(hex8(), 16, 1);
    let rows = rows(hex8(), 60);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut engine = CpuGradient::new(Frame::of(Board::Hex8));
            engine.gradient(&weights, &rows, &LossWeights::default())
        })
    };
    assert_eq!(run(1), run(3));
}
