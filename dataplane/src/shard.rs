//! Flow → worker: both directions of a connection meet on one worker, whether a NIC or this module
//! chose it.
//!
//! Where a NIC chooses, the hash is the Toeplitz hash of receive-side scaling (RSS) under a key of one
//! repeated 16-bit word, which is drawn at every start. Only such a key makes it symmetric: of IPv4's
//! twelve bytes each bit of the source must meet the same 32 bits of key as that of the destination,
//! and each of the ports likewise. It also makes it a function of the exclusive-or of the input's
//! 16-bit words alone, so that it costs a few instructions in software.
//!
//! Such a key hides little. It has 2¹⁵ values; and packets whose words have one exclusive-or fall on
//! one worker under any of them, though nobody outside knows on which. So where no NIC chooses, the
//! hash is another one, under a secret of 256 bits.

use crate::io::WorkerId;
use crate::limits::MAX_WORKERS;
use crate::parse::{Fragment, Kind, Parsed, protocol};
use crate::wire::address::Address;

/// The word of the key where nothing is drawn, as in tests and simulations.
const KNOWN_WORD: u16 = bindings::port::RSS_KEY_WORD;

/// A word for an RSS key, of one that was drawn. Its weight is odd, so that no two inputs whose words
/// fold differently have the same hash.
pub const fn key_word(drawn: u16) -> u16 {
    drawn ^ (drawn.count_ones() & 1 ^ 1) as u16
}

/// Entries of the table from a hash's low bits to a worker, as NICs are given it.
pub const INDIRECTION_ENTRIES: usize = bindings::port::RSS_INDIRECTION_ENTRIES as usize;

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
}

/// What the octets 0 to 255 at an even place of the input add to either half of the hash; at an
/// odd place it is the same turned by eight bits, as the key is.
fn octet_hashes(key_word: u16) -> [u16; 256] {
    std::array::from_fn(|octet| {
        (0..8)
            .filter(|place| octet << place & 0x80 != 0)
            .fold(0, |hash, place| hash ^ key_word.rotate_left(place))
    })
}

/// The two halves of a product, folded into one.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// A hash that whoever does not know `secret` can aim at nothing; either direction's is the same.
#[inline]
fn secret_hash(secret: &[u64; 4], tuple: &Tuple) -> u32 {
    /// An odd number whose bits look random (the golden ratio's).
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let end = |address: Address, port: u16| {
        let bits = address.to_bits();
        let address = fold(bits as u64 ^ secret[0], (bits >> 64) as u64 ^ secret[1]);
        fold(address ^ secret[2], u64::from(port) ^ secret[3])
    };
    let source = end(tuple.source, tuple.source_port);
    let destination = end(tuple.destination, tuple.destination_port);
    fold(source.wrapping_add(destination), MIX) as u32
}

/// Which worker owns a flow.
#[derive(Clone, Debug)]
pub struct Shard {
    indirection: [WorkerId; INDIRECTION_ENTRIES],
    /// See [`octet_hashes`].
    octet_hashes: [u16; 256],
    /// Where no NIC need agree.
    secret: Option<[u64; 4]>,
}

impl Shard {
    /// Spreads flows evenly over workers 0 to `workers` - 1, of whom there are 1 to
    /// [`MAX_WORKERS`], by a key that everybody knows: for tests and simulations.
    pub fn new(workers: usize) -> Self {
        Self::as_nics(workers, KNOWN_WORD)
    }

    /// The same, as NICs do whose key is `key_word`, repeated.
    pub fn as_nics(workers: usize, key_word: u16) -> Self {
        let workers = workers.clamp(1, MAX_WORKERS);
        Self {
            indirection: std::array::from_fn(|entry| WorkerId((entry % workers) as u8)),
            octet_hashes: octet_hashes(key_word),
            secret: None,
        }
    }

    /// The same, by a hash that no NIC need agree with.
    pub fn in_secret(workers: usize, secret: [u64; 4]) -> Self {
        Self {
            secret: Some(secret),
            ..Self::new(workers)
        }
    }

    /// The RSS hash: what a NIC with this key computes for a packet.
    #[inline]
    fn rss_hash(&self, tuple: &Tuple) -> u32 {
        // What maps an IPv4 address into sixteen bytes cancels out.
        let addresses = tuple.source.to_bits() ^ tuple.destination.to_bits();
        let words = addresses as u64 ^ (addresses >> 64) as u64;
        let words = words as u32 ^ (words >> 32) as u32;
        let word = words as u16 ^ (words >> 16) as u16;
        let hash = self.hash_word(word ^ tuple.source_port ^ tuple.destination_port);
        u32::from(hash) << 16 | u32::from(hash)
    }

    /// Either half of the hash of an input whose 16-bit words fold to `word`.
    #[inline]
    fn hash_word(&self, word: u16) -> u16 {
        let [even, odd] = word.to_be_bytes();
        self.octet_hashes[usize::from(even)] ^ self.octet_hashes[usize::from(odd)].rotate_left(8)
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
        self.worker_of_hash(match &self.secret {
            None => self.rss_hash(tuple),
            Some(secret) => secret_hash(secret, tuple),
        })
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

    fn repeated<const N: usize>(word: u16) -> [u8; N] {
        std::array::from_fn(|index| word.to_be_bytes()[index % 2])
    }

    /// Drawn once, for tests.
    const SECRET: [u64; 4] = [
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    ];

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
        for drawn in [0, 1, 0x6d5a, 0xffff, 0x8421] {
            let shard = Shard::as_nics(1, key_word(drawn));
            let mut seen = vec![false; 1 << 16];
            for word in 0..=u16::MAX {
                seen[usize::from(shard.hash_word(word))] = true;
            }
            assert!(seen.iter().all(|&seen| seen), "{drawn:x}");
        }
        assert_eq!(key_word(KNOWN_WORD), KNOWN_WORD);
    }

    #[test]
    fn workers_get_equal_shares_of_clients_ports() {
        for (workers, secret) in [1, 2, 3, 7, 64]
            .into_iter()
            .flat_map(|n| [(n, false), (n, true)])
        {
            let shard = match secret {
                false => Shard::new(workers),
                true => Shard::in_secret(workers, SECRET),
            };
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
        let shard = Shard::new(1);
        let by_addresses = toeplitz(&repeated::<40>(KNOWN_WORD), &input(&tuple, false));
        assert_eq!(Tuple::of(&whole), tuple);
        for fragment in [Fragment::First, Fragment::Later] {
            let parsed = Parsed { fragment, ..whole };
            assert_eq!(shard.rss_hash(&Tuple::of(&parsed)), by_addresses);
        }
        for protocol in [protocol::ICMP, protocol::ICMPV6, 50, 132] {
            let parsed = Parsed { protocol, ..whole };
            assert_eq!(shard.rss_hash(&Tuple::of(&parsed)), by_addresses);
        }
    }

    #[test]
    fn an_icmp_error_meets_the_session_of_the_packet_it_quotes() {
        // CASES 12
        for shard in [Shard::new(64), Shard::in_secret(64, SECRET)] {
            for port in 1_024..2_048 {
                let sent = tuple("10.0.0.10", 443, "198.51.100.7", port);
                let came = tuple("198.51.100.7", port, "10.0.0.10", 443);
                assert_eq!(shard.worker_of_tuple(&sent), shard.worker_of_tuple(&came));
            }
        }
    }

    /// How many of the flows each worker gets.
    fn shares(shard: &Shard, flows: &[Tuple]) -> [usize; 4] {
        let mut shares = [0; 4];
        for flow in flows {
            shares[usize::from(shard.worker_of_tuple(flow).0)] += 1;
        }
        shares
    }

    #[test]
    fn f4_a_flood_that_is_aimed_by_one_key_misses_under_another() {
        // All on one worker by the known key, whatever their words fold to.
        let known = Shard::new(4);
        let flows: Vec<Tuple> = (0..=u16::MAX)
            .map(|port| tuple("198.51.100.7", port, "10.0.0.10", 443))
            .filter(|flow| known.worker_of_tuple(flow) == WorkerId(0))
            .collect();
        assert!(flows.len() > 15_000);
        for drawn in [0x1234, 0xbeef, 0x7001] {
            let shares = shares(&Shard::as_nics(4, key_word(drawn)), &flows);
            assert!(
                shares.iter().all(|share| *share > flows.len() / 6),
                "{shares:?}"
            );
        }
    }

    #[test]
    fn f4_words_that_fold_alike_meet_on_a_nic_and_not_where_none_chooses() {
        let flows: Vec<Tuple> = (0..10_000u16)
            .map(|number| Tuple {
                source: Address::from_v4((0xc633_0000 | u32::from(number)).to_be_bytes()),
                source_port: number ^ 0x5a5a,
                ..tuple("198.51.100.7", 0, "10.0.0.10", 443)
            })
            .collect();
        let on_nic = shares(&Shard::as_nics(4, key_word(0xbeef)), &flows);
        assert!(on_nic.contains(&10_000), "{on_nic:?}");
        let in_secret = shares(&Shard::in_secret(4, SECRET), &flows);
        assert!(
            in_secret.iter().all(|share| (2_300..2_700).contains(share)),
            "{in_secret:?}"
        );
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
        fn it_is_the_toeplitz_hash_of_either_length_of_key_and_direction(
            tuple in tuples(), drawn in any::<u16>(), secret in any::<[u64; 4]>(),
        ) {
            let word = key_word(drawn);
            let shard = Shard::as_nics(13, word);
            let hash = shard.rss_hash(&tuple);
            prop_assert_eq!(hash, toeplitz(&repeated::<40>(word), &input(&tuple, true)));
            prop_assert_eq!(hash, toeplitz(&repeated::<52>(word), &input(&tuple, true)));
            let back = Tuple {
                source: tuple.destination,
                destination: tuple.source,
                source_port: tuple.destination_port,
                destination_port: tuple.source_port,
            };
            prop_assert_eq!(hash, toeplitz(&repeated::<40>(word), &input(&back, true)));
            for shard in [&shard, &Shard::in_secret(13, secret)] {
                prop_assert_eq!(shard.worker_of_tuple(&tuple), shard.worker_of_tuple(&back));
            }
            prop_assert_eq!(
                shard.worker_of_tuple(&tuple),
                shard.indirection()[hash as usize & 127]
            );
        }
    }
}
