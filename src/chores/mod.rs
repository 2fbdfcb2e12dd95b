//! What only the leader does: keep the queue filled, expire silent sessions, ask for verdicts.
//!
//! Planning is pure and works on plain facts; the driver reads the facts from the applied state and proposes what the
//! plan says. Losing the office in the middle is harmless: unique keys and compare-and-set make a repeated or
//! half-done round equal to one.

mod driver;
mod facts;
pub mod plan;
pub mod settings;

pub use driver::Chores;
