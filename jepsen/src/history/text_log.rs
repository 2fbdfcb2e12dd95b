//! The text logs of early Jepsen versions, in which the public etcd and Consul histories are kept.

use super::{Actor, Event, Kind};
use crate::edn::Edn;

/// What a logged compare-and-set that failed saw: another value. These logs know no other reason.
pub const MISMATCH: &str = "mismatch";

/// Reads `INFO  jepsen.util - 3   :ok   :cas   [1 4]`, parted by spaces or tabs; none for any other line.
pub fn event(line: &str, position: usize) -> Option<Event> {
    let (_, mut rest) = line.split_once(" - ")?;
    let mut word = || {
        let trimmed = rest.trim();
        let (word, after) = trimmed
            .split_once(char::is_whitespace)
            .unwrap_or((trimmed, ""));
        rest = after;
        word
    };
    let (process, kind, f) = (word(), word(), word());
    let process = match process {
        ":nemesis" => Actor::Nemesis,
        number => Actor::Client(number.parse().ok()?),
    };
    let kind = Kind::parse(kind.strip_prefix(':')?)?;
    let f = f.strip_prefix(':')?.to_owned();
    let value = match rest.trim() {
        "" => Edn::Nil,
        // Of the nemesis, in prose.
        text if process == Actor::Nemesis => Edn::from(text),
        text => Edn::parse(text).ok()?,
    };
    let error = match (kind, f.as_str(), &value) {
        (Kind::Fail, "cas", Edn::Vector(_)) => Some(MISMATCH.to_owned()),
        (Kind::Fail | Kind::Info, _, Edn::Keyword(why)) => Some(why.clone()),
        _ => None,
    };
    Some(Event {
        index: position,
        time_ns: i64::try_from(position).ok()?,
        actor: process,
        kind,
        f,
        value,
        error,
    })
}
