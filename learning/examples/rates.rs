//! Evaluations per second of the CPU network and of burn, and training rows per second, on this machine.
//!
//! `cargo run --release -p riftmesh-learning --example rates -- hex8_2p [inference|training [cpu|burn]]`

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
        training_rates(&name, configuration, arguments.next().as_deref())?;
    }
    Ok(())
}

fn training_rates(
    name: &str,
    configuration: Configuration,
    only: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let frame = Frame::of(configuration.board());
    for shape in [NetShape::Tiny, NetShape::Parity] {
        let weights = Weights::fresh(dims_of(shape, configuration), Seed(1));
        let rows = vec![training_row(&weights, configuration); BATCH];
        let mut engines: [Box<dyn GradientEngine>; 2] = [
            Box::new(CpuGradient::new(frame)),
            Box::new(BurnGradient::new(frame, &Device::flex())),
        ];
        for _ in 0..ROUNDS {
            let wanted = |engine: &&mut Box<dyn GradientEngine>| {
                only.is_none_or(|only| only == engine.name())
            };
            for engine in engines.iter_mut().filter(wanted) {
                let (rate, busy) = training_rates_of(engine.as_mut(), &weights, &rows);
                let threads = rayon::current_num_threads();
                writeln!(
                    std::io::stdout(),
                    "{name} {shape} {} batch {BATCH}: {rate:.0} training rows/s on {threads} threads, {busy:.0} per second of processor time",
                    engine.name()
                )?;
            }
        }
    }
    Ok(())
}

/// Rows per second, and per second of processor time over all threads: the latter means something on a busy machine too.
fn training_rates_of(
    engine: &mut dyn GradientEngine,
    weights: &Weights,
    rows: &[TrainingRow],
) -> (f64, f64) {
    let loss = LossWeights::default();
    engine.gradient(weights, rows, &loss);
    let (begin, begin_busy, mut done) = (Instant::now(), processor_seconds(), 0);
    while begin.elapsed() < MEASURE {
        engine.gradient(weights, rows, &loss);
        done += rows.len();
    }
    let busy = processor_seconds() - begin_busy;
    let done = done as f64;
    (done / begin.elapsed().as_secs_f64(), done / busy)
}

/// Processor time of this process so far, as Linux tells it in hundredths of a second; not a number elsewhere.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold spaces, but it is the only thing in parentheses; 12th and 13th after it are user and system time.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    match ticks[..] {
        [user, system] => (user + system) / 100.0,
        _ => f64::NAN,
    }
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
