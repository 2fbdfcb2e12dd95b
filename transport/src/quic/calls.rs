//! The calling side of a stream that carries many calls: a stream for each costs both sides several times as much.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream};
use riftmesh_base::limits::MESSAGE_BYTES_MAX;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, FrameError, Kind, Outcome};
use super::pieces::{self, Message, Piece, Pieces};
use crate::link::Lane;

/// Calls that wait to be written; more wait for a place.
const QUEUE_MAX: usize = 1_024;

/// How a call ended.
type Answer = Result<(Outcome, Bytes), FrameError>;

/// The calls on one stream of a connection.
pub(super) struct Calls {
    queue: mpsc::Sender<Message>,
    table: Arc<Mutex<Table>>,
}

/// Who waits for what.
#[derive(Default)]
struct Table {
    last: u32,
    waiting: HashMap<u32, Waiting>,
    /// The stream carries nothing any more.
    lost: bool,
}

struct Waiting {
    caller: oneshot::Sender<Answer>,
    so_far: BytesMut,
}

/// The stream was lost before the call was put on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotSent;

impl Calls {
    /// A fresh stream on `connection`; what it needs to run runs on `runtime`.
    pub(super) async fn open(
        connection: &Connection,
        runtime: &Handle,
    ) -> Result<Self, ConnectionError> {
        let (mut send, recv) = connection.open_bi().await?;
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let table = Arc::<Mutex<Table>>::default();
        let listener = Listener(Arc::clone(&table));
        runtime.spawn(async move {
            let written = async {
                frame::write_opening(&mut send, Kind::Calls).await?;
                pieces::write_all(send, messages).await
            };
            if let Err(error) = written.await {
                tracing::debug!(%error, "a stream of calls cannot be written");
            }
        });
        runtime.spawn(listener.listen(recv));
        Ok(Self { queue, table })
    }

    /// Whether it carries nothing any more.
    pub(super) fn is_lost(&self) -> bool {
        self.queue.is_closed() || lock(&self.table).lost
    }

    /// Calls whose answers are waited for.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.table).waiting.len()
    }

    /// Puts a call on the stream. Its answer may be waited for, or not.
    pub(super) async fn ask(&self, lane: Lane, body: Bytes) -> Result<Asked, NotSent> {
        let place = self.queue.reserve().await.map_err(|_| NotSent)?;
        let (caller, answer) = oneshot::channel();
        let number = lock(&self.table).enter(caller)?;
        let tag = Kind::Call(lane).byte();
        place.send(Message { tag, number, body });
        let table = Arc::clone(&self.table);
        Ok(Asked {
            number,
            answer,
            table,
        })
    }
}

impl Table {
    fn enter(&mut self, caller: oneshot::Sender<Answer>) -> Result<u32, NotSent> {
        if self.lost {
            return Err(NotSent);
        }
        self.last = self.last.wrapping_add(1);
        let so_far = BytesMut::new();
        // A call that was still waiting after four billion others ends here, without an answer.
        self.waiting.insert(self.last, Waiting { caller, so_far });
        Ok(self.last)
    }

    /// Takes a piece of a reply. That of a call that nobody waits for any more is dropped.
    fn take(&mut self, piece: Piece) -> Result<(), FrameError> {
        let outcome = Outcome::of(piece.tag)?;
        let Some(waiting) = self.waiting.get_mut(&piece.number) else {
            return Ok(());
        };
        let bytes = waiting.so_far.len() + piece.body.len();
        let answer = if bytes > MESSAGE_BYTES_MAX {
            Err(FrameError::TooLarge(bytes as u64))
        } else if piece.is_last && waiting.so_far.is_empty() {
            Ok((outcome, piece.body))
        } else {
            waiting.so_far.extend_from_slice(&piece.body);
            if !piece.is_last {
                return Ok(());
            }
            Ok((outcome, std::mem::take(&mut waiting.so_far).freeze()))
        };
        if let Some(waiting) = self.waiting.remove(&piece.number) {
            // The caller may have just given up.
            waiting.caller.send(answer).ok();
        }
        Ok(())
    }
}

/// A call that is on its way. Dropped, it is forgotten; the peer may carry it out all the same.
pub(super) struct Asked {
    number: u32,
    answer: oneshot::Receiver<Answer>,
    table: Arc<Mutex<Table>>,
}

impl Asked {
    /// The answer.
    ///
    /// # Errors
    /// The stream was lost, or the answer is over the bound. The call may have been carried out.
    pub(super) async fn answer(&mut self) -> Answer {
        let lost = |_| FrameError::Lost("the connection was lost".to_owned());
        (&mut self.answer).await.map_err(lost)?
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        lock(&self.table).waiting.remove(&self.number);
    }
}

/// Hands answers to those who wait for them. When it is gone, whyever, nobody waits.
struct Listener(Arc<Mutex<Table>>);

impl Listener {
    async fn listen(self, recv: RecvStream) {
        let mut pieces = Pieces::new(recv);
        let error = loop {
            match pieces.next().await {
                Ok(Some(piece)) => {
                    if let Err(error) = lock(&self.0).take(piece) {
                        break error;
                    }
                }
                Ok(None) => break FrameError::Lost("the peer ended the stream".to_owned()),
                Err(error) => break error,
            }
        };
        let reason = error.to_string();
        let mut table = lock(&self.0);
        table.lost = true;
        for (_, waiting) in table.waiting.drain() {
            let answer = Err(FrameError::Lost(reason.clone()));
            waiting.caller.send(answer).ok();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut table = lock(&self.0);
        table.lost = true;
        table.waiting.clear();
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
