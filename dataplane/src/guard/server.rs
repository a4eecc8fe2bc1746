//! The protected servers and what is known of each, service by service.

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;

use super::config::{ProtectedServer, ServerOverrides};
use super::service::{Service, ServiceTable};
use crate::limits::{MAX_PORT_RANGES, MAX_PROBED_PORTS, MAX_SERVERS};
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
    pub(super) const fn assumed(family: Family) -> Self {
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

const SLOTS: usize = (MAX_SERVERS * 2).next_power_of_two();
const EMPTY: u16 = u16::MAX;

/// The protected servers, found by address, and their services. A server keeps its place for as long as the guard
/// lives, since sessions refer to it.
#[derive(Debug)]
pub struct ServerTable {
    servers: ArrayVec<Server, MAX_SERVERS>,
    slots: Box<[u16; SLOTS]>,
    services: ServiceTable,
    changes: u64,
}

impl ServerTable {
    /// No server.
    pub fn new() -> Self {
        Self {
            servers: ArrayVec::new(),
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

    /// Takes over a new list. Servers that left it keep their place with no protected port; of
    /// services that stayed under the same overrides, what was learned is kept. Returns how many
    /// servers found no place any more.
    pub fn install(&mut self, protected: &[ProtectedServer]) -> usize {
        self.servers
            .iter_mut()
            .for_each(|server| server.ports.clear());
        let mut refused = 0;
        for wanted in protected {
            let place = match self.find(wanted.address) {
                Some(place) => place,
                None => match self.add(wanted.address) {
                    Some(place) => place,
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

    fn add(&mut self, address: Address) -> Option<u16> {
        let place = self.servers.len() as u16;
        self.servers
            .try_push(Server {
                address,
                ports: ArrayVec::new(),
                is_learned: false,
                traits: ServerTraits::assumed(address.family()),
                heard_of: None,
                overrides: ServerOverrides::default(),
                is_changed: false,
            })
            .ok()?;
        let mut slot = Self::slot_of(address);
        while self.slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        self.slots[slot] = place;
        Some(place)
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
mod tests {
    use super::*;
    use crate::limits::MAX_SERVICES;

    fn server(last: u8) -> ProtectedServer {
        ProtectedServer {
            address: Address::from_v4([10, 0, 0, last]),
            ports: [80..=80, 8000..=8099].into_iter().collect(),
            overrides: ServerOverrides::default(),
        }
    }

    const EVERYTHING: Offered = Offered {
        window_scale: true,
        sack: true,
        timestamps: true,
        ecn: true,
    };

    fn options(mss: u16, window_scale: Option<u8>) -> TcpOptions {
        TcpOptions {
            mss: Some(mss),
            window_scale,
            ..TcpOptions::default()
        }
    }

    fn heard(options: &TcpOptions, window: u16) -> Heard<'_> {
        Heard {
            offered: EVERYTHING,
            options,
            window,
            ecn: false,
        }
    }

    #[test]
    fn a_server_keeps_its_place_and_what_was_learned_across_a_reload() {
        let mut table = ServerTable::new();
        table.install(&[server(1), server(2)]);
        let place = table.find(server(2).address).unwrap();
        assert!(table.learn(place, 80, &heard(&options(1400, None), 1000)));
        table.install(&[server(3), server(2)]);
        assert_eq!(table.find(server(2).address), Some(place));
        assert_eq!(table.traits(place, 80).mss, 1400);
        assert!(!table.traits(place, 80).timestamps);
        assert!(table.is_learned(place, 80) && table.get(place).is_learned);
        assert!(table.get(place).protects(8050) && !table.get(place).protects(81));
        let gone = table.find(server(1).address).unwrap();
        assert!(!table.get(gone).protects(80));
    }

    #[test]
    fn e1_each_service_is_known_by_itself_and_a_new_one_as_the_last() {
        let mut table = ServerTable::new();
        table.install(&[server(1), server(2)]);
        table.learn(0, 80, &heard(&options(1400, Some(10)), 64_000));
        table.learn(0, 8000, &heard(&options(1300, None), 5000));
        assert_eq!(table.traits(0, 80).window_scale, Some(10));
        assert_eq!(table.traits(0, 80).window, 64_000);
        assert_eq!(table.traits(0, 8000).window_scale, None);
        assert_eq!(table.traits(0, 8001), table.traits(0, 8000), "the last one");
        assert!(!table.is_learned(0, 8001));
        assert_eq!(table.traits(1, 80), ServerTraits::assumed(Family::V4));
        // What is not protected teaches nothing.
        table.learn(0, 22, &heard(&options(999, Some(1)), 1000));
        assert_eq!(table.traits(0, 22).mss, 1300);
    }

    #[test]
    fn e1_a_window_is_the_largest_since_the_service_is_known() {
        let mut table = ServerTable::new();
        table.install(&[server(1)]);
        assert_eq!(table.traits(0, 80).window, 64_240);
        for (offered, told) in [(5000, 5000), (0, 5000), (9000, 9000), (10, 9000)] {
            table.learn(0, 80, &heard(&options(1400, None), offered));
            assert_eq!(table.traits(0, 80).window, told);
        }
        table.learn(0, 8000, &heard(&options(1400, None), 3));
        assert_eq!(table.traits(0, 8000).window, 1400, "never below a segment");
    }

    #[test]
    fn e1_a_reload_forgets_services_that_left_and_what_was_said_of_them() {
        let mut table = ServerTable::new();
        table.install(&[server(1)]);
        table.learn(0, 80, &heard(&options(1400, Some(3)), 5000));
        table.learn(0, 8000, &heard(&options(1300, None), 6000));
        let mut less = server(1);
        less.ports = [80..=80].into_iter().collect();
        table.install(&[less]);
        assert_eq!(table.traits(0, 80).mss, 1400);
        assert_eq!(
            table.traits(0, 8000).mss,
            1400,
            "what is left of the address"
        );
        table.install(&[server(1)]);
        assert!(!table.is_learned(0, 8000));
        // Gone altogether, and back.
        table.install(&[server(2)]);
        assert!(!table.get(0).is_learned);
        table.install(&[server(1)]);
        assert_eq!(table.traits(0, 80), ServerTraits::assumed(Family::V4));
        // What was learned while a trait was set by hand is not what the server said.
        table.learn(0, 80, &heard(&options(1400, Some(3)), 5000));
        let mut fixed = server(1);
        fixed.overrides.window_scale = Some(None);
        table.install(&[fixed]);
        assert_eq!(table.traits(0, 80).window_scale, None);
        assert!(!table.is_learned(0, 80));
        table.install(&[server(1)]);
        assert_eq!(table.traits(0, 80).window_scale, Some(7));
    }

    #[test]
    fn e1_services_that_find_no_place_are_taken_to_be_alike() {
        let mut table = ServerTable::new();
        let mut wide = server(1);
        wide.ports = [1..=u16::MAX].into_iter().collect();
        table.install(&[wide]);
        let of_most = options(1400, Some(3));
        for port in 1..=MAX_SERVICES as u16 {
            assert!(table.learn(0, port, &heard(&of_most, 5000)));
        }
        assert!(!table.learn(0, 60_000, &heard(&options(1200, None), 4000)));
        assert_eq!(table.traits(0, 60_001).mss, 1200);
        assert_eq!(table.traits(0, 1).mss, 1400);
        assert!(table.is_learned(0, 60_000), "asking again would not help");
    }

    #[test]
    fn e1_small_lists_of_ports_are_asked_and_large_ones_are_not() {
        let ports = |ranges: &[RangeInclusive<u16>]| {
            let mut one = server(1);
            one.ports = ranges.iter().cloned().collect();
            let mut table = ServerTable::new();
            table.install(&[one]);
            table.get(0).probed_ports().collect::<Vec<_>>()
        };
        assert_eq!(ports(&[80..=80, 443..=445]), [80, 443, 444, 445]);
        assert_eq!(ports(&[0..=u16::MAX]), [0]);
        assert_eq!(ports(&[8000..=8099, 443..=443]), [8000, 443]);
        assert_eq!(ports(&[1..=5, 11..=15]).len(), MAX_PROBED_PORTS);
    }

    #[test]
    fn a_client_that_offers_less_leaves_the_rest_to_be_asked() {
        let mut table = ServerTable::new();
        table.install(&[server(1)]);
        let answer = options(1400, None);
        let plain = Offered {
            window_scale: false,
            sack: false,
            timestamps: false,
            ecn: false,
        };
        let less = Heard {
            offered: plain,
            ..heard(&answer, 1000)
        };
        table.learn(0, 80, &less);
        assert!(!table.is_learned(0, 80));
        assert!(table.traits(0, 80).timestamps, "still only assumed");
        table.learn(0, 80, &heard(&answer, 1000));
        assert!(table.is_learned(0, 80));
        assert!(!table.traits(0, 80).timestamps);
    }

    #[test]
    fn what_is_set_by_hand_is_not_learned() {
        let mut table = ServerTable::new();
        let mut fixed = server(1);
        fixed.overrides.mss = Some(1300);
        fixed.overrides.window_scale = Some(None);
        table.install(&[fixed]);
        assert_eq!(table.traits(0, 80).mss, 1300);
        table.learn(0, 80, &heard(&options(1400, Some(9)), 1000));
        assert_eq!(table.traits(0, 80).mss, 1300);
        assert_eq!(table.traits(0, 80).window_scale, None);
        assert_eq!(table.traits(0, 8000).window_scale, None);
    }

    #[test]
    fn a_full_table_says_how_many_it_refused() {
        let many: Vec<_> = (0..MAX_SERVERS + 3)
            .map(|n| ProtectedServer {
                address: Address::from_v4((0x0a00_0000 + n as u32).to_be_bytes()),
                ..server(0)
            })
            .collect();
        let mut table = ServerTable::new();
        assert_eq!(table.install(&many), 3);
        for (place, wanted) in many.iter().take(MAX_SERVERS).enumerate() {
            assert_eq!(table.find(wanted.address), Some(place as u16));
        }
    }
}
