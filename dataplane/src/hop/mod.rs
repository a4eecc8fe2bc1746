//! The hop: what makes the appliance a router between its interfaces. Interfaces and routes, ARP
//! and neighbour discovery, TTL and MTU, the link-layer header, and the ICMP that goes with them.

mod addressing;
mod admit;
mod config;
mod errors;
mod held;
mod link;
mod neighbours;
mod replication;
mod routes;
mod send;
mod shares;
mod usual;

use std::sync::Arc;

use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io, PortId};
use crate::keyed::Spread;
use crate::limits::{
    ICMP_ERROR_BURST, ICMP_ERRORS_PER_SECOND, MAX_ADDRESSES, MAX_INTERFACES, MAX_NEIGHBOUR_TIMERS,
};
use crate::packet::Buffer;
use crate::verdict::Verdict;
use crate::wire::address::Address;

pub(crate) use admit::{Concluded, Judgement};
pub use config::{HopConfig, HopConfigError, HopTables, Interface, Route, link_local};
pub use errors::Complaint;
pub use neighbours::{Neighbour, NeighbourState, NeighbourUpdate};
pub use replication::ReplicationPort;

use errors::ErrorLimit;
use held::HeldPackets;
use neighbours::{Due, Neighbours};
use routes::RecentRoutes;
use usual::Exits;
pub(crate) use usual::{ExitKey, Gate};

/// How often our addresses are announced (RFC 5227 §2.3 says twice; one more for links that are
/// slow to come up).
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCE_INTERVAL_NS: u64 = 1_000_000_000;

/// The way out for a packet. It is good until the tables are replaced and should not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The neighbour that takes it next.
    pub next_hop: Address,
    /// The interface that it leaves by.
    pub interface: InterfaceId,
    /// The interface that it came in by; `None` when it was made here. Whoever sent a packet that
    /// came in is told by ICMP when it cannot be delivered.
    pub ingress: Option<InterfaceId>,
    /// Octets of the largest packet that goes this way.
    pub mtu_bytes: u16,
}

impl Egress {
    /// No way.
    pub(crate) const NONE: Self = Self {
        next_hop: Address::UNSPECIFIED,
        interface: InterfaceId(0),
        ingress: None,
        mtu_bytes: 0,
    };
}

/// What [`Hop::admit`] makes of a frame.
#[derive(Debug)]
#[must_use]
pub enum Admitted<B> {
    /// It concerned the hop alone and is dealt with; the verdict is what is left to do.
    Done(Verdict<B>),
    /// It is to be routed: nothing of it has been changed.
    Transit(B, Egress),
    /// It is a whole TCP segment for one of our own addresses.
    Local(B),
    /// It is a peer's datagram for the replication port.
    Peers(B),
}

/// The hop of one worker.
///
/// For each frame: [`Hop::interface_of`] its port and VLAN, [`Hop::admit`]; what is admitted for
/// transit goes through the guard and then to [`Hop::forward`]. What a handler answers goes to
/// [`Hop::reply`], what it makes to [`Hop::output`]. Once a loop, [`Hop::tick`]; at start and
/// whenever a port comes up, [`Hop::announce`] by one worker. With several workers, pass
/// [`Hop::take_updates`] of each to [`Hop::apply_update`] of the others.
///
/// Everything it sends goes to `ctx.transmit`, errors to `ctx.outbox`, and is counted; nothing it
/// is given is lost without a count, and [`Hop::held`] says how much it keeps.
#[derive(Debug)]
pub struct Hop<B> {
    tables: Arc<HopTables>,
    recent: RecentRoutes,
    exits: Exits,
    neighbours: Neighbours,
    held: HeldPackets<B>,
    error_limit: ErrorLimit,
    /// The same for what a sender needs to learn the MTU of its path (RFC 8201 §4): no noise that
    /// earns other errors uses it up.
    too_big_limit: ErrorLimit,
    announcements_left: u8,
    announce_ns: u64,
    /// When the peers' group is next told that we belong to it, if this worker tells.
    report_ns: Option<u64>,
    /// When we last defended each interface's addresses against another station's claim; the
    /// link-local one comes last.
    defended_ns: Box<[[Option<u64>; MAX_ADDRESSES + 1]; MAX_INTERFACES]>,
    /// For the IPv4 headers of packets made here.
    identification: u16,
}

impl<B: Buffer> Hop<B> {
    /// A hop that knows no neighbour yet. `key` should be random: it keeps strangers from choosing
    /// colliding keys.
    pub fn new(tables: Arc<HopTables>, key: u128) -> Self {
        let spread = Spread::new((key >> 64) as u64 ^ key as u64);
        Self {
            recent: tables.recent(spread),
            exits: Exits::new(spread),
            neighbours: Neighbours::new(key, Arc::clone(&tables.reserved)),
            tables,
            held: HeldPackets::new(),
            error_limit: ErrorLimit::new(ICMP_ERRORS_PER_SECOND, ICMP_ERROR_BURST),
            too_big_limit: ErrorLimit::new(ICMP_ERRORS_PER_SECOND, ICMP_ERROR_BURST),
            announcements_left: 0,
            announce_ns: 0,
            report_ns: None,
            defended_ns: Box::new([[None; MAX_ADDRESSES + 1]; MAX_INTERFACES]),
            identification: key as u16,
        }
    }

    /// Takes new tables into use and gives the old ones back, to be freed elsewhere. Neighbours
    /// stay known on interfaces that keep their place, port and VLAN.
    pub fn reconfigure<I: Io<Buffer = B>>(
        &mut self,
        tables: Arc<HopTables>,
        ctx: &mut Context<'_, I>,
    ) -> Arc<HopTables> {
        let old = std::mem::replace(&mut self.tables, tables);
        self.tables.forget(&mut self.recent);
        self.exits.clear();
        let new = Arc::clone(&self.tables);
        self.neighbours.reserve(Arc::clone(&new.reserved));
        let same = |interface: InterfaceId| match (old.link(interface), new.link(interface)) {
            (Some(old), Some(new)) => (old.port, old.vlan) == (new.port, new.vlan),
            _ => false,
        };
        self.forget_where(|interface| !same(interface), ctx);
        old
    }

    /// Forgets the neighbours of a port, behind which there may be others now.
    pub fn forget_neighbours<I: Io<Buffer = B>>(&mut self, port: PortId, ctx: &mut Context<'_, I>) {
        let tables = Arc::clone(&self.tables);
        let is_on_it = |interface| tables.link(interface).is_some_and(|link| link.port == port);
        self.exits.clear();
        self.forget_where(is_on_it, ctx);
    }

    fn forget_where<I: Io<Buffer = B>>(
        &mut self,
        is_gone: impl Fn(InterfaceId) -> bool,
        ctx: &mut Context<'_, I>,
    ) {
        let mut from = 0;
        while let Some(slot) = self.neighbours.next_taken(from) {
            from = usize::from(slot) + 1;
            let stays = self
                .neighbours
                .get(slot)
                .is_some_and(|neighbour| !is_gone(neighbour.interface));
            if stays && self.neighbours.reclassify(slot) {
                continue;
            }
            while let Some(held) = self.held.pop(slot) {
                ctx.discard(held.buffer, DropReason::NeighbourUnresolved);
            }
            self.neighbours.forget(slot);
        }
    }

    /// The interface that frames of this port and VLAN (0: untagged) come in by.
    #[inline]
    pub fn interface_of(&self, port: PortId, vlan: u16) -> Option<InterfaceId> {
        self.tables.interface_of(port, vlan)
    }

    /// The port and VLAN of an interface.
    pub fn port_of(&self, interface: InterfaceId) -> Option<(PortId, Option<u16>)> {
        let link = self.tables.link(interface)?;
        Some((link.port, link.vlan))
    }

    /// How many packets wait for a neighbour's answer.
    pub fn held(&self) -> usize {
        self.held.count()
    }

    /// Serves timers: neighbours asked again or given up, announcements repeated.
    pub fn tick<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        for _ in 0..MAX_NEIGHBOUR_TIMERS {
            match self.neighbours.due(ctx.now_ns) {
                Some(Due::Ask(slot)) => self.ask(slot, false, ctx),
                Some(Due::Probe(slot)) => self.ask(slot, true, ctx),
                Some(Due::Failed(slot)) => self.give_up(slot, ctx),
                Some(Due::Aged) => {}
                None => break,
            }
        }
        if self.announcements_left > 0 && ctx.now_ns >= self.announce_ns {
            self.announce_once(ctx);
        }
        if self.report_ns.is_some_and(|due_ns| ctx.now_ns >= due_ns) {
            self.report_membership(false, ctx);
        }
    }

    /// When [`Hop::tick`] next has something to do.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let announce_ns = (self.announcements_left > 0).then_some(self.announce_ns);
        let neighbour_ns = self.neighbours.next_deadline_ns();
        let deadlines = announce_ns.into_iter().chain(neighbour_ns);
        deadlines.chain(self.report_ns).min()
    }

    /// Tells all links which addresses are ours (gratuitous ARP, unsolicited neighbour
    /// advertisements), and that we belong to the peers' group, now and twice more by
    /// [`Hop::tick`]; of the group again and again.
    pub fn announce<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        self.announcements_left = ANNOUNCEMENTS;
        self.announce_once(ctx);
    }

    /// What the other workers should be told; when it is not taken, it is dropped beyond a bound.
    pub fn take_updates(&mut self) -> impl Iterator<Item = NeighbourUpdate> + '_ {
        self.neighbours.take_updates()
    }

    /// Takes what another worker learned.
    pub fn apply_update<I: Io<Buffer = B>>(
        &mut self,
        update: NeighbourUpdate,
        ctx: &mut Context<'_, I>,
    ) {
        if let Some(slot) = self.neighbours.apply(update, ctx.now_ns) {
            self.release(slot, ctx);
        }
    }

    /// Lists neighbours into `out` from place `from` on; the place to go on from comes back while
    /// there are more than `out` had room for.
    pub fn neighbours(&self, from: usize, out: &mut [Option<Neighbour>]) -> Option<usize> {
        let mut from = from;
        for place in out {
            let slot = self.neighbours.next_taken(from);
            *place = slot.and_then(|slot| self.neighbours.get(slot));
            from = usize::from(slot?) + 1;
        }
        self.neighbours.next_taken(from).map(usize::from)
    }

    fn announce_once<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        self.announcements_left -= 1;
        self.announce_ns = ctx.now_ns + ANNOUNCE_INTERVAL_NS;
        self.report_membership(true, ctx);
        let tables = Arc::clone(&self.tables);
        for (index, link) in tables.links.iter().enumerate() {
            let interface = InterfaceId(index as u8);
            for &(address, _) in &link.addresses {
                addressing::announce(link, interface, address, ctx);
            }
            if link.ipv6 {
                addressing::announce(link, interface, link.link_local, ctx);
            }
        }
    }

    /// Answers are here, or never will be: what waits under `slot` tries again.
    fn release<I: Io<Buffer = B>>(&mut self, slot: u16, ctx: &mut Context<'_, I>) {
        let Some(neighbour) = self.neighbours.get(slot) else {
            return;
        };
        ctx.counters.count(Event::NeighbourLearned);
        while let Some(held) = self.held.pop(slot) {
            let egress = Egress {
                next_hop: neighbour.address,
                interface: neighbour.interface,
                ingress: held.ingress,
                mtu_bytes: u16::MAX,
            };
            self.deliver(held.buffer, held.network, &egress, ctx);
        }
    }
}

#[cfg(test)]
mod tests;
