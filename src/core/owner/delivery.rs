//! The queue to one holder, and what was sent to it and not answered.
//!
//! This is what makes an ack believable: a holder can acknowledge only what stands here, with the
//! receipt that stands here. Bounds, per holder: [`IN_FLIGHT_MAX`] chunks and
//! `OwnerLimits::in_flight_bytes` on their way (one chunk always may be); [`CUT_OFF_MAX`] more that
//! were given up or cut off (of more than that some are forgotten, and their acks then count as
//! unsolicited); [`DONE_MAX`] acknowledged and as many refused ones, the oldest forgotten first.

use crate::core::types::{Account, BatchId, ChunkId, StoreEpoch, Time};
use crate::crypto::ack::Receipt;
use crate::crypto::keys::{AgreementKey, PairKey};
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(super) const IN_FLIGHT_MAX: usize = 256;
const CUT_OFF_MAX: usize = 256;
pub(super) const DONE_MAX: usize = 512;
/// Chunks that were sent to a holder and not answered, at most.
pub(super) const SENT_MAX: usize = IN_FLIGHT_MAX + CUT_OFF_MAX;

/// The slowest holder that is not late moves its largest chunk at this rate, in bytes per second.
const PACE_SLOWEST: u64 = 256 << 10;
/// An overdue chunk is given up after so long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The slowest uplink for which one chunk of many on their way is not overdue.
const UPLINK_SLOWEST: u64 = 64 << 10;

/// A chunk as one batch sends it.
pub(super) type Item = (BatchId, ChunkId);

/// What goes with each copy of a chunk to one holder, and what its ack must cite.
pub(super) type Stands = ([u8; 32], Receipt);

/// What was sent and not answered.
#[derive(Debug)]
pub(super) struct Sent {
    /// Went with the chunk. The same again if the chunk has to go to this holder twice, because
    /// the ack of an earlier copy may still come, even where one copy was refused.
    pub(super) seed: [u8; 32],
    /// What an ack must cite.
    pub(super) receipt: Receipt,
    bytes: usize,
    since: Time,
    /// Late from then on, even if other chunks make progress.
    overdue: Time,
    state: Flight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    OnTime,
    Late,
    /// Given up, or the connection broke since. An ack is good all the same.
    CutOff,
}

/// How long an answer took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// Since the chunk was sent.
    pub(super) after: Duration,
    /// Before anybody else was given the chunk.
    pub(super) in_time: bool,
}

/// Everything between us and one holder.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) account: Account,
    pub(super) agreement: AgreementKey,
    pub(super) pair: PairKey,
    queue: VecDeque<Item>,
    sent: BTreeMap<Item, Sent>,
    /// Acknowledged.
    done: VecDeque<Item>,
    /// Refused, with what stands for the chunk: another copy of it may still be on its way, and be
    /// acknowledged.
    refused: VecDeque<(Item, Stands)>,
    in_flight: usize,
    in_flight_bytes: usize,
    progress: Time,
    stalled: bool,
    /// The store that its last ack named.
    epoch: Option<StoreEpoch>,
    /// That changed since it was connected.
    moved: bool,
}

/// What an ack shows about a holder's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// It is the one of the acks before, or the first.
    Same,
    /// It is not: that one is lost.
    Another,
    /// It is another one again, on the same connection. A store is lost with a restart at least,
    /// so this is no store but a lie, and one that would have every chunk sent again for each ack.
    Unsteady,
}

impl Delivery {
    pub(super) fn new(account: Account, agreement: AgreementKey, pair: PairKey) -> Self {
        Self {
            account,
            agreement,
            pair,
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            done: VecDeque::new(),
            refused: VecDeque::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            progress: Time::default(),
            stalled: false,
            epoch: None,
            moved: false,
        }
    }

    /// It acknowledged for this store.
    pub(super) fn on_epoch(&mut self, epoch: StoreEpoch) -> Store {
        let before = self.epoch.replace(epoch);
        if before.is_none_or(|before| before == epoch) {
            Store::Same
        } else if std::mem::replace(&mut self.moved, true) && !planted::is_on(Bug::BelieveStores) {
            Store::Unsteady
        } else {
            Store::Another
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    pub(super) fn front(&self) -> Option<Item> {
        self.queue.front().copied()
    }

    pub(super) fn queued(&self) -> Vec<Item> {
        self.queue.iter().copied().collect()
    }

    pub(super) fn pop(&mut self) {
        self.queue.pop_front();
    }

    /// Chunks that were sent and not answered, and answered ones that are remembered: of each kind
    /// at most as many as of the larger one.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.sent.len(), self.done.len().max(self.refused.len()))
    }

    /// Whether a chunk of this size may go now.
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.in_flight == 0
            || self.in_flight < IN_FLIGHT_MAX && self.in_flight_bytes.saturating_add(bytes) <= limit
    }

    /// Whether nothing came back from the holder for too long, and has not since.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// What an earlier sending of the same chunk left behind, that was not answered or refused.
    pub(super) fn earlier(&self, item: &Item) -> Option<Stands> {
        let refused = || self.refused.iter().find(|(refused, _)| refused == item);
        let sent = self.sent.get(item).map(|sent| (sent.seed, sent.receipt));
        sent.or_else(|| refused().map(|(_, stands)| *stands))
    }

    /// The chunk went out.
    pub(super) fn on_sent(
        &mut self,
        now: Time,
        item: Item,
        bytes: usize,
        (seed, receipt): Stands,
        late_after: Duration,
    ) {
        self.answered(&item);
        self.done.retain(|done| *done != item);
        self.refused.retain(|(refused, _)| *refused != item);
        if self.in_flight == 0 {
            self.progress = now;
        }
        self.in_flight += 1;
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(bytes);
        let crossing = self.in_flight_bytes as u64 / UPLINK_SLOWEST;
        let patience = 4 * patience(bytes, late_after) + Duration::from_secs(crossing);
        let overdue = now.after(patience);
        let (since, state) = (now, Flight::OnTime);
        self.sent.insert(item, Sent { seed, receipt, bytes, since, overdue, state });
    }

    /// What an ack of this chunk must cite; `None` where it was never sent, or is acknowledged. Of
    /// several copies one may be refused and another one acknowledged, in any order.
    pub(super) fn expected(&self, item: &Item) -> Option<Receipt> {
        self.earlier(item).map(|(_, receipt)| receipt)
    }

    /// Whether the chunk was sent, and no answer came since.
    pub(super) fn is_open(&self, item: &Item) -> bool {
        self.sent.contains_key(item)
    }

    /// Whether the chunk was sent and answered.
    pub(super) fn is_done(&self, item: &Item) -> bool {
        self.done.contains(item) || self.refused.iter().any(|(refused, _)| refused == item)
    }

    /// The holder acknowledged this chunk: after how long, where it was not answered before.
    pub(super) fn on_answer(&mut self, now: Time, item: &Item) -> Option<Took> {
        self.refused.retain(|(refused, _)| refused != item);
        let sent = self.answered(item);
        remember(&mut self.done, *item);
        let sent = sent?;
        self.came(now);
        Some(Took { after: now.since(sent.since), in_time: sent.state == Flight::OnTime })
    }

    /// The holder refused this chunk.
    pub(super) fn on_refusal(&mut self, now: Time, item: &Item) {
        if let Some(sent) = self.answered(item) {
            self.came(now);
            remember(&mut self.refused, (*item, (sent.seed, sent.receipt)));
        }
    }

    /// An answer to what was open came.
    fn came(&mut self, now: Time) {
        self.progress = now;
        self.stalled = false;
    }

    fn answered(&mut self, item: &Item) -> Option<Sent> {
        let sent = self.sent.remove(item)?;
        if sent.state != Flight::CutOff {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(sent.bytes);
        }
        Some(sent)
    }

    /// Chunks that are late now and were not before. Where nothing at all came back, what is
    /// queued is given back too: it goes to somebody else.
    pub(super) fn late(&mut self, now: Time, late_after: Duration) -> Vec<Item> {
        let silent = self.silent_at(late_after).is_some_and(|at| at <= now);
        let mut late = Vec::new();
        for (item, sent) in &mut self.sent {
            if sent.state == Flight::OnTime && (silent || sent.overdue <= now) {
                sent.state = Flight::Late;
                late.push(*item);
            }
        }
        if silent {
            self.stalled = true;
            late.extend(self.queue.drain(..));
        }
        late
    }

    /// Chunks that are late for so long that the holder must have lost them. They make room for
    /// others, and for themselves if the holder volunteers anew.
    pub(super) fn give_up(&mut self, now: Time) -> Vec<Item> {
        let mut lost = Vec::new();
        for (item, sent) in &mut self.sent {
            if sent.state == Flight::Late && sent.lost_at() <= now {
                sent.state = Flight::CutOff;
                self.in_flight = self.in_flight.saturating_sub(1);
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(sent.bytes);
                lost.push(*item);
            }
        }
        self.stalled &= self.in_flight > 0;
        self.forget_old();
        lost
    }

    /// When to look for late and lost chunks.
    pub(super) fn next_late(&self, late_after: Duration) -> Option<Time> {
        let times = self.sent.values().filter_map(|sent| match sent.state {
            Flight::OnTime => Some(sent.overdue),
            Flight::Late => Some(sent.lost_at()),
            Flight::CutOff => None,
        });
        self.silent_at(late_after).into_iter().chain(times).min()
    }

    /// When the holder's silence is too long; `None` where nothing is expected of it on time.
    fn silent_at(&self, late_after: Duration) -> Option<Time> {
        let on_time = self.sent.values().filter(|sent| sent.state == Flight::OnTime);
        let largest = on_time.map(|sent| sent.bytes).max()?;
        Some(self.progress.after(patience(largest, late_after)))
    }

    /// The connection broke: gives back everything that was queued or on its way.
    pub(super) fn cut(&mut self) -> Vec<Item> {
        let mut back: Vec<Item> = self.queue.drain(..).collect();
        for (item, sent) in &mut self.sent {
            if sent.state != Flight::CutOff {
                sent.state = Flight::CutOff;
                back.push(*item);
            }
        }
        self.in_flight = 0;
        self.in_flight_bytes = 0;
        self.stalled = false;
        self.moved = false;
        self.forget_old();
        back
    }

    fn forget_old(&mut self) {
        while self.sent.len() > SENT_MAX {
            let cut_off = |(_, sent): &(&Item, &Sent)| sent.state == Flight::CutOff;
            let Some(item) = self.sent.iter().find(cut_off).map(|(item, _)| *item) else { return };
            self.sent.remove(&item);
        }
    }
}

/// Remembers one answer more, and forgets the oldest of more than [`DONE_MAX`].
fn remember<T>(answers: &mut VecDeque<T>, answer: T) {
    answers.push_back(answer);
    if answers.len() > DONE_MAX {
        answers.pop_front();
    }
}

impl Sent {
    fn lost_at(&self) -> Time {
        self.overdue.after(GIVE_UP_AFTER)
    }
}

/// How long the holder may be silent with a chunk of this size on its way.
fn patience(bytes: usize, late_after: Duration) -> Duration {
    late_after + Duration::from_secs(bytes as u64 / PACE_SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::{Master, NodeKeys, OwnerKeys};

    fn item(number: u32) -> Item {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        (BatchId::from_bytes([1; 16]), ChunkId::from_bytes(bytes))
    }

    #[test]
    fn what_was_refused_is_not_forgotten_for_what_is_acknowledged() {
        let holder = NodeKeys::from_seeds([1; 32], [2; 32], [3; 32]);
        let owner = OwnerKeys::derive(&Master::from_bytes([4; 32]), 0);
        let secret = owner.account(&holder.node_id());
        let pair = secret.pair_key(&holder.node_id(), &holder.agreement_key()).unwrap();
        let mut delivery = Delivery::new(secret.account(), holder.agreement_key(), pair);
        let (now, stands) = (Time::default(), ([5; 32], [6; 32]));
        for number in 0..=DONE_MAX as u32 + 1 {
            delivery.on_sent(now, item(number), 1, stands, Duration::ZERO);
            match number {
                0 => delivery.on_refusal(now, &item(0)),
                _ => drop(delivery.on_answer(now, &item(number))),
            }
        }
        assert!(!delivery.is_done(&item(1)), "the oldest of what is acknowledged is forgotten");
        assert_eq!(delivery.earlier(&item(0)), Some(stands));
        assert_eq!(delivery.sizes(), (0, DONE_MAX));
        assert!(delivery.on_answer(now, &item(0)).is_none(), "nothing was waited for");
        assert!(delivery.is_done(&item(0)) && delivery.expected(&item(0)).is_none());
    }
}
