//! Whole nodes in this process, on loopback: what they tell the user.

use super::*;
use crate::crypto::keyfile::Protection;
use crate::crypto::keys::Master;
use datadir::DataDir;
use rand::SeedableRng;
use std::path::PathBuf;
use tempfile::TempDir;

/// A node and the folder it lives in.
struct TestNode {
    folder: TempDir,
    seed: u8,
    running: Option<NodeHandle>,
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

    async fn start(&mut self) {
        let config = Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            mdns: false,
            capacity: 1 << 30,
            reserve: Some(1 << 20),
            ..Config::default()
        };
        let dir = DataDir::open(&self.data()).unwrap();
        let identity = Identity::load(dir, || panic!("no passphrase was set")).unwrap();
        let (handle, _) = start(&config, identity).await.unwrap();
        self.running = Some(handle);
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn owner(&self) -> OwnerKeys {
        OwnerKeys::derive(&Master::from_bytes([self.seed; 32]), 0)
    }

    fn handle(&self) -> &NodeHandle {
        self.running.as_ref().unwrap()
    }

    /// What a command without a node would find.
    fn at_rest(&self) -> AtRest {
        backups_at_rest(&self.data(), &self.owner(), usize::MAX).unwrap()
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
    node.start().await;
    assert!(told(&node.handle().status(0).await.attention));
    std::fs::remove_file(&kept).unwrap();
    assert!(!told(&node.handle().status(0).await.attention));
}
