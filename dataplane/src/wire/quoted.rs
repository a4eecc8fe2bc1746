//! The packet that an ICMP error quotes: only its first octets, perhaps cut inside the transport
//! header, and written by whoever sent the error.

use crate::drop_reason::DropReason;
use crate::parse::protocol;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{u16_at, u32_at};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{HEADER_BYTES as IPV6_HEADER_BYTES, Ipv6};

/// Octets of the transport header that every error quotes (RFC 792).
const TRANSPORT_BYTES: usize = 8;

/// The facts of a quoted packet. Offsets count octets from the quotation's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Source address: who sent the packet that met the error.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The transport protocol's number.
    pub protocol: u8,
    /// Source port; for an ICMP echo, its identifier.
    pub source_port: u16,
    /// Destination port; for an ICMP echo, its identifier.
    pub destination_port: u16,
    /// The sequence number, for TCP.
    pub sequence: Option<u32>,
    /// Where the transport header begins.
    pub transport: u16,
}

/// Reads the quotation of an ICMP or ICMPv6 error. The quoted packet's own checksums are not
/// looked at: they may have been made before a NIC completed them.
///
/// # Errors
/// The quotation holds no whole IP header with eight octets after it, is a later fragment, or
/// carries a protocol without ports: none of them leads to a flow. [`DropReason::MalformedIpv4`],
/// [`DropReason::MalformedIpv6`] or [`DropReason::IcmpUnmatched`].
pub fn parse(quotation: &[u8]) -> Result<Quoted, DropReason> {
    let (source, destination, next, transport) = match quotation.first().map(|byte| byte >> 4) {
        Some(4) => {
            let header = Ipv4::new(quotation)?;
            if header.fragment_offset_bytes() != 0 {
                return Err(DropReason::IcmpUnmatched);
            }
            (
                header.source(),
                header.destination(),
                header.protocol(),
                header.header_bytes(),
            )
        }
        Some(6) => {
            let header = Ipv6::new(quotation)?;
            let (source, destination) = (header.source(), header.destination());
            // A mapped address would alias an IPv4 flow (RFC 4942 §2.2).
            if source.family() == Family::V4 || destination.family() == Family::V4 {
                return Err(DropReason::IcmpUnmatched);
            }
            (source, destination, header.next_header(), IPV6_HEADER_BYTES)
        }
        _ => return Err(DropReason::IcmpUnmatched),
    };
    let Some(head) = quotation.get(transport..transport + TRANSPORT_BYTES) else {
        return Err(DropReason::IcmpUnmatched);
    };
    let (source_port, destination_port) = match next {
        protocol::TCP | protocol::UDP => (u16_at(head, 0), u16_at(head, 2)),
        protocol::ICMP | protocol::ICMPV6 => (u16_at(head, 4), u16_at(head, 4)),
        _ => return Err(DropReason::IcmpUnmatched),
    };
    Ok(Quoted {
        source,
        destination,
        protocol: next,
        source_port,
        destination_port,
        sequence: (next == protocol::TCP).then(|| u32_at(head, 4)),
        transport: transport as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::flags;
    use crate::wire::tcp_segment::{TcpSegment, write_segment};
    use proptest::prelude::*;

    fn packet(source: Address, destination: Address) -> Vec<u8> {
        let mut packet = [0; 100];
        let segment = TcpSegment {
            source,
            destination,
            source_port: 80,
            destination_port: 40000,
            sequence: 0x1234_5678,
            acknowledgement: 0,
            flags: flags::ACK,
            window: 100,
            options: &[],
            payload: &[],
            ttl: 1,
            dscp_ecn: 0,
            identification: 0,
        };
        let length = write_segment(&mut packet, &segment).unwrap();
        packet[..length].to_vec()
    }

    #[test]
    fn eight_octets_after_the_header_are_enough_to_find_the_flow() {
        // CASES 12
        let four = [
            Address::from_v4([10, 0, 0, 10]),
            Address::from_v4([198, 51, 100, 7]),
        ];
        let six = [
            Address::from_bits(0xfd << 120 | 1),
            Address::from_bits(0xfd << 120 | 2),
        ];
        for ([source, destination], header) in [(four, 20), (six, 40)] {
            let packet = packet(source, destination);
            let quoted = parse(&packet[..header + 8]).unwrap();
            assert_eq!((quoted.source, quoted.destination), (source, destination));
            assert_eq!((quoted.source_port, quoted.destination_port), (80, 40000));
            assert_eq!(quoted.sequence, Some(0x1234_5678));
            assert_eq!(usize::from(quoted.transport), header);
            for length in 0..header + 8 {
                assert!(parse(&packet[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn what_leads_to_no_flow_is_refused() {
        let four = packet(
            Address::from_v4([10, 0, 0, 10]),
            Address::from_v4([10, 0, 0, 11]),
        );
        let mut later = four.clone();
        later[7] = 1;
        assert_eq!(parse(&later), Err(DropReason::IcmpUnmatched));
        let mut tunnelled = four.clone();
        tunnelled[9] = 47;
        assert_eq!(parse(&tunnelled), Err(DropReason::IcmpUnmatched));
        let mut echo = four;
        echo[9] = protocol::ICMP;
        let quoted = parse(&echo).unwrap();
        assert_eq!(
            (quoted.source_port, quoted.destination_port),
            (0x1234, 0x1234)
        );
        assert_eq!(quoted.sequence, None);
        let mut mapped = packet(Address::from_bits(1 << 127), Address::from_bits(2 << 96));
        mapped[8..24].copy_from_slice(&Address::from_v4([10, 0, 0, 10]).octets());
        assert_eq!(parse(&mapped), Err(DropReason::IcmpUnmatched));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..80),
            version in prop_oneof![Just(0x40u8), Just(0x60)],
        ) {
            bytes[0] = version | bytes[0] & 0x0f;
            if let Ok(quoted) = parse(&bytes) {
                prop_assert!(usize::from(quoted.transport) + 8 <= bytes.len());
            }
        }
    }
}
