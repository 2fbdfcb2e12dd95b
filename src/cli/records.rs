//! Files of recorded games: `.jsonl`, gzipped or not, one game a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use riftmesh_rules::record::{RecordedGame, parse_game};

/// Longest line; a game of the largest board has a few megabytes.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Whether the name is that of a file of recorded games.
pub fn is_games(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")
}

/// The text of `file`, unpacked if the name of `path` says so.
pub fn unpacked(path: &Path, file: impl Read + 'static) -> Box<dyn BufRead> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    }
}

/// The next lines that are not blank, at most `count`; none at the end.
///
/// # Errors
/// The file cannot be read, is no text, or has a line longer than any game.
pub fn read_lines(reader: &mut impl BufRead, count: usize) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    while lines.len() < count {
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

/// The game called `wanted` in the file, by its number from 1 or by its name.
///
/// # Errors
/// The file cannot be read, or has no such game.
pub fn read_game(path: &Path, wanted: &str) -> anyhow::Result<RecordedGame> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = unpacked(path, file);
    let number: Option<usize> = wanted.parse().ok();
    let mut seen = 0;
    loop {
        let lines = read_lines(&mut reader, 1).with_context(|| path.display().to_string())?;
        let Some(line) = lines.first() else {
            anyhow::bail!(
                "{} has {seen} games and none called `{wanted}`",
                path.display()
            );
        };
        seen += 1;
        if number.is_some_and(|number| number != seen) {
            continue;
        }
        let game = parse_game(line).with_context(|| format!("{}, game {seen}", path.display()))?;
        if number.is_some() || game.id == wanted {
            return Ok(game);
        }
    }
}
