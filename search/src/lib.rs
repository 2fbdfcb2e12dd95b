//! Tree search over any game and any evaluator: Gumbel AlphaZero, plain PUCT, and players that need no network.
//!
//! The search is a state machine ([`Search`]) that asks for evaluations and is given them: it never calls an
//! evaluator, starts a thread, reads a clock or draws entropy. Values are vectors with one component per seat
//! (max^n), so the same code serves two, three and four players and games where a player moves several times in
//! a row.

pub mod evaluator;
pub mod game;
pub mod halving;
pub mod heuristic;
pub mod noise;
pub mod search;
pub mod settings;
pub mod temperature;
pub mod transform;
mod tree;
pub mod values;

pub use evaluator::{Evaluation, Evaluator, Leaf, ScriptedEvaluator, UniformEvaluator, run};
pub use game::Game;
pub use heuristic::{HEURISTIC_VERSION, heuristic_action, heuristic_values, random_action};
pub use search::{Search, SearchOutcome, Step};
pub use settings::{Algorithm, GumbelSettings, PuctSettings, RootBatching, SearchSettings};
pub use temperature::{TemperatureContext, TemperatureSchedule};
pub use transform::ValueTransform;
pub use values::{SEATS_MAX, SeatValues};
