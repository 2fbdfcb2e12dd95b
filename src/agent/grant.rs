//! One grant from its inputs to its last word: fetch, run in a child, store what was made, tell the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use riftmesh_base::{BlobHash, NodeId};
use riftmesh_statemachine::command::{Body, Loss};
use riftmesh_statemachine::job::{Grant, MatchRecord, ModelRecord, Output, SegmentRecord};
use riftmesh_statemachine::reply::{Refusal, Reply};
use tokio::sync::watch;
use tokio::time::Instant;

use super::child::{ChildEnd, JobChild};
use crate::blobs::BlobAccess;
use crate::client::{CallFailure, Client, deadlines};
use crate::job::payload::Payload;
use crate::job::wire::{Assignment, Made};
use crate::protocol::{Request, Response};

/// Progress goes through the log, so it is said rarely.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Everything one grant needs; used once.
pub struct GrantRunner {
    pub client: Client,
    pub blobs: Arc<BlobAccess>,
    pub node: NodeId,
    pub exe: PathBuf,
    pub work_dir: PathBuf,
    pub optimizers: PathBuf,
    pub device: String,
}

/// How a grant ended, before it is told to the log.
enum GrantEnd {
    Outputs(Vec<Output>),
    Fail {
        error: String,
        retry: bool,
    },
    Release(Loss, String),
    /// The grant is over by the log's own word; nothing to tell.
    Stopped,
}

impl GrantRunner {
    /// Runs the grant. Its child is dead and its scratch directory gone when this returns.
    pub async fn run(self, grant: Grant, mut stopped: watch::Receiver<bool>) {
        let scratch = self.work_dir.join(format!("{}-{}", grant.job, grant.token));
        let end = match self.execute(&grant, &scratch, &mut stopped).await {
            Ok(end) => end,
            Err(error) => GrantEnd::Fail {
                error: format!("{error:#}"),
                retry: true,
            },
        };
        let told = self.tell(&grant, end);
        tokio::select! {
            () = told => {}
            // Whoever stops this waits for it: a leader that cannot be reached must not hold up a session's end.
            () = patience_after_stop(&mut stopped) => {}
        }
        if let Err(error) = std::fs::remove_dir_all(&scratch) {
            tracing::debug!(%error, path = %scratch.display(), "scratch directory");
        }
    }

    async fn execute(
        &self,
        grant: &Grant,
        scratch: &Path,
        stopped: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<GrantEnd> {
        let payload = match Payload::from_json(&grant.spec.payload) {
            Ok(payload) => payload,
            Err(error) => {
                return Ok(GrantEnd::Fail {
                    error: format!("payload: {error}"),
                    retry: false,
                });
            }
        };
        let prepared = tokio::select! {
            prepared = self.prepare(grant, payload, scratch) => prepared?,
            _ = stopped.changed() => return Ok(GrantEnd::Stopped),
        };
        let mut child = JobChild::start(&self.exe, &prepared).await?;
        tracing::info!(job = %grant.job, pid = child.pid(), "job process started");
        let mut said = Instant::now();
        let end = loop {
            tokio::select! {
                line = child.next() => match line {
                    Ok(progress) => {
                        if said.elapsed() >= PROGRESS_EVERY {
                            said = Instant::now();
                            if self.progress(grant, progress).await.is_err() {
                                break None;
                            }
                        }
                    }
                    Err(end) => break Some(end),
                },
                _ = stopped.changed() => break None,
            }
        };
        match end {
            Some(ChildEnd::Done(made)) => {
                Ok(GrantEnd::Outputs(vec![self.store(&prepared, made).await?]))
            }
            Some(ChildEnd::Failed { error, retry }) => Ok(GrantEnd::Fail { error, retry }),
            Some(ChildEnd::Lost { reason }) => Ok(GrantEnd::Release(Loss::Process, reason)),
            None => {
                child.kill().await;
                Ok(GrantEnd::Stopped)
            }
        }
    }

    /// Brings every input onto this disk and writes the assignment.
    async fn prepare(
        &self,
        grant: &Grant,
        payload: Payload,
        scratch: &Path,
    ) -> anyhow::Result<Assignment> {
        std::fs::create_dir_all(scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        let champion = match payload {
            Payload::Selfplay { .. } => self.champion(grant).await?,
            Payload::Train(_) | Payload::Evaluate { .. } => None,
        };
        let mut wanted = payload.inputs();
        wanted.extend(champion);
        let obtained = self
            .blobs
            .obtain(&self.client, &grant.spec.configuration, &wanted)
            .await?;
        let seed = payload.job_seed(grant.job);
        Ok(Assignment {
            job: grant.job,
            configuration: grant.spec.configuration.clone(),
            payload,
            seed,
            champion,
            inputs: obtained.files,
            manifests: obtained.manifests,
            out: scratch.to_owned(),
            optimizers: self.optimizers.clone(),
            device: self.device.clone(),
        })
    }

    /// The champion now: a promotion is picked up by the next job, not by a running one.
    async fn champion(&self, grant: &Grant) -> anyhow::Result<Option<BlobHash>> {
        let request = Request::Champion {
            configuration: grant.spec.configuration.clone(),
        };
        match self.client.ask_leader(request, deadlines::COMMAND).await? {
            Response::Champion { model } => Ok(model),
            other => anyhow::bail!("unexpected answer to the question for the champion: {other:?}"),
        }
    }

    /// Reports progress. An error means that the grant is over.
    async fn progress(&self, grant: &Grant, (done, total): (u64, u64)) -> Result<(), ()> {
        let body = Body::Progress {
            job: grant.job,
            token: grant.token,
            done,
            total,
        };
        match self.client.propose(body, deadlines::KEEPALIVE).await {
            Err(CallFailure::Refused(refusal)) => {
                tracing::warn!(job = %grant.job, %refusal, "the grant is over");
                Err(())
            }
            Ok(Reply::Cancelled { .. }) => {
                tracing::info!(job = %grant.job, "cancelled");
                Err(())
            }
            Ok(_) | Err(CallFailure::Unavailable(_) | CallFailure::Unknown(_)) => Ok(()),
        }
    }

    /// Puts what was made into the blob store, where its hash names it.
    async fn store(&self, assignment: &Assignment, made: Made) -> anyhow::Result<Output> {
        match made {
            Made::Segment { file, games, rows } => {
                let (hash, bytes) = self.blobs.keep(file).await?;
                Ok(Output::Segment(SegmentRecord {
                    hash,
                    bytes,
                    games,
                    rows,
                    model: assignment.champion,
                    holder: self.node,
                }))
            }
            Made::Model {
                weights,
                manifest,
                steps,
            } => {
                let Payload::Train(order) = &assignment.payload else {
                    anyhow::bail!("a job that does not train made a model");
                };
                let (manifest, _) = self.blobs.keep(manifest).await?;
                let (hash, bytes) = self.blobs.keep(weights).await?;
                Ok(Output::Model(ModelRecord {
                    hash,
                    bytes,
                    manifest,
                    parent: order.parent,
                    shape: order.shape.clone(),
                    rows: order.rows,
                    steps,
                    holder: self.node,
                }))
            }
            Made::Match { wins, losses } => {
                let Payload::Evaluate {
                    candidate,
                    opponent,
                    ..
                } = &assignment.payload
                else {
                    anyhow::bail!("a job that does not evaluate reported a match");
                };
                Ok(Output::Match(MatchRecord {
                    candidate: candidate.clone(),
                    opponent: opponent.clone(),
                    wins,
                    losses,
                }))
            }
        }
    }

    async fn tell(&self, grant: &Grant, end: GrantEnd) {
        let (job, token) = (grant.job, grant.token);
        let patience = if matches!(end, GrantEnd::Stopped) {
            deadlines::KEEPALIVE
        } else {
            deadlines::COMPLETE
        };
        let body = match end {
            GrantEnd::Outputs(outputs) => Body::Complete {
                job,
                token,
                outputs,
            },
            GrantEnd::Fail { error, retry } => {
                tracing::warn!(%job, error, retry, "the job failed");
                Body::Fail {
                    job,
                    token,
                    error: cut(error),
                    retry,
                }
            }
            GrantEnd::Release(reason, why) => {
                tracing::warn!(%job, why, "the job is given back");
                Body::Release { job, token, reason }
            }
            // If it is being cancelled the log still waits for this; if it was fenced the log refuses, harmlessly.
            GrantEnd::Stopped => Body::Release {
                job,
                token,
                reason: Loss::Left,
            },
        };
        match self.client.propose(body, patience).await {
            Ok(_) => tracing::info!(%job, "told the log"),
            // The grant stands and its outcome does not: without another word the job would be held for ever.
            Err(CallFailure::Refused(
                refusal @ (Refusal::Invalid(_) | Refusal::Conflict(_) | Refusal::Full { .. }),
            )) => self.fail_refused(grant, &refusal).await,
            Err(error) => tracing::warn!(%job, %error, "the end of the job could not be told"),
        }
    }

    /// The log refused the outcome, though the grant is current: the attempt has failed.
    async fn fail_refused(&self, grant: &Grant, refusal: &Refusal) {
        let job = grant.job;
        tracing::warn!(%job, %refusal, "the log refused the outcome");
        let body = Body::Fail {
            job,
            token: grant.token,
            error: cut(format!("the outcome was refused: {refusal}")),
            retry: matches!(refusal, Refusal::Full { .. }),
        };
        if let Err(error) = self.client.propose(body, deadlines::COMMAND).await {
            tracing::warn!(%job, %error, "the failure could not be told");
        }
    }
}

/// Ends a short while after the stop signal.
async fn patience_after_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(stopped.wait_for(|stop| *stop).await);
    tokio::time::sleep(deadlines::KEEPALIVE).await;
}

/// Cuts an error text to what the state keeps.
fn cut(mut error: String) -> String {
    let mut end = error.len().min(riftmesh_base::limits::NOTE_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.truncate(end);
    error
}

/// Empties the scratch directory: what an earlier life of this node left there belongs to grants that are over.
///
/// # Errors
/// The directory cannot be made or emptied.
pub fn clear_work_dir(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}
