//! Nothing is destroyed at an honest holder with a sound disk unless somebody with the delete key
//! let it go, it was not taken back, and the delay that the holder promised is over since.

use super::{Fact, LeaseFacts, Property, Truth};

pub(crate) struct Delays;

impl Property for Delays {
    fn name(&self) -> &'static str {
        "what is let go is kept for its delay"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Destroyed { node, id, at } = fact else { return None };
        let chunk = truth.chunks.get(id).filter(|_| truth.nodes[*node].is_sound())?;
        let lease = chunk.leases.get(node);
        let is_right = lease.is_some_and(|lease| lease.may_go(*at));
        (!is_right).then(|| match lease {
            Some(LeaseFacts { delay_s, let_go }) if !let_go.is_empty() => {
                format!("{node} destroys {id:?}, of {delay_s} s, which was let go {let_go:?}")
            }
            _ => format!("{node} destroys {id:?}, which nobody who may let go"),
        })
    }
}
