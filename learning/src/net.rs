//! The network in burn: residual trunk with squeeze-excitation, a spatial policy head, a value head over the seats, and
//! heads that only train the trunk.
//!
//! There is no normalisation: residual branches start small instead ([`crate::weights`]), so that nothing has to be
//! folded and a batch never changes what a position evaluates to.

use burn::tensor::activation::{log_softmax, relu, sigmoid};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::frame::{Frame, TAPS};
use crate::weights::{SEATS, Weights};

/// What a position looks like to the network.
#[derive(Debug, Clone)]
pub struct NetInput {
    /// `[batch, planes, side, side]`; squares off the board are zero.
    pub planes: Tensor<4>,
    /// `[batch, globals]`.
    pub globals: Tensor<2>,
}

/// What self-play and matches need of a network.
#[derive(Debug, Clone)]
pub struct PlayOutput {
    /// Logits `[batch, action_planes * side * side + specials]`, action plane first.
    pub policy: Tensor<2>,
    /// Logits `[batch, SEATS]`, players relative to the decider.
    pub value: Tensor<2>,
}

/// What training needs of it.
#[derive(Debug, Clone)]
pub struct TrainOutput {
    /// The playing heads.
    pub play: PlayOutput,
    /// Logits of the policy softened with temperature 4, shaped as the policy.
    pub soft: Tensor<2>,
    /// Logits `[batch, OWNER_CLASSES, side * side]` of the final owner of each square.
    pub owner: Tensor<3>,
    /// Logits `[batch, SEATS, SEATS]`: per player, over the final ranks.
    pub rank: Tensor<3>,
    /// `[batch, SEATS, 2]`: eliminated rings and territory at the end, over their thresholds.
    pub scores: Tensor<3>,
}

struct Convolution {
    weight: Tensor<4>,
    bias: Tensor<1>,
}

struct Affine {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

struct Block {
    conv1: Convolution,
    conv2: Convolution,
    squeeze: Affine,
    excite: Affine,
}

/// A network on a device. The leaves hold the parameters in the layout's order, for reading gradients.
pub struct Net {
    leaves: Vec<Tensor<1>>,
    mask: Tensor<4>,
    cells: usize,
    channels: usize,
    stem: Convolution,
    stem_globals: Tensor<2>,
    blocks: Vec<Block>,
    policy_hidden: Convolution,
    policy_out: Convolution,
    policy_special: Affine,
    value_hidden: Affine,
    value_out: Affine,
    owner: Convolution,
    rank: Affine,
    scores: Affine,
    soft_out: Convolution,
    soft_special: Affine,
}

/// Turns leaves into shaped parameters, by name.
struct Loader<'a> {
    weights: &'a Weights,
    leaves: &'a [Tensor<1>],
    taps: Tensor<4>,
}

impl Loader<'_> {
    fn find(&self, name: &str) -> (Tensor<1>, &[usize]) {
        let tensors = self.weights.layout.tensors();
        let index = tensors.iter().position(|tensor| tensor.name == name);
        #[expect(
            clippy::expect_used,
            reason = "the layout lists every parameter of the architecture"
        )]
        let index = index.expect("a parameter of the layout");
        (self.leaves[index].clone(), &tensors[index].shape)
    }

    fn matrix(&self, name: &str) -> Tensor<2> {
        let (leaf, shape) = self.find(name);
        leaf.reshape([shape[0], shape[1]])
    }

    fn bias(&self, name: &str) -> Tensor<1> {
        self.find(&format!("{name}.bias")).0
    }

    fn affine(&self, name: &str) -> Affine {
        Affine {
            weight: self.matrix(&format!("{name}.weight")),
            bias: self.bias(name),
        }
    }

    /// A 3x3 convolution, without the taps that connect no neighbours.
    fn wide(&self, name: &str) -> Convolution {
        let (leaf, shape) = self.find(&format!("{name}.weight"));
        Convolution {
            weight: leaf.reshape([shape[0], shape[1], 3, 3]) * self.taps.clone(),
            bias: self.bias(name),
        }
    }

    /// A 1x1 convolution.
    fn point(&self, name: &str) -> Convolution {
        let (leaf, shape) = self.find(&format!("{name}.weight"));
        Convolution {
            weight: leaf.reshape([shape[0], shape[1], 1, 1]),
            bias: self.bias(name),
        }
    }

    fn block(&self, index: usize) -> Block {
        let name = |part: &str| format!("block.{index}.{part}");
        Block {
            conv1: self.wide(&name("conv1")),
            conv2: self.wide(&name("conv2")),
            squeeze: self.affine(&name("squeeze")),
            excite: self.affine(&name("excite")),
        }
    }
}

impl Net {
    /// Loads `weights` for boards lying on `frame`. On an autodiff device the parameters require gradients.
    pub fn load(weights: &Weights, frame: &Frame, device: &Device) -> Self {
        let leaves = load_leaves(weights, device);
        let taps = frame.taps().map(|tap| if tap { 1.0_f32 } else { 0.0 });
        let loader = Loader {
            weights,
            leaves: &leaves,
            taps: Tensor::<1>::from_floats(taps, device).reshape([1, 1, 3, 3]),
        };
        const { assert!(TAPS == 9) };
        let side = frame.side();
        let mask = TensorData::new(frame.mask(), [1, 1, side, side]);
        Self {
            mask: Tensor::from_data(mask, device),
            cells: frame.cells(),
            channels: weights.layout.dims.channels,
            stem: loader.wide("stem.conv"),
            stem_globals: loader.matrix("stem.globals.weight"),
            blocks: (0..weights.layout.dims.blocks)
                .map(|index| loader.block(index))
                .collect(),
            policy_hidden: loader.point("policy.conv1"),
            policy_out: loader.point("policy.conv2"),
            policy_special: loader.affine("policy.special"),
            value_hidden: loader.affine("value.hidden"),
            value_out: loader.affine("value.out"),
            owner: loader.point("aux.owner"),
            rank: loader.affine("aux.rank"),
            scores: loader.affine("aux.scores"),
            soft_out: loader.point("aux.soft"),
            soft_special: loader.affine("aux.soft_special"),
            leaves,
        }
    }

    /// Policy and value.
    pub fn play(&self, input: NetInput) -> PlayOutput {
        let body = self.body(input);
        self.play_heads(&body)
    }

    /// Every head.
    pub fn train(&self, input: NetInput) -> TrainOutput {
        let body = self.body(input);
        let [batch, _, height, width] = body.trunk.dims();
        let owner = self.owner.point(body.trunk.clone());
        TrainOutput {
            play: self.play_heads(&body),
            soft: join(
                self.soft_out.point(body.policy.clone()),
                self.soft_special.apply(body.pooled.clone()),
            ),
            owner: owner.reshape([batch as i32, -1, (height * width) as i32]),
            rank: self
                .rank
                .apply(body.hidden.clone())
                .reshape([batch, SEATS, SEATS]),
            scores: self
                .scores
                .apply(body.hidden)
                .reshape([batch as i32, SEATS as i32, -1]),
        }
    }

    /// The gradients of every parameter in the layout's order, zeros where the loss does not reach.
    pub fn gradients(&self, gradients: &Gradients) -> Vec<f32> {
        let mut all = Vec::new();
        for leaf in &self.leaves {
            match leaf.grad(gradients) {
                Some(gradient) => all.extend(numbers(gradient)),
                None => all.resize(all.len() + leaf.dims()[0], 0.0),
            }
        }
        all
    }

    fn play_heads(&self, body: &Body) -> PlayOutput {
        PlayOutput {
            policy: join(
                self.policy_out.point(body.policy.clone()),
                self.policy_special.apply(body.pooled.clone()),
            ),
            value: self.value_out.apply(body.hidden.clone()),
        }
    }

    fn body(&self, input: NetInput) -> Body {
        let batch = input.planes.dims()[0];
        let bias = input.globals.clone().matmul(self.stem_globals.clone());
        let bias = bias.reshape([batch, self.channels, 1, 1]);
        let mut trunk = relu(self.stem.wide(input.planes) + bias) * self.mask.clone();
        for block in &self.blocks {
            trunk = self.residual(block, trunk);
        }
        let mean = self.mean(trunk.clone());
        let max = trunk
            .clone()
            .reshape([batch as i32, self.channels as i32, -1])
            .max_dim(2)
            .reshape([batch, self.channels]);
        let pooled = Tensor::cat(vec![mean, max, input.globals], 1);
        Body {
            policy: relu(self.policy_hidden.point(trunk.clone())),
            hidden: relu(self.value_hidden.apply(pooled.clone())),
            trunk,
            pooled,
        }
    }

    fn residual(&self, block: &Block, input: Tensor<4>) -> Tensor<4> {
        let [batch, channels, ..] = input.dims();
        let inner = relu(block.conv1.wide(input.clone())) * self.mask.clone();
        let inner = block.conv2.wide(inner) * self.mask.clone();
        let squeezed = relu(block.squeeze.apply(self.mean(inner.clone())));
        let excited = block.excite.apply(squeezed);
        let gain = sigmoid(excited.clone().narrow(1, 0, channels)).reshape([batch, channels, 1, 1]);
        let shift = excited
            .narrow(1, channels, channels)
            .reshape([batch, channels, 1, 1]);
        relu(input + inner * gain + shift) * self.mask.clone()
    }

    /// The mean over the board's cells of each channel, `[batch, channels]`.
    fn mean(&self, features: Tensor<4>) -> Tensor<2> {
        let [batch, channels, ..] = features.dims();
        let sum = features
            .reshape([batch as i32, channels as i32, -1])
            .sum_dim(2);
        sum.reshape([batch, channels]).div_scalar(self.cells as f32)
    }
}

struct Body {
    trunk: Tensor<4>,
    policy: Tensor<4>,
    pooled: Tensor<2>,
    hidden: Tensor<2>,
}

impl Convolution {
    fn wide(&self, input: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        conv2d(input, self.weight.clone(), Some(self.bias.clone()), options)
    }

    fn point(&self, input: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        conv2d(input, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

impl Affine {
    fn apply(&self, input: Tensor<2>) -> Tensor<2> {
        input.matmul(self.weight.clone()) + self.bias.clone().unsqueeze_dim(0)
    }
}

/// Spatial logits `[batch, planes, side, side]` and special logits as one row.
fn join(spatial: Tensor<4>, special: Tensor<2>) -> Tensor<2> {
    let batch = spatial.dims()[0] as i32;
    Tensor::cat(vec![spatial.reshape([batch, -1]), special], 1)
}

fn load_leaves(weights: &Weights, device: &Device) -> Vec<Tensor<1>> {
    let leaf = |range: &std::ops::Range<usize>| {
        let values = weights.values[range.clone()].to_vec();
        let length = values.len();
        let tensor = Tensor::<1>::from_data(TensorData::new(values, [length]), device);
        if device.is_autodiff() {
            tensor.require_grad()
        } else {
            tensor
        }
    };
    weights
        .layout
        .tensors()
        .iter()
        .map(|tensor| leaf(&tensor.range))
        .collect()
}

/// The numbers of a float tensor, row-major.
///
/// # Panics
/// When the device fails or the tensor is not `f32`: a broken device is no error a caller could handle, the worker
/// process dies and its job goes elsewhere.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    #[expect(
        clippy::expect_used,
        reason = "documented: a failing device ends the process"
    )]
    tensor
        .into_data()
        .try_into_vec::<f32>()
        .expect("an f32 tensor")
}

/// The softmax of value logits over the seats that are present (`present[slot]`, 1 or 0), zero elsewhere;
/// as logarithms, very negative where absent.
pub fn log_values(logits: Tensor<2>, present: Tensor<2>) -> Tensor<2> {
    // Far below any logit, and far from overflowing.
    const ABSENT: f32 = -1e4;
    log_softmax(logits + (present - 1.0) * -ABSENT, 1)
}
