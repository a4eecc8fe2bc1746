//! A side of the tester as its neighbours see it: it asks for the subject's station, and answers
//! ARP, neighbour solicitations and pings for its own addresses and for the networks behind it.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use dataplane::parse::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, protocol};
use dataplane::wire::address::{Address, Family, Prefix};
use dataplane::wire::arp::{Arp, ArpOperation};
use dataplane::wire::ethernet::{MacAddress, destination, solicited_node, source, write_ethernet};
use dataplane::wire::icmp;
use dataplane::wire::icmpv6::{self, kind};
use dataplane::wire::ipv4::Ipv4;
use dataplane::wire::ipv6::Ipv6;
use dataplane::wire::ndp::{self, Ndp, NeighbourAdvertisement, NeighbourSolicitation};

use crate::wiring::Side;

/// Octets of the link-layer header of what is sent here: it bears no tag.
const LINK_BYTES: usize = 14;
/// The smallest frame without check sequence.
const SMALLEST: usize = 60;
/// The largest ping that is answered.
const LARGEST_ANSWER: usize = 1514;
/// Link-layer discovery and bridges' protocols, which any switch or kernel talks by itself.
const ETHER_TYPE_LLDP: u16 = 0x88cc;
/// ICMPv6's multicast listener reports (RFC 3810).
const LISTENER_REPORT: u8 = 143;

/// A frame that the tester writes for a neighbour.
pub(super) type Answer = ArrayVec<u8, LARGEST_ANSWER>;

/// What a frame without a signature was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Something to be answered so.
    Asked(Box<Answer>),
    /// The station of an address.
    Known(Address, MacAddress),
    /// What neighbours say by themselves.
    Chatter,
    /// Traffic of others.
    Foreign,
}

/// A side.
#[derive(Clone, Debug)]
pub(super) struct Station {
    mac: MacAddress,
    /// Addresses with their blocks: what is on the link.
    own: Vec<(Address, Prefix)>,
    networks: Vec<Prefix>,
}

impl Station {
    pub(super) fn new(side: &Side, mac: [u8; 6]) -> Self {
        let prefix =
            |network: &ipnetwork::IpNetwork| Prefix::new(network.ip().into(), network.prefix());
        let own = side.addresses.iter();
        Self {
            mac: MacAddress(mac),
            own: own
                .filter_map(|network| Some((network.ip().into(), prefix(network)?)))
                .collect(),
            networks: side.networks.iter().filter_map(prefix).collect(),
        }
    }

    /// The own address that a question for `target` comes from.
    pub(super) fn address_towards(&self, target: Address) -> Option<Address> {
        let family = target.family();
        let same = |(own, _): &&(Address, Prefix)| own.family() == family;
        let near = self.own.iter().find(|(_, block)| block.contains(target));
        near.or_else(|| self.own.iter().find(same))
            .map(|(own, _)| *own)
    }

    fn answers_for(&self, address: Address) -> bool {
        self.own.iter().any(|(own, _)| *own == address)
            || self.networks.iter().any(|block| block.contains(address))
    }

    /// A question for the station of `target`; none without an own address of its family.
    pub(super) fn question(&self, target: IpAddr) -> Option<Answer> {
        let target = Address::from(target);
        let from = self.address_towards(target)?;
        let mut frame = [0; SMALLEST + ndp::MAX_PACKET_BYTES];
        let length = match target.family() {
            Family::V4 => {
                let to = MacAddress::BROADCAST;
                write_ethernet(&mut frame, to, self.mac, None, ETHER_TYPE_ARP);
                let arp = Arp {
                    operation: ArpOperation::Request,
                    sender_mac: self.mac,
                    sender: from,
                    target_mac: MacAddress([0; 6]),
                    target,
                };
                arp.write(&mut frame[LINK_BYTES..])
            }
            Family::V6 => {
                let group = solicited_node(target);
                let to = MacAddress::of_multicast(group)?;
                write_ethernet(&mut frame, to, self.mac, None, ETHER_TYPE_IPV6);
                let solicitation = NeighbourSolicitation {
                    target,
                    source_mac: Some(self.mac),
                };
                solicitation.write(&mut frame[LINK_BYTES..], from, group)?
            }
        };
        padded(&frame[..LINK_BYTES + length])
    }

    /// What a frame without a signature says, and what is answered.
    pub(super) fn hear(&self, frame: &[u8]) -> Said {
        let Some((header, rest)) = frame.split_first_chunk::<LINK_BYTES>() else {
            return Said::Foreign;
        };
        match u16::from_be_bytes([header[12], header[13]]) {
            ETHER_TYPE_ARP => self.arp(rest),
            ETHER_TYPE_IPV4 => self.ping(frame, rest).unwrap_or(Said::Foreign),
            ETHER_TYPE_IPV6 => self.icmpv6(frame, rest).unwrap_or(Said::Foreign),
            ETHER_TYPE_LLDP => Said::Chatter,
            // Lengths in the place of types: bridges' spanning tree.
            length if length < 1536 => Said::Chatter,
            _ => Said::Foreign,
        }
    }

    fn arp(&self, message: &[u8]) -> Said {
        let Ok(asked) = Arp::parse(message) else {
            return Said::Foreign;
        };
        if asked.operation == ArpOperation::Reply {
            return Said::Known(asked.sender, asked.sender_mac);
        }
        // Who asks for its own address checks whether anybody else has it, or makes it known.
        if !self.answers_for(asked.target) || asked.sender == asked.target {
            return Said::Chatter;
        }
        let mut frame = [0; SMALLEST];
        write_ethernet(&mut frame, asked.sender_mac, self.mac, None, ETHER_TYPE_ARP);
        let arp = Arp {
            operation: ArpOperation::Reply,
            sender_mac: self.mac,
            sender: asked.target,
            target_mac: asked.sender_mac,
            target: asked.sender,
        };
        arp.write(&mut frame[LINK_BYTES..]);
        padded(&frame).map_or(Said::Chatter, |answer| Said::Asked(Box::new(answer)))
    }

    fn ping(&self, frame: &[u8], packet: &[u8]) -> Option<Said> {
        let ip = Ipv4::new(packet).ok()?;
        let header_bytes = ip.header_bytes();
        let message = packet.get(header_bytes..usize::from(ip.total_bytes()))?;
        let is_ping = ip.protocol() == protocol::ICMP
            && message.first() == Some(&icmp::kind::ECHO_REQUEST)
            && self.answers_for(ip.destination());
        if !is_ping {
            return None;
        }
        let mut answer = self.returned(frame)?;
        let packet = &mut answer[LINK_BYTES..LINK_BYTES + usize::from(ip.total_bytes())];
        icmp::reply_in_place(&mut packet[header_bytes..]);
        let mut ip = Ipv4::new(packet).ok()?;
        ip.swap_addresses();
        ip.set_ttl(crate::traffic::TTL);
        Some(Said::Asked(Box::new(answer)))
    }

    fn icmpv6(&self, frame: &[u8], packet: &[u8]) -> Option<Said> {
        let ip = Ipv6::new(packet).ok()?;
        let payload = packet.get(40..40 + usize::from(ip.payload_bytes()))?;
        // A listener report stands behind a hop-by-hop header of eight octets (RFC 3810 §5).
        if ip.next_header() == 0 && payload.get(8) == Some(&LISTENER_REPORT) {
            return Some(Said::Chatter);
        }
        if ip.next_header() != protocol::ICMPV6 {
            return None;
        }
        match *payload.first()? {
            kind::ECHO_REQUEST if self.answers_for(ip.destination()) => {
                let mut answer = self.returned(frame)?;
                icmpv6::reply_in_place(&mut answer[LINK_BYTES + 40..]);
                let mut ip = Ipv6::new(&mut answer[LINK_BYTES..]).ok()?;
                ip.swap_addresses();
                ip.set_hop_limit(crate::traffic::TTL);
                Some(Said::Asked(Box::new(answer)))
            }
            kind::ROUTER_SOLICITATION | kind::ROUTER_ADVERTISEMENT | LISTENER_REPORT => {
                Some(Said::Chatter)
            }
            kind::NEIGHBOUR_SOLICITATION | kind::NEIGHBOUR_ADVERTISEMENT => {
                let (from, to) = (ip.source(), ip.destination());
                let said = ndp::parse(payload, from, to, ip.hop_limit()).ok()?;
                Some(self.neighbour(said, from, source(frame)))
            }
            _ => None,
        }
    }

    fn neighbour(&self, said: Ndp, from: Address, station: MacAddress) -> Said {
        match said {
            Ndp::Advertisement(told) => {
                Said::Known(told.target, told.target_mac.unwrap_or(station))
            }
            Ndp::Solicitation(asked) => {
                if from == Address::UNSPECIFIED || !self.answers_for(asked.target) {
                    return Said::Chatter;
                }
                let advertisement = NeighbourAdvertisement {
                    target: asked.target,
                    target_mac: Some(self.mac),
                    is_router: true,
                    is_solicited: true,
                    is_override: true,
                };
                let mut frame = [0; LINK_BYTES + ndp::MAX_PACKET_BYTES];
                let to = asked.source_mac.unwrap_or(station);
                write_ethernet(&mut frame, to, self.mac, None, ETHER_TYPE_IPV6);
                let written = advertisement.write(&mut frame[LINK_BYTES..], asked.target, from);
                written
                    .and_then(|length| padded(&frame[..LINK_BYTES + length]))
                    .map_or(Said::Chatter, |answer| Said::Asked(Box::new(answer)))
            }
        }
    }

    /// The frame on its way back to the station that sent it, if it came to this one.
    fn returned(&self, frame: &[u8]) -> Option<Answer> {
        if destination(frame) != self.mac {
            return None;
        }
        let mut answer = Answer::try_from(frame).ok()?;
        dataplane::wire::ethernet::set_addresses(&mut answer, source(frame), self.mac);
        Some(answer)
    }
}

/// The frame, at least as long as the smallest.
fn padded(frame: &[u8]) -> Option<Answer> {
    let mut answer = Answer::try_from(frame).ok()?;
    while answer.len() < SMALLEST {
        answer.push(0);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(addresses: &[&str], networks: &[&str], mac: [u8; 6]) -> Station {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let side = Side {
            device: "net_null0".into(),
            addresses: parse(addresses),
            networks: parse(networks),
            gateways: Vec::new(),
            station: None,
        };
        Station::new(&side, mac)
    }

    fn pair() -> (Station, Station) {
        (
            station(
                &["192.0.2.2/24", "2001:db8::2/64"],
                &["198.18.0.0/16"],
                [2, 0, 0, 0, 0, 1],
            ),
            station(&["192.0.2.1/24", "2001:db8::1/64"], &[], [2, 0, 0, 0, 0, 2]),
        )
    }

    #[test]
    fn two_stations_find_each_other_by_both_protocols() {
        let (one, other) = pair();
        for target in ["192.0.2.1", "2001:db8::1"] {
            let target: IpAddr = target.parse().unwrap();
            let question = one.question(target).unwrap();
            assert!(question.len() >= SMALLEST);
            let Said::Asked(answer) = other.hear(&question) else {
                panic!("{target} is not answered for");
            };
            let known = Said::Known(target.into(), MacAddress([2, 0, 0, 0, 0, 2]));
            assert_eq!(one.hear(&answer), known);
        }
    }

    #[test]
    fn networks_behind_are_answered_for_and_others_are_not() {
        let (one, other) = pair();
        let behind = other.question("198.18.7.7".parse().unwrap()).unwrap();
        assert!(matches!(one.hear(&behind), Said::Asked(_)));
        let elsewhere = other.question("192.0.2.9".parse().unwrap()).unwrap();
        assert_eq!(one.hear(&elsewhere), Said::Chatter);
    }

    #[test]
    fn a_ping_comes_back_to_its_sender() {
        use dataplane::wire::ipv4::{Ipv4Header, write_ipv4};
        let (one, _) = pair();
        let mut frame = vec![0; 60];
        let from = MacAddress([2, 0, 0, 0, 0, 2]);
        write_ethernet(&mut frame, one.mac, from, None, ETHER_TYPE_IPV4);
        let header = Ipv4Header {
            source: Address::from_v4([192, 0, 2, 1]),
            destination: Address::from_v4([192, 0, 2, 2]),
            protocol: 1,
            ttl: 3,
            total_bytes: 46,
            identification: 0,
            dont_fragment: false,
            dscp_ecn: 0,
        };
        write_ipv4(&mut frame[14..], &header);
        frame[34] = 8;
        frame[38] = 7;
        let checksum = dataplane::wire::checksum::internet_checksum(&frame[34..]);
        frame[36..38].copy_from_slice(&checksum.to_be_bytes());
        let Said::Asked(answer) = one.hear(&frame) else {
            panic!("the ping is not answered");
        };
        assert_eq!(destination(&answer), from);
        assert!(icmp::checksum_is_valid(&answer[34..]));
        let ip = Ipv4::new(&answer[14..]).unwrap();
        assert!(ip.checksum_is_valid());
        assert_eq!(ip.destination(), header.source);
    }

    #[test]
    fn frames_of_others_and_broken_ones_are_foreign() {
        let (one, _) = pair();
        for frame in [&[][..], &[0xff; 13], &[8; 60]] {
            assert_eq!(one.hear(frame), Said::Foreign, "{frame:?}");
        }
    }
}
