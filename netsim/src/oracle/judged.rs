//! What an owner hears of its own head never contradicts itself, and is never newer than what it
//! wrote: nobody else can write it.

use super::{Fact, Property, Truth};
use quloud::repo::head::Verdict;

pub(crate) struct Judged;

impl Property for Judged {
    fn name(&self) -> &'static str {
        "nobody else writes a head"
    }

    fn see(&mut self, _: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::HeadJudged { node, newest, verdict } = fact else { return None };
        let is_right = match verdict {
            // It may be that nobody answered who has the newest.
            Verdict::None | Verdict::Behind { .. } => true,
            Verdict::Current(agreed) => agreed.record.number() == *newest,
            Verdict::Fork { .. } | Verdict::Unreadable { .. } => false,
        };
        (!is_right).then(|| format!("{node} has written number {newest}, and hears {verdict:?}"))
    }
}
