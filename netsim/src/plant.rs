//! The bug that the worlds of this thread are planted with, if any: see `quloud::planted`.
//!
//! Without the feature `planted-bugs` there are none, and whoever asks for one is told how to
//! build a simulator that has them.

use quloud::planted::Bug;

/// The bugs that this build has.
#[cfg(feature = "planted-bugs")]
pub(crate) const BUGS: &[Bug] = Bug::ALL;

/// The bugs that this build has: none.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const BUGS: &[Bug] = &[];

/// Bugs that need a world made for them, each with the scenario that shows it: a drawn world hardly
/// does.
const STAGED: &[(Bug, &str)] = &[
    (Bug::LeaveNames, "lost-name"),
    (Bug::NeverDialAgain, "cut-off-in-transfer"),
    (Bug::TrustSilence, "silent-holders"),
    (Bug::SkipReceipt, "ack-ahead"),
    (Bug::BelieveStores, "another-store"),
    (Bug::HideDamaged, "chipped-records"),
    (Bug::SumWithoutNotes, "lost-note"),
    (Bug::ScrubTrustsLog, "old-records"),
    (Bug::SkipSecondLook, "second-look"),
    (Bug::AcceptAnyProof, "proof-liar"),
    (Bug::ConvictBatch, "proof-liar"),
    (Bug::AskOneHalf, "proof-liar"),
    (Bug::SkipAnswerMac, "voice-alone"),
    (Bug::ForgiveLies, "proof-liar"),
    (Bug::WorkForEver, "stalled-audit"),
    (Bug::BlameTheSilent, "uplink-down-a-day"),
    (Bug::SilenceByClock, "clock-jump-audits"),
    (Bug::WordTrustsSilence, "words-told"),
    (Bug::ResendRelease, "late-release"),
    (Bug::SkipWitness, "narrow-line"),
    (Bug::OldProofOfNew, "given-anew"),
    (Bug::ProofsMakeUp, "hostage-found"),
];

/// Bugs that drawn worlds find, and scenarios that are about them: one that does not show its bug
/// any more tells a story and proves nothing.
const SHOWN: &[(Bug, &str)] = &[
    (Bug::OfferReleased, "holders-found"),
    (Bug::OfferOfFirst, "holders-found"),
    (Bug::SkipNameSync, "black-out"),
    (Bug::AckBeforeSync, "black-out"),
    (Bug::RetrySync, "failed-sync"),
    (Bug::SameDomainTwice, "sybils"),
    (Bug::SkipProofCheck, "proof-relayer"),
    (Bug::SkipBytesCheck, "wrong-bytes"),
    (Bug::ForgetShort, "room-again"),
    (Bug::SpaceOnce, "room-again"),
    (Bug::KeepOldAcks, "new-disk"),
    (Bug::KeepLostGrants, "cut-off-in-transfer"),
    (Bug::AckAfterError, "failed-sync"),
    (Bug::SkipStoreProof, "proof-relayer"),
    (Bug::UnboundProof, "proof-relayer"),
    (Bug::OneHolderOnly, "hostage"),
    (Bug::CountAcked, "deleted-chunk"),
    (Bug::CheckOtherSeed, "flipped-byte"),
    (Bug::ReseedAudit, "flipped-byte"),
    (Bug::ProofSkipsTail, "holder-away-an-hour"),
    (Bug::WordCountsAcks, "words-told"),
    (Bug::KeepWord, "words-told"),
    (Bug::SkipReleaseDelay, "stolen-delete-key"),
    (Bug::KeepRelease, "stolen-delete-key"),
    (Bug::SkipReleaseProof, "stolen-device"),
];

/// Whether drawn worlds need not find a bug, because a scenario has to.
pub(crate) fn is_staged(bug: Bug) -> bool {
    STAGED.iter().any(|(staged, _)| *staged == bug)
}

/// The scenarios that have to show a bug.
pub(crate) fn scenarios_of(bug: Bug) -> impl Iterator<Item = &'static str> {
    let pairs = STAGED.iter().chain(SHOWN).filter(move |(shown, _)| *shown == bug);
    pairs.map(|(_, scenario)| *scenario)
}

/// Said where bugs are asked for that this build does not have.
pub(crate) const HOW_TO_BUILD: &str = "this build has no planted bugs; one that does:\n  \
     cargo run --release -p quloud-netsim --features planted-bugs -- mutants";

#[cfg(feature = "planted-bugs")]
pub(crate) use quloud::planted::{plant, planted};

/// Does nothing: this build has no bugs.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn plant(_: Option<Bug>) {}

/// None: this build has no bugs.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn planted() -> Option<Bug> {
    None
}

/// The bug of that name, in a build that has it.
pub(crate) fn parse(name: &str) -> Result<Bug, String> {
    let names = BUGS.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
    let bug = BUGS.iter().copied().find(|bug| bug.name() == name);
    bug.ok_or_else(|| match names.as_str() {
        "" => HOW_TO_BUILD.to_owned(),
        names => format!("no such bug; there are {names}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn scenarios_of_bugs_have_their_names() {
        for (bug, scenario) in STAGED.iter().chain(SHOWN) {
            assert!(Scenario::named(scenario).is_some(), "{}: {scenario}", bug.name());
        }
        assert!(is_staged(Bug::LeaveNames) && !is_staged(Bug::SkipNameSync));
        assert_eq!(scenarios_of(Bug::SkipNameSync).collect::<Vec<_>>(), ["black-out"]);
    }
}
