//! ARP over Ethernet for IPv4 (RFC 826).

use crate::drop_reason::DropReason;
use crate::parse::ETHER_TYPE_IPV4;
use crate::wire::address::Address;
use crate::wire::bytes::{put_u16, u16_at};
use crate::wire::ethernet::{MacAddress, mac_at};

/// Octets of an ARP message.
pub const MESSAGE_BYTES: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;

/// What the message asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// What it asks or says.
    pub operation: ArpOperation,
    /// The sender's station.
    pub sender_mac: MacAddress,
    /// The sender's IPv4 address; unspecified in a probe (RFC 5227).
    pub sender: Address,
    /// The target's station; zero in a request.
    pub target_mac: MacAddress,
    /// The target's IPv4 address.
    pub target: Address,
}

impl Arp {
    /// Reads a message; what follows its 28 octets is padding.
    ///
    /// # Errors
    /// [`DropReason::MalformedArp`] when it is truncated, not Ethernet and IPv4, neither request
    /// nor reply, or claims a group's address as the sender's station (RFC 1812 §3.3.2).
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let Some(bytes) = bytes.first_chunk::<MESSAGE_BYTES>() else {
            return Err(DropReason::MalformedArp);
        };
        let operation = match u16_at(bytes, 6) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            _ => return Err(DropReason::MalformedArp),
        };
        let sender_mac = mac_at(bytes, 8);
        if u16_at(bytes, 0) != HARDWARE_ETHERNET
            || u16_at(bytes, 2) != ETHER_TYPE_IPV4
            || bytes[4..6] != [6, 4]
            || !sender_mac.is_unicast()
        {
            return Err(DropReason::MalformedArp);
        }
        Ok(Self {
            operation,
            sender_mac,
            sender: Address::from_v4([bytes[14], bytes[15], bytes[16], bytes[17]]),
            target_mac: mac_at(bytes, 18),
            target: Address::from_v4([bytes[24], bytes[25], bytes[26], bytes[27]]),
        })
    }

    /// Writes the message at the start of `into` and gives back its octets, 28.
    ///
    /// # Panics
    /// When `into` is shorter.
    pub fn write(&self, into: &mut [u8]) -> usize {
        let into = &mut into[..MESSAGE_BYTES];
        put_u16(into, 0, HARDWARE_ETHERNET);
        put_u16(into, 2, ETHER_TYPE_IPV4);
        into[4..6].copy_from_slice(&[6, 4]);
        let operation = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        put_u16(into, 6, operation);
        into[8..14].copy_from_slice(&self.sender_mac.0);
        into[14..18].copy_from_slice(&self.sender.v4_octets());
        into[18..24].copy_from_slice(&self.target_mac.0);
        into[24..28].copy_from_slice(&self.target.v4_octets());
        MESSAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: Arp = Arp {
        operation: ArpOperation::Request,
        sender_mac: MacAddress([2, 0, 0, 0, 0, 1]),
        sender: Address::from_v4([192, 0, 2, 1]),
        target_mac: MacAddress([0; 6]),
        target: Address::from_v4([192, 0, 2, 254]),
    };

    #[test]
    fn a_message_that_is_not_ethernet_and_ipv4_is_refused() {
        // CASES 12
        let mut good = [0; MESSAGE_BYTES];
        REQUEST.write(&mut good);
        assert_eq!(Arp::parse(&good), Ok(REQUEST));
        assert_eq!(Arp::parse(&good[..27]), Err(DropReason::MalformedArp));
        let changes: [(usize, u8); 8] = [
            (1, 6),
            (2, 0x86),
            (4, 8),
            (5, 16),
            (7, 0),
            (7, 3),
            (6, 1),
            (8, 0xff),
        ];
        for (at, value) in changes {
            let mut bytes = good;
            bytes[at] = value;
            assert_eq!(
                Arp::parse(&bytes),
                Err(DropReason::MalformedArp),
                "octet {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            is_reply in any::<bool>(),
            macs in any::<([u8; 6], [u8; 6])>(),
            addresses in any::<([u8; 4], [u8; 4])>(),
        ) {
            let mut sender_mac = macs.0;
            sender_mac[0] = sender_mac[0] & 0xfe | 0x02;
            let arp = Arp {
                operation: if is_reply { ArpOperation::Reply } else { ArpOperation::Request },
                sender_mac: MacAddress(sender_mac),
                sender: Address::from_v4(addresses.0),
                target_mac: MacAddress(macs.1),
                target: Address::from_v4(addresses.1),
            };
            let mut padded = [0xee; 46];
            prop_assert_eq!(arp.write(&mut padded), MESSAGE_BYTES);
            prop_assert_eq!(Arp::parse(&padded), Ok(arp));
        }

        #[test]
        fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Arp::parse(&bytes);
        }
    }
}
