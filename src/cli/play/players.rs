//! The computer's players.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::Rng;
use riftmesh_learning::checkpoint::{Checkpoint, MANIFEST_BYTES_MAX, Manifest};
use riftmesh_learning::decision::Decision;
use riftmesh_learning::device::{Backend, DeviceChoice};
use riftmesh_learning::evaluator::NetEvaluator;
use riftmesh_learning::selfplay::without_noise;
use riftmesh_rules::{Action, Configuration, Position};
use riftmesh_search::{Search, SearchSettings, heuristic_action, random_action, run};

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

/// The files of a model.
pub struct ModelFiles<'a> {
    /// Its manifest.
    pub manifest: &'a Path,
    /// Its weights; looked for if not given.
    pub weights: Option<&'a Path>,
}

impl Opponent {
    /// Loads a network.
    ///
    /// # Errors
    /// A file is missing, damaged, or of a model for something else; the device cannot be had.
    pub fn network(
        files: &ModelFiles<'_>,
        configuration: Configuration,
        simulations: u32,
        device: DeviceChoice,
    ) -> anyhow::Result<Self> {
        let backend = Backend::resolve(device)?;
        let weights = files.weights_path()?;
        let checkpoint = Checkpoint::read(files.manifest, &weights)?;
        let evaluator = NetEvaluator::from_checkpoint(&checkpoint, configuration, backend)
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

impl ModelFiles<'_> {
    /// The weights as given, or under the names that they have beside a manifest: `weights`, or their hash as in a
    /// node's blobs.
    fn weights_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(weights) = self.weights {
            return Ok(weights.to_owned());
        }
        let bytes = std::fs::read(self.manifest)
            .with_context(|| format!("cannot read {}", self.manifest.display()))?;
        anyhow::ensure!(
            bytes.len() <= MANIFEST_BYTES_MAX,
            "{} is too large for a manifest",
            self.manifest.display()
        );
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no manifest", self.manifest.display()))?;
        let hash = manifest.weights.to_string();
        let folder = self.manifest.parent().unwrap_or(Path::new("."));
        let blob = folder.join("..").join(&hash[..2]).join(&hash);
        [folder.join("weights"), folder.join(&hash), blob]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| {
                format!(
                    "the weights {hash} do not lie beside {}: name them with --weights",
                    self.manifest.display()
                )
            })
    }
}
