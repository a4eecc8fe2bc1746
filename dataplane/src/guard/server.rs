//! The protected servers and what is known of each.

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;

use super::config::{ProtectedServer, ServerOverrides};
use crate::limits::{MAX_PORT_RANGES, MAX_SERVERS};
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
    /// The window of its SYN-ACK, in octets.
    pub window: u16,
}

impl ServerTraits {
    /// What most servers do, assumed until one has answered.
    const fn assumed(family: Family) -> Self {
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

/// One protected server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address.
    pub address: Address,
    /// Its protected ports; none once a reload has taken it out.
    pub ports: ArrayVec<RangeInclusive<u16>, MAX_PORT_RANGES>,
    /// Whether it has answered a SYN that offered everything, so that its traits are its own.
    pub is_learned: bool,
    traits: ServerTraits,
    overrides: ServerOverrides,
}

impl Server {
    /// What the server does, as learned and overridden.
    #[inline]
    pub fn traits(&self) -> ServerTraits {
        self.traits
    }

    /// Whether `port` is protected.
    #[inline]
    pub fn protects(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    /// Takes the traits from a SYN-ACK. A trait that depends on what the SYN offered is only
    /// learned when `offered` had it.
    pub fn learn(&mut self, offered: Offered, options: &TcpOptions, window: u16, ecn: bool) {
        let known = self.traits;
        self.traits = ServerTraits {
            mss: options.mss.unwrap_or(match self.address.family() {
                Family::V4 => 536,
                Family::V6 => 1220,
            }),
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
            ecn: if offered.ecn { ecn } else { known.ecn },
            window,
        };
        // A SYN that offered less leaves something to ask the server.
        self.is_learned |= offered.window_scale && offered.sack && offered.timestamps;
        self.apply_overrides();
    }

    fn apply_overrides(&mut self) {
        let overrides = self.overrides;
        let traits = &mut self.traits;
        traits.mss = overrides.mss.unwrap_or(traits.mss);
        traits.window_scale = overrides.window_scale.unwrap_or(traits.window_scale);
        traits.sack = overrides.sack.unwrap_or(traits.sack);
        traits.timestamps = overrides.timestamps.unwrap_or(traits.timestamps);
        traits.ecn = overrides.ecn.unwrap_or(traits.ecn);
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

/// The protected servers, found by address. A server keeps its place for as long as the guard
/// lives, since sessions refer to it.
#[derive(Debug)]
pub struct ServerTable {
    servers: ArrayVec<Server, MAX_SERVERS>,
    slots: Box<[u16; SLOTS]>,
}

impl ServerTable {
    /// No server.
    pub fn new() -> Self {
        Self {
            servers: ArrayVec::new(),
            slots: Box::new([EMPTY; SLOTS]),
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

    /// The server at `place`.
    pub fn get_mut(&mut self, place: u16) -> &mut Server {
        &mut self.servers[usize::from(place)]
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

    /// Takes over a new list. Servers that left it keep their place with no protected port;
    /// servers that stayed keep what was learned. Returns how many found no place any more.
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
            let server = self.get_mut(place);
            for range in &wanted.ports {
                let _ = server.ports.try_push(range.clone());
            }
            server.overrides = wanted.overrides;
            server.apply_overrides();
        }
        refused
    }

    fn add(&mut self, address: Address) -> Option<u16> {
        let place = self.servers.len() as u16;
        self.servers
            .try_push(Server {
                address,
                ports: ArrayVec::new(),
                is_learned: false,
                traits: ServerTraits::assumed(address.family()),
                overrides: ServerOverrides::default(),
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

    fn server(last: u8) -> ProtectedServer {
        ProtectedServer {
            address: Address::from_v4([10, 0, 0, last]),
            ports: [80..=80, 8000..=8099].into_iter().collect(),
            overrides: ServerOverrides::default(),
        }
    }

    #[test]
    fn a_server_keeps_its_place_and_what_was_learned_across_a_reload() {
        let mut table = ServerTable::new();
        table.install(&[server(1), server(2)]);
        let place = table.find(server(2).address).unwrap();
        let options = TcpOptions {
            mss: Some(1400),
            ..TcpOptions::default()
        };
        let offered = Offered {
            window_scale: true,
            sack: true,
            timestamps: true,
            ecn: true,
        };
        table.get_mut(place).learn(offered, &options, 1000, false);
        table.install(&[server(3), server(2)]);
        assert_eq!(table.find(server(2).address), Some(place));
        assert_eq!(table.get(place).traits().mss, 1400);
        assert!(!table.get(place).traits().timestamps);
        assert!(table.get(place).protects(8050) && !table.get(place).protects(81));
        let gone = table.find(server(1).address).unwrap();
        assert!(!table.get(gone).protects(80));
    }

    #[test]
    fn a_client_that_offers_less_leaves_the_rest_to_be_asked() {
        let mut table = ServerTable::new();
        table.install(&[server(1)]);
        let answer = TcpOptions {
            mss: Some(1400),
            ..TcpOptions::default()
        };
        let plain = Offered {
            window_scale: false,
            sack: false,
            timestamps: false,
            ecn: false,
        };
        table.get_mut(0).learn(plain, &answer, 1000, false);
        assert!(!table.get(0).is_learned);
        assert!(table.get(0).traits().timestamps, "still only assumed");
        let all = Offered {
            window_scale: true,
            sack: true,
            timestamps: true,
            ecn: false,
        };
        table.get_mut(0).learn(all, &answer, 1000, false);
        assert!(table.get(0).is_learned);
        assert!(!table.get(0).traits().timestamps);
    }

    #[test]
    fn what_is_set_by_hand_is_not_learned() {
        let mut table = ServerTable::new();
        let mut fixed = server(1);
        fixed.overrides.mss = Some(1300);
        fixed.overrides.window_scale = Some(None);
        table.install(&[fixed]);
        let options = TcpOptions {
            mss: Some(1400),
            window_scale: Some(9),
            ..TcpOptions::default()
        };
        let offered = Offered {
            window_scale: true,
            sack: true,
            timestamps: true,
            ecn: true,
        };
        table.get_mut(0).learn(offered, &options, 1000, false);
        assert_eq!(table.get(0).traits().mss, 1300);
        assert_eq!(table.get(0).traits().window_scale, None);
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
