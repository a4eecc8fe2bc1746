//! Neighbour discovery for IPv6 (RFC 4861): solicitations and advertisements.

use crate::drop_reason::DropReason;
use crate::parse::protocol;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{octets16_at, put_u32, u32_at};
use crate::wire::ethernet::{MacAddress, mac_at, solicited_node};
use crate::wire::icmpv6::{checksum_is_valid, complete_checksum, kind};
use crate::wire::ipv6::{HEADER_BYTES, Ipv6Header, write_ipv6};

/// The hop limit that proves that a message comes from this link (RFC 4861 §7.1).
pub const HOP_LIMIT: u8 = 255;
/// The most octets of a packet that is written here.
pub const MAX_PACKET_BYTES: usize = HEADER_BYTES + MESSAGE_BYTES + LINK_LAYER_OPTION_BYTES;

/// Octets of a message before its options.
const MESSAGE_BYTES: usize = 24;
const LINK_LAYER_OPTION_BYTES: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

/// Who has the target address?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourSolicitation {
    /// The address asked for.
    pub target: Address,
    /// The asker's station; none when the asker only checks for a duplicate address.
    pub source_mac: Option<MacAddress>,
}

/// The target address stands at this station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourAdvertisement {
    /// The address.
    pub target: Address,
    /// The station; none when the asker must know it.
    pub target_mac: Option<MacAddress>,
    /// Whether it is a router.
    pub is_router: bool,
    /// Whether it answers a solicitation.
    pub is_solicited: bool,
    /// Whether it replaces what is known.
    pub is_override: bool,
}

/// A neighbour discovery message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ndp {
    /// A solicitation.
    Solicitation(NeighbourSolicitation),
    /// An advertisement.
    Advertisement(NeighbourAdvertisement),
}

/// Reads a message, from its ICMPv6 type to its end, and makes every check of RFC 4861 §7.1.
///
/// # Errors
/// [`DropReason::UnsolicitedNeighbour`] when one of them fails or the message is of another type;
/// [`DropReason::BadTransportChecksum`].
pub fn parse(
    message: &[u8],
    source: Address,
    destination: Address,
    hop_limit: u8,
) -> Result<Ndp, DropReason> {
    let Some((header, options)) = message.split_first_chunk::<MESSAGE_BYTES>() else {
        return Err(DropReason::UnsolicitedNeighbour);
    };
    let target = Address::from_v6(octets16_at(header, 8));
    if hop_limit != HOP_LIMIT || header[1] != 0 || !may_be_target(target) {
        return Err(DropReason::UnsolicitedNeighbour);
    }
    if !checksum_is_valid(message, source, destination) {
        return Err(DropReason::BadTransportChecksum);
    }
    let parsed = match header[0] {
        kind::NEIGHBOUR_SOLICITATION => {
            let source_mac = link_layer_option(options, SOURCE_LINK_LAYER)?;
            let probes = source == Address::UNSPECIFIED;
            if probes && (source_mac.is_some() || destination != solicited_node(target)) {
                return Err(DropReason::UnsolicitedNeighbour);
            }
            Ndp::Solicitation(NeighbourSolicitation { target, source_mac })
        }
        kind::NEIGHBOUR_ADVERTISEMENT => {
            let flags = u32_at(header, 4);
            let is_solicited = flags & SOLICITED != 0;
            if is_solicited && destination.is_multicast_or_broadcast() {
                return Err(DropReason::UnsolicitedNeighbour);
            }
            Ndp::Advertisement(NeighbourAdvertisement {
                target,
                target_mac: link_layer_option(options, TARGET_LINK_LAYER)?,
                is_router: flags & ROUTER != 0,
                is_solicited,
                is_override: flags & OVERRIDE != 0,
            })
        }
        _ => return Err(DropReason::UnsolicitedNeighbour),
    };
    Ok(parsed)
}

/// Not a group, and not an address that would alias an IPv4 neighbour.
fn may_be_target(target: Address) -> bool {
    target.family() == Family::V6
        && !target.is_multicast_or_broadcast()
        && target != Address::UNSPECIFIED
}

/// The first link-layer address option of `wanted` kind; every option must have a length that is
/// not 0 and stays within the message.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddress>, DropReason> {
    let mut found = None;
    while !options.is_empty() {
        let length = options.get(1).map_or(0, |units| usize::from(*units) * 8);
        if length == 0 || length > options.len() {
            return Err(DropReason::UnsolicitedNeighbour);
        }
        if options[0] == wanted && found.is_none() {
            let mac = mac_at(options, 2);
            if length != LINK_LAYER_OPTION_BYTES || !mac.is_unicast() {
                return Err(DropReason::UnsolicitedNeighbour);
            }
            found = Some(mac);
        }
        options = &options[length..];
    }
    Ok(found)
}

impl NeighbourSolicitation {
    /// Writes the solicitation as a whole IPv6 packet and gives back its octets, at most
    /// [`MAX_PACKET_BYTES`]. `None` when `into` is shorter. A first question goes to
    /// [`solicited_node`] of the target, a check that the neighbour still answers to itself.
    #[must_use]
    pub fn write(&self, into: &mut [u8], source: Address, destination: Address) -> Option<usize> {
        let option = self.source_mac.map(|mac| (SOURCE_LINK_LAYER, mac));
        let message = Message {
            kind: kind::NEIGHBOUR_SOLICITATION,
            flags: 0,
            option,
        };
        message.write(into, source, destination, self.target)
    }
}

impl NeighbourAdvertisement {
    /// Writes the advertisement as a whole IPv6 packet and gives back its octets, at most
    /// [`MAX_PACKET_BYTES`]. `None` when `into` is shorter.
    #[must_use]
    pub fn write(&self, into: &mut [u8], source: Address, destination: Address) -> Option<usize> {
        let flags = [
            (self.is_router, ROUTER),
            (self.is_solicited, SOLICITED),
            (self.is_override, OVERRIDE),
        ];
        let flags = flags
            .iter()
            .map(|(is_set, flag)| u32::from(*is_set) * flag)
            .sum();
        let option = self.target_mac.map(|mac| (TARGET_LINK_LAYER, mac));
        let message = Message {
            kind: kind::NEIGHBOUR_ADVERTISEMENT,
            flags,
            option,
        };
        message.write(into, source, destination, self.target)
    }
}

struct Message {
    kind: u8,
    flags: u32,
    option: Option<(u8, MacAddress)>,
}

impl Message {
    fn write(
        &self,
        into: &mut [u8],
        source: Address,
        destination: Address,
        target: Address,
    ) -> Option<usize> {
        let option_bytes = self.option.map_or(0, |_| LINK_LAYER_OPTION_BYTES);
        let length = HEADER_BYTES + MESSAGE_BYTES + option_bytes;
        let into = into.get_mut(..length)?;
        write_ipv6(
            into,
            &Ipv6Header {
                source,
                destination,
                protocol: protocol::ICMPV6,
                hop_limit: HOP_LIMIT,
                payload_bytes: (length - HEADER_BYTES) as u16,
                dscp_ecn: 0,
                flow_label: 0,
            },
        );
        let message = &mut into[HEADER_BYTES..];
        message[..2].copy_from_slice(&[self.kind, 0]);
        put_u32(message, 4, self.flags);
        message[8..MESSAGE_BYTES].copy_from_slice(&target.octets());
        if let Some((kind, mac)) = self.option {
            let option = &mut message[MESSAGE_BYTES..];
            option[..2].copy_from_slice(&[kind, 1]);
            option[2..].copy_from_slice(&mac.0);
        }
        complete_checksum(message, source, destination);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv6::Ipv6;
    use proptest::prelude::*;

    const HERE: Address = Address::from_bits(0x2001_0db8 << 96 | 0x00aa_0001);
    const THERE: Address = Address::from_bits(0x2001_0db8 << 96 | 0x00bb_0002);
    const ALL_NODES: Address = Address::from_bits(0xff02 << 112 | 1);
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const REFUSED: Result<Ndp, DropReason> = Err(DropReason::UnsolicitedNeighbour);

    /// A message with its checksum made right again after `change`.
    fn changed(
        packet: &[u8],
        source: Address,
        to: Address,
        change: impl Fn(&mut Vec<u8>),
    ) -> Vec<u8> {
        let mut message = packet[HEADER_BYTES..].to_vec();
        change(&mut message);
        complete_checksum(&mut message, source, to);
        message
    }

    fn solicitation() -> Vec<u8> {
        let mut packet = [0; MAX_PACKET_BYTES];
        let solicitation = NeighbourSolicitation {
            target: THERE,
            source_mac: Some(MAC),
        };
        let length = solicitation
            .write(&mut packet, HERE, solicited_node(THERE))
            .unwrap();
        packet[..length].to_vec()
    }

    #[test]
    fn every_check_of_rfc_4861_is_made() {
        let group = solicited_node(THERE);
        let packet = solicitation();
        let good = changed(&packet, HERE, group, |_| {});
        assert!(parse(&good, HERE, group, 255).is_ok());
        assert_eq!(parse(&good, HERE, group, 254), REFUSED);
        assert_eq!(parse(&good[..23], HERE, group, 255), REFUSED);
        let mut damaged = good.clone();
        damaged[30] ^= 1;
        assert_eq!(
            parse(&damaged, HERE, group, 255),
            Err(DropReason::BadTransportChecksum)
        );
        type Change = fn(&mut Vec<u8>);
        let changes: [(&str, Change); 9] = [
            ("code", |message| message[1] = 1),
            ("a router's message", |message| {
                message[0] = kind::ROUTER_ADVERTISEMENT
            }),
            ("target in a group", |message| message[8] = 0xff),
            ("target unspecified", |message| message[8..24].fill(0)),
            ("target mapped from IPv4", |message| {
                message[8..24].copy_from_slice(&Address::from_v4([10, 0, 0, 1]).octets());
            }),
            ("option of length 0", |message| message[25] = 0),
            ("option past the end", |message| message[25] = 2),
            ("half an option", |message| message.truncate(29)),
            ("a group's station", |message| message[26] |= 1),
        ];
        for (what, change) in changes {
            let message = changed(&packet, HERE, group, change);
            assert_eq!(parse(&message, HERE, group, 255), REFUSED, "{what}");
        }
    }

    #[test]
    fn a_probe_for_a_duplicate_bears_no_station_and_goes_to_the_group() {
        let (group, nobody) = (solicited_node(THERE), Address::UNSPECIFIED);
        let packet = solicitation();
        let with_station = changed(&packet, nobody, group, |_| {});
        assert_eq!(parse(&with_station, nobody, group, 255), REFUSED);
        let bare = |to| changed(&packet, nobody, to, |message| message.truncate(24));
        let expected = NeighbourSolicitation {
            target: THERE,
            source_mac: None,
        };
        assert_eq!(
            parse(&bare(group), nobody, group, 255),
            Ok(Ndp::Solicitation(expected))
        );
        assert_eq!(parse(&bare(THERE), nobody, THERE, 255), REFUSED);
    }

    #[test]
    fn a_solicited_advertisement_goes_to_one_host() {
        let mut packet = [0; MAX_PACKET_BYTES];
        let solicited = NeighbourAdvertisement {
            target: HERE,
            target_mac: Some(MAC),
            is_router: true,
            is_solicited: true,
            is_override: true,
        };
        assert_eq!(solicited.write(&mut packet[..71], HERE, ALL_NODES), None);
        assert_eq!(solicited.write(&mut packet, HERE, ALL_NODES), Some(72));
        assert_eq!(
            parse(&packet[HEADER_BYTES..], HERE, ALL_NODES, 255),
            REFUSED
        );
        solicited.write(&mut packet, HERE, THERE).unwrap();
        let parsed = parse(&packet[HEADER_BYTES..], HERE, THERE, 255);
        assert_eq!(parsed, Ok(Ndp::Advertisement(solicited)));
    }

    #[test]
    fn unknown_options_are_passed_over() {
        let group = solicited_node(THERE);
        let message = changed(&solicitation(), HERE, group, |message| {
            message.splice(24..24, [[14, 2].as_slice(), &[0; 14]].concat());
        });
        let expected = NeighbourSolicitation {
            target: THERE,
            source_mac: Some(MAC),
        };
        assert_eq!(
            parse(&message, HERE, group, 255),
            Ok(Ndp::Solicitation(expected))
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            target_mac in proptest::option::of(any::<[u8; 5]>()),
            flags in any::<[bool; 3]>(),
            solicits in any::<bool>(),
        ) {
            let mac = target_mac.map(|[a, b, c, d, e]| MacAddress([0x02, a, b, c, d, e]));
            let mut packet = [0xee; MAX_PACKET_BYTES];
            let (length, expected) = if solicits {
                let message = NeighbourSolicitation { target: THERE, source_mac: mac };
                (message.write(&mut packet, HERE, THERE), Ndp::Solicitation(message))
            } else {
                let message = NeighbourAdvertisement {
                    target: HERE,
                    target_mac: mac,
                    is_router: flags[0],
                    is_solicited: flags[1],
                    is_override: flags[2],
                };
                (message.write(&mut packet, HERE, THERE), Ndp::Advertisement(message))
            };
            let view = Ipv6::new(&packet[..length.unwrap()]).unwrap();
            prop_assert_eq!(view.hop_limit(), HOP_LIMIT);
            prop_assert_eq!(parse(view.payload(), HERE, THERE, view.hop_limit()), Ok(expected));
        }

        #[test]
        fn no_octets_make_it_panic(
            mut message in proptest::collection::vec(any::<u8>(), 24..80),
            advertises in any::<bool>(),
        ) {
            message[..2].copy_from_slice(&[if advertises { 136 } else { 135 }, 0]);
            message[8] = 0x20;
            complete_checksum(&mut message, HERE, THERE);
            let _ = parse(&message, HERE, THERE, HOP_LIMIT);
        }
    }
}
