//! The parameters of a network as named, flat numbers: what is stored, averaged, optimised and loaded on a device.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::Seed;
use serde::{Deserialize, Serialize};

/// Seats a network knows.
pub const SEATS: usize = 4;
/// Width of the hidden layer of the value head.
pub const VALUE_HIDDEN: usize = 64;
/// Classes of the owner head: nobody, then the players relative to the decider.
pub const OWNER_CLASSES: usize = 1 + SEATS;
/// Scores predicted per seat: eliminated rings and territory, each over its threshold.
pub const SCORES_PER_SEAT: usize = 2;

/// Width and depth of the trunk, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetShape {
    /// 32 channels, 3 blocks: CPU.
    Tiny,
    /// 64 x 4.
    Small,
    /// 96 x 6: the size of the system this one replaces.
    Parity,
    /// 128 x 10.
    Medium,
    /// 192 x 12.
    Large,
}

impl NetShape {
    /// Every shape, smallest first.
    pub const ALL: [Self; 5] = [
        Self::Tiny,
        Self::Small,
        Self::Parity,
        Self::Medium,
        Self::Large,
    ];

    /// Channels of the trunk.
    pub const fn channels(self) -> usize {
        match self {
            Self::Tiny => 32,
            Self::Small => 64,
            Self::Parity => 96,
            Self::Medium => 128,
            Self::Large => 192,
        }
    }

    /// Residual blocks.
    pub const fn blocks(self) -> usize {
        match self {
            Self::Tiny => 3,
            Self::Small => 4,
            Self::Parity => 6,
            Self::Medium => 10,
            Self::Large => 12,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Parity => "parity",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

impl fmt::Display for NetShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no network shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network shape: expected tiny, small, parity, medium or large")]
pub struct UnknownShape(pub String);

impl FromStr for NetShape {
    type Err = UnknownShape;

    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.name() == text)
            .ok_or_else(|| UnknownShape(text.to_owned()))
    }
}

/// Everything the sizes of the parameters depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDims {
    /// Channels of the trunk.
    pub channels: usize,
    /// Residual blocks.
    pub blocks: usize,
    /// Input planes.
    pub planes: usize,
    /// Input globals.
    pub globals: usize,
    /// Action planes.
    pub action_planes: usize,
    /// Actions that belong to no cell.
    pub specials: usize,
}

impl NetDims {
    /// Width of the squeeze in squeeze-excitation.
    pub fn squeeze(&self) -> usize {
        (self.channels / 16).max(8)
    }

    /// Width of the pooled vector: mean and maximum of each channel, then the globals.
    pub fn pooled(&self) -> usize {
        2 * self.channels + self.globals
    }
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Init {
    /// Zero: biases.
    Zero,
    /// Normal with deviation `gain * sqrt(2 / fan_in)`.
    Normal { fan_in: usize, gain: f32 },
}

/// One parameter tensor: where it lies among the flat values and how it is treated.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Its name in checkpoints, such as `block.0.conv1.weight`.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Whether weight decay applies (convolution and linear weights, not biases).
    pub decays: bool,
    /// Where its values lie.
    pub range: Range<usize>,
    init: Init,
}

/// The parameter tensors of a network in their fixed order. Convolutions are `[out, in, 3, 3]` or `[out, in]` for 1x1,
/// linear layers `[in, out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// What the sizes follow from.
    pub dims: NetDims,
    tensors: Vec<TensorSpec>,
    len: usize,
}

impl Layout {
    /// The layout for `dims`.
    pub fn new(dims: NetDims) -> Self {
        let mut layout = Self {
            dims,
            tensors: Vec::new(),
            len: 0,
        };
        layout.trunk();
        layout.heads();
        layout
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Values in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters; never true.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorSpec> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    fn trunk(&mut self) {
        let NetDims {
            channels,
            planes,
            globals,
            blocks,
            ..
        } = self.dims;
        let squeeze = self.dims.squeeze();
        self.conv("stem.conv", channels, planes, 3, 1.0);
        self.push("stem.globals.weight", &[globals, channels], globals, 0.5);
        // Without normalisation a residual branch starts small, or activations grow with depth.
        let branch = 0.5 / (blocks as f32).sqrt();
        for block in 0..blocks {
            self.conv(&format!("block.{block}.conv1"), channels, channels, 3, 1.0);
            self.conv(
                &format!("block.{block}.conv2"),
                channels,
                channels,
                3,
                branch,
            );
            self.linear(&format!("block.{block}.squeeze"), channels, squeeze, 1.0);
            self.linear(&format!("block.{block}.excite"), squeeze, 2 * channels, 0.1);
        }
    }

    fn heads(&mut self) {
        let NetDims {
            channels,
            action_planes,
            specials,
            ..
        } = self.dims;
        let pooled = self.dims.pooled();
        self.conv("policy.conv1", channels, channels, 1, 1.0);
        self.conv("policy.conv2", action_planes, channels, 1, 0.1);
        self.linear("policy.special", pooled, specials, 0.1);
        self.linear("value.hidden", pooled, VALUE_HIDDEN, 1.0);
        self.linear("value.out", VALUE_HIDDEN, SEATS, 0.1);
        self.conv("aux.owner", OWNER_CLASSES, channels, 1, 0.1);
        self.linear("aux.rank", VALUE_HIDDEN, SEATS * SEATS, 0.1);
        self.linear("aux.scores", VALUE_HIDDEN, SEATS * SCORES_PER_SEAT, 0.1);
        self.conv("aux.soft", action_planes, channels, 1, 0.1);
        self.linear("aux.soft_special", pooled, specials, 0.1);
    }

    fn conv(&mut self, name: &str, out: usize, inputs: usize, kernel: usize, gain: f32) {
        let shape: &[usize] = if kernel == 1 {
            &[out, inputs]
        } else {
            &[out, inputs, kernel, kernel]
        };
        self.push(
            &format!("{name}.weight"),
            shape,
            inputs * kernel * kernel,
            gain,
        );
        self.bias(name, out);
    }

    fn linear(&mut self, name: &str, inputs: usize, out: usize, gain: f32) {
        self.push(&format!("{name}.weight"), &[inputs, out], inputs, gain);
        self.bias(name, out);
    }

    fn bias(&mut self, name: &str, out: usize) {
        self.add(format!("{name}.bias"), vec![out], false, Init::Zero);
    }

    fn push(&mut self, name: &str, shape: &[usize], fan_in: usize, gain: f32) {
        self.add(
            name.to_owned(),
            shape.to_vec(),
            true,
            Init::Normal { fan_in, gain },
        );
    }

    fn add(&mut self, name: String, shape: Vec<usize>, decays: bool, init: Init) {
        let start = self.len;
        self.len += shape.iter().product::<usize>();
        self.tensors.push(TensorSpec {
            name,
            shape,
            decays,
            range: start..self.len,
            init,
        });
    }
}

/// A network's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Names, shapes and places.
    pub layout: Layout,
    /// All values, as [`Layout`] orders them.
    pub values: Vec<f32>,
}

impl Weights {
    /// A fresh network: the untrained player of matches. The same seed gives the same network.
    pub fn fresh(dims: NetDims, seed: Seed) -> Self {
        let layout = Layout::new(dims);
        let mut values = vec![0.0; layout.len()];
        for (index, tensor) in layout.tensors().iter().enumerate() {
            if let Init::Normal { fan_in, gain } = tensor.init {
                let stream = seed.derive("weights", index as u64);
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream.0);
                let deviation = gain * (2.0 / fan_in.max(1) as f32).sqrt();
                for value in &mut values[tensor.range.clone()] {
                    *value = deviation * normal(&mut rng);
                }
            }
        }
        Self { layout, values }
    }

    /// The values of the tensor called `name`.
    ///
    /// # Panics
    /// When the layout has no such tensor: callers name tensors of the architecture only.
    pub fn tensor(&self, name: &str) -> &[f32] {
        let found = self.layout.get(name);
        assert!(found.is_some(), "no parameter is called {name}");
        found.map_or(&[], |tensor| &self.values[tensor.range.clone()])
    }
}

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut impl Rng) -> f32 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(shape: NetShape) -> NetDims {
        NetDims {
            channels: shape.channels(),
            blocks: shape.blocks(),
            planes: 36,
            globals: 65,
            action_planes: 63,
            specials: 6,
        }
    }

    /// Parameter counts are about those of LEARNING section 4.
    #[test]
    fn shapes_have_the_sizes_their_names_promise() {
        let millions = NetShape::ALL.map(|shape| Layout::new(dims(shape)).len() as f64 / 1e6);
        let expected = [0.08, 0.34, 1.08, 3.1, 8.2];
        for (found, expected) in millions.into_iter().zip(expected) {
            assert!(
                (found / expected - 1.0).abs() < 0.3,
                "{found} M for {expected} M"
            );
        }
    }

    #[test]
    fn fresh_weights_follow_their_seed() {
        let first = Weights::fresh(dims(NetShape::Tiny), Seed(1));
        assert_eq!(first, Weights::fresh(dims(NetShape::Tiny), Seed(1)));
        assert_ne!(first, Weights::fresh(dims(NetShape::Tiny), Seed(2)));
        assert!(
            first
                .tensor("stem.conv.bias")
                .iter()
                .all(|&value| value == 0.0)
        );
    }

    #[test]
    fn names_parse_back() {
        for shape in NetShape::ALL {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        assert!("huge".parse::<NetShape>().is_err());
    }
}
