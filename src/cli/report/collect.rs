//! Reads a folder: segments, manifests and journals, by configuration.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use riftmesh_base::BlobHash;
use riftmesh_learning::checkpoint::{MANIFEST_BYTES_MAX, Manifest};
use riftmesh_learning::ratings::{Pairing, rate};
use riftmesh_learning::record::{GameRecord, game_id};
use riftmesh_learning::segment::{SEGMENT_MAGIC, Segment};
use riftmesh_learning::stats::MatchScore;
use riftmesh_rules::Configuration;
use serde::Serialize;

use crate::cli::local::files::{files, starts_with};
use crate::cli::local::journal::{self, Entry, JOURNAL};
use crate::cli::model_files::read_manifest;

/// Bars of the drawing of lengths, and classes of expected chances.
const BINS: usize = 20;
/// Classes with fewer decisions say nothing.
const CLASS_MIN: u64 = 20;
/// Losses worth drawing: the others are weighted far below them.
const HEADS: [&str; 3] = ["policy", "value", "policy_entropy"];

/// Everything that was found.
pub struct Collected {
    /// By configuration.
    pub configurations: Vec<ConfigurationFacts>,
    /// What could not be read, and why.
    pub unreadable: Vec<String>,
}

/// What is known about one configuration.
#[derive(Debug, Default, Serialize)]
pub struct ConfigurationFacts {
    /// Such as `hex8_2p`.
    pub configuration: String,
    /// Different games in segments.
    pub games: u64,
    /// Moves of a game on average.
    pub moves_mean: f64,
    /// Start, end and count of classes of lengths, in moves.
    pub lengths: Vec<(f64, f64, u64)>,
    /// Manifests.
    pub networks: u64,
    /// Matches in journals.
    pub matches: u64,
    /// Loss curves.
    pub losses: Vec<Curve>,
    /// Ratings over all matches, the best first.
    pub ratings: Vec<RatedPlayer>,
    /// How often players won of whom searches expected about the same.
    pub calibration: Vec<CalibrationClass>,
    /// Mean distance of the two, weighted by decisions.
    pub calibration_error: f64,
}

/// A loss over the steps.
#[derive(Debug, Serialize)]
pub struct Curve {
    /// Which loss.
    pub name: String,
    /// Steps and losses, by steps.
    pub points: Vec<(f64, f64)>,
}

/// A player with its rating.
#[derive(Debug, Serialize)]
pub struct RatedPlayer {
    /// As it was called on the command line.
    pub player: String,
    /// Elo points over random, or over the first player where random did not play.
    pub elo: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Games behind it.
    pub games: u32,
}

/// Expectations that are about the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CalibrationClass {
    /// Mean expected chance.
    pub expected: f64,
    /// Share that won.
    pub won: f64,
    /// Decisions times players.
    pub count: u64,
}

/// What is being put together for one configuration.
#[derive(Default)]
struct Heap {
    lengths: Vec<usize>,
    /// Sums of expectations and wins, and counts.
    classes: [(f64, f64, u64); BINS],
    networks: u64,
    losses: BTreeMap<String, Vec<(f64, f64)>>,
    pairings: Vec<Pairing<String>>,
}

#[derive(Default)]
struct Collector {
    heaps: BTreeMap<String, Heap>,
    games: HashSet<BlobHash>,
    models: HashSet<BlobHash>,
    unreadable: Vec<String>,
}

/// Reads everything below `folder`.
///
/// # Errors
/// The folder cannot be listed. Files that cannot be read are named in the result.
pub fn collect(folder: &Path) -> anyhow::Result<Collected> {
    let mut collector = Collector::default();
    for path in files(folder)? {
        if let Err(error) = collector.add(&path) {
            collector
                .unreadable
                .push(format!("{}: {error:#}", path.display()));
        }
    }
    let facts = |(configuration, heap): (String, Heap)| heap.facts(configuration);
    Ok(Collected {
        configurations: collector.heaps.into_iter().map(facts).collect(),
        unreadable: collector.unreadable,
    })
}

impl Collector {
    fn heap(&mut self, configuration: &str) -> &mut Heap {
        self.heaps.entry(configuration.to_owned()).or_default()
    }

    fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        if path.file_name().is_some_and(|name| name == JOURNAL) {
            for entry in journal::read(path)? {
                self.add_entry(entry);
            }
        } else if starts_with(path, &SEGMENT_MAGIC) {
            self.add_segment(&Segment::read(path)?)?;
        } else if is_manifest(path) {
            self.add_manifest(&read_manifest(path)?);
        }
        Ok(())
    }

    fn add_segment(&mut self, segment: &Segment) -> anyhow::Result<()> {
        let header = &segment.header;
        let configuration = Configuration::try_from(&header.configuration)?;
        for game in &segment.games {
            if !self.games.insert(game_id(header.job, game.number)) {
                continue;
            }
            let heap = self.heap(header.configuration.as_str());
            heap.lengths.push(game.moves.len());
            // Under the pie rule a seat's value is not about the person who ends there.
            if !header.swap {
                heap.calibrate(game, configuration.players());
            }
        }
        Ok(())
    }

    fn add_manifest(&mut self, manifest: &Manifest) {
        if !self.models.insert(manifest.weights) {
            return;
        }
        let heap = self.heap(manifest.configuration.as_str());
        heap.networks += 1;
        for head in HEADS {
            if let Some(loss) = manifest.metrics.get(&format!("validation_{head}")) {
                let curve = heap.losses.entry(format!("validation {head}")).or_default();
                curve.push((manifest.steps as f64, *loss));
            }
        }
    }

    fn add_entry(&mut self, entry: Entry) {
        match entry {
            Entry::Training {
                configuration,
                step,
                losses,
            } => {
                let heap = self.heap(&configuration);
                for head in HEADS {
                    if let Some(loss) = losses.get(head) {
                        let curve = heap.losses.entry(format!("training {head}")).or_default();
                        curve.push((step as f64, *loss));
                    }
                }
            }
            Entry::Match {
                configuration,
                player,
                opponent,
                wins,
                losses,
            } => self.heap(&configuration).pairings.push(Pairing {
                player,
                opponent,
                score: MatchScore { wins, losses },
            }),
        }
    }
}

/// Whether the file may be a manifest: a small JSON object that names weights. Everything else is none of our business.
fn is_manifest(path: &Path) -> bool {
    if !std::fs::metadata(path).is_ok_and(|data| data.len() <= MANIFEST_BYTES_MAX as u64) {
        return false;
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.starts_with('{') && text.contains("\"weights\"") && text.contains("\"encoder\"")
}

impl Heap {
    fn calibrate(&mut self, game: &GameRecord, players: usize) {
        for decision in game.decisions.iter().filter(|decision| decision.is_row()) {
            for (seat, value) in decision.values.iter().take(players).enumerate() {
                let expected = f64::from(*value).clamp(0.0, 1.0);
                let class = ((expected * BINS as f64) as usize).min(BINS - 1);
                let (sum, wins, count) = &mut self.classes[class];
                *sum += expected;
                *wins += f64::from(u8::from(seat == usize::from(game.winner)));
                *count += 1;
            }
        }
    }

    fn facts(self, configuration: String) -> ConfigurationFacts {
        let calibration: Vec<_> = self
            .classes
            .iter()
            .filter(|(_, _, count)| *count >= CLASS_MIN)
            .map(|&(sum, wins, count)| CalibrationClass {
                expected: sum / count as f64,
                won: wins / count as f64,
                count,
            })
            .collect();
        let moves: usize = self.lengths.iter().sum();
        ConfigurationFacts {
            configuration,
            games: self.lengths.len() as u64,
            moves_mean: moves as f64 / self.lengths.len().max(1) as f64,
            lengths: classes_of(&self.lengths),
            networks: self.networks,
            matches: self.pairings.len() as u64,
            losses: curves(self.losses),
            ratings: ratings(&self.pairings),
            calibration_error: calibration_error(&calibration),
            calibration,
        }
    }
}

fn curves(losses: BTreeMap<String, Vec<(f64, f64)>>) -> Vec<Curve> {
    let curve = |(name, mut points): (String, Vec<(f64, f64)>)| {
        points.retain(|point| point.1.is_finite());
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Curve { name, points }
    };
    losses.into_iter().map(curve).collect()
}

fn classes_of(lengths: &[usize]) -> Vec<(f64, f64, u64)> {
    let (Some(least), Some(most)) = (lengths.iter().min(), lengths.iter().max()) else {
        return Vec::new();
    };
    let width = (most - least + 1).div_ceil(BINS).max(1);
    let classes = (most - least) / width + 1;
    let mut counts = vec![0; classes];
    for length in lengths {
        counts[(length - least) / width] += 1;
    }
    let class = |(index, count): (usize, u64)| {
        let start = (least + index * width) as f64;
        (start, start + width as f64, count)
    };
    counts.into_iter().enumerate().map(class).collect()
}

fn calibration_error(classes: &[CalibrationClass]) -> f64 {
    let count: u64 = classes.iter().map(|class| class.count).sum();
    let distance =
        |class: &CalibrationClass| class.count as f64 * (class.expected - class.won).abs();
    classes.iter().map(distance).sum::<f64>() / count.max(1) as f64
}

/// Ratings by name; a network that was trained on in the same folder between two matches counts as one player.
fn ratings(pairings: &[Pairing<String>]) -> Vec<RatedPlayer> {
    let Some(first) = pairings.first() else {
        return Vec::new();
    };
    let random = "random".to_owned();
    let played = |name: &String| {
        let named =
            |pairing: &Pairing<String>| pairing.player == *name || pairing.opponent == *name;
        pairings.iter().any(named)
    };
    let anchor = if played(&random) {
        &random
    } else {
        &first.opponent
    };
    let mut rated: Vec<_> = rate(anchor, pairings, &BTreeMap::new())
        .into_iter()
        .map(|(player, rating)| RatedPlayer {
            player,
            elo: rating.elo,
            standard_error: rating.standard_error,
            games: rating.games,
        })
        .collect();
    rated.sort_by(|a, b| b.elo.total_cmp(&a.elo));
    rated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fall_into_classes_that_cover_them() {
        assert!(classes_of(&[]).is_empty());
        assert_eq!(classes_of(&[7, 7]), [(7.0, 8.0, 2)]);
        let lengths: Vec<usize> = (100..300).collect();
        let classes = classes_of(&lengths);
        assert_eq!(classes.iter().map(|class| class.2).sum::<u64>(), 200);
        assert_eq!((classes[0].0, classes[classes.len() - 1].1), (100.0, 300.0));
    }

    /// A search that says what happens has no error; one that is sure of the loser has the largest.
    #[test]
    fn calibration_compares_expectations_with_winners() {
        let class = |expected, won, count| CalibrationClass {
            expected,
            won,
            count,
        };
        assert_eq!(
            calibration_error(&[class(0.25, 0.25, 50), class(0.75, 0.75, 10)]),
            0.0
        );
        assert_eq!(
            calibration_error(&[class(0.0, 1.0, 50), class(1.0, 0.0, 50)]),
            1.0
        );
        let mixed = calibration_error(&[class(0.5, 0.6, 30), class(0.5, 0.5, 10)]);
        assert!((mixed - 0.075).abs() < 1e-9, "{mixed}");
    }

    #[test]
    fn ratings_are_over_random_where_it_played() {
        let pairing = |player: &str, opponent: &str, wins, losses| Pairing {
            player: player.to_owned(),
            opponent: opponent.to_owned(),
            score: MatchScore { wins, losses },
        };
        let rated = ratings(&[pairing("a", "b", 15, 5), pairing("b", "random", 15, 5)]);
        let names: Vec<_> = rated.iter().map(|rated| rated.player.as_str()).collect();
        assert_eq!(names, ["a", "b", "random"]);
        assert_eq!(rated[2].elo, 0.0);
        assert!(ratings(&[]).is_empty());
    }
}
