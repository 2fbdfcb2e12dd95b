//! What happens to the state, for those who want to know: ordered by log index, bounded, with gaps made visible. A watch
//! that ended can be taken up again, on any voter, after the last entry that it told of.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riftmesh_base::LogIndex;
use riftmesh_statemachine::Effect;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes a slow watcher may be behind before it loses some, and that are kept for those who come back.
const CHANGES_KEPT: usize = 1_024;
/// Effects of the changes that are kept: an entry may have hundreds.
const EFFECTS_KEPT: usize = 32_768;

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
    /// Changes were lost, because the watcher was slow or away for too long, or a snapshot was installed: read the state
    /// afresh.
    Gap,
}

/// A watcher's end. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    /// What happened before it began, and was asked for.
    early: VecDeque<Change>,
    /// Nothing up to this entry is told: the watcher knows it from a voter that was ahead of this one.
    after: LogIndex,
    live: broadcast::Receiver<Change>,
}

impl Watch {
    /// Waits for the next change; `None` once the node has stopped.
    pub async fn next(&mut self) -> Option<Change> {
        if let Some(change) = self.early.pop_front() {
            return Some(change);
        }
        loop {
            match self.live.recv().await {
                Ok(Change::Applied { index, .. }) if index <= self.after => {}
                Ok(change) => return Some(change),
                Err(RecvError::Lagged(_)) => return Some(Change::Gap),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The state machine's end.
#[derive(Debug)]
pub(crate) struct Feed {
    live: broadcast::Sender<Change>,
    kept: Mutex<Kept>,
}

/// The last changes, oldest first.
#[derive(Debug)]
struct Kept {
    changes: VecDeque<(LogIndex, Arc<[Effect]>)>,
    /// How many effects they have together.
    effects: usize,
    /// All changes after this entry are among them.
    since: LogIndex,
}

impl Kept {
    fn starting(since: LogIndex) -> Self {
        Self {
            changes: VecDeque::new(),
            effects: 0,
            since,
        }
    }

    fn push(&mut self, index: LogIndex, effects: Arc<[Effect]>) {
        self.effects += effects.len();
        self.changes.push_back((index, effects));
        while self.changes.len() > CHANGES_KEPT || self.effects > EFFECTS_KEPT {
            let Some((oldest, effects)) = self.changes.pop_front() else {
                return;
            };
            self.effects -= effects.len();
            self.since = oldest;
        }
    }
}

impl Feed {
    /// A feed of a state that stands at `index`.
    pub fn new(index: LogIndex) -> Self {
        Self {
            live: broadcast::Sender::new(CHANGES_KEPT),
            kept: Mutex::new(Kept::starting(index)),
        }
    }

    /// What happens from now on; with `after`, also what happened after that entry, behind a gap if some of it is not kept
    /// any more.
    pub fn watch(&self, after: Option<LogIndex>) -> Watch {
        // Held while both ends are made, so that no change falls between them.
        let kept = self.kept();
        let mut early = VecDeque::new();
        if let Some(after) = after {
            early.extend((after < kept.since).then_some(Change::Gap));
            let missed = kept.changes.iter().filter(|(index, _)| *index > after);
            early.extend(missed.map(|(index, effects)| Change::Applied {
                index: *index,
                effects: Arc::clone(effects),
            }));
        }
        Watch {
            early,
            after: after.unwrap_or_default(),
            live: self.live.subscribe(),
        }
    }

    pub fn applied(&self, index: LogIndex, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let effects: Arc<[Effect]> = effects.into();
        let mut kept = self.kept();
        kept.push(index, Arc::clone(&effects));
        self.tell(Change::Applied { index, effects });
    }

    /// A snapshot that stands at `index` took the place of the state.
    pub fn gap(&self, index: LogIndex) {
        let mut kept = self.kept();
        *kept = Kept::starting(index);
        self.tell(Change::Gap);
    }

    fn tell(&self, change: Change) {
        // Fails when nobody watches.
        drop(self.live.send(change));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use riftmesh_base::JobId;

    use super::*;

    fn happen(feed: &Feed, index: u64) {
        let job = JobId(index);
        feed.applied(LogIndex(index), vec![Effect::JobReady { job }]);
    }

    /// The indexes of the next `count` changes, 0 for a gap.
    async fn told(watch: &mut Watch, count: usize) -> Vec<u64> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(match watch.next().await.unwrap() {
                Change::Applied { index, .. } => index.0,
                Change::Gap => 0,
            });
        }
        told
    }

    /// A watch that is taken up again goes on after the entry it names, whether this voter is ahead of the one that it was
    /// told by or behind it; nothing comes twice.
    #[tokio::test]
    async fn a_watch_is_taken_up_again() {
        let feed = Feed::new(LogIndex(10));
        for index in [11, 13, 14] {
            happen(&feed, index);
        }
        let mut behind = feed.watch(Some(LogIndex(11)));
        let mut ahead = feed.watch(Some(LogIndex(15)));
        let mut new = feed.watch(None);
        for index in [15, 18] {
            happen(&feed, index);
        }
        assert_eq!(told(&mut behind, 4).await, [13, 14, 15, 18]);
        assert_eq!(told(&mut ahead, 1).await, [18]);
        assert_eq!(told(&mut new, 2).await, [15, 18]);
    }

    /// What is not kept any more is a gap, and what is kept follows: after a restart, an installed snapshot, or too long an
    /// absence.
    #[tokio::test]
    async fn what_is_not_kept_is_a_gap() {
        let feed = Feed::new(LogIndex(10));
        happen(&feed, 12);
        assert_eq!(told(&mut feed.watch(Some(LogIndex(9))), 2).await, [0, 12]);
        assert_eq!(told(&mut feed.watch(Some(LogIndex(10))), 1).await, [12]);
        feed.gap(LogIndex(40));
        happen(&feed, 41);
        assert_eq!(told(&mut feed.watch(Some(LogIndex(12))), 2).await, [0, 41]);
        for index in 42..=41 + CHANGES_KEPT as u64 {
            happen(&feed, index);
        }
        assert_eq!(told(&mut feed.watch(Some(LogIndex(40))), 2).await, [0, 42]);
        assert_eq!(told(&mut feed.watch(Some(LogIndex(41))), 1).await, [42]);
    }
}
