//! Keys at rest: one small file, sealed under a passphrase or plain. Bytes in, bytes out.
//!
//! Two files, because they are backed up and replaced apart: the node's keys, and the keys that an
//! owner's device works with. The master is in neither. Whoever writes the file sees to its mode
//! (0600) and to an atomic replacement.
//!
//! Layout, integers little-endian:
//!
//! ```text
//! "QULOUDKF" 8 | version u8 = 1 | kind u8 (1 node, 2 owner) | protection u8 | body | SHA-256 32
//!
//! protection 0, none:        body = content
//! protection 1, passphrase:  body = memory KiB u32 | passes u32 | lanes u32 | salt 16
//!                                 | commitment 32 | nonce 24 | secretbox(content)
//!
//! node content, 96 bytes:    signing 32 | agreement 32 | wrap 32
//! owner content, 229 bytes:  generation u32 | dedup 32 | chunker 32 | head 32 | admin 32
//!                            | audit 32 | E 32 | has delete u8 | delete 32 (zero where without)
//! ```
//!
//! The SHA-256 covers all before it and tells damage from a wrong passphrase; it is no protection.
//! With a passphrase, Argon2id 1.3 (RFC 9106) gives a 32-byte root, from which HKDF-Expand makes
//! the box's key and the commitment, both over everything in front of the commitment. The
//! commitment is compared first: a secretbox opens under more than one key, this file does not.

use super::audit::TagKey;
use super::keys::{
    AdminKey, AuditPurposeKey, ChunkerKey, DedupKey, DeleteKey, DeleteRoot, HeadKey, NodeKeys,
    OwnerKeys, random,
};
use super::seal::{secretbox, secretbox_open};
use super::{expand, sha256, take};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::CryptoRng;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// No key file is longer: read at most one byte more, and hand it here.
pub const KEY_FILE_BYTES_MAX: usize = 512;

const MAGIC: [u8; 8] = *b"QULOUDKF";
const VERSION: u8 = 1;
const PREFIX_BYTES: usize = MAGIC.len() + 3;
const CHECKSUM_BYTES: usize = 32;
const COST_BYTES: usize = 12;
const SALT_BYTES: usize = 16;
const NODE_CONTENT_BYTES: usize = 96;
const OWNER_CONTENT_BYTES: usize = 4 + 6 * 32 + 1 + 32;

/// How a key file is protected.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Not at all: whoever reads the file has the keys. For machines that start unattended.
    None,
    /// By Argon2id of this passphrase, byte for byte as it is given (no Unicode normalisation).
    Passphrase(&'a str),
}

impl std::fmt::Debug for Protection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Passphrase(_) => "Passphrase(..)",
        })
    }
}

/// Why bytes did not give keys, or keys did not give a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not a key file at all.
    #[error("this is not a key file")]
    NotAKeyFile,
    /// Written by a newer version.
    #[error("the key file has version {0}, which is newer than this program")]
    NewerVersion(u8),
    /// A key file of the other kind: the node's where the owner's is expected, or the reverse.
    #[error("this key file holds keys of another kind")]
    WrongKind,
    /// Cut short, changed, or never valid.
    #[error("the key file is damaged")]
    Damaged,
    /// It is sealed, and no passphrase was given.
    #[error("the key file needs a passphrase")]
    PassphraseNeeded,
    /// The passphrase is not the one it was sealed with.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// It asks for more memory or time than a key file may.
    #[error("the key file asks for more memory or time than is allowed")]
    TooCostly,
    /// The memory that the passphrase's hash needs is not there.
    #[error("there is not enough memory to hash the passphrase")]
    OutOfMemory,
}

/// The bytes of `node.key`.
///
/// # Errors
/// [`KeyFileError::OutOfMemory`], with a passphrase only.
pub fn seal_node(
    keys: &NodeKeys,
    protection: Protection<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    encode(Kind::Node, keys.to_seeds().as_slice(), protection, rng)
}

/// Reads what [`seal_node`] made. A passphrase that is not needed is ignored.
///
/// # Errors
/// [`KeyFileError`], whatever the bytes.
pub fn open_node(bytes: &[u8], passphrase: Option<&str>) -> Result<NodeKeys, KeyFileError> {
    let content = decode(Kind::Node, bytes, passphrase)?;
    let content: &[u8; NODE_CONTENT_BYTES] =
        content.as_slice().try_into().map_err(|_| KeyFileError::Damaged)?;
    let mut rest = content.as_slice();
    Ok(NodeKeys::from_seeds(take(&mut rest), take(&mut rest), take(&mut rest)))
}

/// The bytes of `owner.key`.
///
/// # Errors
/// [`KeyFileError::OutOfMemory`], with a passphrase only.
pub fn seal_owner(
    keys: &OwnerKeys,
    protection: Protection<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let delete = keys.delete.as_ref();
    let parts: [&[u8]; 9] = [
        &keys.generation.to_le_bytes(),
        keys.dedup.expose(),
        keys.chunker.expose(),
        keys.head.expose(),
        keys.admin.expose(),
        keys.audit.expose(),
        &keys.delete_root.to_bytes(),
        &[u8::from(delete.is_some())],
        delete.map_or(&[0; 32], |key| key.expose()),
    ];
    // One allocation of the right size, so that no copy is left behind by a growing vector.
    let mut content = Zeroizing::new(Vec::with_capacity(OWNER_CONTENT_BYTES));
    parts.into_iter().for_each(|part| content.extend_from_slice(part));
    encode(Kind::Owner, &content, protection, rng)
}

/// Reads what [`seal_owner`] made. A passphrase that is not needed is ignored.
///
/// # Errors
/// [`KeyFileError`], whatever the bytes.
pub fn open_owner(bytes: &[u8], passphrase: Option<&str>) -> Result<OwnerKeys, KeyFileError> {
    let content = decode(Kind::Owner, bytes, passphrase)?;
    let content: &[u8; OWNER_CONTENT_BYTES] =
        content.as_slice().try_into().map_err(|_| KeyFileError::Damaged)?;
    let mut rest = content.as_slice();
    let generation = u32::from_le_bytes(take(&mut rest));
    let dedup = DedupKey::from_bytes(take(&mut rest));
    let chunker = ChunkerKey::from_bytes(take(&mut rest));
    let head = HeadKey::from_bytes(take(&mut rest));
    let admin = AdminKey::from_bytes(take(&mut rest));
    let audit = AuditPurposeKey::from_bytes(take(&mut rest));
    let delete_root = DeleteRoot::from_bytes(&take(&mut rest)).ok_or(KeyFileError::Damaged)?;
    let [has_delete] = take(&mut rest);
    let delete = DeleteKey::from_bytes(take(&mut rest));
    let delete = match has_delete {
        0 if delete.expose() == &[0; 32] => None,
        1 if delete.public() == delete_root => Some(delete),
        _ => return Err(KeyFileError::Damaged),
    };
    let tag_key = Arc::new(TagKey::derive(generation, &audit));
    Ok(OwnerKeys { generation, dedup, chunker, head, admin, delete, delete_root, audit, tag_key })
}

#[derive(Clone, Copy)]
enum Kind {
    Node = 1,
    Owner = 2,
}

/// What Argon2id is to spend. It travels in the file, so that later versions can raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// What is written: 64 MiB, 3 passes, 1 lane.
    const STANDARD: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// What is accepted at most: a file from elsewhere cannot exhaust the machine that reads it.
    const MAX: Self = Self { memory_kib: 256 << 10, passes: 16, lanes: 4 };

    fn encode(self) -> [u8; COST_BYTES] {
        let mut out = [0; COST_BYTES];
        let fields = [self.memory_kib, self.passes, self.lanes];
        for (to, from) in out.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        out
    }

    fn params(self) -> Result<Params, KeyFileError> {
        if self.memory_kib > Self::MAX.memory_kib
            || self.passes > Self::MAX.passes
            || self.lanes > Self::MAX.lanes
        {
            return Err(KeyFileError::TooCostly);
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| KeyFileError::Damaged)
    }
}

fn encode(
    kind: Kind,
    content: &[u8],
    protection: Protection<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut out = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind as u8]);
    match protection {
        Protection::None => {
            out.push(0);
            out.extend_from_slice(content);
        }
        Protection::Passphrase(passphrase) => {
            let salt = random::<SALT_BYTES>(rng);
            out.push(1);
            out.extend_from_slice(&Cost::STANDARD.encode());
            out.extend_from_slice(&salt);
            let root = stretch(passphrase, &salt, Cost::STANDARD)?;
            let commitment = commitment(&root, &out);
            let sealed = secretbox(&box_key(&root, &out), random(rng), content);
            out.extend_from_slice(&commitment);
            out.extend_from_slice(&sealed);
        }
    }
    let checksum = sha256(&[&out]);
    out.extend_from_slice(&checksum);
    Ok(out)
}

fn decode(
    kind: Kind,
    bytes: &[u8],
    passphrase: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(KeyFileError::NotAKeyFile)?;
    let (version, _) = rest.split_first().ok_or(KeyFileError::Damaged)?;
    if *version > VERSION {
        return Err(KeyFileError::NewerVersion(*version));
    }
    let (covered, checksum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(KeyFileError::Damaged)?;
    if *version != VERSION || bytes.len() > KEY_FILE_BYTES_MAX || sha256(&[covered]) != *checksum {
        return Err(KeyFileError::Damaged);
    }
    let (prefix, body) =
        covered.split_first_chunk::<PREFIX_BYTES>().ok_or(KeyFileError::Damaged)?;
    let [.., found, protection] = *prefix;
    if found != kind as u8 {
        return Err(KeyFileError::WrongKind);
    }
    match protection {
        0 => Ok(Zeroizing::new(body.to_vec())),
        1 => open_body(covered, body, passphrase.ok_or(KeyFileError::PassphraseNeeded)?),
        _ => Err(KeyFileError::Damaged),
    }
}

/// Opens the body of a sealed file; `covered` is the file without its checksum.
fn open_body(
    covered: &[u8],
    body: &[u8],
    passphrase: &str,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    const FRONT_BYTES: usize = COST_BYTES + SALT_BYTES + 32;
    let (front, sealed) = body.split_first_chunk::<FRONT_BYTES>().ok_or(KeyFileError::Damaged)?;
    let mut front = front.as_slice();
    let cost = Cost {
        memory_kib: u32::from_le_bytes(take(&mut front)),
        passes: u32::from_le_bytes(take(&mut front)),
        lanes: u32::from_le_bytes(take(&mut front)),
    };
    let salt = take::<SALT_BYTES>(&mut front);
    let expected = take::<32>(&mut front);
    let preamble =
        covered.get(..PREFIX_BYTES + COST_BYTES + SALT_BYTES).ok_or(KeyFileError::Damaged)?;
    let root = stretch(passphrase, &salt, cost)?;
    if !bool::from(commitment(&root, preamble).ct_eq(&expected)) {
        return Err(KeyFileError::WrongPassphrase);
    }
    let content = secretbox_open(&box_key(&root, preamble), sealed);
    content.map(Zeroizing::new).map_err(|_| KeyFileError::Damaged)
}

fn box_key(root: &[u8; 32], preamble: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(expand(root, &[b"quloud/v1/keyfile-seal", preamble]))
}

fn commitment(root: &[u8; 32], preamble: &[u8]) -> [u8; 32] {
    expand(root, &[b"quloud/v1/keyfile-commitment", preamble])
}

/// Argon2id, version 1.3, 32 bytes. Wipes the memory it used.
fn stretch(
    passphrase: &str,
    salt: &[u8; SALT_BYTES],
    cost: Cost,
) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let params = cost.params()?;
    let mut memory: Vec<Block> = Vec::new();
    memory.try_reserve_exact(params.block_count()).map_err(|_| KeyFileError::OutOfMemory)?;
    memory.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut root = Zeroizing::new([0; 32]);
    let result = argon2.hash_password_into_with_memory(
        passphrase.as_bytes(),
        salt,
        root.as_mut_slice(),
        &mut memory,
    );
    memory.iter_mut().for_each(Zeroize::zeroize);
    result.map(|()| root).map_err(|_| KeyFileError::OutOfMemory)
}

#[cfg(test)]
mod tests;
