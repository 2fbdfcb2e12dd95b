//! `raft status|add-learner|add-voter|remove-voter|transfer-leader|snapshot`: the voters and their log.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use riftmesh_base::{LogIndex, NodeId};
use riftmesh_raft::{AutopilotReport, MemberOrder, MemberStatus, RaftRole, RaftStatus};
use riftmesh_statemachine::roster::Role;

use super::ask::{AskError, Asker};
use super::order::failed;
use super::output::{Colour, age, data, json, paint, table, talk};
use super::query::ask_and_print;
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::answers::{
    Envelope, MemberAnswer, MemberChangeAnswer, MemberRequest, RaftAnswer, SnapshotAnswer,
};

/// Time between two looks at an order that takes a while.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A voter that has not answered the leader for this long is missing.
const SILENCE_MS: u64 = 10_000;

/// The `raft` family.
#[derive(Debug, Subcommand)]
pub enum RaftCommand {
    /// The voters and learners, how far each is, and the log of the node that answers
    #[command(after_help = "\
Example:
  riftmesh raft status --addr 127.0.0.1:7701    what that voter knows; lags are known to the leader alone
Exit codes: 0 all voters answer, 1 one is missing or a change is half done, 2 no quorum, 3 no node answered")]
    Status(AskArgs),
    /// Let a node follow the log without a vote
    #[command(after_help = ADD_EXAMPLES)]
    AddLearner(ChangeArgs),
    /// Give a node a vote: it follows as a learner, catches up, stays close for 10 s, and then votes
    #[command(after_help = ADD_EXAMPLES)]
    AddVoter(ChangeArgs),
    /// Take a node out of the group, voter or learner. A leader hands over first
    #[command(after_help = "\
Example:
  riftmesh raft remove-voter v2    then stop it; to come back it needs a new data directory
It is refused when the voters that stay could not go on without it.
Exit codes: 0 it is no member, 1 refused or not done in time, 3 no node answered")]
    RemoveVoter(ChangeArgs),
    /// Hand leadership to another voter
    #[command(after_help = "\
Example:
  riftmesh raft transfer-leader v3    or without a name, to the voter that is closest behind
Exit codes: 0 it leads, 1 refused, 3 no node answered or none could say")]
    TransferLeader {
        /// Name or id of the voter; the one closest behind if not given
        node: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Make a snapshot of the state of the voter that answers
    #[command(after_help = "\
Example:
  riftmesh raft snapshot --addr 127.0.0.1:7702
Exit codes: 0 it is on disk, 1 that node has no state, 3 no node answered or it was not made in time")]
    Snapshot(AskArgs),
}

const ADD_EXAMPLES: &str = "\
Example, a fourth machine instead of the second:
  riftmesh node run --dir data --name d --credential cluster.credential --listen 10.0.0.4:7700 \\
      --seeds 10.0.0.1:7700,10.0.0.3:7700     on the new machine, without --bootstrap-expect
  riftmesh raft add-voter d
  riftmesh raft remove-voter b
Exit codes: 0 done, 1 refused or not done in time (the same command goes on), 3 no node answered";

/// Whom to change, and how long to wait.
#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// Name or id of the node, as `riftmesh members` lists it
    node: String,
    /// How long to wait until it is done, such as 30s or 5m; ordered again later it goes on
    #[arg(long, value_parser = parse_duration, default_value = "2m")]
    wait: Duration,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs a `raft` command.
pub fn run(command: &RaftCommand) -> anyhow::Result<Exit> {
    match command {
        RaftCommand::Status(ask) => ask_and_print(ask, "/v1/raft", print_status, health),
        RaftCommand::AddLearner(args) => change(args, |found| {
            let (node, address) = found.to_add()?;
            Ok(MemberOrder::AddLearner { node, address })
        }),
        RaftCommand::AddVoter(args) => change(args, |found| {
            let (node, address) = found.to_add()?;
            Ok(MemberOrder::AddVoter { node, address })
        }),
        RaftCommand::RemoveVoter(args) => {
            change(args, |found| Ok(MemberOrder::Remove { node: found.node }))
        }
        RaftCommand::TransferLeader { node, ask } => transfer(node.as_deref(), ask),
        RaftCommand::Snapshot(ask) => {
            match Asker::new(&ask.addr).post::<SnapshotAnswer>("/v1/raft/snapshot", &()) {
                Ok(envelope) if ask.json => json(&envelope).map(|()| Exit::Ok),
                Ok(envelope) => {
                    let index = envelope.answer.index;
                    data(&format!(
                        "snapshot up to entry {index} on {}",
                        envelope.name
                    ));
                    Ok(Exit::Ok)
                }
                Err(error) => Ok(failed(&error)),
            }
        }
    }
}

/// A node that was named on the command line.
pub(super) struct Found {
    pub node: NodeId,
    /// What the cluster knows of it, none when it is known by its id alone.
    pub member: Option<MemberAnswer>,
}

impl Found {
    /// Who it is and where, if it can follow a log.
    fn to_add(&self) -> Result<(NodeId, String), String> {
        let member = self.member.as_ref().ok_or_else(|| {
            format!(
                "the mesh does not know {}; start it with `riftmesh node run --role voter` and this cluster's seeds first",
                self.node
            )
        })?;
        if member.role == Some(Role::Worker) {
            return Err(format!(
                "{} runs as a worker and keeps no log; stop it and start it with `--role voter`",
                member.name
            ));
        }
        if member.state != "up" {
            return Err(format!(
                "{} is {}; it can only be added while it runs",
                member.name, member.state
            ));
        }
        Ok((self.node, member.address.clone()))
    }
}

/// Finds a node by its name, its id, or six or more digits with which its id begins.
pub(super) fn find(wanted: &str, members: Vec<MemberAnswer>) -> Result<Found, String> {
    let by_id = |member: &MemberAnswer| {
        wanted.len() >= 6 && member.node.to_string().starts_with(&wanted.to_lowercase())
    };
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let mut fitting: Vec<MemberAnswer> = members
        .into_iter()
        .filter(|member| member.name == wanted || by_id(member))
        .collect();
    // A node that came back under a new identity leaves its name behind in the roster.
    if fitting.len() > 1 {
        fitting.retain(|member| member.state == "up");
    }
    match (fitting.pop(), fitting.is_empty()) {
        (Some(member), true) => Ok(Found {
            node: member.node,
            member: Some(member),
        }),
        (Some(_), false) => Err(format!(
            "more than one node is called `{wanted}`; give its id (`riftmesh members --json`)"
        )),
        (None, _) => match wanted.parse() {
            Ok(node) => Ok(Found { node, member: None }),
            Err(_) => Err(format!(
                "no node is called `{wanted}`; these are known: {}",
                names.join(", ")
            )),
        },
    }
}

/// Orders until it is done or the time is over, each step on condition that nobody else changed the members.
fn change(
    args: &ChangeArgs,
    order: impl FnOnce(&Found) -> Result<MemberOrder, String>,
) -> anyhow::Result<Exit> {
    let asker = Asker::new(&args.ask.addr);
    let (order, seen) = match prepare(&asker, &args.node, order) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(failed(&error)),
    };
    let outcome = carry_out(
        &asker,
        order,
        seen,
        Instant::now() + args.wait,
        args.ask.json,
    );
    outcome.or_else(|error| Ok(failed(&error)))
}

fn prepare(
    asker: &Asker,
    wanted: &str,
    order: impl FnOnce(&Found) -> Result<MemberOrder, String>,
) -> Result<(MemberOrder, Option<LogIndex>), AskError> {
    // Whom the operator means and whom the leader will change are read before anything is ordered.
    let seen = asker
        .get::<RaftAnswer>("/v1/raft")?
        .answer
        .status
        .members_index;
    let members = asker.get::<Vec<MemberAnswer>>("/v1/members")?.answer;
    let found = find(wanted, members).map_err(AskError::Refused)?;
    Ok((order(&found).map_err(AskError::Refused)?, seen))
}

fn carry_out(
    asker: &Asker,
    order: MemberOrder,
    seen: Option<LogIndex>,
    until: Instant,
    as_json: bool,
) -> Result<Exit, AskError> {
    let mut request = MemberRequest {
        order,
        expected: seen,
    };
    let mut said = String::new();
    loop {
        let envelope: Envelope<MemberChangeAnswer> = asker.post("/v1/raft/members", &request)?;
        let answer = &envelope.answer;
        let over = Instant::now() >= until;
        if answer.done || over {
            let printed = if as_json {
                json(&envelope)
            } else {
                data(&answer.said);
                Ok(())
            };
            printed.map_err(|error| AskError::Refused(error.to_string()))?;
            if !answer.done {
                talk("not done yet; the same command goes on from here");
            }
            return Ok(if answer.done { Exit::Ok } else { Exit::Failed });
        }
        if said != answer.said {
            said.clone_from(&answer.said);
            talk(&said);
        }
        request.expected = answer.members_index;
        std::thread::park_timeout(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())));
    }
}

fn transfer(node: Option<&str>, ask: &AskArgs) -> anyhow::Result<Exit> {
    let asker = Asker::new(&ask.addr);
    let to = node.map(|wanted| {
        prepare(&asker, wanted, |found| {
            Ok(MemberOrder::MoveLeader {
                to: Some(found.node),
            })
        })
    });
    let order = match to.transpose() {
        Ok(Some((order, _))) => order,
        Ok(None) => MemberOrder::MoveLeader { to: None },
        Err(error) => return Ok(failed(&error)),
    };
    let moved = carry_out(&asker, order, None, Instant::now(), ask.json);
    moved.or_else(|error| Ok(failed(&error)))
}

fn health(answer: &RaftAnswer) -> Exit {
    let status = &answer.status;
    let missing = |member: &MemberStatus| {
        let silent = member.contact_age.is_none_or(|age| age.0 >= SILENCE_MS);
        member.voter && status.role == RaftRole::Leader && silent
    };
    if !status.has_quorum {
        Exit::NoQuorum
    } else if status.joint || status.members.iter().any(missing) {
        Exit::Failed
    } else {
        Exit::Ok
    }
}

fn print_status(answer: &RaftAnswer) {
    let status = &answer.status;
    data(&headline(status));
    if status.joint {
        let words = "a change of the members is half done: old and new voters both have to agree";
        data(&paint(Colour::Yellow, words));
    }
    let or_dash =
        |index: Option<LogIndex>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    table(
        &[
            "NAME", "ID", "ADDRESS", "PART", "MATCHED", "LAG", "ANSWERED",
        ],
        status.members.iter().map(|member| {
            let id = member.node.to_string();
            let part = match (status.leader == Some(member.node), member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            vec![
                answer
                    .names
                    .get(&id)
                    .cloned()
                    .unwrap_or_else(|| "-".to_owned()),
                id,
                member.address.clone(),
                part.to_owned(),
                or_dash(member.matched),
                member
                    .lag
                    .map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
                age(member.contact_age.map(|age| age.0)),
            ]
        }),
    );
    data(&format!(
        "log to {}, committed {}, applied {}, snapshot {}, purged {}; sync p50 {:.2} ms, p99 {:.2} ms",
        or_dash(status.last_log),
        or_dash(status.committed),
        or_dash(status.applied),
        or_dash(status.snapshot),
        or_dash(status.purged),
        status.sync_p50_micros as f64 / 1e3,
        status.sync_p99_micros as f64 / 1e3,
    ));
    print_autopilot(&answer.autopilot, status.role);
    if let Some(reason) = &status.dead {
        data(&paint(
            Colour::Red,
            &format!("consensus has died there: {reason}"),
        ));
    }
}

fn print_autopilot(report: &AutopilotReport, role: RaftRole) {
    match (&report.problem, &report.last) {
        _ if !report.enabled => data("autopilot off (setting autopilot.enabled)"),
        _ if role != RaftRole::Leader => data("autopilot on; the leader tells what it does"),
        (Some(problem), _) => data(&paint(Colour::Yellow, &format!("autopilot on; {problem}"))),
        (None, Some(last)) => data(&format!("autopilot on; last: {last}")),
        (None, None) => data("autopilot on; nothing to do"),
    }
}

/// `leader of term 12 with 3 voters (1 may fail), members of entry 40`
fn headline(status: &RaftStatus) -> String {
    let voters = status.members.iter().filter(|member| member.voter).count();
    let members = status
        .members_index
        .map_or_else(|| "none yet".to_owned(), |index| format!("entry {index}"));
    format!(
        "{} of term {} with {voters} voters ({} may fail), members of {members}",
        status.role,
        status.term,
        status.failure_tolerance()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, name: &str, role: Role, state: &str) -> MemberAnswer {
        MemberAnswer {
            node: NodeId(node),
            name: name.to_owned(),
            role: Some(role),
            address: format!("10.0.0.{}:7700", node & 0xff),
            relay: None,
            http: None,
            state: state.to_owned(),
            generation: None,
            version: None,
            rtt_us: None,
            draining: false,
            drained_in_ms: None,
            labels: Vec::new(),
            zone: None,
            protocols: None,
            report: None,
            told_ms: None,
            since_ms: None,
            session: None,
            slots: 0,
            jobs: 0,
        }
    }

    fn mesh() -> Vec<MemberAnswer> {
        vec![
            member(0xabcd_ef00_0000_0001, "a", Role::Voter, "up"),
            member(0xabcd_ef00_0000_0002, "b", Role::Voter, "down"),
            member(3, "b", Role::Voter, "up"),
            member(4, "w", Role::Worker, "up"),
            member(5, "c", Role::Voter, "down"),
        ]
    }

    /// A node is found by name, by id and by the start of its id; of two with one name the living one is meant.
    #[test]
    fn nodes_are_found() {
        let found = |wanted| find(wanted, mesh()).map(|found| found.node);
        assert_eq!(found("a"), Ok(NodeId(0xabcd_ef00_0000_0001)));
        assert_eq!(found("b"), Ok(NodeId(3)));
        assert_eq!(found("abcdef0000000002"), Ok(NodeId(0xabcd_ef00_0000_0002)));
        assert_eq!(found("00000000000000ff"), Ok(NodeId(0xff)));
        let nobody = found("zz").unwrap_err();
        assert!(
            nobody.contains("`zz`") && nobody.contains("a, b, b, w, c"),
            "{nobody}"
        );
    }

    /// Who cannot follow a log is refused, with what to do instead.
    #[test]
    fn only_a_running_voter_can_be_added() {
        let to_add = |wanted| find(wanted, mesh()).unwrap().to_add();
        assert_eq!(to_add("a").unwrap().1, "10.0.0.1:7700");
        assert!(to_add("w").unwrap_err().contains("--role voter"));
        assert!(to_add("c").unwrap_err().contains("is down"));
        assert!(to_add("00000000000000ff").unwrap_err().contains("node run"));
    }
}
