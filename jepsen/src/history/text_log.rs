//! The text logs of early Jepsen versions, in which the public etcd and Consul histories are kept.

use super::{Actor, Event, Kind};
use crate::edn::Edn;

/// What a logged compare-and-set that failed saw: another value. These logs know no other reason.
pub const MISMATCH: &str = "mismatch";

/// Reads `INFO  jepsen.util - 3<tab>:ok<tab>:cas<tab>[1 4]`; none for any other line.
pub fn event(line: &str, position: usize) -> Option<Event> {
    let (_, fields) = line.split_once(" - ")?;
    let mut fields = fields.split('\t').map(str::trim);
    let process = match fields.next()? {
        ":nemesis" => Actor::Nemesis,
        number => Actor::Client(number.parse().ok()?),
    };
    let kind = Kind::parse(fields.next()?.strip_prefix(':')?)?;
    let f = fields.next()?.strip_prefix(':')?.to_owned();
    let value = match fields.next() {
        // Of the nemesis, in prose.
        Some(text) if process == Actor::Nemesis => Edn::from(text),
        Some(text) => Edn::parse(text).ok()?,
        None => Edn::Nil,
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
