//! What was demanded of a world at its end, and of how much: "nothing was lost" says little without
//! the number of chunks that could have been.

use crate::tally::Tally;
use serde_json::{Map, Value, json};

/// Declares [`Excuse`] from the table of its kinds.
macro_rules! excuses {
    ($($kind:ident, $name:literal;)*) => {
        /// Why something was not demanded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Excuse {
            $(#[doc = $name] $kind,)*
        }

        impl Excuse {
            /// As it is printed.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

excuses! {
    ReaderDown, "reader not up";
    OwnerDown, "owner not up";
    NoCopy, "no sound copy left";
    Deaf, "holders listen to few";
    OutOfReach, "no holder in reach";
    WindowFull, "owner's window full";
    NoRoom, "too few would take it";
}

/// Of how many chunks something was demanded, and what it came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Demanded {
    /// As it has to be.
    pub(crate) met: u64,
    /// Not demanded, and why.
    pub(crate) excused: Tally<Excuse>,
}

impl Demanded {
    /// Counts one chunk.
    pub(crate) fn count(&mut self, result: Result<(), Excuse>) {
        match result {
            Ok(()) => self.met += 1,
            Err(excuse) => self.excused.count(excuse),
        }
    }

    /// Takes another's counts in.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.met += other.met;
        self.excused.merge(&other.excused);
    }

    /// Of how many.
    pub(crate) fn of(&self) -> u64 {
        self.met + self.excused.total()
    }

    /// What is counted, with its names.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let excused = self.excused.iter().map(|(excuse, count)| (excuse.name(), count));
        std::iter::once(("met", self.met)).chain(excused).collect()
    }

    fn json(&self) -> Value {
        let excused = self.excused.iter().map(|(excuse, n)| (excuse.name().to_owned(), n.into()));
        json!({ "of": self.of(), "met": self.met, "excused": excused.collect::<Map<_, _>>() })
    }
}

/// See the module. Each is counted of all chunks that were promised by then: what was short for
/// long may find its holders while others are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ending {
    /// Fetched by their owners, before any replica was made again.
    pub(crate) owners: Demanded,
    /// Fetched by somebody who came new.
    pub(crate) newcomers: Demanded,
    /// As many replicas as were promised, at honest nodes, when the cheats had left.
    pub(crate) replicas: Demanded,
}

impl Ending {
    /// Takes another's counts in.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.owners.merge(&other.owners);
        self.newcomers.merge(&other.newcomers);
        self.replicas.merge(&other.replicas);
    }

    /// Each demand with its name.
    pub(crate) fn rows(&self) -> [(&'static str, &Demanded); 3] {
        let Self { owners, newcomers, replicas } = self;
        [("owners", owners), ("newcomers", newcomers), ("replicas", replicas)]
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows().into_iter().map(|(name, row)| (name.to_owned(), row.json()));
        Value::Object(rows.collect())
    }
}
