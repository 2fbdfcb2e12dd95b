//! Leader, quorum, members and health: pure functions from facts to answers.

use std::collections::BTreeMap;

use riftmesh_base::limits::CERTIFICATE_LIFE;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{Millis, NodeId};
use riftmesh_raft::{AutopilotReport, RaftStatus};
use riftmesh_statemachine::job::JobPhase;
use riftmesh_statemachine::query::{RosterRow, StateSummary};
use riftmesh_statemachine::roster::Role;

use super::answer::{StateFacts, name_of};
use super::mesh::{MeshMember, MeshState, Told};
use super::progress;
use crate::answers::{
    Health, JobCounts, LeaderAnswer, MemberAnswer, QuorumAnswer, ReportAnswer, StatusAnswer,
    VoterAnswer,
};
use crate::blobs::BlobAccess;

/// A certificate with less time left than this should have been renewed at half of its life.
const EXPIRY_WARNING: Millis = Millis(CERTIFICATE_LIFE.0 / 4);

/// `leader`
pub fn leader(roster: &[RosterRow], status: &RaftStatus, confirmed: bool) -> LeaderAnswer {
    let confirmed = confirmed && status.leader.is_some();
    let member = status
        .leader
        .and_then(|leader| status.members.iter().find(|member| member.node == leader));
    LeaderAnswer {
        node: status.leader,
        name: status
            .leader
            .map(|node| name_of(roster, node).unwrap_or_else(|| node.to_string())),
        address: member.map(|member| member.address.clone()),
        term: status.term.0,
        quorum_ack_ms: status.quorum_ack_age.map(|age| age.0),
        confirmed,
    }
}

/// `quorum`
pub fn quorum(
    roster: &[RosterRow],
    status: &RaftStatus,
    confirmed: bool,
    mesh: &[MeshMember],
) -> QuorumAnswer {
    let voters: Vec<_> = status
        .members
        .iter()
        .filter(|member| member.voter)
        .map(|member| VoterAnswer {
            node: member.node,
            name: name_of(roster, member.node).unwrap_or_else(|| member.node.to_string()),
            address: member.address.clone(),
            leader: status.leader == Some(member.node),
            up: mesh
                .iter()
                .find(|known| known.node == member.node)
                .map(|known| !known.state.is_gone()),
            lag: member.lag,
            contact_ms: member.contact_age.map(|age| age.0),
        })
        .collect();
    let needed = voters.len() / 2 + 1;
    let up = voters
        .iter()
        .filter(|voter| voter.up != Some(false))
        .count();
    QuorumAnswer {
        confirmed,
        failure_tolerance: confirmed.then(|| up.saturating_sub(needed)),
        needed,
        voters,
    }
}

/// `members`: the roster and the mesh, joined; `now` is cluster time. Who is in neither but in the memory of gossip is
/// nobody's concern any more.
pub fn members(roster: &[RosterRow], mesh: &[MeshMember], now: Millis) -> Vec<MemberAnswer> {
    let mut answers: Vec<_> = roster
        .iter()
        .map(|row| from_roster(row, mesh, now))
        .collect();
    let strangers = mesh.iter().filter(|member| {
        let known = roster.iter().any(|row| row.node.record.id == member.node);
        !known && !member.state.is_gone()
    });
    answers.extend(strangers.map(from_mesh));
    answers.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    answers
}

fn from_roster(row: &RosterRow, mesh: &[MeshMember], now: Millis) -> MemberAnswer {
    let record = &row.node.record;
    let known = mesh.iter().find(|member| member.node == record.id);
    let offer = row.session.as_ref().map(|session| &session.record);
    MemberAnswer {
        node: record.id,
        name: record.name.clone(),
        role: Some(record.role),
        address: known.map_or_else(
            || record.address.clone(),
            |member| member.address.to_string(),
        ),
        relay: known.and_then(|member| Some(member.relay?.to_string())),
        http: None,
        state: known
            .map_or("unknown", |member| member.state.name())
            .to_owned(),
        generation: known.map(|member| member.generation),
        version: None,
        rtt_us: known.and_then(rtt_us),
        draining: row.node.draining,
        drained_in_ms: row.drained_by.map(|by| by.since(now).0),
        labels: offer.map_or_else(Vec::new, |offer| offer.labels.clone()),
        zone: None,
        protocols: None,
        report: None,
        told_ms: None,
        since_ms: known.map(|member| member.since.0),
        session: offer.map(|offer| offer.id),
        slots: offer.map_or(0, |offer| offer.slots),
        jobs: row.session.as_ref().map_or(0, |session| session.jobs.len()),
    }
}

/// A member that the log does not know (yet).
pub fn from_mesh(member: &MeshMember) -> MemberAnswer {
    MemberAnswer {
        node: member.node,
        name: member.name.clone(),
        role: member.role,
        address: member.address.to_string(),
        relay: member.relay.map(|relay| relay.to_string()),
        http: None,
        state: member.state.name().to_owned(),
        generation: Some(member.generation),
        version: None,
        rtt_us: rtt_us(member),
        draining: false,
        drained_in_ms: None,
        labels: Vec::new(),
        zone: None,
        protocols: None,
        report: None,
        told_ms: None,
        since_ms: Some(member.since.0),
        session: None,
        slots: 0,
        jobs: 0,
    }
}

/// Adds what members say of themselves. What the log says of their sessions counts for more.
pub fn tell(members: &mut [MemberAnswer], mut told: BTreeMap<NodeId, Told>) {
    for member in members {
        let Some(Told { age, body }) = told.remove(&member.node) else {
            continue;
        };
        if member.session.is_none() {
            (member.labels, member.slots) = (body.labels, body.slots);
        }
        member.zone = body.zone;
        member.version = Some(body.version);
        member.protocols = Some(body.protocols);
        member.http = Some(body.http.to_string());
        member.told_ms = Some(age.0);
        member.report = body.report.map(|report| ReportAnswer {
            age_ms: age.0,
            report,
        });
    }
}

fn rtt_us(member: &MeshMember) -> Option<u64> {
    let micros = member.rtt?.as_micros();
    u64::try_from(micros).ok()
}

/// `status`
pub fn status(
    facts: &StateFacts,
    status: &RaftStatus,
    confirmed: bool,
    mesh: &[MeshMember],
    blobs: &BlobAccess,
    autopilot: &AutopilotReport,
) -> StatusAnswer {
    let quorum = quorum(&facts.roster, status, confirmed, mesh);
    let members = members(&facts.roster, mesh, facts.summary.now);
    let mut problems = problems(&quorum, &members, &facts.summary, status);
    problems.extend(expiring(&facts.expiries, &members, wall_clock()));
    problems.extend(facts.authority.clone());
    let autopilot = autopilot.problem.iter();
    problems.extend(autopilot.map(|problem| format!("voters: {problem}")));
    let health = match (confirmed, problems.is_empty()) {
        (false, _) => Health::NoQuorum,
        (true, false) => Health::Degraded,
        (true, true) => Health::Healthy,
    };
    StatusAnswer {
        health,
        problems,
        cluster: facts.summary.cluster.map(|cluster| cluster.to_string()),
        leader: leader(&facts.roster, status, confirmed),
        quorum,
        members_up: members
            .iter()
            .filter(|member| member.state == MeshState::Up.name())
            .count(),
        members: members.len(),
        sessions: facts.summary.sessions,
        slots: facts.summary.slots.try_into().unwrap_or(u32::MAX),
        jobs: counts(&facts.summary),
        progress: progress::all(facts, blobs),
    }
}

fn counts(summary: &StateSummary) -> JobCounts {
    let of = |phase| summary.jobs.get(&phase).copied().unwrap_or(0);
    JobCounts {
        waiting: of(JobPhase::Waiting) + of(JobPhase::Delayed),
        ready: of(JobPhase::Ready),
        running: of(JobPhase::Leased) + of(JobPhase::Cancelling),
        done: of(JobPhase::Done),
        dead: of(JobPhase::Dead),
    }
}

/// Certificates of members that should have been renewed long ago.
fn expiring(expiries: &[(NodeId, Millis)], members: &[MemberAnswer], now: Millis) -> Vec<String> {
    let late = expiries.iter().filter_map(|(node, expires)| {
        let member = members.iter().find(|member| member.node == *node)?;
        let left = expires.since(now);
        (left < EXPIRY_WARNING).then(|| {
            let name = &member.name;
            if left == Millis(0) {
                format!("the certificate of {name} ({node}) has expired: it needs a new join token")
            } else {
                format!("the certificate of {name} ({node}) expires in {left} and was not renewed")
            }
        })
    });
    late.collect()
}

fn problems(
    quorum: &QuorumAnswer,
    members: &[MemberAnswer],
    summary: &StateSummary,
    status: &RaftStatus,
) -> Vec<String> {
    let mut problems = Vec::new();
    if !quorum.confirmed {
        problems.push(
            "no quorum could be confirmed: nothing is granted or promoted, running jobs go on"
                .to_owned(),
        );
    }
    if let Some(reason) = &status.dead {
        problems.push(format!("consensus has died on this node: {reason}"));
    }
    // A worker that said goodbye is not missed; a voter is, since it counts for the quorum.
    let missed = |member: &&MemberAnswer| {
        let left = member.state == MeshState::Left.name() && member.role != Some(Role::Voter);
        member.state != MeshState::Up.name() && !left
    };
    for member in members.iter().filter(missed) {
        problems.push(format!(
            "{} ({}) is {}",
            member.name, member.node, member.state
        ));
    }
    if summary.cluster.is_some() && summary.sessions == 0 {
        problems.push("no worker has a session: nothing runs".to_owned());
    }
    let dead = summary.jobs.get(&JobPhase::Dead).copied().unwrap_or(0);
    if dead > 0 {
        problems.push(format!(
            "{dead} jobs are dead; `riftmesh job list --state dead` shows why"
        ));
    }
    problems
}
