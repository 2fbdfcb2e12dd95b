//! Losses and their gradient on the CPU, written for exactly this architecture: the training twin of [`crate::cpu`].
//!
//! A batch is split into chunks of [`ROWS`] rows. A chunk goes forward and back through the network on one thread, in
//! buffers that stay in the cache, and gathers its gradient alone; the gradients are then added in the order of the rows.
//! So the result depends on the rows and the weights, and not on how many threads there were or which was faster.
//!
//! Agreement with burn is tested for every parameter tensor.

mod backward;
mod forward;
mod heads;
mod layers;
mod losses;
mod network;
mod weight_gradient;

use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::heads::Objective;
use self::network::{TrainNet, Workspace};
use crate::frame::Frame;
use crate::gradient::GradientEngine;
use crate::grid::Grid;
use crate::kernels::dispatch;
use crate::loss::{HeadLosses, LossWeights};
use crate::rows::TrainingRow;
use crate::weights::{NetDims, Weights};

/// Rows of a chunk: few enough that its activations stay in the second-level cache, enough to reuse the weights.
const ROWS: usize = 8;
/// Chunks whose gradients are held at once; what bounds the memory, and the threads that can help.
const CHUNKS: usize = 16;
/// Numbers that one task adds up over the chunks.
const PART: usize = 8_192;

/// Losses and gradients on the CPU, on as many threads as rayon's pool has.
pub struct CpuGradient {
    grid: Grid,
    /// What the workspaces were made for.
    dims: Option<NetDims>,
    /// One per thread that was ever busy at the same time.
    workspaces: Mutex<Vec<Workspace>>,
    /// One per chunk, and the first gathers them all.
    sums: Vec<Vec<f32>>,
}

impl CpuGradient {
    /// An engine for boards lying on `frame`.
    pub fn new(frame: &Frame) -> Self {
        Self {
            grid: Grid::new(frame, ROWS),
            dims: None,
            workspaces: Mutex::default(),
            sums: Vec::new(),
        }
    }

    /// Forgets buffers made for a network of other sizes.
    fn fit(&mut self, dims: NetDims) {
        if self.dims != Some(dims) {
            self.dims = Some(dims);
            self.workspaces = Mutex::default();
            self.sums.clear();
        }
    }
}

/// A chunk's way through the network.
struct Pass<'a, 'n> {
    net: &'a TrainNet<'n>,
    rows: &'a [TrainingRow],
    objective: Objective<'a>,
    work: &'a mut Workspace,
    /// Where the gradient gathers; none for the losses alone.
    sums: Option<&'a mut [f32]>,
}

impl WithSimd for Pass<'_, '_> {
    type Output = HeadLosses;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> HeadLosses {
        self.net.forward(simd, self.rows, self.work);
        let mut mean = HeadLosses::default();
        for row in self.rows.iter().enumerate() {
            let sums = self.sums.as_deref_mut();
            let losses = self.net.heads(simd, row, self.objective, self.work, sums);
            mean.add(&losses, self.objective.share);
        }
        if let Some(sums) = self.sums {
            self.net.backward(simd, self.rows, self.work, sums);
        }
        mean
    }
}

/// Runs one chunk in a workspace that no other chunk is using.
fn run(
    net: &TrainNet<'_>,
    rows: &[TrainingRow],
    objective: Objective<'_>,
    workspaces: &Mutex<Vec<Workspace>>,
    sums: Option<&mut [f32]>,
) -> HeadLosses {
    let idle = || workspaces.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = idle().pop();
    let mut work = taken.unwrap_or_else(|| Workspace::new(net));
    let losses = dispatch(Pass {
        net,
        rows,
        objective,
        work: &mut work,
        sums,
    });
    idle().push(work);
    losses
}

/// Adds up the losses of chunks, in their order.
fn total(parts: &[HeadLosses]) -> HeadLosses {
    let mut total = HeadLosses::default();
    for part in parts {
        total.add(part, 1.0);
    }
    total
}

/// Adds every chunk's gradient to the first, each number in the order of the chunks.
fn gather(into: &mut [f32], chunks: &[Vec<f32>]) {
    let parts = into.par_chunks_mut(PART).enumerate();
    parts.for_each(|(number, into)| {
        for chunk in chunks {
            layers::add(&chunk[number * PART..][..into.len()], into);
        }
    });
}

impl GradientEngine for CpuGradient {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn gradient(
        &mut self,
        weights: &Weights,
        rows: &[TrainingRow],
        loss: &LossWeights,
    ) -> (HeadLosses, Vec<f32>) {
        self.fit(weights.layout.dims);
        let net = TrainNet::new(weights, &self.grid);
        let objective = Objective {
            weights: loss,
            share: 1.0 / rows.len() as f32,
        };
        let (workspaces, sums) = (&self.workspaces, &mut self.sums);
        let mut losses = Vec::new();
        let mut all = vec![0.0; net.sums_len];
        for wave in rows.chunks(ROWS * CHUNKS) {
            let chunks = wave.len().div_ceil(ROWS);
            let missing = chunks.saturating_sub(sums.len());
            sums.extend((0..missing).map(|_| vec![0.0; net.sums_len]));
            let tasks = wave.par_chunks(ROWS).zip(&mut sums[..chunks]);
            let task = |(rows, sums): (&[TrainingRow], &mut Vec<f32>)| {
                sums.fill(0.0);
                run(&net, rows, objective, workspaces, Some(sums))
            };
            losses.extend(tasks.with_max_len(1).map(task).collect::<Vec<_>>());
            gather(&mut all, &sums[..chunks]);
        }
        (total(&losses), net.gradient(weights, &all))
    }

    fn losses(
        &mut self,
        weights: &Weights,
        rows: &[TrainingRow],
        loss: &LossWeights,
    ) -> HeadLosses {
        self.fit(weights.layout.dims);
        let net = TrainNet::new(weights, &self.grid);
        let objective = Objective {
            weights: loss,
            share: 1.0 / rows.len() as f32,
        };
        let workspaces = &self.workspaces;
        let task = |rows: &[TrainingRow]| run(&net, rows, objective, workspaces, None);
        let tasks = rows.par_chunks(ROWS).with_max_len(1);
        total(&tasks.map(task).collect::<Vec<_>>())
    }
}
