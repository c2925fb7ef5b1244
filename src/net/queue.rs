//! What waits to be sent to one peer.
//!
//! The queue belongs to the peer and not to a connection: when of two connections one is given up,
//! the other's streams go on where its streams stopped. It has two lanes, so that an ack does not
//! wait behind megabytes of chunks.

use super::NetLimits;
use crate::core::codec::Frame;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Which frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Without a payload.
    Control,
    /// With the sealed bytes of a chunk.
    Bulk,
}

/// The queue was full; the frame was dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The frames for one peer, in order within each lane.
#[derive(Debug)]
pub(super) struct Queue {
    frames_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
    control: Notify,
    bulk: Notify,
}

#[derive(Debug)]
struct Inner {
    control: VecDeque<Frame>,
    bulk: VecDeque<Frame>,
    bulk_bytes: usize,
    /// When a message last went to or came from the peer.
    used: Instant,
}

impl Queue {
    /// An empty queue with the bounds of `limits`.
    pub(super) fn new(limits: &NetLimits) -> Self {
        let inner = Inner {
            control: VecDeque::new(),
            bulk: VecDeque::new(),
            bulk_bytes: 0,
            used: Instant::now(),
        };
        Self {
            frames_max: limits.unsent_frames,
            bytes_max: limits.unsent_bytes,
            inner: Mutex::new(inner),
            control: Notify::new(),
            bulk: Notify::new(),
        }
    }

    /// Appends a frame to its lane.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Full> {
        let mut inner = self.lock();
        if frame.payload.is_empty() {
            if inner.control.len() >= self.frames_max {
                return Err(Full);
            }
            inner.control.push_back(frame);
            drop(inner);
            self.control.notify_one();
        } else {
            let bytes = inner.bulk_bytes.saturating_add(frame.payload.len());
            if inner.bulk.len() >= self.frames_max || bytes > self.bytes_max {
                return Err(Full);
            }
            inner.bulk_bytes = bytes;
            inner.bulk.push_back(frame);
            drop(inner);
            self.bulk.notify_one();
        }
        Ok(())
    }

    /// Takes the next frame of a lane.
    pub(super) fn pop(&self, lane: Lane) -> Option<Frame> {
        let mut inner = self.lock();
        let frame = match lane {
            Lane::Control => inner.control.pop_front(),
            Lane::Bulk => inner.bulk.pop_front(),
        }?;
        inner.bulk_bytes = inner.bulk_bytes.saturating_sub(frame.payload.len());
        inner.used = Instant::now();
        Some(frame)
    }

    /// Waits for the next frame of a lane. Nothing is lost when the wait is given up.
    pub(super) async fn next(&self, lane: Lane) -> Frame {
        loop {
            // Registered before the look, so that a push in between is not missed.
            let pushed = match lane {
                Lane::Control => self.control.notified(),
                Lane::Bulk => self.bulk.notified(),
            };
            if let Some(frame) = self.pop(lane) {
                return frame;
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
        inner.bulk_bytes = 0;
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
    use bytes::Bytes;

    fn frame(payload: usize) -> Frame {
        Frame { head: Bytes::from_static(b"head"), payload: vec![7; payload].into() }
    }

    fn queue() -> Queue {
        Queue::new(&NetLimits { unsent_frames: 2, unsent_bytes: 10, ..NetLimits::default() })
    }

    #[test]
    fn each_lane_refuses_what_exceeds_its_bound() {
        let queue = queue();
        assert_eq!([(); 3].map(|()| queue.push(frame(0)).is_ok()), [true, true, false]);
        assert_eq!(queue.push(frame(6)), Ok(()));
        assert_eq!(queue.push(frame(6)), Err(Full));
        assert_eq!(queue.push(frame(4)), Ok(()));
        queue.pop(Lane::Bulk).unwrap();
        assert_eq!(queue.push(frame(6)), Ok(()));
        queue.clear();
        assert_eq!(queue.pop(Lane::Control), None);
        assert_eq!(queue.push(frame(10)), Ok(()));
    }

    #[tokio::test]
    async fn a_waiting_stream_is_woken_by_its_own_lane() {
        let queue = std::sync::Arc::new(queue());
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next(Lane::Bulk).await.payload.len() }
        });
        queue.push(frame(0)).unwrap();
        queue.push(frame(3)).unwrap();
        assert_eq!(waiting.await.unwrap(), 3);
        assert!(queue.pop(Lane::Control).is_some());
    }
}
