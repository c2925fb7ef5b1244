//! The serving half: routes, limits, and the end of it.

use super::socket::Socket;
use super::{
    AUDIT, Asked, BACKUP, BACKUP_START, BODY_BYTES_MAX, DIFF, FIND, FORGET, GET, HEADS, HEAL,
    KEEP_ALIVE, LS, PEERS, PRUNE, PUT, RECOVER, RESTORE, SNAPSHOTS, STANDINGS, STATUS, Service,
    Told, VERIFY,
};
use crate::node::report::{Failure, FailureKind};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::Stream;
use futures::stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// From the first byte of a request to the first of its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long streams may take to pass on that the node is stopping.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The API of a running node.
#[derive(Debug)]
pub struct Server {
    /// No new requests.
    closing: CancellationToken,
    /// Running streams end with a failure that says so.
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

/// What every handler is given.
#[derive(Clone)]
struct Context<S> {
    service: S,
    stopping: CancellationToken,
}

impl Server {
    /// Serves `service` on `socket` until [`Self::finish`] or [`Self::stop`].
    pub fn start(socket: Socket, service: impl Service) -> Self {
        let (closing, stopping) = (CancellationToken::new(), CancellationToken::new());
        let app = routes(Context { service, stopping: stopping.clone() });
        let closed = closing.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            let serving = axum::serve(Listener(socket), app).with_graceful_shutdown(closed);
            if let Err(error) = serving.await {
                tracing::error!(%error, "the API ended");
            }
        });
        Self { closing, stopping, task }
    }

    /// Takes no new requests and waits for the running ones, however long they take, but no
    /// longer than `hurry`: then their clients are told.
    pub async fn finish(mut self, hurry: impl Future<Output = ()>) {
        self.closing.cancel();
        tokio::select! {
            ended = &mut self.task => drop(ended),
            () = hurry => self.stop().await,
        }
    }

    /// Takes no new requests and ends the running ones: their clients are told.
    pub async fn stop(self) {
        self.closing.cancel();
        self.stopping.cancel();
        let abort = self.task.abort_handle();
        if tokio::time::timeout(STOP_WITHIN, self.task).await.is_err() {
            abort.abort();
        }
    }
}

struct Listener(Socket);

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = PathBuf;

    async fn accept(&mut self) -> (UnixStream, PathBuf) {
        (self.0.accept().await, self.0.path().to_owned())
    }

    fn local_addr(&self) -> io::Result<PathBuf> {
        Ok(self.0.path().to_owned())
    }
}

fn routes<S: Service>(context: Context<S>) -> Router {
    Router::new()
        .route(STATUS, get(status::<S>))
        .route(PEERS, get(peers::<S>))
        .route(STANDINGS, get(standings::<S>))
        .route(PUT, post(put_file::<S>))
        .route(GET, post(get_file::<S>))
        .route(BACKUP, post(backup::<S>))
        .route(BACKUP_START, post(start_backup::<S>))
        .route(RECOVER, post(recover::<S>))
        .route(RESTORE, post(restore::<S>))
        .route(HEADS, post(heads::<S>))
        .route(SNAPSHOTS, get(snapshots::<S>))
        .route(VERIFY, post(verify::<S>))
        .route(LS, post(ls::<S>))
        .route(DIFF, post(diff::<S>))
        .route(FIND, post(find::<S>))
        .route(FORGET, post(forget::<S>))
        .route(PRUNE, post(prune::<S>))
        .route(AUDIT, post(audit::<S>))
        .route(HEAL, post(heal::<S>))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(answer_in_time))
        .with_state(context)
}

/// What may stand behind `?` in a request for the status.
#[derive(Deserialize)]
struct StatusQuery {
    /// How many backups are listed; all where it is missing.
    backups: Option<usize>,
}

async fn status<S: Service>(
    State(context): State<Context<S>>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let mut status = context.service.status(query.backups.unwrap_or(usize::MAX)).await;
    let backups = std::mem::take(&mut status.backups);
    lines(&status, backups)
}

async fn snapshots<S: Service>(State(context): State<Context<S>>) -> Response {
    match context.service.snapshots().await {
        Ok(mut found) => {
            let snapshots = std::mem::take(&mut found.snapshots);
            lines(&found, snapshots)
        }
        Err(failure) => failed(failure),
    }
}

async fn heads<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    let request = match parse(&body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match context.service.heads(request).await {
        Ok(heads) => Json(heads).into_response(),
        Err(failure) => failed(failure),
    }
}

fn failed(failure: Failure) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(failure)).into_response()
}

/// A list without a bound: what stands above it, then its items.
fn lines<T: Serialize + Send + 'static>(above: &impl Serialize, items: Vec<T>) -> Response {
    let lines = std::iter::once(line(above)).chain(items.into_iter().map(|item| line(&item)));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(stream::iter(lines))).into_response()
}

/// One item of a list, with the end of its line. JSON has none inside.
fn line(item: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(item)?;
    line.push(b'\n');
    Ok(line)
}

async fn peers<S: Service>(State(context): State<Context<S>>) -> Response {
    Json(context.service.peers().await).into_response()
}

async fn standings<S: Service>(State(context): State<Context<S>>) -> Response {
    Json(context.service.standings().await).into_response()
}

async fn put_file<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.put(request), context.stopping, Asked::Put),
        Err(refusal) => refusal,
    }
}

async fn get_file<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.get(request), context.stopping, Asked::Get),
        Err(refusal) => refusal,
    }
}

async fn backup<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.backup(request), context.stopping, Asked::Backup),
        Err(refusal) => refusal,
    }
}

async fn start_backup<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    let request = match parse(&body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match context.service.start_backup(request).await {
        Ok(started) => Json(started).into_response(),
        Err(failure) => failed(failure),
    }
}

async fn recover<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.recover(request), context.stopping, Asked::Recover),
        Err(refusal) => refusal,
    }
}

async fn restore<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.restore(request), context.stopping, Asked::Restore),
        Err(refusal) => refusal,
    }
}

async fn verify<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.verify(request), context.stopping, Asked::Report),
        Err(refusal) => refusal,
    }
}

async fn audit<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.audit(request), context.stopping, Asked::Report),
        Err(refusal) => refusal,
    }
}

async fn heal<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.heal(request), context.stopping, Asked::Heal),
        Err(refusal) => refusal,
    }
}

async fn ls<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.ls(request), context.stopping, Asked::Report),
        Err(refusal) => refusal,
    }
}

async fn diff<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.diff(request), context.stopping, Asked::Report),
        Err(refusal) => refusal,
    }
}

async fn find<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.find(request), context.stopping, Asked::Report),
        Err(refusal) => refusal,
    }
}

async fn forget<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.forget(request), context.stopping, Asked::Forget),
        Err(refusal) => refusal,
    }
}

async fn prune<S: Service>(State(context): State<Context<S>>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(request) => events(context.service.prune(request), context.stopping, Asked::Prune),
        Err(refusal) => refusal,
    }
}

async fn unknown(request: Request) -> Response {
    refuse(StatusCode::NOT_FOUND, format!("{} {}", request.method(), request.uri().path()))
}

async fn answer_in_time(request: Request, next: Next) -> Response {
    let late = || refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long".to_owned());
    tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await.unwrap_or_else(|_| late())
}

/// Parse errors of serde name types and fields, never values, but for enum variants: no request
/// has a secret there.
#[allow(clippy::result_large_err)] // the refusal is the answer, made once and passed straight on
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| refuse(StatusCode::BAD_REQUEST, error.to_string()))
}

fn refuse(status: StatusCode, why: String) -> Response {
    let hint = "use the `quloud` that belongs to the running node: both have the same version";
    let what = "the node did not understand the request";
    let failure = Failure::new(FailureKind::Failed, what, why, hint);
    (status, Json(failure)).into_response()
}

fn events<T>(told: mpsc::Receiver<T>, stopping: CancellationToken, asked: Asked) -> Response
where
    T: Told + Serialize + Send + 'static,
{
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(event_stream(told, stopping, asked)).keep_alive(keep_alive).into_response()
}

/// One event for each step; the last is always `done` or `failed`.
fn event_stream<T: Told + Serialize>(
    told: mpsc::Receiver<T>,
    stopping: CancellationToken,
    asked: Asked,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some((told, stopping)), move |state| async move {
        let (mut told, stopping) = state?;
        let step = tokio::select! {
            biased;
            step = told.recv() => step.unwrap_or_else(|| T::failed(dropped(asked))),
            () = stopping.cancelled() => T::failed(stopped(asked)),
        };
        let more = (!step.is_last()).then_some((told, stopping));
        let event = Event::default().json_data(&step);
        // Our own plain data: a map with text keys and numbers always has a JSON form.
        Some((Ok(event.unwrap_or_default()), more))
    })
}

fn stopped(asked: Asked) -> Failure {
    let what = "the work was not finished";
    Failure::new(FailureKind::Failed, what, "the node was told to stop", asked.resume())
}

fn dropped(asked: Asked) -> Failure {
    let hint = match asked {
        Asked::Put => {
            "look for it in `quloud status` before you put it again, and report it with the \
             node's log"
        }
        Asked::Report
        | Asked::Get
        | Asked::Backup
        | Asked::Recover
        | Asked::Restore
        | Asked::Forget
        | Asked::Prune
        | Asked::Heal => "run the command again, and report it with the node's log",
    };
    Failure::new(
        FailureKind::Failed,
        "the work was not finished",
        "the node dropped it without a word, which is a fault in Quloud",
        hint,
    )
}
