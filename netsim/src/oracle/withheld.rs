//! Who is written down as withholding what it proves did not hand it over: no slow line, no replica
//! that was given anew, and no connection that broke once makes an honest holder one. And whoever
//! is suspect for that is a cheat: an honest one that was away, or busy, hands over what it owes
//! when it is asked again.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::message::StreamMessage;
use quloud::core::owner::{FetchFailure, OwnerEvent};
use quloud::core::types::ChunkId;
use quloud::repo::standing::Standing;
use std::collections::BTreeMap;

/// A word is enough, and so are two requests without one.
const ENOUGH: u32 = 2;

/// What an owner asked a holder for, of the replica that this has since.
#[derive(Default)]
struct Asked {
    /// The holder heard the request, and its owner waits for what comes of it.
    is_open: bool,
    /// The chunk set out.
    is_sent: bool,
    /// What speaks against the holder.
    against: u32,
}

/// By owner, holder and chunk.
#[derive(Default)]
pub(crate) struct Withheld(BTreeMap<(Index, Index, ChunkId), Asked>);

impl Withheld {
    fn said(&mut self, (from, to): (Index, Index), message: &StreamMessage) {
        match message {
            StreamMessage::Retrieve(asked) => {
                let asked = self.0.entry((from, to, asked.id)).or_default();
                (asked.is_open, asked.is_sent) = (true, false);
            }
            StreamMessage::ChunkData(data) => {
                let asked = self.0.get_mut(&(to, from, data.header.id()));
                asked.into_iter().for_each(|asked| asked.is_sent = true);
            }
            StreamMessage::StoreChunk(chunk) => {
                self.0.remove(&(from, to, chunk.header.id()));
            }
            StreamMessage::StoreAck(ack) => {
                for acked in &ack.chunks {
                    self.0.remove(&(to, from, acked.id));
                }
            }
            _ => {}
        }
    }

    /// A request of an owner came to its end.
    fn reported(&mut self, truth: &Truth<'_>, owner: Index, event: &OwnerEvent) {
        match event {
            OwnerEvent::Fetched { id, from, .. } => {
                if let Some(from) = truth.indices.get(from) {
                    self.0.remove(&(owner, *from, *id));
                }
            }
            OwnerEvent::NotFetched { id, asked, .. } => {
                for (holder, why) in asked {
                    let Some(holder) = truth.indices.get(holder) else { continue };
                    let Some(asked) = self.0.get_mut(&(owner, *holder, *id)) else { continue };
                    // Who could not be reached heard no request.
                    let is_heard = std::mem::take(&mut asked.is_open);
                    asked.against += match why {
                        _ if !is_heard => 0,
                        FetchFailure::Late => u32::from(!asked.is_sent),
                        FetchFailure::Unreachable => 1,
                        _ => ENOUGH,
                    };
                }
            }
            _ => {}
        }
    }
}

impl Property for Withheld {
    fn name(&self) -> &'static str {
        "no honest holder withholds"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Said { from, to, message } => self.said((*from, *to), message),
            Fact::Reported { node, event } => self.reported(truth, *node, event),
            // Of what the process asked for before it stopped it knows nothing any more.
            Fact::Opened { node, .. } => self.0.retain(|(owner, ..), _| owner != node),
            Fact::Withholds { owner, holder, standing } => {
                let holder = *truth.indices.get(holder)?;
                if !truth.is_honest(holder) {
                    return None;
                }
                let mut all = self.0.iter().filter(|((of, at, _), _)| (of, *at) == (owner, holder));
                let is_right = all.any(|(_, asked)| asked.against >= ENOUGH);
                let is_suspect = matches!(standing, Standing::Suspect | Standing::Lost);
                if !is_right || is_suspect {
                    let why = if is_right { "is suspect" } else { "did nothing of the kind" };
                    return Some(format!("{owner} says so of {holder}, which {why}"));
                }
            }
            _ => {}
        }
        None
    }
}
