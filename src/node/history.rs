//! Answers about jobs that are over.

use std::sync::Arc;

use riftmesh_base::BlobHash;
use riftmesh_raft::RaftNode;

use super::answer::Answers;
use super::http::AnswerError;
use crate::history::{HistoryAnswer, HistoryLook, HistoryQuery};

impl Answers {
    /// Jobs that are over, from this node's state and its part of the archive.
    pub(super) async fn history(&self, query: HistoryQuery) -> Result<HistoryAnswer, AnswerError> {
        let look = self
            .raft
            .read(|_, state| HistoryLook::through_state(&query, state))
            .map_err(AnswerError::Invalid)?;
        let (blobs, raft) = (Arc::clone(&self.blobs), self.raft.clone());
        let looked = tokio::task::spawn_blocking(move || {
            look.through_archive(|hash| {
                // A batch that has just been closed may be in the state alone.
                blobs
                    .read_whole(hash)
                    .or_else(|problem| in_outbox(&raft, hash).ok_or(problem))
            })
        });
        let looked = looked.await;
        looked
            .map_err(|error| AnswerError::Unavailable(error.to_string()))?
            .map_err(AnswerError::Invalid)
    }
}

fn in_outbox(raft: &RaftNode, hash: &BlobHash) -> Option<Vec<u8>> {
    raft.read(|_, state| {
        let mut outbox = state.archive_outbox();
        let found = outbox.find(|(link, ..)| link.hash == *hash);
        found.map(|(_, bytes, _)| bytes.to_vec())
    })
}
