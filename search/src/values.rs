//! One number per seat.

use std::ops::{AddAssign, Index, IndexMut};

/// The most seats a game may have.
pub const SEATS_MAX: usize = 4;

/// A value for each seat, counted from 0. Components of absent seats are zero.
///
/// In RingRift they are win probabilities that sum to 1; the search needs only that more is better.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SeatValues([f64; SEATS_MAX]);

impl SeatValues {
    /// The values of `seats` in order.
    ///
    /// # Panics
    /// With more than [`SEATS_MAX`] seats: a game that claims so many is a bug.
    pub fn new(seats: &[f64]) -> Self {
        let mut values = Self::default();
        values.0[..seats.len()].copy_from_slice(seats);
        values
    }

    /// Equal shares for `players` seats.
    pub fn even(players: usize) -> Self {
        Self::new(&[1.0 / players as f64; SEATS_MAX][..players])
    }

    /// One for `seat`, zero for everyone else.
    pub fn winner(seat: usize) -> Self {
        let mut values = Self::default();
        values.0[seat] = 1.0;
        values
    }

    /// The components of the first `players` seats.
    pub fn seats(&self, players: usize) -> &[f64] {
        &self.0[..players]
    }

    /// Every component multiplied by `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        Self(self.0.map(|value| value * factor))
    }

    /// Components 0 and 1 exchanged when `exchanged`: the persons behind the two seats change places.
    pub fn seats_exchanged(mut self, exchanged: bool) -> Self {
        if exchanged {
            self.0.swap(0, 1);
        }
        self
    }
}

impl Index<usize> for SeatValues {
    type Output = f64;
    fn index(&self, seat: usize) -> &f64 {
        &self.0[seat]
    }
}

impl IndexMut<usize> for SeatValues {
    fn index_mut(&mut self, seat: usize) -> &mut f64 {
        &mut self.0[seat]
    }
}

impl AddAssign for SeatValues {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}
