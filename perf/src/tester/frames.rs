//! Frames as they are sent: a template for each size of a stream, and the little that differs from
//! frame to frame, with right checksums.

use dataplane::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::checksum::{fold, pseudo_header, sum};
use dataplane::wire::ethernet::{MacAddress, link_header_bytes, set_addresses, write_ethernet};
use dataplane::wire::ipv4::{self, Ipv4Header, write_ipv4};
use dataplane::wire::ipv6::{self, Ipv6Header, write_ipv6};

use super::signature::SIGNATURE_BYTES;
use crate::traffic::{CHECK_SEQUENCE_BYTES, Kind, Packet, Stream, Transport, mix};

/// What stands between headers and signature: longer than any frame, and the same for all, its end
/// before the signature.
const FILLER_BYTES: usize = 9216;
const FILLER: [u8; FILLER_BYTES] = filler();
/// Octets of filler that are not checked: who adds a tag or an option moves where it begins.
const UNCHECKED_FILLER_BYTES: usize = 8;
/// What a tester's segments offer.
const WINDOW: u16 = 65_535;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Octets that do not repeat themselves, so that nothing on the way can shorten them.
const fn filler() -> [u8; FILLER_BYTES] {
    let mut octets = [0; FILLER_BYTES];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut place = 0;
    while place < FILLER_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets[place] = (state >> 32) as u8;
        place += 1;
    }
    octets
}

/// Whether the filler of a received frame is as it was sent; `headers` octets of the frame come
/// before it.
#[inline]
pub(super) fn filler_is_whole(frame: &[u8], headers: usize) -> bool {
    let Some(end) = frame.len().checked_sub(SIGNATURE_BYTES) else {
        return false;
    };
    let begin = (headers + UNCHECKED_FILLER_BYTES).min(end);
    let length = end - begin;
    length <= FILLER_BYTES && frame[begin..end] == FILLER[FILLER_BYTES - length..]
}

/// What differs between the flows of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

/// Where a frame's parts are, and the checksums of what does not change.
#[derive(Clone, Debug)]
struct Layout {
    family: Family,
    transport: Transport,
    network: usize,
    segment: usize,
    /// The IPv4 header without addresses.
    network_sum: u32,
    /// Pseudo header, header and payload, without addresses, ports, numbers and signature.
    segment_sum: u32,
    /// Whether the signature begins at an odd octet of the segment.
    is_odd: bool,
}

/// All frames of one size of a stream.
#[derive(Clone, Debug)]
pub(super) struct Template {
    octets: Vec<u8>,
    layout: Option<Layout>,
    signature: Option<usize>,
}

impl Template {
    /// A frame of a stream, `size` octets with check sequence, from `source` to `destination`.
    /// The caller has compared the size with [`Stream::smallest`].
    pub(super) fn new(
        stream: &Stream,
        size: usize,
        source: MacAddress,
        destination: MacAddress,
    ) -> Self {
        let mut octets = vec![0; size - CHECK_SEQUENCE_BYTES];
        let headers = stream.header_bytes();
        let signed = if stream.is_signed { SIGNATURE_BYTES } else { 0 };
        let end = octets.len() - signed;
        let filler = end - headers;
        octets[headers..end].copy_from_slice(&FILLER[FILLER_BYTES - filler..]);
        let layout = match &stream.kind {
            Kind::Replay(_) => None,
            Kind::Raw(behind_stations) => {
                octets[12..headers].copy_from_slice(behind_stations);
                set_addresses(&mut octets, destination, source);
                None
            }
            Kind::Ip(packet) => {
                let network = link_header_bytes(stream.vlan);
                let ether_type = if packet.is_ipv6 {
                    ETHER_TYPE_IPV6
                } else {
                    ETHER_TYPE_IPV4
                };
                write_ethernet(&mut octets, destination, source, stream.vlan, ether_type);
                Some(Layout::write(packet, network, end, &mut octets))
            }
        };
        Self {
            octets,
            layout,
            signature: stream.is_signed.then_some(end),
        }
    }

    /// A frame of a capture, on this link.
    pub(super) fn recorded(frame: &[u8], source: MacAddress, destination: MacAddress) -> Self {
        let mut octets = frame.to_vec();
        set_addresses(&mut octets, destination, source);
        Self {
            octets,
            layout: None,
            signature: None,
        }
    }

    /// Octets of the frame, without check sequence.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Writes a frame over all of `into`, which is [`Self::len`] octets long.
    #[inline]
    pub(super) fn write(
        &self,
        flow: &Flow,
        signature: [u8; SIGNATURE_BYTES],
        numbers: u64,
        into: &mut [u8],
    ) {
        into.copy_from_slice(&self.octets);
        if let Some(at) = self.signature {
            into[at..at + SIGNATURE_BYTES].copy_from_slice(&signature);
        }
        if let Some(layout) = &self.layout {
            let signed = if self.signature.is_some() {
                sum_of(&signature, layout.is_odd)
            } else {
                0
            };
            layout.complete(flow, signed, numbers, into);
        }
    }
}

/// The checksum's sum of a signature.
#[inline]
fn sum_of(signature: &[u8; SIGNATURE_BYTES], is_odd: bool) -> u32 {
    let words = signature.as_chunks::<2>().0.iter();
    let all: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = fold(all);
    // At an odd offset each octet counts for the other half of its word (RFC 1071 §2(B)).
    u32::from(if is_odd { folded.swap_bytes() } else { folded })
}

/// The checksum's sum of an address.
#[inline]
fn address_sum(address: Address, family: Family) -> u32 {
    let words =
        |bits: u64| (bits >> 48) + (bits >> 32 & 0xffff) + (bits >> 16 & 0xffff) + (bits & 0xffff);
    let bits = address.to_bits();
    match family {
        Family::V4 => words(bits as u64 & 0xffff_ffff) as u32,
        Family::V6 => (words((bits >> 64) as u64) + words(bits as u64)) as u32,
    }
}

impl Layout {
    /// Writes the headers of a packet at `network`, whose signature begins at `end`, and sums up
    /// what will stay.
    fn write(packet: &Packet, network: usize, end: usize, octets: &mut [u8]) -> Self {
        let family = if packet.is_ipv6 {
            Family::V6
        } else {
            Family::V4
        };
        let nowhere = match family {
            Family::V4 => Address::from_v4([0; 4]),
            Family::V6 => Address::from_v6([0; 16]),
        };
        let protocol = packet.transport.protocol();
        let total = octets.len() - network;
        let segment = network
            + match family {
                Family::V4 => ipv4::HEADER_BYTES,
                Family::V6 => ipv6::HEADER_BYTES,
            };
        let segment_bytes = octets.len() - segment;
        match family {
            Family::V4 => write_ipv4(
                &mut octets[network..],
                &Ipv4Header {
                    source: nowhere,
                    destination: nowhere,
                    protocol,
                    ttl: packet.ttl,
                    total_bytes: total as u16,
                    identification: 0,
                    dont_fragment: true,
                    dscp_ecn: packet.dscp << 2,
                },
            ),
            Family::V6 => write_ipv6(
                &mut octets[network..],
                &Ipv6Header {
                    source: nowhere,
                    destination: nowhere,
                    protocol,
                    hop_limit: packet.ttl,
                    payload_bytes: segment_bytes as u16,
                    dscp_ecn: packet.dscp << 2,
                    flow_label: 0,
                },
            ),
        }
        let header = &mut octets[segment..];
        match packet.transport {
            Transport::Udp => {
                header[4..6].copy_from_slice(&(segment_bytes as u16).to_be_bytes());
            }
            Transport::TcpSyn | Transport::TcpAck => {
                let is_syn = packet.transport == Transport::TcpSyn;
                header[12] = 5 << 4;
                header[13] = if is_syn { SYN } else { ACK };
                header[14..16].copy_from_slice(&WINDOW.to_be_bytes());
            }
        }
        let network_sum = match family {
            Family::V4 => {
                octets[network + 10..network + 12].fill(0);
                sum(&octets[network..segment], 0)
            }
            Family::V6 => 0,
        };
        let pseudo = pseudo_header(nowhere, nowhere, protocol, segment_bytes);
        Self {
            family,
            transport: packet.transport,
            network,
            segment,
            network_sum: fold(network_sum).into(),
            segment_sum: fold(sum(&octets[segment..end], pseudo)).into(),
            is_odd: (end - segment) % 2 == 1,
        }
    }

    /// Writes what differs, and the checksums.
    #[inline]
    fn complete(&self, flow: &Flow, signed: u32, numbers: u64, frame: &mut [u8]) {
        let addresses =
            address_sum(flow.source, self.family) + address_sum(flow.destination, self.family);
        let (network, segment) = frame[self.network..].split_at_mut(self.segment - self.network);
        match self.family {
            Family::V4 => {
                network[12..16].copy_from_slice(&flow.source.v4_octets());
                network[16..20].copy_from_slice(&flow.destination.v4_octets());
                let checksum = !fold(self.network_sum + addresses);
                network[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            Family::V6 => {
                network[8..24].copy_from_slice(&flow.source.octets());
                network[24..40].copy_from_slice(&flow.destination.octets());
            }
        }
        segment[0..2].copy_from_slice(&flow.source_port.to_be_bytes());
        segment[2..4].copy_from_slice(&flow.destination_port.to_be_bytes());
        let ports = u32::from(flow.source_port) + u32::from(flow.destination_port);
        let mut all = self.segment_sum + addresses + ports + signed;
        let field = match self.transport {
            Transport::Udp => 6,
            Transport::TcpSyn | Transport::TcpAck => {
                let sequence = (numbers >> 32) as u32;
                let is_ack = self.transport == Transport::TcpAck;
                let acknowledged = if is_ack { numbers as u32 } else { 0 };
                segment[4..8].copy_from_slice(&sequence.to_be_bytes());
                segment[8..12].copy_from_slice(&acknowledged.to_be_bytes());
                all += (sequence >> 16) + (sequence & 0xffff);
                all += (acknowledged >> 16) + (acknowledged & 0xffff);
                16
            }
        };
        let checksum = match !fold(all) {
            // RFC 768: a sum of zero is sent as all ones.
            0 if self.transport == Transport::Udp => 0xffff,
            checksum => checksum,
        };
        segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Numbers of TCP segments that nobody can foresee, and two runs share.
#[inline]
pub(super) fn numbers(state: &mut u64) -> u64 {
    mix(state)
}

#[cfg(test)]
mod tests {
    use dataplane::wire::checksum::{internet_checksum, transport_is_valid};

    use super::*;
    use crate::tester::signature::{Key, Signature};
    use crate::traffic::{Sizes, Traffic};

    fn stream(transport: Transport, is_ipv6: bool, vlan: Option<u16>, size: u32) -> Stream {
        let sizes = Sizes::fixed(size).unwrap();
        let traffic = Traffic::both_ways("test", &sizes, is_ipv6);
        let mut stream = traffic.streams[0].clone();
        let Kind::Ip(packet) = &mut stream.kind else {
            unreachable!("the traffic is UDP over IP");
        };
        packet.transport = transport;
        stream.vlan = vlan;
        stream
    }

    fn flow(is_ipv6: bool) -> Flow {
        let address = |four: &str, six: &str| -> Address {
            let text = if is_ipv6 { six } else { four };
            text.parse::<std::net::IpAddr>().unwrap().into()
        };
        Flow {
            source: address("198.18.255.1", "2001:db8:ffff::1"),
            destination: address("198.19.0.2", "2001:db8:1::2"),
            source_port: 0xfffe,
            destination_port: 7,
        }
    }

    #[test]
    fn checksums_are_right_for_every_kind_and_parity() {
        let signature = Signature {
            trial: 0xffff,
            flow: 0xdead_beef,
            sequence: 0xffff_fffe,
            time: 77,
        };
        for is_ipv6 in [false, true] {
            for transport in [Transport::Udp, Transport::TcpSyn, Transport::TcpAck] {
                for size in [110, 111, 1518] {
                    let stream = stream(transport, is_ipv6, None, size);
                    let flow = flow(is_ipv6);
                    let [from, to] = [MacAddress([2; 6]), MacAddress([4; 6])];
                    let template = Template::new(&stream, size as usize, from, to);
                    let mut frame = vec![0xaa; template.len()];
                    let octets = signature.write(Key::random());
                    template.write(&flow, octets, 0x1234_5678_9abc_def0, &mut frame);
                    assert_eq!(frame.len(), size as usize - 4);
                    let segment = if is_ipv6 { 54 } else { 34 };
                    if !is_ipv6 {
                        assert_eq!(internet_checksum(&frame[14..34]), 0);
                    }
                    let pseudo = pseudo_header(
                        flow.source,
                        flow.destination,
                        transport.protocol(),
                        frame.len() - segment,
                    );
                    let is_valid = transport_is_valid(&frame[segment..], pseudo);
                    assert!(is_valid, "{transport:?} over IPv6 {is_ipv6}, {size}");
                    assert!(filler_is_whole(&frame, stream.header_bytes()));
                }
            }
        }
    }

    #[test]
    fn a_changed_filler_is_found_and_a_tag_is_not_taken_for_one() {
        let stream = stream(Transport::Udp, false, None, 128);
        let stations = [MacAddress([2; 6]), MacAddress([4; 6])];
        let template = Template::new(&stream, 128, stations[0], stations[1]);
        let mut frame = vec![0; template.len()];
        template.write(&flow(false), [0; SIGNATURE_BYTES], 0, &mut frame);
        let headers = stream.header_bytes();
        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert!(filler_is_whole(&tagged, headers));
        frame[80] ^= 1;
        assert!(!filler_is_whole(&frame, headers));
        assert!(!filler_is_whole(&[], headers));
    }

    #[test]
    fn the_smallest_frame_has_room_for_the_signature_over_ipv4() {
        assert_eq!(stream(Transport::Udp, false, None, 64).smallest(), 64);
        assert_eq!(stream(Transport::Udp, false, Some(5), 64).smallest(), 68);
        assert_eq!(stream(Transport::Udp, true, None, 64).smallest(), 84);
    }
}
