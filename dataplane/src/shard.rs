//! Flow → worker: both directions of a connection meet on one worker, whether a NIC or this module
//! chose it.
//!
//! The hash is the Toeplitz hash of receive-side scaling (RSS) under a key of one repeated 16-bit
//! word. Such a key makes it symmetric, and makes it a function of the exclusive-or of the input's
//! 16-bit words alone, so that it costs a few instructions in software.

use crate::io::WorkerId;
use crate::limits::MAX_WORKERS;
use crate::parse::{Fragment, Kind, Parsed, protocol};
use crate::wire::address::Address;

/// The key's repeated word. Its weight is odd, so that no two inputs whose words fold differently
/// have the same hash.
const KEY_WORD: u16 = bindings::port::RSS_KEY_WORD;

/// The RSS key for NICs that take 40 bytes.
pub const RSS_KEY: [u8; 40] = repeated();
/// The RSS key for NICs that take 52 bytes.
pub const RSS_KEY_52: [u8; 52] = repeated();

/// Entries of the table from a hash's low bits to a worker, as NICs are given it.
pub const INDIRECTION_ENTRIES: usize = bindings::port::RSS_INDIRECTION_ENTRIES as usize;

const fn repeated<const N: usize>() -> [u8; N] {
    let mut key = [0; N];
    let mut index = 0;
    while index < N {
        key[index] = KEY_WORD.to_be_bytes()[index % 2];
        index += 1;
    }
    key
}

/// What decides a packet's worker; either direction's will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
}

impl Tuple {
    /// Of TCP and UDP, addresses and ports. Of other protocols and of every fragment, addresses
    /// alone: as NICs do it, and so that all fragments of a datagram meet.
    #[inline]
    pub fn of(parsed: &Parsed) -> Self {
        let has_ports = matches!(parsed.protocol, protocol::TCP | protocol::UDP)
            && parsed.fragment == Fragment::Whole;
        Self {
            source: parsed.source,
            destination: parsed.destination,
            source_port: if has_ports { parsed.source_port } else { 0 },
            destination_port: if has_ports {
                parsed.destination_port
            } else {
                0
            },
        }
    }

    /// The RSS hash: what a NIC with [`RSS_KEY`] computes for this packet.
    #[inline]
    pub fn rss_hash(&self) -> u32 {
        // What maps an IPv4 address into sixteen bytes cancels out.
        let addresses = self.source.to_bits() ^ self.destination.to_bits();
        let words = addresses as u64 ^ (addresses >> 64) as u64;
        let words = words as u32 ^ (words >> 32) as u32;
        let word = words as u16 ^ (words >> 16) as u16;
        let hash = hash_word(word ^ self.source_port ^ self.destination_port);
        u32::from(hash) << 16 | u32::from(hash)
    }
}

/// What the octets 0 to 255 at an even place of the input add to either half of the hash; at an
/// odd place it is the same turned by eight bits, as the key is.
const OCTET_HASHES: [u16; 256] = {
    let mut hashes = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let mut place = 0;
        while place < 8 {
            if octet << place & 0x80 != 0 {
                hashes[octet] ^= KEY_WORD.rotate_left(place);
            }
            place += 1;
        }
        octet += 1;
    }
    hashes
};

/// Either half of the hash of an input whose 16-bit words fold to `word`.
#[inline]
fn hash_word(word: u16) -> u16 {
    let [even, odd] = word.to_be_bytes();
    OCTET_HASHES[usize::from(even)] ^ OCTET_HASHES[usize::from(odd)].rotate_left(8)
}

/// Which worker owns a flow.
#[derive(Clone, Debug)]
pub struct Shard {
    indirection: [WorkerId; INDIRECTION_ENTRIES],
}

impl Shard {
    /// Spreads flows evenly over workers 0 to `workers` - 1, of whom there are 1 to
    /// [`MAX_WORKERS`].
    pub fn new(workers: usize) -> Self {
        let workers = workers.clamp(1, MAX_WORKERS);
        Self {
            indirection: std::array::from_fn(|entry| WorkerId((entry % workers) as u8)),
        }
    }

    /// The table from the low bits of the hash to a worker, to be given to NICs.
    pub fn indirection(&self) -> &[WorkerId; INDIRECTION_ENTRIES] {
        &self.indirection
    }

    /// The worker of a packet; worker 0 for one that is not IP. An ICMP error goes by
    /// [`worker_of_tuple`](Self::worker_of_tuple) instead.
    #[inline]
    pub fn worker_of(&self, parsed: &Parsed) -> WorkerId {
        match parsed.kind {
            Kind::Ip => self.worker_of_tuple(&Tuple::of(parsed)),
            Kind::Arp => self.indirection[0],
        }
    }

    /// The worker of a tuple. That of the packet which an ICMP error quotes leads to the worker of
    /// the quoted packet's session.
    #[inline]
    pub fn worker_of_tuple(&self, tuple: &Tuple) -> WorkerId {
        self.worker_of_hash(tuple.rss_hash())
    }

    /// The worker to which a NIC sends what it hashed to `rss_hash`.
    #[inline]
    pub fn worker_of_hash(&self, rss_hash: u32) -> WorkerId {
        self.indirection[rss_hash as usize % INDIRECTION_ENTRIES]
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::address::Family;

    /// The Toeplitz hash as it is defined: for each input bit that is set, the 32 key bits from
    /// its place on.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let mut hash = 0;
        for bit in 0..input.len() * 8 {
            if input[bit / 8] >> (7 - bit % 8) & 1 != 0 {
                let window = (0..32).fold(0, |window, offset| {
                    let place = bit + offset;
                    window << 1 | u32::from(key[place / 8] >> (7 - place % 8) & 1)
                });
                hash ^= window;
            }
        }
        hash
    }

    fn input(tuple: &Tuple, with_ports: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for address in [tuple.source, tuple.destination] {
            match address.family() {
                Family::V4 => bytes.extend(address.v4_octets()),
                Family::V6 => bytes.extend(address.octets()),
            }
        }
        if with_ports {
            bytes.extend(tuple.source_port.to_be_bytes());
            bytes.extend(tuple.destination_port.to_be_bytes());
        }
        bytes
    }

    fn tuple(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Tuple {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        Tuple {
            source: address(source),
            destination: address(destination),
            source_port,
            destination_port,
        }
    }

    /// The verification suite that Microsoft publishes with the definition of RSS.
    #[test]
    fn the_plain_hash_agrees_with_the_published_vectors() {
        const KEY: [u8; 40] = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let vectors = [
            (
                tuple("66.9.149.187", 2794, "161.142.100.80", 1766),
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                tuple("199.92.111.2", 14230, "65.69.140.83", 4739),
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                tuple("24.19.198.95", 12898, "12.22.207.184", 38024),
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                tuple("38.27.205.30", 48228, "209.142.163.6", 2217),
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                tuple("153.39.163.191", 44251, "202.188.127.2", 1303),
                0x5d18_09c5,
                0x10e8_28a2,
            ),
            (
                tuple("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766),
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                tuple("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739),
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                tuple(
                    "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                    44251,
                    "fe80::200:f8ff:fe21:67cf",
                    38024,
                ),
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for (tuple, by_addresses, by_ports) in vectors {
            assert_eq!(
                toeplitz(&KEY, &input(&tuple, false)),
                by_addresses,
                "{tuple:?}"
            );
            assert_eq!(toeplitz(&KEY, &input(&tuple, true)), by_ports, "{tuple:?}");
        }
    }

    #[test]
    fn every_fold_of_the_words_has_its_own_hash() {
        let mut seen = vec![false; 1 << 16];
        for word in 0..=u16::MAX {
            seen[usize::from(hash_word(word))] = true;
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn workers_get_equal_shares_of_clients_ports() {
        for workers in [1, 2, 3, 7, 64] {
            let shard = Shard::new(workers);
            let mut flows = vec![0u32; workers];
            for port in 0..=u16::MAX {
                let tuple = tuple("198.51.100.7", port, "10.0.0.10", 443);
                flows[usize::from(shard.worker_of_tuple(&tuple).0)] += 1;
            }
            let share = 65_536 / workers as u32;
            for flows in flows {
                assert!(
                    flows >= share / 2 && flows <= share * 2,
                    "{workers}: {flows}"
                );
            }
        }
    }

    #[test]
    fn fragments_and_other_protocols_go_by_their_addresses() {
        // CASES 13
        let tuple = tuple("198.51.100.7", 4_000, "10.0.0.10", 443);
        let whole = Parsed {
            source: tuple.source,
            destination: tuple.destination,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
            protocol: protocol::TCP,
            ..Parsed::default()
        };
        let by_addresses = toeplitz(&RSS_KEY, &input(&tuple, false));
        assert_eq!(Tuple::of(&whole), tuple);
        for fragment in [Fragment::First, Fragment::Later] {
            let parsed = Parsed { fragment, ..whole };
            assert_eq!(Tuple::of(&parsed).rss_hash(), by_addresses);
        }
        for protocol in [protocol::ICMP, protocol::ICMPV6, 50, 132] {
            let parsed = Parsed { protocol, ..whole };
            assert_eq!(Tuple::of(&parsed).rss_hash(), by_addresses);
        }
    }

    #[test]
    fn an_icmp_error_meets_the_session_of_the_packet_it_quotes() {
        // CASES 12
        let shard = Shard::new(64);
        for port in 1_024..2_048 {
            let sent = tuple("10.0.0.10", 443, "198.51.100.7", port);
            let came = tuple("198.51.100.7", port, "10.0.0.10", 443);
            assert_eq!(shard.worker_of_tuple(&sent), shard.worker_of_tuple(&came));
        }
    }

    #[test]
    fn what_is_not_ip_has_a_worker() {
        let arp = Parsed {
            kind: Kind::Arp,
            ..Parsed::default()
        };
        assert_eq!(Shard::new(5).worker_of(&arp), WorkerId(0));
        assert_eq!(Shard::new(0).worker_of(&arp), WorkerId(0));
    }

    fn address() -> impl Strategy<Value = Address> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(Address::from_v4),
            any::<[u8; 16]>().prop_map(Address::from_v6),
        ]
    }

    fn tuples() -> impl Strategy<Value = Tuple> {
        (address(), any::<[u8; 16]>(), any::<u16>(), any::<u16>()).prop_map(
            |(source, other, source_port, destination_port)| {
                let destination = match source.family() {
                    Family::V4 => Address::from_v4([other[0], other[1], other[2], other[3]]),
                    Family::V6 => Address::from_v6(other),
                };
                Tuple {
                    source,
                    destination,
                    source_port,
                    destination_port,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn it_is_the_toeplitz_hash_of_either_key_and_direction(tuple in tuples()) {
            let hash = tuple.rss_hash();
            prop_assert_eq!(hash, toeplitz(&RSS_KEY, &input(&tuple, true)));
            prop_assert_eq!(hash, toeplitz(&RSS_KEY_52, &input(&tuple, true)));
            let back = Tuple {
                source: tuple.destination,
                destination: tuple.source,
                source_port: tuple.destination_port,
                destination_port: tuple.source_port,
            };
            prop_assert_eq!(hash, toeplitz(&RSS_KEY, &input(&back, true)));
            let shard = Shard::new(13);
            prop_assert_eq!(shard.worker_of_tuple(&tuple), shard.worker_of_tuple(&back));
            prop_assert_eq!(
                shard.worker_of_tuple(&tuple),
                shard.indirection()[hash as usize & 127]
            );
        }
    }
}
