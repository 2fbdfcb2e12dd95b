//! Games as arrays for Python: every game goes through the gates first, and every row is encoded as training would see
//! it, not turned.
//!
//! What the arrays mean is told in `docs/python.md`; a change there or here raises [`EXPORT_VERSION`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use riftmesh_base::JobId;
use riftmesh_rules::{Configuration, Position, RuleOptions, UnknownConfiguration, notation};
use serde::Serialize;

use crate::codec::{CODEC_VERSION, Codec, SPECIALS};
use crate::encode::{ENCODER_VERSION, GLOBALS, PLANES};
use crate::frame::{Frame, TAPS};
use crate::gates::DataGate;
use crate::npz::{ArraySummary, Element, NpzWriter};
use crate::record::{GameRecord, RULES_VERSION};
use crate::replay::{Reject, ReplayedGame, replay};
use crate::rows::{TrainingRow, expected_values, rows_as_played};
use crate::segment::{Segment, SegmentError};
use crate::weights::{SCORES_PER_SEAT, SEATS};

/// Version of the set of arrays.
pub const EXPORT_VERSION: u16 = 1;
/// Rows in one archive at most: all arrays but the planes are put together in memory, about a kilobyte a row.
pub const EXPORT_ROWS_MAX: usize = 1_000_000;

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportProgress {
    /// Rows written.
    pub rows: u64,
    /// Rows to write.
    pub rows_planned: u64,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// Board and number of players.
    pub configuration: String,
    /// Segments read.
    pub segments: usize,
    /// Games in the archive.
    pub games: usize,
    /// Rows in the archive.
    pub rows: usize,
    /// Length of the archive.
    pub bytes: u64,
    /// What the gates refused, by reason.
    pub rejected: BTreeMap<Reject, u64>,
    /// The arrays.
    pub arrays: Vec<ArraySummary>,
}

/// Why nothing was exported. Nothing is left at the archive's path.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A segment could not be read from disk.
    #[error("{0}")]
    Segment(#[from] SegmentError),
    /// The first good segment is of a board or player count that this build does not know.
    #[error("{0}")]
    Configuration(#[from] UnknownConfiguration),
    /// No game passed the gates.
    #[error("none of {segments} segments has a game that may be exported; refused: {rejected:?}")]
    NoGames {
        /// Segments given.
        segments: usize,
        /// Refusals by reason.
        rejected: BTreeMap<Reject, u64>,
    },
    /// More rows than one archive takes.
    #[error(
        "{0} rows are more than the {EXPORT_ROWS_MAX} of one archive: export fewer segments at a time"
    )]
    TooManyRows(usize),
    /// The archive could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The archive.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It was told to stop.
    #[error("stopped before the archive was whole; nothing was kept")]
    Stopped,
}

/// What the archive says about itself beside its arrays.
#[derive(Serialize)]
struct Description {
    format: &'static str,
    version: u16,
    configuration: String,
    players: usize,
    cells: usize,
    side: usize,
    /// The square of every cell, row-major.
    squares: Vec<u16>,
    /// Which weights of a 3x3 kernel the networks for this board use, row-major.
    taps: [bool; TAPS],
    action_planes: usize,
    specials: usize,
    rules: u16,
    codec: u16,
    encoder: u16,
    revision: String,
}

/// A game that passed the gates.
struct Accepted {
    job: JobId,
    options: RuleOptions,
    record: GameRecord,
}

struct Games {
    configuration: Configuration,
    games: Vec<Accepted>,
    rejected: BTreeMap<Reject, u64>,
}

/// Writes the games of `segments` to the archive `out`. They are all of the configuration of the first good segment;
/// others are refused as `wrong-configuration`. `revision` names the program in the archive's list.
///
/// # Errors
/// [`ExportError`].
pub fn export(
    segments: &[PathBuf],
    out: &Path,
    revision: &str,
    progress: &mut dyn FnMut(ExportProgress),
    stop: &AtomicBool,
) -> Result<ExportSummary, ExportError> {
    let games = read_games(segments, stop)?;
    let rows: usize = games.games.iter().map(|game| game.record.rows()).sum();
    if rows > EXPORT_ROWS_MAX {
        return Err(ExportError::TooManyRows(rows));
    }
    let io = |source| ExportError::Io {
        path: out.to_owned(),
        source,
    };
    let mut archive = NpzWriter::create(out).map_err(io)?;
    let written = Export {
        archive: &mut archive,
        rows,
        progress,
        stop,
    }
    .write(&games);
    if let Err(source) = written {
        // The first error is what matters; a left-over `.part` file is no archive.
        drop(archive.abandon());
        return Err(match source.kind() {
            io::ErrorKind::Interrupted => ExportError::Stopped,
            _ => io(source),
        });
    }
    let description = describe(games.configuration, revision);
    let (arrays, bytes) = archive.finish(&description).map_err(io)?;
    Ok(ExportSummary {
        configuration: games.configuration.to_string(),
        segments: segments.len(),
        games: games.games.len(),
        rows,
        bytes,
        rejected: games.rejected,
        arrays,
    })
}

fn describe(configuration: Configuration, revision: &str) -> Description {
    let (frame, codec) = (
        Frame::of(configuration.board()),
        Codec::of(configuration.board()),
    );
    Description {
        format: "riftmesh games",
        version: EXPORT_VERSION,
        configuration: configuration.to_string(),
        players: configuration.players(),
        cells: frame.cells(),
        side: frame.side(),
        squares: frame.squares().to_vec(),
        taps: frame.taps(),
        action_planes: codec.planes(),
        specials: SPECIALS,
        rules: RULES_VERSION,
        codec: CODEC_VERSION,
        encoder: ENCODER_VERSION,
        revision: revision.to_owned(),
    }
}

/// The games that pass the gates.
fn read_games(segments: &[PathBuf], stop: &AtomicBool) -> Result<Games, ExportError> {
    let mut gate = DataGate::new();
    let mut configuration = None;
    let mut games = Vec::new();
    for path in segments {
        let segment = match Segment::read(path) {
            Ok(segment) => segment,
            Err(error) if error.is_damage() => {
                gate.count(Reject::Damaged);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let ours = match configuration {
            Some(configuration) => configuration,
            None => *configuration.insert(segment.header.configuration.as_str().parse()?),
        };
        if gate.admit_segment(&segment.header, ours).is_err() {
            continue;
        }
        for record in segment.games {
            if stop.load(Ordering::Relaxed) {
                return Err(ExportError::Stopped);
            }
            if gate.admit_game(&segment.header, ours, &record).is_ok() {
                games.push(Accepted {
                    job: segment.header.job,
                    options: RuleOptions {
                        swap: segment.header.swap,
                    },
                    record,
                });
            }
        }
    }
    match configuration {
        Some(configuration) if !games.is_empty() => Ok(Games {
            configuration,
            games,
            rejected: gate.rejected,
        }),
        _ => Err(ExportError::NoGames {
            segments: segments.len(),
            rejected: gate.rejected,
        }),
    }
}

/// Every array but the planes.
#[derive(Default)]
struct Columns {
    globals: Vec<f32>,
    policy_start: Vec<u64>,
    policy_index: Vec<u32>,
    policy_probability: Vec<f32>,
    value: Vec<f32>,
    search_value: Vec<f32>,
    owner: Vec<u8>,
    rank: Vec<u8>,
    scores: Vec<f32>,
    row_game: Vec<u32>,
    row_decision: Vec<u32>,
    game_job: Vec<u64>,
    game_number: Vec<u64>,
    game_winner: Vec<u8>,
    game_row_start: Vec<u64>,
    move_start: Vec<u64>,
    moves: Vec<String>,
    decision_start: Vec<u64>,
    decision_action: Vec<u32>,
    decision_simulations: Vec<u32>,
    decision_flags: Vec<u8>,
}

impl Columns {
    fn add_row(&mut self, number: usize, row: &TrainingRow, expected: [f32; SEATS]) {
        self.globals.extend(&row.globals);
        self.policy_start.push(self.policy_index.len() as u64);
        for &(index, probability) in &row.policy {
            self.policy_index.push(index);
            self.policy_probability.push(probability);
        }
        self.value.extend(row.value);
        self.search_value.extend(expected);
        self.owner.extend(&row.owner);
        self.rank.extend(row.rank);
        self.scores.extend(row.scores.as_flattened());
        // Games and decisions are bounded far below what 32 bits hold.
        self.row_game.push(self.game_job.len() as u32);
        self.row_decision.push(number as u32);
    }

    /// Called after the game's rows.
    fn add_game(&mut self, game: &Accepted, configuration: Configuration, first_row: usize) {
        let record = &game.record;
        self.game_job.push(game.job.0);
        self.game_number.push(record.number);
        self.game_winner.push(record.winner);
        self.game_row_start.push(first_row as u64);
        self.move_start.push(self.moves.len() as u64);
        let mut position = Position::start(configuration, game.options);
        for &action in &record.moves {
            self.moves.push(notation::format(&position, action));
            position.apply(action);
        }
        self.decision_start.push(self.decision_action.len() as u64);
        for decision in &record.decisions {
            self.decision_action.push(decision.chosen);
            self.decision_simulations.push(decision.simulations);
            self.decision_flags.push(decision.flags);
        }
    }

    /// Closes the lists of starts.
    fn close(&mut self) {
        self.policy_start.push(self.policy_index.len() as u64);
        self.game_row_start.push(self.row_game.len() as u64);
        self.move_start.push(self.moves.len() as u64);
        self.decision_start.push(self.decision_action.len() as u64);
    }
}

struct Export<'a> {
    archive: &'a mut NpzWriter,
    rows: usize,
    progress: &'a mut dyn FnMut(ExportProgress),
    stop: &'a AtomicBool,
}

impl Export<'_> {
    /// The planes, by far the largest array, are written row by row; the others follow from memory.
    fn write(mut self, games: &Games) -> io::Result<()> {
        let side = Frame::of(games.configuration.board()).side();
        let mut columns = Columns::default();
        let (rows, progress, stop) = (self.rows, &mut *self.progress, self.stop);
        self.archive
            .array::<f32>("planes", &[rows, PLANES, side, side], |out| {
                for game in &games.games {
                    if stop.load(Ordering::Relaxed) {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    write_game(game, games.configuration, &mut columns, out)?;
                    progress(ExportProgress {
                        rows: columns.row_game.len() as u64,
                        rows_planned: rows as u64,
                    });
                }
                Ok(())
            })?;
        columns.close();
        self.write_rows(&columns, side)?;
        self.write_games(&columns)
    }

    fn write_rows(&mut self, columns: &Columns, side: usize) -> io::Result<()> {
        let rows = self.rows;
        self.whole("globals", &[rows, GLOBALS], &columns.globals)?;
        self.flat("policy_start", &columns.policy_start)?;
        self.flat("policy_index", &columns.policy_index)?;
        self.flat("policy_probability", &columns.policy_probability)?;
        self.whole("value", &[rows, SEATS], &columns.value)?;
        self.whole("search_value", &[rows, SEATS], &columns.search_value)?;
        self.whole("owner", &[rows, side, side], &columns.owner)?;
        self.whole("rank", &[rows, SEATS], &columns.rank)?;
        self.whole("scores", &[rows, SEATS, SCORES_PER_SEAT], &columns.scores)?;
        self.flat("row_game", &columns.row_game)?;
        self.flat("row_decision", &columns.row_decision)
    }

    fn write_games(&mut self, columns: &Columns) -> io::Result<()> {
        self.flat("game_job", &columns.game_job)?;
        self.flat("game_number", &columns.game_number)?;
        self.flat("game_winner", &columns.game_winner)?;
        self.flat("game_row_start", &columns.game_row_start)?;
        self.flat("move_start", &columns.move_start)?;
        let width = columns.moves.iter().map(String::len).max().unwrap_or(1);
        self.archive.texts("moves", width, &columns.moves)?;
        self.flat("decision_start", &columns.decision_start)?;
        self.flat("decision_action", &columns.decision_action)?;
        self.flat("decision_simulations", &columns.decision_simulations)?;
        self.flat("decision_flags", &columns.decision_flags)
    }

    fn flat<T: Element>(&mut self, name: &str, numbers: &[T]) -> io::Result<()> {
        self.whole(name, &[numbers.len()], numbers)
    }

    fn whole<T: Element>(&mut self, name: &str, shape: &[usize], numbers: &[T]) -> io::Result<()> {
        self.archive.array(name, shape, |out| out(numbers))
    }
}

/// Writes the planes of a game's rows and collects everything else.
fn write_game(
    game: &Accepted,
    configuration: Configuration,
    columns: &mut Columns,
    out: &mut dyn FnMut(&[f32]) -> io::Result<()>,
) -> io::Result<()> {
    let replayed: ReplayedGame = replay(configuration, game.options, &game.record)
        .map_err(|reject| io::Error::new(io::ErrorKind::InvalidData, reject))?;
    let first_row = columns.row_game.len();
    for (number, row) in rows_as_played(&game.record, &replayed) {
        let expected = expected_values(&replayed.decisions[number], &game.record.decisions[number]);
        columns.add_row(number, &row, expected.unwrap_or_default());
        out(&row.planes)?;
    }
    columns.add_game(game, configuration, first_row);
    Ok(())
}
