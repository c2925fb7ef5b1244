//! Whenever a store rests, its holder has counted for each account what the store has of it: quotas
//! are kept by these numbers, and a delete that is not counted would shut an owner out for good.

use super::{Fact, Property, Truth};

pub(crate) struct Counts;

impl Property for Counts {
    fn name(&self) -> &'static str {
        "a holder counts what its store has"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Rests { node, counted, usage } = fact else { return None };
        let wrong = truth.is_honest(*node) && counted != usage;
        wrong.then(|| format!("{node} counted {counted:?}, and its store has {usage:?}"))
    }
}
