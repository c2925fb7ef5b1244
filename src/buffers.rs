//! Buffers that are used again.
//!
//! A chunk has a megabyte or so. Memory of that size, asked for and given back chunk by chunk, is
//! often taken from the system and cleared page by page each time, and cleared once more by
//! whoever wants it initialised. A [`Buffer`] goes back to where it came from when it is dropped,
//! on whatever thread that is.
//!
//! Buffers come in sizes that are powers of two, and what is idle is bounded, so memory is at most
//! twice what is in use and the bound.

use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Shorter buffers are cheap to get: they are not kept.
const KEPT_BYTES_MIN: usize = 64 << 10;

/// Where buffers come from and go to.
#[derive(Debug)]
pub struct Buffers {
    /// Oldest first.
    idle: Mutex<VecDeque<Vec<u8>>>,
    idle_bytes_max: usize,
}

impl Buffers {
    /// Keeps idle buffers of at most `idle_bytes_max` bytes in all.
    pub fn new(idle_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), idle_bytes_max })
    }

    /// An empty buffer that may grow to `capacity` bytes without being moved. Memory that was never
    /// used before is not touched until the buffer grows into it.
    pub fn take(self: &Arc<Self>, capacity: usize) -> Buffer {
        let home = Arc::clone(self);
        if capacity < KEPT_BYTES_MIN {
            return Buffer { bytes: Vec::with_capacity(capacity), length: 0, home };
        }
        let size = capacity.checked_next_power_of_two().unwrap_or(capacity);
        let fits = |bytes: &Vec<u8>| (size..size.saturating_mul(2)).contains(&bytes.capacity());
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that was used last is the likeliest to be in the processor's cache.
        let found = idle.iter().rposition(fits).and_then(|at| idle.remove(at));
        drop(idle);
        Buffer { bytes: found.unwrap_or_else(|| Vec::with_capacity(size)), length: 0, home }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        if !(KEPT_BYTES_MIN..=self.idle_bytes_max).contains(&bytes.capacity()) {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_back(bytes);
        let mut total: usize = idle.iter().map(Vec::capacity).sum();
        let mut surplus = Vec::new();
        while total > self.idle_bytes_max
            && let Some(oldest) = idle.pop_front()
        {
            total -= oldest.capacity();
            surplus.push(oldest);
        }
        // Freed after the lock is.
        drop(idle);
    }
}

/// Bytes that go back to their [`Buffers`] when dropped.
#[derive(Debug)]
pub struct Buffer {
    /// Initialised as far as any use ever reached.
    bytes: Vec<u8>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    /// Makes it `length` bytes long, if it is shorter. What the new bytes hold is anything: zeros,
    /// or what an earlier user left there.
    pub fn lengthen(&mut self, length: usize) {
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
        self.length = self.length.max(length);
    }

    /// Shares the bytes; the last who drops them gives the buffer back.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn idle(buffers: &Buffers) -> usize {
        buffers.idle.lock().unwrap().iter().map(Vec::capacity).sum()
    }

    #[test]
    fn a_dropped_buffer_is_the_next_one_of_its_size() {
        let buffers = Buffers::new(16 * MIB);
        let mut first = buffers.take(MIB + 1);
        assert!(first.is_empty());
        first.lengthen(5);
        first.fill(7);
        let place = first.as_ptr();
        let shared = first.freeze();
        let other = shared.clone();
        drop(shared);
        assert_eq!((idle(&buffers), other.as_ref()), (0, [7; 5].as_slice()));
        drop(other);
        let mut again = buffers.take(2 * MIB);
        assert!(again.is_empty());
        again.lengthen(10);
        assert_eq!((again.as_ptr(), again.len()), (place, 10));
        assert_ne!(buffers.take(2 * MIB).as_ptr(), place);
    }

    #[test]
    fn a_small_request_does_not_hold_a_large_buffer() {
        let buffers = Buffers::new(16 * MIB);
        drop(buffers.take(4 * MIB));
        assert!(buffers.take(MIB).bytes.capacity() < 2 * MIB);
        assert!(buffers.take(10).bytes.capacity() < KEPT_BYTES_MIN);
        assert_eq!(idle(&buffers), 5 * MIB);
    }

    #[test]
    fn what_is_idle_is_bounded_and_the_oldest_goes_first() {
        let buffers = Buffers::new(4 * MIB);
        let taken: Vec<Buffer> = (0..8).map(|_| buffers.take(MIB)).collect();
        let last = taken.last().unwrap().as_ptr();
        drop(taken);
        assert_eq!(idle(&buffers), 4 * MIB);
        assert_eq!(buffers.take(MIB).as_ptr(), last);
        drop(buffers.take(8 * MIB));
        assert_eq!(idle(&buffers), 4 * MIB);
        drop(buffers.take(4 * MIB));
        assert_eq!((idle(&buffers), buffers.idle.lock().unwrap().len()), (4 * MIB, 1));
    }
}
