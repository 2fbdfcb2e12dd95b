//! What a typed line means.

use std::path::PathBuf;

use riftmesh_rules::{Action, NotationError, Position, notation};

/// Moves named as suggestions.
const SUGGESTIONS: usize = 8;

/// What can be typed besides moves; `help` prints it.
pub const HELP: &str =
    "  a move       in notation (P12x1, M12-14, C12x13-14, sp ...) or, once listed, by its number
  moves TEXT   list the legal moves, only those with TEXT in them if it is given
  board        draw the board again
  hint         what the heuristic player would do
  undo         take back your last choice and what followed
  save FILE    save the game (.jsonl); `save! FILE` replaces a file
  load FILE    go on with a saved game
  text         the position as one line, for `riftmesh rules show`
  quit         leave";

/// A typed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypedLine {
    /// Nothing: show where things stand.
    Empty,
    /// Draw the board.
    Board,
    /// List moves that contain the text.
    Moves(String),
    /// Take back.
    Undo,
    /// Save, to the file used before if none is named.
    Save {
        /// The file.
        path: Option<PathBuf>,
        /// Whether a file that is there may be replaced.
        replace: bool,
    },
    /// Load.
    Load(Option<PathBuf>),
    /// Ask for advice.
    Hint,
    /// Show the canonical text.
    Text,
    /// Show what can be typed.
    Help,
    /// Leave.
    Quit,
    /// Anything else is meant as a move.
    Move(String),
}

/// Reads a line.
pub fn read(line: &str) -> TypedLine {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let path = || (!rest.is_empty()).then(|| PathBuf::from(rest));
    match word.to_lowercase().as_str() {
        "" => TypedLine::Empty,
        "board" | "b" => TypedLine::Board,
        "moves" | "m" | "list" | "l" | "ls" => TypedLine::Moves(rest.to_owned()),
        "undo" | "u" => TypedLine::Undo,
        "save" => TypedLine::Save {
            path: path(),
            replace: false,
        },
        "save!" => TypedLine::Save {
            path: path(),
            replace: true,
        },
        "load" => TypedLine::Load(path()),
        "hint" => TypedLine::Hint,
        "text" => TypedLine::Text,
        "help" | "h" | "?" => TypedLine::Help,
        "quit" | "q" | "exit" => TypedLine::Quit,
        _ => TypedLine::Move(line.to_owned()),
    }
}

/// Whether `text` picks from the list.
pub fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The legal action that `text` means, or why there is none and what there is instead.
pub fn choose(position: &Position, legal: &[Action], text: &str) -> Result<Action, String> {
    if is_number(text) {
        let number: Option<usize> = text.parse().ok();
        return number
            .and_then(|number| legal.get(number.checked_sub(1)?))
            .copied()
            .ok_or_else(|| {
                format!(
                    "there is no move {text}: they are numbered 1 to {}; `moves` lists them",
                    legal.len()
                )
            });
    }
    let texts: Vec<String> = legal
        .iter()
        .map(|&action| notation::format(position, action))
        .collect();
    let found = texts
        .iter()
        .position(|legal| legal.eq_ignore_ascii_case(text));
    found
        .map(|at| legal[at])
        .ok_or_else(|| refusal(position, &texts, text))
}

/// Why `text` is no legal move, and the legal ones that are nearest.
fn refusal(position: &Position, legal: &[String], text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    let upper = text.to_uppercase();
    // The notation has capitals, but for the `x` of placements and captures; people may type as they like.
    let capitals = upper.replace('X', "x");
    let read = notation::parse(position, text).or_else(|_| notation::parse(position, &capitals));
    let reason = match read {
        Ok(_) => format!("{shown} is not legal now"),
        Err(NotationError::OffBoard { cell, cells, .. }) => {
            format!(
                "there is no cell {cell}: they are numbered 0 to {}",
                cells - 1
            )
        }
        Err(NotationError::NoSuchCells(_)) => {
            format!("`{shown}` names cells that are no line or region here")
        }
        Err(NotationError::Malformed(_)) => {
            format!("`{shown}` is neither a move nor a command")
        }
    };
    let near = near(legal, &upper);
    if near.is_empty() {
        format!("{reason}; legal now: {}", kinds(legal))
    } else {
        format!("{reason}; did you mean {}?", near.join(", "))
    }
}

/// Legal moves that begin with the text or, failing that, contain it.
fn near<'a>(legal: &'a [String], upper: &str) -> Vec<&'a str> {
    let matching = |test: &dyn Fn(&str) -> bool| -> Vec<&'a str> {
        legal
            .iter()
            .filter(|text| test(&text.to_uppercase()))
            .map(String::as_str)
            .take(SUGGESTIONS)
            .collect()
    };
    // `P12` should not suggest `P120x1` before `P12x1`.
    let next_is_no_digit = |text: &str| {
        text.strip_prefix(upper)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut found = matching(&next_is_no_digit);
    if found.is_empty() {
        found = matching(&|text| text.contains(upper));
    }
    found
}

/// What kinds of moves there are, each with an example.
pub fn kinds(legal: &[String]) -> String {
    let mut kinds: Vec<(String, usize, &str)> = Vec::new();
    for text in legal {
        let kind: String = text.chars().take_while(|c| c.is_alphabetic()).collect();
        match kinds.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, count, _)) => *count += 1,
            None => kinds.push((kind, 1, text)),
        }
    }
    let parts: Vec<String> = kinds
        .iter()
        .map(|(_, count, example)| match count {
            1 => (*example).to_owned(),
            _ => format!("{count} like {example}"),
        })
        .collect();
    parts.join(", ")
}
