//! Jobs: submitted in batches, claimed and completed one by one by workers.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use riftmesh_base::limits::SUBMIT_JOBS_MAX;
use riftmesh_base::{BlobHash, ConfigurationName, Millis, NodeId, SessionId};
use riftmesh_statemachine::job::{Grant, JobKind, JobSpec, Output, RetryPolicy, SegmentRecord};
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::{Body, Reply};

use crate::Plan;
use crate::figures::{Figures, number};
use crate::group::{Clients, Group};
use crate::load::{self, Seen};

/// Commands with jobs at once.
const SUBMITTERS: usize = 16;
/// Workers, and the jobs that each claims at a time.
const WORKERS: [(usize, u16); 3] = [(1, 1), (64, 1), (64, 16)];
const SLOTS: u16 = 64;

fn job(configuration: &ConfigurationName) -> JobSpec {
    JobSpec {
        retry: RetryPolicy {
            attempts_max: 3,
            backoff: Millis(100),
            backoff_max: Millis(1_000),
        },
        ..JobSpec::plain(JobKind::Selfplay, configuration.clone(), "x".repeat(64))
    }
}

/// Submits `jobs` jobs in full batches and gives their number.
pub async fn fill(group: &Group, leader: usize, jobs: usize) -> Result<usize, Box<dyn Error>> {
    let left = Arc::new(AtomicUsize::new(jobs.div_ceil(SUBMIT_JOBS_MAX)));
    let job = job(&"hex8_2p".parse()?);
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|caller| {
            let (clients, left) = (Arc::clone(&group.clients), Arc::clone(&left));
            let job = job.clone();
            tokio::spawn(async move {
                let take = |n: usize| n.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    let jobs = vec![job.clone(); SUBMIT_JOBS_MAX];
                    clients.order(caller, leader, Body::Submit { jobs }).await?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for submitter in submitters {
        submitter.await??;
    }
    Ok(jobs.div_ceil(SUBMIT_JOBS_MAX) * SUBMIT_JOBS_MAX)
}

/// Batched submissions, then claims and completions.
pub async fn measure(plan: &Plan, figures: &Figures, group: &Group) -> Result<(), Box<dyn Error>> {
    let leader = group.settled().await?;
    let began = Instant::now();
    let jobs = fill(group, leader, plan.jobs).await?;
    figures.say(
        "jobs submitted in batches",
        [
            (
                "per_second",
                number(jobs as f64 / began.elapsed().as_secs_f64()),
            ),
            ("jobs", jobs.into()),
            ("jobs_per_command", SUBMIT_JOBS_MAX.into()),
        ],
    )?;
    let workers = WORKERS.iter().map(|(workers, _)| *workers).max();
    let sessions = open(&group.clients, leader, workers.unwrap_or(1)).await?;
    for (workers, at_a_time) in WORKERS {
        let mut seen = Seen::default();
        for _ in 0..plan.rounds {
            let leader = group.settled().await?;
            let (clients, sessions) = (Arc::clone(&group.clients), Arc::clone(&sessions));
            let round = load::run(workers, plan.seconds, move |worker| {
                let (clients, session) = (Arc::clone(&clients), sessions[worker]);
                async move { cycle(&clients, leader, worker, session, at_a_time).await }
            });
            seen.add(round.await);
            // The next round finds as many jobs as this one.
            fill(
                group,
                leader,
                seen.count() * usize::from(at_a_time) / plan.rounds.max(1),
            )
            .await?;
        }
        figures.say(
            "claim and complete",
            [
                ("workers", workers.into()),
                ("jobs_per_claim", at_a_time.into()),
                (
                    "jobs_per_second",
                    number(seen.per_second() * f64::from(at_a_time)),
                ),
                ("cycle_p50_ms", number(seen.at(0.5))),
                ("cycle_p99_ms", number(seen.at(0.99))),
                ("cycles", seen.count().into()),
                ("failures", seen.failures.into()),
                ("last_failure", seen.last_failure.clone().into()),
            ],
        )?;
    }
    Ok(())
}

fn node(worker: usize) -> NodeId {
    NodeId(10_000 + worker as u64)
}

async fn open(
    clients: &Clients,
    leader: usize,
    workers: usize,
) -> Result<Arc<[SessionId]>, Box<dyn Error>> {
    let mut sessions = Vec::new();
    for worker in 0..workers {
        let record = NodeRecord {
            id: node(worker),
            name: format!("worker-{worker}"),
            role: Role::Worker,
            address: "127.0.0.1:1".to_owned(),
        };
        clients
            .order(worker, leader, Body::AdmitNode(record))
            .await?;
        let open = Body::OpenSession {
            node: node(worker),
            generation: 1,
            slots: SLOTS,
            cuda: false,
        };
        match clients.order(worker, leader, open).await? {
            Reply::Session { session, .. } => sessions.push(session),
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(sessions.into())
}

/// Claims jobs and completes them, one after the other.
async fn cycle(
    clients: &Clients,
    leader: usize,
    worker: usize,
    session: SessionId,
    jobs_max: u16,
) -> Result<(), String> {
    let claim = Body::Claim {
        session,
        kinds: vec![JobKind::Selfplay],
        jobs_max,
    };
    let grants = match clients.order(worker, leader, claim).await? {
        Reply::Granted { grants } if grants.len() == usize::from(jobs_max) => grants,
        other => return Err(format!("wanted {jobs_max} jobs: {other:?}")),
    };
    for grant in grants {
        clients
            .order(worker, leader, completion(&grant, worker))
            .await?;
    }
    Ok(())
}

fn completion(grant: &Grant, worker: usize) -> Body {
    let segment = SegmentRecord {
        hash: BlobHash::of(format!("{} {}", grant.job, grant.token).as_bytes()),
        bytes: 1_000,
        games: 4,
        rows: 200,
        model: None,
        holder: node(worker),
    };
    Body::Complete {
        job: grant.job,
        token: grant.token,
        outputs: vec![Output::Segment(segment)],
    }
}
