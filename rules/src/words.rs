//! Moves and phases in plain words, for people who do not read the notation yet.

use crate::{Action, Phase, Position};

/// What `action`, one that `position` could offer, does.
pub fn describe(position: &Position, action: Action) -> String {
    match action {
        Action::Place { to, count: 1 } => format!("place a ring on {to}"),
        Action::Place { to, count } => format!("place {count} rings on {to}"),
        Action::Move { from, to } => format!("move the stack on {from} to {to}"),
        Action::Capture { from, over, to } => {
            format!("jump from {from} over {over} to {to} and take its top ring")
        }
        Action::ContinueCapture { from, over, to } => {
            format!("go on: jump from {from} over {over} to {to} and take its top ring")
        }
        Action::RecoverLineAll { from, to, pay } => {
            format!(
                "recover: slide the marker on {from} to {to}, collapse the line, give up a ring of {pay}"
            )
        }
        Action::RecoverLineWindow { from, to, .. } => {
            format!(
                "recover: slide the marker on {from} to {to}, collapse a part of the line, pay nothing"
            )
        }
        Action::RecoverFallback { from, to, pay } => {
            format!("recover: slide the marker on {from} to {to}, give up a ring of {pay}")
        }
        Action::RecoverStrike { from, to, pay } => {
            format!("recover: strike the stack on {to} from {from}, give up a ring of {pay}")
        }
        Action::LineAll { axis, low } => {
            let length = position.line_around(axis, low).length;
            if length > position.configuration().line_length() {
                format!("collapse all {length} cells of the line from {low} and pay a ring")
            } else {
                format!("collapse the line of {length} from {low} and pay a ring")
            }
        }
        Action::LineWindow { axis: _, low } => {
            let length = position.configuration().line_length();
            format!("collapse only {length} cells of the line from {low} and pay nothing")
        }
        Action::PayLine { from } => format!("pay for the line with the top ring of {from}"),
        Action::Territory { wall, low } => {
            let cells = position.region_cells(wall, low).len();
            let plural = if cells == 1 { "" } else { "s" };
            format!("take the region of {cells} cell{plural} around {low}")
        }
        Action::PayTerritory { from } => format!("pay for the region with the whole cap of {from}"),
        Action::PayExtraction { from } => format!("pay for the region with a ring of {from}"),
        Action::Eliminate { from } => format!("nothing else is left: give up the cap of {from}"),
        Action::SkipPlacement => "place no ring".to_owned(),
        Action::NoPlacement => "no ring can be placed".to_owned(),
        Action::Swap => "take the other seat".to_owned(),
        Action::SkipCapture => "do not capture".to_owned(),
        Action::SkipRecovery => "do not recover".to_owned(),
        Action::NoMovement => "nothing can move".to_owned(),
        Action::NoLine => "there is no line".to_owned(),
        Action::SkipTerritory => "leave the regions alone".to_owned(),
        Action::NoTerritory => "there is no region".to_owned(),
    }
}

/// What the player to move is asked for in `phase`.
pub const fn describe_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Placement => "place rings, or skip",
        Phase::Movement => "move a stack, or capture with one",
        Phase::Capture => "the stack that moved may capture",
        Phase::ChainCapture => "the stack that captured must go on",
        Phase::Lines => "lines",
        Phase::Territory => "regions",
        Phase::ForcedElimination => "nothing could be done: give up a cap",
        Phase::Over => "the game is over",
    }
}
