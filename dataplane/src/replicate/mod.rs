//! What guards tell each other, so that a packet may take any path through any of them (seed 000,
//! "out-of-band communications channel").
//!
//! A worker gives [`ToPeers`] and takes [`FromPeers`] over its desk ([`desk`]); what stands between
//! the two ends, on this appliance and on the others, is not its concern. Records name flows by
//! their addresses, so that neither the number of workers nor the tables need be alike.

mod bucket;
mod catch_up;
pub mod config;
pub mod desk;
mod director;
pub mod envelope;
pub mod exchange;
pub mod frame;
mod gaps;
mod item;
pub mod keys;
mod peer;
pub mod receive;
pub mod record;
pub mod replicator;
mod resync;
mod send;
mod serve;
mod site;
pub mod standing;
mod stations;
pub mod status;
mod stream;
pub mod tally;
#[cfg(test)]
mod tests;
mod window;

use self::desk::Origin;
use self::record::{FlowKey, Record};
use crate::wire::address::Address;

/// An appliance among those that share: its number in the profile, which must be its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u8);

/// Who is to hear a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every peer.
    All,
    /// The flow's director alone; nobody if that is this appliance.
    Director,
    /// One peer that asked.
    Peer(PeerId),
}

/// A part of a worker's sessions, asked for by a peer that was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Who asked.
    pub peer: PeerId,
    /// The asker's own number for it, given back with the end of the page.
    pub request: u32,
    /// The first place of the session table to look at.
    pub first: u32,
    /// The place behind the last one.
    pub end: u32,
}

/// What a worker gives the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToPeers {
    /// A change of a session.
    Record(Record, Audience),
    /// A packet of a flow that the worker does not know waits: its director is to be asked.
    Query(FlowKey),
    /// The worker did nothing for a while. It decides nothing new before [`FromPeers::CaughtUp`].
    Stalled,
    /// The answer to a [`FromPeers::Query`] for a flow that is unknown here too. A known flow's
    /// answer is its record.
    Unknown(FlowKey, PeerId),
    /// The records of a page, which went before, are complete.
    PageEnd {
        /// Who asked.
        peer: PeerId,
        /// The asker's number for it.
        request: u32,
        /// Where the next page begins; `None` after the last one.
        next: Option<u32>,
    },
}

/// How an appliance stands in its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// How far the site's clock is ahead of this appliance's, in milliseconds: the fastest clock of
    /// all its guards is the site's.
    pub lead_ms: u32,
    /// Whether all its guards are there, but for those that said good-bye.
    pub is_whole: bool,
    /// Whether this appliance may carry sprayed traffic: it is in the larger part of the site, and
    /// lacks nothing.
    pub may_carry: bool,
}

/// What a worker takes from the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromPeers {
    /// A peer's record of a flow that belongs to this worker.
    Record(Record, PeerId),
    /// A peer asks for a flow of this worker's.
    Query(FlowKey, PeerId),
    /// The director does not know this flow.
    Unknown(FlowKey),
    /// A peer asks for a part of the session table.
    Page(PageRequest),
    /// So many other appliances are there now. After a change, what only a director was told is
    /// told again.
    Peers(u8),
    /// All that the peers had told when the worker last said [`ToPeers::Stalled`] went before.
    CaughtUp,
    /// How this appliance stands in its site.
    Site(Site),
    /// An authentic datagram of the peer at this address came from there.
    Station(Address, Origin),
}
