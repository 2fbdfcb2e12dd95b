//! Levels: which behaviour the cluster has agreed on.
//!
//! Old entries replay the same for ever, so an entry that exists can never come to mean something else. What a build
//! would do differently it does from the entry on that raises the level, and that entry is accepted once every voter has
//! said that its build knows the level.
//!
//! | Level | What is different from the one before |
//! |---|---|
//! | 1 | The beginning. |
//! | 2 | A cancelled job whose holder does not answer within `CANCEL_GRACE` is over, and the holder fenced. |
//! | 3 | Jobs may name checkpoints and give way ([`Body::Hold`]). Workers hear of it too: upgrade them first. Jobs that leave
//! |   | the ring of finished ones go to the archive. |

use riftmesh_base::NodeId;
use serde::{Deserialize, Serialize};

use crate::command::{Batch, BatchError, Body};
use crate::effect::Effect;
use crate::job::JobState;
use crate::reply::{Refusal, Reply};
use crate::roster::Role;
use crate::state::{State, Turn};

/// The highest level that this build knows.
pub const LEVEL: u32 = 3;

/// From this level on cancellations have an end.
const CANCEL_GRACE_SINCE: u32 = 2;
/// From this level on jobs may stop and go on elsewhere.
pub const HOLDS_SINCE: u32 = 3;
/// From this level on jobs that leave the ring go to the archive.
const ARCHIVE_SINCE: u32 = 3;

/// The level from which on a command may be proposed. Builds that do not know that level may not know the command either,
/// and would stop before its entry; so a proposer asks before, and the state machine refuses what came too early.
pub fn needed_by(body: &Body) -> u32 {
    match body {
        Body::Hold(_) => HOLDS_SINCE,
        _ => 1,
    }
}

/// The level a cluster is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Level(pub u32);

impl Default for Level {
    fn default() -> Self {
        Self(1)
    }
}

impl State {
    /// The level the cluster is at.
    pub fn level(&self) -> u32 {
        self.level.0
    }

    /// Whether the cluster's level allows a command.
    ///
    /// # Errors
    /// [`Refusal::Conflict`], until the level has been raised.
    pub fn check_level(&self, body: &Body) -> Result<(), Refusal> {
        let (now, needed) = (self.level.0, needed_by(body));
        if now >= needed {
            return Ok(());
        }
        Err(Refusal::Conflict(format!(
            "the cluster is at level {now} and this needs level {needed}: raise it with `cluster upgrade` when every node runs this build"
        )))
    }

    pub(crate) fn has_cancel_grace(&self) -> bool {
        self.level.0 >= CANCEL_GRACE_SINCE
    }

    pub(crate) fn has_archive(&self) -> bool {
        self.level.0 >= ARCHIVE_SINCE
    }

    /// Whether this build may apply a batch. Levels rise one by one, so only the one after the highest that it knows can
    /// be in force without its knowing; any other is refused by every build alike.
    ///
    /// # Errors
    /// [`BatchError::Level`]; the node must stop before this entry.
    pub fn check(&self, batch: &Batch) -> Result<(), BatchError> {
        let raises =
            |body: &Body| matches!(body, Body::UpgradeTo { level, .. } if *level == LEVEL + 1);
        let beyond = self.level.0 == LEVEL;
        if beyond && batch.commands.iter().any(|command| raises(&command.body)) {
            return Err(BatchError::Level { found: LEVEL + 1 });
        }
        Ok(())
    }

    /// # Panics
    /// When the level is beyond this build's: [`State::check`] comes before.
    pub(crate) fn upgrade(
        &mut self,
        turn: &mut Turn,
        level: u32,
        advertised: &[NodeId],
    ) -> Result<Reply, Refusal> {
        let now = self.level.0;
        if level <= now {
            return Ok(Reply::Done);
        }
        if level != now + 1 {
            return Err(Refusal::Conflict(format!(
                "the cluster is at level {now}: the next is {}, not {level}",
                now + 1
            )));
        }
        let roster = self.nodes.roster.values().map(|entry| &entry.record);
        let mut voters = roster.filter(|node| node.role == Role::Voter).peekable();
        if voters.peek().is_none() {
            return Err(Refusal::Conflict("the roster has no voter yet".to_owned()));
        }
        if let Some(behind) = voters.find(|voter| !advertised.contains(&voter.id)) {
            return Err(Refusal::Conflict(format!(
                "voter {} has not said that it knows level {level}",
                behind.id
            )));
        }
        assert!(level <= LEVEL, "level {level} is beyond this build");
        self.level = Level(level);
        turn.tell(Effect::LevelRaised { level });
        self.end_cancellations(turn);
        Ok(Reply::Done)
    }

    /// Ends cancelled jobs whose holders have had time enough to answer.
    pub(crate) fn end_cancellations(&mut self, turn: &mut Turn) {
        if !self.has_cancel_grace() {
            return;
        }
        for job in self.queue.cancelled_too_long(turn.now) {
            self.give_back(job);
            let note = "cancelled; its holder did not answer in time";
            self.finish(turn, job, JobState::Cancelled, note);
        }
    }
}
