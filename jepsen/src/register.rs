//! The register: the simplest object whose histories tell a linearizable store from one that only looks like it.

use crate::linear::Sequential;

/// An operation on a register and what was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOp {
    /// A read that gave this value; none for a register nobody wrote.
    Read(Option<i64>),
    /// A write of this value.
    Write(i64),
    /// A compare-and-set that succeeded.
    CompareAndSet {
        /// The value it found.
        expected: i64,
        /// The value it left.
        new: i64,
    },
    /// A compare-and-set that found another value than this, and so did nothing.
    Mismatch(i64),
}

/// A register that nobody has written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register;

impl Sequential for Register {
    type State = Option<i64>;
    type Op = RegisterOp;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State> {
        match *op {
            RegisterOp::Read(value) => (*state == value).then_some(*state),
            RegisterOp::Write(value) => Some(Some(value)),
            RegisterOp::CompareAndSet { expected, new } => {
                (*state == Some(expected)).then_some(Some(new))
            }
            RegisterOp::Mismatch(expected) => (*state != Some(expected)).then_some(*state),
        }
    }
}

#[cfg(test)]
mod tests;
