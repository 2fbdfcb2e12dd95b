//! The bytes of the log and of an image, pinned. A log entry is read again for ever: if one of these lines changes,
//! every cluster that upgrades loses its log, unless the command version rises and the old one stays readable.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, JoinTokenId, LogIndex, Millis, NodeId,
    SessionId, Token,
};
use riftmesh_statemachine::command::{BatchError, Body, COMMAND_VERSION, Loss, Origin};
use riftmesh_statemachine::hold::{HoldVerb, JobCheckpoint};
use riftmesh_statemachine::job::{
    DeviceNeed, JobKind, JobSpec, MatchRecord, ModelRecord, Needs, Output, Player, RetryPolicy,
    SegmentRecord,
};
use riftmesh_statemachine::level::LEVEL;
use riftmesh_statemachine::lock::{LockGuard, LockVerb};
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::rotation::{AuthorityChange, RotationPhase, RotationVerb};
use riftmesh_statemachine::setting::{Expected, SettingWrite};
use riftmesh_statemachine::terms::{AfterPolicy, JobRequest, KeyScope, Offer, TenantShare, Terms};
use riftmesh_statemachine::trust::{NewToken, Spend, TrustVerb};
use riftmesh_statemachine::{Batch, Command, Refusal, Reply, State};

const NODE: NodeId = NodeId(0x1122_3344_5566_7788);
const JOB: JobId = JobId(300);

fn configuration() -> ConfigurationName {
    "hex8_2p".parse().unwrap()
}

fn token() -> Token {
    Token::new(LogIndex(70_000), 3)
}

fn model() -> ModelRecord {
    ModelRecord {
        hash: BlobHash([0xa1; 32]),
        bytes: 123_456,
        manifest: BlobHash([0xa2; 32]),
        parent: Some(BlobHash([0xa3; 32])),
        shape: "tiny".to_owned(),
        rows: 400_000,
        steps: 1_500,
        holder: NODE,
    }
}

fn result(opponent: Player) -> MatchRecord {
    MatchRecord {
        candidate: Player::Model {
            model: BlobHash([0xa1; 32]),
            simulations: 64,
        },
        opponent,
        wins: 30,
        losses: 10,
    }
}

fn spec() -> JobSpec {
    JobSpec {
        kind: JobKind::Evaluate,
        configuration: configuration(),
        payload: r#"{"games":8}"#.to_owned(),
        priority: 100,
        unique_key: Some("round-7".to_owned()),
        after: vec![JobId(1), JobId(299)],
        not_before: Millis(90_000),
        needs: Needs {
            slots: 2,
            device: DeviceNeed::Cuda,
        },
        retry: RetryPolicy {
            attempts_max: 3,
            backoff: Millis(1_000),
            backoff_max: Millis(60_000),
        },
    }
}

fn outputs() -> Vec<Output> {
    let segment = SegmentRecord {
        hash: BlobHash([0xb1; 32]),
        bytes: 9_999,
        games: 8,
        rows: 420,
        model: None,
        holder: NODE,
    };
    vec![
        Output::Segment(segment),
        Output::Model(model()),
        Output::Match(result(Player::Untrained { simulations: 64 })),
    ]
}

/// One of each; the compiler asks for a line here when a command is added.
fn name(body: &Body) -> &'static str {
    match body {
        Body::FoundCluster { .. } => "FoundCluster",
        Body::AdmitNode(_) => "AdmitNode",
        Body::ForgetNode { .. } => "ForgetNode",
        Body::OpenSession { .. } => "OpenSession",
        Body::ExpireSession { .. } => "ExpireSession",
        Body::Submit { .. } => "Submit",
        Body::Claim { .. } => "Claim",
        Body::Progress { .. } => "Progress",
        Body::Complete { .. } => "Complete",
        Body::Fail { .. } => "Fail",
        Body::Release { .. } => "Release",
        Body::Cancel { .. } => "Cancel",
        Body::Requeue { .. } => "Requeue",
        Body::RegisterModel { .. } => "RegisterModel",
        Body::ReportMatch { .. } => "ReportMatch",
        Body::Promote { .. } => "Promote",
        Body::Rollback { .. } => "Rollback",
        Body::AddHolder { .. } => "AddHolder",
        Body::Tick => "Tick",
        Body::DrainNode { .. } => "DrainNode",
        Body::Lock(_) => "Lock",
        Body::WriteSetting(_) => "WriteSetting",
        Body::TakeBack { .. } => "TakeBack",
        Body::RejectModel { .. } => "RejectModel",
        Body::SubmitWith { .. } => "SubmitWith",
        Body::OpenWorker { .. } => "OpenWorker",
        Body::SetTenant { .. } => "SetTenant",
        Body::UpgradeTo { .. } => "UpgradeTo",
        Body::Trust(_) => "Trust",
        Body::Hold(_) => "Hold",
        Body::DrainWithin { .. } => "DrainWithin",
    }
}

fn bodies() -> Vec<Body> {
    let (job, token, configuration) = (JOB, token(), configuration());
    let mut bodies = vec![
        Body::FoundCluster {
            cluster: ClusterId([0xc1; 16]),
        },
        Body::AdmitNode(NodeRecord {
            id: NODE,
            name: "n1".to_owned(),
            role: Role::Worker,
            address: "10.0.0.1:7400".to_owned(),
        }),
        Body::ForgetNode { node: NODE },
        Body::OpenSession {
            node: NODE,
            generation: 5,
            slots: 8,
            cuda: true,
        },
        Body::Submit { jobs: vec![spec()] },
        Body::Claim {
            session: SessionId(9),
            kinds: JobKind::ALL.to_vec(),
            jobs_max: 4,
        },
        Body::Progress {
            job,
            token,
            done: 3,
            total: 8,
        },
        Body::Complete {
            job,
            token,
            outputs: outputs(),
        },
        Body::Fail {
            job,
            token,
            error: "out of memory".to_owned(),
            retry: true,
        },
        Body::Cancel { job },
        Body::Requeue { job },
        Body::RegisterModel {
            configuration: configuration.clone(),
            model: model(),
        },
        Body::Promote {
            configuration: configuration.clone(),
            model: BlobHash([0xa1; 32]),
            expected: None,
        },
        Body::Rollback {
            configuration: configuration.clone(),
            model: BlobHash([0xa3; 32]),
            reason: "regression".to_owned(),
        },
        Body::AddHolder {
            blob: BlobHash([0xb1; 32]),
            node: NODE,
        },
        Body::Tick,
        Body::DrainNode {
            node: NODE,
            drain: true,
        },
    ];
    let losses = [
        Loss::Silent,
        Loss::Down,
        Loss::Died,
        Loss::Replaced,
        Loss::Left,
        Loss::Process,
    ];
    for reason in losses {
        bodies.push(Body::ExpireSession {
            session: SessionId(9),
            reason,
        });
        bodies.push(Body::Release { job, token, reason });
    }
    for opponent in [Player::Random, Player::Heuristic] {
        bodies.push(Body::ReportMatch {
            id: BlobHash([0xd1; 32]),
            configuration: configuration.clone(),
            result: result(opponent),
        });
    }
    bodies.extend(services());
    bodies.extend(work());
    bodies.extend(trust());
    bodies.extend(holds());
    bodies.extend(rotation());
    bodies
}

/// Later commands. They stand behind the commands that were there before them: the image below has lived through
/// all of these in this order.
fn services() -> Vec<Body> {
    let name = || "exporter".to_owned();
    let write = |value: Option<&str>, expected, guard| {
        Body::WriteSetting(SettingWrite {
            key: "loop.paused".to_owned(),
            value: value.map(str::to_owned),
            expected,
            author: "alice".to_owned(),
            guard,
        })
    };
    let guard = LockGuard {
        name: name(),
        token: token(),
    };
    vec![
        Body::Lock(LockVerb::Acquire {
            name: name(),
            owner: "alice".to_owned(),
            ttl: Millis(30_000),
        }),
        Body::Lock(LockVerb::Renew {
            name: name(),
            token: token(),
            ttl: Millis(30_000),
        }),
        Body::Lock(LockVerb::Release {
            name: name(),
            token: token(),
        }),
        write(Some("true"), Expected::Any, None),
        write(Some("false"), Expected::Absent, None),
        write(None, Expected::Revision(300), Some(guard)),
        Body::TakeBack { job: JOB },
        Body::RejectModel {
            configuration: configuration(),
            model: BlobHash([0xa1; 32]),
            reason: "diverged".to_owned(),
        },
        Body::Release {
            job: JOB,
            token: token(),
            reason: Loss::TakenBack,
        },
    ]
}

/// Jobs on terms of their own, and those who can run them.
fn work() -> Vec<Body> {
    let terms = Terms {
        tenant: "red".to_owned(),
        labels: vec!["big".to_owned(), "quiet".to_owned()],
        gpu_memory_mib: 20_000,
        after: AfterPolicy::AnyDone,
        scope: KeyScope::Configuration,
        every: Some(Millis(60_000)),
    };
    let others = Terms {
        after: AfterPolicy::AllOver,
        scope: KeyScope::Tenant,
        ..Terms::default()
    };
    let share = TenantShare {
        weight: 300,
        jobs_live_max: Some(1_000),
        slots_max: None,
    };
    let jobs = [terms, others, Terms::default()].map(|terms| JobRequest {
        spec: spec(),
        terms,
    });
    vec![
        Body::SubmitWith {
            jobs: jobs.into_iter().collect(),
        },
        Body::OpenWorker {
            node: NODE,
            generation: 5,
            offer: Offer {
                slots: 8,
                cuda: true,
                gpu_memory_mib: 80_000,
                labels: vec!["big".to_owned()],
            },
        },
        Body::SetTenant {
            tenant: "red".to_owned(),
            share: Some(share),
        },
        Body::SetTenant {
            tenant: "blue".to_owned(),
            share: None,
        },
        Body::UpgradeTo {
            level: 2,
            advertised: vec![NODE],
        },
    ]
}

/// Who may join and who is trusted.
fn trust() -> Vec<Body> {
    let (id, at) = (
        JoinTokenId(0xa1a2_a3a4_a5a6_a7a8),
        Millis(1_800_000_000_000),
    );
    let (secret, key) = (BlobHash([0xe1; 32]), BlobHash([0xe2; 32]));
    // Not the node of the other commands, which goes on living.
    let node = NodeId(0x99);
    let verbs = [
        TrustVerb::CreateToken(NewToken {
            id,
            secret,
            role: Role::Worker,
            uses: 300,
            expires: at + Millis::from_secs(3_600),
            at,
        }),
        TrustVerb::SpendToken(Spend {
            token: id,
            secret,
            node,
            key,
            at,
        }),
        TrustVerb::RenewCertificate { node, key, at },
        TrustVerb::RevokeToken { id },
        TrustVerb::RevokeCertificate {
            node,
            reason: "stolen".to_owned(),
            at,
        },
    ];
    verbs.map(Body::Trust).into_iter().collect()
}

/// A node is drained in time, and the authority is replaced.
fn rotation() -> Vec<Body> {
    let at = Millis(1_800_000_000_000);
    let change = AuthorityChange {
        present: vec![0xca; 3],
        next: vec![0xcb; 3],
        at,
    };
    let authority = BlobHash::of(&change.next);
    let step = |node, step| RotationVerb::Adopt {
        node,
        authority,
        step,
    };
    let advance = |phase, force| RotationVerb::Advance { phase, force, at };
    let verbs = [
        RotationVerb::Begin(change),
        RotationVerb::Abort,
        step(NODE, RotationPhase::Trusting),
        advance(RotationPhase::Trusting, true),
        step(NODE, RotationPhase::Renewing),
        advance(RotationPhase::Renewing, false),
    ];
    let drain = Body::DrainWithin {
        node: NODE,
        grace: Millis(60_000),
    };
    let release = Body::Release {
        job: JOB,
        token: token(),
        reason: Loss::Drained,
    };
    let verbs = verbs.map(|verb| Body::Trust(TrustVerb::Rotate(verb)));
    [drain, release].into_iter().chain(verbs).collect()
}

/// Jobs that can stop and go on.
fn holds() -> Vec<Body> {
    vec![
        Body::UpgradeTo {
            level: 3,
            advertised: vec![NODE],
        },
        Body::Hold(HoldVerb::Checkpoint {
            job: JOB,
            token: token(),
            checkpoint: JobCheckpoint {
                blob: BlobHash([0xd1; 32]),
                bytes: 77_777,
                done: 400,
                holder: NODE,
            },
        }),
        Body::Hold(HoldVerb::SubmitYielding {
            jobs: vec![JobRequest {
                spec: spec(),
                terms: Terms::default(),
            }],
        }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Compares with a recorded file, or rewrites it.
fn recorded(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("RIFTMESH_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, text).unwrap();
        return;
    }
    let known = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text, known,
        "{name}: these bytes are in logs on disks; see the top of this test"
    );
}

/// Every command has the bytes it always had, and its bytes read back as itself.
#[test]
fn commands_keep_their_bytes() {
    let mut text = String::new();
    for body in bodies() {
        let origin = Some(Origin {
            client: 7,
            seq: 300,
        });
        for origin in [None, origin] {
            let command = Command {
                origin,
                body: body.clone(),
            };
            let bytes = riftmesh_base::encode(&command);
            assert_eq!(riftmesh_base::decode::<Command>(&bytes), Ok(command));
            if origin.is_none() || body == Body::Tick {
                writeln!(text, "{} {}", name(&body), hex(&bytes)).unwrap();
            }
        }
    }
    let batch = Batch::new(
        Millis(1_000_000),
        vec![
            Command {
                origin: None,
                body: Body::Tick
            };
            2
        ],
    );
    writeln!(text, "Batch {}", hex(&batch.to_bytes())).unwrap();
    recorded("encoding.golden", &text);
}

/// An entry of a later build is refused by its version, whatever follows it; damaged ones are refused, never a panic.
#[test]
fn foreign_entries_are_refused() {
    let batch = Batch::new(
        Millis(5),
        vec![Command {
            origin: None,
            body: Body::Submit { jobs: vec![spec()] },
        }],
    );
    let mut later = batch.clone();
    later.version = COMMAND_VERSION + 1;
    let version = Err(BatchError::Version {
        found: COMMAND_VERSION + 1,
    });
    assert_eq!(Batch::from_bytes(&later.to_bytes()), version);
    let mut garbage = riftmesh_base::encode(&(COMMAND_VERSION + 1));
    garbage.extend([0xff; 40]);
    assert_eq!(Batch::from_bytes(&garbage), version);
    let bytes = batch.to_bytes();
    for cut in 0..bytes.len() {
        assert!(matches!(
            Batch::from_bytes(&bytes[..cut]),
            Err(BatchError::Decode(_))
        ));
    }
}

/// A build stops before the entry that raises the level beyond its own, and not before one that every build refuses.
#[test]
fn unknown_levels_stop_this_build() {
    let upgrade = |level| {
        let advertised = vec![NODE];
        let body = Body::UpgradeTo { level, advertised };
        let command = Command { origin: None, body };
        Batch::new(Millis(5), vec![command])
    };
    let mut state = State::new();
    assert_eq!(state.check(&upgrade(LEVEL + 1)), Ok(()));
    let admit = Body::AdmitNode(NodeRecord {
        id: NODE,
        name: "n1".to_owned(),
        role: Role::Voter,
        address: String::new(),
    });
    let admit = Command {
        origin: None,
        body: admit,
    };
    state.apply(LogIndex(1), &Batch::new(Millis(5), vec![admit]));
    for level in 2..=LEVEL {
        assert_eq!(state.check(&upgrade(level)), Ok(()));
        state.apply(LogIndex(u64::from(level)), &upgrade(level));
        assert_eq!(state.level(), level);
    }
    let found = LEVEL + 1;
    assert_eq!(
        state.check(&upgrade(found)),
        Err(BatchError::Level { found })
    );
    assert_eq!(state.check(&upgrade(LEVEL + 2)), Ok(()));
    let (replies, _) = state.apply(LogIndex(90), &upgrade(LEVEL + 2));
    assert!(matches!(replies[0], Reply::Refused(Refusal::Conflict(_))));
}

/// A state that has been through one of each has the image it always had: its hash is pinned, so that a change of
/// what is replicated cannot slip in unnoticed.
#[test]
fn the_image_keeps_its_bytes() {
    let mut state = State::new();
    let commands = |bodies: &[Body]| {
        let commands = bodies.iter().map(|body| Command {
            origin: None,
            body: body.clone(),
        });
        commands.collect::<Vec<_>>()
    };
    let mut story = spec();
    story.after.clear();
    story.needs.device = DeviceNeed::Any;
    let mut text = String::new();
    for (index, bodies) in (1..).zip([bodies(), vec![Body::Submit { jobs: vec![story] }], bodies()])
    {
        let batch = Batch::new(Millis(index * 100_000), commands(&bodies));
        let (replies, effects) = state.apply(LogIndex(index), &batch);
        writeln!(
            text,
            "entry {index}: {} replies, {} effects, state {}",
            replies.len(),
            effects.len(),
            state.hash()
        )
        .unwrap();
        assert_eq!(state.validate(), Ok(()));
    }
    recorded("image.golden", &text);
}
