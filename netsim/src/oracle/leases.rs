//! A lease's name stands for one chunk: an honest holder never gives two chunks the same.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::message::StreamMessage;
use quloud::core::types::{ChunkId, LeaseNonce};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Leases(BTreeMap<(Index, LeaseNonce), ChunkId>);

impl Property for Leases {
    fn name(&self) -> &'static str {
        "a lease names one chunk"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Said { from, message: StreamMessage::StoreAck(ack), .. } = fact else {
            return None;
        };
        let holder = Some(*from).filter(|from| truth.is_honest(*from))?;
        ack.chunks.iter().find_map(|acked| {
            let named = *self.0.entry((holder, acked.lease)).or_insert(acked.id);
            let of_two = named != acked.id;
            of_two.then(|| {
                format!("{holder} names two by {:?}: {named:?} and {:?}", acked.lease, acked.id)
            })
        })
    }
}
