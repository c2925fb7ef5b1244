//! What can happen in a world.

use super::script::Step;
use crate::chance::Chance;
use crate::disk::Mishap;
use crate::net::Cut;
use crate::node::Index;
use crate::oracle::Heard;
use bytes::Bytes;
use quloud::core::codec;
use quloud::core::message::{StreamMessage, TopicMessage};
use quloud::core::topic::Topic;
use quloud::core::types::{Account, ChunkId, NodeId, Ticket};
use quloud::crypto::audit::Task;
use std::time::Duration;

/// What a store is to read.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Chunk(ChunkId),
    /// The newest record of a head, and so many that it superseded.
    Heads(ChunkId, usize),
    /// What it keeps for an account: ids above one, and at most so many.
    List(Account, ChunkId, u32),
    /// How it is with these chunks of an account.
    Query(Account, Vec<ChunkId>),
    /// A proof of a chunk of an account, for an audit.
    Proof(Account, ChunkId, Task, bool),
}

/// What is going to happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A gossiped message arrives.
    Gossip { to: Index, forwarder: Index, author: Index, bytes: Bytes },
    /// A frame arrives over the connection of that epoch.
    Frame { from: Index, to: Index, epoch: u64, frame: codec::Frame },
    /// A node publishes, now that it is connected to some that subscribe.
    Publish { node: Index, life: u64, topic: Topic, message: Box<TopicMessage> },
    /// Two nodes come to be connected, or not; `asked`: a role of `a` waits for it.
    Connect { a: Index, b: Index, asked: bool },
    /// The ends notice that their connection is gone.
    LinkGone { a: Index, b: Index, epoch: u64 },
    /// A node hears that a peer is connected.
    PeerMet { node: Index, peer: Index },
    /// A node hears that a peer is not connected.
    PeerLost { node: Index, peer: Index },
    /// A store carries its next group out.
    Commit { node: Index, life: u64 },
    /// A store goes on tidying.
    Tidy { node: Index, life: u64 },
    /// A store that may have nothing to do looks how full its disk is.
    Look { node: Index, life: u64 },
    /// A store's scrub takes a step; `hasty`: one after the other, until its round is over.
    Scrub { node: Index, life: u64, hasty: bool },
    /// A store looks chunks up.
    Find { node: Index, life: u64, ticket: Ticket, ids: Vec<ChunkId>, heard: Option<Heard> },
    /// A store reads a chunk, or what else is wanted.
    Read { node: Index, life: u64, ticket: Ticket, what: Wanted },
    /// A role asked to be woken.
    Wake { node: Index, life: u64 },
    /// Power is cut, and comes back after `down`; `in_commit`: while a group is being written.
    Crash { node: Index, down: Duration, in_commit: bool },
    /// The same of these nodes at once.
    MassRestart { nodes: Vec<Index> },
    /// The same of one node, and so many times more soon after it has started.
    CrashLoop { node: Index, more: u32 },
    /// A node is switched on.
    Start { node: Index },
    /// A node is stopped, with all that it has in memory.
    Pause { node: Index, length: Duration, lid: bool },
    /// It goes on.
    Resume { node: Index },
    /// A node leaves for ever.
    Leave { node: Index },
    /// Some do not hear others for a while.
    CutBegins { cut: Cut, length: Duration },
    /// They do again.
    CutEnds { number: u64 },
    /// Some of all links are cut one after another, and restored in another order.
    Swizzle { share: Chance, apart: Duration, length: Duration },
    /// Others fill a node's disk, or its user's quota.
    Fill { node: Index, length: Duration, quota: bool },
    /// And make room again.
    Room { node: Index },
    /// A node's disk does something without a word.
    Decay { node: Index, how: Decay },
    /// A node gets a new, empty disk.
    LoseDisk { node: Index },
    /// A node's disk is set back to an image of earlier.
    OldImage { node: Index },
    /// The image is taken.
    TakeImage { node: Index },
    /// A node that deviates does something unasked.
    Act { node: Index },
    /// A node that deviates says what it put off.
    Later { node: Index, life: u64, to: NodeId, message: Box<StreamMessage> },
    /// A user puts so many chunks.
    Put { owner: Index, chunks: usize },
    /// A user gives chunks up.
    Release { owner: Index },
    /// A user waits no longer for what is not stored yet.
    GiveUp { owner: Index },
    /// A user puts a chunk again that was given up.
    PutAgain { owner: Index, id: ChunkId },
    /// An owner asks holders for what they have not answered of what was given up.
    TellHolders { owner: Index },
    /// A store is told that time passed.
    TimePasses { node: Index, life: u64 },
    /// A user backs a device up.
    Backup { owner: Index },
    /// A user forgets some snapshots.
    Forget { owner: Index },
    /// A user reads the own head back.
    LookBack { owner: Index },
    /// An owner looks which holders are to be audited.
    Audit { owner: Index, regular: bool },
    /// An owner looks which holders are to be tried.
    Try { owner: Index },
    /// It goes on with that.
    TryOn { owner: Index, life: u64 },
    /// What the work of a device waited for is stored.
    Proceed { owner: Index },
    /// A user fetches some chunk.
    Get,
    /// Some owner looks for holders of what it put.
    Locate,
    /// A user looks after jobs that came to nothing.
    Retry { node: Index },
    /// A script goes on.
    Script { text: &'static str, steps: Vec<Step> },
}

/// What a disk does without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decay {
    /// A bit flips at rest.
    Flip,
    /// A block becomes zeros.
    Zero,
    /// It reads or writes elsewhere, or does not write at all, the next time.
    Slip(Mishap),
}
