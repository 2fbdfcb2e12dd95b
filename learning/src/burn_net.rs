//! The network through burn, for devices that we have no code of our own for, and as the measure of our own.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::frame::Frame;
use crate::infer::{Inference, NetEvaluation, PositionInput, place_of};
use crate::net::{Net, NetInput, log_values, numbers};
use crate::weights::{SEATS, Weights};

/// Batch sizes the device ever sees: kernels are tuned per size, and a new one stalls.
const BATCH_SIZES: [usize; 7] = [1, 8, 32, 128, 512, 1024, 2048];
/// Numbers of legal actions gathered per position the device ever sees; the largest exceeds every board's most.
const ACTION_SIZES: [usize; 4] = [64, 256, 1024, 4096];

/// The network through burn, on any of its devices.
pub struct BurnNet {
    net: Net,
    frame: Frame,
    device: Device,
    action_planes: usize,
    planes: usize,
    globals: usize,
}

impl BurnNet {
    /// Loads `weights` on `device`.
    pub fn new(weights: &Weights, frame: &Frame, device: &Device) -> Self {
        let dims = weights.layout.dims;
        Self {
            net: Net::load(weights, frame, device),
            frame: frame.clone(),
            device: device.clone(),
            action_planes: dims.action_planes,
            planes: dims.planes,
            globals: dims.globals,
        }
    }

    fn run(&self, batch: &[PositionInput<'_>]) -> Vec<NetEvaluation> {
        let size = fixed_size(&BATCH_SIZES, batch.len());
        let output = self.net.play(self.input(batch, size));
        let most = batch
            .iter()
            .map(|position| position.actions.len())
            .max()
            .unwrap_or(0);
        let width = fixed_size(&ACTION_SIZES, most);
        let logits = numbers(output.policy.gather(1, self.indices(batch, size, width)));
        let present = self.present(batch, size);
        let values = numbers(log_values(output.value, present).exp());
        let rows = logits
            .chunks_exact(width)
            .zip(values.as_chunks::<SEATS>().0);
        let evaluation =
            |(position, (logits, values)): (&PositionInput<'_>, (&[f32], &[f32; SEATS]))| {
                NetEvaluation {
                    logits: logits[..position.actions.len()].to_vec(),
                    values: *values,
                }
            };
        batch.iter().zip(rows).map(evaluation).collect()
    }

    fn input(&self, batch: &[PositionInput<'_>], size: usize) -> NetInput {
        let side = self.frame.side();
        let planes = padded(
            batch.iter().map(|position| position.planes),
            size * self.planes * self.frame.area(),
        );
        let globals = padded(
            batch.iter().map(|position| position.globals),
            size * self.globals,
        );
        NetInput {
            planes: Tensor::from_data(
                TensorData::new(planes, [size, self.planes, side, side]),
                &self.device,
            ),
            globals: Tensor::from_data(
                TensorData::new(globals, [size, self.globals]),
                &self.device,
            ),
        }
    }

    fn indices(&self, batch: &[PositionInput<'_>], size: usize, width: usize) -> Tensor<2, Int> {
        let mut indices = vec![0_i32; size * width];
        for (position, row) in batch.iter().zip(indices.chunks_exact_mut(width)) {
            for (action, place) in position.actions.iter().zip(row) {
                *place = place_of(*action, &self.frame, self.action_planes) as i32;
            }
        }
        Tensor::from_data(TensorData::new(indices, [size, width]), &self.device)
    }

    fn present(&self, batch: &[PositionInput<'_>], size: usize) -> Tensor<2> {
        let mut present = vec![1.0_f32; size * SEATS];
        for (position, row) in batch.iter().zip(present.chunks_exact_mut(SEATS)) {
            row[position.players..].fill(0.0);
        }
        Tensor::from_data(TensorData::new(present, [size, SEATS]), &self.device)
    }
}

impl Inference for BurnNet {
    fn infer(&mut self, batch: &[PositionInput<'_>]) -> Vec<NetEvaluation> {
        let largest = BATCH_SIZES[BATCH_SIZES.len() - 1];
        batch
            .chunks(largest)
            .flat_map(|chunk| self.run(chunk))
            .collect()
    }
}

fn fixed_size(sizes: &[usize], needed: usize) -> usize {
    let fits = sizes.iter().copied().find(|size| *size >= needed);
    fits.unwrap_or_else(|| needed.next_power_of_two())
}

fn padded<'a>(rows: impl Iterator<Item = &'a [f32]>, length: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(length);
    rows.for_each(|row| all.extend_from_slice(row));
    all.resize(length, 0.0);
    all
}
