//! Lists of cells as text: `0-5,8,13-14`.

use std::fmt::{self, Write};

use crate::Cell;

/// A decimal number below 65536 without sign or leading zeros.
pub(crate) fn number(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with('0');
    if canonical && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Writes ascending `cells` with runs abbreviated.
pub(crate) fn write(out: &mut impl Write, cells: impl Iterator<Item = Cell>) -> fmt::Result {
    let mut cells = cells.peekable();
    let mut separator = "";
    while let Some(first) = cells.next() {
        let mut last = first;
        while let Some(next) = cells.next_if_eq(&(last + 1)) {
            last = next;
        }
        write!(out, "{separator}{first}")?;
        if last > first {
            write!(out, "-{last}")?;
        }
        separator = ",";
    }
    Ok(())
}

/// Why a list of cells was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangesError {
    #[error("`{0}` is neither a cell nor a range of cells")]
    Part(String),
    #[error("cell {0} is not on the board or not above the one before it")]
    Order(Cell),
    #[error("`{0}`: cells in a row are written as one range, a single cell without a dash")]
    Abbreviation(String),
}

/// Reads cells below `bound` as [`write`] has them: strictly ascending, runs abbreviated; the empty text has none.
pub(crate) fn parse(text: &str, bound: usize) -> Result<Vec<Cell>, RangesError> {
    let mut cells = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let shown = || part.chars().take(20).collect();
        let range = part.split_once('-');
        let (first, last) = range.unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(RangesError::Part(shown()));
        };
        if cells.last().is_some_and(|&previous| first <= previous) || last < first {
            return Err(RangesError::Order(first));
        }
        if usize::from(last) >= bound {
            return Err(RangesError::Order(last));
        }
        let goes_on = cells.last().is_some_and(|&previous| first == previous + 1);
        if goes_on || (range.is_some() && first == last) {
            return Err(RangesError::Abbreviation(shown()));
        }
        cells.extend(first..=last);
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_and_wrong_ones_are_refused() {
        for text in ["", "0-5,8,13-14", "63"] {
            let mut out = String::new();
            write(&mut out, parse(text, 64).unwrap().into_iter()).unwrap();
            assert_eq!(out, text);
        }
        for wrong in [
            "64", "1,1", "5-3", "1-", "-", ",", "01", "+1", "1,,3", "0-65535", "1,2", "3-3",
        ] {
            assert!(parse(wrong, 64).is_err(), "{wrong}");
        }
    }
}
