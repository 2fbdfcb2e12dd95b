//! A game between a person and the computer, without terminal and files: lines in, text and wishes out.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use riftmesh_rules::diagram::{Diagram, Ink};
use riftmesh_rules::record::{RecordedMoves, record_game};
use riftmesh_rules::{Action, Position, RuleOptions, Seat, notation, words};

use super::input::{self, HELP, TypedLine};

/// Moves listed with their meaning, one a line; more are listed by notation alone.
const LINES_MAX: usize = 24;
/// Columns of a long list of moves.
const LIST_COLUMNS: usize = 6;

/// What the session wants done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: read the next line.
    Nothing,
    /// Let the computer play if it is to move, then show the board.
    Continue,
    /// Ask a player for advice and tell it by [`PlaySession::hint`].
    Hint,
    /// Save the record.
    Save {
        /// Where.
        path: PathBuf,
        /// Whether a file that is there may be replaced.
        replace: bool,
    },
    /// Load a record and hand it to [`PlaySession::resume`].
    Load {
        /// From where.
        path: PathBuf,
    },
    /// Leave.
    Quit,
}

/// The answer to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayReply {
    /// What to print; may be empty.
    pub text: String,
    /// What to do.
    pub wish: Wish,
}

impl PlayReply {
    fn say(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            wish: Wish::Nothing,
        }
    }

    fn wish(wish: Wish) -> Self {
        Self {
            text: String::new(),
            wish,
        }
    }
}

/// The game so far.
#[derive(Debug, Clone)]
pub struct PlaySession {
    options: RuleOptions,
    /// The start and the positions after each move.
    positions: Vec<Position>,
    actions: Vec<Action>,
    /// Which seats a person holds before any exchange of seats.
    humans: Vec<bool>,
    ink: Ink,
    /// Whether the moves of this position were listed.
    listed: bool,
    /// The file last saved or loaded.
    file: Option<PathBuf>,
}

impl PlaySession {
    /// A game from `start`; `humans` says for each seat whether a person moves for it.
    pub fn new(start: Position, options: RuleOptions, humans: Vec<bool>, ink: Ink) -> Self {
        Self {
            options,
            positions: vec![start],
            actions: Vec::new(),
            humans,
            ink,
            listed: false,
            file: None,
        }
    }

    /// The position now.
    pub fn position(&self) -> &Position {
        // There is always the start.
        &self.positions[self.actions.len()]
    }

    /// Whether the computer has to choose.
    pub fn computer_to_move(&self) -> bool {
        self.position()
            .to_move()
            .is_some_and(|seat| !self.is_human(self.position(), seat))
    }

    /// Whether a person holds `seat`: the pie rule exchanges the first two.
    fn is_human(&self, position: &Position, seat: Seat) -> bool {
        let person = match seat.index() {
            seat @ 0..2 if position.swapped() => 1 - seat,
            seat => seat,
        };
        self.humans[person]
    }

    fn legal(&self) -> Vec<Action> {
        let mut legal = Vec::new();
        self.position().legal(&mut legal);
        legal
    }

    fn texts(&self, legal: &[Action]) -> Vec<String> {
        legal
            .iter()
            .map(|&action| notation::format(self.position(), action))
            .collect()
    }

    /// What is said first.
    pub fn greeting(&self) -> String {
        let configuration = self.position().configuration();
        let seats: Vec<String> = configuration
            .seats()
            .filter(|&seat| self.is_human(self.position(), seat))
            .map(|seat| seat.to_string())
            .collect();
        format!(
            "You play seat {} of {configuration}. Type a move, or `help`.\n",
            seats.join(" and ")
        )
    }

    /// What stands before the cursor.
    pub fn prompt(&self) -> String {
        match self.position().to_move() {
            Some(seat) => format!(
                "player {seat}, {}> ",
                words::describe_phase(self.position().phase())
            ),
            None => "game over (undo, save FILE, quit)> ".to_owned(),
        }
    }

    /// The board, and what can be done.
    pub fn board(&self) -> String {
        let mut text = Diagram::of(self.position()).draw(self.ink);
        let legal = self.legal();
        match legal.len() {
            0 => {}
            1..=LINES_MAX => {
                text += "\n";
                text += &self.list(&legal, "");
            }
            count => {
                let kinds = input::kinds(&self.texts(&legal));
                // Writing to a string does not fail.
                let written = write!(text, "\n{count} moves: {kinds}; `moves` lists them");
                debug_assert!(written.is_ok(), "strings take any text");
            }
        }
        text.trim_end().to_owned()
    }

    /// Answers a line.
    pub fn input(&mut self, line: &str) -> PlayReply {
        match input::read(line) {
            TypedLine::Empty => PlayReply::say("type a move, `moves` or `help`"),
            TypedLine::Board => PlayReply::say(self.board()),
            TypedLine::Moves(filter) => {
                self.listed = true;
                PlayReply::say(self.list(&self.legal(), &filter))
            }
            TypedLine::Undo => self.undo(),
            TypedLine::Save { path, replace } => match path.or_else(|| self.file.clone()) {
                Some(path) => PlayReply::wish(Wish::Save { path, replace }),
                None => PlayReply::say("save where? For example `save game.jsonl`"),
            },
            TypedLine::Load(Some(path)) => PlayReply::wish(Wish::Load { path }),
            TypedLine::Load(None) => PlayReply::say("load what? For example `load game.jsonl`"),
            TypedLine::Hint if self.legal().is_empty() => PlayReply::say("the game is over"),
            TypedLine::Hint => PlayReply::wish(Wish::Hint),
            TypedLine::Text => PlayReply::say(self.position().canonical_text()),
            TypedLine::Help => PlayReply::say(HELP),
            TypedLine::Quit => PlayReply::wish(Wish::Quit),
            TypedLine::Move(text) => self.typed_move(&text),
        }
    }

    fn typed_move(&mut self, text: &str) -> PlayReply {
        let legal = self.legal();
        if legal.is_empty() {
            return PlayReply::say("the game is over: `undo`, `save FILE` or `quit`");
        }
        // A number is easily meant as a cell: it counts only for who has seen the list.
        if input::is_number(text) && !self.listed && legal.len() > LINES_MAX {
            return PlayReply::say(format!(
                "a number picks from the list: type `moves` first to see it, or a move, such as {}",
                self.texts(&legal[..1]).concat()
            ));
        }
        match input::choose(self.position(), &legal, text) {
            Ok(action) => {
                let mut text = format!("you play {}\n", self.play(action));
                self.settle(&mut text);
                PlayReply {
                    text: text.trim_end().to_owned(),
                    wish: Wish::Continue,
                }
            }
            Err(problem) => PlayReply::say(problem),
        }
    }

    /// Plays the computer's choice; says what it was.
    pub fn computer_plays(&mut self, action: Action) -> String {
        let seat = self
            .position()
            .to_move()
            .map_or_else(String::new, |seat| seat.to_string());
        let mut text = format!("player {seat} plays {}\n", self.play(action));
        self.settle(&mut text);
        text.trim_end().to_owned()
    }

    /// What a player would do here.
    pub fn hint(&self, action: Action) -> String {
        format!("the heuristic player would play {}", self.shown(action))
    }

    /// Notation and meaning of an action.
    fn shown(&self, action: Action) -> String {
        format!(
            "{} ({})",
            notation::format(self.position(), action),
            words::describe(self.position(), action)
        )
    }

    /// Plays a legal action; gives what it is called.
    fn play(&mut self, action: Action) -> String {
        let shown = self.shown(action);
        let mut next = self.position().clone();
        next.apply(action);
        self.actions.push(action);
        self.positions.push(next);
        self.listed = false;
        shown
    }

    /// Plays what has no alternative, whoever's turn it is. Moves that do nothing are not worth a line.
    fn settle(&mut self, text: &mut String) {
        while let [only] = self.legal()[..] {
            let seat = self.position().to_move().map_or(0, Seat::number);
            let shown = self.play(only);
            let nothing = matches!(
                only,
                Action::NoPlacement | Action::NoMovement | Action::NoLine | Action::NoTerritory
            );
            if !nothing {
                *text += &format!("player {seat} can only play {shown}\n");
            }
        }
    }

    /// Back to the last position at which a person had a choice.
    fn undo(&mut self) -> PlayReply {
        let choice = |position: &Position| {
            let mut legal = Vec::new();
            position.legal(&mut legal);
            let human = position
                .to_move()
                .is_some_and(|seat| self.is_human(position, seat));
            human && legal.len() > 1
        };
        let Some(back) = self.positions[..self.actions.len()]
            .iter()
            .rposition(choice)
        else {
            return PlayReply::say("there is nothing of yours to take back");
        };
        let taken = self.actions.len() - back;
        self.actions.truncate(back);
        self.positions.truncate(back + 1);
        self.listed = false;
        let plural = if taken == 1 { "" } else { "s" };
        PlayReply {
            text: format!("{taken} move{plural} taken back"),
            wish: Wish::Continue,
        }
    }

    /// The moves whose notation contains `filter`, with their numbers.
    fn list(&self, legal: &[Action], filter: &str) -> String {
        let upper = filter.to_uppercase();
        let texts = self.texts(legal);
        let wanted: Vec<usize> = (0..legal.len())
            .filter(|&at| texts[at].to_uppercase().contains(&upper))
            .collect();
        if wanted.is_empty() {
            return match filter {
                "" => "there is no move: the game is over".to_owned(),
                _ => format!(
                    "no move contains `{filter}`; legal now: {}",
                    input::kinds(&texts)
                ),
            };
        }
        if wanted.len() <= LINES_MAX {
            let line = |&at: &usize| {
                let meaning = words::describe(self.position(), legal[at]);
                format!("{:>4}  {:<14} {meaning}", at + 1, texts[at])
            };
            return wanted.iter().map(line).collect::<Vec<_>>().join("\n");
        }
        let entry = |&at: &usize| format!("{:>4} {:<12}", at + 1, texts[at]);
        let rows = wanted.chunks(LIST_COLUMNS).map(|row| {
            let row: String = row.iter().map(entry).collect();
            row.trim_end().to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// The game as a line of a file of recorded games.
    ///
    /// # Errors
    /// Never for moves that this session has played.
    pub fn record(&self) -> anyhow::Result<String> {
        let id = format!("play-{:016x}", self.position().text_hash());
        let start = &self.positions[0];
        let game = record_game(&id, "play", start, self.options, &self.actions)?;
        Ok(game.to_line() + "\n")
    }

    /// Whether this session saved to or loaded from `path`.
    pub fn owns(&self, path: &Path) -> bool {
        self.file.as_deref() == Some(path)
    }

    /// Notes that the game was saved; says so.
    pub fn saved(&mut self, path: &Path) -> String {
        self.file = Some(path.to_owned());
        format!("saved {} moves to {}", self.actions.len(), path.display())
    }

    /// Goes on with a loaded game.
    ///
    /// # Errors
    /// It is a game of another board or number of players; nothing has changed then.
    pub fn resume(&mut self, game: RecordedMoves, path: &Path) -> anyhow::Result<String> {
        let (here, there) = (self.position().configuration(), game.start.configuration());
        anyhow::ensure!(
            here == there,
            "{} is a game of {there}, this is {here}: start `riftmesh play {there} --load {}`",
            path.display(),
            path.display()
        );
        self.options = game.options;
        self.positions = vec![game.start];
        self.listed = false;
        self.actions.clear();
        for action in game.actions {
            self.play(action);
        }
        self.file = Some(path.to_owned());
        Ok(format!(
            "loaded {} moves from {}",
            self.actions.len(),
            path.display()
        ))
    }
}
