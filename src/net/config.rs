//! What [`super::start`] is given: identity, addresses, bounds.

use crate::core::message::Hello;
use crate::core::topic::Topic;
use crate::core::types::MeshId;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// All that the network half of a node needs.
#[derive(Debug)]
pub struct NetConfig {
    /// The node's Ed25519 secret key.
    pub signing_seed: Zeroizing<[u8; 32]>,
    /// The mesh to be in.
    pub mesh: MeshId,
    /// What every peer is told first.
    pub hello: Hello,
    /// Multiaddrs to listen on; see [`NetConfig::default_listen`].
    pub listen: Vec<String>,
    /// Multiaddrs of members, with or without `/p2p/PEERID`.
    pub bootstrap: Vec<String>,
    /// Look for members on the local network.
    pub mdns: bool,
    /// The topics to subscribe to, and the only ones peers may.
    pub topics: Vec<Topic>,
    /// Where known members' addresses are kept across restarts.
    pub address_book: Option<PathBuf>,
    /// Bounds and intervals.
    pub limits: NetLimits,
}

/// Bounds and intervals. The defaults are the product's; tests shorten some.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// Talk to loopback, private and link-local addresses only.
    pub lan_only: bool,
    /// Connections being accepted at once.
    pub pending_in: u32,
    /// Connections being dialled at once.
    pub pending_out: u32,
    /// Accepted connections.
    pub established_in: u32,
    /// Dialled connections.
    pub established_out: u32,
    /// Connections in all.
    pub established: u32,
    /// New connections are refused while the process uses more bytes than this.
    pub memory_bytes: usize,
    /// A connection without streams is closed after this.
    pub idle: Duration,
    /// Below this many peers more are looked for.
    pub peers_low: usize,
    /// Above this many the least useful are let go.
    pub peers_high: usize,
    /// Between two looks at what is to be dialled, let go, saved.
    pub tick: Duration,
    /// The first wait before an address is tried again; doubled up to `retry_max`.
    pub retry_min: Duration,
    /// The longest wait before an address is tried again.
    pub retry_max: Duration,
    /// Gossip's heartbeat.
    pub heartbeat: Duration,
    /// Between two walks through the routing table while peers are looked for.
    pub walk: Duration,
    /// How long a peer may take to say Hello.
    pub hello: Duration,
    /// A frame must progress by `stall_bytes` in each such window.
    pub stall: Duration,
    /// See `stall`.
    pub stall_bytes: u64,
    /// The longest a frame may take.
    pub frame: Duration,
    /// Bytes per second that a payload must make, after two seconds, while others wait for the room
    /// that it takes of `unread_bytes`. Slower: the peer is dropped.
    pub crowded_pace: usize,
    /// Commands that may wait for the swarm task.
    pub commands: usize,
    /// Events that may wait for the drive loop.
    pub events: usize,
    /// Frames of one peer that are being read or wait for the drive loop. Above: its streams are
    /// not read on.
    pub unread_frames: usize,
    /// Payload bytes of all peers' frames that are being read or wait for the drive loop. A frame
    /// counts in full before its payload is read. Above: no further payload is read; a peer that
    /// keeps others waiting with a frame it does not send is dropped, see `stall` and `frame`.
    pub unread_bytes: usize,
    /// Frames that may wait to be sent to one peer, with a payload and without. Above: dropped and
    /// counted.
    pub unsent_frames: usize,
    /// Payload bytes on their way to one peer, of our own chunks and of those it asked for alike:
    /// so many of each. Above: an own chunk is dropped and counted, and one asked for is answered
    /// with Busy. The owner role has half of this in flight at most, and asks for as much.
    pub unsent_bytes: usize,
    /// Payload bytes of chunks that peers asked for on their way to all of them; see
    /// [`super::Net::send`]. Above: Busy, and for a peer that has some under way already as soon as
    /// it would have more than half of what is left, so that slow readers leave room for others.
    /// Own chunks do not count: they are the owner role's window, however many holders share them.
    pub unsent_served_bytes: usize,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            lan_only: false,
            pending_in: 16,
            pending_out: 32,
            established_in: 96,
            established_out: 32,
            established: 128,
            // Tests run many nodes in one process.
            memory_bytes: if cfg!(test) { usize::MAX } else { 512 << 20 },
            idle: Duration::from_secs(60),
            peers_low: 20,
            peers_high: 60,
            tick: Duration::from_secs(1),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            walk: Duration::from_secs(30),
            hello: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            stall_bytes: 16_000 * 30,
            frame: Duration::from_secs(300),
            crowded_pace: 256 << 10,
            commands: 1024,
            events: 256,
            unread_frames: 32,
            unread_bytes: 128 << 20,
            unsent_frames: 4096,
            unsent_bytes: 32 << 20,
            unsent_served_bytes: 128 << 20,
        }
    }
}

impl NetLimits {
    /// For tests of several nodes on one machine: the same bounds, shorter intervals.
    pub fn brisk() -> Self {
        Self {
            tick: Duration::from_millis(50),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            heartbeat: Duration::from_millis(200),
            walk: Duration::from_secs(1),
            ..Self::default()
        }
    }
}

/// Why the network half could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Not a multiaddr, or not one of TCP or QUIC.
    #[error("{address:?} is not an address of the form /ip4/1.2.3.4/tcp/4001")]
    Address {
        /// As it was given.
        address: String,
    },
    /// The system did not let us listen.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// QUIC's TLS library would append every connection's secrets to the file this names.
    #[error(
        "the environment variable SSLKEYLOGFILE is set: connection secrets would be written out"
    )]
    KeyLog,
    /// A part of libp2p did not take its configuration.
    #[error("the network cannot be set up: {0}")]
    Setup(String),
}
