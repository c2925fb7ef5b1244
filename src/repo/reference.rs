//! References: how one chunk names another. Pure.
//!
//! Two layouts, integers little-endian, in everything that an owner stores:
//!
//! ```text
//! 66 bytes: chunk key 32 | chunk id 32 | locality u16
//! 74 bytes: the same     | bytes u64
//! ```
//!
//! `bytes` is how many bytes of files lie in or below the chunk. Whoever holds a reference can
//! fetch and read the chunk and all below it, so what references stand in is wiped like a key.

use crate::core::types::{ChunkId, Locality};
use crate::crypto::keys::ChunkKey;
use bytes::Buf;

/// Length of a reference with its bytes.
pub const REF_BYTES: usize = SHORT_REF_BYTES + 8;

/// Length of a reference without them.
pub const SHORT_REF_BYTES: usize = 66;

/// One chunk, by what it takes to fetch and read it.
#[derive(Debug)]
pub struct ChunkRef {
    /// The right to read it.
    pub ck: ChunkKey,
    /// Its id.
    pub id: ChunkId,
    /// Where its topics are.
    pub locality: Locality,
    /// Bytes of files in it or below it; 0 in a reference that does not say.
    pub bytes: u64,
}

impl ChunkRef {
    /// A copy for a second user of the same chunk; explicit, because it holds a key.
    pub fn duplicate(&self) -> Self {
        let Self { ck, id, locality, bytes } = self;
        Self { ck: ck.duplicate(), id: *id, locality: *locality, bytes: *bytes }
    }

    /// Appends the 74 bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_short(out);
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }

    /// Appends the 66 bytes.
    pub fn put_short(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.ck.expose());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.locality.0.to_le_bytes());
    }

    /// Takes 74 bytes off the front; `None` where there are fewer. Any bytes are a reference.
    pub fn take(from: &mut impl Buf) -> Option<Self> {
        let mut reference = Self::take_short(from)?;
        reference.bytes = from.try_get_u64_le().ok()?;
        Some(reference)
    }

    /// Takes 66 bytes off the front; `None` where there are fewer.
    pub fn take_short(from: &mut impl Buf) -> Option<Self> {
        let (mut ck, mut id) = ([0; 32], [0; 32]);
        from.try_copy_to_slice(&mut ck).ok()?;
        let ck = ChunkKey::from_bytes(ck);
        from.try_copy_to_slice(&mut id).ok()?;
        let locality = Locality(from.try_get_u16_le().ok()?);
        Some(Self { ck, id: ChunkId::from_bytes(id), locality, bytes: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_comes_back_as_it_was_and_leaves_the_rest() {
        let ck = ChunkKey::from_bytes([1; 32]);
        let id = ChunkId::from_bytes([2; 32]);
        let given = ChunkRef { ck, id, locality: Locality(0x0304), bytes: 5 };
        let mut bytes = Vec::new();
        given.put(&mut bytes);
        given.put_short(&mut bytes);
        bytes.push(9);
        assert_eq!(bytes.len(), REF_BYTES + SHORT_REF_BYTES + 1);
        assert_eq!(bytes[64..74], [4, 3, 5, 0, 0, 0, 0, 0, 0, 0]);
        let mut rest = bytes.as_slice();
        for bytes in [5, 0] {
            let found = if bytes > 0 {
                ChunkRef::take(&mut rest).unwrap()
            } else {
                ChunkRef::take_short(&mut rest).unwrap()
            };
            assert_eq!(found.ck.expose(), &[1; 32]);
            assert_eq!((found.id, found.locality, found.bytes), (id, Locality(0x0304), bytes));
        }
        assert_eq!(rest, [9]);
    }

    #[test]
    fn a_reference_cut_short_is_none() {
        for length in 0..REF_BYTES {
            let bytes = vec![7; length];
            assert!(ChunkRef::take(&mut bytes.as_slice()).is_none(), "{length}");
            let short = ChunkRef::take_short(&mut bytes.as_slice());
            assert_eq!(short.is_some(), length >= SHORT_REF_BYTES, "{length}");
        }
    }
}
