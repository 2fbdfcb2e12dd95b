//! Hand-written single-move cases of the reference project (VECTORS, `contract/vectors.json`).
//!
//! Their positions are artificial and some of their moves would not be offered in a game (a price that is not due, a
//! region that is none), so they are played without asking whether they are legal: a check of effects, not of rights.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use crate::configuration::{Board, Configuration, RuleOptions, Seat};
use crate::content::CellContent;
use crate::{Action, Cell, Geometry, Phase, Position, ranges};

/// A case that does not hold, or a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("case {case}: {problem}")]
pub struct ContractMismatch {
    /// The case; empty when the file could not be read.
    pub case: String,
    /// What is wrong.
    pub problem: String,
}

#[derive(Deserialize)]
struct File {
    vectors: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    id: String,
    settled: bool,
    input: Input,
    expected_output: Expected,
}

#[derive(Deserialize)]
struct Input {
    state: CaseState,
    #[serde(rename = "move")]
    played: CaseMove,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseState {
    board: CaseBoard,
    players: Vec<CasePlayer>,
    current_player: u8,
    current_phase: String,
    chain_capture_position: Option<Point>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseBoard {
    #[serde(rename = "type")]
    board: Board,
    stacks: BTreeMap<String, CaseStack>,
    markers: BTreeMap<String, CaseMarker>,
    collapsed_spaces: BTreeMap<String, u8>,
}

#[derive(Deserialize)]
struct CaseStack {
    position: Point,
    rings: Vec<u8>,
}

#[derive(Deserialize)]
struct CaseMarker {
    position: Point,
    player: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CasePlayer {
    rings_in_hand: u16,
    eliminated_rings: u16,
}

#[derive(Deserialize, Clone, Copy)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseMove {
    #[serde(rename = "type")]
    kind: String,
    from: Option<Point>,
    capture_target: Option<Point>,
    to: Option<Point>,
    placement_count: Option<u8>,
    disconnected_regions: Option<Vec<CaseRegion>>,
}

#[derive(Deserialize)]
struct CaseRegion {
    spaces: Vec<Point>,
}

#[derive(Deserialize)]
struct Expected {
    assertions: BTreeMap<String, serde_json::Value>,
}

/// What a case plays.
enum Play {
    Act(Action),
    /// Process these cells as a region; none leave the position alone.
    Process(Vec<Cell>),
}

/// Checks every case of the file; gives their number.
///
/// # Errors
/// The first case that does not hold, or why the file cannot be read.
pub fn check_contract(json: &str) -> Result<usize, ContractMismatch> {
    let unread = |error: serde_json::Error| ContractMismatch {
        case: String::new(),
        problem: error.to_string(),
    };
    let file: File = serde_json::from_str(json).map_err(unread)?;
    for case in &file.vectors {
        case.check().map_err(|problem| ContractMismatch {
            case: case.id.clone(),
            problem,
        })?;
    }
    Ok(file.vectors.len())
}

impl Case {
    fn check(&self) -> Result<(), String> {
        let before = self.input.position()?;
        let mut after = before.clone();
        match self.input.play()? {
            Play::Act(action) => {
                possible(&before, action)?;
                after.apply_unchecked(action);
            }
            Play::Process(cells) if cells.is_empty() => {}
            Play::Process(cells) => after.process_cells(&cells),
        }
        if self.settled {
            settle(&mut after);
        }
        for (name, expected) in &self.expected_output.assertions {
            let computed = observe(name, &before, &after)?;
            let as_text = expected
                .as_str()
                .map_or_else(|| expected.to_string(), str::to_owned);
            // The reference leaves a stale player behind when a game ends.
            let stale = name == "currentPlayer" && after.to_move().is_none();
            if !stale && as_text != computed {
                return Err(format!("{name}: expected {as_text}, computed {computed}"));
            }
        }
        Ok(())
    }
}

/// Whether the pieces that `action` takes up are there, which is all that playing it needs: cases are read from files,
/// and one that moves nothing from nowhere is the file's mistake.
fn possible(position: &Position, action: Action) -> Result<(), String> {
    let holds_stack = |cell| matches!(position.content(cell), CellContent::Stack(_));
    let lands = |cell| {
        matches!(
            position.content(cell),
            CellContent::Empty | CellContent::Marker(_)
        )
    };
    let straight = |from, to| position.geometry().direction_and_distance(from, to);
    let fits = match action {
        Action::Place { to, count } => {
            let mover = position.to_move().unwrap_or(Seat(0));
            let free = position.content(to) == CellContent::Empty || holds_stack(to);
            free && u16::from(count) <= position.score(mover).hand
        }
        Action::Move { from, to } => holds_stack(from) && lands(to) && straight(from, to).is_some(),
        Action::Capture { from, over, to } | Action::ContinueCapture { from, over, to } => {
            let distance = |to| straight(from, to).map(|(_, distance)| distance);
            let between = straight(from, over).map(|(direction, _)| direction)
                == straight(from, to).map(|(direction, _)| direction)
                && distance(over) < distance(to);
            holds_stack(from) && holds_stack(over) && lands(to) && between && from != over
        }
        Action::PayTerritory { from } => holds_stack(from),
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{action:?} takes up pieces that are not there, in {position}"
        ))
    }
}

/// Plays the no-line and no-territory moves that follow, whatever they leave undone.
fn settle(position: &mut Position) {
    loop {
        match position.phase() {
            Phase::Lines => position.apply_unchecked(Action::NoLine),
            Phase::Territory => position.apply_unchecked(Action::NoTerritory),
            _ => break,
        }
    }
}

impl Input {
    fn cell(&self, point: Point) -> Result<Cell, String> {
        let found = Geometry::of(self.state.board.board).cell_at(point.x, point.y);
        found.ok_or_else(|| format!("no cell at {},{}", point.x, point.y))
    }

    fn given(&self, point: Option<Point>) -> Result<Cell, String> {
        self.cell(point.ok_or("a point is missing")?)
    }

    fn play(&self) -> Result<Play, String> {
        let played = &self.played;
        let to = || self.given(played.to);
        let from = || self.given(played.from);
        let over = || self.given(played.capture_target);
        let action = match played.kind.as_str() {
            "place_ring" => Action::Place {
                to: to()?,
                count: played.placement_count.unwrap_or(1),
            },
            "move_stack" => Action::Move {
                from: from()?,
                to: to()?,
            },
            "overtaking_capture" => Action::Capture {
                from: from()?,
                over: over()?,
                to: to()?,
            },
            "continue_capture_segment" => Action::ContinueCapture {
                from: from()?,
                over: over()?,
                to: to()?,
            },
            "eliminate_rings_from_stack" => Action::PayTerritory { from: to()? },
            "choose_territory_option" => {
                let regions = played.disconnected_regions.iter().flatten();
                let points = regions.flat_map(|region| &region.spaces);
                let cells: Result<_, _> = points.map(|&point| self.cell(point)).collect();
                return Ok(Play::Process(cells?));
            }
            other => return Err(format!("unknown move type {other}")),
        };
        Ok(Play::Act(action))
    }

    /// The position, by way of its canonical text.
    fn position(&self) -> Result<Position, String> {
        let state = &self.state;
        // Some cases have a single player; nobody sits in the second seat.
        let players = state.players.len().max(2);
        let configuration =
            Configuration::new(state.board.board, players).ok_or("too many players")?;
        let phase = phase_named(&state.current_phase).ok_or("unknown phase")?;
        let anchor = match (phase, state.chain_capture_position, self.played.from) {
            (Phase::ChainCapture, Some(point), _) => self.cell(point)?.to_string(),
            (Phase::Capture | Phase::ChainCapture, None, Some(point)) => {
                self.cell(point)?.to_string()
            }
            _ => "-".to_owned(),
        };
        let mut text = format!(
            "RR1;{};{players};A;{};{};{anchor};-;0::0:0;0;",
            configuration.board(),
            state.current_player,
            phase.code()
        );
        self.write_board(&mut text, configuration)?;
        Position::parse_partial(&text, RuleOptions::default())
            .map_err(|error| format!("{error}: {text}"))
    }

    fn write_board(&self, text: &mut String, configuration: Configuration) -> Result<(), String> {
        let board = &self.state.board;
        let mut stacks = BTreeMap::new();
        for stack in board.stacks.values() {
            let rings: String = stack.rings.iter().map(u8::to_string).collect();
            stacks.insert(self.cell(stack.position)?, rings);
        }
        let mut markers = vec![Vec::new(); configuration.players() + 1];
        for marker in board.markers.values() {
            let cell = self.cell(marker.position)?;
            markers
                .get_mut(usize::from(marker.player))
                .ok_or("a marker of nobody")?
                .push(cell);
        }
        let mut collapsed = markers.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        for (key, &owner) in &board.collapsed_spaces {
            let cell = self.cell(point_of(key)?)?;
            collapsed
                .get_mut(usize::from(owner))
                .ok_or("territory of nobody")?
                .push(cell);
        }
        let counts = configuration.seats().map(|seat| {
            let territory = collapsed[usize::from(seat.number())].len();
            match self.state.players.get(seat.index()) {
                Some(player) => format!(
                    "{},{},{territory}",
                    player.rings_in_hand, player.eliminated_rings
                ),
                None => format!("0,0,{territory}"),
            }
        });
        let counts = counts.collect::<Vec<_>>().join("/");
        let stacks: Vec<_> = stacks
            .iter()
            .map(|(cell, rings)| format!("{cell}:{rings}"))
            .collect();
        let lists = [per_player(markers), per_player(collapsed)];
        write!(text, "{counts};{};{}", stacks.join(","), lists.join(";")).map_err(|e| e.to_string())
    }
}

/// Sorted cell lists of the players, whose numbers start at 1.
fn per_player(lists: Vec<Vec<Cell>>) -> String {
    let text = |mut cells: Vec<Cell>| {
        let mut out = String::new();
        cells.sort_unstable();
        // Writing to a string does not fail.
        let written = ranges::write(&mut out, cells.into_iter());
        debug_assert!(written.is_ok(), "strings take any text");
        out
    };
    lists
        .into_iter()
        .skip(1)
        .map(text)
        .collect::<Vec<_>>()
        .join("/")
}

/// Reads a key such as `3,4` or `1,-1,0`.
fn point_of(key: &str) -> Result<Point, String> {
    let mut numbers = key.split(',').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(x)), Some(Ok(y))) => Ok(Point { x, y }),
        _ => Err(format!("`{key}` is no cell key")),
    }
}

/// The reference project's names of the phases.
const PHASES: [(&str, Phase); 8] = [
    ("ring_placement", Phase::Placement),
    ("movement", Phase::Movement),
    ("capture", Phase::Capture),
    ("chain_capture", Phase::ChainCapture),
    ("line_processing", Phase::Lines),
    ("territory_processing", Phase::Territory),
    ("forced_elimination", Phase::ForcedElimination),
    ("game_over", Phase::Over),
];

fn phase_named(name: &str) -> Option<Phase> {
    PHASES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, phase)| phase)
}

/// The quantity called `name`, as text.
fn observe(name: &str, before: &Position, after: &Position) -> Result<String, String> {
    if let Some(text) = observe_seat(name, after) {
        return Ok(text);
    }
    let over = after.outcome();
    let value = match name {
        "currentPlayer" => after
            .to_move()
            .map_or("0".to_owned(), |seat| seat.to_string()),
        "currentPhase" => PHASES
            .iter()
            .find(|(_, phase)| *phase == after.phase())
            .map_or(String::new(), |(name, _)| (*name).to_owned()),
        "gameStatus" => if over.is_some() {
            "completed"
        } else {
            "active"
        }
        .to_owned(),
        "stackCount" => count(after, Position::stacks_of).to_string(),
        "markerCount" => count(after, Position::markers_of).to_string(),
        "collapsedCount" => count(after, Position::territory_of).to_string(),
        "sInvariantDelta" => (progress(after) - progress(before)).to_string(),
        "victoryReason" => over.map_or(String::new(), |outcome| outcome.rule.reason().to_owned()),
        "victoryWinner" => over.map_or(String::new(), |outcome| outcome.winner.to_string()),
        // The reference announces it on arrival in the phase, whether there is a line or not.
        "pendingDecisionType" if after.phase() == Phase::Lines => {
            "select_line_to_process".to_owned()
        }
        _ => return Err(format!("no answer for `{name}`")),
    };
    Ok(value)
}

/// Quantities such as `player1RingsInHand`.
fn observe_seat(name: &str, after: &Position) -> Option<String> {
    let (number, quantity) = name.strip_prefix("player")?.split_at_checked(1)?;
    let seat = Seat(number.parse::<u8>().ok()?.checked_sub(1)?);
    if seat.index() >= after.configuration().players() {
        return None;
    }
    let score = after.score(seat);
    match quantity {
        "RingsInHand" => Some(score.hand.to_string()),
        "EliminatedRings" => Some(score.eliminated.to_string()),
        "TerritorySpaces" => Some(score.territory.to_string()),
        _ => None,
    }
}

fn count(position: &Position, set: fn(&Position, Seat) -> crate::CellSet) -> usize {
    position
        .configuration()
        .seats()
        .map(|seat| set(position, seat).len())
        .sum()
}

/// Markers, collapsed cells and eliminated rings, of which no move takes any away in sum.
fn progress(position: &Position) -> i64 {
    let seats = position.configuration().seats();
    let eliminated: usize = seats
        .map(|seat| usize::from(position.score(seat).eliminated))
        .sum();
    let cells = count(position, Position::markers_of) + count(position, Position::territory_of);
    (eliminated + cells) as i64
}
