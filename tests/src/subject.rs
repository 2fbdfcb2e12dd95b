//! The state machine under test, whole or with a bug planted on purpose.
//!
//! A suite that misses its mutants proves nothing: each flaw here names what a careless change could do, and a test
//! demands that the oracle finds it.

use riftmesh_base::{LogIndex, Millis};
use riftmesh_statemachine::command::COMMAND_VERSION;
use riftmesh_statemachine::job::JobState;
use riftmesh_statemachine::{Batch, Body, Command, Reply, State};

/// What is wrong with a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A completion is taken whatever its token (DISTRIBUTED rule 29).
    NoTokenCheck,
    /// A repeated command is applied again (DISTRIBUTED rule 33).
    NoRepeatCheck,
    /// Some submissions are acknowledged and not kept.
    LosesSubmissions,
    /// Each replica stamps its own clock on the entry (DISTRIBUTED rule 2).
    LocalClock,
}

/// One replica of the state machine.
#[derive(Debug, Clone)]
pub struct Subject {
    state: State,
    flaw: Flaw,
    /// Which replica this is.
    number: u64,
}

impl Subject {
    /// The state before the first entry.
    pub fn new(flaw: Flaw, number: u64) -> Self {
        Self {
            state: State::new(),
            flaw,
            number,
        }
    }

    /// This replica with another state: a restart.
    pub fn with_state(&self, state: State) -> Self {
        Self { state, ..*self }
    }

    /// What it holds.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies an entry as the flaw has it.
    pub fn apply(&mut self, index: LogIndex, batch: &Batch) -> Vec<Reply> {
        if self.flaw == Flaw::LosesSubmissions && index.0.is_multiple_of(16) {
            return self.apply_and_forget(index, batch);
        }
        let commands = batch.commands.iter().map(|c| self.mutated(c)).collect();
        let now = match self.flaw {
            Flaw::LocalClock => batch.now + Millis(self.number),
            _ => batch.now,
        };
        let batch = Batch {
            version: COMMAND_VERSION,
            now,
            commands,
        };
        self.state.apply(index, &batch).0
    }

    fn mutated(&self, command: &Command) -> Command {
        let mut command = command.clone();
        if self.flaw == Flaw::NoRepeatCheck {
            command.origin = None;
        }
        if let (Flaw::NoTokenCheck, Body::Complete { job, token, .. }) =
            (self.flaw, &mut command.body)
            && let Some(JobState::Leased(lease)) =
                self.state.job_record(*job).map(|record| &record.state)
        {
            *token = lease.token;
        }
        command
    }

    /// Replies as if the entry had been applied, and applies an entry that changes nothing.
    fn apply_and_forget(&mut self, index: LogIndex, batch: &Batch) -> Vec<Reply> {
        let replies = self.state.clone().apply(index, batch).0;
        let kept = batch
            .commands
            .iter()
            .filter(|command| !matches!(command.body, Body::Submit { .. }));
        let kept = Batch::new(batch.now, kept.cloned().collect());
        self.state.apply(index, &kept);
        replies
    }
}
