//! A device makes one record of each number of its head, one after the other, and sends no other.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::message::StreamMessage;
use quloud::core::types::ChunkId;
use quloud::crypto::head::HeadRecord;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct HeadsOnce(BTreeMap<ChunkId, BTreeMap<u64, HeadRecord>>);

impl HeadsOnce {
    fn made(&mut self, node: Index, record: &HeadRecord) -> Option<String> {
        let of = self.0.entry(record.id()).or_default();
        let last = of.last_key_value();
        let (number, before) = last.map_or((0, [0; 32]), |(at, last)| (*at, last.hash()));
        let follows = record.number() == number + 1 && record.previous() == before;
        of.insert(record.number(), record.clone());
        (!follows).then(|| format!("{node} makes {record:?} after number {number}"))
    }
}

impl Property for HeadsOnce {
    fn name(&self) -> &'static str {
        "a number of a head is one record"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::HeadMade { node, record } => self.made(*node, record),
            Fact::Said { from, message: StreamMessage::StoreHead(head), .. }
                if truth.is_honest(*from) =>
            {
                let sent = HeadRecord::decode(head.record.clone()).ok();
                let made = sent
                    .as_ref()
                    .and_then(|record| self.0.get(&record.id())?.get(&record.number()));
                let is_made = sent.is_some() && made == sent.as_ref();
                (!is_made).then(|| format!("{from} sends {sent:?}, and made {made:?}"))
            }
            _ => None,
        }
    }
}
