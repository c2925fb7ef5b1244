//! Whole nodes in this process, on loopback: what a put, a get and `status` tell the user.

use super::report::{GetRequest, Progress, PutDone, PutRequest, Status};
use super::*;
use crate::crypto::keyfile::Protection;
use crate::crypto::keys::Master;
use datadir::DataDir;
use rand::SeedableRng;
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
}

impl TestNode {
    /// One that does not run yet. `seed` makes the keys.
    fn new(seed: u8) -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap(), seed, running: None };
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
        let config = Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            bootstrap: bootstrap.map(|node| node.address().to_owned()).into_iter().collect(),
            mdns: false,
            capacity: 1 << 30,
            reserve: Some(1 << 20),
            ..Config::default()
        };
        let dir = DataDir::open(&self.data()).unwrap();
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

/// The last event of a piece of work.
async fn end<T>(mut events: Receiver<Progress<T>>) -> Result<T, Failure> {
    loop {
        let event = timeout(PATIENCE, events.recv()).await.expect("it ends in time");
        match event.expect("the last event is `Done` or `Failed`") {
            Progress::Working { .. } => {}
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
