//! Sets of cells as bits.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not, Sub};

use crate::Cell;

/// A set of cells below `64 * WORDS`. `BitSet<1>` holds the small boards, [`CellSet`] every board.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitSet<const WORDS: usize>([u64; WORDS]);

/// A set of cells of any board.
pub type CellSet = BitSet<8>;

impl<const WORDS: usize> BitSet<WORDS> {
    /// No cell.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// The cells `0..cells`.
    pub fn first_cells(cells: usize) -> Self {
        (0..cells as Cell).collect()
    }

    /// Whether `cell` is in the set.
    #[inline]
    pub fn contains(&self, cell: Cell) -> bool {
        self.0[usize::from(cell) / 64] >> (cell % 64) & 1 != 0
    }

    /// Adds `cell`.
    #[inline]
    pub fn insert(&mut self, cell: Cell) {
        self.0[usize::from(cell) / 64] |= 1 << (cell % 64);
    }

    /// Takes `cell` out.
    #[inline]
    pub fn remove(&mut self, cell: Cell) {
        self.0[usize::from(cell) / 64] &= !(1 << (cell % 64));
    }

    /// Number of cells.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is no cell.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The lowest cell.
    #[inline]
    pub fn first(&self) -> Option<Cell> {
        self.iter().next()
    }

    /// The cells in ascending order.
    #[inline]
    pub fn iter(&self) -> CellIter<WORDS> {
        CellIter {
            words: self.0,
            word: 0,
        }
    }

    /// The bits `start..start + length` (at most 32 of them) as a number, lowest cell lowest.
    #[inline]
    pub(crate) fn bits(&self, start: usize, length: usize) -> u32 {
        let (word, shift) = (start / 64, start % 64);
        let mut bits = self.0[word] >> shift;
        if shift + length > 64 {
            bits |= self.0[word + 1] << (64 - shift);
        }
        bits as u32 & (u32::MAX >> (32 - length))
    }

    /// The same set in the size that fits every board.
    pub fn widen(&self) -> CellSet {
        let mut words = [0; 8];
        words[..WORDS].copy_from_slice(&self.0);
        BitSet(words)
    }
}

/// Iterator over the cells of a set.
#[derive(Debug, Clone)]
pub struct CellIter<const WORDS: usize> {
    words: [u64; WORDS],
    word: usize,
}

impl<const WORDS: usize> Iterator for CellIter<WORDS> {
    type Item = Cell;

    #[inline]
    fn next(&mut self) -> Option<Cell> {
        while self.word < WORDS {
            let bits = self.words[self.word];
            if bits != 0 {
                self.words[self.word] = bits & (bits - 1);
                return Some((self.word * 64) as Cell + bits.trailing_zeros() as Cell);
            }
            self.word += 1;
        }
        None
    }
}

impl<const WORDS: usize> IntoIterator for BitSet<WORDS> {
    type Item = Cell;
    type IntoIter = CellIter<WORDS>;
    fn into_iter(self) -> CellIter<WORDS> {
        self.iter()
    }
}

impl<const WORDS: usize> FromIterator<Cell> for BitSet<WORDS> {
    fn from_iter<I: IntoIterator<Item = Cell>>(cells: I) -> Self {
        let mut set = Self::EMPTY;
        cells.into_iter().for_each(|cell| set.insert(cell));
        set
    }
}

impl<const WORDS: usize> BitOr for BitSet<WORDS> {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
}

impl<const WORDS: usize> BitOrAssign for BitSet<WORDS> {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl<const WORDS: usize> BitAnd for BitSet<WORDS> {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }
}

/// Set difference.
impl<const WORDS: usize> Sub for BitSet<WORDS> {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }
}

/// Complement within the representable cells, including those that no board has.
impl<const WORDS: usize> Not for BitSet<WORDS> {
    type Output = Self;
    #[inline]
    fn not(self) -> Self {
        Self(std::array::from_fn(|i| !self.0[i]))
    }
}

impl<const WORDS: usize> fmt::Debug for BitSet<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that straddle a word boundary read and write like any other.
    #[test]
    fn bit_ranges_cross_words() {
        let set: CellSet = [60, 63, 64, 70, 200].into_iter().collect();
        assert_eq!(set.bits(60, 25), 0b100_0001_1001);
        assert_eq!(set.iter().collect::<Vec<_>>(), [60, 63, 64, 70, 200]);
        assert_eq!(BitSet::<1>::first_cells(61).len(), 61);
    }
}
