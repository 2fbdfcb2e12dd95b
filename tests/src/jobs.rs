//! What the worlds' clients submit, run and report.

use riftmesh_base::{BlobHash, ConfigurationName, JobId, Millis, NodeId, SessionId, Token};
use riftmesh_statemachine::Body;
use riftmesh_statemachine::job::{JobKind, JobRecord, JobSpec, Output, RetryPolicy, SegmentRecord};
use riftmesh_statemachine::roster::{NodeRecord, Role};

/// Games that every job of the worlds makes.
pub const GAMES_PER_JOB: u32 = 3;
/// Slots of a worker; every job takes one.
pub const WORKER_SLOTS: u16 = 2;

/// The configuration all jobs are for.
///
/// # Panics
/// Never: the name is well formed.
#[expect(clippy::expect_used, reason = "a literal that is well formed")]
pub fn configuration() -> ConfigurationName {
    "hex8_2p".parse().expect("a well-formed name")
}

/// A submission of one job that carries `marker`, a number no other submission carries.
pub fn submission(marker: u64) -> Body {
    let spec = JobSpec {
        retry: RetryPolicy {
            attempts_max: 3,
            backoff: Millis(100),
            backoff_max: Millis(1_000),
        },
        ..JobSpec::plain(JobKind::Selfplay, configuration(), marker.to_string())
    };
    Body::Submit { jobs: vec![spec] }
}

/// The marker of a job made by [`submission`].
pub fn marker_of(record: &JobRecord) -> Option<u64> {
    record.spec.payload.parse().ok()
}

/// The end of a job by the holder of `token`. What it made is told apart from what any other grant would have made.
pub fn completion(job: JobId, token: Token, holder: NodeId) -> Body {
    let outputs = vec![Output::Segment(segment(job, token, holder))];
    Body::Complete {
        job,
        token,
        outputs,
    }
}

/// What the holder of `token` makes of `job`.
pub fn segment(job: JobId, token: Token, holder: NodeId) -> SegmentRecord {
    SegmentRecord {
        hash: BlobHash::of(format!("{job} under {token}").as_bytes()),
        bytes: 1_000,
        games: GAMES_PER_JOB,
        rows: 10 * GAMES_PER_JOB,
        model: None,
        holder,
    }
}

/// A worker enters the roster.
pub fn admission(node: NodeId) -> Body {
    Body::AdmitNode(NodeRecord {
        id: node,
        name: format!("worker-{}", node.0),
        role: Role::Worker,
        address: format!("10.0.0.{}:7400", node.0),
    })
}

/// A worker begins a life.
pub fn opening(node: NodeId, generation: u64) -> Body {
    Body::OpenSession {
        node,
        generation,
        slots: WORKER_SLOTS,
        cuda: false,
    }
}

/// A worker asks for all it can run.
pub fn claim(session: SessionId) -> Body {
    Body::Claim {
        session,
        kinds: vec![JobKind::Selfplay],
        jobs_max: WORKER_SLOTS,
    }
}
