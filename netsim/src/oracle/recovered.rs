//! The list that the words lead to is the one that the record says that was found: every snapshot
//! that was not forgotten is in it, and no other.

use super::{Fact, Property, Truth};
use std::collections::BTreeSet;

pub(crate) struct Recovered;

impl Property for Recovered {
    fn name(&self) -> &'static str {
        "words lead to what was published"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Recovered { node, head, number, live } = fact else { return None };
        let facts = truth.heads.get(head)?;
        let Some(said) = facts.said.get(number) else {
            return Some(format!("{node} finds number {number}, which nobody made"));
        };
        if *number < facts.promised {
            let promised = facts.promised;
            return Some(format!("{node} finds number {number}, and {promised} was promised"));
        }
        let missing: BTreeSet<_> = said.live.difference(live).collect();
        let risen: BTreeSet<_> = live.difference(&said.live).collect();
        let is_right = missing.is_empty() && risen.is_empty();
        (!is_right).then(|| format!("{node} misses {missing:?}, and has {risen:?} again"))
    }
}
