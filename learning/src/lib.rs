//! placeholder

pub mod codec;
pub mod decision;
pub mod encode;
