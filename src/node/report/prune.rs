//! Letting go what no snapshot needs, as it is asked for and told.

use crate::crypto::keys::DeleteKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The delete key on its way between a command and the node: as JSON a plain string of 64
/// hexadecimal digits, wiped when it is dropped, and never printed by a log or a failed assertion.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeleteKeyText(String);

impl DeleteKeyText {
    /// The text of a key.
    pub fn of(key: &DeleteKey) -> Self {
        // One allocation of the right size, so that no copy is left behind by a growing text.
        let mut text = String::with_capacity(64);
        for byte in key.expose() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        Self(text)
    }

    /// The key; `None` where it is none.
    pub fn key(&self) -> Option<DeleteKey> {
        let (pairs, rest) = self.0.as_bytes().as_chunks::<2>();
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let mut bytes = Zeroizing::new([0; 32]);
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(DeleteKey::from_bytes(*bytes))
    }
}

impl Drop for DeleteKeyText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::fmt::Debug for DeleteKeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeleteKeyText(..)")
    }
}

/// So many digits of an id have to be given where a forget is accepted: who has the owner's keys
/// can make snapshots until one begins like another, and shall not have two taken for one.
pub const ACCEPTED_DIGITS_MIN: usize = 16;

/// What `quloud prune` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PruneRequest {
    /// Nothing is let go: what would be is told.
    #[serde(default)]
    pub dry_run: bool,
    /// Things are let go although there are other devices of the owner.
    #[serde(default)]
    pub beside_others: bool,
    /// How long other devices are given, in seconds; no time where there are none.
    pub grace_s: u32,
    /// Snapshots that another device forgot, and whose forget counts because the user says so: the
    /// ids as prunes list them, or their first [`ACCEPTED_DIGITS_MIN`] hexadecimal digits or more.
    #[serde(default)]
    pub accept_forgets: Vec<String>,
    /// The delete key, for this run alone, where the device does without it.
    #[serde(default)]
    pub delete_key: Option<DeleteKeyText>,
    /// Distinct nodes that shall keep what is written of it, 1 to 32; as many as of this device's
    /// last snapshot where nothing is said.
    #[serde(default)]
    pub replicas: Option<u8>,
    /// How long one chunk of a tree may take, and how long nodes are waited for, in seconds.
    pub timeout_s: u64,
}

/// The end of `quloud prune --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PruneDone {
    /// The prune's name, 32 hexadecimal digits; `None` where nothing was to be let go, and of a dry
    /// run.
    pub prune: Option<String>,
    /// Nothing was let go: the numbers are what would be.
    pub dry_run: bool,
    /// Forgotten snapshots of which nothing is kept any more but what others need.
    pub snapshots: u64,
    /// Chunks that were let go.
    pub chunks: u64,
    /// Copies of them, over all holders.
    pub copies: u64,
    /// Bytes of files in these copies, as the lists of snapshots say; trees are not counted, and
    /// neither is what an earlier prune left.
    pub bytes: u64,
    /// By holder.
    pub holders: Vec<PruneHolder>,
    /// PeerIds of the holders that could not be asked: the next prune asks them.
    pub away: Vec<String>,
    /// Chunks that a snapshot published meanwhile needs: their release was taken back.
    pub taken_back: u64,
    /// The first of the snapshots that another device forgot, which does not count yet.
    pub waiting_forgets: Vec<WaitingForget>,
    /// All of them.
    pub waiting_total: u64,
    /// Forgotten snapshots that could not be read, and so are kept.
    pub unread: u64,
    /// The space comes back after so many seconds of a holder's uptime; the longest of all.
    pub delay_s: Option<u32>,
    /// Wall time.
    pub seconds: f64,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// What one holder let go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneHolder {
    /// Its PeerId.
    pub peer_id: String,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of files in them.
    pub bytes: u64,
}

/// A snapshot that is kept although it is in no list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingForget {
    /// The snapshot's id, 64 hexadecimal digits.
    pub snapshot: String,
    /// When it was made: seconds since 1970.
    pub created_at: i64,
    /// The head of the device that forgot it.
    pub by: u16,
    /// When this folder saw it first: seconds since 1970.
    pub seen_at: u64,
    /// It waits so many seconds more, at least.
    pub wait_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_key_travels_as_text_and_is_not_printed() {
        let key = DeleteKey::from_bytes([0xa5; 32]);
        let request =
            PruneRequest { delete_key: Some(DeleteKeyText::of(&key)), ..PruneRequest::default() };
        assert!(!format!("{request:?}").contains("a5a5"), "{request:?}");
        let json = serde_json::to_string(&request).unwrap();
        let back: PruneRequest = serde_json::from_str(&json).unwrap();
        assert_eq!(back.delete_key.unwrap().key().unwrap().expose(), key.expose());
        for text in ["", "a5", &"a5".repeat(33), &"g5".repeat(32), &"ä5".repeat(32)] {
            assert!(DeleteKeyText(text.to_owned()).key().is_none(), "{text}");
        }
    }
}
