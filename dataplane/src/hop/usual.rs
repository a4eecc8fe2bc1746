//! The short way through the hop, for usual frames ([`crate::usual`]) between untagged interfaces:
//! what the routes say of an address's leading sixteen bits, and the link-layer header towards each
//! next hop as it was last written.
//!
//! What is remembered here only repeats what the general way has said and done: whatever is not
//! known, has changed or needs more than a header goes by that.

use super::Hop;
use super::config::{Way, WayKind};
use super::routes::RouteTable;
use crate::context::Context;
use crate::io::{InterfaceId, Io, PortId};
use crate::keyed::Spread;
use crate::packet::Buffer;
use crate::usual::{NETWORK, Usual, station_of};
use crate::wire::address::Address;
use crate::wire::bytes::u16_at;
use crate::wire::ethernet::MacAddress;

/// Next hops that are kept at hand.
const EXITS: usize = 1024;
/// Nothing that packets may come from or go to.
pub(super) const NOWHERE: u16 = u16::MAX;
/// More than the leading bits must be looked at.
pub(super) const DEEPER: u16 = u16::MAX - 1;

/// An interface as a burst of usual frames comes in by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    pub(crate) interface: InterfaceId,
    port: PortId,
    mac: MacAddress,
    /// See [`station_of`].
    pub(crate) station: u64,
}

/// A next hop, and how to reach it.
#[derive(Clone, Copy, Debug)]
struct Exit {
    key: ExitKey,
    /// The change of the neighbours' table that this is of.
    version: u64,
    /// The link-layer header's two; `None` where a packet would have to wait, or be tagged.
    stations: Option<[u8; 12]>,
    mtu_bytes: u16,
    port: PortId,
    interface: InterfaceId,
}

/// What an exit is found by: the address of a neighbour, or the number of a way to a router, which
/// no address can be taken for, as all below 1.0.0.0 are martians.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitKey(u32);

impl ExitKey {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// The exits of one worker.
#[derive(Debug)]
pub(super) struct Exits {
    exits: Box<[Exit; EXITS]>,
    spread: Spread,
}

impl Exits {
    pub(super) fn new(spread: Spread) -> Self {
        let none = Exit {
            key: ExitKey::NONE,
            version: 0,
            stations: None,
            mtu_bytes: 0,
            port: PortId(0),
            interface: InterfaceId(0),
        };
        Self {
            exits: Box::new([none; EXITS]),
            spread,
        }
    }

    #[inline(always)]
    fn place(&self, key: ExitKey) -> usize {
        self.spread.place::<EXITS>(key.0.into())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        for exit in &mut *self.exits {
            exit.key = ExitKey::NONE;
        }
    }
}

impl<B: Buffer> Hop<B> {
    /// How usual frames of this port come in.
    #[inline]
    pub(crate) fn gate_of(&self, port: PortId) -> Option<Gate> {
        let interface = self.tables.interface_of(port, 0)?;
        let link = self.tables.link(interface)?;
        link.vlan.is_none().then_some(Gate {
            interface,
            port: link.port,
            mac: link.mac,
            station: station_of(link.mac),
        })
    }

    /// The way out of a usual frame that is to be routed, if the general way has been taken there
    /// before and would say the same.
    #[inline(always)]
    pub(crate) fn judge_usual(&mut self, gate: &Gate, usual: &Usual) -> Option<ExitKey> {
        let Usual {
            source,
            destination,
            ..
        } = *usual;
        let origin = self.tables.leading.origins[(source >> 16) as usize];
        let comes_in = origin == gate.interface.0
            || origin == NO_ORIGIN && self.comes_from(gate.interface, source);
        let way = self.tables.leading.ways[(destination >> 16) as usize];
        if !comes_in || way == NOWHERE || source == destination {
            return None;
        }
        let key = ExitKey(if way == DEEPER {
            destination
        } else {
            u32::from(way)
        });
        let exit = match self.exit(key) {
            Some(exit) => exit,
            None => self.find_exit(key, destination)?,
        };
        (usual.packet_bytes() <= exit.mtu_bytes).then_some(key)
    }

    /// The exit of this key, if it is at hand and nothing has changed since.
    #[inline(always)]
    fn exit(&self, key: ExitKey) -> Option<&Exit> {
        let exit = &self.exits.exits[self.exits.place(key)];
        (exit.key == key && exit.version == self.neighbours.version()).then_some(exit)
    }

    /// Whether the routes lead back to where a packet came from, by more than its leading bits.
    #[inline(always)]
    fn comes_from(&mut self, interface: InterfaceId, source: u32) -> bool {
        if let Some(exit) = self.exit(ExitKey(source)) {
            return exit.interface == interface;
        }
        self.tables.leading.ways[(source >> 16) as usize] == DEEPER
            && self
                .find_exit(ExitKey(source), source)
                .is_some_and(|exit| exit.interface == interface)
    }

    /// Remembers the exit towards `destination` under `key`; `None` where no route leads out.
    #[inline(never)]
    fn find_exit(&mut self, key: ExitKey, destination: u32) -> Option<&Exit> {
        let destination = Address::from_v4(destination.to_be_bytes());
        let way = self.tables.way(destination);
        let link = self.tables.link(way.interface)?;
        if !way.leads_out() {
            return None;
        }
        let next_hop = way.next_hop(destination);
        let station = self.neighbours.station_in_use(way.interface, next_hop);
        let stations = station.filter(|_| link.vlan.is_none()).map(|station| {
            let mut stations = [0; 12];
            stations[..6].copy_from_slice(&station.0);
            stations[6..].copy_from_slice(&link.mac.0);
            stations
        });
        let place = self.exits.place(key);
        let exit = &mut self.exits.exits[place];
        *exit = Exit {
            key,
            version: self.neighbours.version(),
            stations,
            mtu_bytes: way.mtu_bytes,
            port: link.port,
            interface: way.interface,
        };
        Some(exit)
    }

    /// [`Hop::forward`] of a usual frame. It comes back where the exit is not at hand, or
    /// needs more than this.
    #[inline(always)]
    pub(crate) fn forward_usual<I: Io<Buffer = B>>(
        &self,
        mut frame: B,
        end: u16,
        key: ExitKey,
        ctx: &mut Context<'_, I>,
    ) -> Result<(), B> {
        let Some((exit, stations)) = self.exit(key).and_then(|it| Some((it, it.stations?))) else {
            return Err(frame);
        };
        if frame.bytes().len() > usize::from(end) {
            // Padding; a frame can always be cut.
            let _ = frame.set_len(usize::from(end));
        }
        if let Some(head) = frame.bytes_mut().first_chunk_mut::<{ NETWORK + 20 }>() {
            head[..12].copy_from_slice(&stations);
            head[NETWORK + 8] -= 1;
            // RFC 1624 eqn 3: ~m + m' is the same for every m from which 0x0100 is taken.
            let sum = u32::from(!u16_at(head, NETWORK + 10)) + u32::from(!0x0100u16);
            let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
            head[NETWORK + 10..NETWORK + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        ctx.transmit(exit.port, exit.interface, frame);
        Ok(())
    }

    /// [`Hop::reply`] to a usual frame.
    #[inline(always)]
    pub(crate) fn reply_usual<I: Io<Buffer = B>>(
        &self,
        mut frame: B,
        gate: &Gate,
        ctx: &mut Context<'_, I>,
    ) {
        if let Some(head) = frame.bytes_mut().first_chunk_mut::<NETWORK>() {
            head.copy_within(6..12, 0);
            head[6..12].copy_from_slice(&gate.mac.0);
        }
        ctx.transmit(gate.port, gate.interface, frame);
    }
}

/// No interface that the leading bits tell.
const NO_ORIGIN: u8 = u8::MAX;

/// What IPv4 addresses are to a usual frame by their leading sixteen bits.
#[derive(Debug)]
pub(super) struct Leading {
    /// The interface that packets from there come in by.
    origins: Box<[u8; 1 << 16]>,
    /// The number of the way that packets there take, [`DEEPER`] or [`NOWHERE`].
    ways: Box<[u16; 1 << 16]>,
}

impl Leading {
    /// What `routes` say, which lead to `ways`.
    pub(super) fn of(routes: &RouteTable, ways_out: &[Way]) -> Self {
        let mut origins = Box::new([NO_ORIGIN; 1 << 16]);
        let mut ways = Box::new([NOWHERE; 1 << 16]);
        for leading in 0..=u16::MAX {
            let address = Address::from_v4((u32::from(leading) << 16).to_be_bytes());
            // Martians and groups are whole blocks of eight bits, but for the address of all.
            let is_host = !address.is_martian_source() && !address.is_multicast_or_broadcast();
            let (origin, way) = match routes.of_leading(leading) {
                _ if !is_host => (NO_ORIGIN, NOWHERE),
                Some(number) if number < u32::from(DEEPER) => {
                    let way = &ways_out[number as usize];
                    match way.kind {
                        WayKind::Via => (way.interface.0, number as u16),
                        // Each host there is a next hop of its own.
                        WayKind::Connected => (way.interface.0, DEEPER),
                        _ => (NO_ORIGIN, NOWHERE),
                    }
                }
                _ => (NO_ORIGIN, DEEPER),
            };
            origins[usize::from(leading)] = origin;
            ways[usize::from(leading)] = way;
        }
        Self { origins, ways }
    }
}
