//! A container engine and a QEMU that freeze a real process: real HTTP and QMP on real sockets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use stunfs::internal::time::pause;

use crate::support::signal;

pub(crate) const ID: &str = "4f1d0c5e9b7a";

/// How an engine or a QEMU misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    Good,
    /// Says yes and does nothing.
    Lies,
    /// Does it, but never answers.
    Mute,
    /// Fails at it three times, and does it then.
    Clumsy,
}

#[derive(Debug)]
pub(crate) struct Frozen {
    pid: u32,
    paused: AtomicBool,
    manners: Manners,
    pub(crate) attempts: AtomicU32,
    pub(crate) thaws: AtomicU32,
}

impl Frozen {
    fn new(pid: u32, manners: Manners) -> Arc<Self> {
        Arc::new(Self {
            pid,
            paused: AtomicBool::new(false),
            manners,
            attempts: AtomicU32::new(0),
            thaws: AtomicU32::new(0),
        })
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    fn is_clumsy(&self) -> bool {
        self.manners == Manners::Clumsy && self.attempts.fetch_add(1, Ordering::SeqCst) < 3
    }

    pub(crate) fn set(&self, paused: bool) {
        if paused && self.manners == Manners::Lies {
            return;
        }
        self.thaws.fetch_add(u32::from(!paused), Ordering::SeqCst);
        signal(self.pid, if paused { Signal::STOP } else { Signal::CONT });
        self.paused.store(paused, Ordering::SeqCst);
    }
}

/// A container engine with one container, `web`, whose process is `pid`.
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
    pub(crate) container: Arc<Frozen>,
    #[expect(dead_code, reason = "serves until it is dropped")]
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    pub(crate) fn start(directory: &Path, pid: u32, manners: Manners) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = directory.join("engine.sock");
        let container = Frozen::new(pid, manners);
        let app = Router::new().fallback(answer).with_state(container.clone());
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&socket).unwrap() });
        runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { socket, container, runtime }
    }
}

async fn answer(State(container): State<Arc<Frozen>>, request: Request) -> Response {
    let path = request.uri().path();
    // Versioned or not, as the engines take it.
    let path = path.strip_prefix("/v1.41").unwrap_or(path).to_owned();
    let of = |name: &str, what: &str| path == format!("/containers/{name}/{what}");
    let is = |what: &str| of("web", what) || of(ID, what);
    let json = |value: Value| ([("content-type", "application/json")], value.to_string()).into_response();
    let refuse = |status: StatusCode, why: &str| (status, json!({ "message": why }).to_string()).into_response();
    match request.method().as_str() {
        "GET" if path == "/version" || request.uri().path().ends_with("/version") => {
            json(json!({ "Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12" }))
        }
        "GET" if is("json") => {
            let paused = container.is_paused();
            let status = if paused { "paused" } else { "running" };
            json(json!({ "Id": ID, "State": { "Status": status, "Running": true, "Paused": paused, "Pid": 0 } }))
        }
        "POST" if is("pause") && container.is_paused() => refuse(StatusCode::CONFLICT, "already paused"),
        "POST" if is("unpause") && !container.is_paused() => refuse(StatusCode::CONFLICT, "not paused"),
        "POST" if is("pause") && container.is_clumsy() => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "OCI runtime pause failed: unable to freeze")
        }
        "POST" if is("pause") || is("unpause") => {
            container.set(is("pause"));
            if container.manners == Manners::Mute && is("pause") {
                std::future::pending::<()>().await;
            }
            StatusCode::NO_CONTENT.into_response()
        }
        _ => refuse(StatusCode::NOT_FOUND, "No such container"),
    }
}

/// A QEMU with a monitor socket. It serves one client at a time, interleaves events and sends its lines in pieces.
pub(crate) struct Qemu {
    pub(crate) socket: PathBuf,
    pub(crate) machine: Arc<Frozen>,
}

impl Qemu {
    pub(crate) fn start(directory: &Path, pid: u32, manners: Manners) -> Self {
        let socket = directory.join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let machine = Frozen::new(pid, manners);
        let served = machine.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| drop(serve(&client, &served))));
        Self { socket, machine }
    }
}

fn in_pieces(mut client: &UnixStream, line: &Value) -> std::io::Result<()> {
    let text = format!("{line}\r\n");
    for piece in text.as_bytes().chunks(17) {
        client.write_all(piece)?;
        pause(Duration::from_micros(300));
    }
    Ok(())
}

fn serve(client: &UnixStream, machine: &Frozen) -> std::io::Result<()> {
    in_pieces(client, &json!({ "QMP": { "version": { "qemu": { "major": 7 } }, "capabilities": ["oob"] } }))?;
    let mut negotiated = false;
    for line in BufReader::new(client).lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let event = |name: &str| json!({ "timestamp": { "seconds": 1 }, "event": name, "data": {} });
        let mut answer = json!({ "return": {} });
        match command["execute"].as_str().unwrap_or_default() {
            "qmp_capabilities" => negotiated = true,
            _ if !negotiated => answer = json!({ "error": { "class": "CommandNotFound", "desc": "negotiate first" } }),
            "stop" => {
                in_pieces(client, &event("STOP"))?;
                machine.set(true);
                if machine.manners == Manners::Mute {
                    continue;
                }
            }
            "cont" => {
                machine.set(false);
                in_pieces(client, &event("RESUME"))?;
            }
            "query-status" => {
                in_pieces(client, &event("RTC_CHANGE"))?;
                let paused = machine.is_paused();
                answer["return"] = json!({ "running": !paused, "status": if paused { "paused" } else { "running" } });
            }
            other => answer = json!({ "error": { "class": "CommandNotFound", "desc": format!("no {other}") } }),
        }
        if let Some(id) = command.get("id") {
            answer["id"] = id.clone();
        }
        in_pieces(client, &answer)?;
    }
    Ok(())
}
