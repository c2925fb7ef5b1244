//! The asking half: one connection per request, bounded answers, events as they come.

use super::{
    AUDIT, Asked, BACKUP, BACKUP_START, BODY_BYTES_MAX, DIFF, FIND, FORGET, GET, HEADS, HEAL,
    KEEP_ALIVE, LS, PEERS, PRUNE, PUT, RECOVER, RESTORE, SNAPSHOTS, STANDINGS, STATUS, VERIFY,
    socket,
};
use crate::node::report::{
    AuditDone, AuditRequest, BackupDone, BackupRequest, BackupStarted, DiffDone, DiffRequest,
    DiffRow, Failure, FailureKind, FindDone, FindRequest, FindRow, ForgetDone, ForgetRequest,
    ForgetRow, GetDone, GetRequest, Heads, HeadsRequest, HealDone, HealRequest, LsDone, LsRequest,
    NameReport, OwnerSays, PeerReport, Progress, PruneDone, PruneRequest, PutDone, PutRequest,
    RecoverRequest, Recovered, RestoreDone, RestoreRequest, Rows, Snapshots, Status, VerifyDone,
    VerifyRequest,
};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the node may stay silent before it is taken for dead. It answers at once, and streams
/// a line every [`KEEP_ALIVE`].
const SILENCE_MAX: Duration = Duration::from_secs(12 * KEEP_ALIVE.as_secs());

/// Why the node did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the folder's socket.
    #[error("no node listens for {path}", path = data_dir.display())]
    NotListening {
        /// The data folder.
        data_dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or was silent for too long: the node died.
    #[error("the node ended in the middle of the work")]
    Died(Asked),
    /// The node answered that it cannot.
    #[error("{}", .0.what)]
    Refused(Failure),
    /// The answer is not what this version understands.
    #[error("the node's answer was not understood")]
    NotUnderstood,
}

impl ClientError {
    fn during(self, asked: Asked) -> Self {
        match self {
            Self::Died(_) => Self::Died(asked),
            other => other,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = error.to_string();
        let failed = |why: String, hint: &str| Self::new(FailureKind::Failed, what, why, hint);
        match error {
            ClientError::NotListening { source, .. } => failed(
                source.to_string(),
                "if it has only just been started, try again; else stop it and start it again",
            ),
            ClientError::Died(asked) => {
                failed("its process was killed, or hangs".to_owned(), asked.resume())
            }
            ClientError::Refused(failure) => failure,
            ClientError::NotUnderstood => failed(
                "the running node is of another version".to_owned(),
                "stop it and start it again with this version",
            ),
        }
    }
}

/// The way to the node of one data folder.
#[derive(Debug, Clone)]
pub struct Client {
    data_dir: PathBuf,
}

impl Client {
    /// For the node that runs, or will run, in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// What `quloud status` shows, with the `newest` backups; `None` = all of them, however many.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn status(&self, newest: Option<usize>) -> Result<Status, ClientError> {
        let asked = newest.map(|newest| format!("{STATUS}?backups={newest}"));
        let path = asked.as_deref().unwrap_or(STATUS);
        let response = self.request(Method::GET, path, Bytes::new()).await?;
        let mut lines = Lines::of(response);
        let first = lines.next().await?.ok_or(ClientError::NotUnderstood)?;
        let mut status: Status = parse(&first)?;
        while let Some(backup) = lines.next().await? {
            status.backups.push(parse(&backup)?);
        }
        Ok(status)
    }

    /// What `quloud peers` shows.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, ClientError> {
        self.read(self.request(Method::GET, PEERS, Bytes::new()).await?).await
    }

    /// What `quloud peers --standing` shows beside that.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn standings(&self) -> Result<Vec<OwnerSays>, ClientError> {
        self.read(self.request(Method::GET, STANDINGS, Bytes::new()).await?).await
    }

    /// Puts a file.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn put(&self, request: &PutRequest) -> Result<Events<PutDone>, ClientError> {
        self.events(PUT, request, Asked::Put).await
    }

    /// Gets a file.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn get(&self, request: &GetRequest) -> Result<Events<GetDone>, ClientError> {
        self.events(GET, request, Asked::Get).await
    }

    /// Backs files and folders up.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn backup(&self, request: &BackupRequest) -> Result<Events<BackupDone>, ClientError> {
        self.events(BACKUP, request, Asked::Backup).await
    }

    /// Has files and folders backed up by the node alone.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn start_backup(
        &self,
        request: &BackupRequest,
    ) -> Result<BackupStarted, ClientError> {
        let answered = self.answer(BACKUP_START, request).await;
        answered.map_err(|error| error.during(Asked::Backup))
    }

    /// What is answered at once.
    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(request).map_err(|_| ClientError::NotUnderstood)?;
        let response = self.request(Method::POST, path, body.into()).await?;
        self.read(response).await
    }

    /// Looks for what the owner's words lead to.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn recover(
        &self,
        request: &RecoverRequest,
    ) -> Result<Events<Recovered>, ClientError> {
        self.events(RECOVER, request, Asked::Recover).await
    }

    /// Restores a snapshot.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn restore(
        &self,
        request: &RestoreRequest,
    ) -> Result<Events<RestoreDone>, ClientError> {
        self.events(RESTORE, request, Asked::Restore).await
    }

    /// What `quloud heads` shows.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn heads(&self, request: &HeadsRequest) -> Result<Heads, ClientError> {
        self.answer(HEADS, request).await.map_err(|error| error.during(Asked::Report))
    }

    /// What `quloud snapshots` shows.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn snapshots(&self) -> Result<Snapshots, ClientError> {
        let mut lines = Lines::of(self.request(Method::GET, SNAPSHOTS, Bytes::new()).await?);
        let first = lines.next().await?.ok_or(ClientError::NotUnderstood)?;
        let mut found: Snapshots = parse(&first)?;
        while let Some(snapshot) = lines.next().await? {
            found.snapshots.push(parse(&snapshot)?);
        }
        Ok(found)
    }

    /// Reads a snapshot back from its holders.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn verify(&self, request: &VerifyRequest) -> Result<Events<VerifyDone>, ClientError> {
        self.events(VERIFY, request, Asked::Report).await
    }

    /// Asks holders for proofs of what they keep.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn audit(&self, request: &AuditRequest) -> Result<Events<AuditDone>, ClientError> {
        self.events(AUDIT, request, Asked::Report).await
    }

    /// Stores anew what has too few replicas.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn heal(&self, request: &HealRequest) -> Result<Events<HealDone>, ClientError> {
        self.events(HEAL, request, Asked::Heal).await
    }

    /// Lists a folder of a snapshot.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn ls(&self, request: &LsRequest) -> Result<Listed<NameReport, LsDone>, ClientError> {
        self.listed(LS, request, Asked::Report).await
    }

    /// Compares two snapshots.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn diff(
        &self,
        request: &DiffRequest,
    ) -> Result<Listed<DiffRow, DiffDone>, ClientError> {
        self.listed(DIFF, request, Asked::Report).await
    }

    /// Looks for names in snapshots.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn find(
        &self,
        request: &FindRequest,
    ) -> Result<Listed<FindRow, FindDone>, ClientError> {
        self.listed(FIND, request, Asked::Report).await
    }

    /// Forgets snapshots.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn forget(
        &self,
        request: &ForgetRequest,
    ) -> Result<Listed<ForgetRow, ForgetDone>, ClientError> {
        self.listed(FORGET, request, Asked::Forget).await
    }

    /// Lets go what no snapshot needs.
    ///
    /// # Errors
    /// [`ClientError`], as for every request.
    pub async fn prune(&self, request: &PruneRequest) -> Result<Events<PruneDone>, ClientError> {
        self.events(PRUNE, request, Asked::Prune).await
    }

    async fn events<T>(
        &self,
        path: &str,
        request: &impl Serialize,
        asked: Asked,
    ) -> Result<Events<T>, ClientError> {
        Ok(Events { stream: self.stream(path, request, asked).await?, done: PhantomData })
    }

    async fn listed<R, D>(
        &self,
        path: &str,
        request: &impl Serialize,
        asked: Asked,
    ) -> Result<Listed<R, D>, ClientError> {
        Ok(Listed { stream: self.stream(path, request, asked).await?, rows: PhantomData })
    }

    async fn stream(
        &self,
        path: &str,
        request: &impl Serialize,
        asked: Asked,
    ) -> Result<EventStream, ClientError> {
        let body = serde_json::to_vec(request).map_err(|_| ClientError::NotUnderstood)?;
        let response = self.request(Method::POST, path, body.into()).await;
        let lines = Lines::of(response.map_err(|error| error.during(asked))?);
        Ok(EventStream { lines, asked })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = socket::connect(&self.data_dir).await.map_err(|source| {
            ClientError::NotListening { data_dir: self.data_dir.clone(), source }
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| died())?;
        // Ends by itself when the answer is read or dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "quloud")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| ClientError::NotUnderstood)?;
        let response = in_time(sender.send_request(request)).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(ClientError::Refused(self.read(response).await?)),
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
        let body = in_time(body).await?.to_bytes();
        parse(&body)
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(json).map_err(|_| ClientError::NotUnderstood)
}

/// The progress of one piece of work. Dropping it hangs up, and the node cancels politely.
#[derive(Debug)]
pub struct Events<T> {
    stream: EventStream,
    done: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Events<T> {
    /// The next step. The one after `Done` or `Failed` does not come.
    ///
    /// # Errors
    /// [`ClientError::Died`] where the stream ends before that.
    pub async fn next(&mut self) -> Result<Progress<T>, ClientError> {
        self.stream.next().await
    }
}

/// A list without a bound. Dropping it hangs up, and the node stops listing.
#[derive(Debug)]
pub struct Listed<R, D> {
    stream: EventStream,
    rows: PhantomData<fn() -> (R, D)>,
}

impl<R: DeserializeOwned, D: DeserializeOwned> Listed<R, D> {
    /// The next rows. What is after `Done` or `Failed` does not come.
    ///
    /// # Errors
    /// [`ClientError::Died`] where the stream ends before that.
    pub async fn next(&mut self) -> Result<Rows<R, D>, ClientError> {
        self.stream.next().await
    }
}

/// Server-sent events.
#[derive(Debug)]
struct EventStream {
    lines: Lines,
    asked: Asked,
}

impl EventStream {
    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let asked = self.asked;
        while let Some(line) = self.lines.next().await.map_err(|error| error.during(asked))? {
            // Anything else is a comment, or the empty line behind an event.
            if let Some(data) = line.strip_prefix(b"data:") {
                return parse(data);
            }
        }
        Err(ClientError::Died(asked))
    }
}

/// An answer that comes line by line, as many as there are.
#[derive(Debug)]
struct Lines {
    body: Incoming,
    unread: BytesMut,
    /// How many unread bytes are known to hold no end of a line.
    scanned: usize,
}

impl Lines {
    fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), unread: BytesMut::new(), scanned: 0 }
    }

    /// The next line without its end; `None` after the last. A line that is cut short, or breaks
    /// off with the connection, is an error.
    async fn next(&mut self) -> Result<Option<BytesMut>, ClientError> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.unread.len() > BODY_BYTES_MAX {
                return Err(ClientError::NotUnderstood);
            }
            match tokio::time::timeout(SILENCE_MAX, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    frame.into_data().iter().for_each(|data| self.unread.extend_from_slice(data));
                }
                Ok(None) if self.unread.is_empty() => return Ok(None),
                _ => return Err(died()),
            }
        }
    }

    /// Cuts the first whole line off, without its end.
    fn take_line(&mut self) -> Option<BytesMut> {
        let fresh = self.unread.iter().skip(self.scanned).position(|byte| *byte == b'\n');
        let Some(end) = fresh.map(|at| self.scanned + at) else {
            self.scanned = self.unread.len();
            return None;
        };
        let line = self.unread.split_to(end);
        self.unread.advance(1);
        self.scanned = 0;
        Some(line)
    }
}

async fn in_time<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, ClientError> {
    match tokio::time::timeout(SILENCE_MAX, work).await {
        Ok(Ok(value)) => Ok(value),
        _ => Err(died()),
    }
}

/// Whoever knows better what was asked says so with [`ClientError::during`].
fn died() -> ClientError {
    ClientError::Died(Asked::Report)
}

#[cfg(test)]
mod tests;
