//! Frames on a byte stream: caps before allocation, and a pace below which a peer is dropped.
//!
//! A frame, once begun, must progress by [`NetLimits::stall_bytes`] in each window of
//! [`NetLimits::stall`] and end within [`NetLimits::frame`]: a peer that sends or takes a byte a
//! second would otherwise hold a buffer for days.

use super::NetLimits;
use crate::buffers::Buffers;
use crate::core::codec::{FRAME_PREFIX_BYTES, Frame, Reject};
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Bytes are read and written in steps of this: large enough to cost nothing, small enough that
/// memory is only taken as bytes arrive.
const STEP_BYTES: usize = 256 << 10;

/// Memory of payloads that is kept for those to come: a store gives back a group at a time.
const IDLE_BYTES_MAX: usize = 16 << 20;

/// Why a stream can no longer be used.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The connection broke, or ended inside a frame.
    Io(io::Error),
    /// The peer was slower than the slowest pace.
    Stalled,
    /// The lengths are beyond their caps: the stream cannot be understood any more.
    Refused(Reject),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What all streams of a node read frames into.
pub(super) fn buffers() -> Arc<Buffers> {
    Buffers::new(IDLE_BYTES_MAX)
}

/// The pace of one frame.
struct Pace<'a> {
    limits: &'a NetLimits,
    window_ends: Instant,
    window_bytes: u64,
    frame_ends: Instant,
}

impl<'a> Pace<'a> {
    fn new(limits: &'a NetLimits) -> Self {
        let now = Instant::now();
        let (window_ends, frame_ends) = (now + limits.stall, now + limits.frame);
        Self { limits, window_ends, window_bytes: 0, frame_ends }
    }

    /// Runs one read or write to its end, or to the end of the peer's time.
    async fn step(
        &mut self,
        io: impl Future<Output = io::Result<usize>>,
    ) -> Result<usize, FrameError> {
        tokio::pin!(io);
        loop {
            let until = self.window_ends.min(self.frame_ends);
            match timeout_at(until, &mut io).await {
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(result) => {
                    let bytes = result?;
                    let counted = u64::try_from(bytes).unwrap_or(u64::MAX);
                    self.window_bytes = self.window_bytes.saturating_add(counted);
                    return Ok(bytes);
                }
                Err(_) => self.next_window()?,
            }
        }
    }

    fn next_window(&mut self) -> Result<(), FrameError> {
        let now = Instant::now();
        if now >= self.frame_ends || self.window_bytes < self.limits.stall_bytes {
            return Err(FrameError::Stalled);
        }
        self.window_ends = now + self.limits.stall;
        self.window_bytes = 0;
        Ok(())
    }
}

/// The lengths of the frame that comes next; `None` where the peer has ended the stream. Waits for
/// the first byte as long as it takes.
pub(super) async fn read_prefix<R: AsyncRead + Unpin>(
    io: &mut R,
    limits: &NetLimits,
) -> Result<Option<(usize, usize)>, FrameError> {
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    let mut filled = io.read(&mut prefix).await?;
    if filled == 0 {
        return Ok(None);
    }
    let mut pace = Pace::new(limits);
    while let Some(rest) = prefix.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += pace.step(io.read(rest)).await?;
    }
    Frame::lengths(prefix).map(Some).map_err(FrameError::Refused)
}

/// The rest of a frame whose prefix was read, in memory of `buffers`.
pub(super) async fn read_body<R: AsyncRead + Unpin>(
    io: &mut R,
    (head, payload): (usize, usize),
    buffers: &Arc<Buffers>,
    limits: &NetLimits,
) -> Result<Frame, FrameError> {
    let mut pace = Pace::new(limits);
    let head = read_bytes(io, head, buffers, &mut pace).await?;
    let payload = read_bytes(io, payload, buffers, &mut pace).await?;
    Ok(Frame { head, payload })
}

async fn read_bytes<R: AsyncRead + Unpin>(
    io: &mut R,
    length: usize,
    buffers: &Arc<Buffers>,
    pace: &mut Pace<'_>,
) -> Result<Bytes, FrameError> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    let mut buffer = buffers.take(length);
    let mut filled = 0;
    while filled < length {
        // Memory is taken step by step, as the bytes arrive; a step may take many reads.
        if filled == buffer.len() {
            buffer.lengthen(length.min(filled + STEP_BYTES));
        }
        filled += match buffer.get_mut(filled..) {
            Some(rest) => pace.step(io.read(rest)).await?,
            None => 0,
        };
    }
    Ok(buffer.freeze())
}

/// Writes a frame; the caller flushes.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    io: &mut W,
    frame: &Frame,
    limits: &NetLimits,
) -> Result<(), FrameError> {
    let mut pace = Pace::new(limits);
    let front = [frame.prefix().as_slice(), &frame.head].concat();
    for mut bytes in [front.as_slice(), &frame.payload] {
        while !bytes.is_empty() {
            let step = bytes.get(..STEP_BYTES).unwrap_or(bytes);
            let written = pace.step(io.write(step)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    type End = Compat<tokio::io::DuplexStream>;

    fn pair() -> (End, End) {
        let (one, other) = tokio::io::duplex(1 << 10);
        (one.compat(), other.compat())
    }

    async fn read(io: &mut End, limits: &NetLimits) -> Result<Option<Frame>, FrameError> {
        match read_prefix(io, limits).await? {
            Some(lengths) => read_body(io, lengths, &Buffers::new(0), limits).await.map(Some),
            None => Ok(None),
        }
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let (mut one, mut other) = pair();
        let limits = NetLimits::default();
        let frames = [0, 1, STEP_BYTES, 3 * STEP_BYTES + 5]
            .map(|bytes| Frame { head: vec![1; 9].into(), payload: vec![2; bytes].into() });
        let sent = frames.clone();
        let writer = tokio::spawn(async move {
            for frame in &sent {
                write(&mut one, frame, &NetLimits::default()).await.unwrap();
            }
            one.close().await.unwrap();
        });
        for frame in frames {
            assert_eq!(read(&mut other, &limits).await.unwrap(), Some(frame));
        }
        assert_eq!(read(&mut other, &limits).await.unwrap(), None);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn lengths_beyond_their_caps_are_refused_unread() {
        for prefix in [[0xff; 8], [1, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0x40, 0]] {
            let (mut one, mut other) = pair();
            one.write_all(&prefix).await.unwrap();
            let result = read(&mut other, &NetLimits::default()).await;
            assert!(matches!(result, Err(FrameError::Refused(Reject::Oversize))), "{prefix:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_cut_inside_a_frame_is_an_error() {
        let limits = NetLimits::default();
        for bytes in [3, 8, 10] {
            let (mut one, mut other) = pair();
            one.write_all(&[4, 0, 0, 0, 0, 0, 0, 0, 9, 9].as_slice()[..bytes]).await.unwrap();
            drop(one);
            assert!(matches!(read(&mut other, &limits).await, Err(FrameError::Io(_))), "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_slower_than_the_slowest_pace_is_dropped() {
        let limits = NetLimits::default();
        let (mut one, mut other) = pair();
        let writer = tokio::spawn(async move {
            one.write_all(&[0, 0, 0, 0, 0, 0, 16, 0]).await.unwrap();
            // A tenth of the pace, for ever.
            while one.write_all(&[7; 1600]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        assert!(matches!(read(&mut other, &limits).await, Err(FrameError::Stalled)));
        assert_eq!(begun.elapsed().as_secs(), limits.stall.as_secs());
        drop(other);
        writer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_at_the_slowest_pace_gets_its_frame_through() {
        let limits = NetLimits::default();
        let (mut one, mut other) = pair();
        let writer = tokio::spawn(async move {
            one.write_all(&[0, 0, 0, 0, 0, 0, 32, 0]).await.unwrap();
            for _ in 0..(2 << 20) / 16_384 {
                one.write_all(&[7; 16_384]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(read(&mut other, &limits).await.unwrap().unwrap().payload.len(), 2 << 20);
        writer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_dropped_and_an_idle_one_is_not() {
        let (mut one, mut other) = pair();
        let frame = Frame { head: Bytes::new(), payload: vec![0; 1 << 20].into() };
        let result = write(&mut one, &frame, &NetLimits::default()).await;
        assert!(matches!(result, Err(FrameError::Stalled)));
        drop(one);

        let (mut one, mut idle) = pair();
        let limits = NetLimits::default();
        let waiting = tokio::spawn(async move { read(&mut idle, &limits).await.is_ok() });
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert!(!waiting.is_finished());
        one.close().await.unwrap();
        assert!(waiting.await.unwrap());
        drop(other.close().await);
    }
}
