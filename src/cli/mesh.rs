//! `mesh ping|events|leave`: the mesh as one node sees it.

use std::io::BufRead;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{NodeId, Role};
use riftmesh_transport::PeerTraffic;
use serde::{Deserialize, Serialize};

use super::ask::{AskError, Asker};
use super::members::micros;
use super::order::failed;
use super::output::{data, json, talk};
use super::raft::find;
use super::token::until;
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::answers::{
    CertificateAnswer, Envelope, MeshLine, PingAnswer, PingRequest, QuorumAnswer,
};

/// A packet is lost when its answer takes longer.
const PING_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Round trips of one command at most.
const PINGS_MAX: u32 = 10_000;

/// The `mesh` family.
#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Measure the way from the node that answers to another one, by round trips over QUIC
    #[command(after_help = "\
Examples:
  riftmesh mesh ping gpu-1
  riftmesh mesh ping 4f1c9a --count 100 --json
The connection is made first and does not count. A node is named by its name, its id, or the beginning of it.
Exit codes: 0 every answer came, 1 one was lost or there is no such node, 3 no node answered this command")]
    Ping(PingArgs),
    /// What the node that answers saw happen: joins, suspicions, deaths, goodbyes, other addresses
    #[command(after_help = "\
Examples:
  riftmesh mesh events                       the last thousand
  riftmesh mesh events --follow --node gpu-1 --json
Each node tells what it saw itself, since it was started. A line `gap` says that some were missed.
Exit codes: 0 told, or the count was reached, 1 the node ended the stream, 3 no node answered")]
    Events {
        /// Go on with what it sees from now on, until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// Only about the node with this name, or with an id that begins so
        #[arg(long)]
        node: Option<String>,
        /// End after this many lines
        #[arg(long)]
        count: Option<u64>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Have the node that answers leave: its jobs are handed back, others are told, its process ends
    #[command(after_help = "\
Example:
  riftmesh mesh leave --addr 127.0.0.1:7700    on the machine itself
It is `left` then, and nobody waits for it. Started again with its directory it is the same node. Whatever restarts it
after a success (systemd with Restart=always) brings it back; `node retire` takes a node out for good.
Exit codes: 0 it leaves, 1 refused: the voters could not do without it (--force), 3 it does not answer")]
    Leave {
        /// Even if the voters that stay are no quorum, or that cannot be known
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Options of `mesh ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Name or id of the node, as `riftmesh members` lists it
    node: String,
    /// How many round trips
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(PINGS_MAX)))]
    count: u32,
    /// Time between two
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    interval: Duration,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs a `mesh` command.
pub fn run(command: &MeshCommand) -> anyhow::Result<Exit> {
    match command {
        MeshCommand::Ping(args) => ping(args).or_else(|error| Ok(failed(&error))),
        MeshCommand::Events {
            follow,
            node,
            count,
            ask,
        } => events(*follow, node.as_deref(), *count, ask),
        MeshCommand::Leave { force, ask } => leave(*force, ask),
    }
}

/// What `mesh ping --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PingReport {
    from: String,
    to: String,
    node: NodeId,
    address: String,
    sent: u32,
    lost: u32,
    /// In microseconds, of those that were answered.
    min_us: Option<u64>,
    median_us: Option<u64>,
    max_us: Option<u64>,
    /// What the two have sent each other since the one that was asked was started, these round trips included.
    traffic: Option<PeerTraffic>,
}

impl PingReport {
    fn new(from: &str, to: &str, pings: &[PingAnswer], first: &PingAnswer) -> Self {
        let mut answered: Vec<_> = pings.iter().filter_map(|ping| ping.rtt_us).collect();
        answered.sort_unstable();
        let lost = pings.len() - answered.len();
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            node: first.node,
            address: first.address.clone(),
            sent: u32::try_from(pings.len()).unwrap_or(u32::MAX),
            lost: u32::try_from(lost).unwrap_or(u32::MAX),
            min_us: answered.first().copied(),
            median_us: answered.get(answered.len() / 2).copied(),
            max_us: answered.last().copied(),
            traffic: pings.last().and_then(|ping| ping.traffic),
        }
    }

    fn lines(&self) -> Vec<String> {
        let percent = 100 * u64::from(self.lost) / u64::from(self.sent.max(1));
        let counts = format!("{} sent, {} lost ({percent} %)", self.sent, self.lost);
        let times = match (self.min_us, self.median_us, self.max_us) {
            (Some(min), Some(median), Some(max)) => {
                let (min, median, max) = (micros(min), micros(median), micros(max));
                Some(format!("round trip min {min}, median {median}, max {max}"))
            }
            _ => None,
        };
        let traffic = self.traffic.as_ref().map(in_words);
        [counts].into_iter().chain(times).chain(traffic).collect()
    }
}

fn in_words(traffic: &PeerTraffic) -> String {
    let (sent, received) = (
        HumanBytes(traffic.bytes_sent),
        HumanBytes(traffic.bytes_received),
    );
    format!(
        "so far {sent} sent, {received} received; calls {} made, {} answered; datagrams {} sent, {} received",
        traffic.calls_made,
        traffic.calls_answered,
        traffic.datagrams_sent,
        traffic.datagrams_received
    )
}

fn ping(args: &PingArgs) -> Result<Exit, AskError> {
    let asker = Asker::new(&args.ask.addr);
    let members = asker.get("/v1/members")?.answer;
    let node = find(&args.node, members).map_err(AskError::Refused)?.node;
    let request = PingRequest {
        node,
        timeout_ms: u64::try_from(PING_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
    };
    let once = || asker.post::<PingAnswer>("/v1/mesh/ping", &request);
    let first = once()?;
    let aloud = !args.ask.json;
    if aloud {
        let (from, address) = (&first.name, &first.answer.address);
        data(&format!("from {from} to {} at {address}", args.node));
    }
    let mut pings = Vec::new();
    for number in 1..=args.count {
        if number > 1 {
            std::thread::park_timeout(args.interval);
        }
        let ping = once()?.answer;
        if aloud {
            data(&format!("{number}: {}", outcome(&ping)));
        }
        pings.push(ping);
    }
    let report = PingReport::new(&first.name, &args.node, &pings, &first.answer);
    if aloud {
        report.lines().iter().for_each(|line| data(line));
    } else if let Err(error) = json(&report) {
        talk(&format!("error: {error}"));
    }
    Ok(Exit::of(report.lost == 0))
}

fn outcome(ping: &PingAnswer) -> String {
    match (ping.rtt_us, &ping.lost) {
        (Some(rtt), _) => micros(rtt),
        (None, Some(why)) => format!("lost: {why}"),
        (None, None) => "lost".to_owned(),
    }
}

fn events(
    follow: bool,
    node: Option<&str>,
    count: Option<u64>,
    ask: &AskArgs,
) -> anyhow::Result<Exit> {
    let asker = Asker::new(&ask.addr);
    // The first lines about a node are older than the news of its name.
    let id = node.map(|wanted| known_as(&asker, wanted));
    let path = format!("/v1/mesh/events?follow={follow}");
    let lines = match asker.stream(&path) {
        Ok(lines) => lines,
        Err(error) => return Ok(failed(&error)),
    };
    let mut left = count.unwrap_or(u64::MAX);
    for text in lines.lines() {
        let text = text?;
        let line: MeshLine = serde_json::from_str(&text)?;
        if !id.as_ref().is_none_or(|id| concerns(&line, id)) {
            continue;
        }
        data(&if ask.json { text } else { words(&line) });
        left -= 1;
        if left == 0 {
            return Ok(Exit::Ok);
        }
    }
    if follow {
        talk("the node ended the stream; ask another one with --addr, or again");
    }
    Ok(Exit::of(!follow))
}

/// The id of a node with that name, or the text itself: somebody whom only the mesh remembers, or the beginning of an id.
fn known_as(asker: &Asker, wanted: &str) -> String {
    let members = asker.get("/v1/members").ok();
    let found = members.and_then(|members| find(wanted, members.answer).ok());
    found.map_or_else(|| wanted.to_lowercase(), |found| found.node.to_string())
}

/// A gap concerns everybody.
fn concerns(line: &MeshLine, id: &str) -> bool {
    match line {
        MeshLine::Gap => true,
        MeshLine::Seen { node, name, .. } => name == id || node.to_string().starts_with(id),
    }
}

fn words(line: &MeshLine) -> String {
    match line {
        MeshLine::Gap => "gap: some events were missed".to_owned(),
        MeshLine::Seen {
            at,
            node,
            name,
            what,
            ..
        } => format!("{}: {name} ({node}) {what}", until(*at, wall_clock())),
    }
}

/// What a node that was asked to leave answers: its id.
#[derive(Debug, Serialize, Deserialize)]
struct Leaving(NodeId);

fn leave(force: bool, ask: &AskArgs) -> anyhow::Result<Exit> {
    let asker = Asker::new(&ask.addr);
    let left = may_leave(&asker, force).and_then(|()| asker.post("/v1/mesh/leave", &()));
    let envelope: Envelope<Leaving> = match left {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    if ask.json {
        json(&envelope)?;
    } else {
        data(&format!("{} leaves", envelope.name));
    }
    Ok(Exit::Ok)
}

/// A worker may leave at any time, a voter if the others can do without it.
fn may_leave(asker: &Asker, force: bool) -> Result<(), AskError> {
    let own: Envelope<CertificateAnswer> = asker.get("/v1/certificate")?;
    if force || own.answer.role != Role::Voter {
        return Ok(());
    }
    let quorum: QuorumAnswer = asker.get("/v1/quorum")?.answer;
    if !quorum.voters.iter().any(|voter| voter.node == own.node) {
        return Ok(());
    }
    match quorum.failure_tolerance {
        Some(1..) => Ok(()),
        Some(0) => Err(AskError::Refused(format!(
            "{} votes, and the others are no quorum without it; --force does it all the same",
            own.name
        ))),
        None => Err(AskError::Refused(
            "no quorum could be confirmed, so nobody knows whether it can do without this voter; --force does it all the same"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use riftmesh_base::Millis;

    use super::*;
    use crate::answers::MeshHappening;

    fn ping(rtt_us: Option<u64>) -> PingAnswer {
        PingAnswer {
            node: NodeId(7),
            address: "10.0.0.7:7700".to_owned(),
            rtt_us,
            lost: rtt_us.is_none().then(|| "no answer within 1s".to_owned()),
            traffic: None,
        }
    }

    /// The report counts what was lost and measures what was not.
    #[test]
    fn pings_are_summed_up() {
        let mut pings = [Some(900), None, Some(12_345), Some(1_000)].map(ping);
        pings[3].traffic = Some(PeerTraffic {
            bytes_sent: 2_048,
            bytes_received: 3 << 20,
            calls_made: 4,
            calls_answered: 3,
            datagrams_sent: 2,
            datagrams_received: 1,
        });
        let report = PingReport::new("v1", "w1", &pings, &pings[0]);
        assert_eq!(
            report.lines(),
            [
                "4 sent, 1 lost (25 %)",
                "round trip min 0.90 ms, median 1.00 ms, max 12.34 ms",
                "so far 2.00 KiB sent, 3.00 MiB received; calls 4 made, 3 answered; datagrams 2 sent, 1 received",
            ]
        );
        assert_eq!(outcome(&pings[1]), "lost: no answer within 1s");
        let silent = [ping(None)];
        let report = PingReport::new("v1", "w1", &silent, &silent[0]);
        assert_eq!(report.lines(), ["1 sent, 1 lost (100 %)"]);
    }

    /// Lines are chosen by name or by the beginning of the id, and gaps are never kept quiet.
    #[test]
    fn events_are_chosen() {
        let line = MeshLine::Seen {
            at: Millis(1),
            node: NodeId(0x4f1c_0000_0000_0000),
            name: "gpu-1".to_owned(),
            generation: 1,
            what: MeshHappening::Suspected,
        };
        for (wanted, expected) in [
            ("gpu-1", true),
            ("4f1c", true),
            ("gpu", false),
            ("4f1d", false),
        ] {
            assert_eq!(concerns(&line, wanted), expected, "{wanted}");
        }
        assert!(concerns(&MeshLine::Gap, "gpu-1"));
        assert!(words(&line).ends_with("ago: gpu-1 (4f1c000000000000) is suspected"));
    }
}
