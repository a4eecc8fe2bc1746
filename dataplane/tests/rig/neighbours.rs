//! The stations around the workers, as far as they ask for each other.

use dataplane::parse::{ETHER_TYPE_ARP, ETHER_TYPE_IPV6, Kind, Parsed};
use dataplane::wire::address::Address;
use dataplane::wire::arp::{Arp, ArpOperation};
use dataplane::wire::ethernet::MacAddress;
use dataplane::wire::ndp::{self, Ndp, NeighbourAdvertisement};

use super::{Rig, Side};

impl Rig {
    pub(super) fn is_question(&self, _side: Side, frame: &[u8], parsed: &Parsed) -> bool {
        match parsed.kind {
            Kind::Arp => true,
            Kind::Ip => solicitation(frame, parsed).is_some(),
        }
    }

    /// Has the station that is asked for answer.
    pub(super) fn answer(&mut self, side: Side, frame: &[u8], parsed: &Parsed) -> bool {
        let (ours, theirs) = side.stations();
        if parsed.kind == Kind::Arp {
            let asked = Arp::parse(&frame[usize::from(parsed.network)..]).expect("a message");
            if asked.operation != ArpOperation::Request || asked.sender == asked.target {
                return false;
            }
            let answer = self.arp(side, ArpOperation::Reply, asked.target, asked.sender);
            self.arrive(side, &answer);
            return true;
        }
        let Some(target) = solicitation(frame, parsed) else {
            return false;
        };
        let mut packet = [0; ndp::MAX_PACKET_BYTES];
        let answer = NeighbourAdvertisement {
            target,
            target_mac: Some(theirs),
            is_router: false,
            is_solicited: true,
            is_override: true,
        };
        let length = answer
            .write(&mut packet, target, parsed.source)
            .expect("room");
        let frame = self.frame(side, ours, theirs, ETHER_TYPE_IPV6, &packet[..length]);
        self.arrive(side, &frame);
        true
    }

    /// An ARP message of the neighbour on `side`.
    pub(crate) fn arp(
        &self,
        side: Side,
        operation: ArpOperation,
        sender: Address,
        target: Address,
    ) -> Vec<u8> {
        let (ours, theirs) = side.stations();
        let (to, target_mac) = match operation {
            ArpOperation::Request => (MacAddress::BROADCAST, MacAddress::default()),
            ArpOperation::Reply => (ours, ours),
        };
        let message = Arp {
            operation,
            sender_mac: theirs,
            sender,
            target_mac,
            target,
        };
        let mut bytes = [0; 28];
        message.write(&mut bytes);
        self.frame(side, to, theirs, ETHER_TYPE_ARP, &bytes)
    }
}

/// The address that a neighbour solicitation asks for.
fn solicitation(frame: &[u8], parsed: &Parsed) -> Option<Address> {
    if parsed.protocol != dataplane::parse::protocol::ICMPV6 {
        return None;
    }
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    match ndp::parse(message, parsed.source, parsed.destination, parsed.ttl) {
        Ok(Ndp::Solicitation(asked)) => Some(asked.target),
        _ => None,
    }
}
