//! The HTTP edge: JSON for people and programs, on loopback by default. Every answer says who gave it and how fresh
//! it is (`answers::Envelope`).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::body::Body;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use riftmesh_base::{JobId, LogIndex};
use riftmesh_statemachine::job::JobKind;
use riftmesh_transport::link::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::events::Lines;
use super::mesh_desk::MeshDesk;
use super::metrics::MetricsDesk;
use crate::answers::{Envelope, MatchRequest, MemberRequest, PingRequest, Query};
use crate::history::HistoryQuery;
use crate::orders::OrderRequest;

/// Jobs in one list at most.
const JOBS_LISTED_MAX: u32 = 1_000;

/// What the HTTP edge needs from its node.
pub trait Answerer: Send + Sync + 'static {
    /// Answers a query as JSON text, well within a second and a half.
    fn answer(&self, query: Query) -> BoxFuture<'_, Result<String, AnswerError>>;
}

/// Takes matches that people want to see played, and orders.
pub trait MatchDesk: Send + Sync + 'static {
    /// Enters a match into the queue; the answer lists its jobs.
    fn submit(&self, request: MatchRequest) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// Cancels a job; the answer is its id.
    fn cancel(&self, job: JobId) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// Carries out an order, once however often it is asked; the answer is an `OrderAnswer`.
    fn order(&self, request: OrderRequest) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// Takes the next step of a change of the members; the answer is a `MemberChangeAnswer`.
    fn change_members(&self, request: MemberRequest) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// Makes a snapshot of this node's state; the answer is a `SnapshotAnswer`.
    fn snapshot(&self) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// What happens to this node's state from now on, or after the entry `after`.
    fn events(&self, after: Option<LogIndex>) -> Result<Lines, AnswerError>;
    /// Like [`MatchDesk::snapshot`], and the answer is the snapshot as a file.
    fn saved_snapshot(&self) -> BoxFuture<'_, Result<Vec<u8>, AnswerError>>;
}

/// Knows the node's own certificate.
pub trait CertificateDesk: Send + Sync + 'static {
    /// The present one; the answer is a `CertificateAnswer`.
    fn show(&self) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// Renews it now; the answer is the new one.
    fn renew(&self) -> BoxFuture<'_, Result<String, AnswerError>>;
    /// Begins to replace the cluster's authority, or goes on; the answer is the present certificate.
    fn rotate(&self) -> BoxFuture<'_, Result<String, AnswerError>>;
}

/// The parts of a node behind its HTTP edge.
#[derive(Clone)]
pub struct Edge {
    /// Answers queries.
    pub answerer: Arc<dyn Answerer>,
    /// Takes matches.
    pub desk: Arc<dyn MatchDesk>,
    /// Knows the node's certificate.
    pub certificates: Arc<dyn CertificateDesk>,
    /// The node's place in the mesh.
    pub mesh: Arc<MeshDesk>,
    /// Its numbers.
    pub metrics: Arc<MetricsDesk>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The question or request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Nobody who could know can be reached now.
    #[error("{0}")]
    Unavailable(String),
}

/// An answer as the text that goes over the wire.
///
/// # Errors
/// [`AnswerError::Unavailable`] when it has no JSON form.
pub fn to_json<T: Serialize>(envelope: &Envelope<T>) -> Result<String, AnswerError> {
    serde_json::to_string(envelope).map_err(|error| AnswerError::Unavailable(error.to_string()))
}

impl IntoResponse for AnswerError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}

type Node = State<Edge>;

/// Takes the address.
///
/// # Errors
/// The address is taken or not ours; the text says what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot answer HTTP at {address}; stop what uses it or give another --http")
    })
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, node: Edge) -> std::io::Result<()> {
    axum::serve(listener, router(node)).await
}

fn router(node: Edge) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(|node: Node| fixed(node, Query::Status)))
        .route("/v1/leader", get(|node: Node| fixed(node, Query::Leader)))
        .route("/v1/quorum", get(|node: Node| fixed(node, Query::Quorum)))
        .route("/v1/members", get(|node: Node| fixed(node, Query::Members)))
        .route("/v1/models", get(|node: Node| fixed(node, Query::Models)))
        .route(
            "/v1/progress",
            get(|node: Node| fixed(node, Query::Progress)),
        )
        .route("/v1/jobs", get(jobs))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/history", get(history))
        .route("/v1/models/{model}", get(model))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/matches", post(matches))
        .route("/v1/queue", get(|node: Node| fixed(node, Query::Queue)))
        .route("/v1/locks", get(|node: Node| fixed(node, Query::Locks)))
        .route(
            "/v1/settings",
            get(|node: Node| fixed(node, Query::Settings)),
        )
        .route("/v1/settings/changes", get(setting_changes))
        .route("/v1/models/{model}/lineage", get(lineage))
        .route("/v1/orders", post(order))
        .route("/v1/events", get(events))
        .route("/v1/raft", get(|node: Node| fixed(node, Query::Raft)))
        .route("/v1/raft/members", post(change_members))
        .route("/v1/raft/snapshot", post(snapshot).get(saved_snapshot))
        .route("/v1/tokens", get(|node: Node| fixed(node, Query::Tokens)))
        .route(
            "/v1/certificates",
            get(|node: Node| fixed(node, Query::Certificates)),
        )
        .route("/v1/mesh/ping", post(ping))
        .route("/v1/mesh/events", get(mesh_events))
        .route("/v1/mesh/leave", post(leave))
        .route("/v1/certificate", get(own_certificate))
        .route("/v1/certificate/renew", post(renew_certificate))
        .route("/v1/authority/rotate", post(rotate_authority))
        .route(
            "/v1/authority",
            get(|node: Node| fixed(node, Query::Authority)),
        )
        .with_state(node)
}

async fn metrics(State(node): Node) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], node.metrics.text()).into_response()
}

async fn fixed(State(node): Node, query: Query) -> Result<Response, AnswerError> {
    Ok(json(node.answerer.answer(query).await?))
}

/// Query string of `/v1/jobs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFilter {
    kind: Option<KindName>,
    state: Option<String>,
    #[serde(default = "default_limit")]
    limit: u32,
}

/// Kinds as they are written in addresses.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindName {
    Selfplay,
    Train,
    Evaluate,
}

fn default_limit() -> u32 {
    100
}

async fn jobs(
    State(node): Node,
    UrlQuery(filter): UrlQuery<JobFilter>,
) -> Result<Response, AnswerError> {
    let kind = filter.kind.map(|kind| match kind {
        KindName::Selfplay => JobKind::Selfplay,
        KindName::Train => JobKind::Train,
        KindName::Evaluate => JobKind::Evaluate,
    });
    let query = Query::Jobs {
        kind,
        state: filter.state,
        limit: filter.limit.min(JOBS_LISTED_MAX),
    };
    Ok(json(node.answerer.answer(query).await?))
}

async fn job(State(node): Node, Path(id): Path<String>) -> Result<Response, AnswerError> {
    Ok(json(node.answerer.answer(Query::Job(job_id(&id)?)).await?))
}

async fn history(
    State(node): Node,
    UrlQuery(wanted): UrlQuery<HistoryQuery>,
) -> Result<Response, AnswerError> {
    Ok(json(node.answerer.answer(Query::History(wanted)).await?))
}

async fn cancel(State(node): Node, Path(id): Path<String>) -> Result<Response, AnswerError> {
    Ok(json(node.desk.cancel(job_id(&id)?).await?))
}

fn job_id(text: &str) -> Result<JobId, AnswerError> {
    text.parse()
        .map_err(|error: riftmesh_base::ParseIdError| AnswerError::Invalid(error.to_string()))
}

async fn model(State(node): Node, Path(model): Path<String>) -> Result<Response, AnswerError> {
    Ok(json(node.answerer.answer(Query::Model(model)).await?))
}

async fn lineage(State(node): Node, Path(model): Path<String>) -> Result<Response, AnswerError> {
    Ok(json(node.answerer.answer(Query::Lineage(model)).await?))
}

/// Query string of `/v1/settings/changes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesOf {
    key: Option<String>,
}

async fn setting_changes(
    State(node): Node,
    UrlQuery(of): UrlQuery<ChangesOf>,
) -> Result<Response, AnswerError> {
    let query = Query::SettingChanges(of.key);
    Ok(json(node.answerer.answer(query).await?))
}

async fn order(
    State(node): Node,
    Json(request): Json<OrderRequest>,
) -> Result<Response, AnswerError> {
    Ok(json(node.desk.order(request).await?))
}

async fn change_members(
    State(node): Node,
    Json(request): Json<MemberRequest>,
) -> Result<Response, AnswerError> {
    Ok(json(node.desk.change_members(request).await?))
}

async fn snapshot(State(node): Node) -> Result<Response, AnswerError> {
    Ok(json(node.desk.snapshot().await?))
}

/// Query string of `/v1/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Watching {
    after: Option<LogIndex>,
}

async fn events(
    State(node): Node,
    UrlQuery(from): UrlQuery<Watching>,
) -> Result<Response, AnswerError> {
    Ok(as_lines(node.desk.events(from.after)?))
}

async fn saved_snapshot(State(node): Node) -> Result<Response, AnswerError> {
    let bytes = node.desk.saved_snapshot().await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn ping(
    State(node): Node,
    Json(request): Json<PingRequest>,
) -> Result<Response, AnswerError> {
    Ok(json(node.mesh.ping(&request).await?))
}

/// Query string of `/v1/mesh/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Following {
    #[serde(default)]
    follow: bool,
}

async fn mesh_events(
    State(node): Node,
    UrlQuery(how): UrlQuery<Following>,
) -> Result<Response, AnswerError> {
    Ok(as_lines(node.mesh.events(how.follow)?))
}

/// The body is empty JSON: pages of other origins cannot send that.
async fn leave(State(node): Node, Json(()): Json<()>) -> Result<Response, AnswerError> {
    Ok(json(node.mesh.leave()?))
}

async fn own_certificate(State(node): Node) -> Result<Response, AnswerError> {
    Ok(json(node.certificates.show().await?))
}

/// The body is empty JSON: pages of other origins cannot send that.
async fn renew_certificate(State(node): Node, Json(()): Json<()>) -> Result<Response, AnswerError> {
    Ok(json(node.certificates.renew().await?))
}

/// Likewise.
async fn rotate_authority(State(node): Node, Json(()): Json<()>) -> Result<Response, AnswerError> {
    Ok(json(node.certificates.rotate().await?))
}

async fn matches(
    State(node): Node,
    Json(request): Json<MatchRequest>,
) -> Result<Response, AnswerError> {
    Ok(json(node.desk.submit(request).await?))
}

fn as_lines(lines: Lines) -> Response {
    let body = Body::from_stream(lines);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
