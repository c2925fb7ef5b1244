//! The folder of a device that is recovered: the owner's keys from the words, and a new node's.
//!
//! It is made as `init` makes one, and whatever breaks off, the next call goes on: the owner's key
//! stands there first and says whose folder it is, the layout version comes last. Keys that other
//! words led to are never touched.

use super::{
    ADDRESS_BOOK_NAME, DataDir, DataDirError, Identity, LAYOUT_NAME, NODE_KEY_NAME, NOT_OURS,
    OWNER_KEY_NAME, check_layout, io_error, layout, lock, refuse_foreign,
};
use crate::config;
use crate::crypto::head::HeadKeys;
use crate::crypto::keyfile::{self, KeyFileError, Protection};
use crate::crypto::keys::{Master, NodeKeys, OwnerKeys};
use crate::node::report::Failure;
use rand::CryptoRng;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// What a recovery writes, in this order.
const WRITTEN: [&str; 4] = [OWNER_KEY_NAME, NODE_KEY_NAME, config::FILE_NAME, LAYOUT_NAME];

/// A passphrase, or none.
type Passphrase = Option<Zeroizing<String>>;

/// Makes the folder `path` for a new device of the owner whose master this is, or goes on with one
/// that an earlier call made or began. `settings` are written where there are none. `new` gives the
/// passphrase of new keys, `existing` the one of keys that are there and sealed.
///
/// # Errors
/// [`DataDirError`] as a [`Failure`]: [`DataDirError::OtherOwner`] and
/// [`DataDirError::NotEmpty`] before anything is changed; or what the passphrases failed with.
pub fn recover(
    path: &Path,
    master: &Master,
    settings: &str,
    new: impl FnOnce() -> Result<Passphrase, Failure>,
    existing: impl FnOnce() -> Result<Zeroizing<String>, Failure>,
    rng: &mut impl CryptoRng,
) -> Result<Identity, Failure> {
    let dir = DataDir::begin(path)?;
    let (owner, passphrase) = match dir.owner_key(None) {
        Ok(owner) => (owner, None),
        Err(DataDirError::KeyFile { error: KeyFileError::PassphraseNeeded, .. }) => {
            let passphrase = existing()?;
            (dir.owner_key(Some(&passphrase))?, Some(passphrase))
        }
        Err(error) => return Err(error.into()),
    };
    let is_new = owner.is_none();
    let derived = OwnerKeys::derive(master, owner.as_ref().map_or(0, |owner| owner.generation));
    if owner.is_some_and(|owner| name_of(&owner) != name_of(&derived)) {
        return Err(DataDirError::OtherOwner { path: dir.path }.into());
    }
    let passphrase = if is_new { new()? } else { passphrase };
    let protection =
        passphrase.as_ref().map_or(Protection::None, |text| Protection::Passphrase(text));
    dir.complete(&derived, settings, protection, rng)?;
    let sealed = || passphrase.clone().ok_or(KeyFileError::PassphraseNeeded);
    let path = dir.path.clone();
    Identity::load(dir, || sealed().map_err(|error| DataDirError::KeyFile { path, error }.into()))
}

/// What two devices of one owner have in common, and nobody else: the id of its first head. It is
/// no secret.
fn name_of(keys: &OwnerKeys) -> crate::core::types::ChunkId {
    HeadKeys::derive(&keys.head, keys.generation, 0).id()
}

impl DataDir {
    /// Writes the addresses of nodes down that the user named, each with `/p2p/PEERID` at its end,
    /// so that the next node of this folder finds them without being told. Others are left out.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn remember(&self, addresses: &[String]) -> io::Result<()> {
        crate::net::remember(&self.path.join(ADDRESS_BOOK_NAME), addresses)
    }

    /// Makes the folder or opens one that is whole, is as good as empty, or was begun; and locks
    /// it.
    fn begin(path: &Path) -> Result<Self, DataDirError> {
        if path.join(LAYOUT_NAME).symlink_metadata().is_ok() {
            return Self::open(path);
        }
        if !path.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| io_error("be made", path, source))?;
        }
        let path = super::absolute(path)?;
        refuse_foreign(&path)?;
        let entries = std::fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let names = entries.map_err(|source| io_error("be read", &path, source))?;
        let halves = WRITTEN.map(|name| format!("{name}.new"));
        let is_ours = |name: &std::ffi::OsString| {
            let mut known = NOT_OURS.iter().chain(&WRITTEN);
            known.any(|known| name == *known) || halves.iter().any(|half| name == half.as_str())
        };
        if !names.iter().all(is_ours) {
            return Err(DataDirError::NotEmpty { path });
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(|source| io_error("be made private", &path, source))?;
        let lock = lock(&path, true)?;
        for half in halves {
            match std::fs::remove_file(path.join(&half)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("be removed", &path.join(half), error));
                }
                _ => {}
            }
        }
        Ok(Self { path, _lock: lock })
    }

    /// The owner's keys, if there are any.
    fn owner_key(&self, passphrase: Option<&str>) -> Result<Option<OwnerKeys>, DataDirError> {
        if !self.has(OWNER_KEY_NAME) {
            // A node's keys without an owner's were not left by us.
            return match self.has(NODE_KEY_NAME) || self.has(LAYOUT_NAME) {
                true => Err(DataDirError::Unfinished { path: self.path.clone() }),
                false => Ok(None),
            };
        }
        let bytes = self.read_private(OWNER_KEY_NAME)?;
        self.named(OWNER_KEY_NAME, keyfile::open_owner(&bytes, passphrase)).map(Some)
    }

    /// Writes what is missing, the layout version last.
    fn complete(
        &self,
        owner: &OwnerKeys,
        settings: &str,
        protection: Protection<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<(), DataDirError> {
        if self.has(LAYOUT_NAME) {
            return check_layout(&self.path);
        }
        if !self.has(OWNER_KEY_NAME) {
            let sealed = self.named(OWNER_KEY_NAME, keyfile::seal_owner(owner, protection, rng))?;
            self.write_new(OWNER_KEY_NAME, &sealed)?;
        }
        if !self.has(NODE_KEY_NAME) {
            let node = NodeKeys::generate(rng);
            let sealed = self.named(NODE_KEY_NAME, keyfile::seal_node(&node, protection, rng))?;
            self.write_new(NODE_KEY_NAME, &sealed)?;
        }
        if !self.has(config::FILE_NAME) {
            self.write_new(config::FILE_NAME, settings.as_bytes())?;
        }
        self.write_new(LAYOUT_NAME, layout().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::NodeId;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    fn recovered(path: &Path, master: u8, passphrase: Option<&str>) -> Result<Identity, Failure> {
        let mut rng = ChaCha20Rng::try_from_rng(&mut rand::rngs::SysRng).unwrap();
        let master = Master::from_bytes([master; 32]);
        let text = || passphrase.map(|text| Zeroizing::new(text.to_owned()));
        let existing = || Ok(text().expect("they are sealed"));
        recover(path, &master, "mesh = \"family\"\n", || Ok(text()), existing, &mut rng)
    }

    fn node_at(path: &Path, master: u8, passphrase: Option<&str>) -> NodeId {
        recovered(path, master, passphrase).unwrap().node.node_id()
    }

    #[test]
    fn recover_into_its_own_folder_goes_on() {
        for passphrase in [None, Some("correct horse")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("deep/node");
            let node = node_at(&path, 1, passphrase);
            assert_eq!(node_at(&path, 1, passphrase), node, "it is whole: nothing is made");
            // Broken off before each of the files that it writes.
            for from in (0..WRITTEN.len()).rev() {
                for name in WRITTEN.into_iter().skip(from) {
                    std::fs::remove_file(path.join(name)).unwrap();
                }
                let half = path.join(format!("{}.new", WRITTEN[from]));
                std::fs::write(half, b"half of it").unwrap();
                let again = node_at(&path, 1, passphrase);
                assert_eq!(again == node, from > 1, "a node's key that is there is used");
                let text = std::fs::read_to_string(path.join(config::FILE_NAME)).unwrap();
                assert_eq!(text, "mesh = \"family\"\n");
                let left = std::fs::read_dir(&path).unwrap().count();
                assert_eq!(left, WRITTEN.len() + 1, "and the lock");
                let identity = Identity::load(DataDir::open(&path).unwrap(), || {
                    Ok(Zeroizing::new(passphrase.unwrap().to_owned()))
                });
                let expected = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
                assert_eq!(name_of(&identity.unwrap().owner), name_of(&expected));
            }
        }
    }

    #[test]
    fn recover_with_other_words_is_refused() {
        for broken_off in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            node_at(folder.path(), 1, None);
            if broken_off {
                std::fs::remove_file(folder.path().join(LAYOUT_NAME)).unwrap();
            }
            let read = |name| std::fs::read(folder.path().join(name)).unwrap();
            let before = (read(OWNER_KEY_NAME), read(NODE_KEY_NAME));
            let failure = recovered(folder.path(), 2, None).unwrap_err();
            assert!(failure.what.contains("keys of another owner"), "{failure:?}");
            assert_eq!((read(OWNER_KEY_NAME), read(NODE_KEY_NAME)), before);
            assert_eq!(folder.path().join(LAYOUT_NAME).exists(), !broken_off);
        }
    }

    #[test]
    fn recover_leaves_a_folder_with_other_things_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("holiday.jpg"), b"x").unwrap();
        let failure = recovered(folder.path(), 1, None).unwrap_err();
        assert!(failure.what.contains("is not empty"), "{failure:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::rename(folder.path().join("holiday.jpg"), folder.path().join("node.key")).unwrap();
        let failure = recovered(folder.path(), 1, None).unwrap_err();
        assert!(failure.what.contains("not complete"), "{failure:?}");
    }
}
