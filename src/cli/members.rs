//! `members`: the nodes of the mesh, once or as they change.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use riftmesh_base::time::wall_clock;
use riftmesh_base::{Millis, NodeId, Role};
use serde::Serialize;
use serde_json::{Map, Value};

use super::ask::Asker;
use super::node::RoleArg;
use super::order::failed;
use super::output::{clear_screen, data, freshness, json, table, talk};
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::answers::{Envelope, MemberAnswer, ReportAnswer};

/// Fields of a member that change all the time and are no news.
const RESTLESS: [&str; 5] = ["since_ms", "rtt_us", "drained_in_ms", "report", "told_ms"];

/// Which members to show, and for how long.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  riftmesh members --state suspect,down
  riftmesh members --role worker --label big-memory
  riftmesh members --zone eu-west,eu-north
  riftmesh members --watch                       redrawn every second; through a pipe, a line for each change
  riftmesh members --watch --json --count 10     one object for each change; first everybody who is there
Exit codes: 0 all that are shown are up or have left, 1 one is not, 3 no node answered")]
pub struct MembersArgs {
    #[command(flatten)]
    filter: MemberFilter,
    /// Go on and show what changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Time between two looks with --watch
    #[arg(long, value_parser = parse_duration, default_value = "1s", requires = "watch")]
    every: Duration,
    /// End after this many changes
    #[arg(long, requires = "watch")]
    count: Option<u64>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Which of the members. What is not given does not restrict.
#[derive(Debug, Clone, Default, Args)]
pub struct MemberFilter {
    /// Only in these states
    #[arg(long, value_enum, value_delimiter = ',')]
    state: Vec<StateArg>,
    /// Only this kind
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    /// Only with all of these labels
    #[arg(long, value_delimiter = ',')]
    label: Vec<String>,
    /// Only in these zones
    #[arg(long, value_delimiter = ',')]
    zone: Vec<String>,
    /// Only with this in their names
    #[arg(long)]
    name: Option<String>,
    /// Only those that are being left without new work
    #[arg(long)]
    draining: bool,
}

/// States as `members` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// It answers
    Up,
    /// It has not answered somebody lately
    Suspect,
    /// It is gone without a word
    Down,
    /// It said goodbye
    Left,
    /// In the roster, and never heard of
    Unknown,
}

impl MemberFilter {
    /// Whether `member` is to be shown.
    pub fn admits(&self, member: &MemberAnswer) -> bool {
        let role = self.role.map(|role| match role {
            RoleArg::Voter => Role::Voter,
            RoleArg::Worker => Role::Worker,
        });
        let mut states = self.state.iter().filter_map(ValueEnum::to_possible_value);
        (self.state.is_empty() || states.any(|state| state.get_name() == member.state))
            && role.is_none_or(|role| member.role == Some(role))
            && self.label.iter().all(|label| member.labels.contains(label))
            && (self.zone.is_empty()
                || member
                    .zone
                    .as_ref()
                    .is_some_and(|zone| self.zone.contains(zone)))
            && self
                .name
                .as_ref()
                .is_none_or(|part| member.name.contains(part))
            && (!self.draining || member.draining)
    }
}

/// Runs `members`.
pub fn run(args: &MembersArgs) -> anyhow::Result<Exit> {
    let asker = Asker::new(&args.ask.addr);
    let envelope = match look(&asker, &args.filter) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    if args.watch {
        return watch(args, &asker, envelope);
    }
    if args.ask.json {
        json(&envelope)?;
    } else {
        print(&envelope);
    }
    let fine = |member: &MemberAnswer| member.state == "up" || member.state == "left";
    Ok(Exit::of(envelope.answer.iter().all(fine)))
}

/// The members that the filter admits.
pub fn look(
    asker: &Asker,
    filter: &MemberFilter,
) -> Result<Envelope<Vec<MemberAnswer>>, super::ask::AskError> {
    let mut envelope: Envelope<Vec<MemberAnswer>> = asker.get("/v1/members")?;
    envelope.answer.retain(|member| filter.admits(member));
    Ok(envelope)
}

/// Looks again and again. A person sees the whole table, a program what has changed.
fn watch(
    args: &MembersArgs,
    asker: &Asker,
    first: Envelope<Vec<MemberAnswer>>,
) -> anyhow::Result<Exit> {
    let redraw = !args.ask.json && std::io::stdout().is_terminal();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut before = Vec::new();
    let mut next = Some(first);
    loop {
        if let Some(envelope) = next {
            let changes = differences(&before, &envelope.answer, wall_clock());
            if redraw {
                clear_screen();
                print(&envelope);
            }
            for change in changes {
                if args.ask.json {
                    data(&serde_json::to_string(&change)?);
                } else if !redraw {
                    data(&change.to_string());
                }
                left -= 1;
                if left == 0 {
                    return Ok(Exit::Ok);
                }
            }
            before = envelope.answer;
        }
        std::thread::park_timeout(args.every);
        next = look(asker, &args.filter)
            .map_err(|error| talk(&format!("error: {error}")))
            .ok();
    }
}

fn print(envelope: &Envelope<Vec<MemberAnswer>>) {
    table(
        &[
            "NAME", "ID", "ROLE", "ZONE", "STATE", "FOR", "ADDRESS", "HTTP", "RTT", "SLOTS",
            "JOBS", "LOAD", "DEVICES",
        ],
        envelope.answer.iter().map(row),
    );
    freshness(envelope);
}

fn row(member: &MemberAnswer) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        member.name.clone(),
        member.node.to_string(),
        or_dash(member.role.map(|role| role.to_string())),
        or_dash(member.zone.clone()),
        standing(member),
        or_dash(member.since_ms.map(|ms| Millis(ms).to_string())),
        reached(member),
        or_dash(member.http.clone()),
        or_dash(member.rtt_us.map(micros)),
        member.slots.to_string(),
        member.jobs.to_string(),
        or_dash(member.report.as_ref().map(load)),
        or_dash(member.report.as_ref().and_then(devices)),
    ]
}

/// Where it is reached: its address, or the member that passes on what is for it.
pub fn reached(member: &MemberAnswer) -> String {
    match &member.relay {
        Some(relay) => format!("through {relay}"),
        None => member.address.clone(),
    }
}

/// How busy its processors and its memory are.
pub fn load(told: &ReportAnswer) -> String {
    let load = &told.report.load;
    let memory = 100 * u64::from(load.memory_used_mib) / u64::from(load.memory_mib.max(1));
    format!("{}% mem {memory}%", load.cpu_percent)
}

/// Its GPUs, alike ones together: `8x NVIDIA H200`.
pub fn devices(told: &ReportAnswer) -> Option<String> {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for device in &told.report.devices {
        match kinds.iter_mut().find(|(model, _)| *model == device.model) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&device.model, 1)),
        }
    }
    let kinds: Vec<_> = kinds
        .into_iter()
        .map(|(model, count)| format!("{count}x {model}"))
        .collect();
    (!kinds.is_empty()).then(|| kinds.join(", "))
}

/// Its state, and that it is being drained, if it is.
pub fn standing(member: &MemberAnswer) -> String {
    match (member.draining, member.jobs) {
        (false, _) => member.state.clone(),
        (true, 0) => format!("{}, drained", member.state),
        (true, _) => format!("{}, draining", member.state),
    }
}

/// Microseconds as milliseconds for people.
pub fn micros(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
}

/// What became of a member between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct MemberChange {
    /// When, in milliseconds since the Unix epoch.
    at: Millis,
    node: NodeId,
    name: String,
    change: ChangeKind,
    /// The fields that changed as they were, none of a newcomer.
    before: Option<Map<String, Value>>,
    /// The same as they are now, all of a newcomer's; none of somebody who is gone.
    now: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ChangeKind {
    /// It was not among those shown.
    Appeared,
    /// It is another.
    Changed,
    /// It is not among those shown any more.
    Gone,
}

impl std::fmt::Display for MemberChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.node)?;
        let text = |fields: &Option<Map<String, Value>>, name: &str| {
            let value = fields.as_ref().and_then(|fields| fields.get(name));
            match value {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => "nothing".to_owned(),
            }
        };
        match self.change {
            ChangeKind::Appeared => write!(f, " is there: {}", text(&self.now, "state")),
            ChangeKind::Gone => f.write_str(" is gone"),
            ChangeKind::Changed => {
                let names = self.now.iter().flat_map(Map::keys);
                for (at, name) in names.enumerate() {
                    let comma = if at == 0 { ":" } else { "," };
                    let (before, now) = (text(&self.before, name), text(&self.now, name));
                    write!(f, "{comma} {name} {before} -> {now}")?;
                }
                Ok(())
            }
        }
    }
}

/// The fields of a member that mean something when they change.
fn fields(member: &MemberAnswer) -> Map<String, Value> {
    match serde_json::to_value(member) {
        Ok(Value::Object(mut fields)) => {
            fields.retain(|name, _| !RESTLESS.contains(&name.as_str()));
            fields
        }
        // Not with the types used here.
        _ => Map::new(),
    }
}

fn differences(before: &[MemberAnswer], now: &[MemberAnswer], at: Millis) -> Vec<MemberChange> {
    let change = |member: &MemberAnswer, change, before, now| MemberChange {
        at,
        node: member.node,
        name: member.name.clone(),
        change,
        before,
        now,
    };
    let mut changes = Vec::new();
    for member in now {
        let new = fields(member);
        let Some(known) = before.iter().find(|known| known.node == member.node) else {
            changes.push(change(member, ChangeKind::Appeared, None, Some(new)));
            continue;
        };
        let old = fields(known);
        let differs = |name: &&String| old.get(*name) != new.get(*name);
        let names: BTreeSet<_> = new.keys().filter(differs).cloned().collect();
        if names.is_empty() {
            continue;
        }
        let of = |mut fields: Map<String, Value>| {
            fields.retain(|name, _| names.contains(name));
            Some(fields)
        };
        changes.push(change(
            member,
            ChangeKind::Changed,
            of(old.clone()),
            of(new),
        ));
    }
    let gone = before
        .iter()
        .filter(|known| !now.iter().any(|member| member.node == known.node));
    changes.extend(gone.map(|member| change(member, ChangeKind::Gone, None, None)));
    changes
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use riftmesh_base::SessionId;

    use super::*;
    use crate::answers::{DeviceReport, LoadReport, NodeReport};

    fn member(node: u64, name: &str) -> MemberAnswer {
        MemberAnswer {
            node: NodeId(node),
            name: name.to_owned(),
            role: Some(Role::Worker),
            address: format!("10.0.0.{node}:7700"),
            relay: None,
            http: None,
            state: "up".to_owned(),
            generation: Some(1_800_000_000_000),
            version: Some("0.1.0".to_owned()),
            rtt_us: Some(1_234),
            draining: false,
            drained_in_ms: None,
            labels: vec!["big".to_owned()],
            zone: None,
            protocols: None,
            report: None,
            told_ms: None,
            since_ms: Some(61_000),
            session: Some(SessionId(3)),
            slots: 4,
            jobs: 2,
        }
    }

    /// A program that watches is told what changed, of whom, from what to what, and nothing that only ticks.
    #[test]
    fn only_news_is_told() {
        let (a, mut b, c) = (member(1, "a"), member(2, "b"), member(3, "c"));
        let before = [a.clone(), b.clone()];
        let mut ticking = a.clone();
        (ticking.since_ms, ticking.rtt_us) = (Some(62_000), None);
        assert_eq!(
            differences(&before, &[ticking.clone(), b.clone()], Millis(9)),
            []
        );
        (b.state, b.jobs, b.session) = ("suspect".to_owned(), 0, None);
        let changes = differences(&before, &[b, c], Millis(9));
        let lines: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "b (0000000000000002): jobs 2 -> 0, session s3 -> null, state up -> suspect",
                "c (0000000000000003) is there: up",
                "a (0000000000000001) is gone",
            ]
        );
        assert_eq!(
            serde_json::to_string(&changes[0]).unwrap(),
            "{\"at\":9,\"node\":\"0000000000000002\",\"name\":\"b\",\"change\":\"changed\",\
             \"before\":{\"jobs\":2,\"session\":\"s3\",\"state\":\"up\"},\
             \"now\":{\"jobs\":0,\"session\":null,\"state\":\"suspect\"}}"
        );
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: MemberFilter,
    }

    /// Each filter alone lets through what it names; together they all have to.
    #[test]
    fn filters_restrict() {
        let (a, mut b, mut c) = (member(1, "a"), member(2, "gpu-b"), member(3, "gpu-c"));
        (b.state, b.labels) = ("down".to_owned(), Vec::new());
        (c.draining, c.role) = (true, Some(Role::Voter));
        (b.zone, c.zone) = (Some("eu".to_owned()), Some("eu-west".to_owned()));
        let shown = |line: &str| {
            let words = std::iter::once("members").chain(line.split_whitespace());
            let filter = Line::try_parse_from(words).unwrap().filter;
            let members = [&a, &b, &c].into_iter();
            let names = members.filter(|member| filter.admits(member));
            names.map(|member| member.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(shown(""), ["a", "gpu-b", "gpu-c"]);
        assert_eq!(shown("--state down,suspect"), ["gpu-b"]);
        assert_eq!(shown("--role worker"), ["a", "gpu-b"]);
        assert_eq!(shown("--label big"), ["a", "gpu-c"]);
        assert_eq!(shown("--label big,quiet"), [""; 0]);
        assert_eq!(shown("--name gpu"), ["gpu-b", "gpu-c"]);
        assert_eq!(shown("--zone eu"), ["gpu-b"]);
        assert_eq!(shown("--zone us,eu-west"), ["gpu-c"]);
        assert_eq!(shown("--draining"), ["gpu-c"]);
        assert_eq!(shown("--name gpu --state up"), ["gpu-c"]);
        assert!(Line::try_parse_from(["members", "--state", "asleep"]).is_err());
    }

    /// What a person sees of a member.
    #[test]
    fn a_row_says_it_all() {
        let mut drained = member(1, "a");
        (drained.draining, drained.jobs) = (true, 0);
        drained.zone = Some("rack-3".to_owned());
        let columns = [
            "a",
            "0000000000000001",
            "worker",
            "rack-3",
            "up, drained",
            "1m01s",
            "10.0.0.1:7700",
            "-",
            "1.23 ms",
            "4",
            "0",
            "35% mem 50%",
            "2x NVIDIA H200, 1x NVIDIA L4",
        ];
        let device = |index, model: &str| DeviceReport {
            index,
            model: model.to_owned(),
            driver: "570.86".to_owned(),
            memory_mib: 143_771,
            memory_used_mib: 1_000,
            busy_percent: Some(97),
        };
        drained.report = Some(ReportAnswer {
            age_ms: 1_500,
            report: NodeReport {
                devices: vec![
                    device(0, "NVIDIA H200"),
                    device(1, "NVIDIA L4"),
                    device(2, "NVIDIA H200"),
                ],
                load: LoadReport {
                    cores: 16,
                    cpu_percent: 35,
                    memory_mib: 2_000,
                    memory_used_mib: 1_000,
                },
            },
        });
        assert_eq!(row(&drained), columns);
        drained.jobs = 1;
        assert_eq!(standing(&drained), "up, draining");
    }
}
