//! Which games train: a window over the newest segments that grows slower than the data, and a reproducible order of
//! rows out of it.

use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::{BlobHash, Seed};
use riftmesh_rules::{Configuration, RuleOptions};
use serde::{Deserialize, Serialize};

use crate::record::{GameRecord, SegmentHeader, game_id};
use crate::replay::replay;
use crate::rows::{TrainingRow, rows};

/// How far back training looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowSettings {
    /// The window holds everything until there are this many rows.
    pub floor_rows: u64,
    /// Beyond the floor the window grows with the rows there are to this power.
    pub power: f64,
}

impl Default for WindowSettings {
    fn default() -> Self {
        Self {
            floor_rows: 20_000,
            power: 0.7,
        }
    }
}

impl WindowSettings {
    /// Rows in the window when `total` rows exist.
    pub fn rows(&self, total: u64) -> u64 {
        if total <= self.floor_rows {
            return total;
        }
        let grown = (total as f64 / self.floor_rows as f64).powf(self.power);
        ((self.floor_rows as f64 * grown) as u64).min(total)
    }

    /// How many of the newest of `sizes` (rows per segment, oldest first) cover the window.
    pub fn segments(&self, sizes: &[u64]) -> usize {
        let wanted = self.rows(sizes.iter().sum());
        let mut covered = 0;
        let newest = sizes.iter().rev().take_while(|size| {
            let needed = covered < wanted;
            covered += **size;
            needed
        });
        newest.count()
    }
}

/// A game that passed the gates, with what is needed to play it again.
#[derive(Debug, Clone)]
pub struct WindowGame {
    /// Rule options it was played with.
    pub options: RuleOptions,
    /// Its identity.
    pub id: BlobHash,
    /// Its record.
    pub record: GameRecord,
}

impl WindowGame {
    /// A game of the segment with this header.
    pub fn new(header: &SegmentHeader, record: GameRecord) -> Self {
        Self {
            options: RuleOptions { swap: header.swap },
            id: game_id(header.job, record.number),
            record,
        }
    }

    /// Whether the game is kept for validation: about `share` of all games, always the same ones.
    pub fn validates(&self, share: f64) -> bool {
        let [a, b, c, d, ..] = self.id.0;
        let number = u32::from_le_bytes([a, b, c, d]);
        f64::from(number) < share * f64::from(u32::MAX)
    }
}

/// Rows waiting to be drawn: more of them mix games better and cost memory.
const POOL_ROWS: usize = 4_096;

/// An endless stream of training rows from a set of games, in an order that depends on the seed alone.
///
/// Games are visited in shuffled rounds; at each visit a game is played again, turned by a random symmetry and its rows
/// thrown into a pool, from which rows are drawn at random. So a batch has few rows of any one game.
#[derive(Debug)]
pub struct RowStream<'a> {
    configuration: Configuration,
    games: &'a [WindowGame],
    search_share: f32,
    order: Vec<usize>,
    pool: Vec<TrainingRow>,
    rng: Xoshiro256PlusPlus,
}

impl<'a> RowStream<'a> {
    /// A stream over `games`, which must have been let through by the gate.
    pub fn new(configuration: Configuration, games: &'a [WindowGame], seed: Seed) -> Self {
        Self {
            configuration,
            games,
            search_share: 0.0,
            order: Vec::new(),
            pool: Vec::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed.derive("rows", 0).0),
        }
    }

    /// The stream with this share of the search's opinion in the value targets; see [`rows`].
    #[must_use]
    pub fn with_search_share(mut self, share: f32) -> Self {
        self.search_share = share;
        self
    }

    /// Begins again, as a stream of this seed would.
    pub(crate) fn restart(&mut self, seed: Seed) {
        self.order.clear();
        self.pool.clear();
        self.rng = Self::new(self.configuration, self.games, seed).rng;
    }

    /// The next `count` rows; fewer (none) only when the games have no rows at all.
    pub fn draw(&mut self, count: usize) -> Vec<TrainingRow> {
        let all: usize = self.games.iter().map(|game| game.record.rows()).sum();
        if all == 0 {
            return Vec::new();
        }
        // At the start of the stream the pool fills to its full size once, but never beyond what one round offers.
        let target = POOL_ROWS.min(all).max(count);
        (0..count)
            .map(|_| {
                while self.pool.len() < target {
                    self.refill();
                }
                let index = self.rng.random_range(0..self.pool.len());
                self.pool.swap_remove(index)
            })
            .collect()
    }

    fn refill(&mut self) {
        if self.order.is_empty() {
            self.order = (0..self.games.len()).collect();
            shuffle(&mut self.order, &mut self.rng);
        }
        let Some(index) = self.order.pop() else {
            return;
        };
        let game = &self.games[index];
        // The gate replayed every game before; one that fails now was changed in memory.
        match replay(self.configuration, game.options, &game.record) {
            Ok(replayed) => {
                let share = self.search_share;
                self.pool
                    .extend(rows(&game.record, &replayed, share, &mut self.rng));
            }
            Err(reject) => panic!("game {} passed the gate and fails now: {reject}", game.id),
        }
    }
}

fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.random_range(0..=last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_slower_than_the_data() {
        let window = WindowSettings::default();
        assert_eq!(window.rows(5_000), 5_000);
        assert_eq!(window.rows(20_000), 20_000);
        let (at_forty, at_eighty) = (window.rows(40_000), window.rows(80_000));
        assert!((32_000..33_000).contains(&at_forty), "{at_forty}");
        assert!(at_eighty < 2 * at_forty && at_eighty > at_forty);
    }

    #[test]
    fn newest_segments_cover_the_window() {
        let window = WindowSettings {
            floor_rows: 100,
            power: 0.5,
        };
        assert_eq!(window.segments(&[]), 0);
        assert_eq!(window.segments(&[60, 30]), 2);
        // 400 rows: the window is 200 of them.
        assert_eq!(window.segments(&[100, 100, 100, 100]), 2);
        assert_eq!(window.segments(&[100, 100, 150, 50]), 2);
    }
}
