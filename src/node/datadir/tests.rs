//! Tests of the data folder on a real file system.

use super::*;
use crate::crypto::keys::Master;
use crate::node::report::FailureKind;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A folder that `init` would have made, and the id of its node.
fn made(passphrase: Option<&str>) -> (TempDir, PathBuf, crate::core::types::NodeId) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/node");
    let dir = DataDir::create(&path).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let node = NodeKeys::generate(&mut rng);
    let owner = OwnerKeys::derive(&Master::generate(&mut rng), 0);
    let protection = passphrase.map_or(Protection::None, Protection::Passphrase);
    dir.write_keys(&node, &owner, protection, &mut rng).unwrap();
    (folder, path, node.node_id())
}

fn no_passphrase() -> Result<Zeroizing<String>, Failure> {
    panic!("no passphrase is needed")
}

fn load_failure(path: &Path) -> Failure {
    match DataDir::open(path) {
        Ok(dir) => Identity::load(dir, no_passphrase).map(|_| ()).unwrap_err(),
        Err(error) => error.into(),
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn keys_come_back_from_a_private_folder() {
    let (_folder, path, id) = made(None);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("node.key")), 0o600);
    assert_eq!(mode(&path.join("owner.key")), 0o600);
    let identity = Identity::load(DataDir::open(&path).unwrap(), no_passphrase).unwrap();
    assert_eq!(identity.node.node_id(), id);
    assert_eq!(identity.dir.path(), path.canonicalize().unwrap());
}

#[test]
fn sealed_keys_ask_for_the_passphrase() {
    let (_folder, path, id) = made(Some("correct horse"));
    let load = |text: &str| {
        let text = Zeroizing::new(text.to_owned());
        Identity::load(DataDir::open(&path).unwrap(), || Ok(text))
    };
    assert_eq!(load("correct horse").unwrap().node.node_id(), id);
    let failure = load("wrong").unwrap_err();
    assert_eq!(failure.kind, FailureKind::KeysMissing);
    assert!(failure.what.contains("passphrase is wrong"), "{failure:?}");
}

#[test]
fn second_opener_learns_who_has_the_lock() {
    let (_folder, path, _) = made(None);
    let first = DataDir::open(&path).unwrap();
    match DataDir::open(&path) {
        Err(DataDirError::InUse { process, .. }) => assert_eq!(process, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(first);
    assert!(DataDir::open(&path).is_ok());
}

#[test]
fn lost_lock_file_is_made_anew() {
    let (_folder, path, _) = made(None);
    std::fs::remove_file(path.join("lock")).unwrap();
    assert!(DataDir::open(&path).is_ok());
}

#[test]
fn keys_are_never_overwritten() {
    let (_folder, path, _) = made(None);
    let before = std::fs::read(path.join("node.key")).unwrap();
    assert!(matches!(DataDir::create(&path), Err(DataDirError::Exists { .. })));
    for name in ["layout", "node.key"] {
        std::fs::rename(path.join(name), path.join(format!("{name}.aside"))).unwrap();
        assert!(matches!(DataDir::create(&path), Err(DataDirError::Exists { .. })), "{name}");
        std::fs::rename(path.join(format!("{name}.aside")), path.join(name)).unwrap();
    }
    assert_eq!(std::fs::read(path.join("node.key")).unwrap(), before);
}

#[test]
fn folder_with_other_things_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("holiday.jpg"), b"x").unwrap();
    let before = mode(folder.path());
    assert!(matches!(DataDir::create(folder.path()), Err(DataDirError::NotEmpty { .. })));
    assert_eq!(mode(folder.path()), before);
}

#[test]
fn prepared_settings_survive_init() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("quloud.toml"), "mesh = \"family\"\n").unwrap();
    let dir = DataDir::create(folder.path()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let owner = OwnerKeys::derive(&Master::generate(&mut rng), 0);
    let node = NodeKeys::generate(&mut rng);
    dir.write_keys(&node, &owner, Protection::None, &mut rng).unwrap();
    let text = std::fs::read_to_string(folder.path().join("quloud.toml")).unwrap();
    assert_eq!(text, "mesh = \"family\"\n");
}

#[test]
fn missing_folder_points_to_init() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none")] {
        let failure = load_failure(&path);
        assert_eq!(failure.kind, FailureKind::KeysMissing);
        assert!(failure.hint.contains("init"), "{failure:?}");
    }
}

#[test]
fn newer_and_foreign_layouts_are_refused() {
    let (_folder, path, _) = made(None);
    std::fs::write(path.join("layout"), "quloud 2\n").unwrap();
    assert!(matches!(DataDir::open(&path), Err(DataDirError::NewerLayout { found: 2, .. })));
    for other in [&b"something else"[..], b"", b"quloud 1", b"quloud 0\n", b"\xff\xfe"] {
        std::fs::write(path.join("layout"), other).unwrap();
        let refused = DataDir::open(&path);
        assert!(matches!(refused, Err(DataDirError::NotOurs { .. })), "{other:?}");
    }
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let (_folder, path, _) = made(None);
    for (name, mode, restored) in
        [("node.key", 0o640, 0o600), ("owner.key", 0o604, 0o600), ("", 0o750, 0o700)]
    {
        let target = path.join(name);
        std::fs::set_permissions(&target, Permissions::from_mode(mode)).unwrap();
        let failure = load_failure(&path);
        assert_eq!(failure.kind, FailureKind::KeysMissing, "{name}");
        assert!(failure.hint.contains(&format!("chmod {restored:o}")), "{failure:?}");
        std::fs::set_permissions(&target, Permissions::from_mode(restored)).unwrap();
    }
    assert!(Identity::load(DataDir::open(&path).unwrap(), no_passphrase).is_ok());
}

#[test]
fn links_and_pipes_are_no_key_files() {
    let (folder, path, _) = made(None);
    let key = path.join("node.key");
    let aside = folder.path().join("aside");
    std::fs::rename(&key, &aside).unwrap();
    symlink(&aside, &key).unwrap();
    assert_eq!(load_failure(&path).kind, FailureKind::Failed);
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    assert_eq!(load_failure(&path).kind, FailureKind::KeysMissing);
    std::fs::remove_dir(&key).unwrap();
    let failure = load_failure(&path);
    assert_eq!(failure.kind, FailureKind::KeysMissing, "a lost key file");
}

#[test]
fn damaged_key_file_is_reported() {
    let (_folder, path, _) = made(None);
    let key = path.join("owner.key");
    for damage in [vec![0; 4096], Vec::new(), b"QULOUDKF".to_vec()] {
        std::fs::write(&key, damage).unwrap();
        assert_eq!(load_failure(&path).kind, FailureKind::KeysMissing);
    }
}
