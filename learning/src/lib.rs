//! Learning RingRift by self-play: encoders, networks, batched evaluation, self-play, replay, training, matches and
//! ratings. Everything here runs when called and is told when to stop; who runs what, where and when is the caller's
//! business.

pub mod arena;
mod burn_net;
pub mod checkpoint;
pub mod codec;
mod cpu;
mod cpu_train;
pub mod decision;
pub mod device;
pub mod encode;
pub mod evaluator;
pub mod export;
pub mod frame;
pub mod gates;
pub mod gradient;
mod grid;
pub mod infer;
mod kernels;
pub mod loss;
pub mod net;
pub mod npz;
pub mod optimizer;
pub mod ratings;
pub mod record;
pub mod replay;
pub mod resume;
pub mod rows;
pub mod segment;
pub mod selfplay;
pub mod stats;
pub mod teacher;
pub mod train;
pub mod transfer;
pub mod weights;
pub mod window;

pub use burn_net::BurnNet;
pub use checkpoint::{Checkpoint, CheckpointError, Manifest};
pub use cpu::CpuNet;
pub use cpu_train::CpuGradient;
pub use device::{Backend, DeviceChoice};
pub use evaluator::NetEvaluator;
pub use weights::{NetShape, Weights};
