//! What the network is trained to say, as one number per head.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::frame::Frame;
use crate::infer::place_of;
use crate::net::{Net, NetInput, TrainOutput, log_values, numbers};
use crate::rows::{ABSENT, TrainingRow};
use crate::weights::{NetDims, OWNER_CLASSES, SCORES_PER_SEAT, SEATS};

/// Weight of each head beside policy and value, which have 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossWeights {
    /// Final owner of each cell.
    pub owner: f32,
    /// Final rank.
    pub rank: f32,
    /// Eliminated rings and territory.
    pub scores: f32,
    /// The softened policy.
    pub soft: f32,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self {
            owner: 0.15,
            rank: 0.2,
            scores: 0.1,
            soft: 0.5,
        }
    }
}

/// Temperature of the softened policy.
const SOFT_TEMPERATURE: f32 = 4.0;

/// The heads whose losses are reported, in the order of `BatchLoss::heads`.
pub const HEADS: usize = 6;

/// Mean losses over rows, in nats (scores: mean squared error).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HeadLosses {
    /// Cross-entropy of the policy.
    pub policy: f32,
    /// Cross-entropy of the value.
    pub value: f32,
    /// Cross-entropy per cell of the owner.
    pub owner: f32,
    /// Cross-entropy per player of the rank.
    pub rank: f32,
    /// Mean squared error of the scores.
    pub scores: f32,
    /// Cross-entropy of the softened policy.
    pub soft: f32,
    /// Entropy of the policy targets: the least the policy's cross-entropy can be.
    pub policy_entropy: f32,
}

impl HeadLosses {
    /// The weighted sum that training minimises.
    pub fn total(&self, weights: &LossWeights) -> f32 {
        self.policy
            + self.value
            + weights.owner * self.owner
            + weights.rank * self.rank
            + weights.scores * self.scores
            + weights.soft * self.soft
    }

    /// Every figure with its name.
    pub fn named(&self) -> [(&'static str, f32); HEADS + 1] {
        let Self {
            policy,
            value,
            owner,
            rank,
            scores,
            soft,
            policy_entropy,
        } = *self;
        [
            ("policy", policy),
            ("value", value),
            ("owner", owner),
            ("rank", rank),
            ("scores", scores),
            ("soft", soft),
            ("policy_entropy", policy_entropy),
        ]
    }

    /// Adds `share` of `other`, for means over batches.
    pub fn add(&mut self, other: &Self, share: f32) {
        self.policy += share * other.policy;
        self.value += share * other.value;
        self.owner += share * other.owner;
        self.rank += share * other.rank;
        self.scores += share * other.scores;
        self.soft += share * other.soft;
        self.policy_entropy += share * other.policy_entropy;
    }
}

/// Rows as tensors.
pub struct TrainingBatch {
    input: NetInput,
    /// `[batch, most]`: where each legal action's logit lies.
    places: Tensor<2, Int>,
    /// `[batch, most]`: 0 at legal actions, very negative behind them.
    legal: Tensor<2>,
    policy: Tensor<2>,
    soft: Tensor<2>,
    value: Tensor<2>,
    present: Tensor<2>,
    /// `[batch, OWNER_CLASSES, squares]`: one-hot over the cell count, zero off the board.
    owner: Tensor<3>,
    /// `[batch, SEATS, SEATS]`: one-hot over the player count, zero where absent.
    rank: Tensor<3>,
    scores: Tensor<3>,
    /// `[batch, SEATS, 2]`: over the number of scores, zero where absent.
    score_share: Tensor<3>,
    policy_entropy: f32,
    rows: usize,
}

/// Losses of a batch as tensors, connected to the network.
pub struct BatchLoss {
    /// What training minimises.
    pub total: Tensor<1>,
    /// One number per head.
    heads: Tensor<1>,
    policy_entropy: f32,
}

impl BatchLoss {
    /// Reads the numbers from the device.
    pub fn read(&self) -> HeadLosses {
        let heads = numbers(self.heads.clone());
        HeadLosses {
            policy: heads[0],
            value: heads[1],
            owner: heads[2],
            rank: heads[3],
            scores: heads[4],
            soft: heads[5],
            policy_entropy: self.policy_entropy,
        }
    }
}

/// Logits of illegal actions are moved here.
const ILLEGAL: f32 = -1e4;

impl TrainingBatch {
    /// Puts `rows` on `device`.
    pub fn new(rows: &[TrainingRow], dims: &NetDims, frame: &Frame, device: &Device) -> Self {
        let (batch, side, area) = (rows.len(), frame.side(), frame.area());
        let most = rows.iter().map(|row| row.policy.len()).max().unwrap_or(1);
        // A multiple keeps the number of shapes, and so of tuned kernels, small.
        let most = most.next_multiple_of(64);
        let actions = Actions::new(rows, dims, frame, most);
        let flat = |pick: fn(&TrainingRow) -> &[f32]| {
            rows.iter().flat_map(pick).copied().collect::<Vec<_>>()
        };
        let float2 = |values: Vec<f32>, width: usize| {
            Tensor::<2>::from_data(TensorData::new(values, [batch, width]), device)
        };
        let float3 = |values: Vec<f32>, a: usize, b: usize| {
            Tensor::<3>::from_data(TensorData::new(values, [batch, a, b]), device)
        };
        let planes = TensorData::new(flat(|row| &row.planes), [batch, dims.planes, side, side]);
        Self {
            input: NetInput {
                planes: Tensor::from_data(planes, device),
                globals: float2(flat(|row| &row.globals), dims.globals),
            },
            places: Tensor::from_data(TensorData::new(actions.places, [batch, most]), device),
            legal: float2(actions.legal, most),
            policy: float2(actions.policy, most),
            soft: float2(actions.soft, most),
            value: float2(flat(|row| &row.value), SEATS),
            present: float2(rows.iter().flat_map(present).collect(), SEATS),
            owner: float3(
                rows.iter()
                    .flat_map(|row| owner_target(row, frame))
                    .collect(),
                OWNER_CLASSES,
                area,
            ),
            rank: float3(rows.iter().flat_map(rank_target).collect(), SEATS, SEATS),
            scores: float3(
                flat(|row| row.scores.as_flattened()),
                SEATS,
                SCORES_PER_SEAT,
            ),
            score_share: float3(
                rows.iter().flat_map(score_share).collect(),
                SEATS,
                SCORES_PER_SEAT,
            ),
            policy_entropy: actions.entropy,
            rows: batch,
        }
    }

    /// The losses of `net` on this batch.
    pub fn loss(&self, net: &Net, weights: &LossWeights) -> BatchLoss {
        let output = net.train(self.input.clone());
        let heads = self.heads(output);
        let factors = [
            1.0,
            1.0,
            weights.owner,
            weights.rank,
            weights.scores,
            weights.soft,
        ];
        let total = heads
            .iter()
            .zip(factors)
            .map(|(head, factor)| head.clone() * factor);
        let total = total.reduce(|sum, part| sum + part);
        BatchLoss {
            total: total.unwrap_or_else(|| heads[0].clone()),
            heads: Tensor::cat(heads.map(Tensor::detach).to_vec(), 0),
            policy_entropy: self.policy_entropy,
        }
    }

    fn heads(&self, output: TrainOutput) -> [Tensor<1>; HEADS] {
        let error = output.scores - self.scores.clone();
        [
            self.policy_loss(output.play.policy, &self.policy),
            self.mean(log_values(output.play.value, self.present.clone()) * self.value.clone()),
            self.mean(log_softmax(output.owner, 1) * self.owner.clone()),
            self.mean(log_softmax(output.rank, 2) * self.rank.clone()),
            self.mean(error.clone() * error * self.score_share.clone())
                .neg(),
            self.policy_loss(output.soft, &self.soft),
        ]
    }

    fn policy_loss(&self, logits: Tensor<2>, target: &Tensor<2>) -> Tensor<1> {
        let logits = logits.gather(1, self.places.clone()) + self.legal.clone();
        self.mean(log_softmax(logits, 1) * target.clone())
    }

    /// Minus the sum over everything but the batch, averaged over the batch.
    fn mean<const D: usize>(&self, weighted: Tensor<D>) -> Tensor<1> {
        weighted.sum().div_scalar(-(self.rows as f32))
    }
}

/// The policy targets of a batch as padded rows.
struct Actions {
    places: Vec<i32>,
    legal: Vec<f32>,
    policy: Vec<f32>,
    soft: Vec<f32>,
    entropy: f32,
}

impl Actions {
    fn new(rows: &[TrainingRow], dims: &NetDims, frame: &Frame, most: usize) -> Self {
        let mut actions = Self {
            places: vec![0; rows.len() * most],
            legal: vec![ILLEGAL; rows.len() * most],
            policy: vec![0.0; rows.len() * most],
            soft: vec![0.0; rows.len() * most],
            entropy: 0.0,
        };
        for (number, row) in rows.iter().enumerate() {
            let start = number * most;
            let softened = softened(&row.policy);
            for ((place, (action, probability)), soft) in (start..).zip(&row.policy).zip(softened) {
                actions.places[place] = place_of(*action, frame, dims.action_planes) as i32;
                actions.legal[place] = 0.0;
                actions.policy[place] = *probability;
                actions.soft[place] = soft;
            }
            let entropy = crate::replay::entropy(row.policy.iter().map(|entry| entry.1));
            actions.entropy += entropy as f32 / rows.len() as f32;
        }
        actions
    }
}

/// The target of the softened policy: probabilities to the power of one over the temperature, rescaled to sum 1.
pub(crate) fn softened(policy: &[(u32, f32)]) -> Vec<f32> {
    let softened = |entry: &(u32, f32)| entry.1.powf(1.0 / SOFT_TEMPERATURE);
    let sum: f32 = policy.iter().map(softened).sum();
    policy
        .iter()
        .map(|entry| softened(entry) / sum.max(f32::MIN_POSITIVE))
        .collect()
}

fn present(row: &TrainingRow) -> [f32; SEATS] {
    std::array::from_fn(|slot| if slot < row.players { 1.0 } else { 0.0 })
}

fn owner_target(row: &TrainingRow, frame: &Frame) -> Vec<f32> {
    let mut target = vec![0.0; OWNER_CLASSES * frame.area()];
    let share = 1.0 / frame.cells() as f32;
    for (square, owner) in row.owner.iter().enumerate() {
        if *owner != ABSENT {
            target[usize::from(*owner) * frame.area() + square] = share;
        }
    }
    target
}

fn rank_target(row: &TrainingRow) -> Vec<f32> {
    let mut target = vec![0.0; SEATS * SEATS];
    for (slot, rank) in row.rank.iter().enumerate() {
        if *rank != ABSENT {
            target[slot * SEATS + usize::from(*rank)] = 1.0 / row.players as f32;
        }
    }
    target
}

fn score_share(row: &TrainingRow) -> Vec<f32> {
    let share = 1.0 / (row.players * SCORES_PER_SEAT) as f32;
    present(row)
        .iter()
        .flat_map(|present| [present * share; SCORES_PER_SEAT])
        .collect()
}
