//! The protected servers and what is known of each, service by service.

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;

use super::TICK_SHIFT;
use super::config::{ProtectedServer, ServerOverrides};
use super::cookie::MAX_AGE_S;
use super::service::{Service, ServiceTable};
use crate::limits::{MAX_PLACES, MAX_PORT_RANGES, MAX_PROBED_PORTS};
use crate::wire::address::{Address, Family};
use crate::wire::tcp_options::TcpOptions;

/// What a server's SYN-ACK tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTraits {
    /// Maximum segment size in octets.
    pub mss: u16,
    /// Window scale, if it scales.
    pub window_scale: Option<u8>,
    /// Whether it takes SACK.
    pub sack: bool,
    /// Whether it does timestamps.
    pub timestamps: bool,
    /// Whether it does ECN.
    pub ecn: bool,
    /// The largest window that its SYN-ACKs have offered, in octets.
    pub window: u16,
}

impl ServerTraits {
    /// What most servers do, assumed until one has answered.
    pub const fn assumed(family: Family) -> Self {
        let mss = match family {
            Family::V4 => 1460,
            Family::V6 => 1440,
        };
        Self {
            mss,
            window_scale: Some(7),
            sack: true,
            timestamps: true,
            ecn: false,
            window: 64_240,
        }
    }
}

impl ServerTraits {
    /// Takes over what a SYN-ACK says. A trait that depends on what the SYN offered is only learned
    /// when `offered` had it. One answer's small window says little of the next one's, so the
    /// largest counts of those since the first.
    fn hear(&mut self, heard: &Heard<'_>, family: Family, is_first: bool) {
        let (offered, options, known) = (heard.offered, heard.options, *self);
        let mss = options.mss.unwrap_or(match family {
            Family::V4 => 536,
            Family::V6 => 1220,
        });
        let least = if is_first { mss } else { known.window.max(mss) };
        *self = Self {
            mss,
            window_scale: if offered.window_scale {
                options.window_scale
            } else {
                known.window_scale
            },
            sack: if offered.sack {
                options.sack_permitted
            } else {
                known.sack
            },
            timestamps: if offered.timestamps {
                options.timestamps.is_some()
            } else {
                known.timestamps
            },
            ecn: if offered.ecn { heard.ecn } else { known.ecn },
            window: heard.window.max(least),
        };
    }

    fn apply(&mut self, overrides: &ServerOverrides) {
        self.mss = overrides.mss.unwrap_or(self.mss);
        self.window_scale = overrides.window_scale.unwrap_or(self.window_scale);
        self.sack = overrides.sack.unwrap_or(self.sack);
        self.timestamps = overrides.timestamps.unwrap_or(self.timestamps);
        self.ecn = overrides.ecn.unwrap_or(self.ecn);
    }
}

/// A server's SYN-ACK, and the SYN that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// What the SYN offered.
    pub offered: Offered,
    /// The options of the SYN-ACK.
    pub options: &'a TcpOptions,
    /// Its window.
    pub window: u16,
    /// Whether it agrees to ECN.
    pub ecn: bool,
}

impl Heard<'_> {
    /// A SYN that offered less leaves something to ask the server.
    fn tells_all(&self) -> bool {
        self.offered.window_scale && self.offered.sack && self.offered.timestamps
    }
}

/// One protected server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address.
    pub address: Address,
    /// Its protected ports; none once a reload has taken it out.
    pub ports: ArrayVec<RangeInclusive<u16>, MAX_PORT_RANGES>,
    /// Whether any of its services has answered a SYN that offered everything.
    pub is_learned: bool,
    /// What the service did that answered last; of one that has not answered this is the best guess.
    traits: ServerTraits,
    /// That service's port.
    heard_of: Option<u16>,
    overrides: ServerOverrides,
    /// Sessions that refer to its place.
    sessions: u32,
    /// Whether the list that is being taken over has it.
    is_wanted: bool,
    /// Since when no port of it is protected, in the guard's coarse time.
    gone: u32,
    /// Whether its overrides have changed, so that what was learned under them counts no more.
    is_changed: bool,
}

impl Server {
    /// What the service did that answered last, or what most servers do.
    pub fn traits(&self) -> ServerTraits {
        self.traits
    }

    /// Whether `port` is protected.
    #[inline]
    pub fn protects(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    /// The ports that are asked what they do before clients come: all of small ranges, the first one
    /// of large ones, a few at most.
    pub fn probed_ports(&self) -> impl Iterator<Item = u16> {
        let ports = self.ports.iter().flat_map(|range| {
            let is_small = range.len() <= MAX_PROBED_PORTS;
            *range.start()..=if is_small {
                *range.end()
            } else {
                *range.start()
            }
        });
        ports.take(MAX_PROBED_PORTS)
    }

    /// One that nothing is known of.
    fn new(address: Address) -> Self {
        Self {
            address,
            ports: ArrayVec::new(),
            is_learned: false,
            traits: ServerTraits::assumed(address.family()),
            heard_of: None,
            overrides: ServerOverrides::default(),
            sessions: 0,
            is_wanted: false,
            gone: 0,
            is_changed: false,
        }
    }

    /// Whether its place cannot be another server's: it is protected, sessions refer to it, or a cookie of
    /// its time may still be good.
    pub fn keeps_its_place(&self, tick: u32) -> bool {
        !self.ports.is_empty() || self.sessions > 0 || tick.wrapping_sub(self.gone) <= KEPT_TICKS
    }

    /// Forgets what was learned.
    fn forget(&mut self) {
        self.traits = ServerTraits::assumed(self.address.family());
        self.traits.apply(&self.overrides);
        self.heard_of = None;
        self.is_learned = false;
    }
}

/// What a SYN offered to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Window scaling.
    pub window_scale: bool,
    /// Selective acknowledgement.
    pub sack: bool,
    /// Timestamps.
    pub timestamps: bool,
    /// Explicit congestion notification.
    pub ecn: bool,
}

const SLOTS: usize = (MAX_PLACES * 2).next_power_of_two();
const EMPTY: u16 = u16::MAX;

/// How long a place stays its server's once that is no longer protected, in the guard's coarse time: as long
/// as a used handshake is remembered by it.
const KEPT_TICKS: u32 = (((MAX_AGE_S + 6) * 1_000_000_000) >> TICK_SHIFT) as u32;

/// The protected servers, found by address, and their services. A server keeps its place for as long as sessions
/// refer to it.
#[derive(Debug)]
pub struct ServerTable {
    /// At most [`MAX_PLACES`].
    servers: Vec<Server>,
    slots: Box<[u16; SLOTS]>,
    services: ServiceTable,
    changes: u64,
}

impl ServerTable {
    /// No server.
    pub fn new() -> Self {
        Self {
            servers: Vec::with_capacity(MAX_PLACES),
            slots: Box::new([EMPTY; SLOTS]),
            services: ServiceTable::new(ServerTraits::assumed(Family::V4)),
            changes: 0,
        }
    }

    /// The place of the server with this address.
    #[inline]
    pub fn find(&self, address: Address) -> Option<u16> {
        let mut slot = Self::slot_of(address);
        loop {
            let place = self.slots[slot];
            if place == EMPTY {
                return None;
            }
            if self.servers[usize::from(place)].address == address {
                return Some(place);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// The server at `place`.
    #[inline]
    pub fn get(&self, place: u16) -> &Server {
        &self.servers[usize::from(place)]
    }

    /// What the service at `port` of the server at `place` does. If it has not answered yet, what
    /// another one of its server does is the best guess.
    #[inline]
    pub fn traits(&self, place: u16, port: u16) -> ServerTraits {
        match self.services.find(place, port) {
            Some(service) => service.traits,
            None => self.get(place).traits,
        }
    }

    /// Counts the changes of what [`Self::traits`] says of any service, and the configurations that were
    /// taken over.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether there is nothing to ask the service any more.
    pub fn is_learned(&self, place: u16, port: u16) -> bool {
        match self.services.find(place, port) {
            Some(service) => service.is_learned,
            // What it says would find no place.
            None => self.services.is_full() && self.get(place).is_learned,
        }
    }

    /// The services that have answered, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// Learns from a service's SYN-ACK. Whether there was a place to remember the service by itself;
    /// otherwise its server's services are taken to be alike.
    pub fn learn(&mut self, place: u16, port: u16, heard: &Heard<'_>) -> bool {
        let server = &mut self.servers[usize::from(place)];
        if !server.protects(port) {
            return true;
        }
        let family = server.address.family();
        let (of_server, mut is_changed) = (server.traits, false);
        let added = self.services.find_or_add(place, port, server.traits);
        let is_kept = added.is_some();
        match added {
            Some((service, is_known)) => {
                let known = service.traits;
                service.traits.hear(heard, family, !is_known);
                service.traits.apply(&server.overrides);
                is_changed = service.traits != known;
                service.is_learned |= heard.tells_all();
                server.traits = service.traits;
            }
            None => {
                server.traits.hear(heard, family, true);
                server.traits.apply(&server.overrides);
            }
        }
        server.heard_of = Some(port);
        server.is_learned |= heard.tells_all();
        if is_changed || server.traits != of_server {
            self.changes += 1;
        }
        is_kept
    }

    /// How many places are taken.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is no server.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// All servers, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter()
    }

    /// Counts a session that refers to the server at `place`.
    pub(super) fn hold(&mut self, place: u16) {
        self.servers[usize::from(place)].sessions += 1;
    }

    /// The same, when it has left the table.
    pub(super) fn release(&mut self, place: u16) {
        self.servers[usize::from(place)].sessions -= 1;
    }

    /// Takes over a new list. Servers that left it keep their place with no protected port for as long as
    /// [`Server::keeps_its_place`] says; of services that stayed under the same overrides, what was learned
    /// is kept. `renewed` is told each place that goes to another server. Returns how many servers found no
    /// place: the control thread asks before, so that there is none.
    pub fn install(
        &mut self,
        protected: &[ProtectedServer],
        tick: u32,
        mut renewed: impl FnMut(u16),
    ) -> usize {
        for server in self.servers.iter_mut() {
            if !server.ports.is_empty() {
                server.ports.clear();
                server.gone = tick;
            }
            server.is_wanted = false;
        }
        // Those that are here keep their places before others are given away.
        for wanted in protected {
            if let Some(place) = self.find(wanted.address) {
                self.servers[usize::from(place)].is_wanted = true;
            }
        }
        let (mut refused, mut next) = (0, 0);
        for wanted in protected {
            let place = match self.find(wanted.address) {
                Some(place) => place,
                None => match self.add(wanted.address, tick, &mut next) {
                    Some((place, is_renewed)) => {
                        if is_renewed {
                            renewed(place);
                        }
                        place
                    }
                    None => {
                        refused += 1;
                        continue;
                    }
                },
            };
            let server = &mut self.servers[usize::from(place)];
            for range in &wanted.ports {
                let _ = server.ports.try_push(range.clone());
            }
            server.is_changed |= server.overrides != wanted.overrides;
            server.overrides = wanted.overrides;
        }
        self.keep_what_is_protected();
        self.changes += 1;
        refused
    }

    /// Forgets what was learned of services that are not protected any more, or whose overrides have
    /// changed.
    fn keep_what_is_protected(&mut self) {
        let (servers, services) = (&mut self.servers, &mut self.services);
        services.retain(|service| {
            let server = &servers[usize::from(service.place())];
            !server.is_changed && server.protects(service.port())
        });
        for server in servers.iter_mut() {
            let is_kept = server.heard_of.is_some_and(|port| server.protects(port));
            if server.is_changed || !is_kept {
                server.forget();
            }
            server.is_changed = false;
            server.is_learned = false;
        }
        for service in services.iter() {
            let server = &mut servers[usize::from(service.place())];
            server.is_learned |= service.is_learned;
            if server.heard_of.is_none() {
                server.heard_of = Some(service.port());
                server.traits = service.traits;
            }
        }
    }

    /// A place for a new server, and whether it was another's. Places below `next` are not looked at.
    fn add(&mut self, address: Address, tick: u32, next: &mut usize) -> Option<(u16, bool)> {
        let server = Server::new(address);
        let place = self.servers.len() as u16;
        let is_renewed = self.servers.len() == MAX_PLACES;
        let place = if is_renewed {
            let is_free = |one: &Server| !one.is_wanted && !one.keeps_its_place(tick);
            let free = self.servers.iter().skip(*next).position(is_free)? + *next;
            *next = free + 1;
            self.unlink(free as u16);
            self.servers[free] = server;
            free as u16
        } else {
            self.servers.push(server);
            place
        };
        let mut slot = Self::slot_of(address);
        while self.slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        self.slots[slot] = place;
        Some((place, is_renewed))
    }

    /// Has a server be found no more, and those behind it that are found by way of its slot move up.
    fn unlink(&mut self, place: u16) {
        let home = |place: u16| Self::slot_of(self.servers[usize::from(place)].address);
        let mut hole = home(place);
        while self.slots[hole] != place {
            hole = (hole + 1) % SLOTS;
        }
        let mut slot = hole;
        loop {
            slot = (slot + 1) % SLOTS;
            let other = self.slots[slot];
            if other == EMPTY {
                break;
            }
            let from_home = |to: usize| to.wrapping_sub(home(other)) % SLOTS;
            if from_home(hole) < from_home(slot) {
                self.slots[hole] = other;
                hole = slot;
            }
        }
        self.slots[hole] = EMPTY;
    }

    #[inline]
    fn slot_of(address: Address) -> usize {
        let bits = address.to_bits();
        let folded = (bits as u64 ^ (bits >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (folded >> (64 - SLOTS.trailing_zeros())) as usize
    }
}

impl Default for ServerTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
