//! Listens, admits connections within limits, and ends in time.
//!
//! Must not know: what the routes do. Invariant: however many connections come and however they behave, at most
//! [`Limits::connections`] are served, none keeps a request half-sent, and [`ControlServer::stop`] returns by its deadline.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use crossbeam_channel::{Receiver, bounded};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

use super::handler::ControlHandler;
use super::limits::Limits;
use super::routes::{self, AppState};
use super::socket::{Bound, ControlError, SocketFile, listen_at};
use super::stream::Stopping;
use crate::time::Deadline;

/// How long a dropped server waits for its requests.
const DROP_WAIT: Duration = Duration::from_millis(500);
/// How long to leave the listener alone after the system could not accept (out of file descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long a refused user may take to hear it.
const REFUSAL_WAIT: Duration = Duration::from_millis(200);

/// A volume's control socket. Stops when it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    service: Service,
    file: SocketFile,
}

impl ControlServer {
    /// Serves `target` on the Unix socket `path`, open to this user and root only. A dead daemon's socket is replaced;
    /// missing directories are made with mode 0700.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn start(path: &Path, target: Arc<dyn ControlHandler>) -> Result<Self, ControlError> {
        Self::with_limits(path, target, Limits::default())
    }

    /// As [`ControlServer::start`], with other limits.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn with_limits(path: &Path, target: Arc<dyn ControlHandler>, limits: Limits) -> Result<Self, ControlError> {
        let Bound { listener, file } = listen_at(path)?;
        let open = move || UnixListener::from_std(listener).map(Listener::Unix);
        match Service::start("stunfs-control", open, target, limits, routes::control) {
            Ok(service) => Ok(Self { service, file }),
            Err(error) => {
                file.remove();
                Err(ControlError::system("serve", &path.display())(error))
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Accepts no more connections, removes the socket, and gives requests that are being answered until `deadline`; whether all
    /// were. Must not be called from within a [`ControlHandler`]'s method.
    pub fn stop(&mut self, deadline: Deadline) -> bool {
        self.file.remove();
        self.service.stop(deadline)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop(Deadline::after(DROP_WAIT));
    }
}

/// A volume's metrics port: `GET /metrics` and nothing else. Stops when it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    service: Service,
    address: SocketAddr,
}

impl MetricsServer {
    /// Serves `target`'s metrics at `address`; port 0: any free one.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub fn start(address: SocketAddr, target: Arc<dyn ControlHandler>) -> Result<Self, ControlError> {
        let failed = |error| ControlError::system("serve metrics at", &address)(error);
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let open = move || TcpListener::from_std(listener).map(Listener::Tcp);
        let service = Service::start("stunfs-metrics", open, target, Limits::default(), routes::metrics_only);
        Ok(Self { service: service.map_err(failed)?, address })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// As [`ControlServer::stop`].
    pub fn stop(&mut self, deadline: Deadline) -> bool {
        self.service.stop(deadline)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stop(Deadline::after(DROP_WAIT));
    }
}

/// A listener with a thread of its own.
#[derive(Debug)]
struct Service {
    stopping: watch::Sender<Option<Deadline>>,
    /// The thread says here, as it ends, whether every request was answered.
    done: Receiver<bool>,
}

impl Service {
    fn start(
        name: &str,
        open: impl FnOnce() -> io::Result<Listener> + Send + 'static,
        target: Arc<dyn ControlHandler>,
        limits: Limits,
        routes: fn(Arc<AppState>) -> Router,
    ) -> io::Result<Self> {
        let (stopping, told) = watch::channel(None);
        let (ended, done) = bounded(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name(name)
            // A connection waits for one call at a time: with as many threads no call ever waits for another.
            .max_blocking_threads(usize::try_from(limits.connections).unwrap_or(256).max(1))
            .build()?;
        let listener = runtime.block_on(async { open() })?;
        let room = Arc::new(AppState { target, limits, stopping: told.clone() });
        let server = Server {
            listener,
            router: routes(room),
            limits,
            slots: Arc::new(Semaphore::new(usize::try_from(limits.connections).unwrap_or(256).max(1))),
            stopping: told,
        };
        std::thread::Builder::new().name(name.into()).spawn(move || {
            let all_answered = runtime.block_on(server.run());
            // Calls that are still under way keep their threads; the server does not wait for them.
            runtime.shutdown_background();
            let _ = ended.send(all_answered);
        })?;
        Ok(Self { stopping, done })
    }

    fn stop(&self, deadline: Deadline) -> bool {
        self.stopping.send_if_modified(|until| until.is_none() && until.replace(deadline).is_none());
        // A little more than the server itself has, since it is the one to say how it went.
        self.done.recv_timeout(deadline.left() + DROP_WAIT).unwrap_or(false)
    }
}

struct Server {
    listener: Listener,
    router: Router,
    limits: Limits,
    slots: Arc<Semaphore>,
    stopping: Stopping,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Server {
    /// Serves until it is told to stop; whether every connection had ended by the deadline.
    async fn run(self) -> bool {
        let mut stopping = self.stopping.clone();
        let deadline = loop {
            tokio::select! {
                told = stopping.wait_for(Option::is_some) => break told.ok().and_then(|until| *until),
                accepted = self.listener.accept() => self.admit(accepted).await,
            }
        };
        let Self { listener, slots, limits, .. } = self;
        drop(listener);
        let left = deadline.map_or(DROP_WAIT, |deadline| deadline.left());
        tokio::time::timeout(left, slots.acquire_many(limits.connections.max(1))).await.is_ok()
    }

    async fn admit(&self, accepted: io::Result<AcceptedStream>) {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!("control: cannot accept: {error}");
                return tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        };
        // Without a free slot the connection is closed here.
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        match stream {
            AcceptedStream::Unix(stream) if may_control(&stream) => self.serve(stream, slot),
            AcceptedStream::Unix(stream) => {
                tokio::spawn(async move {
                    refuse(stream).await;
                    drop(slot);
                });
            }
            AcceptedStream::Tcp(stream) => self.serve(stream, slot),
        }
    }

    fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S, slot: OwnedSemaphorePermit) {
        let (router, stopping, read) = (self.router.clone(), self.stopping.clone(), self.limits.read);
        tokio::spawn(async move {
            serve_connection(stream, router, read, stopping).await;
            drop(slot);
        });
    }
}

async fn serve_connection<S>(stream: S, router: Router, read: Duration, mut stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(read).max_buf_size(64 << 10);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A client's bad manners are no news.
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(Option::is_some) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Only root and the user who runs the volume may control it.
fn may_control(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

/// Says no, as a courtesy, and closes. What was asked is read away first: a close with unread bytes resets the connection,
/// and the refusal would be lost with it.
async fn refuse(stream: UnixStream) {
    let body = "{\"error\":\"only root and the user who runs the volume may control it\"}\n";
    let head = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let read_away = async {
        let mut asked = [0; 4096];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut asked) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
    };
    let _ = stream.try_write(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    let _ = tokio::time::timeout(REFUSAL_WAIT, read_away).await;
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

#[derive(Debug)]
enum AcceptedStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<AcceptedStream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| AcceptedStream::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| AcceptedStream::Tcp(stream)),
        }
    }
}
