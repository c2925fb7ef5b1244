//! What owners say of this node, as the user is told.

use serde::{Deserialize, Serialize};

/// What one owner says of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerSays {
    /// PeerId of the owner's node.
    pub peer_id: String,
    /// What it says.
    pub says: SaysOfUs,
}

/// How this node stands with one owner whose chunks it keeps, by that owner's audits. Times are
/// seconds since 1970 by the owner's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaysOfUs {
    /// Whether it says anything.
    pub answer: OwnerAnswer,
    /// `unknown`, `proven`, `late`, `suspect`, `lost`, `damaged` or `liar`; empty where it says
    /// nothing.
    pub standing: String,
    /// Why, and since when, in the words that the owner reads; or why it says nothing.
    pub why: String,
    /// How many seconds ago it was asked: it is not asked again within a minute.
    pub asked_ago_s: u64,
    /// How long we do not answer it, or withhold what we prove.
    pub silence: Option<SaidSilence>,
    /// When it last found that we lied, where that stands apart from the audits.
    pub lied_at: Option<u64>,
    /// The last audit that ended with our answers.
    pub last: Option<SaidAudit>,
    /// Audits that found anything, oldest first: the newest of them, but those with a lie before
    /// others.
    pub incidents: Vec<SaidAudit>,
}

/// What became of the question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerAnswer {
    /// It told.
    #[default]
    Told,
    /// It knows of nothing that we keep for it.
    Nothing,
    /// It is too busy.
    Busy,
    /// It did not answer in time, or went away.
    Silent,
    /// It answered what does not hold.
    Wrong,
}

/// For how long something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidSilence {
    /// What we prove, and do not hand over; else we do not answer.
    pub withheld: bool,
    /// When it first asked in vain.
    pub since: u64,
    /// How often it did.
    pub misses: u32,
}

/// What one of its audits came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidAudit {
    /// When.
    pub at: u64,
    /// Chunks that it asked for.
    pub asked: u64,
    /// Of these, those that we proved.
    pub proven: u64,
    /// Those that we said we do not have.
    pub missing: u64,
    /// Those that we said are damaged.
    pub damaged: u64,
    /// Those that we answered wrongly for.
    pub lied: u64,
    /// Those that we said were released.
    pub released: u64,
}
