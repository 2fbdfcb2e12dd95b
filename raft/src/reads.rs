//! Linearizable reads: one round of leadership confirmation shared by all reads that wait for it.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::types::Core;
use crate::wire::ReadRefusal;

/// Reads waiting for a round at most.
const WAITING_MAX: usize = 4_096;
/// A round that takes longer has failed.
const ROUND_MAX: Duration = Duration::from_secs(5);

type Answer = Result<u64, ReadRefusal>;

/// Asks for read indexes; clones share the rounds.
#[derive(Clone)]
pub(crate) struct ReadRounds(mpsc::Sender<oneshot::Sender<Answer>>);

/// The queue of reads is full, or the node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRound {
    Full,
    Stopped,
}

impl ReadRounds {
    /// Starts the task that runs the rounds. It ends when all fronts are dropped.
    pub fn start(core: Core) -> Self {
        let (waiting, mut reads) = mpsc::channel::<oneshot::Sender<Answer>>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(first) = reads.recv().await {
                // Who comes after this line needs a later round: its read began later.
                let mut sharing = vec![first];
                while let Ok(next) = reads.try_recv() {
                    sharing.push(next);
                }
                let answer = round(&core).await;
                for read in sharing {
                    // Fails when the reader has gone.
                    drop(read.send(answer.clone()));
                }
            }
        });
        Self(waiting)
    }

    /// The index that the state must have reached to answer a read that begins now. Only the leader gives one.
    pub async fn index(&self) -> Result<Answer, NoRound> {
        let (read, answer) = oneshot::channel();
        self.0.try_send(read).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NoRound::Full,
            mpsc::error::TrySendError::Closed(_) => NoRound::Stopped,
        })?;
        answer.await.map_err(|_| NoRound::Stopped)
    }
}

async fn round(core: &Core) -> Answer {
    let confirm = core.get_read_log_id(ReadPolicy::ReadIndex);
    let Ok(confirmed) = tokio::time::timeout(ROUND_MAX, confirm).await else {
        return Err(ReadRefusal::NoQuorum("the round took too long".to_owned()));
    };
    confirmed
        .map(|(read, _)| read.index())
        .map_err(|error| match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => {
                ReadRefusal::NotLeader
            }
            other => ReadRefusal::NoQuorum(other.to_string()),
        })
}
