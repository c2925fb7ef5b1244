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
    Nameless, "author unknown";
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

/// Of a thousand, as many must be as they have to be in a whole set, row by row: else the
/// worlds, or what excuses them, have become so that little is demanded. A little below what was
/// measured: 967, 908, 918, 980 and 1,000 of 680 worlds, and of 300 worlds for heads and snapshots
/// 968 and 966.
const FLOORS: [u64; 7] = [940, 840, 860, 960, 920, 910, 990];

/// See the module. But for the first and the last, each is counted of all chunks that were promised
/// by then: what was short for long may find its holders while others are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ending {
    /// Put, not given up, and stored, when enough time had gone by.
    pub(crate) puts: Demanded,
    /// Fetched by their owners, before any replica was made again.
    pub(crate) owners: Demanded,
    /// Fetched by somebody who came new.
    pub(crate) newcomers: Demanded,
    /// As many replicas as were promised, at honest nodes, when the cheats had left.
    pub(crate) replicas: Demanded,
    /// No chunks: heads that are at their quorum then.
    pub(crate) heads: Demanded,
    /// No chunks: snapshots that owners had back who had nothing left but their words.
    pub(crate) snapshots: Demanded,
    /// No chunks: what honest nodes turned down as no honest node would say it, and for whom it is
    /// known whether an honest node said it.
    pub(crate) blame: Demanded,
}

impl Ending {
    /// Takes another's counts in.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.puts.merge(&other.puts);
        self.owners.merge(&other.owners);
        self.newcomers.merge(&other.newcomers);
        self.replicas.merge(&other.replicas);
        self.heads.merge(&other.heads);
        self.snapshots.merge(&other.snapshots);
        self.blame.merge(&other.blame);
    }

    /// Each demand with its name.
    pub(crate) fn rows(&self) -> [(&'static str, &Demanded); 7] {
        let [puts, owners, newcomers, replicas] = self.chunks();
        let (heads, snapshots) = (("heads", &self.heads), ("snapshots", &self.snapshots));
        [puts, owners, newcomers, replicas, heads, snapshots, ("blame", &self.blame)]
    }

    /// Those that count chunks.
    pub(crate) fn chunks(&self) -> [(&'static str, &Demanded); 4] {
        let Self { puts, owners, newcomers, replicas, .. } = self;
        [("puts", puts), ("owners", owners), ("newcomers", newcomers), ("replicas", replicas)]
    }

    /// What too little was demanded of, for a whole set: the name, and the thousandths that it
    /// takes.
    pub(crate) fn too_little(&self) -> Vec<(&'static str, u64)> {
        let rows = self.rows().into_iter().zip(FLOORS);
        let little = rows.filter(|((_, row), floor)| row.met * 1_000 < row.of().max(1) * floor);
        little.map(|((name, _), floor)| (name, floor)).collect()
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows().into_iter().map(|(name, row)| (name.to_owned(), row.json()));
        Value::Object(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanded(met: u64, excused: u64) -> Demanded {
        let mut demanded = Demanded { met, ..Demanded::default() };
        demanded.excused.add(Excuse::WindowFull, excused);
        demanded
    }

    #[test]
    fn a_row_that_is_mostly_excused_or_empty_demands_too_little() {
        let rich = || demanded(999, 1);
        let (puts, owners, newcomers) = (rich(), rich(), rich());
        let (heads, snapshots) = (rich(), rich());
        let (replicas, blame) = (rich(), rich());
        let enough = Ending { puts, owners, newcomers, replicas, heads, snapshots, blame };
        assert_eq!(enough.too_little(), []);
        let names =
            |ending: &Ending| ending.too_little().into_iter().map(|(name, _)| name).collect();
        let little: Vec<_> = names(&Ending { replicas: demanded(1, 9), ..enough.clone() });
        assert_eq!(little, ["replicas"]);
        let little: Vec<_> = names(&Ending { puts: Demanded::default(), ..enough });
        assert_eq!(little, ["puts"]);
    }
}
