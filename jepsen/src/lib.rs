//! Black-box fault tests of real clusters: histories, independent models, checkers.
//!
//! Nothing here knows the product's types: it speaks the HTTP API, sends signals and reads files.

pub mod edn;
pub mod history;
pub mod linear;
pub mod register;
pub mod verdict;
