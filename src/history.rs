//! A look through the jobs that are over, those that ended last first: what the state still has, then the archive, batch
//! by batch.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use riftmesh_base::{BlobHash, ConfigurationName, JobId};
use riftmesh_statemachine::State;
use riftmesh_statemachine::archive::{ArchiveLink, walk};
use riftmesh_statemachine::job::{JobKind, JobPhase, JobRecord};
use riftmesh_statemachine::query::JobFilter;
use serde::{Deserialize, Serialize};

/// Jobs in one answer at most.
pub const HISTORY_JOBS_MAX: u32 = 200;
/// Batches read for one answer at most, so that it comes in time: sixteen megabytes. Who wants more asks again.
pub const HISTORY_BATCHES: usize = 16;

/// Which jobs, and from where on. Also the query string of `/v1/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryQuery {
    /// Only of this kind.
    pub kind: Option<JobKind>,
    /// Only those that ended like this.
    pub state: Option<JobPhase>,
    /// Only of this configuration.
    pub configuration: Option<ConfigurationName>,
    /// Only this one.
    pub job: Option<JobId>,
    /// Where an earlier answer stopped; none for the beginning.
    pub from: Option<HistoryPlace>,
    /// At most this many, and never more than [`HISTORY_JOBS_MAX`]; zero for that many.
    pub limit: u32,
}

/// Some jobs that are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    /// Those that ended last first.
    pub jobs: Vec<JobRecord>,
    /// Jobs in all batches of the archive.
    pub archived: u64,
    /// Where to go on; none when everything has been looked at.
    pub next: Option<HistoryPlace>,
    /// The batch at which the look had to stop, and why: this node does not have it, or has it damaged.
    pub broken: Option<String>,
}

/// A place in the history. Stays good when more jobs end and when jobs move on to the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum HistoryPlace {
    /// Behind this job, which the state had.
    After(JobId),
    /// The beginning of this batch.
    Batch(ArchiveLink),
    /// Behind this job, which is in this batch or a later one.
    Within(JobId, ArchiveLink),
}

/// A text that names no place in the history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place in the history; use what an earlier answer gave as `next`")]
pub struct ParsePlaceError(String);

impl Display for HistoryPlace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let batch = |link: &ArchiveLink| format!("{}.{}", link.number, link.hash);
        match self {
            Self::After(job) => write!(f, "{job}"),
            Self::Batch(link) => f.write_str(&batch(link)),
            Self::Within(job, link) => write!(f, "{job}.{}", batch(link)),
        }
    }
}

impl FromStr for HistoryPlace {
    type Err = ParsePlaceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('.').collect();
        let job = |part: &str| part.parse::<JobId>().ok();
        let link = |number: &str, hash: &str| {
            let (number, hash) = (number.parse().ok()?, hash.parse::<BlobHash>().ok()?);
            Some(ArchiveLink { number, hash })
        };
        let place = match parts[..] {
            [after] => job(after).map(Self::After),
            [number, hash] => link(number, hash).map(Self::Batch),
            [after, number, hash] => job(after)
                .zip(link(number, hash))
                .map(|(job, link)| Self::Within(job, link)),
            _ => None,
        };
        place.ok_or_else(|| ParsePlaceError(text.chars().take(100).collect()))
    }
}

impl From<HistoryPlace> for String {
    fn from(place: HistoryPlace) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for HistoryPlace {
    type Error = ParsePlaceError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A look that is under way: first through a state, then through the archive, which needs no state.
#[derive(Debug)]
pub struct HistoryLook {
    job: Option<JobId>,
    filter: JobFilter,
    /// Skip everything up to this job.
    past: Option<JobId>,
    /// The batch to go on with.
    at: Option<ArchiveLink>,
    answer: HistoryAnswer,
}

impl HistoryLook {
    /// What `query` asks of a state. The rest of it is for [`HistoryLook::through_archive`].
    ///
    /// # Errors
    /// The place to go on from is none any more, in words.
    pub fn through_state(query: &HistoryQuery, state: &State) -> Result<Self, String> {
        let limit = match query.limit {
            0 => HISTORY_JOBS_MAX,
            limit => limit.min(HISTORY_JOBS_MAX),
        };
        let mut look = Self {
            job: query.job,
            filter: JobFilter {
                phase: query.state,
                kind: query.kind,
                configuration: query.configuration.clone(),
                limit: limit as usize,
                ..JobFilter::default()
            },
            past: None,
            at: state.archive_head(),
            answer: HistoryAnswer {
                jobs: Vec::new(),
                archived: state.archived_jobs(),
                next: None,
                broken: None,
            },
        };
        match query.from {
            None => look.state(state),
            Some(HistoryPlace::After(job)) => {
                look.past = Some(job);
                let known = state.job_record(job);
                if known.is_some_and(|record| !record.state.phase().is_final()) {
                    return Err(format!(
                        "{job} is tried again, so nothing comes after it; begin anew"
                    ));
                }
                // Whatever ended before it is in the archive by now, if it is.
                if state.ended().any(|record| record.id == job) {
                    look.state(state);
                }
            }
            Some(HistoryPlace::Batch(link)) => look.at = Some(link),
            Some(HistoryPlace::Within(job, link)) => {
                (look.past, look.at) = (Some(job), Some(link));
            }
        }
        Ok(look)
    }

    fn state(&mut self, state: &State) {
        for record in state.ended() {
            if self.see(record) {
                self.answer.next = Some(HistoryPlace::After(record.id));
                self.at = None;
                return;
            }
        }
    }

    /// Looks at one job; true if that is enough.
    fn see(&mut self, record: &JobRecord) -> bool {
        if let Some(past) = self.past {
            if record.id == past {
                self.past = None;
            }
            return false;
        }
        let is_it = self.job.is_none_or(|job| job == record.id);
        if is_it && self.filter.admits(record) {
            self.answer.jobs.push(record.clone());
        }
        self.answer.jobs.len() >= self.filter.limit
    }

    /// Goes on in the archive, at most [`HISTORY_BATCHES`] of it; `read` gives the bytes under a hash, or says why not.
    ///
    /// # Errors
    /// The place to go on from is nowhere, in words.
    pub fn through_archive(
        mut self,
        mut read: impl FnMut(&BlobHash) -> Result<Vec<u8>, String>,
    ) -> Result<HistoryAnswer, String> {
        for _ in 0..HISTORY_BATCHES {
            let Some(link) = self.at else {
                break;
            };
            let walked = walk(Some(link), 1, &mut read);
            if let Some((link, problem)) = walked.broken {
                self.answer.broken = Some(format!("{link}: {problem}"));
                return Ok(self.answer);
            }
            for record in walked
                .batches
                .iter()
                .flat_map(|batch| batch.jobs.iter().rev())
            {
                if self.see(record) {
                    self.answer.next = Some(HistoryPlace::Within(record.id, link));
                    return Ok(self.answer);
                }
            }
            self.at = walked.next;
        }
        match (self.at, self.past) {
            (None, Some(job)) => {
                return Err(format!("{job} is nowhere in the history; begin anew"));
            }
            (None, None) => {}
            (Some(link), None) => self.answer.next = Some(HistoryPlace::Batch(link)),
            (Some(link), Some(job)) => self.answer.next = Some(HistoryPlace::Within(job, link)),
        }
        Ok(self.answer)
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
pub(crate) mod tests;
