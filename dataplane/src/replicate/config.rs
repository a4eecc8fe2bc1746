//! What a replicator is told at its start.

use super::PeerId;
use super::frame::{BootId, HEADER_BYTES, TAG_BYTES};
use super::item::{BATCH_FIELDS_BYTES, ITEM_HEADER_BYTES};
use super::keys::ReplicationKey;
use super::record::RECORD_BYTES;
use crate::limits::{DATAGRAM_BYTES, MAX_PEERS};
use crate::shard::Shard;
use crate::wire::address::Address;

/// The largest UDP payload: a packet with an IPv6 header fits into a datagram.
pub const MAX_PAYLOAD_BYTES: usize = DATAGRAM_BYTES - 48;
/// The smallest that is of any use.
pub const MIN_PAYLOAD_BYTES: usize = 256;

/// How frames reach the peers (seed 000: broadcast, multicast or point to point).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// Each frame is sent to each peer.
    #[default]
    PointToPoint,
    /// Each frame is sent once, to a multicast or broadcast address.
    Group,
}

/// Where a frame is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the address and port of one peer.
    Peer(PeerId),
    /// To the group's address and port.
    Group,
}

/// Another appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its number, 0 to 254.
    pub id: PeerId,
    /// The address that its frames come from; `None` when any will do, as in a group whose members
    /// are known by their keys alone.
    pub address: Option<Address>,
}

/// What a [`Replicator`](super::replicator::Replicator) is told at its start.
#[derive(Clone, Debug)]
pub struct ReplicatorConfig {
    /// Our own number, 0 to 254.
    pub id: PeerId,
    /// This life of ours. Its random bits come from the system's generator, and its start is later
    /// than that of any earlier life.
    pub boot: BootId,
    /// The others, at most [`MAX_PEERS`] - 1; more are left out.
    pub peers: Vec<PeerConfig>,
    /// How frames reach them.
    pub transport: Transport,
    /// The keys; without any, nothing is sent and everything is refused.
    pub keys: Vec<ReplicationKey>,
    /// Our workers.
    pub workers: usize,
    /// Which of them owns a flow; as tests want it, if nothing is said.
    pub shard: Option<Shard>,
    /// Places of each worker's session table.
    pub table_places: u32,
    /// The largest UDP payload to send, in octets.
    pub payload_bytes: usize,
    /// How often to greet, in nanoseconds.
    pub hello_ns: u64,
    /// A peer of whom nothing comes for so long is dead.
    pub dead_ns: u64,
    /// A peer that has not applied what we sent so long ago lags.
    pub lagging_ns: u64,
    /// How long a missing batch may be merely out of order.
    pub repair_delay_ns: u64,
    /// Batches that are kept to be repeated.
    pub history_batches: usize,
    /// Places of a table that are asked for at once.
    pub page_places: u32,
    /// Parts of tables that are asked for before the first has come.
    pub pulls: usize,
    /// Flows that directors are asked for in a second.
    pub queries_per_second: u64,
}

impl ReplicatorConfig {
    /// With the defaults, and nobody to talk to.
    pub fn new(id: PeerId, boot: BootId) -> Self {
        Self {
            id,
            boot,
            peers: Vec::new(),
            transport: Transport::default(),
            keys: Vec::new(),
            workers: 1,
            shard: None,
            table_places: 0,
            payload_bytes: 1_400,
            hello_ns: 50_000_000,
            dead_ns: 300_000_000,
            lagging_ns: 500_000_000,
            repair_delay_ns: 2_000_000,
            history_batches: 4_096,
            page_places: 1_024,
            pulls: 4,
            queries_per_second: 200_000,
        }
    }

    /// The peers that can be: others than ourselves, each number once.
    pub(super) fn valid_peers(&self) -> Vec<PeerConfig> {
        let mut peers: Vec<PeerConfig> = Vec::new();
        for peer in &self.peers {
            let taken = peers.iter().any(|other| other.id == peer.id);
            if !taken && peer.id != self.id && peer.id.0 != u8::MAX && peers.len() + 1 < MAX_PEERS {
                peers.push(*peer);
            }
        }
        peers
    }

    /// The payload's size within what is possible.
    pub(super) fn valid_payload_bytes(&self) -> usize {
        self.payload_bytes
            .clamp(MIN_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES)
    }

    /// Records of one batch.
    pub(super) fn records_per_batch(&self) -> usize {
        let overhead = HEADER_BYTES + TAG_BYTES + ITEM_HEADER_BYTES + BATCH_FIELDS_BYTES;
        (self.valid_payload_bytes() - overhead) / RECORD_BYTES
    }
}
