//! One grant from its inputs to its last word: fetch, run in a child, store what was made, tell the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use riftmesh_base::{BlobHash, Millis, NodeId};
use riftmesh_learning::segment::Segment;
use riftmesh_statemachine::bounds::YIELD_GRACE;
use riftmesh_statemachine::command::{Body, Loss};
use riftmesh_statemachine::hold::{HoldVerb, JobCheckpoint};
use riftmesh_statemachine::job::{Grant, MatchRecord, ModelRecord, Output, SegmentRecord};
use riftmesh_statemachine::reply::{Refusal, Reply};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::child::{ChildEnd, Heard, JobChild};
use crate::blobs::BlobAccess;
use crate::client::{CallFailure, Client, deadlines};
use crate::job::payload::Payload;
use crate::job::wire::{Assignment, ChildLine, Made, Saved};
use crate::protocol::{Request, Response};

/// Progress goes through the log, so it is said rarely.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// Said even if there is none: the answer tells that the job is to give way.
const PROGRESS_SAID_AGAIN: Duration = Duration::from_secs(10);
/// How much of a training run is lost with its process at most.
const SAVE_EVERY: Millis = Millis::from_secs(120);
/// How long a child has to write down how far it is. The rest of the grace is for getting that into the log.
const SAVE_MAX: Duration = Duration::from_secs(YIELD_GRACE.0 / 1_000 * 3 / 4);

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
    /// Asked to give way; from where another grant can go on, if it can.
    GaveWay(Option<JobCheckpoint>),
    /// The grant is over by the log's own word; nothing to tell.
    Stopped,
}

/// What the log wants of a running job.
enum Heed {
    GoOn,
    /// The grant is over.
    Stop,
    /// Save and stop.
    GiveWay,
}

impl GrantRunner {
    /// Runs the grant, from where an earlier one stopped if there is such a place. Its child is dead and its scratch directory gone when this returns.
    pub async fn run(
        self,
        grant: Grant,
        from: Option<JobCheckpoint>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let scratch = self.work_dir.join(format!("{}-{}", grant.job, grant.token));
        let end = match self.execute(&grant, from, &scratch, &mut stopped).await {
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
        from: Option<JobCheckpoint>,
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
            prepared = self.prepare(grant, payload, from, scratch) => prepared?,
            _ = stopped.changed() => return Ok(GrantEnd::Stopped),
        };
        let mut child = JobChild::start(&self.exe, &prepared).await?;
        tracing::info!(job = %grant.job, pid = child.pid(), "job process started");
        let end = tokio::select! {
            end = self.attend(grant, &mut child) => end,
            _ = stopped.changed() => None,
        };
        match end {
            Some(ChildEnd::Done(made)) => {
                Ok(GrantEnd::Outputs(vec![self.store(&prepared, made).await?]))
            }
            Some(ChildEnd::Stopped(saved)) => {
                let checkpoint = match saved {
                    Some(saved) => Some(self.keep(saved).await?),
                    None => None,
                };
                Ok(GrantEnd::GaveWay(checkpoint))
            }
            Some(ChildEnd::Failed { error, retry }) => Ok(GrantEnd::Fail { error, retry }),
            Some(ChildEnd::Lost { reason }) => Ok(GrantEnd::Release(Loss::Process, reason)),
            None => {
                child.kill().await;
                Ok(GrantEnd::Stopped)
            }
        }
    }

    /// Listens to the child until it ends, hands on how far it is, and asks it to stop when the job has to give way. None
    /// if the grant is over and the child is not.
    async fn attend(&self, grant: &Grant, child: &mut JobChild) -> Option<ChildEnd> {
        let mut rounds = interval(PROGRESS_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut done, mut said) = ((0, 0), ((0, 0), Instant::now()));
        // Far away until the child is asked.
        let save = sleep_until(Instant::now() + Duration::from_secs(u64::from(u32::MAX)));
        tokio::pin!(save);
        let (mut asked, mut passed_on) = (false, None);
        loop {
            tokio::select! {
                heard = child.hear() => match heard {
                    Heard::Line(ChildLine::Progress { done: now, total }) => done = (now, total),
                    Heard::Line(ChildLine::Saved { saved }) => {
                        self.pass_on(grant, saved, &mut passed_on).await;
                    }
                    heard => return Some(child.end(heard).await),
                },
                _ = rounds.tick() => {
                    if asked || (done == said.0 && said.1.elapsed() < PROGRESS_SAID_AGAIN) {
                        continue;
                    }
                    said = (done, Instant::now());
                    match self.progress(grant, done).await {
                        Heed::GoOn => {}
                        Heed::Stop => return None,
                        Heed::GiveWay => {
                            asked = true;
                            child.ask_to_save().await;
                            save.as_mut().reset(Instant::now() + SAVE_MAX);
                        }
                    }
                }
                () = &mut save => {
                    tracing::warn!(job = %grant.job, "the job process did not stop in time");
                    return None;
                }
            }
        }
    }

    /// Brings every input onto this disk and writes the assignment.
    async fn prepare(
        &self,
        grant: &Grant,
        payload: Payload,
        from: Option<JobCheckpoint>,
        scratch: &Path,
    ) -> anyhow::Result<Assignment> {
        std::fs::create_dir_all(scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        let resume = match from {
            Some(from) => self.fetch_checkpoint(grant, &from).await,
            None => None,
        };
        let (resume, champion) = match (&payload, resume) {
            (Payload::Train(_) | Payload::Evaluate { .. }, resume) => (resume, None),
            (Payload::Selfplay { .. }, Some(file)) => match self.player_of(grant, &file).await {
                Ok(model) => (Some(file), model),
                Err(error) => {
                    tracing::warn!(job = %grant.job, %error, "self-play begins anew");
                    (None, self.champion(grant).await?)
                }
            },
            (Payload::Selfplay { .. }, None) => (None, self.champion(grant).await?),
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
            resume,
            out: scratch.to_owned(),
            optimizers: self.optimizers.clone(),
            device: self.device.clone(),
            save_every: Some(SAVE_EVERY),
        })
    }

    /// The file from which the job goes on. None if nobody gives it in time: then the job begins anew.
    async fn fetch_checkpoint(&self, grant: &Grant, from: &JobCheckpoint) -> Option<PathBuf> {
        let (job, configuration) = (grant.job, &grant.spec.configuration);
        let wanted = [from.blob];
        let obtained = self
            .blobs
            .obtain(&self.client, configuration, &wanted)
            .await;
        match obtained {
            Ok(mut obtained) => {
                tracing::info!(%job, %from, "the job goes on");
                obtained.files.remove(&from.blob)
            }
            Err(error) => {
                tracing::warn!(%job, %error, "the checkpoint cannot be had: the job begins anew");
                None
            }
        }
    }

    /// Who played the games so far, with its files brought here. All games of a segment are one model's, whoever is champion
    /// by now.
    async fn player_of(&self, grant: &Grant, games: &Path) -> anyhow::Result<Option<BlobHash>> {
        let model = segment_model(games.to_owned()).await?;
        let wanted: Vec<_> = model.into_iter().collect();
        self.blobs
            .obtain(&self.client, &grant.spec.configuration, &wanted)
            .await?;
        Ok(model)
    }

    /// Names what a child wrote as the place to go on from. What was named `before` is of no use then.
    async fn pass_on(&self, grant: &Grant, saved: Saved, before: &mut Option<BlobHash>) {
        let checkpoint = match self.keep(saved).await {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                tracing::warn!(job = %grant.job, %error, "a checkpoint could not be kept");
                return;
            }
        };
        let blob = checkpoint.blob;
        let useless = match self.tell_checkpoint(grant, checkpoint).await {
            Ok(_) => before.replace(blob).filter(|before| *before != blob),
            Err(CallFailure::Refused(_)) => Some(blob),
            // It may be named by now.
            Err(_) => None,
        };
        if let Some(useless) = useless {
            self.blobs.discard(useless).await;
        }
    }

    /// Puts what a child wrote into the blob store.
    async fn keep(&self, saved: Saved) -> anyhow::Result<JobCheckpoint> {
        let (blob, bytes) = self.blobs.keep(saved.file).await?;
        Ok(JobCheckpoint {
            blob,
            bytes,
            done: saved.done,
            holder: self.node,
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

    /// Reports progress; what the log says to that.
    async fn progress(&self, grant: &Grant, (done, total): (u64, u64)) -> Heed {
        let body = Body::Progress {
            job: grant.job,
            token: grant.token,
            done,
            total,
        };
        match self.client.propose(body, deadlines::KEEPALIVE).await {
            Err(CallFailure::Refused(refusal)) => {
                tracing::warn!(job = %grant.job, %refusal, "the grant is over");
                Heed::Stop
            }
            Ok(Reply::Cancelled { .. }) => {
                tracing::info!(job = %grant.job, "cancelled");
                Heed::Stop
            }
            Ok(Reply::Yield { .. }) => {
                tracing::info!(job = %grant.job, "gives way to a more urgent job");
                Heed::GiveWay
            }
            Ok(_) | Err(CallFailure::Unavailable(_) | CallFailure::Unknown(_)) => Heed::GoOn,
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
        if let GrantEnd::GaveWay(Some(checkpoint)) = &end {
            drop(self.tell_checkpoint(grant, checkpoint.clone()).await);
        }
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
            GrantEnd::GaveWay(checkpoint) => {
                let from = checkpoint.map_or_else(|| "nothing".to_owned(), |from| from.to_string());
                tracing::info!(%job, from, "the job gives way; another grant goes on from there");
                let reason = Loss::Left;
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

    /// Names the place from which the next grant goes on. If that does not get through, the job begins anew, or where it
    /// began this time.
    async fn tell_checkpoint(
        &self,
        grant: &Grant,
        checkpoint: JobCheckpoint,
    ) -> Result<Reply, CallFailure> {
        let (job, token) = (grant.job, grant.token);
        let body = Body::Hold(HoldVerb::Checkpoint {
            job,
            token,
            checkpoint,
        });
        let told = self.client.propose(body, deadlines::COMMAND).await;
        if let Err(error) = &told {
            tracing::warn!(%job, %error, "the checkpoint could not be told");
        }
        told
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

/// The model that played the games of a segment. Reads the file, which is not quick.
async fn segment_model(file: PathBuf) -> anyhow::Result<Option<BlobHash>> {
    let read = tokio::task::spawn_blocking(move || Segment::read(&file)).await?;
    Ok(read.context("the games so far")?.header.model)
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
