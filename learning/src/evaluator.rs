//! A network as the search's evaluator: encodes decisions, batches them, remembers what it has seen.

use std::collections::HashMap;

use riftmesh_rules::Configuration;
use riftmesh_search::{Evaluation, Evaluator, Leaf, SEATS_MAX, SeatValues};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::codec::{CODEC_VERSION, Codec, SPECIALS};
use crate::decision::Decision;
use crate::device::Backend;
use crate::encode::{ENCODER_VERSION, Encoder, GLOBALS, PLANES};
use crate::frame::Frame;
use crate::infer::{Inference, NetEvaluation, PositionInput, load};
use crate::weights::{NetDims, NetShape, SEATS, Weights};

/// Sizes of the network called `shape` for `configuration`.
pub fn dims_of(shape: NetShape, configuration: Configuration) -> NetDims {
    NetDims {
        channels: shape.channels(),
        blocks: shape.blocks(),
        planes: PLANES,
        globals: GLOBALS,
        action_planes: Codec::of(configuration.board()).planes(),
        specials: SPECIALS,
    }
}

/// Counters of an evaluator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EvaluatorCounts {
    /// Positions the network computed.
    pub evaluations: u64,
    /// Calls of the network.
    pub batches: u64,
    /// Positions answered from memory.
    pub cache_hits: u64,
}

impl EvaluatorCounts {
    /// Positions per call of the network; zero before the first.
    pub fn batch_mean(self) -> f64 {
        if self.batches == 0 {
            return 0.0;
        }
        self.evaluations as f64 / self.batches as f64
    }
}

/// An evaluator that says how much it has done.
pub trait CountingEvaluator: Evaluator<Decision> {
    /// Counters since the evaluator was made.
    fn counts(&self) -> EvaluatorCounts;
}

/// Positions remembered per generation; two generations are kept.
const CACHE_POSITIONS: usize = 8_192;

/// A network that plays one configuration.
pub struct NetEvaluator {
    inference: Box<dyn Inference>,
    encoder: &'static Encoder,
    codec: &'static Codec,
    counts: EvaluatorCounts,
    young: HashMap<u64, Evaluation>,
    old: HashMap<u64, Evaluation>,
    planes: Vec<f32>,
    globals: Vec<f32>,
    actions: Vec<u32>,
}

impl NetEvaluator {
    /// Loads `weights` for `configuration`.
    pub fn new(weights: &Weights, configuration: Configuration, backend: Backend) -> Self {
        Self::with_inference(
            load(weights, Frame::of(configuration.board()), backend),
            configuration,
        )
    }

    /// An evaluator over any inference.
    pub fn with_inference(inference: Box<dyn Inference>, configuration: Configuration) -> Self {
        Self {
            inference,
            encoder: Encoder::of(configuration.board()),
            codec: Codec::of(configuration.board()),
            counts: EvaluatorCounts::default(),
            young: HashMap::new(),
            old: HashMap::new(),
            planes: Vec::new(),
            globals: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// Loads a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] when it was made for another configuration, codec or encoder.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        configuration: Configuration,
        backend: Backend,
    ) -> Result<Self, CheckpointError> {
        check_fits(checkpoint, configuration)?;
        Ok(Self::new(&checkpoint.weights, configuration, backend))
    }

    fn remembered(&self, key: u64) -> Option<&Evaluation> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    fn remember(&mut self, key: u64, evaluation: Evaluation) {
        if self.young.len() >= CACHE_POSITIONS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, evaluation);
    }

    /// Evaluates what is not remembered.
    fn compute(&mut self, leaves: &[&Leaf<'_, Decision>]) -> Vec<Evaluation> {
        let planes_len = self.encoder.planes_len();
        self.planes.resize(leaves.len() * planes_len, 0.0);
        self.globals.resize(leaves.len() * GLOBALS, 0.0);
        self.actions.clear();
        let mut ends = Vec::with_capacity(leaves.len());
        let slots = self
            .planes
            .chunks_exact_mut(planes_len)
            .zip(self.globals.chunks_exact_mut(GLOBALS));
        for (leaf, (planes, globals)) in leaves.iter().zip(slots) {
            self.encoder.encode_into(leaf.game, planes, globals);
            let indices = leaf
                .actions
                .iter()
                .map(|action| self.codec.encode(leaf.game, *action));
            self.actions.extend(indices);
            ends.push(self.actions.len());
        }
        let inputs: Vec<_> = (0..leaves.len())
            .map(|slot| PositionInput {
                planes: &self.planes[slot * planes_len..][..planes_len],
                globals: &self.globals[slot * GLOBALS..][..GLOBALS],
                actions: &self.actions
                    [slot.checked_sub(1).map_or(0, |last| ends[last])..ends[slot]],
                players: leaves[slot].game.position().configuration().players(),
            })
            .collect();
        self.counts.evaluations += inputs.len() as u64;
        self.counts.batches += 1;
        let results = self.inference.infer(&inputs);
        leaves
            .iter()
            .zip(results)
            .map(|(leaf, result)| by_seat(leaf.game, &result))
            .collect()
    }
}

impl Evaluator<Decision> for NetEvaluator {
    fn evaluate(&mut self, leaves: &[Leaf<'_, Decision>]) -> Vec<Evaluation> {
        let mut answers: Vec<Option<Evaluation>> = leaves
            .iter()
            .map(|leaf| self.remembered(leaf.game.key()).cloned())
            .collect();
        let missing: Vec<&Leaf<'_, Decision>> = leaves
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_none())
            .map(|(leaf, _)| leaf)
            .collect();
        self.counts.cache_hits += (leaves.len() - missing.len()) as u64;
        if missing.is_empty() {
            return answers.into_iter().flatten().collect();
        }
        let keys: Vec<u64> = missing.iter().map(|leaf| leaf.game.key()).collect();
        let mut computed = self.compute(&missing).into_iter();
        for (answer, key) in answers
            .iter_mut()
            .filter(|answer| answer.is_none())
            .zip(keys)
        {
            *answer = computed.next();
            if let Some(evaluation) = answer {
                self.remember(key, evaluation.clone());
            }
        }
        answers.into_iter().flatten().collect()
    }
}

impl CountingEvaluator for NetEvaluator {
    fn counts(&self) -> EvaluatorCounts {
        self.counts
    }
}

/// Refuses a checkpoint that was made for something else.
///
/// # Errors
/// [`CheckpointError::Mismatch`].
pub fn check_fits(
    checkpoint: &Checkpoint,
    configuration: Configuration,
) -> Result<(), CheckpointError> {
    let manifest = &checkpoint.manifest;
    let describe = |name: &str, codec, encoder, dims| {
        format!("{name}, codec {codec}, encoder {encoder}, {dims:?}")
    };
    let found = describe(
        manifest.configuration.as_str(),
        manifest.codec,
        manifest.encoder,
        manifest.dims,
    );
    let dims = dims_of(manifest.shape, configuration);
    let expected = describe(
        &configuration.to_string(),
        CODEC_VERSION,
        ENCODER_VERSION,
        dims,
    );
    if found == expected {
        Ok(())
    } else {
        Err(CheckpointError::Mismatch { found, expected })
    }
}

/// Turns values relative to the decider into values by seat.
fn by_seat(decision: &Decision, result: &NetEvaluation) -> Evaluation {
    let players = decision.position().configuration().players();
    let decider = decision.decider().map_or(0, |seat| seat.index());
    let mut values = SeatValues::default();
    const { assert!(SEATS == SEATS_MAX) };
    for (slot, value) in result.values[..players].iter().enumerate() {
        values[(decider + slot) % players] = f64::from(*value);
    }
    Evaluation {
        logits: result
            .logits
            .iter()
            .map(|logit| f64::from(*logit))
            .collect(),
        values,
    }
}
