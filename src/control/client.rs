//! Talks to a running volume's control socket, one connection a request. Blocks the calling thread.
//!
//! Must not know: command lines, what replies mean. Invariant: no call outlasts its time limit, and every error is one line
//! that says what to do.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::command::Command;

/// How long a request may take unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens at the socket.
    #[error("no volume listens at {0}; is it mounted? stunfs ctl needs the mount point or --socket")]
    NotListening(PathBuf),
    /// The socket belongs to another user.
    #[error("{0} belongs to another user; be root or the user who runs the volume")]
    Denied(PathBuf),
    /// No answer came in time.
    #[error("the volume at {socket} gave no answer within {within:?}; it may still be at it: see stunfs ctl status")]
    TimedOut {
        /// The volume's socket.
        socket: PathBuf,
        /// How long the client waited.
        within: Duration,
    },
    /// The connection broke: the volume has ended, or has too many connections.
    #[error("the connection to {socket} broke off ({what}); the volume may have ended: see stunfs ctl status")]
    Broken {
        /// The volume's socket.
        socket: PathBuf,
        /// How the connection broke.
        what: String,
    },
    /// The volume refuses the request.
    #[error("{text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The volume's own line.
        text: String,
    },
    /// This process cannot make a connection at all.
    #[error("cannot set up a connection: {0}")]
    Local(#[from] io::Error),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpReply {
    /// HTTP status.
    pub status: u16,
    /// The body as JSON; text that is no JSON comes as a string.
    pub body: Value,
}

impl HttpReply {
    /// The body of a good answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the volume's own line.
    pub fn ok(self) -> Result<Value, ClientError> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let line = self.body.get("error").and_then(Value::as_str);
        let text = line.map_or_else(|| format!("the volume answered with status {}", self.status), Into::into);
        Err(ClientError::Refused { status: self.status, text })
    }
}

/// A volume's control socket, from outside.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    within: Option<Duration>,
    runtime: Runtime,
}

impl Client {
    /// Checks that a volume listens at `socket`.
    ///
    /// # Errors
    /// No volume listens there, or this user may not talk to it.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Self { socket: socket.into(), within: Some(TIMEOUT), runtime };
        client.run(client.open())?;
        Ok(client)
    }

    /// Requests may take this long; `None`: as long as they take (`release`, `resume`). Default: 30 s.
    #[must_use]
    pub const fn timeout(mut self, within: Option<Duration>) -> Self {
        self.within = within;
        self
    }

    /// `GET path`.
    ///
    /// # Errors
    /// No answer came; an answer that refuses is no error here, see [`HttpReply::ok`].
    pub fn get(&self, path: &str) -> Result<HttpReply, ClientError> {
        self.request(Method::GET, path, String::new())
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<HttpReply, ClientError> {
        self.request(Method::POST, path, body.to_string())
    }

    /// Asks the volume for `command`, and waits as long as that command may take.
    ///
    /// # Errors
    /// As [`Client::get`], and a refusal.
    pub fn execute(mut self, command: &Command) -> Result<Value, ClientError> {
        if command.may_wait() {
            self.within = None;
        }
        let (name, options) = command.write();
        match command {
            Command::Status { limit } => self.get(&format!("/v1/status?limit={limit}"))?.ok(),
            _ => self.post(&format!("/v1/{name}"), &Value::Object(options))?.ok(),
        }
    }

    /// The lines of `GET /v1/events`: events after number `since` (0: all that are kept), and, if `follow`, what comes.
    /// Consumes the client, since the stream lives on its connection. Waits for an event as long as it takes.
    ///
    /// # Errors
    /// As [`Client::get`], and a refusal.
    pub fn events(self, since: u64, follow: bool) -> Result<EventLines, ClientError> {
        let path = format!("/v1/events?since={since}&follow={follow}");
        let response = self.run(self.send(Method::GET, &path, String::new()))?;
        if response.status() != StatusCode::OK {
            return Err(self.run(self.read(response))?.ok().err().unwrap_or_else(|| self.broken("no events")));
        }
        let body = response.into_body();
        Ok(EventLines { client: self, body, lines: VecDeque::new(), partial: Vec::new(), ended: false })
    }

    fn request(&self, method: Method, path: &str, body: String) -> Result<HttpReply, ClientError> {
        self.run(async {
            let response = self.send(method, path, body).await?;
            self.read(response).await
        })
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let Some(within) = self.within else { return self.runtime.block_on(work) };
        let late = |_| ClientError::TimedOut { socket: self.socket.clone(), within };
        self.runtime.block_on(async { timeout(within, work).await.map_err(late)? })
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>, ClientError> {
        let mut sender = self.open().await?;
        let request = Request::builder().method(method).uri(path).header(header::HOST, "stunfs");
        let request = if body.is_empty() { request } else { request.header(header::CONTENT_TYPE, "application/json") };
        let request = request.body(Full::from(body)).map_err(|error| self.broken(&error))?;
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<HttpReply, ClientError> {
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Ok(HttpReply { status, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
    }

    fn unreachable(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotListening(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => self.broken(error),
        }
    }

    fn broken(&self, what: &(impl ToString + ?Sized)) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), what: what.to_string() }
    }
}

/// Lines of a stream of events, without their newlines. Ends with the volume, or when the connection breaks.
#[derive(Debug)]
pub struct EventLines {
    client: Client,
    body: Incoming,
    lines: VecDeque<String>,
    /// The beginning of a line whose rest has not come.
    partial: Vec<u8>,
    ended: bool,
}

impl EventLines {
    fn split(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend(piece);
            if self.partial.pop_if(|last| *last == b'\n').is_some() {
                self.lines.push_back(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            }
        }
    }
}

impl Iterator for EventLines {
    type Item = Result<String, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.lines.is_empty() && !self.ended {
            match self.client.runtime.block_on(self.body.frame()) {
                Some(Ok(frame)) => self.split(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(self.client.broken(&error)));
                }
                None => self.ended = true,
            }
        }
        self.lines.pop_front().map(Ok)
    }
}
