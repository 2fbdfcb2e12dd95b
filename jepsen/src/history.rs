//! What happened, in order: operations of clients and faults, one EDN map per line.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::edn::Edn;

mod text_log;

pub use text_log::MISMATCH;

/// What an event says about its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It took effect between its invocation and now.
    Ok,
    /// It surely did not take effect and never will.
    Fail,
    /// Nobody knows: it may have taken effect, or still do so at any later time.
    Info,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Invoke, Self::Ok, Self::Fail, Self::Info]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// A client with at most one operation under way. After an unknown outcome it goes on under a new number.
    Client(i64),
    /// The one that breaks things.
    Nemesis,
}

impl Actor {
    fn to_edn(self) -> Edn {
        match self {
            Self::Client(number) => Edn::Int(number),
            Self::Nemesis => Edn::keyword("nemesis"),
        }
    }

    fn from_edn(value: &Edn) -> Option<Self> {
        match value {
            Edn::Int(number) => Some(Self::Client(*number)),
            Edn::Keyword(name) if name == "nemesis" => Some(Self::Nemesis),
            _ => None,
        }
    }
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position in the history, from 0.
    pub index: usize,
    /// Nanoseconds since the run began.
    pub time_ns: i64,
    /// Who.
    pub actor: Actor,
    /// Beginning or outcome.
    pub kind: Kind,
    /// The operation's name.
    pub f: String,
    /// Its argument, or its result.
    pub value: Edn,
    /// Why it failed or is unknown.
    pub error: Option<String>,
}

impl Event {
    fn to_edn(&self) -> Edn {
        let mut map = vec![
            (
                "index",
                Edn::Int(i64::try_from(self.index).unwrap_or(i64::MAX)),
            ),
            ("time", Edn::Int(self.time_ns)),
            ("process", self.actor.to_edn()),
            ("type", Edn::keyword(self.kind.name())),
            ("f", Edn::keyword(&self.f)),
            ("value", self.value.clone()),
        ];
        if let Some(error) = &self.error {
            map.push(("error", Edn::from(error.as_str())));
        }
        Edn::Map(map.into_iter().map(|(k, v)| (Edn::keyword(k), v)).collect())
    }

    /// Reads one line's map. Other tools leave out the index, the time and values that are nil: `position` in the
    /// history stands for the first two, since all that a checker needs of them is the order.
    fn from_edn(value: &Edn, position: usize) -> Option<Self> {
        let at = i64::try_from(position).ok()?;
        let index = value.get("index").map_or(Some(at), Edn::int)?;
        Some(Self {
            index: usize::try_from(index).ok()?,
            time_ns: value.get("time").map_or(Some(at), Edn::int)?,
            actor: Actor::from_edn(value.get("process")?)?,
            kind: Kind::parse(value.get("type")?.text()?)?,
            f: value.get("f")?.text()?.to_owned(),
            value: value.get("value").cloned().unwrap_or(Edn::Nil),
            error: value.get("error").map(|error| match error.text() {
                Some(text) => text.to_owned(),
                None => error.to_string(),
            }),
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_edn().fmt(f)
    }
}

/// A finished history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order they happened.
    pub events: Vec<Event>,
}

impl History {
    /// Reads what a [`Recorder`] wrote, the EDN histories of other tools, and the text logs of early Jepsen versions
    /// (`INFO  jepsen.util - 3 :invoke :write 4`).
    ///
    /// # Errors
    /// Names the line that is not an event.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut events = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let position = events.len();
            let event = if line.trim_start().starts_with('{') {
                let value = Edn::parse(line)
                    .map_err(|error| anyhow::anyhow!("line {}: {error}", number + 1))?;
                Event::from_edn(&value, position)
            } else {
                text_log::event(line, position)
            };
            events.push(event.ok_or_else(|| {
                anyhow::anyhow!("line {}: not an event of a history", number + 1)
            })?);
        }
        Ok(Self { events })
    }

    /// Every operation with its outcome, in the order of the invocations.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations: Vec<Operation<'_>> = Vec::new();
        for event in &self.events {
            if event.kind == Kind::Invoke {
                operations.push(Operation {
                    invoke: event,
                    outcome: None,
                });
                continue;
            }
            let open = operations
                .iter_mut()
                .rev()
                .find(|op| op.invoke.actor == event.actor && op.invoke.f == event.f);
            if let Some(operation) = open.filter(|op| op.outcome.is_none()) {
                operation.outcome = Some(event);
            }
        }
        operations
    }
}

/// An invocation and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// Its beginning.
    pub invoke: &'a Event,
    /// Its end; none when the run ended first.
    pub outcome: Option<&'a Event>,
}

impl<'a> Operation<'a> {
    /// What is known of it. No outcome is an unknown one.
    pub fn kind(&self) -> Kind {
        self.outcome.map_or(Kind::Info, |event| event.kind)
    }

    /// The result, if it surely took effect.
    pub fn ok_value(&self) -> Option<&'a Edn> {
        self.outcome
            .filter(|event| event.kind == Kind::Ok)
            .map(|event| &event.value)
    }
}

struct Log {
    file: Box<dyn Write + Send>,
    history: History,
}

/// Takes events from all threads of a run and writes each down before anything else happens.
pub struct Recorder {
    started: Instant,
    log: Mutex<Log>,
}

impl Recorder {
    /// Writes to `file`; time counts from now.
    pub fn new(file: Box<dyn Write + Send>) -> Self {
        let history = History::default();
        Self {
            started: Instant::now(),
            log: Mutex::new(Log { file, history }),
        }
    }

    /// Writes one event.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(
        &self,
        actor: Actor,
        kind: Kind,
        f: &str,
        value: Edn,
        error: Option<String>,
    ) -> std::io::Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that times rise with the index.
        let elapsed = self.started.elapsed().as_nanos();
        let event = Event {
            index: log.history.events.len(),
            time_ns: i64::try_from(elapsed).unwrap_or(i64::MAX),
            actor,
            kind,
            f: f.to_owned(),
            value,
            error,
        };
        writeln!(log.file, "{event}")?;
        log.file.flush()?;
        log.history.events.push(event);
        Ok(())
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .history
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file read back gives the same history, and operations find their outcomes through other clients' events.
    #[test]
    fn histories_round_trip() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let recorder = Recorder::new(Box::new(path.reopen().unwrap()));
        let record = |actor, kind, value: i64| {
            recorder
                .record(actor, kind, "write", Edn::Int(value), None)
                .unwrap()
        };
        record(Actor::Client(0), Kind::Invoke, 1);
        record(Actor::Client(1), Kind::Invoke, 2);
        record(Actor::Nemesis, Kind::Info, 9);
        record(Actor::Client(0), Kind::Ok, 1);
        recorder
            .record(
                Actor::Client(1),
                Kind::Info,
                "write",
                Edn::Nil,
                Some("timed \"out\"\n".to_owned()),
            )
            .unwrap();
        let history = History::parse(&std::fs::read_to_string(path.path()).unwrap()).unwrap();
        assert_eq!(history, recorder.history());
        let kinds: Vec<_> = history.operations().iter().map(Operation::kind).collect();
        assert_eq!(kinds, [Kind::Ok, Kind::Info]);
    }

    /// The text logs of early versions, parted by tabs or by spaces: both are among the public histories.
    #[test]
    fn text_logs_are_read() {
        let tabs = "INFO  jepsen.util - 1\t:fail\t:cas\t[1 2]";
        let spaces = "INFO  jepsen.util - 1   :fail :cas    [1 2]";
        let history = History::parse(tabs).unwrap();
        assert_eq!(history, History::parse(spaces).unwrap());
        let event = &history.events[0];
        assert_eq!(
            (event.kind, event.error.as_deref()),
            (Kind::Fail, Some(MISMATCH))
        );
        assert_eq!(event.value.to_string(), "[1 2]");
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = History::parse("{:index 0}").unwrap_err();
        assert_eq!(error.to_string(), "line 1: not an event of a history");
    }
}
