//! One stream of a peer: the greeting, then frames both ways until one side ends it.
//!
//! The first frame in each direction is a Hello; nothing else is read before it was checked, and
//! no message is handed on before the swarm task has announced the peer ([`Duty::Wait`]). From
//! then on the reader hands decoded messages to the drive loop and stops reading while the bounds
//! on what is unread are used up: that is the whole of the backpressure.

use super::counters::Ledger;
use super::events::Item;
use super::frame::{self, FrameError};
use super::queue::{Lane, Queue, Sending};
use super::{NetEvent, NetLimits};
use crate::buffers::Buffers;
use crate::core::codec::{self, Frame, Reject};
use crate::core::effect::Via;
use crate::core::message::{Hello, Message, StreamMessage};
use crate::core::types::{MeshId, NodeId};
use crate::crypto::keys::verify_agreement;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

/// Frames that cannot be decoded but leave the stream intact may be an honest mistake (a newer
/// version's message); more than this of them on one stream are not.
const STRIKES_MAX: u32 = 8;

/// Names one stream in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

/// What a stream is to do; the swarm task decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Greet, then neither read nor write: the peer is not announced yet.
    Wait,
    /// Read only.
    Idle,
    /// Read, and send the frames without payload.
    Control,
    /// Read, and send the chunks.
    Bulk,
    /// Read, and send everything.
    Both,
    /// Finish the frame at hand, end the writing side, read until the peer ends its own.
    Retire,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides ended it between two frames.
    Finished,
    /// The connection broke, the peer was too slow, or the node is ending.
    Broken,
    /// The peer did what no honest peer does, or is none of ours.
    Refused(Reject),
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => {
                tracing::debug!(%error, "stream broken");
                Self::Broken
            }
            FrameError::Stalled => {
                tracing::debug!("peer too slow");
                Self::Broken
            }
            FrameError::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// What all streams of one peer share.
#[derive(Debug)]
pub(super) struct Share {
    /// What is to be sent to it.
    pub(super) queue: Queue,
    /// One frame with a payload is put together at a time, whatever the number of streams.
    assembling: Semaphore,
    /// Frames that wait for the drive loop.
    unread_frames: Arc<Semaphore>,
}

impl Share {
    /// For a new peer; `served_to_all` as in [`Queue::new`].
    pub(super) fn new(limits: &NetLimits, served_to_all: Arc<Semaphore>) -> Self {
        Self {
            queue: Queue::new(limits, served_to_all),
            assembling: Semaphore::new(1),
            unread_frames: Arc::new(Semaphore::new(limits.unread_frames)),
        }
    }
}

/// What all streams of the node share.
#[derive(Debug)]
pub(super) struct Common {
    /// Our mesh.
    pub(super) mesh: MeshId,
    /// Our Hello.
    pub(super) greeting: Frame,
    /// Bounds.
    pub(super) limits: NetLimits,
    /// What is left of [`NetLimits::unread_bytes`].
    pub(super) unread_bytes: Arc<Semaphore>,
    /// How many streams wait for some of it.
    pub(super) crowd: watch::Sender<usize>,
    /// What frames are read into.
    pub(super) buffers: Arc<Buffers>,
    /// To the drive loop.
    pub(super) events: mpsc::Sender<Item>,
    /// To the swarm task: this stream's peer said a Hello that holds.
    pub(super) greeted: mpsc::Sender<(StreamId, Hello)>,
    /// What is counted.
    pub(super) ledger: Arc<Ledger>,
}

/// One stream's task.
#[derive(Debug)]
pub(super) struct StreamTask {
    pub(super) id: StreamId,
    pub(super) peer: NodeId,
    pub(super) duty: watch::Receiver<Duty>,
    pub(super) share: Arc<Share>,
    pub(super) common: Arc<Common>,
}

impl StreamTask {
    /// Runs the stream to its end.
    pub(super) async fn run(self, io: impl AsyncRead + AsyncWrite + Send + Unpin) -> End {
        let (mut reader, mut writer) = io.split();
        let greeting = timeout(self.common.limits.hello, self.greet(&mut reader, &mut writer));
        let hello = match greeting.await {
            Ok(Ok(hello)) => hello,
            Ok(Err(end)) => return end,
            Err(_) => return End::Broken,
        };
        if self.common.greeted.send((self.id, hello)).await.is_err() {
            return End::Broken;
        }
        let (reading, peer_ended) = oneshot::channel();
        let read = async {
            let result = self.read_frames(&mut reader).await;
            drop(reading);
            result
        };
        let write = self.write_frames(&mut writer, peer_ended);
        match tokio::try_join!(read, write) {
            Ok(((), ())) => End::Finished,
            Err(end) => end,
        }
    }

    /// Both sides speak at once; neither waits for the other.
    async fn greet(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Hello, End> {
        let limits = &self.common.limits;
        let say = async {
            frame::write(writer, &self.common.greeting, limits).await?;
            writer.flush().await.map_err(FrameError::Io)
        };
        let hear = async {
            match frame::read_prefix(reader, limits).await? {
                None => Err(End::Broken),
                // A Hello has no payload: nothing large is read of a stranger.
                Some((_, payload)) if payload > 0 => Err(End::Refused(Reject::Oversize)),
                Some(lengths) => {
                    Ok(frame::read_body(reader, lengths, &self.common.buffers, limits).await?)
                }
            }
        };
        let ((), frame) = tokio::try_join!(async { say.await.map_err(End::from) }, hear)?;
        match codec::decode_stream(frame) {
            Ok(StreamMessage::Hello(hello)) => self.check(hello).map_err(End::Refused),
            Ok(_) => Err(End::Refused(Reject::Unsolicited)),
            Err(reason) => Err(End::Refused(reason)),
        }
    }

    fn check(&self, hello: Hello) -> Result<Hello, Reject> {
        if hello.node != self.peer {
            return Err(Reject::WrongPeer);
        }
        if hello.mesh != self.common.mesh {
            return Err(Reject::WrongMesh);
        }
        if !verify_agreement(&hello.node, &hello.agreement, &hello.agreement_signature) {
            return Err(Reject::BadProof);
        }
        Ok(hello)
    }

    async fn read_frames(&self, io: &mut (impl AsyncRead + Unpin)) -> Result<(), End> {
        let mut duty = self.duty.clone();
        let announced = duty.wait_for(|duty| *duty != Duty::Wait).await.is_ok();
        if !announced {
            return Err(End::Broken);
        }
        let limits = &self.common.limits;
        let mut strikes = 0;
        while let Some(lengths) = frame::read_prefix(io, limits).await? {
            // Held until the body is there: of the node's bytes a peer that is slow with it takes
            // those of one frame.
            let assembling = match lengths {
                (_, 0) => None,
                _ => Some(self.share.assembling.acquire().await.map_err(|_| End::Broken)?),
            };
            // Before the body, which counts from its first byte on. A peer that is slow with it is
            // dropped by its pace, and its permits with it.
            let permits = self.unread_permits(lengths.1).await?;
            let body = frame::read_body(io, lengths, &self.common.buffers, limits);
            let frame = tokio::select! {
                biased;
                body = body => body?,
                () = self.crowded_out(lengths.1) => return Err(End::Broken),
            };
            drop(assembling);
            self.share.queue.touch();
            let reason = match codec::decode_stream(frame) {
                Ok(StreamMessage::Hello(_)) => Reject::Unsolicited,
                Err(reason) => reason,
                Ok(message) => {
                    let message = Message::Stream(message);
                    let event = NetEvent::Message { from: self.peer, via: Via::Stream, message };
                    let sent = self.common.events.send(Item { event, permits }).await;
                    sent.map_err(|_| End::Broken)?;
                    continue;
                }
            };
            strikes += 1;
            if strikes > STRIKES_MAX {
                return Err(End::Refused(reason));
            }
            self.common.ledger.reject(&self.common.events, Some(self.peer), reason);
        }
        Ok(())
    }

    /// Waits until the frame fits the bounds on what is unread. The peer's own bound comes first:
    /// who waits for that keeps nothing from others.
    async fn unread_permits(&self, payload: usize) -> Result<Vec<OwnedSemaphorePermit>, End> {
        let frames = self.share.unread_frames.clone().acquire_owned().await;
        let mut permits = vec![frames.map_err(|_| End::Broken)?];
        let bytes = u32::try_from(payload.min(self.common.limits.unread_bytes)).unwrap_or(u32::MAX);
        if bytes > 0 {
            let room = self.common.unread_bytes.clone();
            let permit = match room.clone().try_acquire_many_owned(bytes) {
                Ok(permit) => permit,
                Err(_) => {
                    let _waits = Waits::begin(&self.common.crowd);
                    room.acquire_many_owned(bytes).await.map_err(|_| End::Broken)?
                }
            };
            permits.push(permit);
        }
        Ok(permits)
    }

    /// Ends when a payload has had its time and others wait for the room that it takes. Slow peers
    /// are welcome while there is room for all; a few of them must not keep everybody else out.
    async fn crowded_out(&self, payload: usize) {
        let limits = &self.common.limits;
        let pace = u32::try_from(payload / limits.crowded_pace.max(1)).unwrap_or(u32::MAX);
        tokio::time::sleep(Duration::from_secs(2) + Duration::from_secs(1) * pace).await;
        let mut crowd = self.common.crowd.subscribe();
        if crowd.wait_for(|waiting| *waiting > 0).await.is_err() {
            std::future::pending().await
        }
    }

    async fn write_frames(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        mut peer_ended: oneshot::Receiver<()>,
    ) -> Result<(), End> {
        let limits = &self.common.limits;
        let queue = &self.share.queue;
        let mut duty = self.duty.clone();
        loop {
            let now = *duty.borrow_and_update();
            let sending = match now {
                Duty::Retire => break,
                now => tokio::select! {
                    biased;
                    _ = &mut peer_ended => break,
                    changed = duty.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => break,
                    },
                    sending = next(queue, now) => sending,
                },
            };
            frame::write(io, &sending.frame, limits).await?;
            match timeout(limits.stall, io.flush()).await {
                Ok(result) => result.map_err(|_| End::Broken)?,
                Err(_) => return Err(End::Broken),
            }
        }
        match timeout(limits.stall, io.close()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Broken),
        }
    }
}

/// Counts as waiting while it exists.
struct Waits<'a>(&'a watch::Sender<usize>);

impl<'a> Waits<'a> {
    fn begin(crowd: &'a watch::Sender<usize>) -> Self {
        crowd.send_modify(|waiting| *waiting += 1);
        Self(crowd)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

/// The next frame that a stream with this duty sends; waits for ever where it sends none.
async fn next(queue: &Queue, duty: Duty) -> Sending {
    match duty {
        Duty::Wait | Duty::Idle | Duty::Retire => std::future::pending().await,
        Duty::Control => queue.next(Lane::Control).await,
        Duty::Bulk => queue.next(Lane::Bulk).await,
        Duty::Both => tokio::select! {
            biased;
            sending = queue.next(Lane::Control) => sending,
            sending = queue.next(Lane::Bulk) => sending,
        },
    }
}
