//! A whole TCP segment in its IP packet, written from nothing: a SYN to a server, a RST, a
//! challenge ACK.

use crate::parse::protocol;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{put_u16, put_u32};
use crate::wire::checksum::{checksum_of_sum, pseudo_header, transport};
use crate::wire::ipv4::{HEADER_BYTES as IPV4_HEADER_BYTES, Ipv4Header, write_ipv4};
use crate::wire::ipv6::{HEADER_BYTES as IPV6_HEADER_BYTES, Ipv6Header, write_ipv6};
use crate::wire::tcp::{HEADER_BYTES, MAX_OPTION_BYTES, field};
use crate::wire::tcp_options::SynOptions;

/// The most octets of a packet without payload that is written here.
pub const MAX_HEADERS_BYTES: usize = IPV6_HEADER_BYTES + HEADER_BYTES + MAX_OPTION_BYTES;

/// What the segment says.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    /// Source address.
    pub source: Address,
    /// Destination address, of the same family.
    pub destination: Address,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// The flags, as [`crate::parse::flags`] names them.
    pub flags: u8,
    /// The window field.
    pub window: u16,
    /// The options, a multiple of four octets, at most 40.
    pub options: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub dscp_ecn: u8,
    /// The IPv4 identification.
    pub identification: u16,
}

/// Writes the segment as a whole IP packet (an IPv4 one may not be fragmented), every checksum
/// complete, and gives back its octets.
///
/// `None`, and nothing written, when `into` is too short, the options are too long or not a
/// multiple of four octets, the families differ, or the packet would exceed what its header can
/// say.
#[must_use]
pub fn write_segment(into: &mut [u8], segment: &TcpSegment<'_>) -> Option<usize> {
    let option_bytes = segment.options.len();
    let family = segment.source.family();
    if option_bytes > MAX_OPTION_BYTES
        || !option_bytes.is_multiple_of(4)
        || family != segment.destination.family()
    {
        return None;
    }
    let header_bytes = HEADER_BYTES + option_bytes;
    let segment_bytes = header_bytes + segment.payload.len();
    let network_bytes = match family {
        Family::V4 => IPV4_HEADER_BYTES,
        Family::V6 => IPV6_HEADER_BYTES,
    };
    let total_bytes = network_bytes + segment_bytes;
    if total_bytes > usize::from(u16::MAX) {
        return None;
    }
    let (network, into) = into.get_mut(..total_bytes)?.split_at_mut(network_bytes);
    write_network(network, segment, segment_bytes);
    write_header(into, segment);
    into[HEADER_BYTES..header_bytes].copy_from_slice(segment.options);
    into[header_bytes..].copy_from_slice(segment.payload);
    let pseudo = pseudo_header(
        segment.source,
        segment.destination,
        protocol::TCP,
        segment_bytes,
    );
    let checksum = transport(into, pseudo);
    put_u16(into, field::CHECKSUM, checksum);
    Some(total_bytes)
}

/// [`write_segment`] of a segment without payload that has `options`, in place of its own. The checksums are made of the numbers, not of what was just written.
#[must_use]
#[inline(always)]
pub(crate) fn write_bare(
    into: &mut [u8],
    segment: &TcpSegment<'_>,
    options: &SynOptions,
) -> Option<usize> {
    if segment.source.family() != segment.destination.family() {
        return None;
    }
    let header_bytes = HEADER_BYTES + options.length();
    let (message, pseudo) = match segment.source.family() {
        Family::V4 => {
            let into = into.get_mut(..IPV4_HEADER_BYTES + header_bytes)?;
            let (network, message) = into.split_at_mut(IPV4_HEADER_BYTES);
            let addresses = write_bare_ipv4(network, segment, header_bytes);
            let rest = u64::from(protocol::TCP) + header_bytes as u64;
            (message, addresses + rest)
        }
        Family::V6 => {
            let into = into.get_mut(..IPV6_HEADER_BYTES + header_bytes)?;
            let (network, message) = into.split_at_mut(IPV6_HEADER_BYTES);
            write_network(network, segment, header_bytes);
            let (source, destination) = (segment.source, segment.destination);
            let pseudo = pseudo_header(source, destination, protocol::TCP, header_bytes);
            (message, u64::from(pseudo))
        }
    };
    let ports = u32::from(segment.source_port) << 16 | u32::from(segment.destination_port);
    let offset = (header_bytes as u32) << 26;
    let lengths = offset | u32::from(segment.flags) << 16 | u32::from(segment.window);
    let fixed = [ports, segment.sequence, segment.acknowledgement, lengths];
    let (header, rest) = message.split_at_mut(HEADER_BYTES);
    let sum = pseudo + options.write_summed(rest) + fixed.map(u64::from).iter().sum::<u64>();
    let last = u32::from(checksum_of_sum(sum)) << 16;
    let [ports, sequence, acknowledgement, lengths] = fixed;
    let words = [ports, sequence, acknowledgement, lengths, last];
    for (place, word) in header.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    Some(message_end(segment.source.family(), header_bytes))
}

#[inline]
fn message_end(family: Family, header_bytes: usize) -> usize {
    header_bytes
        + match family {
            Family::V4 => IPV4_HEADER_BYTES,
            Family::V6 => IPV6_HEADER_BYTES,
        }
}

/// Writes the header of 20 octets and gives back the sum of its addresses.
#[inline(always)]
fn write_bare_ipv4(network: &mut [u8], segment: &TcpSegment<'_>, segment_bytes: usize) -> u64 {
    const DONT_FRAGMENT: u32 = 0x4000;
    let source = u32::from_be_bytes(segment.source.v4_octets());
    let destination = u32::from_be_bytes(segment.destination.v4_octets());
    let total_bytes = (IPV4_HEADER_BYTES + segment_bytes) as u32;
    let first = 0x4500_0000 | u32::from(segment.dscp_ecn) << 16 | total_bytes;
    let second = u32::from(segment.identification) << 16 | DONT_FRAGMENT;
    let third = u32::from(segment.ttl) << 24 | u32::from(protocol::TCP) << 16;
    let addresses = u64::from(source) + u64::from(destination);
    let sum = u64::from(first) + u64::from(second) + u64::from(third) + addresses;
    let third = third | u32::from(checksum_of_sum(sum));
    let words = [first, second, third, source, destination];
    for (place, word) in network.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    addresses
}

#[inline]
fn write_network(network: &mut [u8], segment: &TcpSegment<'_>, segment_bytes: usize) {
    let (source, destination) = (segment.source, segment.destination);
    match source.family() {
        Family::V4 => write_ipv4(
            network,
            &Ipv4Header {
                source,
                destination,
                protocol: protocol::TCP,
                ttl: segment.ttl,
                total_bytes: (IPV4_HEADER_BYTES + segment_bytes) as u16,
                identification: segment.identification,
                dont_fragment: true,
                dscp_ecn: segment.dscp_ecn,
            },
        ),
        Family::V6 => write_ipv6(
            network,
            &Ipv6Header {
                source,
                destination,
                protocol: protocol::TCP,
                hop_limit: segment.ttl,
                payload_bytes: segment_bytes as u16,
                dscp_ecn: segment.dscp_ecn,
                flow_label: 0,
            },
        ),
    }
}

#[inline]
fn write_header(into: &mut [u8], segment: &TcpSegment<'_>) {
    let into = &mut into[..HEADER_BYTES];
    put_u16(into, field::SOURCE_PORT, segment.source_port);
    put_u16(into, field::DESTINATION_PORT, segment.destination_port);
    put_u32(into, field::SEQUENCE, segment.sequence);
    put_u32(into, field::ACKNOWLEDGEMENT, segment.acknowledgement);
    into[field::OFFSET_AND_FLAGS] = ((HEADER_BYTES + segment.options.len()) << 2) as u8;
    into[field::OFFSET_AND_FLAGS + 1] = segment.flags;
    put_u16(into, field::WINDOW, segment.window);
    put_u16(into, field::CHECKSUM, 0);
    put_u16(into, field::URGENT, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{flags, parse_network};
    use crate::wire::checksum::transport_is_valid;
    use crate::wire::ipv4::Ipv4;
    use crate::wire::tcp::Tcp;
    use crate::wire::tcp_options::{self, Timestamps};
    use proptest::prelude::*;

    fn segment<'a>(source: Address, destination: Address, options: &'a [u8]) -> TcpSegment<'a> {
        TcpSegment {
            source,
            destination,
            source_port: 40000,
            destination_port: 443,
            sequence: 0xdead_beef,
            acknowledgement: 0x0102_0304,
            flags: flags::SYN | flags::ACK,
            window: 0xfff0,
            options,
            payload: b"odd",
            ttl: 64,
            dscp_ecn: 2,
            identification: 7,
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_right_checksums_in_both_families() {
        let mut options = [0; MAX_OPTION_BYTES];
        let syn = SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((11, 22)),
        };
        let option_bytes = syn.write(&mut options);
        let four = [
            Address::from_v4([192, 0, 2, 1]),
            Address::from_v4([10, 0, 0, 10]),
        ];
        let six = [
            Address::from_bits(0x2001_0db8 << 96 | 1),
            Address::from_bits(0xfd << 120 | 2),
        ];
        for [source, destination] in [four, six] {
            let mut packet = [0xa5; 200];
            let written = segment(source, destination, &options[..option_bytes]);
            let length = write_segment(&mut packet, &written).unwrap();
            let packet = &packet[..length];
            let parsed = parse_network(packet).unwrap();
            assert_eq!((parsed.source, parsed.destination), (source, destination));
            assert_eq!((parsed.source_port, parsed.destination_port), (40000, 443));
            assert_eq!((parsed.packet_bytes(), parsed.payload_bytes()), (length, 3));
            let message = &packet[usize::from(parsed.transport)..];
            let pseudo = pseudo_header(source, destination, protocol::TCP, message.len());
            assert!(transport_is_valid(message, pseudo));
            let tcp = Tcp::new(message).unwrap();
            assert_eq!(
                (tcp.sequence(), tcp.acknowledgement()),
                (0xdead_beef, 0x0102_0304)
            );
            assert_eq!(
                (tcp.flags(), tcp.window()),
                (flags::SYN | flags::ACK, 0xfff0)
            );
            assert_eq!(tcp.payload(), b"odd");
            let read = tcp_options::parse(tcp.options()).unwrap();
            assert_eq!((read.mss, read.window_scale), (Some(1460), Some(7)));
            assert!(read.sack_permitted);
            let stamps = Timestamps {
                value: 11,
                echo: 22,
                offset: 28,
            };
            assert_eq!(read.timestamps, Some(stamps));
        }
        let mut packet = [0; 200];
        write_segment(&mut packet, &segment(four[0], four[1], &[])).unwrap();
        let header = Ipv4::new(&packet[..]).unwrap();
        assert!(header.checksum_is_valid() && header.dont_fragment());
        assert_eq!(
            (header.ecn(), header.dscp(), header.identification()),
            (2, 0, 7)
        );
    }

    proptest! {
        #[test]
        fn a_bare_segment_is_the_one_that_is_written_from_octets(
            ends in any::<(u128, u128, bool)>(), ports in any::<(u16, u16)>(),
            numbers in any::<(u32, u32)>(), rest in any::<(u8, u16, u8, u8, u16)>(),
            said in any::<(Option<u16>, Option<u8>, bool, Option<(u32, u32)>)>(),
            room in 0usize..=110,
        ) {
            let address = |bits: u128| if ends.2 {
                Address::from_bits(bits | 1 << 127)
            } else {
                Address::from_v4((bits as u32).to_be_bytes())
            };
            let (mss, window_scale, sack_permitted, timestamps) = said;
            let options = SynOptions { mss, window_scale, sack_permitted, timestamps };
            let mut octets = [0; MAX_OPTION_BYTES];
            let length = options.write(&mut octets);
            let octets = &octets[..length];
            prop_assert_eq!(options.length(), length);
            let segment = TcpSegment {
                source: address(ends.0),
                destination: address(ends.1),
                source_port: ports.0,
                destination_port: ports.1,
                sequence: numbers.0,
                acknowledgement: numbers.1,
                flags: rest.0,
                window: rest.1,
                options: octets,
                payload: &[],
                ttl: rest.2,
                dscp_ecn: rest.3,
                identification: rest.4,
            };
            let (mut expected, mut bare) = ([0xa5; 110], [0xa5; 110]);
            let length = write_segment(&mut expected[..room], &segment);
            prop_assert_eq!(write_bare(&mut bare[..room], &segment, &options), length);
            prop_assert_eq!(bare, expected);
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let four = Address::from_v4([192, 0, 2, 1]);
        let six = Address::from_bits(1 << 96);
        let mut packet = [0; 200];
        assert_eq!(write_segment(&mut packet, &segment(four, six, &[])), None);
        assert_eq!(
            write_segment(&mut packet, &segment(four, four, &[1; 3])),
            None
        );
        assert_eq!(
            write_segment(&mut packet, &segment(four, four, &[1; 44])),
            None
        );
        assert_eq!(
            write_segment(&mut packet[..42], &segment(four, four, &[])),
            None
        );
        assert_eq!(packet, [0; 200]);
        assert_eq!(
            write_segment(&mut packet[..43], &segment(four, four, &[])),
            Some(43)
        );
        let huge = vec![0; 65_536];
        let long = TcpSegment {
            payload: &huge[..65_496],
            ..segment(four, four, &[])
        };
        assert_eq!(write_segment(&mut vec![0; 70_000], &long), None);
        let longest = TcpSegment {
            payload: &huge[..65_495],
            ..long
        };
        assert_eq!(write_segment(&mut vec![0; 70_000], &longest), Some(65_535));
    }
}
