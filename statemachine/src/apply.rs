//! One entry in, one reply per command out. Dispatch only; each handler lives with the part of the state it changes.

use riftmesh_base::LogIndex;

use crate::clients::Seen;
use crate::command::{Batch, Body, COMMAND_VERSION, Command};
use crate::effect::Effect;
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};
use crate::terms::{Offer, Terms};

impl State {
    /// Applies the entry at `index`: one reply per command, in order, and what happened.
    ///
    /// Cluster time becomes the batch's if that is later; delayed jobs whose time has come are ready, and locks whose
    /// time is over are free, before the first command; behind the last one a holder may be asked to give way. A refused
    /// command changes nothing but the table of clients.
    ///
    /// # Panics
    /// When the index does not rise, or the batch is of another version or raises the level beyond this build's: the caller's log is broken, and applying it
    /// would make this replica differ from the others. [`Batch::from_bytes`] and [`State::check`] refuse such batches
    /// before.
    pub fn apply(&mut self, index: LogIndex, batch: &Batch) -> (Vec<Reply>, Vec<Effect>) {
        assert!(
            index > self.head.applied,
            "entry {index} applied after entry {}",
            self.head.applied
        );
        assert_eq!(batch.version, COMMAND_VERSION, "command version");
        self.head.applied = index;
        self.head.now = self.head.now.max(batch.now);
        let mut turn = Turn {
            now: self.head.now,
            index,
            grants: 0,
            effects: Vec::new(),
        };
        self.wake_delayed(&mut turn);
        self.expire_locks(&mut turn);
        self.end_cancellations(&mut turn);
        self.end_yielding(&mut turn);
        self.end_drains(&mut turn);
        let mut replies = Vec::with_capacity(batch.commands.len());
        for (ordinal, command) in (0..).zip(&batch.commands) {
            replies.push(self.apply_one(&mut turn, ordinal, command));
        }
        self.ask_to_yield(&mut turn);
        (replies, turn.effects)
    }

    fn apply_one(&mut self, turn: &mut Turn, ordinal: u32, command: &Command) -> Reply {
        let Some(origin) = command.origin else {
            return self.run(turn, &command.body);
        };
        match self.clients.seen(origin) {
            Seen::New => {
                let reply = self.run(turn, &command.body);
                let at = (turn.index, ordinal);
                self.clients
                    .store(origin, &reply, at, self.head.bounds.clients_max);
                reply
            }
            Seen::Repeat(stored) => stored.reply(&self.queue),
            Seen::Stale { last } => Reply::Refused(Refusal::StaleSequence {
                seq: origin.seq,
                last,
            }),
        }
    }

    fn run(&mut self, turn: &mut Turn, body: &Body) -> Reply {
        self.dispatch(turn, body).unwrap_or_else(Reply::Refused)
    }

    fn dispatch(&mut self, turn: &mut Turn, body: &Body) -> Result<Reply, Refusal> {
        match body {
            Body::FoundCluster { cluster } => self.found(turn, *cluster),
            Body::AdmitNode(record) => self.admit(turn, record),
            Body::ForgetNode { node } => self.forget(turn, *node),
            Body::OpenSession {
                node,
                generation,
                slots,
                cuda,
            } => {
                let offer = Offer {
                    slots: *slots,
                    cuda: *cuda,
                    ..Offer::default()
                };
                self.open_session(turn, *node, *generation, &offer)
            }
            Body::ExpireSession { session, reason } => self.expire(turn, *session, *reason),
            Body::Submit { jobs } => {
                let terms = Terms::default();
                let jobs: Vec<_> = jobs.iter().map(|spec| (spec, &terms)).collect();
                self.submit(turn, &jobs)
            }
            Body::Claim {
                session,
                kinds,
                jobs_max,
            } => self.claim(turn, *session, kinds, *jobs_max),
            Body::Progress {
                job,
                token,
                done,
                total,
            } => self.progress(*job, *token, *done, *total),
            Body::Complete {
                job,
                token,
                outputs,
            } => self.complete(turn, *job, *token, outputs),
            Body::Fail {
                job,
                token,
                error,
                retry,
            } => self.fail(turn, *job, *token, error, *retry),
            Body::Release { job, token, reason } => self.release(turn, *job, *token, *reason),
            Body::Cancel { job } => self.cancel(turn, *job),
            Body::Requeue { job } => self.requeue(turn, *job),
            Body::RegisterModel {
                configuration,
                model,
            } => self.register_model(turn, configuration, model),
            Body::ReportMatch {
                id,
                configuration,
                result,
            } => self.report_match(turn, *id, configuration, result),
            Body::Promote {
                configuration,
                model,
                expected,
            } => self.promote(turn, configuration, *model, *expected),
            Body::Rollback {
                configuration,
                model,
                reason,
            } => self.roll_back(turn, configuration, *model, reason),
            Body::AddHolder { blob, node } => self.add_holder(turn, *blob, *node),
            Body::Tick => Ok(Reply::Done),
            Body::DrainNode { node, drain } => self.drain(turn, *node, *drain),
            Body::Lock(verb) => self.lock(turn, verb),
            Body::WriteSetting(write) => self.write_setting(turn, write),
            Body::TakeBack { job } => self.take_back(turn, *job),
            Body::RejectModel {
                configuration,
                model,
                reason,
            } => self.reject_candidate(turn, configuration, *model, reason),
            Body::SubmitWith { jobs } => {
                let jobs: Vec<_> = jobs.iter().map(|job| (&job.spec, &job.terms)).collect();
                self.submit(turn, &jobs)
            }
            Body::OpenWorker {
                node,
                generation,
                offer,
            } => self.open_session(turn, *node, *generation, offer),
            Body::SetTenant { tenant, share } => self.set_tenant(turn, tenant, *share),
            Body::UpgradeTo { level, advertised } => self.upgrade(turn, *level, advertised),
            Body::Trust(verb) => self.change_trust(turn, verb),
            Body::Hold(verb) => {
                self.check_level(body)?;
                self.hold(turn, verb)
            }
            Body::DrainWithin { node, grace } => self.drain_within(turn, *node, *grace),
        }
    }
}
