//! The cases as they stand in the file, and the positions and actions that they mean.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use super::phase_named;
use crate::configuration::{Board, Configuration, RuleOptions};
use crate::{Action, Cell, Geometry, Phase, Position, ranges};

#[derive(Deserialize)]
pub(super) struct File {
    pub(super) vectors: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) settled: bool,
    pub(super) input: Input,
    pub(super) expected_output: Expected,
}

#[derive(Deserialize)]
pub(super) struct Input {
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
pub(super) struct Expected {
    pub(super) assertions: BTreeMap<String, serde_json::Value>,
}

/// What a case plays.
pub(super) enum Play {
    Act(Action),
    /// Process these cells as a region; none leave the position alone.
    Process(Vec<Cell>),
}

impl Input {
    fn cell(&self, point: Point) -> Result<Cell, String> {
        let found = Geometry::of(self.state.board.board).cell_at(point.x, point.y);
        found.ok_or_else(|| format!("no cell at {},{}", point.x, point.y))
    }

    fn given(&self, point: Option<Point>) -> Result<Cell, String> {
        self.cell(point.ok_or("a point is missing")?)
    }

    /// What the case plays.
    pub(super) fn play(&self) -> Result<Play, String> {
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
    pub(super) fn position(&self) -> Result<Position, String> {
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
