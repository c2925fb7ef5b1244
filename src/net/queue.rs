//! What waits to be sent to one peer.
//!
//! The queue belongs to the peer and not to a connection: when of two connections one is given up,
//! the other's streams go on where its streams stopped. It has two lanes, so that an ack does not
//! wait behind megabytes of chunks.
//!
//! A payload counts against its bounds from the push until its frame was written or is forgotten:
//! [`Sending`] carries its share of them.

use super::NetLimits;
use crate::core::codec::{self, Frame};
use crate::core::message::{RetrieveRefusal, RetrieveReject, StreamMessage};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Which frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Without a payload.
    Control,
    /// With the sealed bytes of a chunk.
    Bulk,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It will be sent.
    Queued,
    /// A chunk the peer asked for exceeds a bound; it is told that we are busy.
    Declined,
    /// It exceeds a bound and is gone.
    Dropped,
}

/// A frame and, while it exists, its share of the bounds on what is unsent.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) frame: Frame,
    _permits: Vec<OwnedSemaphorePermit>,
}

/// The frames for one peer, in order within each lane.
#[derive(Debug)]
pub(super) struct Queue {
    frames_max: usize,
    bytes_max: usize,
    /// What is left of `bytes_max` for our own chunks.
    own: Arc<Semaphore>,
    /// What is left of `bytes_max` for chunks the peer asked for.
    served: Arc<Semaphore>,
    /// What is left for chunks that any peer asked for.
    served_to_all: Arc<Semaphore>,
    inner: Mutex<Inner>,
    control: Notify,
    bulk: Notify,
}

#[derive(Debug)]
struct Inner {
    control: VecDeque<Sending>,
    bulk: VecDeque<Sending>,
    /// When a message last went to or came from the peer.
    used: Instant,
}

impl Queue {
    /// An empty queue with the bounds of `limits`. `served_to_all` is the node's
    /// [`NetLimits::unsent_served_bytes`].
    pub(super) fn new(limits: &NetLimits, served_to_all: Arc<Semaphore>) -> Self {
        let inner = Inner { control: VecDeque::new(), bulk: VecDeque::new(), used: Instant::now() };
        let bytes_max = limits.unsent_bytes;
        Self {
            frames_max: limits.unsent_frames,
            bytes_max,
            own: Arc::new(Semaphore::new(bytes_max)),
            served: Arc::new(Semaphore::new(bytes_max)),
            served_to_all,
            inner: Mutex::new(inner),
            control: Notify::new(),
            bulk: Notify::new(),
        }
    }

    /// Appends a message to its lane.
    pub(super) fn push(&self, message: &StreamMessage) -> Pushed {
        let frame = codec::encode_stream(message);
        let StreamMessage::ChunkData(data) = message else {
            let queued = self.permits(&frame, false).is_some_and(|p| self.append(frame, p));
            return if queued { Pushed::Queued } else { Pushed::Dropped };
        };
        if self.permits(&frame, true).is_some_and(|permits| self.append(frame, permits)) {
            return Pushed::Queued;
        }
        let reject = RetrieveReject { request: data.request, reason: RetrieveRefusal::Busy };
        let reject = codec::encode_stream(&StreamMessage::RetrieveReject(reject));
        if self.append(reject, Vec::new()) { Pushed::Declined } else { Pushed::Dropped }
    }

    /// A payload's share of the bounds; `None` where it exceeds one.
    fn permits(&self, frame: &Frame, served: bool) -> Option<Vec<OwnedSemaphorePermit>> {
        if frame.payload.is_empty() {
            return Some(Vec::new());
        }
        let bytes = u32::try_from(frame.payload.len()).ok()?;
        if !served {
            return Some(vec![self.own.clone().try_acquire_many_owned(bytes).ok()?]);
        }
        let under_way = self.bytes_max.saturating_sub(self.served.available_permits());
        let fair = self.served_to_all.available_permits() / 2;
        if under_way > 0 && under_way.saturating_add(frame.payload.len()) > fair {
            return None;
        }
        let of_peer = self.served.clone().try_acquire_many_owned(bytes).ok()?;
        let of_all = self.served_to_all.clone().try_acquire_many_owned(bytes).ok()?;
        Some(vec![of_peer, of_all])
    }

    /// Whether there was room for one more frame.
    fn append(&self, frame: Frame, permits: Vec<OwnedSemaphorePermit>) -> bool {
        let mut inner = self.lock();
        let (lane, pushed) = if frame.payload.is_empty() {
            (&mut inner.control, &self.control)
        } else {
            (&mut inner.bulk, &self.bulk)
        };
        if lane.len() >= self.frames_max {
            return false;
        }
        lane.push_back(Sending { frame, _permits: permits });
        drop(inner);
        pushed.notify_one();
        true
    }

    /// Takes the next frame of a lane.
    pub(super) fn pop(&self, lane: Lane) -> Option<Sending> {
        let mut inner = self.lock();
        let sending = match lane {
            Lane::Control => inner.control.pop_front(),
            Lane::Bulk => inner.bulk.pop_front(),
        }?;
        inner.used = Instant::now();
        Some(sending)
    }

    /// Waits for the next frame of a lane. Nothing is lost when the wait is given up.
    pub(super) async fn next(&self, lane: Lane) -> Sending {
        loop {
            // Registered before the look, so that a push in between is not missed.
            let pushed = match lane {
                Lane::Control => self.control.notified(),
                Lane::Bulk => self.bulk.notified(),
            };
            if let Some(sending) = self.pop(lane) {
                return sending;
            }
            pushed.await;
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.control.is_empty() && inner.bulk.is_empty()
    }

    /// Forgets everything: the peer is down.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.control.clear();
        inner.bulk.clear();
    }

    /// Notes that the peer said something.
    pub(super) fn touch(&self) {
        self.lock().used = Instant::now();
    }

    /// When a message last went to or came from the peer; now while something waits.
    pub(super) fn used(&self) -> Instant {
        let inner = self.lock();
        let idle = inner.control.is_empty() && inner.bulk.is_empty();
        if idle { inner.used } else { Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::{ChunkData, StoreChunk};
    use crate::core::types::{Account, BatchId, LeaseTerms};
    use crate::crypto::audit::tags_bytes;
    use crate::crypto::header::Header;

    fn header() -> Header {
        let point = [0; 32];
        let (read, admin, delete) = (point, point, point);
        Header { generation: 0, read, admin, delete, sealed_bytes: 41, sealed_hash: [0; 32] }
    }

    fn control() -> StreamMessage {
        let reason = RetrieveRefusal::NotHeld;
        StreamMessage::RetrieveReject(RetrieveReject { request: 1, reason })
    }

    fn served(bytes: usize) -> StreamMessage {
        let sealed = vec![7; bytes].into();
        StreamMessage::ChunkData(ChunkData { request: 5, header: header(), sealed })
    }

    fn own(bytes: usize) -> StreamMessage {
        StreamMessage::StoreChunk(Box::new(StoreChunk {
            batch: BatchId::from_bytes([0; 16]),
            account: Account::from_bytes([0; 32]),
            header: header(),
            terms: LeaseTerms::default(),
            nonce: [0; 32],
            proof: [0; crate::crypto::ownership::PROOF_BYTES],
            seed: [0; 32],
            tags: vec![0; tags_bytes(bytes)].into(),
            sealed: vec![7; bytes].into(),
        }))
    }

    fn queue(to_all: &Arc<Semaphore>) -> Queue {
        let limits = NetLimits { unsent_frames: 3, unsent_bytes: 10, ..NetLimits::default() };
        Queue::new(&limits, to_all.clone())
    }

    fn plenty() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1000))
    }

    #[test]
    fn each_lane_refuses_what_exceeds_its_bound() {
        let queue = queue(&plenty());
        let pushed = [(); 4].map(|()| queue.push(&control()) == Pushed::Queued);
        assert_eq!(pushed, [true, true, true, false]);
        assert_eq!(queue.push(&own(6)), Pushed::Queued);
        assert_eq!(queue.push(&own(6)), Pushed::Dropped);
        assert_eq!(queue.push(&own(4)), Pushed::Queued);
        queue.clear();
        assert!(queue.pop(Lane::Control).is_none() && queue.is_empty());
        assert_eq!(queue.push(&own(10)), Pushed::Queued);
    }

    #[test]
    fn a_payload_counts_until_its_frame_is_written() {
        let to_all = plenty();
        let queue = queue(&to_all);
        assert_eq!(queue.push(&served(10)), Pushed::Queued);
        let writing = queue.pop(Lane::Bulk).unwrap();
        assert_eq!(to_all.available_permits(), 990);
        assert_eq!(queue.push(&served(1)), Pushed::Declined);
        drop(writing);
        assert_eq!(queue.push(&served(10)), Pushed::Queued);
        queue.clear();
        assert_eq!(to_all.available_permits(), 1000);
    }

    #[test]
    fn a_chunk_beyond_the_bound_is_answered_with_busy() {
        let queue = queue(&plenty());
        assert_eq!(queue.push(&served(11)), Pushed::Declined);
        let reason = RetrieveRefusal::Busy;
        let busy = StreamMessage::RetrieveReject(RetrieveReject { request: 5, reason });
        let answer = queue.pop(Lane::Control).unwrap();
        assert_eq!(codec::decode_stream(answer.frame), Ok(busy));
        for _ in 0..3 {
            queue.push(&control());
        }
        assert_eq!(queue.push(&served(11)), Pushed::Dropped);
    }

    #[test]
    fn slow_readers_leave_room_for_own_chunks_and_for_other_readers() {
        let to_all = Arc::new(Semaphore::new(40));
        let readers: Vec<Queue> = (0..10).map(|_| queue(&to_all)).collect();
        for reader in &readers {
            while reader.push(&served(4)) == Pushed::Queued {}
        }
        assert!(to_all.available_permits() < 8);
        for reader in &readers {
            assert_eq!(reader.push(&own(10)), Pushed::Queued);
        }
        drop(readers);
        assert_eq!(to_all.available_permits(), 40);

        // Three that take all they get do not keep a fourth from its first chunk.
        let greedy: Vec<Queue> = (0..3).map(|_| queue(&to_all)).collect();
        for reader in greedy.iter().cycle().take(30) {
            reader.push(&served(2));
        }
        assert_eq!(queue(&to_all).push(&served(4)), Pushed::Queued);
    }

    #[tokio::test]
    async fn a_waiting_stream_is_woken_by_its_own_lane() {
        let queue = Arc::new(queue(&plenty()));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next(Lane::Bulk).await.frame.payload.len() }
        });
        queue.push(&control());
        queue.push(&own(3));
        assert_eq!(waiting.await.unwrap(), 3);
        assert!(queue.pop(Lane::Control).is_some());
    }
}
