use std::collections::BTreeMap;

use riftmesh_base::{LogIndex, NodeId};
use riftmesh_statemachine::job::JobSpec;
use riftmesh_statemachine::reply::Reply;
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::{Batch, Body, Bounds, Command};

use super::*;

/// Blobs as a voter has them on its disk.
pub(crate) type Files = BTreeMap<BlobHash, Vec<u8>>;

/// A state in which `jobs` jobs have ended, more than its ring keeps, and the batches of the archive that closed.
pub(crate) fn ended(jobs: usize) -> (State, Files) {
    let mut state = State::with_bounds(Bounds {
        jobs_finished_kept: 10,
        ..Bounds::default()
    });
    let node = NodeId(1);
    let admit = NodeRecord {
        id: node,
        name: "v1".to_owned(),
        role: Role::Voter,
        address: String::new(),
    };
    apply(&mut state, Body::AdmitNode(admit));
    for level in 2..=riftmesh_statemachine::level::LEVEL {
        let advertised = vec![node];
        apply(&mut state, Body::UpgradeTo { level, advertised });
    }
    let mut files = Files::new();
    for _ in 0..jobs {
        end_one(&mut state);
        copy(&mut state, &mut files);
    }
    (state, files)
}

/// The voter copies what the state hands out, and says so.
fn copy(state: &mut State, files: &mut Files) {
    let out: Vec<_> = state
        .archive_outbox()
        .map(|(link, bytes, _)| (link.hash, bytes.to_vec()))
        .collect();
    for (blob, bytes) in out {
        files.insert(blob, bytes);
        let node = NodeId(1);
        apply(state, Body::AddHolder { blob, node });
    }
}

fn apply(state: &mut State, body: Body) -> Reply {
    let index = LogIndex(state.applied().0 + 1);
    let command = Command { origin: None, body };
    let batch = Batch::new(riftmesh_base::Millis(index.0), vec![command]);
    state.apply(index, &batch).0.remove(0)
}

fn end_one(state: &mut State) -> JobId {
    let spec = JobSpec::plain(JobKind::Selfplay, "hex8_2p".parse().unwrap(), "{}");
    let submitted = apply(state, Body::Submit { jobs: vec![spec] });
    let Reply::Submitted { jobs } = submitted else {
        panic!("{submitted}");
    };
    apply(state, Body::Cancel { job: jobs[0] });
    jobs[0]
}

fn look(query: &HistoryQuery, state: &State, files: &Files) -> Result<HistoryAnswer, String> {
    HistoryLook::through_state(query, state)?.through_archive(|hash| {
        files
            .get(hash)
            .cloned()
            .ok_or_else(|| "it is not here".to_owned())
    })
}

fn ids(answer: &HistoryAnswer) -> Vec<u64> {
    answer.jobs.iter().map(|job| job.id.0).collect()
}

/// Pages of any size give every job that ended once, the last first, although more jobs end between two pages and push
/// those of the first page into the archive.
#[test]
fn pages_miss_nothing_and_repeat_nothing() {
    for limit in [1, 7, 64, 200] {
        let (mut state, mut files) = ended(1_000);
        let everything: Vec<u64> = (1..=1_000).rev().collect();
        let mut query = HistoryQuery {
            limit,
            ..HistoryQuery::default()
        };
        let mut found = Vec::new();
        loop {
            let answer = look(&query, &state, &files).unwrap();
            assert_eq!(answer.broken, None);
            assert!(answer.jobs.len() <= limit as usize);
            found.extend(ids(&answer));
            let Some(next) = answer.next else {
                break;
            };
            query.from = Some(next.to_string().parse().unwrap());
            end_one(&mut state);
            copy(&mut state, &mut files);
        }
        assert_eq!(found, everything, "pages of {limit}");
    }
}

/// One job is found in the ring and in the archive, and filters pass what they should.
#[test]
fn one_job_is_found_wherever_it_is() {
    let (state, files) = ended(600);
    for job in [1, 300, 595, 600] {
        let query = HistoryQuery {
            job: Some(JobId(job)),
            ..HistoryQuery::default()
        };
        assert_eq!(ids(&look(&query, &state, &files).unwrap()), [job]);
    }
    let dead = HistoryQuery {
        state: Some(JobPhase::Dead),
        ..HistoryQuery::default()
    };
    assert!(ids(&look(&dead, &state, &files).unwrap()).is_empty());
}

/// A batch that is not there ends the look with its name, after what there was before it.
#[test]
fn a_missing_batch_is_named() {
    let (state, mut files) = ended(600);
    let head = state.archive_head().unwrap();
    files.remove(&head.hash);
    let answer = look(&HistoryQuery::default(), &state, &files).unwrap();
    assert_eq!(ids(&answer), (513..=600).rev().collect::<Vec<_>>());
    let broken = answer.broken.unwrap();
    assert_eq!(broken, format!("{head}: it is not here"));
}

/// Places that make no sense are refused with what to do.
#[test]
fn wrong_places_are_refused() {
    let (mut state, files) = ended(300);
    let from = |from: &str| HistoryQuery {
        from: Some(from.parse().unwrap()),
        ..HistoryQuery::default()
    };
    let nowhere = look(&from("j5000"), &state, &files).unwrap_err();
    assert_eq!(nowhere, "j5000 is nowhere in the history; begin anew");
    let again = JobId(299);
    assert_eq!(apply(&mut state, Body::Requeue { job: again }), Reply::Done);
    let live = look(&from("j299"), &state, &files).unwrap_err();
    assert!(live.starts_with("j299 is tried again"), "{live}");
    for text in ["", "42", "j1.2", "2.ff", "j1.2.3.4"] {
        assert!(text.parse::<HistoryPlace>().is_err(), "{text}");
    }
}
