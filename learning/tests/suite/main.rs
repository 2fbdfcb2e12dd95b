//! The learning crate through its public doors: networks, checkpoints, self-play, gates, training and matches.
#![expect(
    clippy::unwrap_used,
    reason = "what the tests share may fail the test that calls it"
)]

mod checkpoints;
mod common;
mod damage;
mod export;
mod games;
mod gradients;
mod mutations;
mod networks;
mod training;
mod transfer;
