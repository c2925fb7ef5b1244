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
    AckBeforeSync "ack-before-sync"
        "A chunk is acknowledged before the segment that holds it was synced."
    SkipNameSync "skip-name-sync"
        "The name of a new segment is never made durable."
    RetrySync "retry-sync"
        "A sync that failed is tried again, and believed when it succeeds."
    SameDomainTwice "same-domain-twice"
        "Nodes of one public network count as failure domains of their own."
    SkipProofCheck "skip-proof-check"
        "A chunk is handed to whoever asks for it, whatever the proof."
    SkipBytesCheck "skip-bytes-check"
        "Fetched bytes are believed without a look at the id."
    ForgetShort "forget-short"
        "A chunk that is short at its deadline is given up in silence."
    LeaveNames "leave-names"
        "Names that an earlier process left are not synced when a store is opened."
    NeverDialAgain "never-dial-again"
        "A holder that was cut off under a chunk is not dialled again when it volunteers anew."
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
