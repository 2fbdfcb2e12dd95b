//! Evaluating positions with a network: many at once, at the legal actions only.

use crate::burn_net::BurnNet;
use crate::cpu::CpuNet;
use crate::device::Backend;
use crate::frame::Frame;
use crate::weights::{SEATS, Weights};

/// An encoded position.
#[derive(Debug, Clone, Copy)]
pub struct PositionInput<'a> {
    /// `[planes][side * side]`, zero off the board.
    pub planes: &'a [f32],
    /// The globals.
    pub globals: &'a [f32],
    /// Dense indices of the legal actions: `plane * cells + cell`, then the specials.
    pub actions: &'a [u32],
    /// Players present.
    pub players: usize,
}

/// What a network says about a position.
#[derive(Debug, Clone, PartialEq)]
pub struct NetEvaluation {
    /// One logit per legal action, in their order.
    pub logits: Vec<f32>,
    /// The chance to win of each player, relative to the decider; sums to 1, zero for absent players.
    pub values: [f32; SEATS],
}

/// A network that evaluates positions.
pub trait Inference {
    /// One evaluation per position, in order.
    fn infer(&mut self, batch: &[PositionInput<'_>]) -> Vec<NetEvaluation>;
}

/// Loads `weights` where `backend` says: our own code on the CPU, burn elsewhere.
pub fn load(weights: &Weights, frame: &Frame, backend: Backend) -> Box<dyn Inference> {
    match backend {
        Backend::Cpu => Box::new(CpuNet::new(weights, frame)),
        Backend::Cuda(_) => Box::new(BurnNet::new(weights, frame, &backend.device())),
    }
}

/// Where the logit of a dense action index lies in a network's row of logits over squares.
pub fn place_of(action: u32, frame: &Frame, action_planes: usize) -> usize {
    let action = action as usize;
    let (cells, area) = (frame.cells(), frame.area());
    if action >= action_planes * cells {
        return action - action_planes * cells + action_planes * area;
    }
    action / cells * area + usize::from(frame.squares()[action % cells])
}

/// Softmax of value logits over the first `players` seats.
pub(crate) fn softmax_present(logits: &[f32], players: usize) -> [f32; SEATS] {
    let mut values = [0.0; SEATS];
    let largest = logits[..players].iter().copied().fold(f32::MIN, f32::max);
    for (value, logit) in values.iter_mut().zip(&logits[..players]) {
        *value = (logit - largest).exp();
    }
    let sum: f32 = values.iter().sum();
    values.map(|value| value / sum)
}
