//! What each route does: a request in, a call on the [`Target`], a reply out.
//!
//! Must not know: sockets, connections. Invariant: a call that may wait runs on a thread that may wait, and every error is
//! JSON with one line of text.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::protocol::{
    GrowRequest, HELD_SHOWN, HELD_SHOWN_MAX, Nothing, StatusReply, StunRequest, Target, TargetError, option_names,
};
use super::server::Limits;
use super::stream::{EventStream, Stopping};
use crate::telemetry::metrics::CONTENT_TYPE;

const EVENT_SCHEMA: &str = include_str!("../../docs/events.schema.json");

/// What every handler gets.
pub(super) struct Room {
    pub(super) target: Arc<dyn Target>,
    pub(super) limits: Limits,
    pub(super) stopping: Stopping,
}

type Shared = State<Arc<Room>>;

/// All routes, for the control socket.
pub(super) fn control(room: Arc<Room>) -> Router {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/set", post(set))
        .route("/v1/arm", post(arm))
        .route("/v1/disarm", post(disarm))
        .route("/v1/stun", post(stun))
        .route("/v1/resume", post(resume))
        .route("/v1/release", post(release))
        .route("/v1/discard", post(discard))
        .route("/v1/grow", post(grow))
        .route("/v1/stop", post(stop))
        .route("/v1/events", get(events))
        .route("/v1/schema", get(schema))
        .route("/metrics", get(metrics));
    finish(router, room)
}

/// Metrics alone, for the metrics port.
pub(super) fn metrics_only(room: Arc<Room>) -> Router {
    finish(Router::new().route("/metrics", get(metrics)), room)
}

fn finish(router: Router<Arc<Room>>, room: Arc<Room>) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(room)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    limit: Option<usize>,
}

async fn status(State(room): Shared, query: Result<Query<StatusQuery>, QueryRejection>) -> Result<Response, ApiError> {
    let limit = query?.0.limit.unwrap_or(HELD_SHOWN);
    if limit > HELD_SHOWN_MAX {
        return Err(ApiError::bad(format!("limit: {limit} is too many, at most {HELD_SHOWN_MAX}")));
    }
    answer(&room, move |target| Ok(StatusReply { status: target.status(), held: target.held(limit) })).await
}

async fn set(State(room): Shared, body: Json<Map<String, Value>>) -> Result<Response, ApiError> {
    let changes = option_names(body.0)?;
    answer(&room, move |target| target.set(changes)).await
}

async fn arm(State(room): Shared, _: Json<Nothing>) -> Result<Response, ApiError> {
    answer(&room, |target| target.arm().map(|()| json!({"armed": true}))).await
}

async fn disarm(State(room): Shared, _: Json<Nothing>) -> Result<Response, ApiError> {
    answer(&room, |target| target.disarm().map(|()| json!({"armed": false}))).await
}

async fn stun(State(room): Shared, body: Json<StunRequest>) -> Result<Response, ApiError> {
    let duration = body.0.duration()?;
    answer(&room, move |target| target.stun(duration)).await
}

async fn resume(State(room): Shared, _: Json<Nothing>) -> Result<Response, ApiError> {
    answer(&room, |target| target.resume()).await
}

async fn release(State(room): Shared, _: Json<Nothing>) -> Result<Response, ApiError> {
    answer(&room, |target| target.release()).await
}

async fn discard(State(room): Shared, _: Json<Nothing>) -> Result<Response, ApiError> {
    answer(&room, |target| target.discard()).await
}

async fn grow(State(room): Shared, body: Json<GrowRequest>) -> Result<Response, ApiError> {
    let size = body.0.size()?;
    answer(&room, move |target| target.grow(size)).await
}

async fn stop(State(room): Shared, _: Json<Nothing>) -> Result<Response, ApiError> {
    answer(&room, |target| target.stop().map(|()| json!({"stopping": true}))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    since: u64,
    follow: Option<bool>,
}

async fn events(State(room): Shared, query: Result<Query<EventsQuery>, QueryRejection>) -> Result<Response, ApiError> {
    let query = query?.0;
    let subscription = blocking(&room, move |target| Ok(target.events().subscribe_since(query.since))).await?;
    let stream = EventStream::new(subscription, query.follow.unwrap_or(true), room.stopping.clone());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(stream)).into_response())
}

async fn schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], EVENT_SCHEMA).into_response()
}

async fn metrics(State(room): Shared) -> Result<Response, ApiError> {
    let text = blocking(&room, |target| Ok(target.metrics())).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

async fn not_found(request: Request) -> ApiError {
    let path = request.uri().path().chars().take(100).collect::<String>();
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no {path}; docs/control.md lists what there is"))
}

async fn wrong_method(request: Request) -> ApiError {
    let text =
        format!("{} does not go with {}; docs/control.md lists what does", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// Calls the target where waiting is allowed, and puts what it says into JSON there, too: a long list takes a while.
async fn answer<R, F>(room: &Room, call: F) -> Result<Response, ApiError>
where
    R: Serialize,
    F: FnOnce(&dyn Target) -> Result<R, TargetError> + Send + 'static,
{
    let to_json = move |target: &dyn Target| {
        let mut text =
            serde_json::to_vec(&call(target)?).map_err(|error| TargetError::Unavailable(error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    };
    let text = blocking(room, to_json).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn blocking<R, F>(room: &Room, call: F) -> impl Future<Output = Result<R, ApiError>> + use<R, F>
where
    R: Send + 'static,
    F: FnOnce(&dyn Target) -> Result<R, TargetError> + Send + 'static,
{
    let target = Arc::clone(&room.target);
    let task = tokio::task::spawn_blocking(move || call(&*target));
    async {
        let crashed = |_| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside stunfs; see its log".into())
        };
        Ok(task.await.map_err(crashed)??)
    }
}

/// A JSON body within the limits; no body counts as `{}`.
struct Json<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<Room>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, room: &Arc<Room>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, &parts.headers, &room.limits).await?;
        if bytes.is_empty() {
            return parse(b"{}");
        }
        check_type(&parts.headers)?;
        parse(&bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<Json<T>, ApiError> {
    serde_json::from_slice(bytes)
        .map(Json)
        .map_err(|error| ApiError::bad(format!("the body is not what is expected: {error}")))
}

async fn read(body: Body, headers: &HeaderMap, limits: &Limits) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large, at most {}", limits.body));
    let limit = usize::try_from(limits.body.0).unwrap_or(usize::MAX);
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.read, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad("the body broke off".into())),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".into())),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or("?");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = format!("'{essence}' is not taken, only application/json (curl: --json '{{...}}')");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

/// A refusal: a status and one line.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    const fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }

    const fn bad(text: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<TargetError> for ApiError {
    fn from(error: TargetError) -> Self {
        let status = match error {
            TargetError::Invalid(_) => StatusCode::BAD_REQUEST,
            TargetError::Conflict(_) => StatusCode::CONFLICT,
            TargetError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(error: QueryRejection) -> Self {
        Self::bad(error.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let line = self.text.replace('\n', " ");
        let body = format!("{}\n", json!({ "error": line }));
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
