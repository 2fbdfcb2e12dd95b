//! What happens to the state, for those who want to know: ordered by log index, bounded, with gaps made visible.

use std::sync::Arc;

use riftmesh_base::LogIndex;
use riftmesh_statemachine::Effect;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes a slow watcher may be behind before it loses some.
const CHANGES_KEPT: usize = 1_024;

/// One thing a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entry at `index` was applied and this happened. Entries without effects are not reported.
    Applied {
        /// The entry.
        index: LogIndex,
        /// What happened, in order.
        effects: Arc<[Effect]>,
    },
    /// Changes were lost, because the watcher was slow or a snapshot was installed: read the state afresh.
    Gap,
}

/// A watcher's end. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch(broadcast::Receiver<Change>);

impl Watch {
    /// Waits for the next change; `None` once the node has stopped.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => Some(Change::Gap),
            Err(RecvError::Closed) => None,
        }
    }
}

/// The state machine's end.
#[derive(Debug)]
pub(crate) struct Feed(broadcast::Sender<Change>);

impl Feed {
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CHANGES_KEPT))
    }

    pub fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }

    pub fn applied(&self, index: LogIndex, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        self.tell(Change::Applied {
            index,
            effects: effects.into(),
        });
    }

    pub fn gap(&self) {
        self.tell(Change::Gap);
    }

    fn tell(&self, change: Change) {
        // Fails when nobody watches.
        drop(self.0.send(change));
    }
}
