//! `rules verify`: replays recorded games of the reference engine and compares everything they say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use riftmesh_rules::contract::check_contract;
use riftmesh_rules::diagram::{Diagram, differing_cells};
use riftmesh_rules::record::{Mismatch, MismatchStates, VerifiedGame, verify_game};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::output::{Colour, data, ink, json, paint, table};
use crate::cli::records::{is_games, read_lines, unpacked};

/// Lines verified at a time, and so held in memory.
const LINES_AT_ONCE: usize = 256;
/// Mismatches printed in full.
const MISMATCHES_SHOWN: usize = 20;
/// Work that takes less has no progress bar.
const BAR_AFTER: Duration = Duration::from_secs(2);

/// What a verification found.
#[derive(Debug, Default, Serialize)]
struct Verification {
    files: usize,
    games: u64,
    moves: u64,
    decisions: u64,
    /// Single-move cases that hold.
    cases: u64,
    mismatches: u64,
    configurations: BTreeMap<String, Counts>,
    first_mismatches: Vec<String>,
    /// The positions around the first difference within a game.
    first_divergence: Option<Divergence>,
}

/// Counts of one configuration.
#[derive(Debug, Default, Serialize)]
struct Counts {
    games: u64,
    moves: u64,
    decisions: u64,
}

/// Where a game first differs, as canonical texts.
#[derive(Debug, Serialize)]
struct Divergence {
    game: String,
    ply: Option<usize>,
    played: String,
    before: String,
    recorded: Option<String>,
    computed: Option<String>,
}

/// Runs `rules verify`.
pub fn run(files: &[PathBuf], as_json: bool) -> anyhow::Result<Exit> {
    let files = expand(files)?;
    anyhow::ensure!(
        !files.is_empty(),
        "no .jsonl, .jsonl.gz or .json file was found"
    );
    let bar = LateBar::new(&files)?;
    let mut found = Verification {
        files: files.len(),
        ..Verification::default()
    };
    for file in &files {
        let context = || file.display().to_string();
        if is_games(file) {
            verify_games(file, &mut found, &bar).with_context(context)?;
        } else {
            let cases = fs::read_to_string(file).with_context(context)?;
            found.add_cases(file, &cases);
        }
    }
    bar.bar.finish_and_clear();
    if as_json {
        json(&found)?;
    } else {
        print(&found);
    }
    Ok(if found.mismatches == 0 {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// Files as given, directories by what they hold, in a stable order.
fn expand(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            anyhow::ensure!(path.is_file(), "there is no file {}", path.display());
            files.push(path.clone());
            continue;
        }
        let entries =
            fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
        let mut inside = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        inside.sort();
        let nested: Vec<_> = inside
            .into_iter()
            .filter(|path| path.is_dir() || is_games(path) || is_cases(path))
            .collect();
        files.extend(expand(&nested)?);
    }
    Ok(files)
}

fn is_cases(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

/// A bar over the bytes of the files, on stderr, on terminals only, and only once the work takes a while.
struct LateBar {
    bar: ProgressBar,
    start: Instant,
}

impl LateBar {
    fn new(files: &[PathBuf]) -> anyhow::Result<Self> {
        let bytes = files
            .iter()
            .map(|file| fs::metadata(file).map(|data| data.len()))
            .sum::<Result<u64, _>>()?;
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg} {eta}")?;
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
        Ok(Self {
            bar: bar.with_style(style),
            start: Instant::now(),
        })
    }

    fn say(&self, message: String) {
        // Hidden it stays where stderr is no terminal: indicatif looks at that itself.
        if self.bar.is_hidden() && self.start.elapsed() > BAR_AFTER {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_message(message);
    }
}

fn verify_games(path: &Path, found: &mut Verification, bar: &LateBar) -> anyhow::Result<()> {
    let mut reader = unpacked(path, bar.bar.wrap_read(File::open(path)?));
    loop {
        let lines = read_lines(&mut reader, LINES_AT_ONCE)?;
        if lines.is_empty() {
            return Ok(());
        }
        let results: Vec<_> = lines
            .into_par_iter()
            .map(|line| verify_game(&line))
            .collect();
        results
            .into_iter()
            .for_each(|result| found.add(path, result));
        bar.say(format!(
            "{} games, {} mismatches",
            found.games, found.mismatches
        ));
    }
}

impl Verification {
    fn add(&mut self, path: &Path, result: Result<VerifiedGame, Mismatch>) {
        self.games += 1;
        match result {
            Ok(game) => {
                let (moves, decisions) = (game.plies as u64, game.decisions as u64);
                self.moves += moves;
                self.decisions += decisions;
                let counts = self
                    .configurations
                    .entry(game.configuration.to_string())
                    .or_default();
                counts.games += 1;
                counts.moves += moves;
                counts.decisions += decisions;
            }
            Err(mismatch) => {
                self.add_mismatch(path, mismatch.to_string());
                if self.first_divergence.is_none() {
                    self.first_divergence = divergence(mismatch);
                }
            }
        }
    }

    fn add_cases(&mut self, path: &Path, json: &str) {
        match check_contract(json) {
            Ok(cases) => self.cases += cases as u64,
            Err(mismatch) => self.add_mismatch(path, mismatch.to_string()),
        }
    }

    fn add_mismatch(&mut self, path: &Path, text: String) {
        self.mismatches += 1;
        if self.first_mismatches.len() < MISMATCHES_SHOWN {
            self.first_mismatches
                .push(format!("{}: {text}", path.display()));
        }
    }
}

fn divergence(mismatch: Mismatch) -> Option<Divergence> {
    let MismatchStates {
        before,
        played,
        recorded,
        computed,
    } = *mismatch.states?;
    Some(Divergence {
        game: mismatch.id,
        ply: mismatch.ply,
        played,
        before,
        recorded,
        computed,
    })
}

fn print(found: &Verification) {
    table(
        &["CONFIGURATION", "GAMES", "MOVES", "DECISIONS"],
        found.configurations.iter().map(|(name, counts)| {
            vec![
                name.clone(),
                counts.games.to_string(),
                counts.moves.to_string(),
                counts.decisions.to_string(),
            ]
        }),
    );
    if let Some(divergence) = &found.first_divergence {
        divergence.lines().iter().for_each(|line| data(line));
    }
    found
        .first_mismatches
        .iter()
        .for_each(|mismatch| data(&paint(Colour::Red, mismatch)));
    let colour = if found.mismatches == 0 {
        Colour::Green
    } else {
        Colour::Red
    };
    data(&format!(
        "{} files, {} games, {} moves, {} decisions, {} single-move cases, {}",
        found.files,
        found.games,
        found.moves,
        found.decisions,
        found.cases,
        paint(colour, &format!("{} mismatches", found.mismatches))
    ));
}

impl Divergence {
    /// Both sides drawn, with their texts and the cells that differ.
    fn lines(&self) -> Vec<String> {
        let ply = self
            .ply
            .map_or_else(String::new, |ply| format!(", ply {ply}"));
        let mut lines = vec![
            format!(
                "first divergence: game {}{ply}, move {}",
                self.game, self.played
            ),
            String::new(),
        ];
        lines.extend(drawn("before it, where both agree", &self.before));
        match &self.recorded {
            Some(text) => lines.extend(drawn("after it, as recorded", text)),
            None => lines.push("after it, as recorded: only a hash, no position\n".to_owned()),
        }
        match &self.computed {
            Some(text) => lines.extend(drawn("after it, as computed", text)),
            None => {
                lines.push("after it, as computed: none, the move is not legal here\n".to_owned())
            }
        }
        lines.extend(
            self.differing()
                .map(|cells| format!("cells that differ: {cells}\n")),
        );
        lines
    }

    fn differing(&self) -> Option<String> {
        let recorded = Diagram::read(self.recorded.as_ref()?).ok()?;
        let computed = Diagram::read(self.computed.as_ref()?).ok()?;
        let cells = differing_cells(recorded.position(), computed.position());
        let texts: Vec<_> = cells.iter().map(ToString::to_string).collect();
        Some(if texts.is_empty() {
            "none".to_owned()
        } else {
            texts.join(" ")
        })
    }
}

/// A position under a title; a text that cannot be drawn is still shown.
fn drawn(title: &str, text: &str) -> [String; 3] {
    let drawing = match Diagram::read(text) {
        Ok(diagram) => diagram.draw(ink()),
        Err(error) => format!("cannot be drawn: {error}\n"),
    };
    [format!("{title}:"), text.to_owned(), drawing]
}
