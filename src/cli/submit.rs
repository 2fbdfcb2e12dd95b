//! `job submit`: one job from options, or many from JSON.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use riftmesh_base::limits::SUBMIT_JOBS_MAX;
use riftmesh_base::{ConfigurationName, JobId, Millis};
use riftmesh_statemachine::job::{DeviceNeed, JobSpec, Needs, RetryPolicy};
use riftmesh_statemachine::query::QueueView;
use riftmesh_statemachine::reply::Reply;
use riftmesh_statemachine::terms::{AfterPolicy, JobRequest, KeyScope, Terms};
use serde::de::{DeserializeOwned, IntoDeserializer, value};
use serde::{Deserialize, Deserializer};

use super::ask::{AskError, Asker};
use super::order::{failed, place, said};
use super::output::{data, json};
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::job::payload::Payload;
use crate::orders::{Order, OrderAnswer, check_jobs};

/// Bytes of a file of jobs at most.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What is printed below `job submit --help`.
pub const EXAMPLES: &str = r#"Examples:
  riftmesh job submit --configuration hex8_2p --priority 200 --payload \
    '{"do":"selfplay","seed":7,"games":16,"simulations":16,"shape":"tiny"}'
  riftmesh job submit --configuration hex8_2p --payload @train.json --after j41,j42 --gives-way
  riftmesh job submit --configuration hex8_2p --payload @yardstick.json --every 1h --key nightly --scope configuration
  riftmesh job submit --file jobs.json
  generate-jobs | riftmesh job submit --file - --json
A file holds an array of objects, or one object after the other. The fields of an object are the options without the
dashes, the payload being an object: {"configuration": "hex8_2p", "payload": {"do": ...}, "after": ["j41"], "delay": "10m"}.
Of a file all jobs are entered or none, at most 256. A key that a live job has gives that job instead of a new one.
Exit codes: 0 entered, 1 refused or a file that cannot be read, 3 no node answered, 64 the command line is wrong"#;

/// A job on the command line, or jobs in a file.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Jobs as JSON; `-` reads them from stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    job: JobText,
    /// While one of the jobs runs, it may be asked to save and stop for a more urgent one, and goes on later
    #[arg(long)]
    gives_way: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// A job as people write it: the options of the command line, and the fields of an object in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[group(id = "one", multiple = true, conflicts_with = "file")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct JobText {
    /// What it is about, such as `hex8_2p`
    #[arg(long, value_parser = super::parse_configuration, required_unless_present = "file")]
    configuration: Option<ConfigurationName>,
    /// What is to be done, as JSON, or `@` and a file with it
    #[arg(long, value_parser = parse_payload, required_unless_present = "file")]
    payload: Option<Payload>,
    /// 0 to 255, higher first [default: 100]
    #[arg(long)]
    priority: Option<u8>,
    /// While a job with this name is not over, no second one is entered
    #[arg(long)]
    key: Option<String>,
    /// Among which jobs the key is unique: cluster, configuration, tenant [default: cluster]
    #[arg(long, value_parser = named::<KeyScope>)]
    scope: Option<KeyScope>,
    /// Jobs that it waits for, such as `j41,j42`
    #[arg(long, value_delimiter = ',')]
    after: Vec<JobId>,
    /// What those must have come to: all-done, any-done, all-over [default: all-done]
    #[arg(long, value_parser = named::<AfterPolicy>)]
    after_policy: Option<AfterPolicy>,
    /// Not before this much time of the cluster's clock has passed, such as `10m`
    #[arg(long, value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    delay: Option<Duration>,
    /// Again and again, each time this much later than the time before, such as `1h`
    #[arg(long, value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    every: Option<Duration>,
    /// Slots it takes [default: 1]
    #[arg(long)]
    slots: Option<u16>,
    /// Device it needs: any, cuda [default: any]
    #[arg(long, value_parser = named::<DeviceNeed>)]
    device: Option<DeviceNeed>,
    /// MiB of GPU memory to reserve, for a job that needs CUDA and shares it
    #[arg(long)]
    gpu_memory: Option<u32>,
    /// Labels that its worker must have, such as `big,quiet`
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Whose job it is
    #[arg(long)]
    tenant: Option<String>,
    /// Attempts in all before it is dead [default: 3]
    #[arg(long)]
    attempts: Option<u32>,
    /// Wait before the second attempt, doubled for each further one [default: 1s]
    #[arg(long, value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    backoff: Option<Duration>,
    /// The longest such wait [default: 1m]
    #[arg(long, value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    backoff_max: Option<Duration>,
}

/// A duration in a file is written as on the command line.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let read = text.as_deref().map(parse_duration).transpose();
    read.map_err(serde::de::Error::custom)
}

/// One of a few names, as JSON has them.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, value::Error> {
    T::deserialize(text.into_deserializer())
}

fn parse_payload(text: &str) -> anyhow::Result<Payload> {
    let read = match text.strip_prefix('@') {
        Some(path) => String::from_utf8(read_file(Path::new(path))?)?,
        None => text.to_owned(),
    };
    Ok(Payload::from_json(&read)?)
}

impl JobText {
    /// The job, if cluster time is `now`.
    fn request(self, now: Millis) -> anyhow::Result<JobRequest> {
        let missing = |field| anyhow!("`{field}` is missing");
        let payload = self.payload.ok_or_else(|| missing("payload"))?;
        let configuration = self.configuration.ok_or_else(|| missing("configuration"))?;
        let plain = JobSpec::plain(payload.kind(), configuration, payload.to_json());
        let (needs, retry) = (plain.needs, plain.retry);
        let mut labels = self.labels;
        labels.sort_unstable();
        labels.dedup();
        let spec = JobSpec {
            priority: self.priority.unwrap_or(plain.priority),
            unique_key: self.key,
            after: self.after,
            not_before: self.delay.map_or(Millis(0), |delay| now + delay.into()),
            needs: Needs {
                slots: self.slots.unwrap_or(needs.slots),
                device: self.device.unwrap_or(needs.device),
            },
            retry: RetryPolicy {
                attempts_max: self.attempts.unwrap_or(retry.attempts_max),
                backoff: self.backoff.map_or(retry.backoff, Into::into),
                backoff_max: self.backoff_max.map_or(retry.backoff_max, Into::into),
            },
            ..plain
        };
        let terms = Terms {
            tenant: self.tenant.unwrap_or_default(),
            labels,
            gpu_memory_mib: self.gpu_memory.unwrap_or_default(),
            after: self.after_policy.unwrap_or_default(),
            scope: self.scope.unwrap_or_default(),
            every: self.every.map(Into::into),
        };
        Ok(JobRequest { spec, terms })
    }
}

/// Runs `job submit`.
pub fn run(args: SubmitArgs) -> anyhow::Result<Exit> {
    let texts = match &args.file {
        Some(path) => {
            let bytes = read_file(path)?;
            parse(&bytes).with_context(|| path.display().to_string())?
        }
        None => vec![args.job],
    };
    let now = if texts.iter().any(|text| text.delay.is_some()) {
        match cluster_time(&args.ask) {
            Ok(now) => now,
            Err(error) => return Ok(failed(&error)),
        }
    } else {
        Millis(0)
    };
    let jobs = requests(texts, now)?;
    check_jobs(&jobs).map_err(anyhow::Error::msg)?;
    let order = Order::SubmitJobs {
        jobs,
        give_way: args.gives_way,
    };
    match place(&args.ask, order) {
        Ok(envelope) if args.ask.json => json(&envelope).map(|()| Exit::Ok),
        Ok(envelope) => {
            lines(&envelope.answer).iter().for_each(|line| data(line));
            Ok(Exit::Ok)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// One id a line, for the next command.
fn lines(answer: &OrderAnswer) -> Vec<String> {
    match &answer.reply {
        Reply::Submitted { jobs } => jobs.iter().map(ToString::to_string).collect(),
        _ => vec![said(answer)],
    }
}

fn cluster_time(ask: &AskArgs) -> Result<Millis, AskError> {
    let queue = Asker::new(&ask.addr).get::<QueueView>("/v1/queue")?;
    Ok(queue.answer.now)
}

fn requests(texts: Vec<JobText>, now: Millis) -> anyhow::Result<Vec<JobRequest>> {
    let count = texts.len();
    ensure!(
        (1..=SUBMIT_JOBS_MAX).contains(&count),
        "{count} jobs; one submission takes 1 to {SUBMIT_JOBS_MAX}"
    );
    let requests = (1..).zip(texts).map(|(number, text)| {
        let request = text.request(now);
        request.with_context(|| format!("job {number} of {count}"))
    });
    requests.collect()
}

/// An array of jobs, or one after the other.
fn parse(bytes: &[u8]) -> anyhow::Result<Vec<JobText>> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(serde_json::from_slice(bytes)?);
    }
    let texts = serde_json::Deserializer::from_slice(bytes).into_iter::<JobText>();
    let texts = texts.take(SUBMIT_JOBS_MAX + 1);
    Ok(texts.collect::<Result<_, _>>()?)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= FILE_BYTES_MAX,
        "{} is longer than {} MB, more than one submission can be; part it",
        path.display(),
        FILE_BYTES_MAX >> 20
    );
    Ok(bytes)
}

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
