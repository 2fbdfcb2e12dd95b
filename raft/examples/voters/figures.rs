//! Prints figures, one JSON object a line.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// Where figures go, with what is said about all of them.
pub struct Figures {
    note: Option<String>,
}

impl Figures {
    pub fn new(note: Option<String>) -> Self {
        Self { note }
    }

    /// Prints a figure with its values.
    pub fn say<const N: usize>(&self, figure: &str, values: [(&str, Value); N]) -> io::Result<()> {
        let mut line = Map::new();
        line.insert("figure".into(), figure.into());
        for (name, value) in values {
            line.insert(name.into(), value);
        }
        if let Some(note) = &self.note {
            line.insert("note".into(), note.as_str().into());
        }
        let mut out = io::stdout();
        writeln!(out, "{}", Value::from(line))?;
        out.flush()
    }
}

/// Three digits after the point are more than any figure here means.
pub fn number(value: f64) -> Value {
    ((value * 1e3).round() / 1e3).into()
}
