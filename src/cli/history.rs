//! `job history`: jobs that are over, page by page.

use clap::Args;
use riftmesh_base::{ConfigurationName, JobId};
use riftmesh_statemachine::job::JobPhase;

use super::ask::{AskError, Asker};
use super::job::KindArg;
use super::order::failed;
use super::output::{data, freshness, json, table_lines, talk};
use super::{AskArgs, Exit, parse_configuration};
use crate::answers::Envelope;
use crate::history::{HISTORY_JOBS_MAX, HistoryAnswer, HistoryPlace, HistoryQuery};

/// What is printed below `job history --help`.
pub const EXAMPLES: &str = "\
Examples:
  riftmesh job history                          the last thirty that ended
  riftmesh job history j42                      one of them, however long ago
  riftmesh job history --kind train --state dead --limit 500
  riftmesh job history --from j42               go on where an earlier list stopped
The state keeps the last ten thousand jobs that ended; older ones are read from the archive of the voter that answers.
Exit codes: 0 done, 1 there is no such job, or a part of the archive is missing or damaged there, 3 no node answered";

/// Which jobs.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only this job, such as `j42`
    id: Option<JobId>,
    /// Only this kind
    #[arg(long)]
    kind: Option<KindArg>,
    /// Only those that ended like this: done, cancelled, dead
    #[arg(long)]
    state: Option<JobPhase>,
    /// Only of this configuration, such as `hex8_2p`
    #[arg(long, value_parser = parse_configuration)]
    configuration: Option<ConfigurationName>,
    /// At most this many
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on where an earlier list stopped
    #[arg(long, value_name = "PLACE")]
    from: Option<HistoryPlace>,
    #[command(flatten)]
    ask: AskArgs,
}

impl HistoryArgs {
    fn query(&self, from: Option<HistoryPlace>, left: u32) -> HistoryQuery {
        HistoryQuery {
            kind: self.kind.map(Into::into),
            state: self.state,
            configuration: self.configuration.clone(),
            job: self.id,
            from,
            limit: left.min(HISTORY_JOBS_MAX),
        }
    }
}

/// Runs `job history`.
pub fn run(args: &HistoryArgs) -> anyhow::Result<Exit> {
    let envelope = match collect(args) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    let answer = &envelope.answer;
    if args.ask.json {
        json(&envelope)?;
    } else {
        lines(answer).iter().for_each(|line| data(line));
        freshness(&envelope);
    }
    if let Some(broken) = &answer.broken {
        talk(&format!(
            "error: the archive of {} cannot be read on from {broken}; ask another voter with --addr, or see what is \
             wrong there with `inspect archive`",
            envelope.name
        ));
    }
    match args.id {
        Some(job) if answer.jobs.is_empty() && answer.broken.is_none() => {
            talk(&format!(
                "error: no job {job} has ended; `job show {job}` knows the live ones"
            ));
            Ok(Exit::Failed)
        }
        _ => Ok(Exit::of(answer.broken.is_none())),
    }
}

/// Asks until there are enough jobs, or no more.
fn collect(args: &HistoryArgs) -> Result<Envelope<HistoryAnswer>, AskError> {
    let asker = Asker::new(&args.ask.addr);
    let limit = args.id.map_or(args.limit, |_| 1);
    let (mut jobs, mut from) = (Vec::new(), args.from);
    loop {
        let left = limit - u32::try_from(jobs.len()).unwrap_or(limit).min(limit);
        let path = path(&args.query(from, left));
        let envelope: Envelope<HistoryAnswer> = asker.get(&path)?;
        jobs.extend_from_slice(&envelope.answer.jobs);
        from = envelope.answer.next;
        if from.is_none() || jobs.len() >= limit as usize {
            let answer = HistoryAnswer {
                jobs,
                ..envelope.answer.clone()
            };
            return Ok(envelope.with(answer));
        }
    }
}

/// Nothing in it needs to be escaped.
fn path(query: &HistoryQuery) -> String {
    let kind = query.kind.and_then(|kind| serde_json::to_value(kind).ok());
    let parts = [
        (
            "kind",
            kind.and_then(|kind| kind.as_str().map(str::to_owned)),
        ),
        ("state", query.state.map(|state| state.to_string())),
        (
            "configuration",
            query.configuration.as_ref().map(ToString::to_string),
        ),
        ("job", query.job.map(|job| job.to_string())),
        ("from", query.from.map(|from| from.to_string())),
    ];
    let given = parts.into_iter();
    let given = given.filter_map(|(name, value)| Some(format!("&{name}={}", value?)));
    format!(
        "/v1/history?limit={}{}",
        query.limit,
        given.collect::<String>()
    )
}

fn lines(answer: &HistoryAnswer) -> Vec<String> {
    let header = [
        "JOB",
        "KIND",
        "CONFIGURATION",
        "STATE",
        "ENDED AT",
        "FAILURES",
        "LOSSES",
        "MADE",
        "NOTE",
    ];
    let rows = answer.jobs.iter().map(|job| {
        vec![
            job.id.to_string(),
            job.spec.kind.to_string(),
            job.spec.configuration.to_string(),
            job.state.phase().to_string(),
            job.changed.to_string(),
            job.failures.to_string(),
            job.losses.to_string(),
            job.outputs.len().to_string(),
            job.note.chars().take(60).collect(),
        ]
    });
    let mut lines = table_lines(&header, rows);
    lines.push(format!("{} jobs in the archive", answer.archived));
    if let Some(next) = answer.next {
        lines.push(format!("more: --from {next}"));
    }
    lines
}
