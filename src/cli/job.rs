//! `job list|show|history|submit|watch|cancel|retry|release`, and the hidden `job exec` that a node's job children run.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use riftmesh_statemachine::job::{JobKind, JobRecord};

use super::ask::{AskError, Asker};
use super::history::HistoryArgs;
use super::order::{failed, order};
use super::output::{data, json, table, talk};
use super::query::ask_and_print;
use super::submit::SubmitArgs;
use super::{AskArgs, Exit};
use crate::answers::Envelope;
use crate::orders::Order;

/// Jobs looked at by one turn of `job watch`.
const WATCHED: u32 = 200;
/// Time between two turns of `job watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The `job` family.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Jobs, newest first
    List {
        /// Only this kind
        #[arg(long)]
        kind: Option<KindArg>,
        /// Only jobs in this state: waiting, delayed, ready, leased, cancelling, done, cancelled, dead
        #[arg(long)]
        state: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 30)]
        limit: u32,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Everything about one job
    Show {
        /// Such as `j42`
        id: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Jobs that are over, those that ended last first, also those that `job list` has no more
    #[command(after_help = super::history::EXAMPLES)]
    History(HistoryArgs),
    /// Enter jobs
    #[command(after_help = super::submit::EXAMPLES)]
    Submit(Box<SubmitArgs>),
    /// Stop a job; what it has made so far does not count
    Cancel {
        /// Such as `j42`
        id: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Make a dead, quarantined or cancelled job ready again, with fresh counters
    Retry {
        /// Such as `j42`
        id: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Take a job from the worker that holds it; it is ready again and counts one loss more
    Release {
        /// Such as `j42`
        id: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Print a line whenever a job changes its state, until interrupted
    Watch {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Run one assignment from stdin (used by nodes)
    #[command(hide = true)]
    Exec,
}

/// A kind of job on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KindArg {
    Selfplay,
    Train,
    Evaluate,
}

impl From<KindArg> for JobKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Selfplay => Self::Selfplay,
            KindArg::Train => Self::Train,
            KindArg::Evaluate => Self::Evaluate,
        }
    }
}

/// Runs a `job` command.
pub fn run(command: JobCommand) -> anyhow::Result<Exit> {
    match command {
        JobCommand::List {
            kind,
            state,
            limit,
            ask,
        } => {
            let mut path = format!("/v1/jobs?limit={limit}");
            if let Some(kind) = kind.and_then(|kind| kind.to_possible_value()) {
                path.push_str(&format!("&kind={}", kind.get_name()));
            }
            if let Some(state) = state {
                path.push_str(&format!("&state={state}"));
            }
            ask_and_print(
                &ask,
                &path,
                |jobs: &Vec<JobRecord>| print_jobs(jobs),
                |_| Exit::Ok,
            )
        }
        JobCommand::Show { id, ask } => {
            ask_and_print(&ask, &format!("/v1/jobs/{id}"), print_job, |_| Exit::Ok)
        }
        JobCommand::History(args) => super::history::run(&args),
        JobCommand::Submit(args) => super::submit::run(*args),
        JobCommand::Cancel { id, ask } => cancel(&id, &ask),
        JobCommand::Retry { id, ask } => {
            let job = id.parse()?;
            order(&ask, Order::RetryJob(job), |_| {
                format!("{job} will be tried again")
            })
        }
        JobCommand::Release { id, ask } => {
            let job = id.parse()?;
            order(&ask, Order::TakeJobBack(job), |_| {
                format!("{job} was taken from its holder")
            })
        }
        JobCommand::Watch { ask } => watch(&ask),
        JobCommand::Exec => Ok(if crate::job::exec::run() {
            Exit::Ok
        } else {
            Exit::Failed
        }),
    }
}

fn print_jobs(jobs: &[JobRecord]) {
    table(
        &[
            "JOB",
            "KIND",
            "CONFIGURATION",
            "STATE",
            "PROGRESS",
            "PRIORITY",
            "FAILURES",
            "LOSSES",
            "NOTE",
        ],
        jobs.iter().map(|job| {
            vec![
                job.id.to_string(),
                job.spec.kind.to_string(),
                job.spec.configuration.to_string(),
                job.state.phase().to_string(),
                format!("{}/{}", job.progress.0, job.progress.1),
                job.spec.priority.to_string(),
                job.failures.to_string(),
                job.losses.to_string(),
                job.note.chars().take(60).collect(),
            ]
        }),
    );
}

fn print_job(job: &JobRecord) {
    data(&format!(
        "{} {} of {}: {}",
        job.id,
        job.spec.kind,
        job.spec.configuration,
        job.state.phase()
    ));
    data(&format!(
        "  progress  {} of {}",
        job.progress.0, job.progress.1
    ));
    data(&format!(
        "  failures  {} of {} attempts",
        job.failures, job.spec.retry.attempts_max
    ));
    data(&format!("  losses    {}", job.losses));
    data(&format!(
        "  key       {}",
        job.spec.unique_key.as_deref().unwrap_or("-")
    ));
    data(&format!("  payload   {}", job.spec.payload));
    if !job.note.is_empty() {
        data(&format!("  note      {}", job.note));
    }
    for output in &job.outputs {
        data(&format!(
            "  made      {}",
            serde_json::to_string(output).unwrap_or_else(|error| error.to_string())
        ));
    }
}

fn cancel(id: &str, ask: &AskArgs) -> anyhow::Result<Exit> {
    let path = format!("/v1/jobs/{id}/cancel");
    match Asker::new(&ask.addr).post::<riftmesh_base::JobId>(&path, &()) {
        Ok(envelope) if ask.json => json(&envelope).map(|()| Exit::Ok),
        Ok(envelope) => {
            data(&format!("{} is cancelled", envelope.answer));
            Ok(Exit::Ok)
        }
        Err(error) => Ok(failed(&error)),
    }
}

fn watch(ask: &AskArgs) -> anyhow::Result<Exit> {
    let asker = Asker::new(&ask.addr);
    let mut seen: BTreeMap<_, String> = BTreeMap::new();
    loop {
        match asker.get::<Vec<JobRecord>>(&format!("/v1/jobs?limit={WATCHED}")) {
            Ok(envelope) => print_changes(&envelope, &mut seen, ask.json)?,
            Err(error @ AskError::Unreachable(_)) if seen.is_empty() => {
                talk(&format!("error: {error}"));
                return Ok(Exit::Unreachable);
            }
            Err(error) => talk(&format!("{error}")),
        }
        std::thread::park_timeout(WATCH_EVERY);
    }
}

fn print_changes(
    envelope: &Envelope<Vec<JobRecord>>,
    seen: &mut BTreeMap<riftmesh_base::JobId, String>,
    json: bool,
) -> anyhow::Result<()> {
    for job in envelope.answer.iter().rev() {
        let line = format!("{} {} {}", job.id, job.spec.kind, job.state.phase());
        if seen.insert(job.id, line.clone()).as_ref() == Some(&line) {
            continue;
        }
        if json {
            data(&serde_json::to_string(job)?);
        } else {
            data(format!("{line} {}", job.note).trim_end());
        }
    }
    let oldest = envelope.answer.last().map(|job| job.id);
    seen.retain(|id, _| Some(*id) >= oldest);
    Ok(())
}
