//! What each route does: a request in, a [`Command`] to the [`ControlHandler`], a reply out.
//!
//! Must not know: sockets, connections. Invariant: a call that may wait runs on a thread that may wait, and every error is
//! JSON with one line of text.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::command::Command;
use super::handler::ControlHandler;
use super::limits::Limits;
use super::protocol::ControlRefusal;
use super::stream::{EventStream, Stopping};
use crate::telemetry::metrics::Exposition;

const EVENT_SCHEMA: &str = include_str!("../../docs/events.schema.json");

/// The paths below `/v1` that are no commands.
const READ_ONLY: [&str; 2] = ["events", "schema"];

/// What every handler gets.
pub(super) struct AppState {
    pub(super) target: Arc<dyn ControlHandler>,
    pub(super) limits: Limits,
    pub(super) stopping: Stopping,
}

type SharedState = State<Arc<AppState>>;

/// All routes, for the control socket. Every [`Command`] but `status`, which only asks, is `POST /v1/NAME`.
pub(super) fn control(state: Arc<AppState>) -> Router {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/{command}", post(command))
        .route("/v1/events", get(events))
        .route("/v1/schema", get(schema))
        .route("/metrics", get(metrics));
    finish(router, state)
}

/// Metrics alone, for the metrics port.
pub(super) fn metrics_only(state: Arc<AppState>) -> Router {
    finish(Router::new().route("/metrics", get(metrics)), state)
}

fn finish(router: Router<Arc<AppState>>, state: Arc<AppState>) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(state)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    limit: Option<usize>,
}

async fn status(
    State(state): SharedState,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let options = query?.0.limit.map(|limit| ("limit".to_owned(), limit.into()));
    execute(&state, Command::read("status", options.into_iter().collect())?).await
}

async fn command(
    State(state): SharedState,
    Path(name): Path<String>,
    body: Result<Json<Map<String, Value>>, ApiError>,
) -> Result<Response, ApiError> {
    if !is_command(&name) {
        return Err(ApiError::no_such_path(&format!("/v1/{name}")));
    }
    execute(&state, Command::read(&name, body?.0)?).await
}

fn is_command(name: &str) -> bool {
    Command::NAMES.contains(&name)
}

/// Carries out a command where waiting is allowed, and puts the answer into JSON there, too: a long list takes a while.
async fn execute(state: &AppState, command: Command) -> Result<Response, ApiError> {
    let to_json = move |target: &dyn ControlHandler| {
        let reply = target.execute(command)?;
        let mut text = serde_json::to_vec(&reply).map_err(|error| ControlRefusal::Unavailable(error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    };
    let text = blocking(state, to_json).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    since: u64,
    follow: Option<bool>,
}

async fn events(
    State(state): SharedState,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = query?.0;
    let subscription = blocking(&state, move |target| Ok(target.events().subscribe_since(query.since))).await?;
    let stream = EventStream::new(subscription, query.follow.unwrap_or(true), state.stopping.clone());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(stream)).into_response())
}

async fn schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], EVENT_SCHEMA).into_response()
}

async fn metrics(State(state): SharedState, headers: HeaderMap) -> Result<Response, ApiError> {
    let form = Exposition::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let text = blocking(&state, move |target| Ok(form.convert(target.metrics()))).await?;
    Ok(([(header::CONTENT_TYPE, form.content_type())], text).into_response())
}

async fn not_found(request: Request) -> ApiError {
    ApiError::no_such_path(request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    let path = request.uri().path();
    // One route stands for all commands, so it also catches paths that are none.
    let is_known = path.strip_prefix("/v1/").is_none_or(|name| is_command(name) || READ_ONLY.contains(&name));
    if !is_known {
        return ApiError::no_such_path(path);
    }
    let text = format!("{} does not go with {path}; docs/control.md lists what does", request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn blocking<R, F>(state: &AppState, call: F) -> impl Future<Output = Result<R, ApiError>> + use<R, F>
where
    R: Send + 'static,
    F: FnOnce(&dyn ControlHandler) -> Result<R, ControlRefusal> + Send + 'static,
{
    let target = Arc::clone(&state.target);
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

impl<T: DeserializeOwned> FromRequest<Arc<AppState>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, &parts.headers, &state.limits).await?;
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

    fn no_such_path(path: &str) -> Self {
        let path = path.chars().take(100).collect::<String>();
        Self::new(StatusCode::NOT_FOUND, format!("there is no {path}; docs/control.md lists what there is"))
    }

    const fn bad(text: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<ControlRefusal> for ApiError {
    fn from(error: ControlRefusal) -> Self {
        let status = match error {
            ControlRefusal::Invalid(_) => StatusCode::BAD_REQUEST,
            ControlRefusal::Conflict(_) => StatusCode::CONFLICT,
            ControlRefusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
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
