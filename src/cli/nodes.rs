//! `node list|show|drain|undrain|retire`: the nodes of the roster, and what becomes of them.

use std::time::{Duration, Instant};

use clap::Args;
use riftmesh_base::{Millis, NodeId, Role};

use super::ask::{AskError, Asker};
use super::members::{MemberFilter, look, micros, reached, standing};
use super::order::{failed, place};
use super::output::{data, freshness, json, table, talk};
use super::raft::find;
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::answers::{DeviceReport, Envelope, MemberAnswer, ProtocolRange, RaftAnswer};
use crate::orders::{Order, OrderAnswer};

/// Time between two looks at a node that is being drained.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Options of `node list`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  riftmesh node list --active --role worker
  riftmesh node list --draining --json
Exit codes: 0 listed, 3 no node answered")]
pub struct ListArgs {
    #[command(flatten)]
    filter: MemberFilter,
    /// Leave out those that are drained, down, or have left
    #[arg(long)]
    active: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Which node, and whom to ask.
#[derive(Debug, Clone, Args)]
pub struct NamedNode {
    /// Name or id of the node, as `riftmesh members` lists it
    node: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Options of `node drain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DRAIN_EXAMPLES)]
pub struct DrainArgs {
    #[command(flatten)]
    target: NamedNode,
    /// Take back what it still holds after this time, such as 10m. Default: it finishes what it holds
    #[arg(long, value_parser = parse_duration)]
    within: Option<Duration>,
    /// Wait this long until it holds no job any more
    #[arg(long, value_parser = parse_duration)]
    wait: Option<Duration>,
}

/// What is printed below the help on draining.
pub const DRAIN_EXAMPLES: &str = "\
Examples, on a voter's machine:
  riftmesh node drain gpu-1                        no new work; its jobs end when they end
  riftmesh node drain gpu-1 --within 10m --wait 11m
  riftmesh node undrain gpu-1
Every node knows that it is drained, also after restarts; `node list` and `members` show it. A job that is taken back is
ready for others at once and counts one loss more, no attempt.
Exit codes: 0 it is drained (with --wait: and holds no job), 1 refused or not in time, 3 no node answered";

/// Options of `node retire`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example, on a voter's machine:
  riftmesh node retire gpu-1 --reason \"returned to the landlord\" --within 10m
It is drained, its certificate is revoked, and it is taken out of the roster: for ever, its directory joins no more.
Interrupted, the same command goes on. A voter leaves the voters first (`raft remove-voter`); it holds the cluster's
authority, so nothing but removing the credential from its machine keeps it out.
Exit codes: 0 it is out, 1 refused or not in time (the same command goes on), 3 no node answered")]
pub struct RetireArgs {
    #[command(flatten)]
    target: NamedNode,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// How long it has for the jobs it holds
    #[arg(long, value_parser = parse_duration, default_value = "10m")]
    within: Duration,
    /// How much longer than that to wait for it
    #[arg(long, value_parser = parse_duration, default_value = "1m")]
    wait: Duration,
}

/// `node list`
pub fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let mut envelope = match look(&Asker::new(&args.ask.addr), &args.filter) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    let active = |member: &MemberAnswer| {
        !member.draining && ["up", "suspect"].contains(&member.state.as_str())
    };
    envelope
        .answer
        .retain(|member| !args.active || active(member));
    if args.ask.json {
        json(&envelope)?;
    } else {
        table(
            &[
                "NAME",
                "ID",
                "ROLE",
                "STATE",
                "JOBS",
                "SLOTS",
                "TAKEN BACK IN",
                "LABELS",
            ],
            envelope.answer.iter().map(row),
        );
        freshness(&envelope);
    }
    Ok(Exit::Ok)
}

fn row(member: &MemberAnswer) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        member.name.clone(),
        member.node.to_string(),
        or_dash(member.role.map(|role| role.to_string())),
        standing(member),
        member.jobs.to_string(),
        member.slots.to_string(),
        or_dash(member.drained_in_ms.map(|ms| Millis(ms).to_string())),
        or_dash(Some(member.labels.join(" ")).filter(|labels| !labels.is_empty())),
    ]
}

/// `node show`
pub fn show(args: &NamedNode) -> anyhow::Result<Exit> {
    let shown = members(&args.ask).and_then(|envelope| {
        let member = known(&args.node, envelope.answer.clone())?;
        Ok(envelope.with(member))
    });
    let envelope = match shown {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    if args.ask.json {
        json(&envelope)?;
    } else {
        for (name, value) in details(&envelope.answer) {
            data(&format!("{name:<12}{value}"));
        }
        freshness(&envelope);
    }
    Ok(Exit::Ok)
}

fn details(member: &MemberAnswer) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let since = member.since_ms.map(|ms| format!(" for {}", Millis(ms)));
    let taken_back = member
        .drained_in_ms
        .map(|ms| format!(", its jobs are taken back in {}", Millis(ms)));
    let labels = if member.labels.is_empty() {
        "none".to_owned()
    } else {
        member.labels.join(" ")
    };
    let work = match member.session {
        Some(session) => format!(
            "{} jobs, {} slots, session {session}",
            member.jobs, member.slots
        ),
        None => "no session: it runs no jobs".to_owned(),
    };
    let mut lines = vec![
        ("name", member.name.clone()),
        ("id", member.node.to_string()),
        (
            "role",
            member.role.map_or_else(unknown, |role| role.to_string()),
        ),
        (
            "state",
            [standing(member)]
                .into_iter()
                .chain(since)
                .chain(taken_back)
                .collect::<String>(),
        ),
        ("address", reached(member)),
        ("http", member.http.clone().unwrap_or_else(unknown)),
        (
            "incarnation",
            member
                .generation
                .map_or_else(unknown, |life| life.to_string()),
        ),
        ("version", member.version.clone().unwrap_or_else(unknown)),
        ("protocol", member.protocols.map_or_else(unknown, protocols)),
        ("round trip", member.rtt_us.map_or_else(unknown, micros)),
        ("work", work),
        (
            "zone",
            member.zone.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("labels", labels),
    ];
    if let Some(told) = &member.report {
        lines.push((
            "load",
            format!(
                "{} of {} cores, {} of {} MiB of memory, {} ago",
                percent(told.report.load.cpu_percent),
                told.report.load.cores,
                told.report.load.memory_used_mib,
                told.report.load.memory_mib,
                Millis(told.age_ms),
            ),
        ));
        lines.extend(
            told.report
                .devices
                .iter()
                .map(|device| ("gpu", gpu(device))),
        );
    }
    lines
}

fn protocols(range: ProtocolRange) -> String {
    match (range.oldest, range.newest) {
        (oldest, newest) if oldest == newest => oldest.to_string(),
        (oldest, newest) => format!("{oldest} to {newest}"),
    }
}

fn percent(value: u8) -> String {
    format!("{value} %")
}

fn gpu(device: &DeviceReport) -> String {
    let busy = device.busy_percent.map(percent);
    format!(
        "cuda:{} {}, driver {}, {} of {} MiB, busy {}",
        device.index,
        device.model,
        device.driver,
        device.memory_used_mib,
        device.memory_mib,
        busy.unwrap_or_else(|| "unknown".to_owned()),
    )
}

/// `node drain`
pub fn drain(args: &DrainArgs) -> anyhow::Result<Exit> {
    let ask = &args.target.ask;
    let end = args.wait.map(|wait| Instant::now() + wait);
    let drained = target(&args.target).and_then(|member| {
        let within = args.within.map(Millis::from);
        let node = member.node;
        let envelope = place(ask, Order::DrainNode { node, within })?;
        let member = match end {
            Some(end) => wait_until_idle(ask, node, end)?,
            None => member_of(ask, node)?.unwrap_or(member),
        };
        Ok((envelope, member))
    });
    let (envelope, member) = match drained {
        Ok(drained) => drained,
        Err(error) => return Ok(failed(&error)),
    };
    if ask.json {
        json(&envelope.with(&member))?;
    } else {
        let name = &member.name;
        data(&match (member.jobs, member.drained_in_ms) {
            (0, _) => format!("{name} is drained: it holds no job and gets none"),
            (jobs, None) => format!("{name} gets no new work; {jobs} jobs end when they end"),
            (jobs, Some(left)) => format!(
                "{name} gets no new work; what is left of {jobs} jobs is taken back in {}",
                Millis(left)
            ),
        });
    }
    Ok(Exit::of(end.is_none() || member.jobs == 0))
}

/// `node undrain`
pub fn undrain(args: &NamedNode) -> anyhow::Result<Exit> {
    let placed = target(args).and_then(|member| {
        let envelope = place(&args.ask, Order::UndrainNode(member.node))?;
        Ok((envelope, member))
    });
    match placed {
        Ok((envelope, _)) if args.ask.json => json(&envelope).map(|()| Exit::Ok),
        Ok((_, member)) => {
            data(&format!("{} gets work again", member.name));
            Ok(Exit::Ok)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// `node retire`
pub fn retire(args: &RetireArgs) -> anyhow::Result<Exit> {
    match take_out(args) {
        Ok(Some(envelope)) if args.target.ask.json => json(&envelope).map(|()| Exit::Ok),
        Ok(Some(_)) => {
            data(&format!("{} is out", args.target.node));
            Ok(Exit::Ok)
        }
        Ok(None) => {
            talk("it still holds jobs; the same command goes on");
            Ok(Exit::Failed)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// Step by step, each of which may have been taken by an earlier command; none while the node holds jobs.
fn take_out(args: &RetireArgs) -> Result<Option<Envelope<OrderAnswer>>, AskError> {
    let ask = &args.target.ask;
    let member = target(&args.target)?;
    let node = member.node;
    if member.role == Some(Role::Voter) {
        check_no_member(ask, &member)?;
    }
    // Drained already with less time left than this: that time stands.
    let within = Millis::from(args.within);
    if !member.draining || member.drained_in_ms.is_none_or(|left| left > within.0) {
        let within = Some(within);
        place(ask, Order::DrainNode { node, within })?;
    }
    let end = Instant::now() + args.within + args.wait;
    if wait_until_idle(ask, node, end)?.jobs > 0 {
        return Ok(None);
    }
    if member.role != Some(Role::Voter) {
        let reason = args.reason.clone();
        place(ask, Order::RevokeCertificate { node, reason })?;
    }
    place(ask, Order::ForgetNode(node)).map(Some)
}

/// A member of the voters' group is more than a row in the roster.
fn check_no_member(ask: &AskArgs, member: &MemberAnswer) -> Result<(), AskError> {
    let raft: RaftAnswer = Asker::new(&ask.addr).get("/v1/raft")?.answer;
    let members = &raft.status.members;
    if members.iter().any(|known| known.node == member.node) {
        let name = &member.name;
        return Err(AskError::Refused(format!(
            "{name} follows the log; `riftmesh raft remove-voter {name}` comes first"
        )));
    }
    Ok(())
}

/// Waits until the node holds no job; as it is then, or when the time is over.
fn wait_until_idle(ask: &AskArgs, node: NodeId, end: Instant) -> Result<MemberAnswer, AskError> {
    loop {
        let member = member_of(ask, node)?;
        let member = member.ok_or_else(|| {
            AskError::Refused(format!("node {node} was taken out by somebody else"))
        })?;
        if member.jobs == 0 || Instant::now() >= end {
            return Ok(member);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn members(ask: &AskArgs) -> Result<Envelope<Vec<MemberAnswer>>, AskError> {
    Asker::new(&ask.addr).get("/v1/members")
}

fn member_of(ask: &AskArgs, node: NodeId) -> Result<Option<MemberAnswer>, AskError> {
    let members = members(ask)?.answer;
    Ok(members.into_iter().find(|member| member.node == node))
}

fn target(args: &NamedNode) -> Result<MemberAnswer, AskError> {
    known(&args.node, members(&args.ask)?.answer)
}

/// The node that was named, which has to be one that is listed.
fn known(wanted: &str, members: Vec<MemberAnswer>) -> Result<MemberAnswer, AskError> {
    let found = find(wanted, members).map_err(AskError::Refused)?;
    let unknown = || AskError::Refused(format!("the cluster does not know node {wanted}"));
    found.member.ok_or_else(unknown)
}
