//! Tables whose caps are constants say when they are full, change nothing then, and still do what needs no room.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use riftmesh_base::{LogIndex, Millis};
use riftmesh_statemachine::bounds::{
    CLASSES_MAX, LOCKS_MAX, SETTING_CHANGES_KEPT, SETTINGS_MAX, TENANTS_MAX,
};
use riftmesh_statemachine::job::{JobKind, JobSpec};
use riftmesh_statemachine::lock::LockVerb;
use riftmesh_statemachine::setting::{Expected, SettingWrite};
use riftmesh_statemachine::terms::{JobRequest, TenantShare, Terms};
use riftmesh_statemachine::{Batch, Body, Command, Refusal, Reply, State};

fn apply(state: &mut State, body: Body) -> Reply {
    let index = LogIndex(state.applied().0 + 1);
    let command = Command { origin: None, body };
    let (mut replies, _) = state.apply(index, &Batch::new(Millis(1_000), vec![command]));
    replies.pop().unwrap()
}

fn is_full(reply: &Reply) -> bool {
    matches!(reply, Reply::Refused(Refusal::Full { .. }))
}

/// Fills a table with `max` entries; the next one is refused, and nothing is broken.
fn fill(max: usize, entry: impl Fn(usize) -> Body) -> State {
    let mut state = State::new();
    for number in 0..max {
        let reply = apply(&mut state, entry(number));
        assert!(!matches!(reply, Reply::Refused(_)), "{number}: {reply}");
    }
    let reply = apply(&mut state, entry(max));
    assert!(is_full(&reply), "{reply}");
    assert_eq!(state.validate(), Ok(()));
    state
}

fn lock(number: usize) -> Body {
    Body::Lock(LockVerb::Acquire {
        name: format!("lock-{number}"),
        owner: "somebody".to_owned(),
        ttl: Millis(60_000),
    })
}

fn setting(number: usize, value: Option<&str>) -> Body {
    Body::WriteSetting(SettingWrite {
        key: format!("key-{number}"),
        value: value.map(str::to_owned),
        expected: Expected::Any,
        author: "somebody".to_owned(),
        guard: None,
    })
}

fn job(terms: Terms) -> Body {
    let spec = JobSpec::plain(JobKind::Selfplay, "hex8_2p".parse().unwrap(), "");
    let jobs = vec![JobRequest { spec, terms }];
    Body::SubmitWith { jobs }
}

fn of(tenant: usize) -> Terms {
    Terms {
        tenant: format!("tenant-{tenant}"),
        ..Terms::default()
    }
}

fn labelled(label: usize) -> Terms {
    Terms {
        labels: vec![format!("label-{label}")],
        ..Terms::default()
    }
}

#[test]
fn locks_have_a_cap() {
    let mut state = fill(LOCKS_MAX, lock);
    let token = state.locks().next().unwrap().token;
    let name = state.locks().next().unwrap().name.clone();
    let release = Body::Lock(LockVerb::Release { name, token });
    assert_eq!(apply(&mut state, release), Reply::Done);
    assert!(!is_full(&apply(&mut state, lock(LOCKS_MAX))));
}

#[test]
fn settings_and_their_history_have_caps() {
    let mut state = fill(SETTINGS_MAX, |number| setting(number, Some("value")));
    for _ in 0..3 {
        assert!(!is_full(&apply(&mut state, setting(0, Some("other")))));
    }
    assert!(!is_full(&apply(&mut state, setting(1, None))));
    assert_eq!(state.setting_changes(None).count(), SETTING_CHANGES_KEPT);
    // Its first write has left the history, and the setting has not.
    assert_eq!(state.setting_changes(Some("key-2")).count(), 0);
    assert_eq!(state.setting("key-2").unwrap().revision, 3);
    assert_eq!(state.validate(), Ok(()));
    assert_eq!(State::restore(&state.snapshot()), Ok(state));
}

#[test]
fn tenants_have_a_cap() {
    let mut state = fill(TENANTS_MAX, |number| job(of(number)));
    // Nobody is shut out who was there before, named or not.
    assert!(!is_full(&apply(&mut state, job(of(0)))));
    assert!(!is_full(&apply(&mut state, job(labelled(0)))));
    fill(TENANTS_MAX, |number| Body::SetTenant {
        tenant: format!("tenant-{number}"),
        share: Some(TenantShare {
            weight: 1,
            jobs_live_max: None,
            slots_max: None,
        }),
    });
}

#[test]
fn different_needs_have_a_cap() {
    let mut state = fill(CLASSES_MAX, |number| job(labelled(number)));
    assert!(!is_full(&apply(&mut state, job(labelled(0)))));
    // What needs nothing but what jobs have always needed is not refused for the sake of those.
    assert!(!is_full(&apply(&mut state, job(Terms::default()))));
}
