//! Evaluations per second of the CPU network and of burn, and training rows per second, on this machine.
//!
//! `cargo run --release -p riftmesh-learning --example rates -- hex8_2p [inference|training]`

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use riftmesh_base::Seed;
use riftmesh_learning::codec::Codec;
use riftmesh_learning::evaluator::dims_of;
use riftmesh_learning::frame::Frame;
use riftmesh_learning::gradient::{BurnGradient, GradientEngine};
use riftmesh_learning::infer::{Inference, PositionInput};
use riftmesh_learning::loss::LossWeights;
use riftmesh_learning::rows::{ABSENT, TrainingRow};
use riftmesh_learning::{BurnNet, CpuGradient, CpuNet, NetShape, Weights};
use riftmesh_rules::Configuration;

const MEASURE: Duration = Duration::from_secs(1);

/// How often each engine trains, in turn, so that a busy machine disturbs both alike.
const ROUNDS: usize = 3;
/// Rows of a training step.
const BATCH: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "hex8_2p".to_owned());
    let part = arguments.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let configuration: Configuration = name.parse()?;
    if wanted("inference") {
        inference_rates(&name, configuration)?;
    }
    if wanted("training") {
        training_rates(&name, configuration)?;
    }
    Ok(())
}

fn training_rates(name: &str, configuration: Configuration) -> Result<(), Box<dyn Error>> {
    let frame = Frame::of(configuration.board());
    for shape in [NetShape::Tiny, NetShape::Parity] {
        let weights = Weights::fresh(dims_of(shape, configuration), Seed(1));
        let rows = vec![training_row(&weights, configuration); BATCH];
        let mut engines: [Box<dyn GradientEngine>; 2] = [
            Box::new(CpuGradient::new(frame)),
            Box::new(BurnGradient::new(frame, &Device::flex())),
        ];
        for _ in 0..ROUNDS {
            for engine in &mut engines {
                let rate = training_rate(engine.as_mut(), &weights, &rows);
                let threads = rayon::current_num_threads();
                writeln!(
                    std::io::stdout(),
                    "{name} {shape} {} batch {BATCH}: {rate:.0} training rows/s on {threads} threads",
                    engine.name()
                )?;
            }
        }
    }
    Ok(())
}

fn training_rate(engine: &mut dyn GradientEngine, weights: &Weights, rows: &[TrainingRow]) -> f64 {
    let loss = LossWeights::default();
    engine.gradient(weights, rows, &loss);
    let (begin, mut done) = (Instant::now(), 0);
    while begin.elapsed() < MEASURE {
        engine.gradient(weights, rows, &loss);
        done += rows.len();
    }
    done as f64 / begin.elapsed().as_secs_f64()
}

/// A row with as many legal actions as a decision has on average.
fn training_row(weights: &Weights, configuration: Configuration) -> TrainingRow {
    let (dims, frame) = (weights.layout.dims, Frame::of(configuration.board()));
    let mask = frame.mask();
    let size = Codec::of(configuration.board()).size() as u32;
    let players = configuration.players();
    let owner = |mask: &f32| if *mask > 0.0 { 0 } else { ABSENT };
    TrainingRow {
        planes: mask.repeat(dims.planes),
        globals: vec![0.1; dims.globals],
        policy: (0..40)
            .map(|index| (index * (size / 40), 1.0 / 40.0))
            .collect(),
        value: [1.0, 0.0, 0.0, 0.0],
        owner: mask.iter().map(owner).collect(),
        rank: std::array::from_fn(|slot| if slot < players { slot as u8 } else { ABSENT }),
        scores: [[0.5; 2]; 4],
        players,
    }
}

fn inference_rates(name: &str, configuration: Configuration) -> Result<(), Box<dyn Error>> {
    let frame = Frame::of(configuration.board());
    for shape in [NetShape::Tiny, NetShape::Small, NetShape::Parity] {
        let weights = Weights::fresh(dims_of(shape, configuration), Seed(1));
        let mut engines: [(&str, Box<dyn Inference>); 2] = [
            ("cpu", Box::new(CpuNet::new(&weights, frame))),
            (
                "burn",
                Box::new(BurnNet::new(&weights, frame, &Device::flex())),
            ),
        ];
        for (engine, inference) in &mut engines {
            for batch in [1, 8, 32, 128] {
                let rate = rate(inference.as_mut(), &weights, configuration, batch);
                writeln!(
                    std::io::stdout(),
                    "{name} {shape} {engine} batch {batch}: {rate:.0} evaluations/s"
                )?;
            }
        }
    }
    Ok(())
}

fn rate(
    inference: &mut dyn Inference,
    weights: &Weights,
    configuration: Configuration,
    batch: usize,
) -> f64 {
    let dims = weights.layout.dims;
    let frame = Frame::of(configuration.board());
    let planes: Vec<f32> = frame
        .mask()
        .into_iter()
        .cycle()
        .take(dims.planes * frame.area())
        .collect();
    let globals = vec![0.1; dims.globals];
    let size = Codec::of(configuration.board()).size() as u32;
    let actions: Vec<u32> = (0..40).map(|index| index * (size / 40)).collect();
    let input = PositionInput {
        planes: &planes,
        globals: &globals,
        actions: &actions,
        players: configuration.players(),
    };
    let inputs = vec![input; batch];
    inference.infer(&inputs);
    let (begin, mut done) = (Instant::now(), 0);
    while begin.elapsed() < MEASURE {
        inference.infer(&inputs);
        done += batch;
    }
    done as f64 / begin.elapsed().as_secs_f64()
}
