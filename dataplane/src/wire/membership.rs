//! Reports that a station belongs to a group: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810).

use super::address::{Address, Family};
use super::bytes::put_u16;
use super::checksum::internet_checksum;
use super::icmpv6::complete_checksum;
use super::ipv4::{self, Ipv4Header, write_ipv4};
use super::ipv6::{self, Ipv6Header, write_ipv6};

/// The most octets of a packet that is written here.
pub const MAX_PACKET_BYTES: usize = ipv6::HEADER_BYTES + HOP_BY_HOP.len() + MLD_BYTES;

const IGMP: u8 = 2;
const HOP_BY_HOP_OPTIONS: u8 = 0;
const IGMP_REPORT: u8 = 0x22;
const MLD_REPORT: u8 = 143;
/// Nothing is excluded: all that is sent to the group is wanted (RFC 3376 §4.2.12).
const IS_EXCLUDE: u8 = 2;
const CHANGES_TO_EXCLUDE: u8 = 4;
/// A report's fields and one record without sources.
const FIELDS_BYTES: usize = 8;
const RECORD_BYTES: usize = 4;
const IGMP_BYTES: usize = FIELDS_BYTES + RECORD_BYTES + 4;
const MLD_BYTES: usize = FIELDS_BYTES + RECORD_BYTES + 16;
/// Routers look at it though it is not for them (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// The next header is ICMPv6; a router alert (RFC 2711), and padding.
const HOP_BY_HOP: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];
/// Internetwork control (RFC 3376 §4).
const DSCP_ECN: u8 = 0xc0;
/// All routers that do IGMPv3, and those that do MLDv2.
const IGMP_ROUTERS: Address = Address::from_v4([224, 0, 0, 22]);
const MLD_ROUTERS: Address = Address::from_bits(0xff02 << 112 | 0x16);

/// Where a report for a group of this family goes.
pub const fn routers(family: Family) -> Address {
    match family {
        Family::V4 => IGMP_ROUTERS,
        Family::V6 => MLD_ROUTERS,
    }
}

/// Whether a station tells that it belongs to `group`: all do to that of all stations, and a
/// broadcast address is none.
pub fn is_reported(group: Address) -> bool {
    let broadcast = Address::from_v4([255; 4]);
    let all_stations = [
        Address::from_v4([224, 0, 0, 1]),
        Address::from_bits(0xff02 << 112 | 1),
    ];
    group.is_multicast_or_broadcast() && group != broadcast && !all_stations.contains(&group)
}

/// Writes a packet that tells that its sender belongs to `group`, newly if `is_change`. `source` is
/// of the group's family, and link-local for IPv6. Gives back its octets; `None` if it does not
/// fit.
pub fn write_report(
    into: &mut [u8],
    source: Address,
    group: Address,
    is_change: bool,
) -> Option<usize> {
    let record = if is_change {
        CHANGES_TO_EXCLUDE
    } else {
        IS_EXCLUDE
    };
    match group.family() {
        Family::V4 => write_igmp(into, source, group, record),
        Family::V6 => write_mld(into, source, group, record),
    }
}

fn fill(message: &mut [u8], kind: u8, record: u8, group: &[u8]) {
    message.fill(0);
    message[0] = kind;
    // One record.
    message[7] = 1;
    message[FIELDS_BYTES] = record;
    message[FIELDS_BYTES + RECORD_BYTES..].copy_from_slice(group);
}

fn write_igmp(into: &mut [u8], source: Address, group: Address, record: u8) -> Option<usize> {
    let header_bytes = ipv4::HEADER_BYTES + ROUTER_ALERT.len();
    let total = header_bytes + IGMP_BYTES;
    let packet = into.get_mut(..total)?;
    write_ipv4(
        packet,
        &Ipv4Header {
            source,
            destination: IGMP_ROUTERS,
            protocol: IGMP,
            ttl: 1,
            total_bytes: total as u16,
            identification: 0,
            dont_fragment: true,
            dscp_ecn: DSCP_ECN,
        },
    );
    let (header, message) = packet.split_at_mut(header_bytes);
    header[0] = 0x40 | (header_bytes / 4) as u8;
    header[ipv4::HEADER_BYTES..].copy_from_slice(&ROUTER_ALERT);
    put_u16(header, 10, 0);
    let checksum = internet_checksum(header);
    put_u16(header, 10, checksum);
    fill(message, IGMP_REPORT, record, &group.v4_octets());
    let checksum = internet_checksum(message);
    put_u16(message, 2, checksum);
    Some(total)
}

fn write_mld(into: &mut [u8], source: Address, group: Address, record: u8) -> Option<usize> {
    let header_bytes = ipv6::HEADER_BYTES + HOP_BY_HOP.len();
    let total = header_bytes + MLD_BYTES;
    let packet = into.get_mut(..total)?;
    write_ipv6(
        packet,
        &Ipv6Header {
            source,
            destination: MLD_ROUTERS,
            protocol: HOP_BY_HOP_OPTIONS,
            hop_limit: 1,
            payload_bytes: (HOP_BY_HOP.len() + MLD_BYTES) as u16,
            dscp_ecn: DSCP_ECN,
            flow_label: 0,
        },
    );
    let (header, message) = packet.split_at_mut(header_bytes);
    header[ipv6::HEADER_BYTES..].copy_from_slice(&HOP_BY_HOP);
    fill(message, MLD_REPORT, record, &group.octets());
    complete_checksum(message, source, MLD_ROUTERS);
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{parse_network, protocol};
    use crate::wire::icmpv6::checksum_is_valid;

    #[test]
    fn a_report_of_igmp_is_as_rfc_3376_has_it() {
        let mut packet = [0xff; MAX_PACKET_BYTES];
        let source = Address::from_v4([10, 9, 0, 1]);
        let group = Address::from_v4([239, 192, 0, 1]);
        let length = write_report(&mut packet, source, group, true).unwrap();
        let packet = &packet[..length];
        let parsed = parse_network(packet).unwrap();
        assert_eq!((parsed.protocol, parsed.ttl), (IGMP, 1));
        assert_eq!(
            (parsed.source, parsed.destination),
            (source, Address::from_v4([224, 0, 0, 22]))
        );
        assert_eq!(internet_checksum(&packet[..24]), 0);
        let message = &packet[usize::from(parsed.transport)..];
        assert_eq!(internet_checksum(message), 0);
        assert_eq!(message[..2], [0x22, 0]);
        assert_eq!(message[4..], [0, 0, 0, 1, 4, 0, 0, 0, 239, 192, 0, 1]);
    }

    #[test]
    fn a_report_of_mld_is_as_rfc_3810_has_it() {
        let mut packet = [0xff; MAX_PACKET_BYTES];
        let source = Address::from_bits(0xfe80 << 112 | 7);
        let group = Address::from_bits(0xff02 << 112 | 0x4790);
        let length = write_report(&mut packet, source, group, false).unwrap();
        assert_eq!(length, MAX_PACKET_BYTES);
        let parsed = parse_network(&packet).unwrap();
        assert_eq!((parsed.protocol, parsed.ttl), (protocol::ICMPV6, 1));
        let routers = Address::from_bits(0xff02 << 112 | 0x16);
        assert_eq!((parsed.source, parsed.destination), (source, routers));
        let message = &packet[usize::from(parsed.transport)..];
        assert!(checksum_is_valid(message, source, routers));
        assert_eq!(message[..2], [143, 0]);
        assert_eq!(message[4..12], [0, 0, 0, 1, 2, 0, 0, 0]);
        assert_eq!(message[12..], group.octets());
    }

    #[test]
    fn broadcasts_and_the_group_of_all_are_not_reported() {
        for (octets, expected) in [
            ([239, 1, 2, 3], true),
            ([224, 0, 0, 1], false),
            ([255; 4], false),
            ([10, 0, 0, 255], false),
        ] {
            assert_eq!(is_reported(Address::from_v4(octets)), expected);
        }
        assert!(!is_reported(Address::from_bits(0xff02 << 112 | 1)));
        assert!(is_reported(Address::from_bits(0xff02 << 112 | 2)));
    }
}
