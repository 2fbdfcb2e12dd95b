//! Printing: data to stdout, talk to stderr, colour only where a person looks.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use riftmesh_rules::diagram::Ink;
use serde::Serialize;

use crate::answers::Envelope;

/// Writes a line of data. A reader that went away ends the output, not the program.
pub fn data(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::debug!(%error, "stdout");
    }
}

/// Writes a line of talk.
pub fn talk(line: &str) {
    if let Err(error) = writeln!(std::io::stderr(), "{line}") {
        tracing::debug!(%error, "stderr");
    }
}

/// Prints an answer as JSON, with its envelope.
///
/// # Errors
/// Never for the types used here.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    data(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// The line below every human answer: who said it and how fresh it is.
pub fn freshness<T>(envelope: &Envelope<T>) {
    let or = |value: Option<u64>, unit: &str| {
        value.map_or_else(|| "unknown".to_owned(), |v| format!("{v}{unit}"))
    };
    let line = format!(
        "{} answer of {} ({}), applied index {}, term {}, leader contact {}",
        envelope.mode,
        envelope.name,
        envelope.node,
        or(envelope.applied_index, ""),
        or(envelope.term, ""),
        or(envelope.leader_contact_ms, " ms ago"),
    );
    data(&paint(Colour::Dim, &line));
}

/// The few colours in use.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    /// Good.
    Green,
    /// Worth a look.
    Yellow,
    /// Bad.
    Red,
    /// Not important.
    Dim,
    /// Important.
    Bold,
}

/// Whether stdout takes colours: it is a terminal and `NO_COLOR` is not set.
pub fn ink() -> Ink {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Ink::Ansi
    } else {
        Ink::Plain
    }
}

/// Writes the beginning of a line that the user is to finish.
pub fn prompt(text: &str) {
    let mut out = std::io::stdout();
    if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "stdout");
    }
}

/// Empties the terminal, so that what follows stands at its top.
pub fn clear_screen() {
    prompt("\x1b[H\x1b[2J");
}

/// Colours `text` when stdout is a terminal and `NO_COLOR` is not set.
pub fn paint(colour: Colour, text: &str) -> String {
    if ink() == Ink::Plain {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
        Colour::Dim => 2,
        Colour::Bold => 1,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Prints a table.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    for line in table_lines(header, rows) {
        data(&line);
    }
}

/// A table without rules, columns parted by two spaces.
pub fn table_lines(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines();
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// Milliseconds as an age for people.
pub fn age(ms: Option<u64>) -> String {
    ms.map_or_else(
        || "-".to_owned(),
        |ms| format!("{} ago", riftmesh_base::Millis(ms)),
    )
}
