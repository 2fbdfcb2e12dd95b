//! The canonical text of a position, as the recorded games use it, and back.

use std::fmt::{self, Write};

use crate::cells::BitSet;
use crate::configuration::{Board, Configuration, RuleOptions, Seat};
use crate::content::Content;
use crate::state::{NO_CELL, State};
use crate::turn::{Flags, Phase, Score, Tracker};
use crate::validate::Inconsistency;
use crate::{Cell, ranges};

/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 1 << 14;

/// A text that is not the canonical text of a position that can be played on; whoever supplied it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a position: field {field}: {problem}")]
pub struct TextError {
    /// Which of the fields between semicolons.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl From<Inconsistency> for TextError {
    fn from(inconsistency: Inconsistency) -> Self {
        wrong("all", inconsistency)
    }
}

fn wrong(field: &'static str, problem: impl fmt::Display) -> TextError {
    TextError {
        field,
        problem: problem.to_string(),
    }
}

/// The fourteen fields, with the configuration read.
pub(crate) struct Fields<'a> {
    pub(crate) configuration: Configuration,
    fields: [&'a str; 14],
}

impl<'a> Fields<'a> {
    pub(crate) fn split(text: &'a str) -> Result<Self, TextError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong(
                "all",
                format_args!("{} bytes, more than any position has", text.len()),
            ));
        }
        let mut fields = [""; 14];
        let mut count = 0;
        for part in text.split(';') {
            if let Some(field) = fields.get_mut(count) {
                *field = part;
            }
            count += 1;
        }
        if count != fields.len() {
            return Err(wrong("all", format_args!("{count} of them instead of 14")));
        }
        if fields[0] != "RR1" {
            return Err(wrong(
                "version",
                format_args!("expected RR1, found `{}`", fields[0]),
            ));
        }
        let board: Board = fields[1].parse().map_err(|e| wrong("board", e))?;
        let configuration = number("players", fields[2])
            .ok()
            .and_then(|players| Configuration::new(board, usize::from(players)))
            .ok_or_else(|| wrong("players", "expected 2, 3 or 4"))?;
        match fields[3] {
            "A" => Ok(Self {
                configuration,
                fields,
            }),
            "F" => Err(wrong(
                "status",
                "the game is over; only games in progress can be read",
            )),
            _ => Err(wrong("status", "expected A or F")),
        }
    }

    fn seat(&self, field: &'static str, text: &str) -> Result<Seat, TextError> {
        let players = self.configuration.players() as u16;
        match number(field, text)? {
            n if (1..=players).contains(&n) => Ok(Seat(n as u8 - 1)),
            n => Err(wrong(field, format_args!("seat {n} of {players}"))),
        }
    }

    /// A seat, or nobody for 0.
    fn seat_or_none(&self, field: &'static str, text: &str) -> Result<Option<Seat>, TextError> {
        if text == "0" {
            Ok(None)
        } else {
            self.seat(field, text).map(Some)
        }
    }

    fn cell(&self, field: &'static str, text: &str) -> Result<Cell, TextError> {
        let cells = self.configuration.board().cells();
        match number(field, text)? {
            cell if usize::from(cell) < cells => Ok(cell),
            cell => Err(wrong(
                field,
                format_args!("cell {cell} of a board of {cells}"),
            )),
        }
    }

    fn flags(&self) -> Result<Flags, TextError> {
        let mut flags = Flags::default();
        if self.fields[7] == "-" {
            return Ok(flags);
        }
        if self.fields[7].is_empty() {
            return Err(wrong("flags", "empty; `-` says that none is set"));
        }
        let mut previous = ' ';
        for letter in self.fields[7].chars() {
            let flag = match letter {
                'a' => &mut flags.acted,
                'l' => &mut flags.line_due,
                'r' => &mut flags.recovered,
                't' => &mut flags.territory_due,
                _ => return Err(wrong("flags", format_args!("unknown flag `{letter}`"))),
            };
            *flag = true;
            if letter <= previous {
                return Err(wrong("flags", "not in alphabetical order"));
            }
            previous = letter;
        }
        Ok(flags)
    }

    fn tracker(&self) -> Result<Tracker, TextError> {
        const FIELD: &str = "tracker";
        let mut parts = self.fields[8].split(':');
        let (Some(first), Some(mask), Some(exclusive), Some(rounds), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(wrong(FIELD, "expected four parts"));
        };
        let mut tracker = Tracker {
            first: self.seat_or_none(FIELD, first)?,
            exclusive: self.seat_or_none(FIELD, exclusive)?,
            rounds: number(FIELD, rounds)?,
            ..Tracker::default()
        };
        for (i, pair) in mask.as_bytes().chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).map_err(|e| wrong(FIELD, e))?;
            let (seat, acted) = match (pair.strip_suffix('+'), pair.strip_suffix('-')) {
                (Some(seat), _) => (self.seat(FIELD, seat)?, true),
                (_, Some(seat)) => (self.seat(FIELD, seat)?, false),
                _ => return Err(wrong(FIELD, "a seat without + or -")),
            };
            if tracker.had_action[seat.index()..]
                .iter()
                .any(Option::is_some)
                || seat.index() < i
            {
                return Err(wrong(FIELD, "seats not in ascending order"));
            }
            tracker.had_action[seat.index()] = Some(acted);
        }
        Ok(tracker)
    }

    /// One part per player of a field separated by slashes.
    fn per_player(
        &self,
        field: &'static str,
        text: &'a str,
    ) -> Result<Vec<(Seat, &'a str)>, TextError> {
        let parts: Vec<_> = (0..).map(Seat).zip(text.split('/').take(8)).collect();
        if parts.len() != self.configuration.players() {
            return Err(wrong(field, "not one part per player"));
        }
        Ok(parts)
    }

    fn score(&self, text: &str) -> Result<Score, TextError> {
        const FIELD: &str = "counts";
        let mut parts = text.split(',');
        let (Some(hand), Some(eliminated), Some(territory), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong(FIELD, "expected hand, eliminated and territory"));
        };
        let score = Score {
            hand: number(FIELD, hand)?,
            eliminated: number(FIELD, eliminated)?,
            territory: number(FIELD, territory)?,
        };
        let board = self.configuration.board();
        if usize::from(score.hand) > board.rings_per_player()
            || usize::from(score.eliminated) > self.configuration.rings()
            || usize::from(score.territory) > board.cells()
        {
            return Err(wrong(FIELD, format_args!("`{text}` is more than there is")));
        }
        Ok(score)
    }
}

/// A decimal number without sign or leading zeros.
fn number(field: &'static str, text: &str) -> Result<u16, TextError> {
    ranges::number(text).ok_or_else(|| {
        let shown: String = text.chars().take(20).collect();
        wrong(field, format_args!("`{shown}` is not a number"))
    })
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// Reads a position from its fields; whether they fit each other is for [`State::validate`] to say.
    pub(crate) fn from_fields(
        fields: &Fields<'_>,
        options: RuleOptions,
    ) -> Result<Self, TextError> {
        let mut state = Self::start(fields.configuration, options);
        let [
            ..,
            mover,
            phase,
            anchor,
            _,
            _,
            swapped,
            counts,
            stacks,
            markers,
            collapsed,
        ] = fields.fields;
        state.mover = fields.seat("player to move", mover)?;
        state.phase = Phase::from_code(phase)
            .filter(|&phase| phase != Phase::Over)
            .ok_or_else(|| wrong("phase", "unknown"))?;
        if anchor != "-" {
            state.anchor = fields.cell("anchor", anchor)?;
        }
        state.flags = fields.flags()?;
        state.tracker = fields.tracker()?;
        state.swapped = match swapped {
            "0" => false,
            "1" => true,
            _ => return Err(wrong("swap", "expected 0 or 1")),
        };
        for (seat, text) in fields.per_player("counts", counts)? {
            state.scores[seat.index()] = fields.score(text)?;
        }
        state.read_stacks(fields, stacks)?;
        for (seat, text) in fields.per_player("markers", markers)? {
            state.read_cells("markers", text, |state, cell| {
                state.pieces.put_marker(cell, seat)
            })?;
        }
        for (seat, text) in fields.per_player("collapsed cells", collapsed)? {
            state.read_cells("collapsed cells", text, |state, cell| {
                state.pieces.collapse(cell, seat)
            })?;
        }
        state.swap_open &= state.swap_still_open();
        Ok(state)
    }

    /// Whether player 2 can still have its first turn before it. The text does not say; see [`crate::Position::parse`].
    fn swap_still_open(&self) -> bool {
        let untouched =
            usize::from(self.scores[1].hand) == self.configuration.board().rings_per_player();
        let opened = self.scores[0].hand < self.scores[1].hand;
        let due = self.phase == Phase::Placement && !self.flags.acted && untouched && opened;
        !self.swapped && (self.mover == Seat(0) || due)
    }

    fn read_stacks(&mut self, fields: &Fields<'_>, text: &str) -> Result<(), TextError> {
        const FIELD: &str = "stacks";
        let mut rings_left = fields.configuration.rings();
        let mut previous = None;
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (cell, rings) = part
                .split_once(':')
                .ok_or_else(|| wrong(FIELD, "expected `cell:rings`"))?;
            let cell = self.empty_cell(FIELD, fields.cell(FIELD, cell)?)?;
            if previous.replace(cell) > Some(cell) {
                return Err(wrong(
                    FIELD,
                    format_args!("cell {cell} is not above the one before it"),
                ));
            }
            rings_left = rings_left
                .checked_sub(rings.len())
                .filter(|_| !rings.is_empty())
                .ok_or_else(|| wrong(FIELD, "an empty stack, or more rings than there are"))?;
            let colours: Result<Vec<_>, _> = rings
                .char_indices()
                .map(|(at, digit)| fields.seat(FIELD, &rings[at..at + digit.len_utf8()]))
                .collect();
            self.pieces.put_stack(cell, colours?.into_iter());
        }
        Ok(())
    }

    fn read_cells(
        &mut self,
        field: &'static str,
        text: &str,
        put: impl Fn(&mut Self, Cell),
    ) -> Result<(), TextError> {
        let cells = ranges::parse(text, self.geometry.cells()).map_err(|e| wrong(field, e))?;
        for cell in cells {
            let cell = self.empty_cell(field, cell)?;
            put(self, cell);
        }
        Ok(())
    }

    fn empty_cell(&self, field: &'static str, cell: Cell) -> Result<Cell, TextError> {
        if self.pieces.content(cell) == Content::EMPTY {
            Ok(cell)
        } else {
            Err(wrong(field, format_args!("cell {cell} is named twice")))
        }
    }

    /// Writes the canonical text.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> fmt::Result {
        let board = self.configuration.board();
        let over = self.phase == Phase::Over;
        let (status, mover) = if over {
            ('F', 0)
        } else {
            ('A', self.mover.number())
        };
        write!(
            out,
            "RR1;{board};{};{status};{mover};",
            self.configuration.players()
        )?;
        write!(out, "{};", self.phase.code())?;
        match self.anchor {
            NO_CELL => out.write_str("-;")?,
            cell => write!(out, "{cell};")?,
        }
        self.write_flags(out)?;
        if over {
            out.write_str(";-;")?;
        } else {
            self.write_tracker(out)?;
        }
        write!(out, "{};", u8::from(self.swapped))?;
        for seat in self.configuration.seats() {
            let Score {
                hand,
                eliminated,
                territory,
            } = self.score(seat);
            write!(out, "{}{hand},{eliminated},{territory}", slash(seat))?;
        }
        out.write_char(';')?;
        self.write_stacks(out)?;
        self.write_sets(out, |seat| self.pieces.markers_of(seat))?;
        self.write_sets(out, |seat| self.pieces.collapsed_of(seat))
    }

    fn write_flags(&self, out: &mut impl Write) -> fmt::Result {
        let Flags {
            acted,
            line_due,
            recovered,
            territory_due,
        } = self.flags;
        let flags = [
            (acted, 'a'),
            (line_due, 'l'),
            (recovered, 'r'),
            (territory_due, 't'),
        ];
        if self.flags == Flags::default() {
            out.write_char('-')?;
        }
        flags
            .iter()
            .filter(|(set, _)| *set)
            .try_for_each(|&(_, letter)| out.write_char(letter))
    }

    fn write_tracker(&self, out: &mut impl Write) -> fmt::Result {
        let number = |seat: Option<Seat>| seat.map_or(0, Seat::number);
        let Tracker {
            first,
            had_action,
            exclusive,
            rounds,
        } = self.tracker;
        write!(out, ";{}:", number(first))?;
        for (seat, acted) in self.configuration.seats().zip(had_action) {
            if let Some(acted) = acted {
                write!(out, "{seat}{}", if acted { '+' } else { '-' })?;
            }
        }
        write!(out, ":{}:{rounds};", number(exclusive))
    }

    fn write_stacks(&self, out: &mut impl Write) -> fmt::Result {
        for (i, cell) in self.pieces.all_stacks().iter().enumerate() {
            write!(out, "{}{cell}:", if i == 0 { "" } else { "," })?;
            self.pieces
                .rings(cell)
                .try_for_each(|colour| write!(out, "{colour}"))?;
        }
        Ok(())
    }

    fn write_sets<'a>(
        &'a self,
        out: &mut impl Write,
        set: impl Fn(Seat) -> &'a BitSet<WORDS>,
    ) -> fmt::Result {
        out.write_char(';')?;
        for seat in self.configuration.seats() {
            out.write_str(slash(seat))?;
            ranges::write(out, set(seat).iter())?;
        }
        Ok(())
    }
}

/// What separates a player's part from the one before.
fn slash(seat: Seat) -> &'static str {
    if seat == Seat(0) { "" } else { "/" }
}
