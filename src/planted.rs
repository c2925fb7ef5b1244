//! Planted bugs: faults in the real code that a test build of the simulator can switch on.
//!
//! A simulator that finds nothing proves nothing: it may be blind. So it is shown code of which it
//! is known what is wrong. Each [`Bug`] is one condition in the code that it breaks; `quloud-netsim
//! mutants` switches one after the other on and counts the worlds until a promise is broken.
//!
//! They exist only under the feature `planted-bugs`, which cannot be combined with `node`: no
//! program that holds anybody's data can have one. In every other build [`is_on`] is the constant
//! `false`, and nothing is left of any of it.

#[cfg(all(feature = "planted-bugs", feature = "node"))]
compile_error!("`planted-bugs` is for the simulator: a node must never have it");

/// Declares the bugs: variant, name, and what it breaks.
macro_rules! bugs {
    ($($bug:ident $name:literal $breaks:literal)*) => {
        /// A fault that can be switched on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(#[doc = $breaks] $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),*];

            /// As it is called on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }

            /// What it breaks, in a sentence.
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Self::$bug => $breaks,)*
                }
            }
        }
    };
}

bugs! {
    // The store.
    AckBeforeSync "ack-before-sync"
        "A chunk is acknowledged before the segment that holds it was synced."
    AckAfterError "ack-after-error"
        "A group whose sync failed is acknowledged all the same."
    SkipNameSync "skip-name-sync"
        "The name of a new segment is never made durable."
    LeaveNames "leave-names"
        "Names that an earlier process left are not synced when a store is opened."
    RetrySync "retry-sync"
        "A sync that failed is tried again, and believed when it succeeds."
    SkipSecondLook "skip-second-look"
        "A chunk that is held is acknowledged again without a look at its bytes."
    ForgetTombstone "forget-tombstone"
        "A delete changes the catalogue and leaves the log as it is."
    DropLastChunk "drop-last-chunk"
        "A segment with one chunk left in it goes."
    UnlinkEarly "unlink-early"
        "A segment is emptied and goes before the copies are synced."
    TornIsWhole "torn-is-whole"
        "A replay takes records for whole that a power cut tore."
    FooterForgetsMoved "footer-forgets-moved"
        "The index of a segment leaves out the chunks that were moved there."
    FooterForgetsTombstones "footer-forgets-tombstones"
        "The index of a segment leaves out its tombstones."
    SumWithoutNotes "sum-without-notes"
        "The sum over a catalogue leaves out its notes about segments."
    ScrubTrustsLog "scrub-trusts-log"
        "The scrub takes every whole record for one that belongs where it lies."
    SkipReleaseDelay "skip-release-delay"
        "A chunk that is let go is destroyed at once."
    KeepRelease "keep-release"
        "A release that is taken back stays in force."
    AckReleased "ack-released"
        "A chunk that is let go is acknowledged again as it is, and goes all the same."
    UsageOnlyGrows "usage-only-grows"
        "A store goes on counting for an account what was deleted."
    TailIsRot "tail-is-rot"
        "What a power cut left unfinished is called damage."
    HeadBeforeSync "head-before-sync"
        "A record of a head is acknowledged before the ledger that holds it was synced."
    ShowOldest "show-oldest"
        "A store shows the oldest record of a head that it has, not the newest."
    FirstRecordWins "first-record-wins"
        "A store that is opened knows of each head the first record alone."
    // The holder role and the proofs.
    SkipProofCheck "skip-proof-check"
        "A chunk is handed to whoever asks for it, whatever the proof."
    SkipStoreProof "skip-store-proof"
        "A chunk is taken from whoever brings it, whatever the proof."
    SkipReleaseProof "skip-release-proof"
        "A chunk is let go for whoever knows its lease, whatever the proof."
    UnboundProof "unbound-proof"
        "A proof says neither who made it nor for whom."
    ReuseLease "reuse-lease"
        "All leases of a holder have one name."
    ShortTerms "short-terms"
        "A holder promises a shorter release delay than was asked."
    SpaceOnce "space-once"
        "A holder does not notice that room was made."
    HideDamaged "hide-damaged"
        "A chunk whose record is damaged counts as gone, although its bytes may be whole."
    HolderDials "holder-dials"
        "A holder dials the peers that it lost."
    BoundsForShow "bounds-for-show"
        "A holder takes on whatever it is asked to do, and keeps to no bound."
    CountDeleted "count-deleted"
        "A holder goes on counting for an account what its store deleted."
    // The owner role.
    SameDomainTwice "same-domain-twice"
        "Nodes of one public network count as failure domains of their own."
    CountTogether "count-together"
        "What is told, and healed, counts each replica of one failure domain."
    KeepOldAcks "keep-old-acks"
        "Acks of a store that is gone still count."
    BelieveStores "believe-stores"
        "A holder that is another store with every ack is believed each time."
    CountClaims "count-claims"
        "A claim to hold a chunk counts as an ack."
    ForgetShort "forget-short"
        "A chunk that is short at its deadline is given up in silence."
    KeepLostGrants "keep-lost-grants"
        "A chunk on its way to a peer that went away is given to nobody else."
    NeverDialAgain "never-dial-again"
        "A holder that was cut off under a chunk is not dialled again when it volunteers anew."
    TrustSilence "trust-silence"
        "A chunk at a silent holder is given to nobody else."
    SkipAckSignature "skip-ack-signature"
        "Acks are counted whoever signed them."
    SkipAckTerms "skip-ack-terms"
        "An ack counts that promises less than was asked."
    SkipReceipt "skip-receipt"
        "An ack counts although its holder never got the bytes."
    SkipAnswerSignature "skip-answer-signature"
        "An answer on a topic is believed whoever signed it."
    SkipBytesCheck "skip-bytes-check"
        "Fetched bytes are believed without a look at the id."
    OneHolderOnly "one-holder-only"
        "A fetch that failed at one holder is not tried at another."
    ResendRelease "resend-release"
        "A release that was not answered is sent again after it was taken back."
    // Looking for holders.
    OfferReleased "offer-released"
        "A holder that is looked for offers what it lets go, or knows to be damaged."
    OfferOfFirst "offer-of-first"
        "What a node offers of some chunks is taken for an offer of others."
    // Audits.
    AcceptAnyProof "accept-any-proof"
        "An owner takes every proof of storage for right."
    CheckOtherSeed "check-other-seed"
        "An answer is checked by another seed than the question had."
    CountAcked "count-acked"
        "What a holder acknowledged and says it does not have counts as proven."
    ConvictBatch "convict-batch"
        "A wrong answer for many chunks convicts the holder of all of them."
    AskOneHalf "ask-one-half"
        "After a wrong answer one half of its chunks is never asked for again."
    SkipAnswerMac "skip-answer-mac"
        "An answer about an account counts whoever made it."
    ReseedAudit "reseed-audit"
        "An audit is sent under another seed than it is checked by, each time."
    WorkForEver "work-for-ever"
        "A holder that says that it works on an audit has as long as it likes."
    BlameTheSilent "blame-the-silent"
        "Silence is a holder's own while nobody else answers either."
    SilenceByClock "silence-by-clock"
        "How long a holder is silent is told by the clock, however seldom it was asked."
    ProofSkipsTail "proof-skips-tail"
        "A proof of storage leaves out what a chunk has beyond its last whole block."
    ForgiveLies "forgive-lies"
        "A holder that lied is like any other one as soon as it answers rightly."
    // Trials of holders.
    SkipWitness "skip-witness"
        "Who says nothing when it is tried is blamed for it, whatever the line."
    OldProofOfNew "old-proof-of-new"
        "A proof of a replica that was given anew counts for the one that was asked for."
    ProofsMakeUp "proofs-make-up"
        "Whoever withholds a chunk makes up for it by proving it."
    // What is told of the replicas.
    WordCountsAcks "word-counts-acks"
        "A replica that was acknowledged and never proven is told as safe."
    KeepWord "keep-word"
        "A word that was told is told on when a replica is found to be gone."
    WordTrustsSilence "word-trusts-silence"
        "A word that was told is told on when a holder is silent for so long that it is suspect."
    // Snapshots, manifests and heads.
    TrustDates "trust-dates"
        "A file of the same length and date counts as unchanged, whatever the inode says."
    HeadUnlinked "head-unlinked"
        "A record of a head does not name the one before."
    LowestHead "lowest-head"
        "Of the records of a head the one with the lowest number counts."
    CheckpointDropsOne "checkpoint-drops-one"
        "A checkpoint leaves a live snapshot out."
    IgnoreForgets "ignore-forgets"
        "What a chain forgets is listed all the same."
    PiecesOverlap "pieces-overlap"
        "All pieces of a large file go where the first one goes."
    OneAckForHead "one-ack-for-head"
        "A head counts as stored with one ack, however many are wanted."
}

/// Whether this bug is switched on: never, in this build.
#[cfg(not(feature = "planted-bugs"))]
pub const fn is_on(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub use choice::{is_on, plant, planted};

/// The choice. It is the thread's: a world runs on one thread, and so several can have one each.
#[cfg(feature = "planted-bugs")]
mod choice {
    use crate::planted::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches one bug on for this thread, and any other off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// The bug that is switched on for this thread.
    pub fn planted() -> Option<Bug> {
        PLANTED.get()
    }

    /// Whether this bug is switched on for this thread.
    pub fn is_on(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_all_say_what_they_break() {
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(Bug::ALL.iter().all(|bug| bug.breaks().ends_with('.')));
    }

    #[test]
    fn nothing_is_switched_on_unasked() {
        assert!(!Bug::ALL.iter().any(|bug| is_on(*bug)));
    }
}
