//! The addresses of every test: subjects differ, addresses do not.
//!
//! ```text
//!   198.18.0.0/16 ─ tester .254 ── 192.0.2.0/24 ── .1 subject .1 ── 10.0.0.0/24 ── .254 tester ─ 198.19.0.0/16
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use lab::address::{GUARD_INSIDE, GUARD_OUTSIDE, ROUTER, SERVER};

use super::ground::Settings;
use crate::wiring::{Side, Wiring};

/// The tester's addresses on the outside link.
pub(super) const TESTER_OUTSIDE: [IpAddr; 2] = ROUTER;
/// The tester's addresses on the inside link.
pub(super) const TESTER_INSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xfe)),
];
/// The subject's addresses on the outside link.
pub(super) const SUBJECT_OUTSIDE: [IpAddr; 2] = GUARD_OUTSIDE;
/// The subject's addresses on the inside link.
pub(super) const SUBJECT_INSIDE: [IpAddr; 2] = GUARD_INSIDE;
/// Where clients are: half of the nets for benchmarks (RFC 2544 §C.2.2, RFC 5180 §8).
pub(super) const CLIENTS: [&str; 2] = ["198.18.0.0/16", "2001:2::/49"];
/// Where servers are: the other half.
pub(super) const SERVERS: [&str; 2] = ["198.19.0.0/16", "2001:2:0:8000::/49"];

/// The server of a number, counted from 1, in both families.
pub(super) fn server(number: u16) -> [IpAddr; 2] {
    let [high, low] = number.to_be_bytes();
    [
        Ipv4Addr::new(198, 19, high, low).into(),
        Ipv6Addr::new(0x2001, 2, 0, 0x8000, 0, 0, 0, number).into(),
    ]
}

/// Servers of both families that are neighbours of the subject where attacks come.
pub(super) const NEIGHBOUR: [IpAddr; 2] = SERVER;

/// Bits of the inside IPv4 network: where it is scanned there must be something to look for.
pub(super) const fn inside_bits(settings: &Settings) -> u8 {
    if settings.under_attack { 16 } else { 24 }
}

/// The protected servers.
pub(super) fn servers(settings: &Settings) -> impl Iterator<Item = IpAddr> {
    let neighbours = settings.under_attack.then_some(NEIGHBOUR);
    (1..=settings.servers)
        .flat_map(server)
        .chain(neighbours.into_iter().flatten())
}

/// A station address for one of the tester's two devices before subject `number`.
pub(super) fn station(number: u8, side: u8) -> [u8; 6] {
    [0x02, 0x74, 0x65, 0x73, number, side]
}

/// A station address as people and programs write it.
pub(super) fn station_text(station: [u8; 6]) -> String {
    station.map(|octet| format!("{octet:02x}")).join(":")
}

/// Whom the tester's frames are sent to.
pub(super) enum FirstHop {
    /// The subject, which is asked for its station address.
    Asked,
    /// These stations, on the outside and on the inside link.
    Known([[u8; 6]; 2]),
}

/// The wiring for devices of the tester's.
pub(super) fn wiring(devices: [String; 2], first_hop: &FirstHop, settings: &Settings) -> Wiring {
    let [outside, inside] = devices;
    let (gateways, stations) = match first_hop {
        FirstHop::Asked => (
            [SUBJECT_OUTSIDE.to_vec(), SUBJECT_INSIDE.to_vec()],
            [None; 2],
        ),
        FirstHop::Known(stations) => ([Vec::new(), Vec::new()], stations.map(Some)),
    };
    let [outside_gateways, inside_gateways] = gateways;
    Wiring {
        outside: Side {
            device: outside,
            addresses: on_link(TESTER_OUTSIDE, 24),
            networks: CLIENTS.iter().filter_map(|net| net.parse().ok()).collect(),
            gateways: outside_gateways,
            station: stations[0],
        },
        inside: Side {
            device: inside,
            addresses: on_link(TESTER_INSIDE, inside_bits(settings)),
            networks: servers(settings).map(IpNetwork::from).collect(),
            gateways: inside_gateways,
            station: stations[1],
        },
        is_physical: false,
    }
}

fn on_link(addresses: [IpAddr; 2], ipv4_bits: u8) -> Vec<IpNetwork> {
    let network = |address| match address {
        IpAddr::V4(address) => Ipv4Network::new(address, ipv4_bits).map(IpNetwork::V4),
        IpAddr::V6(address) => Ipv6Network::new(address, 64).map(IpNetwork::V6),
    };
    addresses
        .into_iter()
        .filter_map(|address| network(address).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_lie_in_the_net_that_subjects_route_inwards() {
        for (net, address) in SERVERS.iter().zip(server(4)) {
            assert!(net.parse::<IpNetwork>().unwrap().contains(address));
        }
    }

    #[test]
    fn a_wiring_has_the_same_addresses_whoever_the_subject_is() {
        let devices = || ["a".to_owned(), "b".to_owned()];
        let settings = Settings::default();
        let asked = wiring(devices(), &FirstHop::Asked, &settings);
        let known = FirstHop::Known([station(1, 2), station(1, 1)]);
        let known = wiring(devices(), &known, &settings);
        assert_eq!(asked.outside.networks, known.outside.networks);
        assert_eq!(asked.inside.addresses, known.inside.addresses);
        assert_eq!(asked.outside.gateways.len(), 2);
        assert_eq!(known.inside.station, Some([2, 0x74, 0x65, 0x73, 1, 1]));
        assert_eq!(asked.outside.addresses[0].to_string(), "192.0.2.254/24");
        assert_eq!(asked.inside.addresses[1].to_string(), "fd00:1::fe/64");
    }
}
