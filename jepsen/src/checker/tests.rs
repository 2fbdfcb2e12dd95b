//! Each checker passes an honest history, finds what it is for, and says *unknown* when it saw nothing.

use super::*;
use crate::edn::Edn;
use crate::history::{Actor, Event, Kind};
use crate::observed::ObservedJob;
use crate::verdict::{Validity, worst};

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

    fn fault(self, fault: Fault) -> Self {
        self.event(Actor::Nemesis, Kind::Info, &fault.to_string(), Edn::Nil)
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

/// A short run in which everything is as it should be.
fn honest() -> Story {
    Story::default()
        .led()
        .fault(Fault::KillLeader)
        .submitted("a", 1)
        .read("jobs", "v1", &[job(1, "leased", 100)])
        .led()
        .fault(Fault::KillLeader)
        .read("final-jobs", "v1", &[job(1, "done", 200)])
        .games(8)
        .read("final-jobs", "v2", &[job(1, "done", 200)])
}

fn validity_of(story: Story, property: &str) -> Validity {
    let findings = judge(&story.0, &[Fault::KillLeader]);
    let finding = findings.iter().find(|finding| finding.property == property);
    finding
        .unwrap_or_else(|| panic!("no finding is about {property}"))
        .validity
}

#[test]
fn an_honest_run_is_valid() {
    let findings = judge(&honest().0, &[Fault::KillLeader]);
    assert_eq!(worst(&findings), Validity::Valid, "{findings:#?}");
}

/// An empty history proves nothing about anything.
#[test]
fn silence_is_unknown() {
    for finding in judge(&History::default(), &[Fault::Pause]) {
        assert_eq!(finding.validity, Validity::Unknown, "{finding}");
    }
}

/// A fault that was ordered and did not fire makes the run void, however well it went.
#[test]
fn a_fault_that_did_not_fire_voids_the_run() {
    let findings = judge(&honest().0, &[Fault::KillLeader, Fault::Pause]);
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

#[test]
fn a_long_time_without_a_leader_is_found() {
    let mut story = honest();
    for _ in 0..201 {
        story = story.event(Actor::Client(9), Kind::Info, "leader", Edn::Nil);
    }
    assert_eq!(
        validity_of(story.led(), "leader availability"),
        Validity::Invalid
    );
}
