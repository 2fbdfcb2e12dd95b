//! Every number a search depends on.

use serde::{Deserialize, Serialize};

use crate::transform::ValueTransform;

/// How to search one decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchSettings {
    /// The budget: visits given out at the root, each one new leaf or one more visit to a finished game. The
    /// root's own evaluation is not counted. Zero plays from the policy alone.
    pub simulations: u32,
    /// Which search.
    pub algorithm: Algorithm,
}

impl SearchSettings {
    /// Gumbel AlphaZero with default settings and `simulations` visits.
    pub fn gumbel(simulations: u32) -> Self {
        Self {
            simulations,
            algorithm: Algorithm::Gumbel(GumbelSettings::default()),
        }
    }

    /// PUCT with default settings and `simulations` visits.
    pub fn puct(simulations: u32) -> Self {
        Self {
            simulations,
            algorithm: Algorithm::Puct(PuctSettings::default()),
        }
    }
}

/// The searches there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Gumbel AlphaZero: sequential halving at the root, improved-policy selection below it.
    Gumbel(GumbelSettings),
    /// AlphaZero's PUCT with Dirichlet noise at the root.
    Puct(PuctSettings),
}

/// Settings of Gumbel AlphaZero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GumbelSettings {
    /// The most root moves that are considered; fewer when there are fewer legal moves.
    pub considered_max: u32,
    /// How values become additions to logits.
    pub transform: ValueTransform,
    /// Factor on the Gumbel numbers of the root: 1 explores as published, 0 is deterministic (matches).
    pub noise_scale: f64,
    /// How many leaves are asked for at once.
    pub batching: RootBatching,
}

impl Default for GumbelSettings {
    fn default() -> Self {
        Self {
            considered_max: 16,
            transform: ValueTransform::default(),
            noise_scale: 1.0,
            batching: RootBatching::Round,
        }
    }
}

/// How many leaves of one search may wait at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootBatching {
    /// One leaf; root moves are ranked anew before every simulation, as published.
    Single,
    /// One leaf under each root move still considered; ranked once per halving round. The subtrees are disjoint,
    /// so every leaf is the one that single leaves would have reached under the same root move.
    Round,
}

/// Settings of PUCT.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PuctSettings {
    /// Exploration constant.
    pub c_init: f64,
    /// Visits at which exploration starts to grow.
    pub c_base: f64,
    /// The lowest possible value, which an unvisited move is taken to have.
    pub value_min: f64,
    /// The highest possible value.
    pub value_max: f64,
    /// Sum of the Dirichlet parameters, spread evenly over the legal root moves. Must be positive.
    pub dirichlet_total: f64,
    /// Share of Dirichlet noise in the root's priors, 0 to 1. 0 is deterministic.
    pub dirichlet_weight: f64,
}

impl Default for PuctSettings {
    fn default() -> Self {
        Self {
            c_init: 1.25,
            c_base: 19_652.0,
            value_min: 0.0,
            value_max: 1.0,
            dirichlet_total: 10.0,
            dirichlet_weight: 0.25,
        }
    }
}
