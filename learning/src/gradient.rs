//! Losses of a network on training rows, and the way down.

use burn::tensor::Device;

use crate::cpu_train::CpuGradient;
use crate::device::Backend;
use crate::frame::Frame;
use crate::loss::{HeadLosses, LossWeights, TrainingBatch};
use crate::net::Net;
use crate::rows::TrainingRow;
use crate::weights::Weights;

/// Something that measures and differentiates the losses of [`crate::loss`]. On one machine the same weights and rows give
/// the same bits every time.
pub trait GradientEngine {
    /// What to call it in logs.
    fn name(&self) -> &'static str;

    /// Mean losses on `rows`, which must not be empty, and the gradient of their weighted sum: one number per parameter,
    /// in the layout's order.
    fn gradient(
        &mut self,
        weights: &Weights,
        rows: &[TrainingRow],
        loss: &LossWeights,
    ) -> (HeadLosses, Vec<f32>);

    /// Mean losses on `rows`, which must not be empty.
    fn losses(&mut self, weights: &Weights, rows: &[TrainingRow], loss: &LossWeights)
    -> HeadLosses;
}

/// The engine for `backend`, for boards lying on `frame`: our own code on the CPU, burn elsewhere.
pub fn engine(backend: Backend, frame: &Frame) -> Box<dyn GradientEngine> {
    match backend {
        Backend::Cpu => Box::new(CpuGradient::new(frame)),
        Backend::Cuda(_) => Box::new(BurnGradient::new(frame, &backend.device())),
    }
}

/// burn's automatic differentiation, on any of its devices: for devices that we have no code of our own for, and as the
/// measure of our own.
pub struct BurnGradient {
    frame: Frame,
    device: Device,
}

impl BurnGradient {
    /// An engine for boards lying on `frame`. `device` is a plain one; differentiation is this engine's business.
    pub fn new(frame: &Frame, device: &Device) -> Self {
        Self {
            frame: frame.clone(),
            device: device.clone(),
        }
    }
}

impl GradientEngine for BurnGradient {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn gradient(
        &mut self,
        weights: &Weights,
        rows: &[TrainingRow],
        loss: &LossWeights,
    ) -> (HeadLosses, Vec<f32>) {
        let device = self.device.clone().autodiff();
        let net = Net::load(weights, &self.frame, &device);
        let batch = TrainingBatch::new(rows, &weights.layout.dims, &self.frame, &device);
        let loss = batch.loss(&net, loss);
        (loss.read(), net.gradients(&loss.total.backward()))
    }

    fn losses(
        &mut self,
        weights: &Weights,
        rows: &[TrainingRow],
        loss: &LossWeights,
    ) -> HeadLosses {
        let net = Net::load(weights, &self.frame, &self.device);
        let batch = TrainingBatch::new(rows, &weights.layout.dims, &self.frame, &self.device);
        batch.loss(&net, loss).read()
    }
}
