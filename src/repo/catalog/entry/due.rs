//! What the catalogue remembers of a file that was put and has no snapshot yet.

use super::{Fields, JobId, SNAPSHOT_DUE, TooLong, text_length};
use zeroize::Zeroizing;

/// A file is on the mesh whole, and a snapshot that names it is still to be published.
pub struct SnapshotDue {
    /// The put that stored it.
    pub job: JobId,
    /// When the put began: nanoseconds since 1970. With the path it names the snapshot.
    pub began_ns: i64,
    /// How many nodes shall hold what names it.
    pub replicas: u8,
    /// Some of what is recorded of the file is missing.
    pub partial: bool,
    /// Sealed bytes of the file's chunks, one copy.
    pub new_bytes: u64,
    /// The entries of its tree, which name its root: see [`few`](crate::repo::tree::few). At most
    /// 65,535 bytes.
    pub entries: Zeroizing<Vec<u8>>,
}

impl SnapshotDue {
    /// A copy for a second user; explicit, because it holds a key.
    pub fn duplicate(&self) -> Self {
        let Self { job, began_ns, replicas, partial, new_bytes, .. } = *self;
        Self { job, began_ns, replicas, partial, new_bytes, entries: self.entries.clone() }
    }

    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let length = text_length(&self.entries)?;
        out.push(SNAPSHOT_DUE);
        out.extend_from_slice(&self.job.0.to_le_bytes());
        out.extend_from_slice(&self.began_ns.to_le_bytes());
        out.extend_from_slice(&[self.replicas, u8::from(self.partial)]);
        out.extend_from_slice(&self.new_bytes.to_le_bytes());
        out.extend_from_slice(&length);
        out.extend_from_slice(&self.entries);
        Ok(())
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            job: JobId(from.number()?),
            began_ns: i64::from_le_bytes(from.array()?),
            replicas: from.byte()?,
            partial: match from.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            new_bytes: from.number()?,
            entries: Zeroizing::new(from.text()?.to_vec()),
        })
    }
}

impl std::fmt::Debug for SnapshotDue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("SnapshotDue");
        debug.field("job", &self.job).field("began_ns", &self.began_ns).finish_non_exhaustive()
    }
}
