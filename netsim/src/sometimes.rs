//! Rare branches: what must happen somewhere in a set of runs, besides every kind of fault.
//!
//! A property that never breaks proves little where the branch that it guards was never taken. So
//! the branches are declared here, each with what it shows, and a whole set that leaves one unseen
//! has failed (see [`crate::runs`]). They are told from what the world sees anyway, in
//! `world/notice.rs`: the roles count nothing.

use quloud::core::codec::Reject;

/// Declares [`Rare`] from the table of its branches.
macro_rules! branches {
    ($($branch:ident, $name:literal, $shows:literal;)*) => {
        /// One rare branch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rare {
            $(#[doc = $shows] $branch,)*
        }

        impl Rare {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$branch,)*];

            /// As it is printed.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$branch => $name,)* }
            }

            /// What it shows.
            pub(crate) fn shows(self) -> &'static str {
                match self { $(Self::$branch => $shows,)* }
            }
        }
    };
}

branches! {
    PutShort, "put short", "A put missed its deadline, and its user was told why.";
    PutLate, "short put finished", "A put that was short at its deadline went on to its quorum.";
    ShortOfPeers, "short: no peers", "Nobody at home in the shard was connected.";
    ShortOfVolunteers, "short: few volunteers", "Too few nodes claimed.";
    ShortOfAcks, "short: acks outstanding", "Chunks were granted and not acknowledged in time.";
    ShortOfSpace, "short: holders full", "Holders had no room.";
    ShortOfQuota, "short: over quota", "Holders took no more of an account.";
    ShortOfDomains, "short: shared domains", "Volunteers stood where a replica was already.";
    GetNothing, "get came to nothing", "Nobody in reach served a chunk before the deadline.";
    GetElsewhere, "get asked another holder", "A fetch was hedged, or repeated at another holder.";
    GivenToMore, "chunk given to a spare", "A grant was late or cut off; another got it.";
    StoreAgain, "store request repeated", "The outbox published a request once more.";
    SearchAgain, "search repeated", "A retrieve request was published once more.";
    ClaimUnused, "claim turned down", "A holder claimed twice and was given nothing in between.";
    NewEpoch, "ack of a new store", "A holder that lost its store acknowledged under a new epoch.";
    LostInTransfer, "peer lost in transfer", "A connection broke with a chunk on its way.";
    RefusedFull, "refused: full", "A holder had no room for a chunk.";
    RefusedBusy, "refused: busy", "A holder had too many chunks to write at once.";
    QueueFull, "store queue full", "More writes waited for a store than it takes on.";
    RefusedInvalid, "refused: invalid", "A holder checked a chunk, and it was not what it said.";
    RefusedFailed, "refused: failed", "A holder could not write a chunk.";
    RefusedUnwilling, "refused: unwilling", "A holder was asked for longer than it promises.";
    RefusedQuota, "refused: over quota", "An account had its share of a holder.";
    NotHeld, "not held", "A holder was asked for what it does not have.";
    ServeBusy, "serving: busy", "A holder had too many chunks to read at once.";
    ServeDamaged, "serving: damaged", "A holder found its copy damaged when it was asked for it.";
    ReadOnlySync, "read-only: sync", "A sync failed, and the store took no writes any more.";
    ReadOnlyWrite, "read-only: write", "A write failed half-way and could not be undone.";
    ReadOnlyCatalogue, "read-only: catalogue", "The catalogue failed under a group.";
    ReadOnlyOpened, "read-only: opened", "A store could not make what it found durable.";
    Unopened, "store not opened", "A store could not be opened, and was tried again.";
    TornTail, "torn tail cut", "An unfinished write was cut off when a store was opened.";
    Replayed, "records replayed", "A catalogue was behind its log and was brought up.";
    RebuiltMissing, "rebuilt: missing", "A catalogue was gone, and was made anew from the log.";
    RebuiltAhead, "rebuilt: ahead", "A catalogue reached beyond its log, and was made anew.";
    RebuiltBroken, "rebuilt: broken", "A catalogue could not be read, and was made anew.";
    RebuiltInconsistent, "rebuilt: inconsistent", "A catalogue had wrong entries: made anew.";
    Damage, "damage found", "What had been durable was not whole when a store was opened.";
    Quarantined, "chunk quarantined", "A store was opened with damaged chunks.";
    ScrubbedRot, "scrub found rot", "A scrub found a damaged chunk before anybody asked for it.";
    Released, "chunk released", "An owner gave a stored chunk up.";
    PutGivenUp, "put given up", "An owner gave a chunk up before it was stored.";
    PutAgain, "released chunk put again", "An owner put again what it had given up.";
    StoredAnew, "let go and stored anew", "A holder acknowledged anew what it was letting go.";
    ReleaseBusy, "release put off", "A holder was too busy to let chunks go.";
    ReleaseTurnedDown, "release turned down", "Proofs of a release did not hold.";
    TakenBack, "release taken back", "A holder kept what it had been asked to let go.";
    TakenBackLate, "release taken back too late", "It was asked to, and had the chunk no more.";
    Deleted, "released chunk deleted", "A holder deleted what was given up, durably.";
    Compacted, "segment compacted", "All that was needed of a segment was moved elsewhere.";
    ChunkMoved, "chunk moved", "A chunk was copied out of a segment that was mostly waste.";
    TombstoneMoved, "tombstone moved", "A tombstone was copied: the chunk it ends is on the disk.";
    Unlinked, "segment unlinked", "A segment that nothing needed went.";
    BrokenOff, "backup broken off", "A backup ended half-way: the power went, or its user gave up.";
    Forgotten, "snapshot forgotten", "An owner forgot a snapshot.";
    Checkpoint, "checkpoint written", "A chain was begun anew with all that still matters of it.";
    HeadAgain, "head sent again", "A record of a head was short, and the same one was sent again.";
    HeadBehind, "head behind", "Those who answered an owner had older records than its own.";
    OlderHeard, "older head heard", "Who recovered heard older records beside the newest.";
    Proven, "replica proven", "An audit proved that a holder has a chunk.";
    AuditMissed, "audit missed", "A holder did not answer an audit, while others did.";
    SilenceExcused, "silence excused", "A holder did not answer, and neither did others.";
    FoundMissing, "found missing", "A holder said in an audit that it has a chunk no more.";
    FoundDamaged, "found damaged", "A holder said in an audit that its copy is damaged.";
    FoundLie, "found lie", "A holder answered an audit as if it had a chunk, and had not.";
    TriedWell, "tried: handed over", "A holder that was tried handed a chunk over.";
    TriedRefused, "tried: refused", "A holder that was tried said that a chunk does not come.";
    TriedMute, "tried: mute", "A holder that was tried said nothing in time.";
    Withheld, "withheld", "A holder proved a chunk that it did not hand over.";
    WithheldNoMore, "withheld no more", "A holder that withheld chunks handed them over.";
    ToldSafe, "told as safe", "An owner's node told that what it put is safe.";
    ToldAtRisk, "told as at risk", "An owner's node told that what it put is at risk.";
    ToldLost, "told as lost", "An owner's node told that some of what it put is lost.";
    Repaired, "replica made again", "Sealed bytes went from one holder to another.";
    CutInTidying, "power cut in tidying", "The power went while a store gave space back.";
}

/// Reasons to turn a message down that every whole set must have seen.
pub(crate) const REJECTS: [Reject; 6] = [
    Reject::WrongBytes,
    Reject::BadProof,
    Reject::Replayed,
    Reject::Unsolicited,
    Reject::RateLimited,
    Reject::TableFull,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_branch_has_a_name_of_its_own_and_says_what_it_shows() {
        let names: BTreeSet<_> = Rare::ALL.iter().map(|branch| branch.name()).collect();
        assert_eq!(names.len(), Rare::ALL.len());
        assert!(Rare::ALL.iter().all(|branch| branch.shows().ends_with('.')));
    }
}
