//! What the worlds' clients submit, run and report.

use rand::RngExt as _;
use rand::rngs::StdRng;
use riftmesh_base::{BlobHash, ConfigurationName, JobId, Millis, NodeId, SessionId, Token};
use riftmesh_statemachine::Body;
use riftmesh_statemachine::hold::{HoldVerb, JobCheckpoint};
use riftmesh_statemachine::job::{JobKind, JobRecord, JobSpec, Output, RetryPolicy, SegmentRecord};
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::terms::{JobRequest, Terms};

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

/// A submission of one job that carries `marker`, a number no other submission carries. How urgent it is, on which terms,
/// and whether it gives way, is left to the dice. Until the cluster's level allows it, one that gives way is refused.
pub fn submission(marker: u64, dice: &mut StdRng) -> Body {
    let spec = JobSpec {
        priority: [50, 100, 200][dice.random_range(0..3)],
        retry: RetryPolicy {
            attempts_max: 3,
            backoff: Millis(100),
            backoff_max: Millis(1_000),
        },
        ..JobSpec::plain(JobKind::Selfplay, configuration(), marker.to_string())
    };
    let terms = Terms {
        tenant: ["", "ana"][dice.random_range(0..2)].to_owned(),
        ..Terms::default()
    };
    match dice.random_range(0..10) {
        0..=3 => Body::Submit { jobs: vec![spec] },
        4..=5 => Body::SubmitWith {
            jobs: vec![JobRequest { spec, terms }],
        },
        _ => Body::Hold(HoldVerb::SubmitYielding {
            jobs: vec![JobRequest { spec, terms }],
        }),
    }
}

/// A place to go on from with `job`, which is `done` far.
pub fn checkpoint(job: JobId, done: u64, holder: NodeId) -> JobCheckpoint {
    JobCheckpoint {
        blob: BlobHash::of(format!("{job} at {done}").as_bytes()),
        bytes: 100,
        done,
        holder,
    }
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
    enter(node, Role::Worker)
}

/// A voter enters the roster.
pub fn voter(node: NodeId) -> Body {
    enter(node, Role::Voter)
}

fn enter(node: NodeId, role: Role) -> Body {
    Body::AdmitNode(NodeRecord {
        id: node,
        name: format!("{role}-{}", node.0),
        role,
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
