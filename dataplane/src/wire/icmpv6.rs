//! ICMPv6 (RFC 4443): errors and echo. Neighbour discovery is read by [`crate::wire::ndp`].

use crate::drop_reason::DropReason;
use crate::parse::protocol;
use crate::wire::address::Address;
use crate::wire::bytes::{put_u16, put_u32, u16_at, u32_at};
use crate::wire::checksum::{Update, pseudo_header, transport, transport_is_valid};
use crate::wire::icmp::Echo;
use crate::wire::ipv6::{HEADER_BYTES, Ipv6Header, MINIMUM_MTU_BYTES, write_ipv6};

/// Octets of an ICMPv6 message before what it quotes or echoes.
pub const MESSAGE_BYTES: usize = 8;

/// Message types (IANA).
pub mod kind {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

/// Codes of errors.
pub mod code {
    /// Destination unreachable: no route.
    pub const NO_ROUTE: u8 = 0;
    /// Destination unreachable: refused by a rule.
    pub const PROHIBITED: u8 = 1;
    /// Destination unreachable: the address does not answer.
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    /// Destination unreachable: nobody takes the port.
    pub const PORT_UNREACHABLE: u8 = 4;
    /// Time exceeded: the hop limit ran out on the way.
    pub const HOP_LIMIT_EXCEEDED: u8 = 0;
    /// Time exceeded: the fragments were not complete in time.
    pub const REASSEMBLY_EXPIRED: u8 = 1;
    /// Parameter problem: an unknown next header.
    pub const UNKNOWN_NEXT_HEADER: u8 = 1;
}

/// An error that someone on the way sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmpv6Error<'a> {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four octets before the quotation, whose meaning the type gives.
    pub rest: u32,
    /// The quoted packet from its IPv6 header on; [`crate::wire::quoted::parse`] reads it. It
    /// begins at octet [`MESSAGE_BYTES`] of the message.
    pub quoted: &'a [u8],
}

impl Icmpv6Error<'_> {
    /// The MTU of the next hop, for "packet too big".
    pub fn mtu_bytes(&self) -> Option<u32> {
        (self.kind == kind::PACKET_TOO_BIG).then_some(self.rest)
    }
}

/// What an ICMPv6 message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Message<'a> {
    /// An echo request or reply.
    Echo(Echo),
    /// An error.
    Error(Icmpv6Error<'a>),
    /// A neighbour solicitation or advertisement, for [`crate::wire::ndp::parse`].
    Neighbour,
    /// Anything else.
    Other {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

/// Reads a message, from its type to its end, and verifies its checksum.
///
/// # Errors
/// [`DropReason::MalformedTransport`] when it is shorter than eight octets or its code contradicts
/// its type; [`DropReason::BadTransportChecksum`].
pub fn parse(
    message: &[u8],
    source: Address,
    destination: Address,
) -> Result<Icmpv6Message<'_>, DropReason> {
    let Some((header, quoted)) = message.split_first_chunk::<MESSAGE_BYTES>() else {
        return Err(DropReason::MalformedTransport);
    };
    if !checksum_is_valid(message, source, destination) {
        return Err(DropReason::BadTransportChecksum);
    }
    let (kind, code) = (header[0], header[1]);
    match kind {
        kind::ECHO_REPLY | kind::ECHO_REQUEST if code == 0 => Ok(Icmpv6Message::Echo(Echo {
            is_reply: kind == kind::ECHO_REPLY,
            identifier: u16_at(header, 4),
            sequence: u16_at(header, 6),
        })),
        kind::ECHO_REPLY | kind::ECHO_REQUEST => Err(DropReason::MalformedTransport),
        kind::NEIGHBOUR_SOLICITATION | kind::NEIGHBOUR_ADVERTISEMENT => {
            Ok(Icmpv6Message::Neighbour)
        }
        kind::DESTINATION_UNREACHABLE..=kind::PARAMETER_PROBLEM => {
            Ok(Icmpv6Message::Error(Icmpv6Error {
                kind,
                code,
                rest: u32_at(header, 4),
                quoted,
            }))
        }
        _ => Ok(Icmpv6Message::Other { kind, code }),
    }
}

/// Whether a message, from its type to its end, bears the right checksum.
#[inline]
pub fn checksum_is_valid(message: &[u8], source: Address, destination: Address) -> bool {
    let pseudo = pseudo_header(source, destination, protocol::ICMPV6, message.len());
    transport_is_valid(message, pseudo)
}

/// Whether the type is that of an error, known or not, which must never be answered with another
/// (RFC 4443 §2.4 (e)).
#[inline]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// Makes an echo request its own reply. The caller exchanges the IP addresses; where the request
/// went to a group and the reply bears another source, the caller also updates the checksum by
/// [`Update::address`]. Nothing happens to a message that is no echo request.
#[inline]
pub fn reply_in_place(message: &mut [u8]) {
    if message.len() >= MESSAGE_BYTES && message[0] == kind::ECHO_REQUEST {
        let word = u16::from_be_bytes([kind::ECHO_REPLY, message[1]]);
        let update = Update::new().set_word(message, 0, word);
        let checksum = update.apply(u16_at(message, 2));
        put_u16(message, 2, checksum);
    }
}

/// An error packet that is made here.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6ErrorPacket<'a> {
    /// Who says so.
    pub source: Address,
    /// Who is told: the source of the packet that met the error.
    pub destination: Address,
    /// Hop limit.
    pub hop_limit: u8,
    /// The error's type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four octets before the quotation: the next hop's MTU for "packet too big", else 0.
    pub rest: u32,
    /// The IPv6 packet that met the error.
    pub invoking: &'a [u8],
}

/// Writes an error as a whole IPv6 packet and gives back its octets. It quotes as much as stays
/// within 1280 octets (RFC 4443 §2.4 (c)), fewer where `into` is shorter. `None` when not even the
/// invoking packet's header and eight octets fit.
#[must_use]
pub fn write_error(into: &mut [u8], error: &Icmpv6ErrorPacket<'_>) -> Option<usize> {
    let before = HEADER_BYTES + MESSAGE_BYTES;
    let room = into.len().min(MINIMUM_MTU_BYTES).checked_sub(before)?;
    let quoted = &error.invoking[..error.invoking.len().min(room)];
    if quoted.len() < (HEADER_BYTES + 8).min(error.invoking.len()) {
        return None;
    }
    let message_bytes = MESSAGE_BYTES + quoted.len();
    write_ipv6(
        into,
        &Ipv6Header {
            source: error.source,
            destination: error.destination,
            protocol: protocol::ICMPV6,
            hop_limit: error.hop_limit,
            payload_bytes: message_bytes as u16,
            dscp_ecn: 0,
            flow_label: 0,
        },
    );
    let message = &mut into[HEADER_BYTES..HEADER_BYTES + message_bytes];
    message[..2].copy_from_slice(&[error.kind, error.code]);
    put_u32(message, 4, error.rest);
    message[MESSAGE_BYTES..].copy_from_slice(quoted);
    complete_checksum(message, error.source, error.destination);
    Some(HEADER_BYTES + message_bytes)
}

/// Computes the checksum of a whole message and sets it.
///
/// # Panics
/// When the message is shorter than four octets.
pub fn complete_checksum(message: &mut [u8], source: Address, destination: Address) {
    put_u16(message, 2, 0);
    let pseudo = pseudo_header(source, destination, protocol::ICMPV6, message.len());
    let checksum = transport(message, pseudo);
    put_u16(message, 2, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv6::Ipv6;
    use proptest::prelude::*;

    const HERE: Address = Address::from_bits(0x2001_0db8 << 96 | 1);
    const THERE: Address = Address::from_bits(0x2001_0db8 << 96 | 2);

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        complete_checksum(&mut message, HERE, THERE);
        message
    }

    fn error(invoking: &[u8]) -> Icmpv6ErrorPacket<'_> {
        Icmpv6ErrorPacket {
            source: HERE,
            destination: THERE,
            hop_limit: 64,
            kind: kind::PACKET_TOO_BIG,
            code: 0,
            rest: 1400,
            invoking,
        }
    }

    #[test]
    fn messages_are_told_apart_and_bad_ones_refused() {
        let echo = with_checksum(vec![kind::ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3]);
        let expected = Echo {
            is_reply: true,
            identifier: 0x1234,
            sequence: 7,
        };
        assert_eq!(parse(&echo, HERE, THERE), Ok(Icmpv6Message::Echo(expected)));
        let elsewhere = Address::from_bits(0x2001_0db8 << 96 | 3);
        assert_eq!(
            parse(&echo, HERE, elsewhere),
            Err(DropReason::BadTransportChecksum)
        );
        assert_eq!(
            parse(&echo[..7], HERE, THERE),
            Err(DropReason::MalformedTransport)
        );
        let read =
            |kind| parse(&with_checksum(vec![kind, 0, 0, 0, 0, 0, 0, 0]), HERE, THERE).is_ok();
        assert!((0..=255).all(read), "every type is told");
        let coded = with_checksum(vec![kind::ECHO_REQUEST, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            parse(&coded, HERE, THERE),
            Err(DropReason::MalformedTransport)
        );
        let neighbour = with_checksum(vec![kind::NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&neighbour, HERE, THERE), Ok(Icmpv6Message::Neighbour));
        assert!(is_error(100) && !is_error(kind::ECHO_REQUEST));
    }

    #[test]
    fn an_error_needs_room_for_the_invoking_header() {
        let invoking = [0x60; 60];
        assert_eq!(write_error(&mut [0; 47], &error(&invoking)), None);
        assert_eq!(write_error(&mut [0; 95], &error(&invoking)), None);
        assert_eq!(write_error(&mut [0; 96], &error(&invoking)), Some(96));
    }

    proptest! {
        #[test]
        fn a_written_error_is_read_back_and_stays_within_1280_octets(
            invoking in proptest::collection::vec(any::<u8>(), 48..1500),
        ) {
            let mut into = [0xee; 2000];
            let length = write_error(&mut into, &error(&invoking)).unwrap();
            prop_assert_eq!(length, (invoking.len() + 48).min(1280));
            let packet = Ipv6::new(&into[..length]).unwrap();
            prop_assert_eq!(packet.payload().len(), length - HEADER_BYTES);
            let Ok(Icmpv6Message::Error(read)) = parse(packet.payload(), HERE, THERE) else {
                return Err(TestCaseError::fail("no error"));
            };
            prop_assert_eq!(read.mtu_bytes(), Some(1400));
            prop_assert_eq!(read.quoted, &invoking[..length - 48]);
        }

        // CASES 10
        #[test]
        fn a_reply_is_its_request_with_another_type(
            body in proptest::collection::vec(any::<u8>(), 8..80),
        ) {
            let mut message = body;
            message[..2].copy_from_slice(&[kind::ECHO_REQUEST, 0]);
            let mut message = with_checksum(message);
            let mut expected = message.clone();
            expected[0] = kind::ECHO_REPLY;
            reply_in_place(&mut message);
            prop_assert_eq!(message, with_checksum(expected));
        }

        #[test]
        fn no_octets_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes, HERE, THERE);
            reply_in_place(&mut bytes);
            if bytes.len() >= 4 {
                let _ = parse(&with_checksum(bytes), HERE, THERE);
            }
        }
    }
}
