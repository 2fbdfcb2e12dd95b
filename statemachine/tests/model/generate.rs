//! Random commands that mostly make sense: ids and tokens are picked among those the reference knows, with strays.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use proptest::prelude::*;
use riftmesh_base::{
    BlobHash, ConfigurationName, JobId, LogIndex, Millis, NodeId, SessionId, Token,
};
use riftmesh_statemachine::command::{Body, Loss, Origin};
use riftmesh_statemachine::hold::{HoldVerb, JobCheckpoint};
use riftmesh_statemachine::job::{
    DeviceNeed, JobKind, JobPhase, JobSpec, MatchRecord, ModelRecord, Needs, Output, Player,
    RetryPolicy, SegmentRecord,
};
use riftmesh_statemachine::level::LEVEL;
use riftmesh_statemachine::roster::{NodeRecord, Role};
use riftmesh_statemachine::terms::{AfterPolicy, JobRequest, KeyScope, Offer, TenantShare, Terms};
use riftmesh_statemachine::trust::TrustVerb;

use crate::reference::Reference;
use crate::services::{ServiceAction, service_action, service_body};
use crate::trust::trust_verb;

/// A command to be, and the client that sends it.
#[derive(Debug, Clone)]
pub struct Step {
    /// Client, and which of its commands this is: mostly its next one.
    client: Option<(u64, Which)>,
    pub action: Action,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Next,
    Repeat,
    Stale,
}

/// What to ask. Numbers without a unit are resolved against the reference when the time has come.
#[derive(Debug, Clone)]
pub enum Action {
    Admit {
        node: u64,
    },
    Forget {
        node: u64,
    },
    Drain {
        node: u64,
        drain: bool,
    },
    DrainWithin {
        node: u64,
        grace: u64,
    },
    Open {
        node: u64,
        generation: u64,
        slots: u16,
        cuda: bool,
        /// Memory of the device and a label, which a plain session does not offer.
        more: Option<u32>,
    },
    Share {
        tenant: u8,
        share: Option<TenantShare>,
    },
    Expire {
        session: u64,
    },
    Submit {
        spec: Box<JobSpec>,
        terms: Box<Terms>,
        after: Vec<u64>,
        delay: Option<u64>,
        copies: usize,
        yields: bool,
    },
    Claim {
        session: u64,
        kinds: Vec<JobKind>,
        jobs_max: u16,
    },
    Held {
        job: u64,
        stray: bool,
        verb: Verb,
    },
    Cancel {
        job: u64,
    },
    Requeue {
        job: u64,
    },
    TakeBack {
        job: u64,
    },
    Register {
        model: u8,
    },
    Reject {
        model: u8,
    },
    Match {
        name: u8,
        model: u8,
        opponent: u8,
        wins: u32,
        losses: u32,
    },
    Promote {
        model: u8,
        stray: bool,
    },
    Rollback {
        model: u8,
    },
    Tick,
    Upgrade {
        ahead: u32,
        known: bool,
    },
    Service(ServiceAction),
    Trust(TrustVerb),
}

/// What a holder says.
#[derive(Debug, Clone)]
pub enum Verb {
    Progress,
    Complete { hash: u8, odd: bool },
    Fail { retry: bool },
    Release,
    Checkpoint { blob: u8 },
}

const BUDGET: u32 = 16;

pub fn configuration() -> ConfigurationName {
    "hex8_2p".parse().unwrap()
}

fn kind() -> impl Strategy<Value = JobKind> {
    prop_oneof![3 => Just(JobKind::Selfplay), 1 => Just(JobKind::Train), 1 => Just(JobKind::Evaluate)]
}

fn spec() -> impl Strategy<Value = JobSpec> {
    let needs = (1u16..4, prop::bool::weighted(0.2));
    let retry = (1u32..4, prop_oneof![Just(0u64), Just(500), Just(30_000)]);
    let key = prop::option::weighted(0.2, 0u8..3);
    (kind(), 0u8..4, key, needs, retry).prop_map(
        |(kind, priority, key, (slots, cuda), (attempts_max, backoff))| JobSpec {
            kind,
            configuration: configuration(),
            payload: "{}".to_owned(),
            priority: 100 + priority,
            unique_key: key.map(|key| format!("key-{key}")),
            after: Vec::new(),
            not_before: Millis(0),
            needs: Needs {
                slots,
                device: if cuda {
                    DeviceNeed::Cuda
                } else {
                    DeviceNeed::Any
                },
            },
            retry: RetryPolicy {
                attempts_max,
                backoff: Millis(backoff),
                backoff_max: Millis(40_000),
            },
        },
    )
}

const TENANTS: [&str; 3] = ["", "blue", "red"];

/// The default terms for half of the jobs.
fn terms() -> impl Strategy<Value = Terms> {
    let after = prop_oneof![
        2 => Just(AfterPolicy::AllDone),
        1 => Just(AfterPolicy::AnyDone),
        1 => Just(AfterPolicy::AllOver),
    ];
    let scope = prop_oneof![
        Just(KeyScope::Cluster),
        Just(KeyScope::Configuration),
        Just(KeyScope::Tenant),
    ];
    let memory = prop_oneof![4 => Just(0u32), 1 => 1u32..30];
    let every = prop::option::weighted(0.1, 1_000u64..60_000);
    let label = prop::bool::weighted(0.2);
    let own = (0usize..3, label, memory, after, scope, every).prop_map(
        |(tenant, label, gpu_memory_mib, after, scope, every)| Terms {
            tenant: TENANTS[tenant].to_owned(),
            labels: label.then(|| "big".to_owned()).into_iter().collect(),
            gpu_memory_mib,
            after,
            scope,
            every: every.map(Millis),
        },
    );
    prop_oneof![1 => Just(Terms::default()), 1 => own]
}

fn share() -> impl Strategy<Value = TenantShare> {
    let limit = || prop::option::weighted(0.3, 1u32..6);
    (1u16..5, limit(), limit()).prop_map(|(weight, jobs_live_max, slots_max)| TenantShare {
        weight,
        jobs_live_max,
        slots_max,
    })
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        1 => Just(Verb::Progress),
        6 => (0u8..24, prop::bool::weighted(0.05)).prop_map(|(hash, odd)| Verb::Complete { hash, odd }),
        2 => prop::bool::weighted(0.8).prop_map(|retry| Verb::Fail { retry }),
        2 => Just(Verb::Release),
        2 => (0u8..6).prop_map(|blob| Verb::Checkpoint { blob }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let nodes = 1u64..4;
    let submit = (
        (spec(), terms()),
        prop::collection::vec(0u64..64, 0..3),
        prop::option::weighted(0.2, 1u64..60_000),
        (1usize..4, prop::bool::weighted(0.3)),
    );
    let kinds =
        prop_oneof![3 => Just(JobKind::ALL.to_vec()), 1 => kind().prop_map(|kind| vec![kind])];
    let reported = (0u8..60, 0u8..6, 0u8..10, 0u32..80, 0u32..50);
    prop_oneof![
        2 => nodes.clone().prop_map(|node| Action::Admit { node }),
        1 => nodes.clone().prop_map(|node| Action::Forget { node }),
        1 => (nodes.clone(), prop::bool::weighted(0.4)).prop_map(|(node, drain)| Action::Drain { node, drain }),
        1 => (nodes.clone(), 0u64..40_000).prop_map(|(node, grace)| Action::DrainWithin { node, grace }),
        3 => (nodes, 0u64..3, 0u16..6, any::<bool>(), prop::option::of(0u32..40))
            .prop_map(|(node, generation, slots, cuda, more)| Action::Open { node, generation, slots, cuda, more }),
        2 => (1u8..3, prop::option::weighted(0.6, share())).prop_map(|(tenant, share)| Action::Share { tenant, share }),
        1 => (0u64..64).prop_map(|session| Action::Expire { session }),
        8 => submit.prop_map(|((spec, terms), after, delay, (copies, yields))| Action::Submit { spec: Box::new(spec), terms: Box::new(terms), after, delay, copies, yields }),
        8 => (0u64..64, kinds, 1u16..5).prop_map(|(session, kinds, jobs_max)| Action::Claim { session, kinds, jobs_max }),
        16 => (0u64..64, prop::bool::weighted(0.1), verb()).prop_map(|(job, stray, verb)| Action::Held { job, stray, verb }),
        2 => (0u64..64).prop_map(|job| Action::Cancel { job }),
        2 => (0u64..64).prop_map(|job| Action::Requeue { job }),
        1 => (0u64..64).prop_map(|job| Action::TakeBack { job }),
        5 => (0u8..6).prop_map(|model| Action::Register { model }),
        1 => (0u8..18).prop_map(|model| Action::Reject { model }),
        24 => reported.prop_map(|(name, model, opponent, wins, losses)| Action::Match { name, model, opponent, wins, losses }),
        20 => (0u8..6, prop::bool::weighted(0.1)).prop_map(|(model, stray)| Action::Promote { model, stray }),
        16 => (0u8..6).prop_map(|model| Action::Rollback { model }),
        1 => Just(Action::Tick),
        2 => (0u32..3, prop::bool::weighted(0.8)).prop_map(|(ahead, known)| Action::Upgrade { ahead, known }),
        8 => service_action().prop_map(Action::Service),
        4 => trust_verb().prop_map(Action::Trust),
    ]
}

/// Two nodes with a session each: a story without workers has little to tell. And as many upgrades.
fn prologue(upgrades: usize) -> Vec<Step> {
    let of_node = |node| {
        let open = Action::Open {
            node,
            generation: 0,
            slots: 4,
            cuda: node == 1,
            more: (node == 1).then_some(40),
        };
        [Action::Admit { node }, open]
    };
    let actions = [1, 2].into_iter().flat_map(of_node);
    let upgrade = Action::Upgrade {
        ahead: 1,
        known: true,
    };
    actions
        .chain(vec![upgrade; upgrades])
        .map(|action| Step {
            client: None,
            action,
        })
        .collect()
}

/// Entries: the time since the one before, and what is asked. Most have one command, so that the invariants are looked
/// at after each; some have many.
pub fn steps() -> impl Strategy<Value = Vec<(u64, Vec<Step>)>> {
    let which =
        prop_oneof![7 => Just(Which::Next), 2 => Just(Which::Repeat), 1 => Just(Which::Stale)];
    let client = prop::option::weighted(0.3, (0u64..4, which));
    let step = (client, action())
        .prop_map(|(client, action)| Step { client, action })
        .boxed();
    let wait = prop_oneof![3 => Just(0u64), 3 => 0u64..2_000, 1 => 0u64..50_000];
    let commands = prop_oneof![5 => prop::collection::vec(step.clone(), 1), 1 => prop::collection::vec(step, 2..6)];
    let entries = prop::collection::vec((wait, commands), 1..200);
    // Mostly at the last level: the earlier ones have less to tell.
    let upgrades = prop_oneof![1 => 0usize..2, 2 => Just(LEVEL as usize - 1)];
    (upgrades, entries).prop_map(|(upgrades, entries)| {
        let first = std::iter::once((0, prologue(upgrades)));
        first.chain(entries).collect()
    })
}

pub fn origin(step: &Step, reference: &Reference) -> Option<Origin> {
    let (client, which) = step.client?;
    let last = reference
        .clients
        .iter()
        .find(|c| c.0 == client)
        .map(|c| c.1);
    let seq = match (last, which) {
        (None, _) => 1,
        (Some(last), Which::Next) => last + 1,
        (Some(last), Which::Repeat) => last,
        (Some(last), Which::Stale) => last - 1,
    };
    Some(Origin { client, seq })
}

/// A job that exists, or the next one, which does not.
fn job(pick: u64, reference: &Reference) -> JobId {
    JobId(1 + pick % (reference.entered + 1))
}

/// A held job for most picks, so that random stories get somewhere.
fn held_job(pick: u64, reference: &Reference) -> JobId {
    let held = reference
        .jobs
        .iter()
        .filter(|job| job.holder.is_some() || job.phase == JobPhase::Done);
    let held: Vec<JobId> = held.map(|job| job.id).collect();
    match usize::try_from(pick).unwrap().checked_rem(held.len()) {
        Some(at) => held[at],
        None => job(pick, reference),
    }
}

fn session(pick: u64, reference: &Reference) -> SessionId {
    match usize::try_from(pick)
        .unwrap()
        .checked_rem(reference.sessions.len())
    {
        Some(at) if pick > 3 => reference.sessions[at].id,
        _ => SessionId(pick),
    }
}

fn model(number: u8) -> ModelRecord {
    ModelRecord {
        hash: BlobHash([number; 32]),
        bytes: 10,
        manifest: BlobHash([0xee; 32]),
        parent: None,
        shape: "tiny".to_owned(),
        rows: 1,
        steps: 1,
        holder: NodeId(1),
    }
}

fn result(number: u8, opponent: u8, wins: u32, losses: u32, reference: &Reference) -> MatchRecord {
    let player = |model| Player::Model {
        model,
        simulations: BUDGET,
    };
    let candidate = player(BlobHash([number; 32]));
    let untrained = Player::Untrained {
        simulations: BUDGET,
    };
    let opponent = match opponent {
        0..6 => reference.champion().map_or(untrained, player),
        6 => untrained,
        7 => Player::Random,
        other => player(BlobHash([other; 32])),
    };
    // Nobody plays against itself, and a match has games.
    let opponent = if opponent == candidate {
        Player::Heuristic
    } else {
        opponent
    };
    MatchRecord {
        candidate,
        opponent,
        wins: wins + u32::from(losses == 0),
        losses,
    }
}

fn held(pick: u64, stray: bool, verb: &Verb, reference: &Reference) -> Body {
    let job = held_job(pick, reference);
    let known = reference.job(job);
    let stale = Token::new(LogIndex(1), 7);
    let token = known
        .and_then(|job| job.token)
        .filter(|_| !stray)
        .unwrap_or(stale);
    match verb {
        Verb::Progress => Body::Progress {
            job,
            token,
            done: 1,
            total: 2,
        },
        Verb::Complete { hash, odd } => {
            let kind = known.map_or(JobKind::Selfplay, |job| job.spec.kind);
            let outputs = match known.map(|job| &job.outputs) {
                // Often the very same outputs again.
                Some(before) if !before.is_empty() && *hash > 4 => before.clone(),
                _ => vec![output(kind, *odd, *hash, reference)],
            };
            Body::Complete {
                job,
                token,
                outputs,
            }
        }
        Verb::Fail { retry } => Body::Fail {
            job,
            token,
            error: "it broke".to_owned(),
            retry: *retry,
        },
        Verb::Checkpoint { blob } => Body::Hold(HoldVerb::Checkpoint {
            job,
            token,
            checkpoint: JobCheckpoint {
                blob: BlobHash([*blob; 32]),
                bytes: u64::from(*blob),
                done: 1,
                holder: NodeId(1),
            },
        }),
        Verb::Release => Body::Release {
            job,
            token,
            reason: Loss::Process,
        },
    }
}

fn output(kind: JobKind, odd: bool, hash: u8, reference: &Reference) -> Output {
    let segment = SegmentRecord {
        hash: BlobHash([hash; 32]),
        bytes: 100,
        games: 1 + u32::from(hash),
        rows: 50,
        model: None,
        holder: NodeId(1),
    };
    match (kind, odd) {
        (JobKind::Selfplay, false) | (JobKind::Train, true) => Output::Segment(segment),
        (JobKind::Train, false) | (JobKind::Evaluate, true) => Output::Model(model(hash % 8)),
        (JobKind::Evaluate, false) | (JobKind::Selfplay, true) => {
            Output::Match(result(hash % 8, 0, 20, 10, reference))
        }
    }
}

/// A former champion if there is one, for most picks.
fn former(pick: u8, reference: &Reference) -> BlobHash {
    let was_champion = |state| ["superseded", "rolled back"].contains(&state);
    let models = reference.models.iter();
    let mut former = models
        .filter(|model| was_champion(model.state))
        .map(|m| m.hash);
    match former.next() {
        Some(first) if pick > 0 => former.nth(usize::from(pick)).unwrap_or(first),
        _ => BlobHash([pick; 32]),
    }
}

pub fn body(action: &Action, reference: &Reference) -> Body {
    let configuration = configuration();
    match action.clone() {
        Action::Admit { node } => Body::AdmitNode(NodeRecord {
            id: NodeId(node),
            name: format!("n{node}"),
            role: if node == 1 { Role::Voter } else { Role::Worker },
            address: String::new(),
        }),
        Action::Forget { node } => Body::ForgetNode { node: NodeId(node) },
        Action::Drain { node, drain } => Body::DrainNode {
            node: NodeId(node),
            drain,
        },
        Action::DrainWithin { node, grace } => Body::DrainWithin {
            node: NodeId(node),
            grace: Millis(grace),
        },
        Action::Open {
            node,
            generation,
            slots,
            cuda,
            more: None,
        } => Body::OpenSession {
            node: NodeId(node),
            generation,
            slots,
            cuda,
        },
        Action::Open {
            node,
            generation,
            slots,
            cuda,
            more: Some(memory),
        } => Body::OpenWorker {
            node: NodeId(node),
            generation,
            offer: Offer {
                slots,
                cuda,
                gpu_memory_mib: memory,
                labels: vec!["big".to_owned(), "quiet".to_owned()],
            },
        },
        Action::Share { tenant, share } => Body::SetTenant {
            tenant: TENANTS[usize::from(tenant)].to_owned(),
            share,
        },
        Action::Expire { session: pick } => Body::ExpireSession {
            session: session(pick, reference),
            reason: Loss::Silent,
        },
        Action::Submit {
            spec,
            terms,
            after,
            delay,
            copies,
            yields,
        } => {
            let mut spec = *spec;
            // Mostly no dependency: a random one is often over already.
            let after = after.into_iter().filter(|pick| pick % 3 == 0);
            spec.after = after.map(|pick| job(pick, reference)).collect();
            spec.not_before = Millis(delay.map_or(0, |delay| reference.now + delay));
            // A device need for those that ask for memory, mostly: without one they are refused.
            if terms.gpu_memory_mib % 5 > 0 {
                spec.needs.device = DeviceNeed::Cuda;
            }
            if yields {
                let terms = *terms;
                let jobs = vec![JobRequest { spec, terms }; copies];
                return Body::Hold(HoldVerb::SubmitYielding { jobs });
            }
            if *terms != Terms::default() {
                let terms = *terms;
                let jobs = vec![JobRequest { spec, terms }; copies];
                return Body::SubmitWith { jobs };
            }
            Body::Submit {
                jobs: vec![spec; copies],
            }
        }
        Action::Claim {
            session: pick,
            kinds,
            jobs_max,
        } => Body::Claim {
            session: session(pick, reference),
            kinds,
            jobs_max,
        },
        Action::Held { job, stray, verb } => held(job, stray, &verb, reference),
        Action::Cancel { job: pick } => Body::Cancel {
            job: if pick % 2 == 0 {
                held_job(pick, reference)
            } else {
                job(pick, reference)
            },
        },
        Action::Requeue { job: pick } => Body::Requeue {
            job: job(pick, reference),
        },
        Action::TakeBack { job: pick } => Body::TakeBack {
            job: held_job(pick, reference),
        },
        Action::Reject { model } => Body::RejectModel {
            configuration,
            model: BlobHash([model; 32]),
            reason: "diverged".to_owned(),
        },
        Action::Register { model: number } => Body::RegisterModel {
            configuration,
            model: model(number),
        },
        Action::Match {
            name,
            model,
            opponent,
            wins,
            losses,
        } => Body::ReportMatch {
            id: BlobHash([name; 32]),
            configuration,
            result: result(model, opponent, wins, losses, reference),
        },
        Action::Promote { model, stray } => Body::Promote {
            configuration,
            model: BlobHash([model; 32]),
            expected: reference.champion().filter(|_| !stray),
        },
        Action::Rollback { model } => Body::Rollback {
            configuration,
            model: former(model, reference),
            reason: "regression".to_owned(),
        },
        Action::Tick => Body::Tick,
        // A level beyond this build's would stop it.
        Action::Upgrade { ahead, known } => Body::UpgradeTo {
            level: (reference.level + ahead).min(LEVEL),
            advertised: vec![NodeId(if known { 1 } else { 2 })],
        },
        Action::Service(action) => service_body(&action, &reference.services),
        Action::Trust(verb) => Body::Trust(verb),
    }
}
