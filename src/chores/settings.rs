//! What the leader aims at: the numbers of the learning loop, by preset.

use riftmesh_base::{ConfigurationName, Seed};
use riftmesh_learning::window::WindowSettings;
use serde::{Deserialize, Serialize};

use crate::job::payload::Beginner;

/// The loop of one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopSettings {
    /// For which configuration.
    pub configuration: ConfigurationName,
    /// The run's seed.
    pub seed: Seed,
    /// Network shape.
    pub shape: String,
    /// Who plays the first games.
    pub beginner: Beginner,
    /// Games of one self-play job.
    pub games_per_job: u32,
    /// Simulations per decision in self-play.
    pub selfplay_simulations: u32,
    /// Simulations per decision in the matches that decide promotion.
    pub match_simulations: u32,
    /// Games of one evaluation job, even.
    pub games_per_match: u32,
    /// Rows in the ledger before the first training.
    pub rows_first: u64,
    /// New rows before each further training.
    pub rows_step: u64,
    /// Share of decisions that get the full budget and become rows, in percent; the others get a quarter of it. All rows of a
    /// game tell the same winner, so that many games of few rows teach values better than few games of many.
    pub full_percent: u32,
    /// Rows trained on per hundred new rows. On hex8 the value loss on games kept apart rises again once a game has been drawn
    /// from some 50 times (`cargo run --example fit`).
    pub reuse_percent: u64,
    /// Optimiser steps of one training at most, so that a round is short however many rows came in meanwhile.
    pub steps_max: u64,
    /// Rows in one optimiser step.
    pub batch: u32,
    /// The window never shrinks below this many rows.
    pub window_floor: u64,
    /// Games of the bare policy against random, played for every new champion.
    pub bare_games: u32,
}

/// Names of presets for `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The tiny network: learns hex8 and square8 on two CPU cores. Search over a heuristic plays the first games.
    Tiny,
    /// As tiny, but from nothing: the untrained network plays the first games.
    Scratch,
    /// The tiny network in very short rounds with very few simulations: for trying things and for tests.
    Smoke,
}

impl LoopSettings {
    /// The numbers of `preset`.
    pub fn preset(preset: Preset, configuration: ConfigurationName, seed: Seed) -> Self {
        let tiny = Self {
            configuration,
            seed,
            shape: "tiny".to_owned(),
            beginner: Beginner::Heuristic,
            games_per_job: 32,
            selfplay_simulations: 16,
            match_simulations: 16,
            games_per_match: 40,
            rows_first: 14_000,
            rows_step: 12_000,
            full_percent: 25,
            reuse_percent: 150,
            steps_max: 800,
            batch: 128,
            window_floor: 20_000,
            bare_games: 40,
        };
        match preset {
            Preset::Tiny => tiny,
            Preset::Scratch => Self {
                beginner: Beginner::Untrained,
                ..tiny
            },
            Preset::Smoke => Self {
                beginner: Beginner::Untrained,
                games_per_job: 2,
                selfplay_simulations: 4,
                match_simulations: 2,
                games_per_match: 10,
                rows_first: 60,
                rows_step: 100,
                full_percent: 100,
                reuse_percent: 200,
                steps_max: 20,
                batch: 32,
                window_floor: 500,
                bare_games: 4,
                ..tiny
            },
        }
    }

    /// Rows of the training window when the ledger has `rows`. A scheduling choice that the leader makes once and writes
    /// into the job as a list of segments, so floats are harmless here.
    pub fn window(&self, rows: u64) -> u64 {
        let window = WindowSettings {
            floor_rows: self.window_floor,
            ..WindowSettings::default()
        };
        window.rows(rows)
    }
}
