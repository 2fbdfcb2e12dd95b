//! `rules verify`: replays recorded games of the reference engine and compares everything they say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use riftmesh_rules::record::{Mismatch, VerifiedGame, verify_game};
use serde::Serialize;

use super::Exit;
use super::output::{Colour, data, json, paint, table};

/// Lines verified at a time, and so held in memory.
const LINES_AT_ONCE: usize = 256;
/// Longest line; a game of the largest board has a few megabytes.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Mismatches printed in full.
const MISMATCHES_SHOWN: usize = 20;

/// The `rules` family.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Replay recorded games and compare every legal list, position and result
    #[command(after_help = "Example:\n  riftmesh rules verify games/ more.jsonl.gz")]
    Verify {
        /// Recorded games: `.jsonl` or `.jsonl.gz` files, or directories of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a verification found.
#[derive(Debug, Default, Serialize)]
struct Verification {
    files: usize,
    games: u64,
    moves: u64,
    decisions: u64,
    mismatches: u64,
    configurations: BTreeMap<String, Counts>,
    first_mismatches: Vec<String>,
}

/// Counts of one configuration.
#[derive(Debug, Default, Serialize)]
struct Counts {
    games: u64,
    moves: u64,
    decisions: u64,
}

/// Runs a `rules` command.
pub fn run(command: &RulesCommand) -> anyhow::Result<Exit> {
    let RulesCommand::Verify {
        files,
        json: as_json,
    } = command;
    let files = expand(files)?;
    anyhow::ensure!(!files.is_empty(), "no .jsonl or .jsonl.gz file was found");
    let bar = bar(&files)?;
    let mut found = Verification {
        files: files.len(),
        ..Verification::default()
    };
    for file in &files {
        verify_file(file, &mut found, &bar).with_context(|| format!("{}", file.display()))?;
    }
    bar.finish_and_clear();
    if *as_json {
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
            std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
        let mut inside = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        inside.sort();
        let nested: Vec<_> = inside
            .into_iter()
            .filter(|path| path.is_dir() || is_games(path))
            .collect();
        files.extend(expand(&nested)?);
    }
    Ok(files)
}

fn is_games(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")
}

/// A bar over the bytes of the files, on stderr and on terminals only.
fn bar(files: &[PathBuf]) -> anyhow::Result<ProgressBar> {
    let bytes = files
        .iter()
        .map(|file| std::fs::metadata(file).map(|data| data.len()))
        .sum::<Result<u64, _>>()?;
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg} {eta}")?;
    Ok(ProgressBar::new(bytes).with_style(style))
}

fn verify_file(path: &Path, found: &mut Verification, bar: &ProgressBar) -> anyhow::Result<()> {
    let file = bar.wrap_read(File::open(path)?);
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if gzip {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = BufReader::new(reader);
    loop {
        let lines = read_lines(&mut reader)?;
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
        bar.set_message(format!(
            "{} games, {} mismatches",
            found.games, found.mismatches
        ));
    }
}

/// The next lines that are not blank; none at the end.
fn read_lines(reader: &mut impl BufRead) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    while lines.len() < LINES_AT_ONCE {
        let mut line = String::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
        anyhow::ensure!(
            (read as u64) < LINE_BYTES_MAX,
            "a line is longer than {} MiB",
            LINE_BYTES_MAX >> 20
        );
        if read == 0 {
            break;
        }
        if !line.trim().is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
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
                self.mismatches += 1;
                if self.first_mismatches.len() < MISMATCHES_SHOWN {
                    self.first_mismatches
                        .push(format!("{}: {mismatch}", path.display()));
                }
            }
        }
    }
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
        "{} files, {} games, {} moves, {} decisions, {}",
        found.files,
        found.games,
        found.moves,
        found.decisions,
        paint(colour, &format!("{} mismatches", found.mismatches))
    ));
}
