//! Both halves over a real socket, with a node that does as the test says.

use super::*;
use crate::api::Service;
use crate::api::server::Server;
use crate::api::socket::Socket;
use crate::node::report::{BackupState, BackupStatus, CapabilityText, SnapshotReport, StoreStatus};
use crate::node::report::{NameKind, StartedState};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// Every wait ends: far above what the machine needs, and only reached by a failure.
const DEADLINE: Duration = Duration::from_secs(20);

/// Files that the node put: more than fit into one bounded answer.
const BACKUPS: usize = 8_000;

/// Hands the sending side of each put to the test.
#[derive(Clone)]
struct FakeNode {
    puts: mpsc::UnboundedSender<mpsc::Sender<Progress<PutDone>>>,
    asked: Arc<Mutex<Vec<PutRequest>>>,
}

impl Service for FakeNode {
    async fn status(&self, newest: usize) -> Status {
        let backup = |number: usize| BackupStatus { bytes: number as u64, ..backup() };
        Status {
            version: "1".to_owned(),
            peer_id: "peer".to_owned(),
            mesh: "quloud".to_owned(),
            listen: Vec::new(),
            peers: 3,
            uptime_s: 7,
            store: Some(StoreStatus::default()),
            backups: (0..BACKUPS.min(newest)).map(backup).collect(),
            backups_total: BACKUPS as u64,
            snapshots: Default::default(),
            proven: None,
            detached: Vec::new(),
            schedule: Vec::new(),
            rebuild: None,
            pruning: false,
            rejects: Default::default(),
            attention: Vec::new(),
        }
    }

    async fn peers(&self) -> Vec<PeerReport> {
        Vec::new()
    }

    async fn standings(&self) -> Vec<OwnerSays> {
        Vec::new()
    }

    fn put(&self, request: PutRequest) -> mpsc::Receiver<Progress<PutDone>> {
        self.asked.lock().unwrap().push(request);
        let (sender, receiver) = mpsc::channel(4);
        self.puts.send(sender).unwrap();
        receiver
    }

    fn get(&self, _request: GetRequest) -> mpsc::Receiver<Progress<GetDone>> {
        mpsc::channel(1).1
    }

    fn backup(&self, _request: BackupRequest) -> mpsc::Receiver<Progress<BackupDone>> {
        mpsc::channel(1).1
    }

    async fn start_backup(&self, request: BackupRequest) -> Result<BackupStarted, Failure> {
        if request.paths.is_empty() {
            let kind = FailureKind::Usage;
            return Err(Failure::new(kind, "no snapshot was made", "nothing is named", "name it"));
        }
        Ok(BackupStarted {
            state: StartedState::Running,
            already: false,
            began_at: 1,
            snapshot: None,
            files: 0,
            bytes: 0,
            new_bytes: 0,
            replicas: 0,
            seconds: 0.0,
        })
    }

    fn recover(&self, _request: RecoverRequest) -> mpsc::Receiver<Progress<Recovered>> {
        mpsc::channel(1).1
    }

    fn restore(&self, _request: RestoreRequest) -> mpsc::Receiver<Progress<RestoreDone>> {
        mpsc::channel(1).1
    }

    fn verify(&self, _request: VerifyRequest) -> mpsc::Receiver<Progress<VerifyDone>> {
        mpsc::channel(1).1
    }

    fn audit(&self, _request: AuditRequest) -> mpsc::Receiver<Progress<AuditDone>> {
        mpsc::channel(1).1
    }

    fn heal(&self, _request: HealRequest) -> mpsc::Receiver<Progress<HealDone>> {
        mpsc::channel(1).1
    }

    fn ls(&self, request: LsRequest) -> mpsc::Receiver<Rows<NameReport, LsDone>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for number in 0..3 {
                let rows =
                    (0..2).map(|row| listed(&format!("{}-{number}-{row}", request.snapshot)));
                sender.send(Rows::Rows { rows: rows.collect() }).await.unwrap();
            }
            let done = LsDone { names: 6, ..LsDone::default() };
            sender.send(Rows::Done(done)).await.unwrap();
        });
        receiver
    }

    fn diff(&self, _request: DiffRequest) -> mpsc::Receiver<Rows<DiffRow, DiffDone>> {
        mpsc::channel(1).1
    }

    fn find(&self, _request: FindRequest) -> mpsc::Receiver<Rows<FindRow, FindDone>> {
        mpsc::channel(1).1
    }

    fn forget(&self, _request: ForgetRequest) -> mpsc::Receiver<Rows<ForgetRow, ForgetDone>> {
        mpsc::channel(1).1
    }

    fn prune(&self, _request: PruneRequest) -> mpsc::Receiver<Progress<PruneDone>> {
        mpsc::channel(1).1
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, Failure> {
        let snapshots = request
            .records
            .into_iter()
            .map(|snapshot| SnapshotReport { snapshot, ..SnapshotReport::default() });
        Ok(Heads { snapshots: snapshots.collect(), ..Heads::default() })
    }

    async fn snapshots(&self) -> Result<Snapshots, Failure> {
        let snapshot = SnapshotReport {
            snapshot: "ab".repeat(32),
            created_at: -1,
            device: "device".to_owned(),
            host: "attic".to_owned(),
            roots: vec!["/data".to_owned()],
            tags: Vec::new(),
            files: 1,
            bytes: 2,
            new_bytes: 3,
            partial: true,
            ..SnapshotReport::default()
        };
        let snapshots = (0..3).map(|files| SnapshotReport { files, ..snapshot.clone() });
        Ok(Snapshots {
            snapshots: snapshots.collect(),
            whole: true,
            notes: vec!["a note".to_owned()],
        })
    }
}

fn listed(path: &str) -> NameReport {
    NameReport {
        path: path.to_owned(),
        kind: NameKind::File,
        mode: 0o644,
        uid: 1,
        gid: 2,
        bytes: 3,
        modified_at: -4,
        modified_ns: 5,
        target: None,
        first_name: None,
        device: None,
        implied: false,
        unreadable: true,
        line: None,
    }
}

struct Bench {
    _folder: TempDir,
    client: Client,
    server: Server,
    node: FakeNode,
    puts: mpsc::UnboundedReceiver<mpsc::Sender<Progress<PutDone>>>,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (sender, puts) = mpsc::unbounded_channel();
    let node = FakeNode { puts: sender, asked: Arc::default() };
    let server = Server::start(Socket::bind(folder.path()).unwrap(), node.clone());
    Bench { client: Client::new(folder.path()), _folder: folder, server, node, puts }
}

/// A file as it is listed: about 330 bytes of JSON.
fn backup() -> BackupStatus {
    BackupStatus {
        name: "a \"b\"\n".to_owned(),
        bytes: 0,
        chunks: 2,
        target: 3,
        replicas: 3,
        state: BackupState::Stored,
        put_at: 1_700_000_000,
        capability: Some(CapabilityText::new("q".repeat(200))),
    }
}

fn request() -> PutRequest {
    PutRequest { path: "/tmp/a \"b\"\n".into(), replicas: 3, timeout_s: 60 }
}

fn working(bytes: u64) -> Progress<PutDone> {
    Progress::Working { bytes, total: None, chunks: 1, replicas: Some(1), note: None }
}

fn done() -> Progress<PutDone> {
    Progress::Done(PutDone {
        snapshot: None,
        notes: Vec::new(),
        capability: CapabilityText::new("quloud1x".to_owned()),
        bytes: 10,
        chunks: 1,
        replicas: 3,
        seconds: 0.5,
        holders: vec![("peer".to_owned(), 1)],
        sealed_bytes: 99,
    })
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("the deadline is generous")
}

#[tokio::test]
async fn status_and_peers_are_answered() {
    let bench = bench();
    assert_eq!(soon(bench.client.status(None)).await.unwrap().peers, 3);
    assert!(soon(bench.client.peers()).await.unwrap().is_empty());
}

#[tokio::test]
async fn status_lists_any_number_of_backups() {
    let bench = bench();
    let all = soon(bench.client.status(None)).await.unwrap();
    assert!(serde_json::to_vec(&all).unwrap().len() > 2 * BODY_BYTES_MAX);
    assert!(all.backups.iter().map(|backup| backup.bytes).eq(0..BACKUPS as u64));
    let newest = soon(bench.client.status(Some(20))).await.unwrap();
    assert_eq!((newest.backups.len(), newest.backups_total), (20, BACKUPS as u64));
    let path = "/api/v1/status?backups=x";
    let refused = soon(bench.client.request(Method::GET, path, Bytes::new())).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn snapshots_come_whole_with_what_is_said_of_them() {
    let bench = bench();
    let found = soon(bench.client.snapshots()).await.unwrap();
    assert_eq!(found.notes, ["a note"]);
    let files: Vec<u64> = found.snapshots.iter().map(|snapshot| snapshot.files).collect();
    assert_eq!((files, found.snapshots[2].created_at), (vec![0, 1, 2], -1));
    let (_folder, client) = dying_node(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
    assert!(soon(client.snapshots()).await.is_err());
}

#[tokio::test]
async fn status_that_breaks_off_is_not_shown() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let status = soon(bench().client.status(Some(0))).await.unwrap();
    let line = serde_json::to_string(&status).unwrap() + "\n";
    let chunk = format!("{head}{:x}\r\n{line}\r\n", line.len());
    for (end, broken) in [("0\r\n\r\n", false), ("", true), ("2\r\n{\"\r\n0\r\n\r\n", true)] {
        let (_folder, client) = dying_node((chunk.clone() + end).leak().as_bytes()).await;
        let shown = soon(client.status(None)).await;
        assert_eq!(matches!(shown, Err(ClientError::Died(_))), broken, "{end:?}: {shown:?}");
    }
}

#[tokio::test]
async fn progress_arrives_in_order_and_ends_with_done() {
    let mut bench = bench();
    let mut events = soon(bench.client.put(&request())).await.unwrap();
    let job = soon(bench.puts.recv()).await.unwrap();
    assert_eq!(bench.node.asked.lock().unwrap()[0].path, request().path);
    for bytes in [1, 2] {
        job.send(working(bytes)).await.unwrap();
        let step = soon(events.next()).await.unwrap();
        assert!(matches!(step, Progress::Working { bytes: b, .. } if b == bytes));
    }
    job.send(Progress::Told { line: "look".to_owned() }).await.unwrap();
    let told = soon(events.next()).await.unwrap();
    assert!(matches!(told, Progress::Told { line } if line == "look"));
    job.send(done()).await.unwrap();
    let Progress::Done(put) = soon(events.next()).await.unwrap() else { panic!("not done") };
    assert_eq!(put.capability.expose(), "quloud1x");
    assert!(matches!(soon(events.next()).await, Err(ClientError::Died(_))));
}

#[tokio::test]
async fn hanging_up_ends_the_job() {
    let mut bench = bench();
    let events = soon(bench.client.put(&request())).await.unwrap();
    let job = soon(bench.puts.recv()).await.unwrap();
    drop(events);
    soon(job.closed()).await;
}

#[tokio::test]
async fn stopping_tells_running_clients() {
    let mut bench = bench();
    let mut events = soon(bench.client.put(&request())).await.unwrap();
    let _job = soon(bench.puts.recv()).await.unwrap();
    let (step, ()) = soon(async { tokio::join!(events.next(), bench.server.stop()) }).await;
    let Progress::Failed(failure) = step.unwrap() else { panic!("not failed") };
    assert!(failure.why.contains("told to stop"), "{failure:?}");
    let refused = soon(bench.client.status(None)).await.unwrap_err();
    assert!(matches!(refused, ClientError::NotListening { .. }), "{refused:?}");
}

#[tokio::test]
async fn finishing_waits_for_running_jobs() {
    let mut bench = bench();
    let mut events = soon(bench.client.put(&request())).await.unwrap();
    let job = soon(bench.puts.recv()).await.unwrap();
    let finished = tokio::spawn(bench.server.finish(std::future::pending()));
    job.send(working(1)).await.unwrap();
    assert!(matches!(soon(events.next()).await.unwrap(), Progress::Working { .. }));
    assert!(!finished.is_finished());
    job.send(done()).await.unwrap();
    assert!(matches!(soon(events.next()).await.unwrap(), Progress::Done(_)));
    soon(finished).await.unwrap();
}

#[tokio::test]
async fn job_dropped_by_the_node_is_a_failure() {
    let mut bench = bench();
    let mut events = soon(bench.client.put(&request())).await.unwrap();
    drop(soon(bench.puts.recv()).await.unwrap());
    assert!(matches!(soon(events.next()).await.unwrap(), Progress::Failed(_)));
}

#[tokio::test]
async fn unknown_and_malformed_requests_are_refused() {
    let bench = bench();
    for (method, path, body) in [
        (Method::GET, "/api/v2/status", Bytes::new()),
        (Method::POST, STATUS, Bytes::new()),
        (Method::POST, PUT, Bytes::from_static(b"{\"path\":3}")),
        (Method::POST, PUT, Bytes::from_static(b"\xff")),
    ] {
        let refused = soon(bench.client.request(method, path, body)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(_)), "{path}: {refused:?}");
    }
    let huge = Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]);
    assert!(soon(bench.client.request(Method::POST, PUT, huge)).await.is_err());
    assert!(bench.node.asked.lock().unwrap().is_empty());
    assert!(soon(bench.client.status(None)).await.is_ok());
}

/// A node that answers these bytes and dies.
async fn dying_node(answer: &'static [u8]) -> (TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 1024];
        drop(stream.read(&mut heard).await);
        drop(stream.write_all(answer).await);
    });
    let client = Client::new(folder.path());
    (folder, client)
}

#[tokio::test]
async fn node_that_dies_is_reported_as_dead() {
    let (_folder, client) = dying_node(b"").await;
    assert!(matches!(soon(client.status(None)).await, Err(ClientError::Died(_))));
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n";
    let (_folder, client) = dying_node(head).await;
    let mut events = soon(client.put(&request())).await.unwrap();
    let error = soon(events.next()).await.unwrap_err();
    assert!(matches!(error, ClientError::Died(Asked::Put)), "{error:?}");
    let hint = Failure::from(error).hint;
    assert!(hint.contains("quloud up") && hint.contains("goes on by itself"), "{hint}");
    assert!(!hint.contains("command again"), "that would be a second put: {hint}");
    let (_folder, client) = dying_node(b"").await;
    let request = GetRequest {
        capability: CapabilityText::new("quloud1x".to_owned()),
        output: PathBuf::from("/out"),
        overwrite: false,
        timeout_s: 1,
    };
    let Err(error) = soon(client.get(&request)).await else { panic!("it died") };
    assert!(matches!(error, ClientError::Died(Asked::Get)), "{error:?}");
    assert!(Failure::from(error).hint.contains("run the same command again"));
}

#[tokio::test]
async fn endless_lines_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let chunk = [b"1000\r\n".as_slice(), &[b'a'; 0x1000], b"\r\n"].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    });
    let client = Client::new(folder.path());
    let mut events = soon(client.put(&request())).await.unwrap();
    assert!(matches!(soon(events.next()).await, Err(ClientError::NotUnderstood)));
}

#[tokio::test]
async fn rows_come_as_they_were_sent_and_a_list_that_is_dropped_is_a_fault() {
    let bench = bench();
    let request = LsRequest { snapshot: "a".to_owned(), ..LsRequest::default() };
    let mut list = bench.client.ls(&request).await.unwrap();
    let mut paths = Vec::new();
    let done = loop {
        match list.next().await.unwrap() {
            Rows::Rows { rows } => paths.extend(rows.into_iter().map(|row| row.path)),
            Rows::Done(done) => break done,
            Rows::Failed(failure) => panic!("{failure:?}"),
        }
    };
    assert_eq!(paths, ["a-0-0", "a-0-1", "a-1-0", "a-1-1", "a-2-0", "a-2-1"]);
    assert_eq!(done.names, 6);
    let mut dropped = bench.client.find(&FindRequest::default()).await.unwrap();
    let Rows::Failed(failure) = dropped.next().await.unwrap() else { panic!("it fails") };
    assert!(failure.why.contains("without a word"), "{failure:?}");
    bench.server.stop().await;
}

#[tokio::test]
async fn a_backup_that_is_handed_over_is_answered_at_once_or_refused_as_any_command() {
    let bench = bench();
    let request = BackupRequest { paths: vec!["/data".into()], ..BackupRequest::default() };
    let started = bench.client.start_backup(&request).await.unwrap();
    let json = serde_json::to_value(&started).unwrap();
    assert_eq!((&json["state"], &json["snapshot"]), (&"running".into(), &serde_json::Value::Null));
    let error = bench.client.start_backup(&BackupRequest::default()).await.unwrap_err();
    assert_eq!(Failure::from(error).kind.exit_code(), 2);
    bench.server.stop().await;
}
