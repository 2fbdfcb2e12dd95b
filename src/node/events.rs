//! What happens to a voter's state, told line by line to whoever watches.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};
use riftmesh_base::LogIndex;
use riftmesh_raft::{Change, RaftNode};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::http::AnswerError;
use crate::answers::EventLine;

/// Watchers of one node at a time.
const WATCHERS_MAX: usize = 64;

/// Lines of JSON, each with its line end.
pub type Lines = BoxStream<'static, Result<Bytes, Infallible>>;

/// Lets people watch, as many at a time as are allowed.
#[derive(Clone)]
pub struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS_MAX)))
    }
}

impl Watchers {
    /// Everything that happens to this voter's state from now on, or after the entry `after`, until the node stops.
    ///
    /// # Errors
    /// [`AnswerError::Unavailable`] when too many are watching.
    pub fn watch(&self, raft: &RaftNode, after: Option<LogIndex>) -> Result<Lines, AnswerError> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        let place = place.map_err(|_| {
            AnswerError::Unavailable(format!("{WATCHERS_MAX} others are watching this node"))
        })?;
        let watching = (raft.subscribe(after), place);
        let changes = stream::unfold(watching, |(mut watch, place)| async move {
            Some((watch.next().await?, (watch, place)))
        });
        Ok(lines(changes).boxed())
    }
}

fn lines(
    changes: impl Stream<Item = Change> + Send,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    changes.filter_map(|change| async move {
        let line = match change {
            Change::Applied { index, effects } => EventLine::Applied {
                index,
                effects: effects.to_vec(),
            },
            Change::Gap => EventLine::Gap,
        };
        as_line(&line)
    })
}

/// A value as a line of JSON.
pub fn as_line<T: Serialize>(value: &T) -> Option<Result<Bytes, Infallible>> {
    match serde_json::to_string(value) {
        Ok(line) => Some(Ok(Bytes::from(line + "\n"))),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use riftmesh_base::JobId;
    use riftmesh_statemachine::Effect;

    use super::*;

    /// Each change is one line that reads back as what happened.
    #[tokio::test]
    async fn a_change_is_a_line() {
        let effect = Effect::JobReady { job: JobId(3) };
        let changes = [
            Change::Applied {
                index: LogIndex(7),
                effects: vec![effect.clone()].into(),
            },
            Change::Gap,
        ];
        let told: Vec<_> = lines(stream::iter(changes)).collect().await;
        let told: Vec<EventLine> = told
            .into_iter()
            .map(|Ok(line)| {
                assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                serde_json::from_slice(&line).unwrap()
            })
            .collect();
        let first = EventLine::Applied {
            index: LogIndex(7),
            effects: vec![effect],
        };
        assert_eq!(told, [first, EventLine::Gap]);
    }
}
