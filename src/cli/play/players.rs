//! The computer's players.

use anyhow::Context;
use rand::Rng;
use riftmesh_learning::decision::Decision;
use riftmesh_learning::device::{Backend, DeviceChoice};
use riftmesh_learning::evaluator::NetEvaluator;
use riftmesh_learning::selfplay::without_noise;
use riftmesh_rules::{Action, Configuration, Position};
use riftmesh_search::{Search, SearchSettings, heuristic_action, random_action, run};

use crate::cli::model_files::ModelFiles;

/// A player that needs no person.
pub enum Opponent {
    /// Uniform choice over the legal actions.
    Random,
    /// The one-ply heuristic.
    Heuristic,
    /// A network, searched without noise.
    Network {
        /// The network.
        evaluator: Box<NetEvaluator>,
        /// How it searches.
        search: SearchSettings,
    },
}

impl Opponent {
    /// Loads a network.
    ///
    /// # Errors
    /// A file is missing, damaged, or of a model for something else; the device cannot be had.
    pub fn network(
        files: &ModelFiles,
        configuration: Configuration,
        simulations: u32,
        device: DeviceChoice,
    ) -> anyhow::Result<Self> {
        let backend = Backend::resolve(device)?;
        let evaluator = NetEvaluator::from_checkpoint(&files.read()?, configuration, backend)
            .with_context(|| files.manifest.display().to_string())?;
        Ok(Self::Network {
            evaluator: Box::new(evaluator),
            search: without_noise(SearchSettings::gumbel(simulations)),
        })
    }

    /// The choice in `position`, which is not over.
    pub fn action(&mut self, position: &Position, rng: &mut impl Rng) -> Action {
        let mut legal = Vec::new();
        position.legal(&mut legal);
        match self {
            Self::Random => random_action(&legal, rng),
            Self::Heuristic => heuristic_action(position, &legal, rng),
            Self::Network { evaluator, search } => searched(position, evaluator, *search, rng)
                // A position with a choice always has a decision; its first action is as legal as any.
                .unwrap_or(legal[0]),
        }
    }
}

/// The action that the search prefers. A recovery slide takes two decisions.
fn searched(
    position: &Position,
    evaluator: &mut NetEvaluator,
    settings: SearchSettings,
    rng: &mut impl Rng,
) -> Option<Action> {
    let mut played = Vec::new();
    let mut decision = Decision::after(position.clone(), &mut |action| played.push(action));
    while played.is_empty() && !decision.choices().is_empty() {
        let mut search = Search::new(decision.clone(), settings, rng);
        let choice = run(&mut search, evaluator).action();
        decision.choose(choice, &mut |action| played.push(action));
    }
    played.first().copied()
}
