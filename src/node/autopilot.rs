//! Keeps the set of voters healthy while this node leads: puts facts together, asks the rule, orders one step at a time.

use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::{Millis, NodeId};
use riftmesh_raft::{
    AutopilotPolicy, AutopilotReport, AutopilotStep, MemberOrder, MemberProgress, Presence,
    RaftNode, RaftRole, RaftStatus, Silences, VoterFact, next_step,
};
use riftmesh_statemachine::State;
use riftmesh_statemachine::roster::Role;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::mesh::{MeshMember, MeshState, SharedMesh};
use crate::duration::parse_duration;

/// Time between two looks at the voters.
const EVERY: Duration = Duration::from_secs(1);
/// A change waits this long for its commit; the next look sees whether it was made.
const CHANGE_MAX: Duration = Duration::from_secs(5);

/// `true` or `false`.
const ENABLED: &str = "autopilot.enabled";
/// How many voters there should be; as many as there are unless set.
const VOTERS: &str = "autopilot.voters";
/// After how long a lost voter is replaced.
const REPLACE_AFTER: &str = "autopilot.replace-after";
/// After how long a lost voter is removed although nobody takes its place.
const REMOVE_AFTER: &str = "autopilot.remove-after";

/// Most voters that make sense: each more makes every commit slower.
const VOTERS_MAX: u16 = 9;
const REPLACE_AFTER_DEFAULT: Millis = Millis::from_secs(300);
const REMOVE_AFTER_DEFAULT: Millis = Millis::from_secs(72 * 3_600);

/// The autopilot of one voter; it rests where it does not lead.
pub struct Autopilot {
    pub raft: RaftNode,
    pub mesh: SharedMesh,
    /// What it says to people.
    pub report: Arc<watch::Sender<AutopilotReport>>,
}

impl Autopilot {
    /// Works until `stopping` turns true.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.rounds() => {}
            // An error means that the node is gone, which is a stop as well.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn rounds(&self) {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silences = Silences::default();
        loop {
            looks.tick().await;
            let status = self.raft.status();
            silences.note(&status, Instant::now());
            self.look(&status, &silences).await;
        }
    }

    async fn look(&self, status: &RaftStatus, silences: &Silences) {
        let leads = status.role == RaftRole::Leader;
        let policy = match self.raft.read(|_, state| policy(state)) {
            Ok(Some(policy)) => policy,
            Ok(None) => return self.say(false, None, leads),
            Err(reason) => return self.say(true, Some(reason), leads),
        };
        let roster = self.raft.read(|_, state| standing_voters(state));
        let mut facts = facts(status, &roster, &self.mesh.members());
        let mut told = self.mesh.told();
        for fact in &mut facts {
            fact.zone = told.remove(&fact.node).and_then(|told| told.body.zone);
        }
        match next_step(&policy, status, &facts, silences, Instant::now()) {
            AutopilotStep::Rest => self.say(true, None, leads),
            AutopilotStep::Wait(reason) => self.say(true, Some(reason), leads),
            AutopilotStep::Order(order, reason) => self.carry_out(order, reason, status).await,
        }
    }

    async fn carry_out(&self, order: MemberOrder, reason: String, status: &RaftStatus) {
        let seen = status.members_index;
        let outcome = self.raft.change_members(order, seen, CHANGE_MAX).await;
        let problem = match outcome {
            Ok(MemberProgress::Done(done)) => {
                tracing::info!(reason, done, "autopilot");
                let last = Some(format!("{reason}: {done}"));
                return drop(self.report.send_replace(AutopilotReport {
                    enabled: true,
                    problem: None,
                    last,
                }));
            }
            Ok(MemberProgress::Waiting(waiting)) => format!("{reason}: {waiting}"),
            Err(error) => {
                tracing::warn!(reason, %error, "autopilot");
                format!("{reason}: {error}")
            }
        };
        self.say(true, Some(problem), true);
    }

    /// What was done last is told as long as this node leads.
    fn say(&self, enabled: bool, problem: Option<String>, leads: bool) {
        self.report.send_if_modified(|report| {
            let last = report.last.clone().filter(|_| leads);
            let news = AutopilotReport {
                enabled,
                problem: problem.filter(|_| leads),
                last,
            };
            let is_new = *report != news;
            *report = news;
            is_new
        });
    }
}

/// A voter of the roster, and whether it is being drained.
struct RosterVoter {
    node: NodeId,
    draining: bool,
}

fn standing_voters(state: &State) -> Vec<RosterVoter> {
    let rows = state.roster().into_iter().map(|row| row.node);
    let voters = rows.filter(|node| node.record.role == Role::Voter);
    let voters = voters.map(|node| RosterVoter {
        node: node.record.id,
        draining: node.draining,
    });
    voters.collect()
}

/// Everybody in the roster who was started to vote, and every member of the group; where they stand is yet to be said.
fn facts(status: &RaftStatus, roster: &[RosterVoter], mesh: &[MeshMember]) -> Vec<VoterFact> {
    let known = roster.iter().map(|voter| voter.node);
    let members = status.members.iter().map(|member| member.node);
    let strangers = members.filter(|node| roster.iter().all(|voter| voter.node != *node));
    known
        .chain(strangers)
        .map(|node| fact(node, roster, mesh))
        .collect()
}

fn fact(node: NodeId, roster: &[RosterVoter], mesh: &[MeshMember]) -> VoterFact {
    let seen = mesh.iter().find(|member| member.node == node);
    let mut roster = roster.iter().filter(|voter| voter.node == node);
    let is_fit = roster.next().is_some_and(|voter| !voter.draining);
    // A voter has to be dialled by the others.
    let direct = seen.filter(|member| member.relay.is_none());
    VoterFact {
        node,
        address: direct.map_or_else(String::new, |member| member.address.to_string()),
        zone: None,
        presence: match seen.map(|member| member.state) {
            Some(MeshState::Up) => Presence::Here,
            Some(MeshState::Suspect) => Presence::Doubted,
            Some(MeshState::Down | MeshState::Left) | None => Presence::Gone,
        },
        willing: is_fit && direct.is_some(),
    }
}

/// What the settings say; none when autopilot is switched off.
fn policy(state: &State) -> Result<Option<AutopilotPolicy>, String> {
    let value = |key| state.setting(key).map(|setting| setting.value.as_str());
    let wrong = |key: &str, value: &str, expected: &str| {
        format!("autopilot rests: setting {key} is `{value}`, {expected}")
    };
    match value(ENABLED) {
        None | Some("true") => {}
        Some("false") => return Ok(None),
        Some(other) => return Err(wrong(ENABLED, other, "not true or false")),
    }
    let voters = value(VOTERS).map(|text| match text.parse::<u16>() {
        Ok(voters) if voters % 2 == 1 && voters <= VOTERS_MAX => Ok(voters),
        _ => {
            let expected = format!("not an odd number up to {VOTERS_MAX}");
            Err(wrong(VOTERS, text, &expected))
        }
    });
    let duration = |key, default| match value(key) {
        None => Ok(default),
        Some(text) => match parse_duration(text) {
            Ok(duration) => Ok(Millis::from(duration)),
            Err(reason) => Err(wrong(key, text, &reason)),
        },
    };
    Ok(Some(AutopilotPolicy {
        voters: voters.transpose()?,
        replace_after: duration(REPLACE_AFTER, REPLACE_AFTER_DEFAULT)?,
        remove_after: duration(REMOVE_AFTER, REMOVE_AFTER_DEFAULT)?,
    }))
}

#[cfg(test)]
mod tests {
    use riftmesh_base::LogIndex;
    use riftmesh_statemachine::setting::{Expected, SettingWrite};
    use riftmesh_statemachine::{Batch, Body, Command};

    use super::*;

    fn with(settings: &[(&str, &str)]) -> Result<Option<AutopilotPolicy>, String> {
        let mut state = State::new();
        for (index, (key, value)) in (1..).zip(settings) {
            let body = Body::WriteSetting(SettingWrite {
                key: (*key).to_owned(),
                value: Some((*value).to_owned()),
                expected: Expected::Any,
                author: "operator".to_owned(),
                guard: None,
            });
            let command = Command { origin: None, body };
            state.apply(LogIndex(index), &Batch::new(Millis(index), vec![command]));
        }
        policy(&state)
    }

    /// Unset is a default; a value that makes no sense stops autopilot and is named.
    #[test]
    fn settings_are_read_or_refused_by_name() {
        let usual = with(&[]).unwrap().unwrap();
        assert_eq!(usual.voters, None);
        assert_eq!(usual.replace_after, Millis::from_secs(300));
        assert_eq!(with(&[(ENABLED, "false")]), Ok(None));
        let own = with(&[(VOTERS, "5"), (REPLACE_AFTER, "20s"), (REMOVE_AFTER, "2h")]);
        let own = own.unwrap().unwrap();
        assert_eq!((own.voters, own.replace_after), (Some(5), Millis(20_000)));
        assert_eq!(own.remove_after, Millis::from_secs(7_200));
        for (key, value) in [
            (ENABLED, "yes"),
            (VOTERS, "4"),
            (VOTERS, "11"),
            (VOTERS, "many"),
            (REPLACE_AFTER, "soon"),
        ] {
            let error = with(&[(key, value)]).unwrap_err();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }
}
