//! Whole nodes in this process, on loopback: what a put, a get and `status` tell the user.

mod account;
mod after;
mod audit;
mod backup;
mod complete;
mod detached;
mod domains;
mod forget;
mod heads;
mod heal;
mod look;
mod memory;
mod named;
mod needed;
mod noticed;
mod prune;
mod rebuild;
mod recover;
mod scheduler;
mod served;
mod standing;
mod unheard;
mod verify;
mod words;

use super::put::seconds_since_1970;
use super::report::{BackupState, BackupStatus, GetRequest, Progress, PutDone, PutRequest, Status};
use super::*;
use crate::config::backup::ConfiguredBackup;
use crate::core::types::Locality;
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::crypto::keyfile::Protection;
use crate::crypto::keys::Master;
use crate::repo::catalog::{Entry, JobId, PutStarted};
use datadir::DataDir;
use rand::SeedableRng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

/// No wait in these tests is longer; on an idle machine most last milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node and the folder it lives in.
struct TestNode {
    folder: TempDir,
    seed: u8,
    running: Option<(NodeHandle, String)>,
    /// What it declares.
    site: String,
    /// Those of its settings.
    backups: Vec<ConfiguredBackup>,
}

impl TestNode {
    /// One that does not run yet. `seed` makes the keys.
    fn new(seed: u8) -> Self {
        let (folder, backups) = (tempfile::tempdir().unwrap(), Vec::new());
        let node = Self { folder, seed, running: None, site: String::new(), backups };
        let dir = DataDir::create(&node.data()).unwrap();
        let keys = NodeKeys::from_seeds([seed; 32], [seed; 32], [seed; 32]);
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([seed; 32]);
        dir.write_keys(&keys, &node.owner(), Protection::None, &mut rng).unwrap();
        node
    }

    async fn started(seed: u8, bootstrap: Option<&Self>) -> Self {
        let mut node = Self::new(seed);
        node.start(bootstrap).await;
        node
    }

    async fn start(&mut self, bootstrap: Option<&Self>) {
        self.start_with(bootstrap, 1 << 30).await;
    }

    async fn start_with(&mut self, bootstrap: Option<&Self>, capacity: u64) {
        let config = Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            bootstrap: bootstrap.map(|node| node.address().to_owned()).into_iter().collect(),
            mdns: false,
            capacity,
            reserve: Some(1 << 20),
            site: self.site.clone(),
            backups: self.backups.clone(),
            ..Config::default()
        };
        let deadline = Instant::now() + PATIENCE;
        // A thread of the run before may be about to end.
        let dir = loop {
            match DataDir::open(&self.data()) {
                Ok(dir) => break dir,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let identity = Identity::load(dir, || panic!("no passphrase was set")).unwrap();
        let (handle, addresses) = start(&config, identity).await.unwrap();
        self.running = Some((handle, addresses[0].clone()));
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn owner(&self) -> OwnerKeys {
        OwnerKeys::derive(&Master::from_bytes([self.seed; 32]), 0)
    }

    fn handle(&self) -> &NodeHandle {
        &self.running.as_ref().unwrap().0
    }

    fn address(&self) -> &str {
        &self.running.as_ref().unwrap().1
    }

    /// What a command without a node would find.
    fn at_rest(&self) -> AtRest {
        backups_at_rest(&self.data(), &self.owner(), usize::MAX).unwrap()
    }

    /// Writes entries into the catalogue of a node that does not run.
    fn record(&self, entries: impl IntoIterator<Item = Entry>) {
        let (mut catalog, _) = Catalog::open(&self.data(), &self.owner()).unwrap();
        entries.into_iter().for_each(|entry| catalog.record(entry).unwrap());
        catalog.commit().unwrap();
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().0.shutdown().await;
    }

    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut content = vec![0; bytes];
        let seed = blake3::hash(name.as_bytes());
        blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof().fill(&mut content);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn put(&self, path: PathBuf, replicas: u8, timeout_s: u64) -> Receiver<Progress<PutDone>> {
        self.handle().put(PutRequest { path, replicas, timeout_s })
    }

    /// The first status that is `wanted`.
    async fn status_until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.handle().status(usize::MAX).await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "still {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A put of one replica that began before this process.
fn started_earlier(job: u64, path: PathBuf) -> PutStarted {
    PutStarted {
        job: JobId(job),
        path,
        bytes: 1000,
        modified_ns: 0,
        replicas: 1,
        locality: Locality(0),
        started_at: 0,
    }
}

fn tells(attention: &[String], parts: &[&str]) -> bool {
    attention.iter().any(|matter| parts.iter().all(|part| matter.contains(part)))
}

/// The last event of a piece of work.
async fn end<T>(mut events: Receiver<Progress<T>>) -> Result<T, Failure> {
    loop {
        let event = timeout(PATIENCE, events.recv()).await.expect("it ends in time");
        match event.expect("the last event is `Done` or `Failed`") {
            Progress::Working { .. } | Progress::Told { .. } => {}
            Progress::Done(done) => return Ok(done),
            Progress::Failed(failure) => return Err(failure),
        }
    }
}

#[test]
fn one_owner_gets_half_unless_the_user_says_otherwise() {
    let half = Config { capacity: 1_001, ..Config::default() };
    assert_eq!(account_quota(&half), 500);
    assert_eq!(account_quota(&Config { account_quota: Some(7), ..half }), 7);
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_an_address_is_not_waited_for_to_the_end() {
    let addresses = |count: usize| vec!["/ip4/127.0.0.1/tcp/1".to_owned(); count];
    for (count, wanted, waited) in [
        (2, 2, LISTEN_QUIET),
        (3, 2, LISTEN_QUIET),
        (1, 2, LISTEN_QUIET_SHORT),
        (0, 1, LISTEN_PATIENCE),
    ] {
        let (_sender, mut listening) = watch::channel(addresses(count));
        let begun = tokio::time::Instant::now();
        assert_eq!(first_addresses(&mut listening, wanted).await.len(), count);
        let elapsed = begun.elapsed();
        let late = Duration::from_millis(2);
        assert!(elapsed >= waited && elapsed <= waited + late, "{count}: {elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_that_come_one_by_one_are_waited_for() {
    let (sender, mut listening) = watch::channel(Vec::new());
    let comes = async {
        for number in 1..=4 {
            tokio::time::sleep(LISTEN_QUIET_SHORT / 2).await;
            sender.send_modify(|addresses| addresses.push(format!("/ip4/10.0.0.{number}")));
        }
    };
    let (addresses, ()) = tokio::join!(first_addresses(&mut listening, 4), comes);
    assert_eq!(addresses.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_catalogue_is_told_until_its_file_is_taken_away() {
    let mut node = TestNode::new(1);
    assert!(node.at_rest().attention.is_empty());
    let catalog = node.data().join("owner/catalog");
    std::fs::write(&catalog, b"").unwrap();
    let kept = catalog.with_extension("damaged");
    let told = |attention: &[String]| {
        attention.iter().any(|matter| matter.contains(&kept.display().to_string()))
    };
    for _ in 0..2 {
        assert!(told(&node.at_rest().attention));
    }
    node.start(None).await;
    assert!(told(&node.handle().status(0).await.attention));
    std::fs::remove_file(&kept).unwrap();
    assert!(!told(&node.handle().status(0).await.attention));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_that_nobody_waits_for_gives_way_to_the_next_at_once() {
    let owner = TestNode::started(1, None).await;
    let mut holder = TestNode::started(2, Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    let done = end(owner.put(owner.file("far", 3 << 20), 1, 60)).await.unwrap();
    holder.stop().await;
    owner.status_until(|status| status.peers == 0).await;

    let output = owner.folder.path().join("back");
    let get = |timeout_s| {
        let (capability, output) = (done.capability.clone(), output.clone());
        owner.handle().get(GetRequest { capability, output, overwrite: false, timeout_s })
    };
    // Each would hold its slots and its part file for an hour.
    for _ in 0..40 {
        drop(get(3600));
    }
    let waiting = get(3600);
    holder.start(Some(&owner)).await;
    let done = end(waiting).await.unwrap();
    assert_eq!(done.bytes, 3 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_runs_is_not_queued_once_something_is_acknowledged() {
    let owner = TestNode::started(1, None).await;
    let _holder = TestNode::started(2, Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    let _waiting = owner.put(owner.file("half", 1 << 20), 2, 3600);
    let is_half = |status: &Status| {
        status.backups.first().is_some_and(|put| {
            (put.state, put.replicas, put.target) == (BackupState::Replicating, 1, 2)
        })
    };
    owner.status_until(is_half).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_put_has_no_more_replicas_than_its_worst_chunk() {
    let owner = TestNode::started(1, None).await;
    let mut small = TestNode::new(2);
    // Room for some of the chunks, those that are reported first among them.
    small.start_with(Some(&owner), 16 << 20).await;
    owner.status_until(|status| status.peers == 1).await;
    let failure = end(owner.put(owner.file("large", 20 << 20), 2, 4)).await.unwrap_err();
    assert!(failure.what.contains("has 0 of 2 replicas"), "{failure:?}");
    let status = owner.handle().status(1).await;
    let put = &status.backups[0];
    assert_eq!((put.state, put.replicas), (BackupState::Replicating, 0));
    assert!(small.handle().status(0).await.store.unwrap().chunks > 0);
}

#[test]
fn a_put_that_was_broken_off_is_not_queued_either() {
    let node = TestNode::new(1);
    let path = |name: &str| node.folder.path().join(name);
    let begun = [1, 2].map(|job| Entry::PutStarted(started_earlier(job, path("it"))));
    node.record(begun.into_iter().chain([Entry::PutAcked(JobId(2))]));
    let states: Vec<_> =
        node.at_rest().backups.iter().map(|put| (put.state, put.replicas)).collect();
    assert_eq!(states, [(BackupState::Replicating, 0), (BackupState::Queued, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_put_tells_why_in_the_status_too() {
    let node = TestNode::started(1, None).await;
    let path = node.file("lonely", 1000);
    let failure = end(node.put(path.clone(), 3, 1)).await.unwrap_err();
    assert!(failure.what.contains("has 0 of 3 replicas after 1 s"), "{failure:?}");
    let name = path.display().to_string();
    let wanted = [name.as_str(), "0 of 3 replicas", "no other node"];
    node.status_until(|status| tells(&status.attention, &wanted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_file_is_gone_says_so_and_is_given_up_after_a_week() {
    let mut node = TestNode::new(1);
    let path = |name: &str| node.folder.path().join(name);
    let long_ago = seconds_since_1970() - 8 * 24 * 3600;
    node.record([
        Entry::PutStarted(started_earlier(1, path("unplugged"))),
        Entry::PutStarted(started_earlier(2, path("deleted"))),
        Entry::SourceAway { job: JobId(2), since: Some(long_ago) },
    ]);
    node.start(None).await;
    let status = node
        .status_until(|status| {
            tells(&status.attention, &["unplugged is not there", "bring it back within"])
                && tells(&status.attention, &["deleted was not stored", "for 7 days"])
        })
        .await;
    assert_eq!(status.backups.iter().map(|put| &put.name).collect::<Vec<_>>(), ["unplugged"]);
    node.stop().await;
    assert!(tells(&node.at_rest().attention, &["deleted was not stored"]), "it is remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_between_two_tries_is_told_until_it_is_put() {
    let mut owner = TestNode::new(1);
    let path = owner.file("draft", 999);
    owner.record([Entry::PutStarted(started_earlier(1, path.clone()))]);
    owner.start(None).await;
    let wanted = ["draft was not stored", "it changed after its put began"];
    owner.status_until(|status| tells(&status.attention, &wanted)).await;
    let _holder = TestNode::started(2, Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    end(owner.put(path, 1, 60)).await.unwrap();
    assert_eq!(owner.handle().status(0).await.attention, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_is_not_done_while_the_catalogue_refuses_what_it_has_to_know() {
    let owner = TestNode::started(1, None).await;
    let _holder = TestNode::started(2, Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    let refuse = |refused: fn(&Entry) -> bool| {
        owner.handle().inner.with_catalog(|catalog| catalog.refused = refused)
    };
    for name in ["ack", "root"] {
        refuse(match name {
            "ack" => |entry| matches!(entry, Entry::ChunkAcked(_)),
            _ => |entry| matches!(entry, Entry::PutDone(_)),
        });
        let failure = end(owner.put(owner.file(name, 1000), 1, 60)).await.unwrap_err();
        assert!(failure.what.contains("the catalogue"), "{name}: {failure:?}");
        let status = owner.handle().status(1).await;
        assert_ne!(status.backups[0].state, BackupState::Stored, "{name}");
        assert!(tells(&status.attention, &["the catalogue"]), "{status:?}");
        refuse(|_| false);
        let stored = |put: &BackupStatus| put.state == BackupState::Stored;
        owner
            .status_until(|status| stored(&status.backups[0]) && status.attention.is_empty())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_comes_back_from_its_holders_after_they_were_started_anew() {
    let first = TestNode::started(1, None).await;
    let mut second = TestNode::started(2, Some(&first)).await;
    let third = TestNode::started(3, Some(&first)).await;
    third.status_until(|status| status.peers == 2).await;
    let keys = HeadKeys::derive(&third.owner().head, 0, 0);
    let mut rng = rand_chacha::ChaCha20Rng::from_seed([3; 32]);
    let mut record = |number| {
        let number = std::num::NonZeroU64::new(number).unwrap();
        keys.make(number, [0; 32], b"payload", &mut rng).unwrap()
    };
    let wish = |patience| HeadWish { replicas: 2, held_by: Vec::new(), patience };
    let (one, two) = (record(1), record(2));
    for record in [one.clone(), two.clone()] {
        let stored = third.handle().store_head(&keys, record, wish(PATIENCE)).await.unwrap();
        assert!(stored.is_stored && stored.superseded_by.is_empty(), "{stored:?}");
        assert_eq!(stored.holders.len(), 2);
    }
    second.stop().await;
    second.start(Some(&first)).await;
    third.status_until(|status| status.peers == 2).await;
    let (heads, known) = (std::slice::from_ref(&keys), BTreeMap::new());
    let wanted = |superseded| HeadsWanted { superseded, brief: false, patience: PATIENCE };
    let found = third.handle().find_heads(heads, &known, wanted(1)).await.unwrap();
    assert_eq!(found.answered[&keys.id()].len(), 2, "{found:?}");
    // More questions than are asked at once: each gets its turn, and its answer.
    let ask = || third.handle().find_heads(heads, &known, wanted(0));
    for found in futures::future::join_all((0..9).map(|_| ask())).await {
        assert_eq!(found.unwrap().answered[&keys.id()].len(), 2);
    }
    let records: Vec<&HeadRecord> = found.records.iter().map(|(_, record)| record).collect();
    assert_eq!(records, [&two, &one, &two, &one]);
    // One that is not the newest is refused, and it is said by whom.
    let stored = third.handle().store_head(&keys, one, wish(Duration::from_secs(1))).await.unwrap();
    assert!(!stored.is_stored && stored.superseded_by.len() == 2, "{stored:?}");
}
