//! What a holder acknowledged for a store that is gone counts no more, once its owner has heard of
//! the new store: unless the holder has the chunk again.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::owner::OwnerEvent;
use quloud::core::types::{ChunkId, StoreEpoch};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Epochs {
    /// The store that each holder named last, by owner and holder.
    newest: BTreeMap<(Index, Index), StoreEpoch>,
    /// The store that holds a chunk, by holder.
    of_chunk: BTreeMap<(ChunkId, Index), StoreEpoch>,
}

impl Property for Epochs {
    fn name(&self) -> &'static str {
        "acks of a store that is gone do not count"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Reported { node: owner, event } = fact else { return None };
        match event {
            OwnerEvent::Acked { id, node, epoch, .. } => {
                let holder = *truth.indices.get(node)?;
                self.newest.insert((*owner, holder), *epoch);
                self.of_chunk.insert((*id, holder), *epoch);
                None
            }
            OwnerEvent::Stored { id, holders, .. } => {
                let holders = holders.iter().filter_map(|node| truth.indices.get(node));
                let mut stale = holders.filter(|holder| {
                    let newest = self.newest.get(&(*owner, **holder));
                    newest.is_some() && newest != self.of_chunk.get(&(*id, **holder))
                });
                let gone = stale.find(|holder| truth.lacks(**holder, id))?;
                Some(format!("{owner} counts {gone} for {id:?}, whose store is another one now"))
            }
            _ => None,
        }
    }
}
