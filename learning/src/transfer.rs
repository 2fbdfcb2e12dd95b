//! From one number of players to another: a network that learned to play with two starts three and four from there.
//!
//! All seats share one network, so everything it knows of the board, the rules and the fight is copied. What it has never
//! been told about are players that were absent: the outputs for their slots start from the mean of those it knows, so
//! that no player starts with an opinion against it.

use std::collections::BTreeMap;

use riftmesh_base::BlobHash;
use riftmesh_rules::{Configuration, UnknownConfiguration};

use crate::checkpoint::{Checkpoint, CheckpointError, DataRange, Manifest};
use crate::evaluator::{check_fits, dims_of};
use crate::weights::{OWNER_CLASSES, SCORES_PER_SEAT, SEATS, Weights};

/// Why a network was not transferred; it is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The network's configuration is unknown to this build.
    #[error("{0}")]
    Configuration(#[from] UnknownConfiguration),
    /// The network was made for another codec or encoder.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// Actions and inputs of another board have other meanings.
    #[error("a network for {from} cannot play {to}: only the number of players may change")]
    OtherBoard {
        /// What the network plays.
        from: Configuration,
        /// What was wanted.
        to: Configuration,
    },
}

/// The network of `parent` for the number of players of `configuration`. It has not been trained: it counts its parent's
/// steps and rows as its own, and starts with no data of its own and no figures.
///
/// # Errors
/// [`TransferError`].
pub fn transfer(
    parent: &Checkpoint,
    configuration: Configuration,
    revision: &str,
) -> Result<Checkpoint, TransferError> {
    let from: Configuration = parent.manifest.configuration.as_str().parse()?;
    check_fits(parent, from)?;
    if from.board() != configuration.board() {
        return Err(TransferError::OtherBoard {
            from,
            to: configuration,
        });
    }
    debug_assert_eq!(
        parent.manifest.dims,
        dims_of(parent.manifest.shape, configuration),
        "sizes depend on the board alone"
    );
    let mut weights = parent.weights.clone();
    introduce_seats(&mut weights, from.players(), configuration.players());
    let mut child = Checkpoint {
        manifest: Manifest {
            configuration: configuration.into(),
            parent: Some(parent.manifest.weights),
            data: DataRange::default(),
            metrics: BTreeMap::new(),
            revision: revision.to_owned(),
            ..parent.manifest.clone()
        },
        weights,
    };
    child.manifest.weights = BlobHash::of(&child.weights_bytes());
    Ok(child)
}

/// Fills the outputs of slots `known..players` from those below.
fn introduce_seats(weights: &mut Weights, known: usize, players: usize) {
    let new = known..players.max(known);
    // Value and scores: one group of outputs per slot.
    for (name, group) in [("value.out", 1), ("aux.scores", SCORES_PER_SEAT)] {
        fill(weights, name, SEATS * group, |output| {
            let (slot, part) = (output / group, output % group);
            new.contains(&slot)
                .then(|| (0..known).map(|known| known * group + part).collect())
        });
    }
    // Owners: nobody, then the slots. This one is a 1x1 convolution, whose outputs are rows.
    fill(weights, "aux.owner", OWNER_CLASSES, |class| {
        new.contains(&class.wrapping_sub(1))
            .then(|| (1..=known).collect())
    });
    // Ranks: slots by ranks, and both are new.
    fill(weights, "aux.rank", SEATS * SEATS, |output| {
        let (slot, rank) = (output / SEATS, output % SEATS);
        let slots = if new.contains(&slot) {
            0..known
        } else {
            slot..slot + 1
        };
        let ranks = if new.contains(&rank) {
            0..known
        } else {
            rank..rank + 1
        };
        (new.contains(&slot) || new.contains(&rank)).then(|| {
            slots
                .flat_map(|slot| ranks.clone().map(move |rank| slot * SEATS + rank))
                .collect()
        })
    });
}

/// Sets the outputs of a layer for which `sources` names others to the means of those. Means are of the layer as it was.
fn fill(
    weights: &mut Weights,
    layer: &str,
    outputs: usize,
    sources: impl Fn(usize) -> Option<Vec<usize>>,
) {
    for (part, by_rows) in [("weight", layer == "aux.owner"), ("bias", true)] {
        let Some(spec) = weights.layout.get(&format!("{layer}.{part}")) else {
            continue;
        };
        let values = &mut weights.values[spec.range.clone()];
        let before = values.to_vec();
        let inputs = values.len() / outputs;
        let at = |output: usize, input: usize| {
            if by_rows {
                output * inputs + input
            } else {
                input * outputs + output
            }
        };
        for (output, sources) in (0..outputs).filter_map(|output| Some((output, sources(output)?)))
        {
            for input in 0..inputs {
                let sum: f32 = sources
                    .iter()
                    .map(|&source| before[at(source, input)])
                    .sum();
                values[at(output, input)] = sum / sources.len() as f32;
            }
        }
    }
}
