//! What is told of the peers.

use super::PeerId;
use super::frame::BootId;
use super::standing::Standing;
use crate::wire::address::Address;

/// A peer as it is seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PeerState {
    /// Nothing authentic of its present life has come, or it does not know ours yet.
    #[default]
    Joining,
    /// It is alive, and one of us still fetches what the other one knows.
    Resync,
    /// It is alive and knows what we know.
    InStep,
    /// It is alive, but has not applied what was sent long ago.
    Lagging,
    /// Nothing has come of it for too long.
    Dead,
    /// It said good-bye.
    Left,
}

impl PeerState {
    /// The name shown by `tidegate show peers`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Resync => "resync",
            Self::InStep => "in step",
            Self::Lagging => "lagging",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }

    /// Whether it is there.
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Resync | Self::InStep | Self::Lagging)
    }
}

/// One line of `tidegate show peers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which peer.
    pub id: PeerId,
    /// How it is seen.
    pub state: PeerState,
    /// For how long, in nanoseconds.
    pub state_ns: u64,
    /// Its present life; `None` before anything came of it.
    pub boot: Option<BootId>,
    /// How long ago something came of it, in nanoseconds.
    pub heard_ns: Option<u64>,
    /// Batches of ours that it has not yet said to have applied.
    pub lag_batches: u64,
    /// The age of the oldest of these, in microseconds.
    pub lag_us: u64,
    /// Batches of its stream that have not come here.
    pub missing_batches: u64,
    /// Records of its stream that came and were given to workers.
    pub records_received: u64,
    /// Times that it was asked to repeat batches.
    pub gaps_asked: u64,
    /// Times that its tables were fetched from it.
    pub resyncs: u64,
    /// Whether they are being fetched now.
    pub is_resyncing: bool,
    /// Its workers.
    pub workers: u8,
}

/// Something for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A peer is seen differently.
    State {
        /// Which peer.
        peer: PeerId,
        /// As it was.
        from: PeerState,
        /// As it is.
        to: PeerState,
    },
    /// We ourselves know what the others know, or no longer do.
    InStep(bool),
    /// This guard stands differently among the guards of its site.
    Standing(Standing),
    /// A peer's tables are being fetched.
    ResyncStarted {
        /// Which peer's.
        peer: PeerId,
    },
    /// A peer's tables have come whole.
    ResyncFinished {
        /// Which peer's.
        peer: PeerId,
        /// Records that came.
        records: u64,
    },
    /// A peer's tables ceased to come; another way is looked for.
    ResyncAborted {
        /// Which peer's.
        peer: PeerId,
    },
    /// Another appliance has our number. It is told at most once in ten seconds.
    NumberTaken {
        /// The address that it sends from.
        source: Address,
    },
}
