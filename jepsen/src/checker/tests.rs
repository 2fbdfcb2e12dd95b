//! Each checker passes an honest history, finds what it is for, and says *unknown* when it saw nothing.

use super::*;
use crate::edn::Edn;
use crate::history::{Actor, Event, Kind};
use crate::nemesis::HEAL;
use crate::observed::ObservedJob;
use crate::verdict::{Validity, worst};

const ALL: [Workload; 6] = [
    Workload::Queue,
    Workload::Register,
    Workload::Lock,
    Workload::Repeat,
    Workload::Members,
    Workload::Watch,
];

/// Builds a history event by event, a tenth of a second apart.
#[derive(Default)]
struct Story(History);

impl Story {
    fn event(mut self, actor: Actor, kind: Kind, f: &str, value: Edn) -> Self {
        let index = self.0.events.len();
        let time_ns = index as i64 * 100_000_000;
        self.0.events.push(Event {
            index,
            time_ns,
            actor,
            kind,
            f: f.to_owned(),
            value,
            error: None,
        });
        self
    }

    /// A client's operation that is acknowledged at once.
    fn ok(self, f: &str, value: Edn) -> Self {
        let node = Edn::map([("node", value.get("node").cloned().unwrap_or(Edn::Nil))]);
        self.event(Actor::Client(0), Kind::Invoke, f, node).event(
            Actor::Client(0),
            Kind::Ok,
            f,
            value,
        )
    }

    /// A fault that took and was mended.
    fn fault(self, fault: Fault) -> Self {
        self.fault_that(fault, "installed")
    }

    fn fault_that(self, fault: Fault, outcome: &str) -> Self {
        let healed = Edn::map([
            ("fault", Edn::keyword(fault.to_string())),
            ("outcome", Edn::keyword(outcome)),
        ]);
        self.event(Actor::Nemesis, Kind::Info, &fault.to_string(), Edn::Nil)
            .event(Actor::Nemesis, Kind::Info, HEAL, healed)
    }

    /// A probe's write at `node` is acknowledged.
    fn probed(self, node: &str) -> Self {
        self.ok("probe", Edn::map([("node", Edn::from(node))]))
    }

    fn settings(self, node: &str, settings: &str) -> Self {
        let shown = Edn::map([("node", Edn::from(node)), ("settings", Edn::from(settings))]);
        self.ok("final-settings", shown)
    }

    /// A long time in which nothing is acknowledged.
    fn seconds(mut self, seconds: usize) -> Self {
        for _ in 0..seconds * 10 {
            self = self.event(Actor::Client(9), Kind::Info, "probe", Edn::Nil);
        }
        self
    }

    fn submitted(self, key: &str, job: i64) -> Self {
        self.ok(
            "submit",
            Edn::map([
                ("key", Edn::from(key)),
                ("jobs", Edn::Vector(vec![Edn::Int(job)])),
            ]),
        )
    }

    fn chained(self, parent: i64, child: i64) -> Self {
        let jobs = Edn::Vector(vec![Edn::Int(parent), Edn::Int(child)]);
        self.ok("chain", Edn::map([("jobs", jobs)]))
    }

    fn read(self, f: &str, node: &str, jobs: &[ObservedJob]) -> Self {
        let queue = ObservedQueue {
            linearizable: true,
            jobs: jobs.to_vec(),
        };
        self.ok(f, queue.to_edn(node))
    }

    fn games(self, games: i64) -> Self {
        self.ok(
            "games",
            Edn::map([
                ("linearizable", Edn::Bool(true)),
                ("games", Edn::Int(games)),
            ]),
        )
    }

    fn led(self) -> Self {
        self.ok(
            "leader",
            Edn::map([("leader", Edn::from("v1")), ("confirmed", Edn::Bool(true))]),
        )
    }
}

fn job(id: i64, state: &str, token: i64) -> ObservedJob {
    let done = state == "done";
    ObservedJob {
        id,
        key: None,
        kind: "selfplay".to_owned(),
        state: state.to_owned(),
        token: Some(token),
        losses: 0,
        outputs: i64::from(done),
        games: if done { 8 } else { 0 },
        made: if done {
            format!("made by {id}")
        } else {
            String::new()
        },
    }
}

/// The job 3, a match that waits for job 1.
fn child(state: &str) -> ObservedJob {
    ObservedJob {
        kind: "evaluate".to_owned(),
        games: 0,
        ..job(3, state, 250)
    }
}

/// A short run in which everything is as it should be.
fn honest() -> Story {
    Story::default()
        .led()
        .probed("v1")
        .fault(Fault::KillLeader)
        .probed("v1")
        .submitted("a", 1)
        .chained(1, 3)
        .read("jobs", "v1", &[child("waiting"), job(1, "leased", 100)])
        .led()
        .fault(Fault::KillLeader)
        .read("final-jobs", "v1", &[child("done"), job(1, "done", 200)])
        .games(8)
        .read("final-jobs", "v2", &[child("done"), job(1, "done", 200)])
        .probed("v1")
        .settings("v1", "a")
        .settings("v2", "a")
}

fn validity_of(story: Story, property: &str) -> Validity {
    let findings = judge(&story.0, &[Fault::KillLeader], &ALL);
    let finding = findings.iter().find(|finding| finding.property == property);
    finding
        .unwrap_or_else(|| panic!("no finding is about {property}"))
        .validity
}

#[test]
fn an_honest_run_is_valid() {
    let findings = judge(&honest().0, &[Fault::KillLeader], &[Workload::Queue]);
    assert_eq!(worst(&findings), Validity::Valid, "{findings:#?}");
}

/// An empty history proves nothing about anything.
#[test]
fn silence_is_unknown() {
    for finding in judge(&History::default(), &[Fault::Pause], &ALL) {
        assert_eq!(finding.validity, Validity::Unknown, "{finding}");
    }
}

/// A fault that was ordered and did not fire makes the run void, however well it went.
#[test]
fn a_fault_that_did_not_fire_voids_the_run() {
    let findings = judge(
        &honest().0,
        &[Fault::KillLeader, Fault::Pause],
        &[Workload::Queue],
    );
    assert_eq!(worst(&findings), Validity::Unknown);
}

#[test]
fn a_lost_job_is_found() {
    let lost = honest()
        .submitted("b", 2)
        .read("final-jobs", "v1", &[job(1, "done", 200)]);
    assert_eq!(validity_of(lost, "no acked job lost"), Validity::Invalid);
    let dead = honest().submitted("b", 2).read(
        "final-jobs",
        "v1",
        &[job(2, "dead", 300), job(1, "done", 200)],
    );
    assert_eq!(validity_of(dead, "no acked job lost"), Validity::Invalid);
    let shared = honest().submitted("b", 1);
    assert_eq!(validity_of(shared, "no acked job lost"), Validity::Invalid);
}

/// A child that runs, or is done, before its parent is done.
#[test]
fn a_child_before_its_parent_is_found() {
    for (above, below) in [("leased", "leased"), ("ready", "done"), ("dead", "ready")] {
        let early = honest().read("jobs", "v1", &[child(below), job(1, above, 200)]);
        let found = validity_of(early, "parents before children");
        assert_eq!(found, Validity::Invalid, "{above} {below}");
    }
    let waits = honest().read("jobs", "v1", &[child("waiting"), job(1, "leased", 200)]);
    let found = validity_of(waits, "parents before children");
    assert_eq!(found, Validity::Valid);
}

/// A process that goes on after its disk failed, and a cluster that does not learn that a path became narrow.
#[test]
fn what_a_fault_must_not_do_is_found() {
    let healed = |fault: Fault, about: &str, detail: &str| {
        let value = Edn::map([
            ("fault", Edn::keyword(fault.to_string())),
            ("outcome", Edn::keyword("installed")),
            ("detail", Edn::from(detail)),
        ]);
        let story = honest().event(Actor::Nemesis, Kind::Info, HEAL, value);
        let findings = judge(&story.0, &[fault], &[]);
        let finding = findings
            .into_iter()
            .find(|finding| finding.property == about);
        finding.unwrap().validity
    };
    let synced = |detail| healed(Fault::SyncError, "failed syncs end the process", detail);
    assert_eq!(synced("3 of them; it ended"), Validity::Valid);
    assert_eq!(synced("3 of them; it went on"), Validity::Invalid);
    let written = |detail| healed(Fault::Mtu, "long writes come through", detail);
    assert_eq!(written("3 of 9"), Validity::Valid);
    assert_eq!(written("0 of 9; none came through"), Validity::Invalid);
}

#[test]
fn a_second_completion_is_found() {
    let twice = ObservedJob {
        outputs: 2,
        ..job(1, "done", 200)
    };
    assert_eq!(
        validity_of(
            honest().read("final-jobs", "v1", &[twice]),
            "jobs complete once"
        ),
        Validity::Invalid
    );
    let back = honest().read("final-jobs", "v1", &[job(1, "ready", 200)]);
    assert_eq!(validity_of(back, "jobs complete once"), Validity::Invalid);
    let other = ObservedJob {
        made: "something else".to_owned(),
        ..job(1, "done", 200)
    };
    assert_eq!(
        validity_of(
            honest().read("final-jobs", "v1", &[other]),
            "jobs complete once"
        ),
        Validity::Invalid
    );
}

#[test]
fn a_falling_or_shared_token_is_found() {
    let falls = honest().read("final-jobs", "v1", &[job(1, "done", 150)]);
    assert_eq!(validity_of(falls, "tokens rise"), Validity::Invalid);
    let shared = honest().read(
        "final-jobs",
        "v1",
        &[job(1, "done", 200), job(2, "leased", 200)],
    );
    assert_eq!(validity_of(shared, "tokens rise"), Validity::Invalid);
}

#[test]
fn a_game_counted_twice_is_found() {
    let twice = honest()
        .games(16)
        .read("final-jobs", "v1", &[job(1, "done", 200)]);
    assert_eq!(validity_of(twice, "games counted once"), Validity::Invalid);
}

#[test]
fn a_diverged_replica_is_found() {
    let other = ObservedJob {
        made: "something else".to_owned(),
        ..job(1, "done", 200)
    };
    assert_eq!(
        validity_of(
            honest().read("final-jobs", "v3", &[other]),
            "replicas agree"
        ),
        Validity::Invalid
    );
}

/// A fault nobody saw take counts as none.
#[test]
fn an_indeterminate_fault_does_not_count() {
    let story = honest()
        .fault_that(Fault::Pause, "indeterminate")
        .probed("v1");
    let findings = judge(
        &story.0,
        &[Fault::KillLeader, Fault::Pause],
        &[Workload::Queue],
    );
    assert_eq!(findings[0].detail, "never: pause (1 times indeterminate)");
}

/// Writes may stop while there is no majority, but not for long while there is one, and they have to come back.
#[test]
fn a_long_outage_is_found() {
    let outage = |fault: Fault, before, after| {
        let story = honest().event(Actor::Nemesis, Kind::Info, &format!("{fault}"), Edn::Nil);
        let healed = Edn::map([("fault", Edn::keyword(fault.to_string()))]);
        let story = story
            .seconds(before)
            .event(Actor::Nemesis, Kind::Info, HEAL, healed);
        validity_of(story.seconds(after).probed("v1"), "writes go on")
    };
    assert_eq!(outage(Fault::KillLeader, 21, 1), Validity::Invalid);
    assert_eq!(outage(Fault::KillLeader, 10, 1), Validity::Valid);
    assert_eq!(outage(Fault::KillAll, 21, 1), Validity::Valid);
    assert_eq!(outage(Fault::KillAll, 1, 61), Validity::Invalid);
}

#[test]
fn diverged_settings_are_found() {
    let story = honest().settings("v3", "b");
    assert_eq!(
        validity_of(story, "replicas agree on settings"),
        Validity::Invalid
    );
}

fn locked(token: i64, asked: usize, told: usize, released: Option<usize>) -> [Event; 3] {
    let value = Edn::map([
        ("lock", Edn::from("a")),
        ("ttl", Edn::Int(2_000)),
        ("token", Edn::Int(token)),
    ]);
    let event = |at: usize, kind, f: &str| Event {
        index: 0,
        time_ns: at as i64 * 1_000_000_000,
        actor: Actor::Client(token),
        kind,
        f: f.to_owned(),
        value: value.clone(),
        error: None,
    };
    let release = released.map(|at| event(at, Kind::Invoke, "release"));
    [
        event(asked, Kind::Invoke, "acquire"),
        event(told, Kind::Ok, "acquire"),
        release.unwrap_or_else(|| event(told, Kind::Info, "leader")),
    ]
}

/// A lock of two seconds asked for at 1 s is free at 3 s, or when it is given back, and not before.
#[test]
fn a_lock_held_by_two_is_found() {
    let judged = |first: [Event; 3], second: [Event; 3]| {
        let mut events = [first, second].concat();
        events.sort_by_key(|event| event.time_ns);
        validity_of(Story(History { events }), "locks are held by one")
    };
    assert_eq!(
        judged(locked(10, 1, 1, None), locked(20, 2, 4, None)),
        Validity::Valid
    );
    assert_eq!(
        judged(locked(10, 1, 1, None), locked(20, 2, 2, None)),
        Validity::Invalid
    );
    assert_eq!(
        judged(locked(10, 1, 1, Some(2)), locked(20, 2, 2, None)),
        Validity::Valid
    );
    assert_eq!(
        judged(locked(20, 1, 1, None), locked(10, 4, 4, None)),
        Validity::Invalid
    );
    assert_eq!(
        judged(locked(10, 1, 1, None), locked(10, 4, 4, None)),
        Validity::Invalid
    );
}

fn counted(token: i64, bare: i64, fenced: Option<i64>) -> Edn {
    Edn::map([
        ("lock", Edn::from("a")),
        ("token", Edn::Int(token)),
        ("bare", Edn::Int(bare)),
        ("fenced", fenced.into()),
    ])
}

#[test]
fn a_lost_count_behind_the_fence_is_found() {
    let honest = || {
        Story::default()
            .ok("count", counted(20, 1, Some(1)))
            .ok("count", counted(10, 1, None))
    };
    assert_eq!(validity_of(honest(), "fenced counts hold"), Validity::Valid);
    let lost = honest().ok("count", counted(30, 2, Some(1)));
    assert_eq!(validity_of(lost, "fenced counts hold"), Validity::Invalid);
    let easy = Story::default().ok("count", counted(20, 1, Some(1)));
    assert_eq!(validity_of(easy, "fenced counts hold"), Validity::Unknown);
}

fn changed(changes: &[(i64, &str, &str)]) -> Edn {
    let change = |(revision, key, value): &(i64, &str, &str)| {
        Edn::Vector(vec![
            Edn::Int(*revision),
            Edn::from(*key),
            Edn::from(*value),
        ])
    };
    Edn::map([("changes", Edn::Vector(changes.iter().map(change).collect()))])
}

/// A holder that lost its lock must not write; seen across two lists that overlap.
#[test]
fn a_setting_written_by_a_former_holder_is_found() {
    let lists = |last| {
        let first = changed(&[(5, "guarded-a", "10"), (6, "once-1", "77")]);
        let fenced = Some("400 fenced: lock `a` is not held under this token".to_owned());
        let mut story = Story::default()
            .ok("changes", first)
            .ok(
                "changes",
                changed(&[(6, "once-1", "77"), (9, "guarded-a", last)]),
            )
            .event(Actor::Client(3), Kind::Fail, "guarded", Edn::Nil);
        if let Some(event) = story.0.events.last_mut() {
            event.error = fenced;
        }
        story
    };
    assert_eq!(
        validity_of(lists("20"), "guarded settings"),
        Validity::Valid
    );
    assert_eq!(
        validity_of(lists("9"), "guarded settings"),
        Validity::Invalid
    );
}

#[test]
fn a_repeat_with_two_effects_or_replies_is_found() {
    let replies = |second: &str| {
        let replies = vec![Edn::from("a"), Edn::from(second)];
        Story::default().ok("repeat", Edn::map([("replies", Edn::Vector(replies))]))
    };
    assert_eq!(
        validity_of(replies("a"), "same reply to a repeat"),
        Validity::Valid
    );
    assert_eq!(
        validity_of(replies("b"), "same reply to a repeat"),
        Validity::Invalid
    );
    let effects = |order| {
        let list = changed(&[(5, "once-1", "77"), (6, "once-1", order)]);
        Story::default().ok("changes", list)
    };
    assert_eq!(
        validity_of(effects("78"), "each effect once"),
        Validity::Valid
    );
    assert_eq!(
        validity_of(effects("77"), "each effect once"),
        Validity::Invalid
    );
}
