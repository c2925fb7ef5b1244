//! The layout of a ledger file.
//!
//! ```text
//! header:  "qlledger" | version u8 = 3 | epoch 16 | generation u64 | begun u64 | crc32 u32
//! item:    length of the box u32 | crc32 of the box u32 | box
//! box:     wrapped  kind u8 | fields
//!          1 release id 32 | lease 16 | account 32 | due u64
//!          2 ended   id 32 | lease 16
//!          3 head    account 32 | stored at u64 | terms 12 | copy u8 | record 2,221
//!          6 uptime  seconds u64
//!          7 heard   account 32 | at u64 | audited u8 (0 or 1)
//! ```
//! Integers are little-endian. `begun` is the length with which the generation began: a file that
//! is not whole up to there was never finished. Times are seconds of the store's uptime. Of the
//! records with one number `copy` 0 is the one that was acknowledged. A release is of the chunk
//! under this lease alone, and ended when the chunk was destroyed, or when it was taken back. Kinds
//! 4 and 5 are reserved for what becomes of heads: an item of an unknown kind counts as damage, so
//! the version must go up with the first of them. Version 1 had no releases, and version 2 did not
//! say when owners were heard of; both are read, and written anew before anything else is added.
//! All items of a kind have one length, by which a reader finds its way again behind damage.

use crate::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, StoreEpoch};
use crate::crypto::head::{HEAD_RECORD_BYTES, HeadRecord};
use crate::crypto::keys::WrapKey;
use crate::crypto::seal::{SEAL_OVERHEAD_BYTES, unwrap, wrap_synthetic};
use crate::store::record::{Fields, FieldsMut};
use bytes::Bytes;

/// Length of a header.
pub(crate) const HEADER_BYTES: usize = 8 + 1 + 16 + 8 + 8 + 4;

/// The version that is written.
pub(crate) const LEDGER_VERSION: u8 = 3;

const MAGIC: &[u8; 8] = b"qlledger";
const PREFIX_BYTES: usize = 8;
const RELEASE: u8 = 1;
const ENDED: u8 = 2;
const HEAD: u8 = 3;
const UPTIME: u8 = 6;
const HEARD: u8 = 7;

/// Length of a head's item.
pub(crate) const HEAD_ITEM_BYTES: usize =
    PREFIX_BYTES + SEAL_OVERHEAD_BYTES + 1 + 32 + 8 + 12 + 1 + HEAD_RECORD_BYTES;

/// Length of the item that says how long the store was in use.
pub(crate) const UPTIME_ITEM_BYTES: usize = PREFIX_BYTES + SEAL_OVERHEAD_BYTES + 1 + 8;

/// Length of the item of a release.
pub(crate) const RELEASE_ITEM_BYTES: usize =
    PREFIX_BYTES + SEAL_OVERHEAD_BYTES + 1 + 32 + 16 + 32 + 8;

/// Length of the item of a release that is over.
pub(crate) const ENDED_ITEM_BYTES: usize = PREFIX_BYTES + SEAL_OVERHEAD_BYTES + 1 + 32 + 16;

/// Length of the item that says when an owner was heard of.
pub(crate) const HEARD_ITEM_BYTES: usize = PREFIX_BYTES + SEAL_OVERHEAD_BYTES + 1 + 32 + 8 + 1;

/// The lengths that an item can have: each kind has its own.
const LENGTHS: [usize; 5] =
    [RELEASE_ITEM_BYTES, ENDED_ITEM_BYTES, HEAD_ITEM_BYTES, UPTIME_ITEM_BYTES, HEARD_ITEM_BYTES];

/// The longest item.
pub(crate) const ITEM_BYTES_MAX: usize = HEAD_ITEM_BYTES;

/// What a ledger begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// [`LEDGER_VERSION`], or an earlier one.
    pub(crate) version: u8,
    /// Of the store that wrote it.
    pub(crate) epoch: StoreEpoch,
    /// Its own number.
    pub(crate) generation: u64,
    /// The length with which it began.
    pub(crate) begun: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put(MAGIC).put(&[self.version]).put(self.epoch.as_bytes());
        out.u64(self.generation).u64(self.begun);
        let sum = crc32fast::hash(&out);
        out.u32(sum);
        out
    }

    /// `None` where it is no header; `Err` with the version of one that a later program wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, u8> {
        let Some((front, sum)) = bytes.get(..HEADER_BYTES).and_then(|all| all.split_last_chunk())
        else {
            return Ok(None);
        };
        let mut fields = Fields(front);
        let is_ledger = fields.take::<8>().is_some_and(|magic| magic == *MAGIC);
        if !is_ledger || crc32fast::hash(front) != u32::from_le_bytes(*sum) {
            return Ok(None);
        }
        let Some([version]) = fields.take::<1>() else { return Ok(None) };
        if !(1..=LEDGER_VERSION).contains(&version) {
            return Err(version);
        }
        let mut header = || {
            let epoch = StoreEpoch::from_bytes(fields.take()?);
            Some(Self { version, epoch, generation: fields.u64()?, begun: fields.u64()? })
        };
        Ok(header())
    }
}

/// One thing that a ledger says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A record of a head is kept.
    Head(HeadItem),
    /// The store was in use for so long.
    Uptime(u64),
    /// A chunk was let go.
    Release(ReleaseItem),
    /// A release is over.
    Ended(ChunkId, LeaseNonce),
    /// An owner was heard of.
    Heard(HeardItem),
}

/// When an owner was heard of last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeardItem {
    /// Which.
    pub(crate) account: Account,
    /// In the store's uptime.
    pub(crate) at: u64,
    /// An audit of it was answered with a proof, some time.
    pub(crate) audited: bool,
}

/// A chunk that was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReleaseItem {
    /// Which.
    pub(crate) id: ChunkId,
    /// Under which lease: one that was stored anew since has another.
    pub(crate) lease: LeaseNonce,
    /// Whose it is.
    pub(crate) account: Account,
    /// When it is to be destroyed.
    pub(crate) due: u64,
}

/// A record of a head that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadItem {
    /// For whom.
    pub(crate) account: Account,
    /// When it came.
    pub(crate) stored_at: u64,
    /// What was promised.
    pub(crate) terms: LeaseTerms,
    /// Which record of its number: 0 was acknowledged, the others are evidence.
    pub(crate) copy: u8,
    /// Its signature was checked before it was kept.
    pub(crate) record: HeadRecord,
}

impl Item {
    /// Puts the item behind `out`.
    pub(crate) fn encode(&self, key: &WrapKey, out: &mut Vec<u8>) {
        let mut plain = Vec::with_capacity(ITEM_BYTES_MAX);
        match self {
            Self::Head(HeadItem { account, stored_at, terms, copy, record }) => {
                plain.put(&[HEAD]).put(account.as_bytes()).u64(*stored_at);
                plain.put(&terms.encode()).put(&[*copy]).put(&record.encode());
            }
            Self::Uptime(seconds) => drop(plain.put(&[UPTIME]).u64(*seconds)),
            Self::Release(ReleaseItem { id, lease, account, due }) => {
                plain.put(&[RELEASE]).put(id.as_bytes()).put(lease.as_bytes());
                plain.put(account.as_bytes()).u64(*due);
            }
            Self::Ended(id, lease) => {
                plain.put(&[ENDED]).put(id.as_bytes()).put(lease.as_bytes());
            }
            Self::Heard(HeardItem { account, at, audited }) => {
                plain.put(&[HEARD]).put(account.as_bytes()).u64(*at).put(&[u8::from(*audited)]);
            }
        }
        let wrapped = wrap_synthetic(key, b"ledger", &plain);
        let length = u32::try_from(wrapped.len()).unwrap_or(u32::MAX);
        out.u32(length).u32(crc32fast::hash(&wrapped)).put(&wrapped);
    }

    /// What stands in a box; `None` where it is not whole.
    pub(crate) fn open(wrapped: &[u8], key: &WrapKey) -> Option<Self> {
        let plain = unwrap(key, wrapped).ok()?;
        let mut fields = Fields(&plain);
        match fields.take::<1>()? {
            [HEAD] => {
                let (account, stored_at) = (Account::from_bytes(fields.take()?), fields.u64()?);
                let terms = LeaseTerms::decode(&fields.take()?);
                let [copy] = fields.take::<1>()?;
                let record = HeadRecord::kept(Bytes::copy_from_slice(fields.0)).ok()?;
                Some(Self::Head(HeadItem { account, stored_at, terms, copy, record }))
            }
            [UPTIME] => {
                let seconds = fields.u64()?;
                fields.0.is_empty().then_some(Self::Uptime(seconds))
            }
            [RELEASE] => {
                let (id, lease) = (ChunkId::from_bytes(fields.take()?), fields.take()?);
                let (account, due) = (Account::from_bytes(fields.take()?), fields.u64()?);
                let item = ReleaseItem { id, lease: LeaseNonce::from_bytes(lease), account, due };
                fields.0.is_empty().then_some(Self::Release(item))
            }
            [ENDED] => {
                let (id, lease) = (ChunkId::from_bytes(fields.take()?), fields.take()?);
                let ended = Self::Ended(id, LeaseNonce::from_bytes(lease));
                fields.0.is_empty().then_some(ended)
            }
            [HEARD] => {
                let (account, at) = (Account::from_bytes(fields.take()?), fields.u64()?);
                let audited = match fields.take::<1>()? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                };
                let item = HeardItem { account, at, audited };
                fields.0.is_empty().then_some(Self::Heard(item))
            }
            _ => None,
        }
    }
}

/// The box of the item that `bytes` begin with; `None` where none does, or its checksum is wrong.
pub(crate) fn item_box(bytes: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(bytes.get(..PREFIX_BYTES)?);
    let (length, sum) = (usize::try_from(fields.u32()?).ok()?, fields.u32()?);
    let end = length.checked_add(PREFIX_BYTES)?;
    if !LENGTHS.contains(&end) {
        return None;
    }
    bytes.get(PREFIX_BYTES..end).filter(|wrapped| crc32fast::hash(wrapped) == sum)
}

/// Length of the item with a box of this length.
pub(crate) fn item_bytes(wrapped: &[u8]) -> usize {
    wrapped.len().saturating_add(PREFIX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::head::HeadKeys;
    use crate::crypto::keys::{Master, OwnerKeys};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use std::num::NonZeroU64;

    fn key() -> WrapKey {
        WrapKey::from_bytes([9; 32])
    }

    fn head() -> Item {
        let owner = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([2; 32]);
        let keys = HeadKeys::derive(&owner.head, 0, 3);
        let record = keys.make(NonZeroU64::MIN, [4; 32], b"payload", &mut rng).unwrap();
        let account = Account::from_bytes([5; 32]);
        let terms = LeaseTerms::default();
        Item::Head(HeadItem { account, stored_at: 6, terms, copy: 7, record })
    }

    #[test]
    fn items_and_headers_come_back_as_they_were() {
        let (id, lease) = (ChunkId::from_bytes([1; 32]), LeaseNonce::from_bytes([2; 16]));
        let account = Account::from_bytes([3; 32]);
        for (item, length) in [
            (head(), HEAD_ITEM_BYTES),
            (Item::Uptime(u64::MAX), UPTIME_ITEM_BYTES),
            (Item::Release(ReleaseItem { id, lease, account, due: 4 }), RELEASE_ITEM_BYTES),
            (Item::Ended(id, lease), ENDED_ITEM_BYTES),
            (Item::Heard(HeardItem { account, at: 5, audited: true }), HEARD_ITEM_BYTES),
            (Item::Heard(HeardItem { account, at: 5, audited: false }), HEARD_ITEM_BYTES),
        ] {
            let mut bytes = vec![1, 2, 3];
            item.encode(&key(), &mut bytes);
            assert_eq!(bytes.len(), 3 + length);
            let wrapped = item_box(&bytes[3..]).unwrap();
            assert_eq!(item_bytes(wrapped), length);
            assert_eq!(Item::open(wrapped, &key()), Some(item));
            assert_eq!(Item::open(wrapped, &WrapKey::from_bytes([8; 32])), None);
            assert_eq!(item_box(&bytes[3..bytes.len() - 1]), None);
        }
        let epoch = StoreEpoch::from_bytes([7; 16]);
        for version in 0..5 {
            let header = Header { version, epoch, generation: 8, begun: 9 };
            let bytes = header.encode();
            let known = [1, 2, 3].contains(&version);
            let expected = if known { Ok(Some(header)) } else { Err(version) };
            assert_eq!((bytes.len(), Header::decode(&bytes)), (HEADER_BYTES, expected));
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_seen(at in 0..HEAD_ITEM_BYTES, bit in 0..8_u8) {
            let mut bytes = Vec::new();
            head().encode(&key(), &mut bytes);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(item_box(&bytes), None);
            let (version, epoch) = (LEDGER_VERSION, StoreEpoch::from_bytes([7; 16]));
            let mut header = Header { version, epoch, generation: 8, begun: 9 }.encode();
            header[at % HEADER_BYTES] ^= 1 << bit;
            prop_assert_eq!(Header::decode(&header), Ok(None));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = Header::decode(&bytes);
            if let Some(wrapped) = item_box(&bytes) {
                let _ = Item::open(wrapped, &key());
            }
            prop_assert_eq!(Item::open(&bytes, &key()), None);
        }
    }
}
