//! ICMP for IPv4 (RFC 792): errors and echo.

use crate::drop_reason::DropReason;
use crate::parse::protocol;
use crate::wire::address::Address;
use crate::wire::bytes::{put_u16, put_u32, u16_at, u32_at};
use crate::wire::checksum::{Update, internet_checksum};
use crate::wire::ipv4::{HEADER_BYTES, Ipv4Header, MINIMUM_REASSEMBLY_BYTES, write_ipv4};

/// Octets of an ICMP message before what it quotes or echoes.
pub const MESSAGE_BYTES: usize = 8;

/// Message types (IANA).
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Source quench; obsolete (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of errors.
pub mod code {
    /// Destination unreachable: no route to the network.
    pub const NETWORK_UNREACHABLE: u8 = 0;
    /// Destination unreachable: the host does not answer.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Destination unreachable: nobody takes the protocol.
    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    /// Destination unreachable: nobody takes the port.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Destination unreachable: too big, and not to be fragmented (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Destination unreachable: refused by a rule (RFC 1812 §5.2.7.1).
    pub const PROHIBITED: u8 = 13;
    /// Time exceeded: the time to live ran out on the way.
    pub const TTL_EXPIRED: u8 = 0;
    /// Time exceeded: the fragments were not complete in time.
    pub const REASSEMBLY_EXPIRED: u8 = 1;
}

/// An error that someone on the way sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError<'a> {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four octets before the quotation, whose meaning the type gives.
    pub rest: u32,
    /// The quoted packet from its IP header on; [`crate::wire::quoted::parse`] reads it. It begins
    /// at octet [`MESSAGE_BYTES`] of the message.
    pub quoted: &'a [u8],
}

impl IcmpError<'_> {
    /// The MTU of the next hop, for "fragmentation needed". 0 came from a router older than
    /// RFC 1191.
    pub fn mtu_bytes(&self) -> Option<u16> {
        (self.kind == kind::DESTINATION_UNREACHABLE && self.code == code::FRAGMENTATION_NEEDED)
            .then_some(self.rest as u16)
    }
}

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Whether it is the reply.
    pub is_reply: bool,
    /// Identifier.
    pub identifier: u16,
    /// Sequence number.
    pub sequence: u16,
}

/// What an ICMP message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpMessage<'a> {
    /// An echo request or reply.
    Echo(Echo),
    /// An error.
    Error(IcmpError<'a>),
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
pub fn parse(message: &[u8]) -> Result<IcmpMessage<'_>, DropReason> {
    let Some((header, quoted)) = message.split_first_chunk::<MESSAGE_BYTES>() else {
        return Err(DropReason::MalformedTransport);
    };
    if !checksum_is_valid(message) {
        return Err(DropReason::BadTransportChecksum);
    }
    let (kind, code) = (header[0], header[1]);
    match kind {
        kind::ECHO_REPLY | kind::ECHO_REQUEST if code == 0 => Ok(IcmpMessage::Echo(Echo {
            is_reply: kind == kind::ECHO_REPLY,
            identifier: u16_at(header, 4),
            sequence: u16_at(header, 6),
        })),
        kind::ECHO_REPLY | kind::ECHO_REQUEST => Err(DropReason::MalformedTransport),
        kind::DESTINATION_UNREACHABLE
        | kind::SOURCE_QUENCH
        | kind::REDIRECT
        | kind::TIME_EXCEEDED
        | kind::PARAMETER_PROBLEM => Ok(IcmpMessage::Error(IcmpError {
            kind,
            code,
            rest: u32_at(header, 4),
            quoted,
        })),
        _ => Ok(IcmpMessage::Other { kind, code }),
    }
}

/// Whether a message, from its type to its end, bears the right checksum.
#[inline]
pub fn checksum_is_valid(message: &[u8]) -> bool {
    internet_checksum(message) == 0
}

/// Whether the type is that of an error, which must never be answered with another (RFC 1122
/// §3.2.2).
#[inline]
pub const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        kind::DESTINATION_UNREACHABLE
            | kind::SOURCE_QUENCH
            | kind::REDIRECT
            | kind::TIME_EXCEEDED
            | kind::PARAMETER_PROBLEM
    )
}

/// Makes an echo request its own reply. The caller exchanges the IP addresses. Nothing happens to a
/// message that is no echo request.
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
pub struct IcmpErrorPacket<'a> {
    /// Who says so.
    pub source: Address,
    /// Who is told: the source of the packet that met the error.
    pub destination: Address,
    /// Time to live.
    pub ttl: u8,
    /// The IP header's identification.
    pub identification: u16,
    /// The error's type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four octets before the quotation: the next hop's MTU for "fragmentation needed", else 0.
    pub rest: u32,
    /// The IP packet that met the error.
    pub invoking: &'a [u8],
}

/// Writes an error as a whole IPv4 packet and gives back its octets. It quotes as much as stays
/// within 576 octets (RFC 1812 §4.3.2.3), fewer where `into` is shorter. `None` when not even the
/// invoking packet's header and eight octets fit.
#[must_use]
pub fn write_error(into: &mut [u8], error: &IcmpErrorPacket<'_>) -> Option<usize> {
    let before = HEADER_BYTES + MESSAGE_BYTES;
    let room = into
        .len()
        .min(MINIMUM_REASSEMBLY_BYTES)
        .checked_sub(before)?;
    let quoted = &error.invoking[..error.invoking.len().min(room)];
    if quoted.len() < (HEADER_BYTES + 8).min(error.invoking.len()) {
        return None;
    }
    let length = before + quoted.len();
    write_ipv4(
        into,
        &Ipv4Header {
            source: error.source,
            destination: error.destination,
            protocol: protocol::ICMP,
            ttl: error.ttl,
            total_bytes: length as u16,
            identification: error.identification,
            dont_fragment: false,
            // Network control (RFC 1812 §4.3.2.5): precedence 6.
            dscp_ecn: 0xc0,
        },
    );
    let message = &mut into[HEADER_BYTES..length];
    message[..4].copy_from_slice(&[error.kind, error.code, 0, 0]);
    put_u32(message, 4, error.rest);
    message[MESSAGE_BYTES..].copy_from_slice(quoted);
    let checksum = internet_checksum(message);
    put_u16(message, 2, checksum);
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::Ipv4;
    use proptest::prelude::*;

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        message[2..4].fill(0);
        let checksum = internet_checksum(&message);
        put_u16(&mut message, 2, checksum);
        message
    }

    fn error(invoking: &[u8]) -> IcmpErrorPacket<'_> {
        IcmpErrorPacket {
            source: Address::from_v4([192, 0, 2, 1]),
            destination: Address::from_v4([198, 51, 100, 7]),
            ttl: 64,
            identification: 9,
            kind: kind::DESTINATION_UNREACHABLE,
            code: code::FRAGMENTATION_NEEDED,
            rest: 1400,
            invoking,
        }
    }

    #[test]
    fn messages_are_told_apart_and_bad_ones_refused() {
        let echo = with_checksum(vec![kind::ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3]);
        let expected = Echo {
            is_reply: false,
            identifier: 0x1234,
            sequence: 7,
        };
        assert_eq!(parse(&echo), Ok(IcmpMessage::Echo(expected)));
        let coded = with_checksum(vec![kind::ECHO_REQUEST, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&coded), Err(DropReason::MalformedTransport));
        let stamp = with_checksum(vec![13, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&stamp), Ok(IcmpMessage::Other { kind: 13, code: 0 }));
        assert_eq!(parse(&echo[..7]), Err(DropReason::MalformedTransport));
        let mut damaged = echo;
        damaged[9] ^= 1;
        assert_eq!(parse(&damaged), Err(DropReason::BadTransportChecksum));
        assert!(is_error(kind::TIME_EXCEEDED) && !is_error(kind::ECHO_REPLY));
    }

    #[test]
    fn only_fragmentation_needed_has_an_mtu() {
        let unreachable = IcmpError {
            kind: kind::DESTINATION_UNREACHABLE,
            code: 4,
            rest: 1400,
            quoted: &[],
        };
        assert_eq!(unreachable.mtu_bytes(), Some(1400));
        assert_eq!(
            IcmpError {
                code: 3,
                ..unreachable
            }
            .mtu_bytes(),
            None
        );
        assert_eq!(
            IcmpError {
                kind: kind::TIME_EXCEEDED,
                ..unreachable
            }
            .mtu_bytes(),
            None
        );
    }

    #[test]
    fn an_error_needs_room_for_the_invoking_header() {
        let invoking = [0x45; 40];
        assert_eq!(write_error(&mut [0; 27], &error(&invoking)), None);
        assert_eq!(write_error(&mut [0; 55], &error(&invoking)), None);
        assert_eq!(write_error(&mut [0; 56], &error(&invoking)), Some(56));
    }

    proptest! {
        #[test]
        fn a_written_error_is_read_back_and_stays_within_576_octets(
            invoking in proptest::collection::vec(any::<u8>(), 28..1500),
        ) {
            let mut into = [0xee; 2000];
            let length = write_error(&mut into, &error(&invoking)).unwrap();
            prop_assert_eq!(length, (invoking.len() + 28).min(576));
            let packet = Ipv4::new(&into[..length]).unwrap();
            prop_assert!(packet.checksum_is_valid());
            prop_assert_eq!(packet.protocol(), protocol::ICMP);
            let Ok(IcmpMessage::Error(read)) = parse(packet.payload()) else {
                return Err(TestCaseError::fail("no error"));
            };
            prop_assert_eq!(read.mtu_bytes(), Some(1400));
            prop_assert_eq!(read.quoted, &invoking[..length - 28]);
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
            let expected = with_checksum(expected);
            reply_in_place(&mut message);
            prop_assert_eq!(&message, &expected);
            reply_in_place(&mut message);
            prop_assert_eq!(&message, &expected, "a reply is not answered");
        }

        #[test]
        fn no_octets_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
            reply_in_place(&mut bytes);
            if bytes.len() >= 4 {
                let _ = parse(&with_checksum(bytes));
            }
        }
    }
}
