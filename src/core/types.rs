//! The words of the domain as types: ids, names, units. No behaviour beyond printing.

use std::fmt;
use std::time::Duration;

/// The version of what nodes say to each other; it stands in the names of streams and topics.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest number of sealed bytes in one chunk, seal and padding included: 4 MiB.
pub const CHUNK_SEALED_BYTES_MAX: u32 = 4 << 20;

/// Declares a fixed-size public name: ordered, printed in lower-case hexadecimal.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// From a slice of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("..)")
            }
        }
    };
}

name! {
    /// A node: its Ed25519 public key. A libp2p PeerId of this mesh is the identity multihash of
    /// exactly this key, so either gives the other; peers with other key types are refused.
    NodeId, 32
}
name! {
    /// A chunk: SHA-256 over its header.
    ChunkId, 32
}
name! {
    /// SHA-256 of the mesh's name (HMAC under the mesh secret where there is one).
    MeshId, 32
}
name! {
    /// A_h, the owner's name at one holder: an X25519 public key.
    Account, 32
}
name! {
    /// One owner's batch of chunks; random.
    BatchId, 16
}
name! {
    /// Names one lease at one holder; random, chosen by the holder.
    LeaseNonce, 16
}
name! {
    /// Names one incarnation of a store; random, written when the store is created. A store that
    /// lost its data has another.
    StoreEpoch, 16
}
name! {
    /// One request on a topic: SHA-256 over all that stands in it.
    RequestDigest, 32
}
name! {
    /// First 8 bytes of SHA-256("quloud/v1/answer-tag" || ephemeral key): whose answer it is.
    AnswerTag, 8
}

name! {
    /// A snapshot: SHA-256 over what it says.
    SnapshotId, 32
}
name! {
    /// One device of an owner; random, made with its folder.
    DeviceId, 16
}

/// 16 bits that an owner picks per batch; the first b of them name the shard whose topics are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality(pub u16);

/// Milliseconds on a clock that only goes forward; its zero is the start of the process (or world).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// `self + duration`, stopping at the end of time.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Pairs a command or an effect with its completion. Unique within one role's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where a holder stands by the owner's own audits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// No audit of it proved anything.
    #[default]
    Unknown,
    /// It answered the last time, and nothing was missing.
    Proven,
    /// It did not answer the last time, or not for all; or it withheld a chunk that it proved.
    Late,
    /// So for a day, three times, and on two days.
    Suspect,
    /// So for fourteen days, and on as many.
    Lost,
    /// Something was missing or damaged the last time.
    Damaged,
    /// It once answered for a chunk as if it had it, and had not.
    Liar,
}

impl Standing {
    /// Whether what the holder acknowledged counts for what is told of snapshots: not where it
    /// lied, or is silent for so long that it is suspect or lost.
    pub fn counts(self) -> bool {
        !matches!(self, Self::Liar | Self::Suspect | Self::Lost)
    }
}

/// What one audit of a holder came to: counts are replicas of chunks, one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditOutcome {
    /// When it began: seconds since 1970.
    pub at_s: u64,
    /// Those that were asked for, and that the holder said anything of.
    pub asked: u64,
    /// Of these, those that it proved.
    pub proven: u64,
    /// Those that it said it does not have.
    pub missing: u64,
    /// Those that it said are damaged.
    pub damaged: u64,
    /// Those that it answered wrongly for.
    pub lied: u64,
    /// Those that it said were released.
    pub released: u64,
}

impl AuditOutcome {
    /// Of one that begins at `at_s`, seconds since 1970, with so many replicas to ask for: nothing
    /// came of it yet.
    pub fn begun(at_s: u64, asked: u64) -> Self {
        Self { at_s, asked, ..Self::default() }
    }

    /// Whether the holder admitted to have lost any: what was released, another device of the
    /// owner's let go.
    pub fn has_damage(&self) -> bool {
        self.missing > 0 || self.damaged > 0
    }

    /// Whether any was found to be there no more.
    pub fn is_incident(&self) -> bool {
        self.has_damage() || self.lied > 0 || self.released > 0
    }
}

/// The durations a holder promises and an owner may ask for, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The owner should renew this often.
    pub renew_every_s: u32,
    /// How long the holder keeps the chunk without hearing of the owner, in its own uptime.
    pub keep_after_silence_s: u32,
    /// How long a released chunk is kept before it is destroyed.
    pub release_delay_s: u32,
}

impl LeaseTerms {
    /// Three little-endian `u32` in the order of the fields: 12 bytes.
    pub fn encode(&self) -> [u8; 12] {
        let mut out = [0; 12];
        let fields = [self.renew_every_s, self.keep_after_silence_s, self.release_delay_s];
        for (to, from) in out.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        out
    }

    /// Reads [`Self::encode`] back.
    pub fn decode(bytes: &[u8; 12]) -> Self {
        let field = |at: usize| {
            let four = bytes.iter().skip(at * 4).take(4);
            four.rev().fold(0, |value: u32, byte| value << 8 | u32::from(*byte))
        };
        Self { renew_every_s: field(0), keep_after_silence_s: field(1), release_delay_s: field(2) }
    }
}

impl Default for LeaseTerms {
    /// 31 days, 365 days, 7 days.
    fn default() -> Self {
        const DAY_S: u32 = 86_400;
        Self {
            renew_every_s: 31 * DAY_S,
            keep_after_silence_s: 365 * DAY_S,
            release_delay_s: 7 * DAY_S,
        }
    }
}
