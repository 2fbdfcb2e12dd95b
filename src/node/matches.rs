//! The desk for what people ask of the cluster: matches, which become ordinary jobs, orders, and other members.

use std::sync::Arc;

use riftmesh_base::{JobId, LogIndex, Millis, NodeId};
use riftmesh_raft::{MemberProgress, RaftNode};
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::reply::Reply;
use riftmesh_transport::link::BoxFuture;
use serde::Serialize;

use super::events::{Lines, Watchers};
use super::http::{AnswerError, MatchDesk, to_json};
use crate::answers::{
    Envelope, MatchRequest, MemberChangeAnswer, MemberRequest, ReadMode, SnapshotAnswer,
};
use crate::chores::plan::versus;
use crate::chores::settings::LoopSettings;
use crate::client::{CallFailure, Client};
use crate::orders::{Levels, Order, OrderAnswer, OrderRequest, check_jobs};
use crate::protocol::{Request, Response};

/// Before everything else: a person waits.
const PRIORITY: u8 = 200;
/// Games of one request.
const GAMES_MAX: u32 = 10_000;
/// Games of one job of a request: small, so that the slots share the match evenly.
const GAMES_PER_JOB: u32 = 20;
/// A person is promised an answer in two seconds.
const DEADLINE: std::time::Duration = Millis(1_400).duration();
/// Of that, the time in which voters may say which levels they know.
const LEVELS_WAIT: std::time::Duration = Millis(500).duration();
/// A snapshot that is to be saved may take longer.
const SAVE_MAX: std::time::Duration = Millis::from_secs(30).duration();

/// Enters matches through the log, from any node.
pub struct Desk {
    pub node: NodeId,
    pub name: String,
    pub client: Arc<Client>,
    pub loops: Vec<LoopSettings>,
    /// This node's own consensus, if it has one.
    pub raft: Option<RaftNode>,
    /// Those who watch it.
    pub watchers: Watchers,
}

impl Desk {
    async fn enter(&self, request: MatchRequest) -> Result<String, AnswerError> {
        let settings = self
            .loops
            .iter()
            .find(|settings| settings.configuration == request.configuration);
        let settings = settings.ok_or_else(|| {
            AnswerError::Invalid(format!(
                "this cluster does not learn {}",
                request.configuration
            ))
        })?;
        if request.candidate == request.opponent {
            return Err(AnswerError::Invalid(
                "a player does not play against itself".to_owned(),
            ));
        }
        if !(1..=GAMES_MAX).contains(&request.games) {
            return Err(AnswerError::Invalid(format!(
                "a match takes 1 to {GAMES_MAX} games, not {}",
                request.games
            )));
        }
        let jobs = (0..request.games.div_ceil(GAMES_PER_JOB)).map(|chunk| {
            let left = request.games - chunk * GAMES_PER_JOB;
            // Openings are played twice with seats exchanged, so chunks are even.
            let games = left.min(GAMES_PER_JOB).next_multiple_of(2);
            let key = format!("asked/{}/{chunk}", request.key);
            versus(
                settings,
                request.candidate.clone(),
                request.opponent.clone(),
                games,
                PRIORITY,
                key,
            )
        });
        match self
            .client
            .propose(
                Body::Submit {
                    jobs: jobs.collect(),
                },
                DEADLINE,
            )
            .await
        {
            Ok(Reply::Submitted { jobs }) => self.wrap(jobs),
            Ok(other) => Err(AnswerError::Unavailable(format!(
                "unexpected answer {other:?}"
            ))),
            Err(CallFailure::Refused(refusal)) => Err(AnswerError::Invalid(refusal.to_string())),
            Err(error) => Err(AnswerError::Unavailable(error.to_string())),
        }
    }

    async fn withdraw(&self, job: JobId) -> Result<String, AnswerError> {
        match self.client.propose(Body::Cancel { job }, DEADLINE).await {
            Ok(_) => self.wrap(job),
            Err(CallFailure::Refused(refusal)) => Err(AnswerError::Invalid(refusal.to_string())),
            Err(error) => Err(AnswerError::Unavailable(error.to_string())),
        }
    }

    async fn carry_out(&self, request: OrderRequest) -> Result<String, AnswerError> {
        let levels = match &request.order {
            Order::RaiseLevel => self.levels().await,
            Order::SubmitJobs { jobs, .. } => {
                check_jobs(jobs).map_err(AnswerError::Invalid)?;
                Levels::default()
            }
            _ => Levels::default(),
        };
        let command = Request::Propose(request.command(&levels));
        match self.client.ask_leader(command, DEADLINE).await {
            Ok(Response::Applied {
                reply: Reply::Refused(refusal),
                ..
            })
            | Err(CallFailure::Refused(refusal)) => Err(AnswerError::Invalid(refusal.to_string())),
            Ok(Response::Applied { reply, .. }) => self.wrap(OrderAnswer {
                said: reply.to_string(),
                reply,
            }),
            Ok(other) => Err(AnswerError::Unavailable(format!(
                "unexpected answer {other:?}"
            ))),
            Err(error) => Err(AnswerError::Unavailable(error.to_string())),
        }
    }

    async fn members(&self, request: MemberRequest) -> Result<String, AnswerError> {
        let request = Request::Members {
            order: request.order,
            expected: request.expected,
        };
        match self.client.ask_leader(request, DEADLINE).await {
            Ok(Response::Members {
                progress,
                members_index,
            }) => {
                let (done, said) = match progress {
                    MemberProgress::Done(said) => (true, said),
                    MemberProgress::Waiting(said) => (false, said),
                };
                self.wrap(MemberChangeAnswer {
                    done,
                    said,
                    members_index,
                })
            }
            Ok(other) => Err(AnswerError::Unavailable(format!(
                "unexpected answer {other:?}"
            ))),
            Err(CallFailure::Refused(refusal)) => Err(AnswerError::Invalid(refusal.to_string())),
            Err(error) => Err(AnswerError::Unavailable(error.to_string())),
        }
    }

    fn own_raft(&self) -> Result<&RaftNode, AnswerError> {
        self.raft.as_ref().ok_or_else(|| {
            AnswerError::Invalid(
                "this node keeps no copy of the state; ask a voter with --addr".to_owned(),
            )
        })
    }

    async fn save_own(&self) -> Result<Vec<u8>, AnswerError> {
        let raft = self.own_raft()?;
        let unavailable =
            |error: &dyn std::fmt::Display| AnswerError::Unavailable(error.to_string());
        raft.snapshot(SAVE_MAX).await.map_err(|e| unavailable(&e))?;
        let saved = raft.saved().await.map_err(|e| unavailable(&e))?;
        Ok(saved.to_bytes())
    }

    async fn snapshot_own(&self) -> Result<String, AnswerError> {
        let raft = self.own_raft()?;
        match raft.snapshot(DEADLINE).await {
            Ok(index) => self.wrap(SnapshotAnswer { index }),
            Err(error) => Err(AnswerError::Unavailable(error.to_string())),
        }
    }

    /// What the voters that answer say of their levels.
    async fn levels(&self) -> Levels {
        let mut levels = Levels::default();
        for answer in self.client.ask_each(&Request::Level, LEVELS_WAIT).await {
            if let Response::Level { node, known, at } = answer {
                levels.at = levels.at.max(at);
                levels.known.push((node, known));
            }
        }
        levels
    }

    fn wrap<T: Serialize>(&self, answer: T) -> Result<String, AnswerError> {
        let mode = ReadMode::Linearizable;
        to_json(&Envelope::without_state(
            self.node, &self.name, mode, answer,
        ))
    }
}

impl MatchDesk for Desk {
    fn submit(&self, request: MatchRequest) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.enter(request))
    }

    fn cancel(&self, job: JobId) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.withdraw(job))
    }

    fn order(&self, request: OrderRequest) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.carry_out(request))
    }

    fn change_members(&self, request: MemberRequest) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.members(request))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.snapshot_own())
    }

    fn events(&self, after: Option<LogIndex>) -> Result<Lines, AnswerError> {
        self.watchers.watch(self.own_raft()?, after)
    }

    fn saved_snapshot(&self) -> BoxFuture<'_, Result<Vec<u8>, AnswerError>> {
        Box::pin(self.save_own())
    }
}
