//! Hand-written single-move cases of the reference project (VECTORS, `contract/vectors.json`).
//!
//! Their positions are artificial and some of their moves would not be offered in a game (a price that is not due, a
//! region that is none), so they are played without asking whether they are legal: a check of effects, not of rights.

mod case;

use crate::configuration::Seat;
use crate::content::CellContent;
use crate::{Action, Phase, Position};
use case::{Case, File, Play};

/// A case that does not hold, or a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("case {case}: {problem}")]
pub struct ContractMismatch {
    /// The case; empty when the file could not be read.
    pub case: String,
    /// What is wrong.
    pub problem: String,
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
