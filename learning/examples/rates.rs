//! Evaluations per second of the CPU network and of burn, and training rows per second, on this machine.
//!
//! `cargo run --release -p riftmesh-learning --example rates -- hex8_2p`

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use riftmesh_base::Seed;
use riftmesh_learning::codec::Codec;
use riftmesh_learning::evaluator::dims_of;
use riftmesh_learning::frame::Frame;
use riftmesh_learning::infer::{Inference, PositionInput};
use riftmesh_learning::{BurnNet, CpuNet, NetShape, Weights};
use riftmesh_rules::Configuration;

const MEASURE: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "hex8_2p".to_owned());
    let configuration: Configuration = name.parse()?;
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
