//! The ICMP message around the payload, in both families, and its IP header.

use super::payload::{EchoJar, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use crate::packet::Buffer;
use crate::parse::{Fragment, Parsed, protocol};
use crate::wire::address::Family;
use crate::wire::bytes::put_u16;
use crate::wire::checksum::{pseudo_header, transport};
use crate::wire::icmp::{self, MESSAGE_BYTES};
use crate::wire::icmpv6;
use crate::wire::ipv4::{HEADER_BYTES as IPV4_HEADER_BYTES, Ipv4Header, write_ipv4};
use crate::wire::ipv6::{HEADER_BYTES as IPV6_HEADER_BYTES, Ipv6Header, write_ipv6};
use crate::wire::tcp::{HEADER_BYTES as TCP_HEADER_BYTES, MAX_OPTION_BYTES};

/// By how many octets the echo is longer than the SYN that it carries.
pub const MAX_GROWTH_BYTES: usize = MESSAGE_BYTES + HEADER_BYTES;

/// An echo of ours on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoMessage {
    /// Whether it is the reply.
    pub is_reply: bool,
    /// Where its payload begins in the frame; it ends with the packet.
    pub payload: usize,
}

/// The echo with our mark in a frame that was parsed; `None` for anything else, a stranger's ping
/// included. Nothing of it is verified.
#[inline]
pub fn message_of(frame: &[u8], parsed: &Parsed) -> Option<EchoMessage> {
    let message = frame.get(usize::from(parsed.transport)..usize::from(parsed.end))?;
    let (kind, code) = (*message.first()?, *message.get(1)?);
    let is_reply = match (parsed.protocol, kind) {
        (protocol::ICMP, icmp::kind::ECHO_REPLY) => true,
        (protocol::ICMP, icmp::kind::ECHO_REQUEST) => false,
        (protocol::ICMPV6, icmpv6::kind::ECHO_REPLY) => true,
        (protocol::ICMPV6, icmpv6::kind::ECHO_REQUEST) => false,
        _ => return None,
    };
    let is_ours = code == 0
        && parsed.fragment == Fragment::Whole
        && EchoJar::is_ours(message.get(MESSAGE_BYTES..)?);
    is_ours.then_some(EchoMessage {
        is_reply,
        payload: usize::from(parsed.transport) + MESSAGE_BYTES,
    })
}

/// Whether the message that an ICMP error quotes, from its type on, is an echo of ours as far as it
/// is quoted.
pub fn quoted_is_ours(family: Family, message: &[u8]) -> bool {
    let request = match family {
        Family::V4 => icmp::kind::ECHO_REQUEST,
        Family::V6 => icmpv6::kind::ECHO_REQUEST,
    };
    message.first() == Some(&request) && message.get(MESSAGE_BYTES..).is_some_and(EchoJar::is_ours)
}

/// Makes the SYN in `packet` the echo request that carries it, from the same client to the same
/// server; the link-layer header stays. `false`, and `packet` unspecified, when there is no room.
#[must_use]
pub fn wrap<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    flags: u8,
    jar: &EchoJar,
    unix_ms: u64,
) -> bool {
    let network = usize::from(parsed.network);
    let (from, to) = (usize::from(parsed.transport), usize::from(parsed.payload));
    let mut copy = [0; TCP_HEADER_BYTES + MAX_OPTION_BYTES];
    let Some(header) = packet.bytes().get(from..to) else {
        return false;
    };
    let Some(tcp) = copy.get_mut(..header.len()) else {
        return false;
    };
    tcp.copy_from_slice(header);
    let network_bytes = match parsed.family {
        Family::V4 => IPV4_HEADER_BYTES,
        Family::V6 => IPV6_HEADER_BYTES,
    };
    let message_bytes = MESSAGE_BYTES + HEADER_BYTES + tcp.len();
    if !packet.set_len(network + network_bytes + message_bytes) {
        return false;
    }
    let (header, message) = packet.bytes_mut()[network..].split_at_mut(network_bytes);
    write_network(header, parsed, message_bytes);
    message[0] = match parsed.family {
        Family::V4 => icmp::kind::ECHO_REQUEST,
        Family::V6 => icmpv6::kind::ECHO_REQUEST,
    };
    message[1] = 0;
    put_u16(message, 2, 0);
    // What tells one client's echoes apart for whoever looks on; nothing hangs on it.
    put_u16(message, 4, parsed.source_port);
    put_u16(message, 6, parsed.destination_port);
    let ends = (parsed.source, parsed.destination);
    jar.seal(&mut message[MESSAGE_BYTES..], tcp, flags, ends, unix_ms);
    let pseudo = match parsed.family {
        Family::V4 => 0,
        Family::V6 => pseudo_header(ends.0, ends.1, protocol::ICMPV6, message_bytes),
    };
    let checksum = transport(message, pseudo);
    put_u16(message, 2, checksum);
    true
}

/// The IP header of the SYN again, for the echo: it has as far to go.
fn write_network(into: &mut [u8], parsed: &Parsed, message_bytes: usize) {
    match parsed.family {
        Family::V4 => write_ipv4(
            into,
            &Ipv4Header {
                source: parsed.source,
                destination: parsed.destination,
                protocol: protocol::ICMP,
                ttl: parsed.ttl,
                total_bytes: (IPV4_HEADER_BYTES + message_bytes) as u16,
                identification: 0,
                dont_fragment: true,
                dscp_ecn: 0,
            },
        ),
        Family::V6 => write_ipv6(
            into,
            &Ipv6Header {
                source: parsed.source,
                destination: parsed.destination,
                protocol: protocol::ICMPV6,
                hop_limit: parsed.ttl,
                payload_bytes: message_bytes as u16,
                dscp_ecn: 0,
                flow_label: 0,
            },
        ),
    }
}

const _: () = assert!(MAX_PAYLOAD_BYTES == HEADER_BYTES + TCP_HEADER_BYTES + MAX_OPTION_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::cookie::CookieKey;
    use crate::memory::MemoryBuffer;
    use crate::parse::{flags, parse};
    use crate::wire::address::Address;
    use crate::wire::ethernet::{MacAddress, write_ethernet};
    use crate::wire::tcp_options::SynOptions;
    use crate::wire::tcp_segment::{TcpSegment, write_bare};

    const NOW_MS: u64 = 1_800_000_000_000;

    fn jar() -> EchoJar {
        EchoJar::new(&[CookieKey {
            not_before_s: 0,
            secret: [9; 16],
        }])
    }

    fn syn(family: Family, vlan: Option<u16>) -> Vec<u8> {
        let (source, destination, ether_type) = match family {
            Family::V4 => (
                Address::from_v4([198, 51, 100, 7]),
                Address::from_v4([10, 0, 0, 10]),
                0x0800,
            ),
            Family::V6 => (
                Address::from_bits(0x2001_0db8 << 96 | 7),
                Address::from_bits(0x2001_0db8 << 96 | 10),
                0x86dd,
            ),
        };
        let mut frame = vec![0; 200];
        let (to, from) = (MacAddress([2; 6]), MacAddress([4; 6]));
        let network = write_ethernet(&mut frame, to, from, vlan, ether_type);
        let segment = TcpSegment {
            source,
            destination,
            source_port: 40_000,
            destination_port: 80,
            sequence: 77,
            acknowledgement: 0,
            flags: flags::SYN,
            window: 64_240,
            options: &[],
            payload: &[],
            ttl: 57,
            dscp_ecn: 0,
            identification: 0,
        };
        let options = SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0)),
        };
        let length = write_bare(&mut frame[network..], &segment, &options).unwrap();
        frame.truncate(network + length);
        frame
    }

    #[test]
    fn the_request_goes_where_the_syn_went_and_carries_its_header() {
        for (family, vlan) in [
            (Family::V4, None),
            (Family::V4, Some(7)),
            (Family::V6, None),
            (Family::V6, Some(7)),
        ] {
            let frame = syn(family, vlan);
            let parsed = parse(&frame).unwrap();
            let mut packet = MemoryBuffer::new(&frame);
            assert!(wrap(&mut packet, &parsed, 0, &jar(), NOW_MS));
            let bytes = packet.bytes().to_vec();
            assert_eq!(bytes.len(), frame.len() + MAX_GROWTH_BYTES);
            let link = usize::from(parsed.network);
            assert_eq!(bytes[..link], frame[..link], "the link-layer header stays");
            let wrapped = parse(&bytes).unwrap();
            assert_eq!(
                (wrapped.source, wrapped.destination, wrapped.ttl),
                (parsed.source, parsed.destination, 57)
            );
            let message = &bytes[usize::from(wrapped.transport)..];
            let sound = match family {
                Family::V4 => icmp::parse(message).is_ok(),
                Family::V6 => icmpv6::parse(message, wrapped.source, wrapped.destination).is_ok(),
            };
            assert!(sound, "the checksum holds");
            let echo = message_of(&bytes, &wrapped).unwrap();
            assert!(!echo.is_reply);
            let ends = (parsed.source, parsed.destination);
            let carried = jar().open(&bytes[echo.payload..], ends, NOW_MS).unwrap();
            assert_eq!(carried.tcp_bytes, 40);
            assert_eq!(
                bytes[echo.payload + HEADER_BYTES..],
                frame[usize::from(parsed.transport)..]
            );
            assert!(quoted_is_ours(family, message));
        }
    }

    #[test]
    fn a_strangers_ping_is_not_ours() {
        let frame = syn(Family::V4, None);
        let parsed = parse(&frame).unwrap();
        assert_eq!(message_of(&frame, &parsed), None);
        let mut packet = MemoryBuffer::new(&frame);
        assert!(wrap(&mut packet, &parsed, 0, &jar(), NOW_MS));
        let wrapped = parse(packet.bytes()).unwrap();
        let place = usize::from(wrapped.transport) + MESSAGE_BYTES;
        packet.bytes_mut()[place] ^= 1;
        assert_eq!(message_of(packet.bytes(), &wrapped), None);
    }
}
