//! The text of actions, as the recorded games use it (VECTORS).

use std::fmt::Write;

use crate::ranges::{self, number};
use crate::{Action, Cell, Position};

/// A text that is no action in a position; whoever supplied it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// Not of the form of any action.
    #[error("`{0}` is not the text of an action")]
    Malformed(String),
    /// Names a cell that the board does not have.
    #[error("`{text}` names cell {cell} of a board of {cells} cells")]
    OffBoard {
        /// The text.
        text: String,
        /// The cell.
        cell: Cell,
        /// Number of cells on the board.
        cells: usize,
    },
    /// Names a line, window or region that the position does not have.
    #[error("`{0}` names cells that are no line, window or region in this position")]
    NoSuchCells(String),
}

/// The text of `action`, which must be one that `position` could offer.
pub fn format(position: &Position, action: Action) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let written = write_action(&mut text, position, action);
    debug_assert!(written.is_ok(), "strings take any text");
    text
}

fn write_action(out: &mut String, position: &Position, action: Action) -> std::fmt::Result {
    let window = position.configuration().line_length();
    match action {
        Action::Place { to, count } => write!(out, "P{to}x{count}"),
        Action::Move { from, to } => write!(out, "M{from}-{to}"),
        Action::Capture { from, over, to } => write!(out, "C{from}x{over}-{to}"),
        Action::ContinueCapture { from, over, to } => write!(out, "K{from}x{over}-{to}"),
        Action::RecoverLineAll { from, to, pay } => write!(out, "R{from}-{to}L@{pay}"),
        Action::RecoverFallback { from, to, pay } => write!(out, "R{from}-{to}F@{pay}"),
        Action::RecoverStrike { from, to, pay } => write!(out, "R{from}-{to}S@{pay}"),
        Action::RecoverLineWindow {
            from,
            to,
            axis,
            window: low,
        } => {
            write!(out, "R{from}-{to}L=")?;
            write_line(out, position, axis, low, window)
        }
        Action::LineAll { axis, low } => {
            let length = position.line_around(axis, low).length;
            out.push(if length > window { 'O' } else { 'L' });
            write_line(out, position, axis, low, length)?;
            out.write_str(if length > window { "=all" } else { "" })
        }
        Action::LineWindow { axis, low } => {
            let line = position.line_around(axis, low);
            out.push('O');
            write_line(out, position, axis, line.low, line.length)?;
            out.push('=');
            write_line(out, position, axis, low, window)
        }
        Action::PayLine { from } => write!(out, "EL{from}"),
        Action::Territory { wall, low } => {
            out.push('T');
            ranges::write(out, position.region_cells(wall, low).iter())
        }
        Action::PayTerritory { from } => write!(out, "ET{from}"),
        Action::PayExtraction { from } => write!(out, "ER{from}"),
        Action::Eliminate { from } => write!(out, "F{from}"),
        Action::SkipPlacement
        | Action::NoPlacement
        | Action::Swap
        | Action::SkipCapture
        | Action::SkipRecovery
        | Action::NoMovement
        | Action::NoLine
        | Action::SkipTerritory
        | Action::NoTerritory => {
            let name = WORDS
                .iter()
                .find(|(_, word)| *word == action)
                .map_or("", |(name, _)| name);
            out.write_str(name)
        }
    }
}

/// Actions that name no cell.
const WORDS: [(&str, Action); 9] = [
    ("sp", Action::SkipPlacement),
    ("np", Action::NoPlacement),
    ("sw", Action::Swap),
    ("sc", Action::SkipCapture),
    ("sr", Action::SkipRecovery),
    ("nm", Action::NoMovement),
    ("nl", Action::NoLine),
    ("st", Action::SkipTerritory),
    ("nt", Action::NoTerritory),
];

/// Ascending cells, all written out.
fn write_line(
    out: &mut String,
    position: &Position,
    axis: u8,
    low: Cell,
    length: usize,
) -> std::fmt::Result {
    let mut separator = "";
    for cell in position.cells_along(axis, low, length) {
        write!(out, "{separator}{cell}")?;
        separator = ",";
    }
    Ok(())
}

/// Reads the text of an action. Lines and regions are looked up in `position`; whether the action is legal there is
/// for [`Position::try_apply`] to say.
///
/// # Errors
/// The text is malformed, or names cells, lines or regions that do not exist.
pub fn parse(position: &Position, text: &str) -> Result<Action, NotationError> {
    let reader = Reader { position, text };
    if let Some((_, action)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*action);
    }
    // Two-letter prefixes first: `ET` before anything that would start with `E`.
    type Pay = fn(Cell) -> Action;
    let pays: [(&str, Pay); 4] = [
        ("EL", |from| Action::PayLine { from }),
        ("ET", |from| Action::PayTerritory { from }),
        ("ER", |from| Action::PayExtraction { from }),
        ("F", |from| Action::Eliminate { from }),
    ];
    for (prefix, pay) in pays {
        if let Some(rest) = text.strip_prefix(prefix) {
            return reader.cell(rest).map(pay);
        }
    }
    match text.split_at_checked(1) {
        Some(("P", rest)) => reader.placement(rest),
        Some(("M", rest)) => {
            let (from, to) = reader.step(rest)?;
            Ok(Action::Move { from, to })
        }
        Some(("C", rest)) => {
            let (from, over, to) = reader.jump(rest)?;
            Ok(Action::Capture { from, over, to })
        }
        Some(("K", rest)) => {
            let (from, over, to) = reader.jump(rest)?;
            Ok(Action::ContinueCapture { from, over, to })
        }
        Some(("R", rest)) => reader.recovery(rest),
        Some(("L", rest)) => reader.line(rest, false),
        Some(("O", rest)) => reader.option(rest),
        Some(("T", rest)) => reader.region(rest),
        _ => Err(reader.malformed()),
    }
}

/// The text being read, for its parts and for errors.
struct Reader<'a> {
    position: &'a Position,
    text: &'a str,
}

impl Reader<'_> {
    /// The text as it appears in errors.
    fn shown(&self) -> String {
        self.text.chars().take(80).collect()
    }

    fn malformed(&self) -> NotationError {
        NotationError::Malformed(self.shown())
    }

    fn no_such_cells(&self) -> NotationError {
        NotationError::NoSuchCells(self.shown())
    }

    fn cell(&self, text: &str) -> Result<Cell, NotationError> {
        let cell = number(text).ok_or_else(|| self.malformed())?;
        let cells = self.position.geometry().cells();
        if usize::from(cell) < cells {
            Ok(cell)
        } else {
            Err(NotationError::OffBoard {
                text: self.shown(),
                cell,
                cells,
            })
        }
    }

    fn split<'t>(
        &self,
        text: &'t str,
        separator: char,
    ) -> Result<(&'t str, &'t str), NotationError> {
        text.split_once(separator).ok_or_else(|| self.malformed())
    }

    fn placement(&self, text: &str) -> Result<Action, NotationError> {
        let (to, count) = self.split(text, 'x')?;
        let to = self.cell(to)?;
        match number(count) {
            Some(count @ 1..=3) => Ok(Action::Place {
                to,
                count: count as u8,
            }),
            _ => Err(self.malformed()),
        }
    }

    fn step(&self, text: &str) -> Result<(Cell, Cell), NotationError> {
        let (from, to) = self.split(text, '-')?;
        Ok((self.cell(from)?, self.cell(to)?))
    }

    fn jump(&self, text: &str) -> Result<(Cell, Cell, Cell), NotationError> {
        let (from, rest) = self.split(text, 'x')?;
        let (over, to) = self.step(rest)?;
        Ok((self.cell(from)?, over, to))
    }

    fn recovery(&self, text: &str) -> Result<Action, NotationError> {
        let at = text.find(['L', 'F', 'S']).ok_or_else(|| self.malformed())?;
        let (step, how) = text.split_at(at);
        let (from, to) = self.step(step)?;
        if let Some(cells) = how.strip_prefix("L=") {
            let (axis, window, _) = self.straight(cells, Some(self.window()))?;
            return Ok(Action::RecoverLineWindow {
                from,
                to,
                axis,
                window,
            });
        }
        let (class, pay) = self.split(how, '@')?;
        let pay = self.cell(pay)?;
        match class {
            "L" => Ok(Action::RecoverLineAll { from, to, pay }),
            "F" => Ok(Action::RecoverFallback { from, to, pay }),
            "S" => Ok(Action::RecoverStrike { from, to, pay }),
            _ => Err(self.malformed()),
        }
    }

    fn window(&self) -> usize {
        self.position.configuration().line_length()
    }

    /// Cells in a row, `length` of them if given: axis, lowest cell, number.
    fn straight(
        &self,
        text: &str,
        length: Option<usize>,
    ) -> Result<(u8, Cell, usize), NotationError> {
        let geometry = self.position.geometry();
        // No row on any board is longer than 25; anything beyond is not worth reading.
        let cells: Result<Vec<Cell>, _> = text
            .split(',')
            .take(32)
            .map(|part| self.cell(part))
            .collect();
        let cells = cells?;
        let [first, second, ..] = cells[..] else {
            return Err(self.malformed());
        };
        let direction = geometry
            .direction_and_distance(first, second)
            .map(|(direction, _)| direction);
        let axis = (0..geometry.axes())
            .find(|&axis| Some(geometry.axis_direction(axis)) == direction)
            .ok_or_else(|| self.no_such_cells())? as u8;
        let same = geometry
            .cells_along(axis, first, cells.len())
            .eq(cells.iter().copied());
        if same && length.is_none_or(|length| length == cells.len()) {
            Ok((axis, first, cells.len()))
        } else {
            Err(self.no_such_cells())
        }
    }

    /// A whole line of the player to move: of exact length, or `longer`.
    fn line(&self, text: &str, longer: bool) -> Result<Action, NotationError> {
        let (axis, low, length) = self.straight(text, None)?;
        let line = self.position.line_around(axis, low);
        if (line.low, line.length) == (low, length) && longer == (length > self.window()) {
            Ok(Action::LineAll { axis, low })
        } else {
            Err(self.no_such_cells())
        }
    }

    fn option(&self, text: &str) -> Result<Action, NotationError> {
        let (whole, choice) = self.split(text, '=')?;
        let all = self.line(whole, true)?;
        if choice == "all" {
            return Ok(all);
        }
        let (whole_axis, whole_low, whole_length) = self.straight(whole, None)?;
        let (axis, low, _) = self.straight(choice, Some(self.window()))?;
        let mut line =
            self.position
                .cells_along(whole_axis, whole_low, whole_length + 1 - self.window());
        if axis == whole_axis && line.any(|cell| cell == low) {
            Ok(Action::LineWindow { axis, low })
        } else {
            Err(self.no_such_cells())
        }
    }

    fn region(&self, text: &str) -> Result<Action, NotationError> {
        let bound = self.position.geometry().cells();
        let cells = ranges::parse(text, bound).map_err(|_| self.malformed())?;
        let regions = self.position.processable_regions();
        regions
            .iter()
            .find(|region| region.cells.iter().eq(cells.iter().copied()))
            .map(|&crate::ProcessableRegion { wall, low, .. }| Action::Territory { wall, low })
            .ok_or_else(|| self.no_such_cells())
    }
}
