//! Positions as text for terminals: squares in a grid, hexagons in shifted rows. Everything can be read without
//! colours, which only make it quicker.

use std::fmt::Write;

use crate::configuration::{RuleOptions, Seat};
use crate::content::CellContent;
use crate::words::describe_phase;
use crate::{Cell, Position, Row, TextError};

/// Columns per cell: a gap that holds the anchor's mark, and three characters. A stack of ten rings or more has four
/// and fills the gap. Even, so that rows of hexagons can be shifted by half a cell.
const CELL_WIDTH: usize = 4;
/// The escape that ends a colour.
const RESET: &str = "\x1b[0m";

/// Whether a diagram has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Only text.
    Plain,
    /// ANSI colours: one per player, empty cells dim.
    Ansi,
}

/// A board that can be drawn: of a position that can be played on, or of a finished one.
#[derive(Debug, Clone)]
pub struct Diagram {
    position: Position,
    /// Read from the text of a finished game, which does not say how it ended.
    finished: bool,
}

impl Diagram {
    /// The diagram of `position`.
    pub fn of(position: &Position) -> Self {
        Self {
            position: position.clone(),
            finished: position.outcome().is_some(),
        }
    }

    /// The diagram of a canonical text. Rings need not add up, and the game may be over.
    ///
    /// # Errors
    /// The text is malformed or contradicts itself.
    pub fn read(text: &str) -> Result<Self, TextError> {
        let fields: Vec<&str> = text.split(';').collect();
        let options = RuleOptions::default();
        match fields[..] {
            [
                version,
                board,
                players,
                "F",
                "0",
                "GO",
                "-",
                "-",
                "-",
                ref rest @ ..,
            ] => {
                // The board of a finished game, read as if player 1 were to move.
                let head = [version, board, players, "A;1;RP;-;-;0::0:0"];
                let text = [&head, rest].concat().join(";");
                let position = Position::parse_partial(&text, options)?;
                Ok(Self {
                    position,
                    finished: true,
                })
            }
            _ => Ok(Self::of(&Position::parse_partial(text, options)?)),
        }
    }

    /// What is drawn; of a finished game read from a text, only the board and the scores are right.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Whether the game is over.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The whole diagram: who is to do what, the board, the players' figures and the stacks of several colours.
    pub fn draw(&self, ink: Ink) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let written = self.write(&mut out, ink);
        debug_assert!(written.is_ok(), "strings take any text");
        out
    }

    fn write(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        writeln!(out, "{}", self.headline())?;
        out.push('\n');
        self.write_board(out, ink)?;
        out.push('\n');
        self.write_players(out, ink)?;
        self.write_mixed_stacks(out)?;
        writeln!(
            out,
            "numbers: empty cells  (1) marker  [1] territory  1:3 stack of 3 rings  1*3 with a lower cap, see the list"
        )
    }

    fn headline(&self) -> String {
        let position = &self.position;
        let configuration = position.configuration();
        if let Some(outcome) = position.outcome() {
            return format!(
                "{configuration}: player {} has won by {}",
                outcome.winner, outcome.rule
            );
        }
        let Some(seat) = position.to_move().filter(|_| !self.finished) else {
            return format!("{configuration}: the game is over");
        };
        let mut line = format!(
            "{configuration}: player {seat} to move, phase {} ({})",
            position.phase().code(),
            describe_phase(position.phase())
        );
        if let Some(anchor) = position.anchor() {
            line += &format!(", with the stack on {anchor}");
        }
        let flags = position.flags();
        if flags.line_due || flags.territory_due {
            line += ", a price is due";
        }
        line
    }

    fn write_board(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        let geometry = self.position.geometry();
        let hex = geometry.board().is_hex();
        for row in geometry.rows() {
            // A row of hexagons starts half a cell further in for every cell that it lacks.
            let indent = if hex {
                (geometry.size() - row.length) * CELL_WIDTH / 2
            } else {
                0
            };
            let line = format!("{:indent$}{}", "", self.row(row, ink));
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn row(&self, row: &Row, ink: Ink) -> String {
        (row.start..row.start + row.length)
            .map(|cell| self.cell(cell as Cell, ink))
            .collect()
    }

    /// One cell, [`CELL_WIDTH`] columns wide.
    fn cell(&self, cell: Cell, ink: Ink) -> String {
        let (text, colour) = match self.position.content(cell) {
            CellContent::Empty => (cell.to_string(), "2"),
            CellContent::Marker(seat) => (format!("({seat})"), colour_of(seat)),
            CellContent::Collapsed(seat) => (format!("[{seat}]"), colour_of(seat)),
            CellContent::Stack(seat) => (self.stack(seat, cell), colour_of(seat)),
        };
        let anchored = !self.finished && self.position.anchor() == Some(cell);
        let gap = match text.len() {
            CELL_WIDTH => "",
            _ if anchored => ">",
            _ => " ",
        };
        // The padding stays outside the colour, so that the end of a line can be trimmed.
        let padding = CELL_WIDTH - gap.len() - text.len();
        let (left, right) = (padding / 2, padding - padding / 2);
        let bold = matches!(self.position.content(cell), CellContent::Stack(_));
        let colour = if bold {
            format!("1;{colour}")
        } else {
            colour.to_owned()
        };
        let text = painted(ink, &colour, &text);
        format!("{gap}{:left$}{text}{:right$}", "", "")
    }

    fn stack(&self, seat: Seat, cell: Cell) -> String {
        let (height, cap) = (self.position.height(cell), self.position.cap(cell));
        let sign = if cap < height { '*' } else { ':' };
        match height {
            ..100 => format!("{seat}{sign}{height}"),
            // The list below the board has the number.
            100.. => format!("{seat}{sign}++"),
        }
    }

    fn write_players(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        let position = &self.position;
        let configuration = position.configuration();
        let (rings, cells) = (
            configuration.elimination_threshold(),
            configuration.territory_threshold(),
        );
        writeln!(
            out,
            "{:<10}{:>8}{:>10}{:>21}{:>21}{:>9}",
            "",
            "in hand",
            "on board",
            format!("eliminated (of {rings})"),
            format!("territory (of {cells})"),
            "markers"
        )?;
        for seat in configuration.seats() {
            let score = position.score(seat);
            let name = format!("{:<10}", format!("player {seat}"));
            writeln!(
                out,
                "{}{:>8}{:>10}{:>21}{:>21}{:>9}{}",
                painted(ink, colour_of(seat), &name),
                score.hand,
                position.rings_on_board(seat),
                score.eliminated,
                score.territory,
                position.markers_of(seat).len(),
                self.alone(seat)
            )?;
        }
        Ok(())
    }

    /// What the last-player-standing tracker says about `seat`.
    fn alone(&self, seat: Seat) -> String {
        let tracker = self.position.tracker();
        if tracker.exclusive == Some(seat) && tracker.rounds > 0 {
            format!(
                "   alone able to act for {} of {} rounds",
                tracker.rounds,
                crate::LAST_STANDING_ROUNDS
            )
        } else {
            String::new()
        }
    }

    /// The rings of every stack whose cap is not all of it, or that is too high for the board.
    fn write_mixed_stacks(&self, out: &mut String) -> std::fmt::Result {
        let position = &self.position;
        let listed =
            |&cell: &Cell| position.cap(cell) < position.height(cell) || position.height(cell) > 99;
        let cells = 0..position.geometry().cells() as Cell;
        for cell in cells.filter(listed) {
            let rings: String = position.rings(cell).map(|ring| ring.to_string()).collect();
            writeln!(
                out,
                "stack on {cell}: {rings} from the top, height {}, cap {}",
                position.height(cell),
                position.cap(cell)
            )?;
        }
        Ok(())
    }
}

/// The cells on which two positions of one board differ, rings included; none for different boards.
pub fn differing_cells(one: &Position, other: &Position) -> Vec<Cell> {
    if one.configuration().board() != other.configuration().board() {
        return Vec::new();
    }
    let differs = |&cell: &Cell| {
        one.content(cell) != other.content(cell) || !one.rings(cell).eq(other.rings(cell))
    };
    (0..one.geometry().cells() as Cell)
        .filter(differs)
        .collect()
}

fn painted(ink: Ink, colour: &str, text: &str) -> String {
    match ink {
        Ink::Plain => text.to_owned(),
        Ink::Ansi => format!("\x1b[{colour}m{text}{RESET}"),
    }
}

/// Blue, red, green and yellow: told apart by most eyes on dark and light ground, and never the only sign.
const fn colour_of(seat: Seat) -> &'static str {
    match seat.0 {
        0 => "34",
        1 => "31",
        2 => "32",
        _ => "33",
    }
}
