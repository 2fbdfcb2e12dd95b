//! Jobs that leave the ring go to the archive: none is lost, the chain proves it, and the state keeps a batch until
//! enough nodes have it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, JobId, LogIndex, Millis, NodeId};
use riftmesh_statemachine::archive::{ArchiveLink, ArchiveWalk, walk};
use riftmesh_statemachine::bounds::{ARCHIVE_BATCH_JOBS, ARCHIVE_OUTBOX_MAX};
use riftmesh_statemachine::job::{JobKind, JobSpec};
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::{Batch, Body, Bounds, Command, Refusal, Reply, State};

const RING: usize = 10;
const CHUNK: usize = 64;

fn apply(state: &mut State, bodies: Vec<Body>) -> Vec<Reply> {
    let index = LogIndex(state.applied().0 + 1);
    let commands = bodies
        .into_iter()
        .map(|body| Command { origin: None, body });
    let batch = Batch::new(Millis(index.0), commands.collect());
    let (replies, _) = state.apply(index, &batch);
    assert_eq!(state.validate(), Ok(()));
    replies
}

/// Two voters, at the level that has an archive or before it.
fn cluster(level: u32) -> State {
    let mut state = State::with_bounds(Bounds {
        jobs_finished_kept: RING,
        ..Bounds::default()
    });
    let admit = |node| {
        Body::AdmitNode(NodeRecord {
            id: NodeId(node),
            name: format!("n{node}"),
            role: Role::Voter,
            address: String::new(),
        })
    };
    let advertised = vec![NodeId(1), NodeId(2)];
    let upgrades = (2..=level).map(|level| Body::UpgradeTo {
        level,
        advertised: advertised.clone(),
    });
    let bodies = [admit(1), admit(2)].into_iter().chain(upgrades).collect();
    apply(&mut state, bodies);
    state
}

/// Submits and cancels jobs. False if there is no room for them.
fn live_and_die(state: &mut State) -> bool {
    let spec = JobSpec::plain(JobKind::Selfplay, "hex8_2p".parse().unwrap(), "{}");
    let submit = Body::Submit {
        jobs: vec![spec; CHUNK],
    };
    match apply(state, vec![submit]).pop().unwrap() {
        Reply::Submitted { jobs } => {
            apply(
                state,
                jobs.into_iter().map(|job| Body::Cancel { job }).collect(),
            );
            true
        }
        Reply::Refused(Refusal::Full { .. }) => false,
        other => panic!("{other}"),
    }
}

/// Every voter copies what is in the outbox into `store` and says so.
fn copy(state: &mut State, store: &mut BTreeMap<BlobHash, Vec<u8>>) {
    let out: Vec<_> = state
        .archive_outbox()
        .map(|(link, bytes, _)| (link, bytes.to_vec()))
        .collect();
    for (link, bytes) in out {
        store.insert(link.hash, bytes);
        for node in [NodeId(1), NodeId(2)] {
            let blob = link.hash;
            assert_eq!(
                apply(state, vec![Body::AddHolder { blob, node }]),
                [Reply::Done]
            );
        }
    }
}

fn look(from: Option<ArchiveLink>, max: usize, store: &BTreeMap<BlobHash, Vec<u8>>) -> ArchiveWalk {
    walk(from, max, |hash| {
        let bytes = store.get(hash).cloned();
        bytes.ok_or_else(|| format!("{} is not here", hash.short()))
    })
}

/// All archived jobs, the newest first, and what is in no batch yet before them: every job that ended, each once.
#[test]
fn every_job_that_ended_is_somewhere_once() {
    let mut state = cluster(3);
    let mut store = BTreeMap::new();
    for _ in 0..20 {
        assert!(live_and_die(&mut state));
        copy(&mut state, &mut store);
    }
    assert_eq!(state.archive_outbox().count(), 0);
    let found = look(state.archive_head(), usize::MAX, &store);
    assert_eq!((found.next, found.broken), (None, None));
    let full = found
        .batches
        .iter()
        .all(|batch| batch.jobs.len() == ARCHIVE_BATCH_JOBS);
    assert!(full && found.batches.len() == 4);
    let archived = found
        .batches
        .iter()
        .flat_map(|batch| batch.jobs.iter().rev());
    let ids: Vec<JobId> = state.ended().chain(archived).map(|job| job.id).collect();
    let all: Vec<JobId> = (1..=20 * CHUNK as u64).rev().map(JobId).collect();
    assert_eq!(ids, all);
    assert_eq!(State::restore(&state.snapshot()), Ok(state));
}

/// A walk may be cut into pieces; what was changed, swapped or is missing is named with its number.
#[test]
fn a_broken_link_is_named() {
    let mut state = cluster(3);
    let mut store = BTreeMap::new();
    for _ in 0..17 {
        live_and_die(&mut state);
        copy(&mut state, &mut store);
    }
    let head = state.archive_head();
    let first = look(head, 3, &store);
    let rest = look(first.next, 3, &store);
    let numbers = |walk: &ArchiveWalk| walk.batches.iter().map(|b| b.number).collect::<Vec<_>>();
    assert_eq!((numbers(&first), numbers(&rest)), (vec![4, 3, 2], vec![1]));
    assert_eq!(rest.next, None);

    let second = first.next.and_then(|_| first.batches[1].before()).unwrap();
    let mut flipped = store.clone();
    flipped.get_mut(&second.hash).unwrap()[40] ^= 1;
    let mut swapped = store.clone();
    swapped.insert(second.hash, store[&head.unwrap().hash].clone());
    let mut missing = store.clone();
    missing.remove(&second.hash);
    for (store, word) in [(flipped, "hash"), (swapped, "hash"), (missing, "not here")] {
        let found = look(head, usize::MAX, &store);
        assert_eq!((numbers(&found), found.next), (vec![4, 3], None));
        let (link, problem) = found.broken.unwrap();
        assert_eq!(link, second);
        assert!(problem.contains(word), "{problem}");
    }
    // Sound bytes at another place of a chain.
    let elsewhere = ArchiveLink {
        number: 7,
        ..second
    };
    let (link, problem) = look(Some(elsewhere), 1, &store).broken.unwrap();
    assert_eq!(link, elsewhere);
    assert!(problem.contains("number 2"), "{problem}");
}

/// While nobody copies, the state keeps the batches, then the ring grows, and new jobs are refused; nothing is dropped.
#[test]
fn a_full_outbox_holds_new_jobs_up() {
    let mut state = cluster(3);
    let mut store = BTreeMap::new();
    let mut rounds = 0;
    while live_and_die(&mut state) {
        rounds += 1;
    }
    assert_eq!(state.archive_outbox().count(), ARCHIVE_OUTBOX_MAX);
    assert!(rounds * CHUNK >= ARCHIVE_OUTBOX_MAX * ARCHIVE_BATCH_JOBS);
    assert_eq!(State::restore(&state.snapshot()).as_ref(), Ok(&state));
    let (oldest, bytes, _) = state.archive_outbox().next().unwrap();
    store.insert(oldest.hash, bytes.to_vec());
    let holds = |node| Body::AddHolder {
        blob: oldest.hash,
        node: NodeId(node),
    };
    let one = apply(&mut state, vec![holds(1), holds(1)]);
    assert_eq!(one, [Reply::Done, Reply::Done]);
    assert!(!live_and_die(&mut state), "one copy is not enough");
    apply(&mut state, vec![holds(2)]);
    assert!(live_and_die(&mut state));
    copy(&mut state, &mut store);
    let found = look(state.archive_head(), usize::MAX, &store);
    let archived: usize = found.batches.iter().map(|batch| batch.jobs.len()).sum();
    assert_eq!(
        (found.broken, archived as u64),
        (None, state.archived_jobs())
    );
    assert_eq!(archived + state.ended().count(), (rounds + 1) * CHUNK);
}

/// Before that level jobs that leave the ring are gone, as they always were.
#[test]
fn older_levels_have_no_archive() {
    let mut state = cluster(2);
    for _ in 0..10 {
        assert!(live_and_die(&mut state));
    }
    assert_eq!(state.ended().count(), RING);
    assert_eq!((state.archive_head(), state.archived_jobs()), (None, 0));
}
