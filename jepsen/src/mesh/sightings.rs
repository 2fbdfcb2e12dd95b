//! What each node saw happen to the others with its own eyes: `mesh events`. `members` on a worker is a voter's answer.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::Value;

use super::machine::Machine;

/// How a node looks to another one since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It joined, came back or answers again.
    Up,
    /// It did not answer somebody.
    Suspect,
    /// It was given up.
    Down,
    /// It said goodbye, or is forgotten.
    Gone,
}

/// A line of `mesh events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// By the clock of the machine that all share, in milliseconds since 1970.
    pub at: u64,
    /// The id of the node that it happened to.
    pub node: String,
    /// How it looks since.
    pub look: Look,
}

/// The clock that [`Sighting::at`] is read from.
#[expect(
    clippy::disallowed_methods,
    reason = "compared with what nodes wrote down by this clock; the harness shares no code with them"
)]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// All that the node of this machine saw, oldest first.
///
/// # Errors
/// It does not answer, or says something unknown.
pub fn of(machine: &Machine) -> anyhow::Result<Vec<Sighting>> {
    let text = machine.say(&["mesh", "events", "--json"])?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let sightings = lines.map(|line| read(line).with_context(|| format!("in `{line}`")));
    sightings.filter_map(Result::transpose).collect()
}

/// How the node with this id looks now to who saw this; none if it was never seen.
pub fn look(sightings: &[Sighting], node: &str) -> Option<Look> {
    let last = sightings.iter().rfind(|sighting| sighting.node == node);
    last.map(|sighting| sighting.look)
}

/// None for a line that changes nothing about how a node looks.
fn read(line: &str) -> anyhow::Result<Option<Sighting>> {
    let line: Value = serde_json::from_str(line)?;
    let Some(seen) = line.get("seen") else {
        return Ok(None);
    };
    let what = &seen["what"];
    // Those with particulars are objects of one field.
    let fields = what.as_object();
    let name = what.as_str().or_else(|| Some(fields?.keys().next()?));
    let look = match name.context("nothing happened")? {
        "joined" | "returned" | "recovered" => Look::Up,
        "suspected" => Look::Suspect,
        "died" => Look::Down,
        "left" | "forgotten" => Look::Gone,
        "moved" => return Ok(None),
        other => bail!("`{other}` is unknown"),
    };
    Ok(Some(Sighting {
        at: seen["at"].as_u64().context("no time")?,
        node: seen["node"].as_str().context("no node")?.to_owned(),
        look,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the product writes them; the last one that says something about a node counts.
    #[test]
    fn lines_are_read() {
        let line = |at: u64, what: &str| {
            format!(
                r#"{{"seen":{{"at":{at},"node":"0a","name":"a","generation":5,"what":{what}}}}}"#
            )
        };
        let story = [
            line(1, r#"{"joined":{"address":"10.0.0.1:7700"}}"#),
            line(2, r#""suspected""#),
            line(3, r#""died""#),
            r#""gap""#.to_owned(),
            line(
                4,
                r#"{"moved":{"from":"10.0.0.1:7700","to":"10.0.0.2:7700"}}"#,
            ),
        ];
        let sightings: Vec<_> = story
            .iter()
            .filter_map(|line| read(line).unwrap())
            .collect();
        assert_eq!(sightings.len(), 3);
        assert_eq!((sightings[2].at, sightings[2].look), (3, Look::Down));
        assert_eq!(look(&sightings, "0a"), Some(Look::Down));
        assert_eq!(look(&sightings, "0b"), None);
        assert!(read(&line(5, r#""danced""#)).is_err());
    }
}
