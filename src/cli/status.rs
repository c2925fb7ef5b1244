//! `quloud status`: one screen.

mod schedule;

use super::args::{GlobalOptions, settings};
use super::output::{Output, count, duration, printable};
use super::secrets::PassphraseOptions;
use super::session::Folder;
use super::verify::percent;
use crate::config::size::human;
use crate::node::datadir::{DataDir, Identity, peer_id};
use crate::node::report::{
    BackupState, BackupStatus, DetachedBackup, DetachedState, DeviceStatus, Failure, FailureKind,
    ProofReport, RebuildStatus, SnapshotMade, SnapshotSet, SnapshotsStatus, Status as Report,
    StoreStatus, date,
};
use crate::node::schedule_at_rest;
use clap::Args;
use serde::Serialize;

/// Most backups on the screen unless `--all` asks for all; `--json` always lists all.
const BACKUPS_SHOWN: usize = 10;

/// Most sets of paths whose newest snapshot is shown.
const SETS_SHOWN: usize = 8;

/// Most backups that go on by themselves, or did; `--json` lists all that are remembered.
const DETACHED_SHOWN: usize = 4;

/// What is said of a node that does not run.
const NOT_RUNNING: &str = "the node is not running: nobody can fetch what it holds for others; \
                           start it with `quloud up`";

/// Show what this node stored, what it gives, and what needs attention
///
/// Of the newest snapshot of each set of paths, and of all files that were put together, one word
/// says how they are stored:
///
///   queued       nothing of it is acknowledged yet
///   replicating  some chunk is acknowledged by fewer nodes than were asked for
///   stored       all chunks are acknowledged by enough, and not all are proven by audits
///   safe         audits proved that enough nodes have each chunk, within the last 45 days
///   at risk      replicas or holders were found to count no more: fewer are left, or may be
///   lost         no node is known to have some chunk any more
///
/// `since` is when that began, as far as is known, `seen` when all replicas were last looked at; a
/// loss is told at once, also before the next look.
///
/// Exit code 0 when all is well, 3 when something needs attention. `--json` also shows the
/// capability of each file, and what each word is known from.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    /// List every file, not only the newest
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// What is known, from a node that runs or from the folder of one that does not.
#[derive(Serialize)]
struct Document {
    running: bool,
    #[serde(flatten)]
    report: Report,
}

impl Status {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let newest = (!self.all && !output.json).then_some(BACKUPS_SHOWN);
        let document = match Folder::open(&global.data_dir()?).await? {
            Folder::Running(client) => {
                Document { running: true, report: client.status(newest).await? }
            }
            Folder::Ours(dir) => {
                Document { running: false, report: self.at_rest(global, dir, newest)? }
            }
        };
        output.result(&document, || screen(&document))?;
        match document.report.attention.is_empty() {
            true => Ok(0),
            false => Ok(FailureKind::Partial.exit_code()),
        }
    }

    /// What the folder tells without a node: no network, and the store stays closed.
    fn at_rest(
        &self,
        global: &GlobalOptions,
        dir: DataDir,
        newest: Option<usize>,
    ) -> Result<Report, Failure> {
        let config = settings(global, Vec::new())?.config;
        let identity = Identity::load(dir, || self.passphrase.read_or_ask())?;
        let newest = newest.unwrap_or(usize::MAX);
        let found = crate::node::backups_at_rest(identity.dir.path(), &identity.owner, newest)?;
        let (schedule, overdue) = schedule_at_rest(identity.dir.path(), &config.backups);
        let others = found.attention.into_iter().chain(overdue).collect();
        Ok(Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_id: peer_id(&identity.node),
            mesh: config.mesh,
            listen: Vec::new(),
            peers: 0,
            uptime_s: 0,
            store: None,
            attention: attention_at_rest(found.count.open, others),
            backups: found.backups,
            backups_total: found.count.total,
            snapshots: found.snapshots,
            proven: found.proven,
            detached: Vec::new(),
            schedule,
            pruning: false,
            rebuild: found.rebuild,
            rejects: Default::default(),
        })
    }
}

fn attention_at_rest(open: u64, others: Vec<String>) -> Vec<String> {
    let open = BackupStatus::short_of_replicas(open);
    let open = open.map(|open| format!("{open}; `quloud up` goes on trying"));
    std::iter::once(NOT_RUNNING.to_owned()).chain(open).chain(others).collect()
}

fn screen(document: &Document) -> String {
    let Document { running, report } = document;
    let mut text = format!("node       {}\n", printable(&report.peer_id));
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<10} {value}\n"));
    line("mesh", printable(&report.mesh));
    if *running {
        line("running", format!("{} ({})", duration(report.uptime_s), report.version));
        line("peers", report.peers.to_string());
        for address in &report.listen {
            line("listening", printable(address));
        }
    } else {
        line("running", "no".to_owned());
    }
    if let Some(store) = &report.store {
        line("store", self::store(store));
    }
    let found = &report.snapshots;
    line("snapshots", snapshots(found));
    for set in found.sets.iter().take(SETS_SHOWN) {
        line("", self::set(set));
    }
    let more = found.sets_total.saturating_sub(SETS_SHOWN as u64);
    if more > 0 {
        line("", format!("and of {more} other sets of paths: `quloud snapshots`"));
    }
    for device in found.devices.iter().filter(|device| !device.own || device.short) {
        line("", self::device(device));
    }
    line("backups", puts(report));
    for backup in &report.backups {
        line("", self::backup(backup));
    }
    let more = report.backups_total.saturating_sub(report.backups.len() as u64);
    if more > 0 {
        line("", format!("and {more} older, with --all"));
    }
    for of in report.detached.iter().take(DETACHED_SHOWN) {
        let (name, value) = detached(of);
        line(name, value);
    }
    let more = report.detached.len().saturating_sub(DETACHED_SHOWN);
    if more > 0 {
        line("", format!("and {more} more that ran by themselves, with --json"));
    }
    for (number, of) in schedule::lines(&report.schedule).into_iter().enumerate() {
        line(if number == 0 { "scheduled" } else { "" }, of);
    }
    if report.pruning {
        line("pruning", "chunks that no snapshot needs are being let go".to_owned());
    }
    if let Some(proof) = &report.proven {
        line("proven", proven(proof));
    }
    if let Some(rebuild) = &report.rebuild {
        line("catalogue", rebuilt(rebuild));
    }
    for (number, matter) in report.attention.iter().enumerate() {
        line(if number == 0 { "attention" } else { "" }, printable(matter));
    }
    text
}

fn store(store: &StoreStatus) -> String {
    let StoreStatus { capacity, used, free, chunks, read_only } = store;
    let (capacity, used, free) = (human(*capacity), human(*used), human(*free));
    let read_only = if *read_only { ", read-only" } else { "" };
    let chunks = count(*chunks, "chunk");
    format!("{used} of {capacity} used, {chunks}; {free} free on the disk{read_only}")
}

fn snapshots(found: &SnapshotsStatus) -> String {
    let SnapshotsStatus { total, partial, puts, .. } = found;
    let partial = (*partial > 0).then(|| format!("{partial} partial"));
    let puts = (*puts > 0).then(|| format!("{puts} of them single files"));
    let rest: Vec<String> = puts.into_iter().chain(partial).collect();
    if rest.is_empty() { total.to_string() } else { format!("{total} ({})", rest.join(", ")) }
}

/// The newest snapshot of the same paths.
fn set(set: &SnapshotSet) -> String {
    let SnapshotSet { newest, count: of, .. } = set;
    let name = newest.snapshot.get(..8).unwrap_or(&newest.snapshot);
    let partial = if newest.partial { ", partial" } else { "" };
    let replicas = newest.replicas.map(|replicas| format!(", {replicas}")).unwrap_or_default();
    let text = format!(
        "{name}  {}  {}: {}  ({}, the newest of {of}{replicas}{partial})",
        date(newest.created_at),
        newest.host,
        newest.roots.join(" "),
        human(newest.bytes),
    );
    printable(&text)
}

/// How many files were put, and how the worst of them is stored.
fn puts(report: &Report) -> String {
    let replicas = report.snapshots.puts_replicas;
    let replicas = replicas.map(|replicas| format!(" (the worst: {replicas})")).unwrap_or_default();
    format!("{}{replicas}", report.backups_total)
}

fn device(device: &DeviceStatus) -> String {
    let DeviceStatus { index, number, signed_at, holders, wanted, own, readable, .. } = device;
    let name = if *own { "this device" } else { "another device" };
    let kept = match own {
        true => format!("kept by fewer than {wanted} nodes"),
        false => format!("seen at {}", count(*holders as u64, "node")),
    };
    let unread = if *readable { "" } else { "; its snapshots are not here yet" };
    format!("head {index} of {name}: number {number} of {}, {kept}{unread}", date(*signed_at))
}

/// Which snapshot was read back from its holders last, and how much of it.
fn proven(proof: &ProofReport) -> String {
    let name = proof.snapshot.get(..8).unwrap_or(&proof.snapshot);
    let at = date(i64::try_from(proof.drill.at).unwrap_or(i64::MAX));
    printable(&format!(
        "snapshot {name} can be restored: {at}, {}",
        percent(proof.drill.sample_ppm)
    ))
}

/// A backup that nobody waits for: how far it is, or how it ended.
fn detached(of: &DetachedBackup) -> (&'static str, String) {
    let at = |seconds: u64| date(i64::try_from(seconds).unwrap_or(i64::MAX));
    let paths = of.paths.join(" ");
    let (name, text) = match &of.state {
        DetachedState::Running { bytes, total, chunks, replicas, target, note } => {
            let replicas =
                replicas.map(|has| format!(", {has} of {target} replicas")).unwrap_or_default();
            let total = total.map(|total| format!(" of {}", human(total))).unwrap_or_default();
            let note = note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
            let (bytes, chunks) = (human(*bytes), count(*chunks, "chunk"));
            let since = at(of.began_at);
            let text = format!("{paths}: {bytes}{total}, {chunks}{replicas}{note}; since {since}");
            ("backing up", text)
        }
        DetachedState::Done { ended_at, made, .. } => {
            let SnapshotMade { snapshot, files, bytes, replicas, target, partial, .. } = made;
            let name = snapshot.get(..8).unwrap_or(snapshot);
            let (files, bytes) = (count(*files, "file"), human(*bytes));
            let partial = if *partial { ", partial" } else { "" };
            let counts =
                format!("{files}, {bytes}, {replicas} of {target} replicas of each{partial}");
            ("backed up", format!("{paths}: snapshot {name}, {counts}; {}", at(*ended_at)))
        }
        DetachedState::Failed { ended_at, failure } => {
            ("failed", format!("{paths}: {}; {}", failure.why, at(*ended_at)))
        }
    };
    (name, printable(&text))
}

/// How far it is known again who holds what.
fn rebuilt(rebuild: &RebuildStatus) -> String {
    let RebuildStatus { holders, listed, given_up, replicas } = rebuild;
    let given_up = match given_up {
        0 => String::new(),
        given_up => format!(" ({given_up} given up)"),
    };
    let holders = count(*holders as u64, "holder");
    let replicas = count(*replicas, "replica");
    format!("being rebuilt: {listed} of {holders} listed{given_up}, {replicas} found so far")
}

fn backup(backup: &BackupStatus) -> String {
    let state = match backup.state {
        BackupState::Queued => "queued".to_owned(),
        BackupState::Replicating => format!("replicating {} of {}", backup.replicas, backup.target),
        BackupState::Stored => format!("stored {} of {}", backup.replicas, backup.target),
    };
    format!("{state:<20} {:>8}  {}", human(backup.bytes), printable(&backup.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::{
        CapabilityText, DrillReport, ReplicasReport, ReplicasWord, SnapshotReport,
    };

    fn report() -> Report {
        Report {
            version: "0.1.0".to_owned(),
            peer_id: "12D3Koo".to_owned(),
            mesh: "quloud".to_owned(),
            listen: vec!["/ip4/127.0.0.1/tcp/1/p2p/12D3Koo".to_owned()],
            peers: 4,
            uptime_s: 7500,
            store: Some(StoreStatus {
                capacity: 10_000_000_000,
                used: 1_500_000_000,
                free: 90_000_000_000,
                chunks: 1200,
                read_only: false,
            }),
            backups: vec![BackupStatus {
                name: "evil\u{1b}[2J.txt".to_owned(),
                bytes: 1000,
                chunks: 2,
                target: 3,
                replicas: 3,
                state: BackupState::Stored,
                put_at: 0,
                capability: Some(CapabilityText::new("quloud1secret".to_owned())),
            }],
            backups_total: 1,
            snapshots: SnapshotsStatus::default(),
            proven: None,
            detached: Vec::new(),
            schedule: Vec::new(),
            pruning: false,
            rebuild: None,
            rejects: Default::default(),
            attention: Vec::new(),
        }
    }

    fn set_of(root: &str) -> SnapshotSet {
        let newest = SnapshotReport {
            replicas: Some(ReplicasReport {
                word: ReplicasWord::Replicating,
                has: 1,
                target: 3,
                ..Default::default()
            }),
            proven: None,
            failed: None,
            snapshot: "0123456789".to_owned(),
            created_at: 0,
            device: "d".to_owned(),
            host: "nas".to_owned(),
            roots: vec![root.to_owned()],
            tags: Vec::new(),
            files: 3,
            bytes: 4000,
            new_bytes: 5,
            partial: true,
        };
        SnapshotSet { newest, count: 12, partial: 1 }
    }

    #[test]
    fn snapshots_are_told_by_paths_and_heads_where_something_is_to_be_said() {
        let own = DeviceStatus {
            index: 0,
            own: true,
            number: 3,
            holders: 1,
            wanted: 3,
            short: true,
            readable: true,
            ..Default::default()
        };
        let other = DeviceStatus { index: 1, number: 2, holders: 2, ..Default::default() };
        let mut report = report();
        report.backups.clear();
        report.snapshots = SnapshotsStatus {
            total: 14,
            partial: 1,
            puts: 2,
            devices: vec![own, other, DeviceStatus { own: true, ..Default::default() }],
            sets: vec![set_of("/da\u{1b}ta")],
            sets_total: 1,
            ..Default::default()
        };
        let text = screen(&Document { running: false, report });
        let (_, text) = text.split_once("snapshots ").unwrap();
        assert_eq!(
            text,
            " 14 (2 of them single files, 1 partial)\n\
             \x20          01234567  1970-01-01 00:00 UTC  nas: /da\\u{1b}ta  \
             (4.00 kB, the newest of 12, replicating 1 of 3, partial)\n\
             \x20          head 0 of this device: number 3 of 1970-01-01 00:00 UTC, \
             kept by fewer than 3 nodes\n\
             \x20          head 1 of another device: number 2 of 1970-01-01 00:00 UTC, \
             seen at 2 nodes; its snapshots are not here yet\n\
             backups    1\n\
             \x20          and 1 older, with --all\n"
        );
    }

    #[test]
    fn screen_of_a_healthy_node() {
        let text = screen(&Document { running: true, report: report() });
        assert_eq!(
            text,
            "node       12D3Koo\n\
             mesh       quloud\n\
             running    2 h 5 min (0.1.0)\n\
             peers      4\n\
             listening  /ip4/127.0.0.1/tcp/1/p2p/12D3Koo\n\
             store      1.50 GB of 10.0 GB used, 1200 chunks; 90.0 GB free on the disk\n\
             snapshots  0\n\
             backups    1\n\
             \x20          stored 3 of 3         1.00 kB  evil\\u{1b}[2J.txt\n"
        );
    }

    #[test]
    fn backups_that_go_on_by_themselves_are_told_with_their_ends() {
        let of = |path: &str, state| DetachedBackup {
            paths: vec![path.to_owned()],
            began_at: 60,
            state,
        };
        let note = Some("7 files".to_owned());
        let running = DetachedState::Running {
            bytes: 1000,
            total: Some(3000),
            chunks: 2,
            replicas: Some(1),
            target: 3,
            note,
        };
        let made = SnapshotMade {
            snapshot: "0123456789".to_owned(),
            files: 1,
            bytes: 2000,
            new_bytes: 5,
            replicas: 3,
            target: 3,
            partial: true,
        };
        let done = DetachedState::Done { ended_at: 120, made, notes: Vec::new() };
        let failure = Failure::new(FailureKind::Failed, "what", "nobody is there", "hint");
        let failed = DetachedState::Failed { ended_at: 180, failure };
        let mut report = report();
        report.detached = vec![of("/a\u{1b}", running), of("/b", done), of("/c", failed)];
        let text = screen(&Document { running: true, report: report.clone() });
        let (_, told) = text.split_once("txt\n").unwrap();
        assert_eq!(
            told,
            "backing up /a\\u{1b}: 1.00 kB of 3.00 kB, 2 chunks, 1 of 3 replicas, 7 files; since \
             1970-01-01 00:01 UTC\n\
             backed up  /b: snapshot 01234567, 1 file, 2.00 kB, 3 of 3 replicas of each, partial; \
             1970-01-01 00:02 UTC\n\
             failed     /c: nobody is there; 1970-01-01 00:03 UTC\n"
        );
        // What a script reads: how far each is stands beside its paths.
        let json = serde_json::to_value(&report.detached).unwrap();
        assert_eq!((&json[0]["state"], &json[0]["bytes"]), (&"running".into(), &1000.into()));
        assert_eq!(json[2]["failure"]["why"], "nobody is there");
        let back: Vec<DetachedBackup> = serde_json::from_value(json).unwrap();
        assert_eq!(back, report.detached);
    }

    #[test]
    fn a_catalogue_that_is_being_rebuilt_is_told_and_how_far_it_is() {
        let told = |rebuild| {
            let rebuild = Some(rebuild);
            let text = screen(&Document { running: true, report: Report { rebuild, ..report() } });
            text.lines().last().unwrap().to_owned()
        };
        let mut rebuild = RebuildStatus { holders: 3, listed: 1, given_up: 0, replicas: 1 };
        assert_eq!(
            told(rebuild.clone()),
            "catalogue  being rebuilt: 1 of 3 holders listed, 1 replica found so far"
        );
        (rebuild.given_up, rebuild.replicas) = (1, 1_200);
        let more = "1 of 3 holders listed (1 given up), 1200 replicas found so far";
        assert!(told(rebuild).ends_with(more));
    }

    #[test]
    fn a_prune_that_runs_is_told() {
        let told =
            |pruning| screen(&Document { running: true, report: Report { pruning, ..report() } });
        assert!(
            told(true).ends_with("\npruning    chunks that no snapshot needs are being let go\n")
        );
        assert!(!told(false).contains("pruning"));
    }

    #[test]
    fn screen_is_one_screen() {
        let mut report = report();
        report.backups = vec![report.backups[0].clone(); BACKUPS_SHOWN];
        report.backups_total = 100;
        report.snapshots.sets = vec![set_of("/data"); 9];
        report.snapshots.sets_total = 9;
        let drill = DrillReport { at: 90_000, sample_ppm: 50_000, ..DrillReport::default() };
        report.proven = Some(ProofReport { snapshot: "0123456789".to_owned(), drill });
        report.attention = vec!["first".to_owned(), "second".to_owned()];
        let text = screen(&Document { running: false, report });
        assert!(text.lines().count() < 30);
        assert!(text.contains("and of 1 other sets of paths"));
        assert!(text.contains("and 90 older, with --all"));
        let proven = "proven     snapshot 01234567 can be restored: 1970-01-02 01:00 UTC, 5%
";
        assert!(text.contains(proven), "{text}");
        assert!(text.ends_with("attention  first\n           second\n"));
    }
}
