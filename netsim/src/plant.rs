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

/// Bugs that need a world made for them: a named scenario shows each, and a drawn world hardly.
pub(crate) const STAGED: &[Bug] = &[Bug::LeaveNames, Bug::NeverDialAgain];

/// The bugs that drawn worlds must find.
pub(crate) fn wanted() -> Vec<Bug> {
    BUGS.iter().copied().filter(|bug| !STAGED.contains(bug)).collect()
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
