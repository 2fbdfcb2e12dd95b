//! The state against a reference that knows no index and no shortcut, over random commands: the same answers, the
//! same jobs, and every invariant after every entry. Then the same log again, from an image in its middle.

#![expect(
    clippy::unwrap_used,
    reason = "a test that finds nothing to compare has failed"
)]

mod claims;
mod generate;
mod holds;
mod models;
mod reference;
mod rotation;
mod services;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use riftmesh_base::{ConfigurationName, JobId, LogIndex, Millis, Token};
use riftmesh_statemachine::job::{Grant, JobPhase, JobRecord, JobState};
use riftmesh_statemachine::models::{ModelState, Verdict};
use riftmesh_statemachine::query::JobFilter;
use riftmesh_statemachine::{Batch, Bounds, Command, Refusal, Reply, State};

use generate::{Step, body, configuration, origin, steps};
use reference::{Answer, PlainJob, Reference};
use services::{PlainLock, Services};

/// Small enough that random commands run into every bound, except that the reference keeps all models and matches.
fn bounds() -> Bounds {
    Bounds {
        clients_max: 3,
        jobs_live_max: 12,
        jobs_finished_kept: 6,
        losses_max: 3,
        segments_kept: 2,
        ..Bounds::default()
    }
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Done => Answer::Done,
        Reply::Session { session, .. } => Answer::Session(session),
        Reply::Submitted { jobs } => Answer::Submitted(jobs),
        Reply::Granted { grants } => Answer::Granted(plain_grants(grants)),
        Reply::GrantedFrom {
            grants,
            checkpoints,
        } => {
            let blobs = checkpoints.into_iter().map(|(job, from)| (job, from.blob));
            Answer::GrantedFrom(plain_grants(grants), blobs.collect())
        }
        Reply::Yield { job, until } => Answer::Yield(job, until.0),
        Reply::Judged { verdict, champion } => {
            let word = match verdict {
                Verdict::Promoted { .. } => "promoted",
                Verdict::Rejected { .. } => "rejected",
                Verdict::Undecided { .. } => "undecided",
            };
            Answer::Judged(word, champion)
        }
        Reply::Cancelled { .. } => Answer::Cancelled,
        Reply::Locked { token, until } => Answer::Locked(token, until.0),
        Reply::Revision { revision } => Answer::Revision(revision),
        Reply::Refused(refusal) => Answer::Refused(match refusal {
            Refusal::Fenced { .. } => "fenced",
            Refusal::SessionOver(_) => "session over",
            Refusal::Unknown(_) => "unknown",
            Refusal::Conflict(_) => "conflict",
            Refusal::Invalid(_) => "invalid",
            Refusal::Full { .. } => "full",
            Refusal::StaleSequence { .. } => "stale",
            Refusal::LockHeld { .. } => "held",
            Refusal::LockLost { .. } => "lock lost",
            Refusal::NotWelcome(fault) => fault.word(),
        }),
    }
}

fn plain_grants(grants: Vec<Grant>) -> Vec<(JobId, Token, u32, u32)> {
    let grants = grants.into_iter();
    let plain = grants.map(|g| (g.job, g.token, g.attempt, g.losses));
    plain.collect()
}

/// A record reduced to what the reference knows.
fn plain(record: &JobRecord, reference: &PlainJob) -> PlainJob {
    let until = match record.state {
        JobState::Delayed { until } => until.0,
        // The reference does not forget.
        _ => reference.until,
    };
    PlainJob {
        id: record.id,
        spec: record.spec.clone(),
        phase: record.state.phase(),
        until,
        holder: record.state.lease().map(|lease| lease.session),
        token: record.last_token,
        failures: record.failures,
        losses: record.losses,
        submitted: record.submitted.0,
        outputs: record.outputs.clone(),
        terms: record.terms.clone(),
        yields: reference.yields,
        checkpoint: reference.checkpoint,
    }
}

fn compare(state: &State, reference: &Reference) {
    let name = configuration();
    let all = JobFilter {
        limit: usize::MAX,
        ..JobFilter::default()
    };
    let mut records: Vec<&JobRecord> = state.jobs(&all);
    records.reverse();
    assert_eq!(records.len(), reference.jobs.len());
    let mut jobs = reference.jobs.clone();
    jobs.sort_by_key(|job| job.id);
    for (record, job) in records.into_iter().zip(&jobs) {
        assert_eq!(&plain(record, job), job);
    }
    for session in &reference.sessions {
        let view = state.session(session.id).unwrap();
        let used: u16 = reference
            .held_by(session.id)
            .map(|j| j.spec.needs.slots)
            .sum();
        assert_eq!(view.slots_used, used);
    }
    assert_eq!(state.sessions().count(), reference.sessions.len());
    let totals = state.ledger(&name);
    assert_eq!(
        (totals.segments, totals.games, totals.rows),
        reference.totals
    );
    assert_eq!(state.segments(&name).count(), reference.segments.len());
    compare_models(state, reference, &name);
    compare_holds(state, reference);
    let delayed = jobs.iter().filter(|job| job.phase == JobPhase::Delayed);
    let locks = reference.services.locks.iter();
    let cancelling = jobs.iter().filter(|job| job.phase == JobPhase::Cancelling);
    let cancelling = cancelling.filter(|_| reference.level >= 2);
    assert_eq!(
        state.next_deadline().map(|at| at.0),
        delayed
            .map(|job| job.until)
            .chain(locks.map(|lock| lock.until))
            .chain(cancelling.map(|job| job.until))
            .chain(reference.asked.map(|asked| asked.until))
            .chain(reference.nodes.values().filter_map(|node| node.drained_by))
            .min()
    );
    compare_services(state, &reference.services);
    reference.trust.compare(state);
    for row in state.tenants() {
        let jobs = jobs.iter().filter(|job| !job.phase.is_final());
        let jobs = jobs.filter(|job| job.terms.tenant == row.tenant);
        assert_eq!(row.jobs, jobs.count() as u64, "{}", row.tenant);
        assert_eq!(row.share, reference.shares.get(&row.tenant).copied());
    }
}

fn compare_holds(state: &State, reference: &Reference) {
    for job in &reference.jobs {
        let checkpoint = state.checkpoint(job.id).map(|from| from.blob);
        assert_eq!(checkpoint, job.checkpoint, "{}", job.id);
        assert_eq!(state.yields(job.id), job.yields, "{}", job.id);
    }
    let asked = state
        .yielding()
        .map(|asked| (asked.job, asked.urgent, asked.until.0));
    let known = reference
        .asked
        .map(|asked| (asked.job, asked.urgent, asked.until));
    assert_eq!(asked, known);
}

fn compare_services(state: &State, services: &Services) {
    let locks = state.locks().map(|lock| PlainLock {
        name: lock.name.clone(),
        owner: lock.owner.clone(),
        token: lock.token,
        until: lock.until.0,
    });
    let mut known = services.locks.clone();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(locks.collect::<Vec<_>>(), known);
    // What the settings are follows from what was ever written.
    let writes = state.setting_changes(None);
    let writes = writes.map(|change| (change.key.clone(), change.value.clone()));
    let mut writes: Vec<_> = writes.collect();
    writes.reverse();
    assert_eq!(writes, services.writes);
    for key in services.writes.iter().map(|(key, _)| key) {
        let found = state.setting(key);
        let found = found.map(|setting| (setting.revision, setting.value.clone()));
        assert_eq!(found, services.setting(key));
    }
}

fn compare_models(state: &State, reference: &Reference, name: &ConfigurationName) {
    assert_eq!(state.champion(name), reference.champion());
    for model in &reference.models {
        let entry = state.model(name, model.hash).unwrap();
        let blobs = [model.hash, entry.record.manifest];
        assert_eq!(state.named(&blobs), BTreeSet::from(blobs), "{}", model.hash);
        let word = match entry.state {
            ModelState::Candidate => "candidate",
            ModelState::Promoted => "promoted",
            ModelState::Rejected { .. } => "rejected",
            ModelState::Superseded => "superseded",
            ModelState::RolledBack { .. } => "rolled back",
        };
        assert_eq!(word, model.state, "{}", model.hash);
    }
}

/// How often each kind of effect and answer came about.
type Tally = BTreeMap<String, usize>;

/// The first word of a value's debug form: the name of its variant.
fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// Runs the steps on both and gives the log they made.
fn run(entries: &[(u64, Vec<Step>)], tally: &mut Tally) -> Vec<Batch> {
    let mut state = State::with_bounds(bounds());
    let mut reference = Reference::new(bounds());
    let mut log = Vec::new();
    let mut time = 0;
    for (index, (wait, steps)) in (1..).zip(entries) {
        time += wait;
        reference.begin(index, time);
        let mut commands = Vec::new();
        let mut expected = Vec::new();
        for step in steps {
            let command = Command {
                origin: origin(step, &reference),
                body: body(&step.action, &reference),
            };
            expected.push(reference.apply(command.origin, &command.body));
            commands.push(command);
        }
        let batch = Batch::new(Millis(time), commands);
        reference.finish_entry();
        let (replies, effects) = state.apply(LogIndex(index), &batch);
        for effect in &effects {
            *tally.entry(variant(effect)).or_default() += 1;
        }
        let answers: Vec<Answer> = replies.into_iter().map(answer).collect();
        for answer in &answers {
            *tally.entry(format!("{answer:?}")).or_default() += 1;
        }
        assert_eq!(answers, expected, "entry {index}: {:?}", batch.commands);
        assert_eq!(
            state.validate(),
            Ok(()),
            "after entry {index}: {:?}",
            batch.commands
        );
        compare(&state, &reference);
        log.push(batch);
    }
    log
}

fn replay(state: &mut State, log: &[Batch]) -> Vec<(Vec<Reply>, usize)> {
    let first = state.applied().0 + 1;
    let entries = (first..).map(LogIndex).zip(log);
    let outcomes = entries.map(|(index, batch)| {
        let (replies, effects) = state.apply(index, batch);
        (replies, effects.len())
    });
    outcomes.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Every answer and every job is what the reference says, whatever is asked in whatever order; and an image taken
    /// anywhere, restored, answers the rest of the log with the same words and ends with the same bytes.
    #[test]
    fn the_state_does_what_the_reference_does(entries in steps(), cut: prop::sample::Index) {
        let log = run(&entries, &mut Tally::new());
        let cut = cut.index(log.len() + 1);
        let mut whole = State::with_bounds(bounds());
        replay(&mut whole, &log[..cut]);
        let mut restored = State::restore(&whole.snapshot()).unwrap();
        prop_assert_eq!(&restored, &whole);
        let rest = replay(&mut whole, &log[cut..]);
        prop_assert_eq!(replay(&mut restored, &log[cut..]), rest);
        prop_assert_eq!(restored.hash(), whole.hash());
        // The bytes of the log say the same as the values did.
        for batch in &log {
            let read = Batch::from_bytes(&batch.to_bytes());
            prop_assert_eq!(read.as_ref(), Ok(batch));
        }
    }
}

/// The random commands of the test above reach every effect and every refusal; a model test that never grants a job
/// would prove nothing.
#[test]
fn random_commands_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let mut tally = Tally::new();
    for _ in 0..300 {
        let entries = steps().new_tree(&mut runner).unwrap().current();
        run(&entries, &mut tally);
    }
    let effects = [
        "NodeAdmitted",
        "NodeDraining",
        "NodeForgotten",
        "SessionOpened",
        "SessionEnded",
        "JobReady",
        "JobGranted",
        "JobLost",
        "JobFailed",
        "JobDone",
        "JobCancelling",
        "JobCancelled",
        "JobDead",
        "SegmentAccepted",
        "SegmentRetired",
        "ModelRegistered",
        "ModelPromoted",
        "ModelRejected",
        "ModelRolledBack",
        "MatchCounted",
        "LockAcquired",
        "LockReleased",
        "LockExpired",
        "SettingChanged",
        "TenantChanged",
        "LevelRaised",
        "JobRecurs",
        "JobCheckpointed",
        "CheckpointRetired",
        "JobYielding",
        "JobGaveWay",
    ];
    let refusals = [
        "fenced",
        "session over",
        "unknown",
        "conflict",
        "invalid",
        "full",
        "stale",
        "held",
        "lock lost",
    ];
    let refusals = refusals.map(|word| format!("Refused({word:?})"));
    let wanted = effects.map(str::to_owned).into_iter().chain(refusals);
    for name in wanted.chain(["Cancelled".to_owned()]) {
        let seen = tally.get(&name).copied().unwrap_or(0);
        assert!(seen >= 5, "{name}: {seen} times in 300 stories");
    }
}
