//! What is fuzzed, and what must hold whatever the input.

use dataplane::drop_reason::DropReason;
use dataplane::echo::{self, EchoError, EchoJar};
use dataplane::parse::{self, Kind, Parsed, protocol};
use dataplane::wire::address::Family;
use dataplane::wire::arp::Arp;
use dataplane::wire::checksum::{Update, internet_checksum};
use dataplane::wire::icmp::{self, IcmpErrorPacket, IcmpMessage};
use dataplane::wire::icmpv6::{self, Icmpv6ErrorPacket, Icmpv6Message};
use dataplane::wire::ipv4::Ipv4;
use dataplane::wire::ipv6::Ipv6;
use dataplane::wire::ndp::{self, Ndp};
use dataplane::wire::quoted;
use dataplane::wire::tcp::{HEADER_BYTES, Tcp};
use dataplane::wire::tcp_options::{self as options, kind};

use crate::engine::shape_of;
use crate::rig::cookie_keys;

/// A frame is parsed; its offsets stay in order and in bounds, the views agree with the parser,
/// and TCP options are read where it has them.
pub(crate) fn parse(frame: &[u8]) -> Result<u64, DropReason> {
    let parsed = parse::parse(frame)?;
    let offsets = [parsed.network, parsed.transport, parsed.payload, parsed.end];
    assert!(
        offsets.is_sorted() && usize::from(parsed.end) <= frame.len(),
        "{parsed:?}"
    );
    let facts = (
        parsed.kind == Kind::Arp,
        parsed.protocol,
        parsed.fragment as u8,
    );
    let place = (parsed.vlan != 0, parsed.transport - parsed.network);
    if parsed.kind == Kind::Arp {
        return Ok(shape_of((facts, place)));
    }
    let packet = &frame[usize::from(parsed.network)..];
    let mut alone = parsed.without_link_header();
    alone.vlan = 0;
    let expected = Parsed {
        vlan: 0,
        ..parse::parse_network(packet).unwrap()
    };
    assert_eq!(alone, expected);
    check_network_view(&parsed, packet);
    if !parsed.is_whole_tcp() {
        return Ok(shape_of((facts, place)));
    }
    let segment = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let tcp = Tcp::new(segment).expect("the parser took it");
    assert_eq!(tcp.payload().len(), parsed.payload_bytes());
    assert_eq!(tcp.flags(), parsed.tcp_flags);
    let read = options::parse(tcp.options())?;
    Ok(shape_of((facts, place, option_shape(&read))))
}

fn check_network_view(parsed: &Parsed, packet: &[u8]) {
    let mut copy = packet.to_vec();
    match parsed.family {
        Family::V4 => {
            let mut view = Ipv4::new(&mut copy[..]).expect("the parser took it");
            let was_valid = view.checksum_is_valid();
            assert_eq!((view.source(), view.ttl()), (parsed.source, parsed.ttl));
            view.decrement_ttl();
            view.swap_addresses();
            assert_eq!(view.ttl(), parsed.ttl.saturating_sub(1));
            assert_eq!(view.checksum_is_valid(), was_valid);
        }
        Family::V6 => {
            let mut view = Ipv6::new(&mut copy[..]).expect("the parser took it");
            assert_eq!(view.source(), parsed.source);
            view.decrement_hop_limit();
            assert_eq!(view.hop_limit(), parsed.ttl.saturating_sub(1));
        }
    }
}

fn option_shape(read: &options::TcpOptions) -> u64 {
    let sizes = (
        read.mss.is_some(),
        read.window_scale,
        read.sack_permitted,
        read.fast_open,
    );
    let places = (
        read.timestamps.map(|stamps| stamps.offset),
        read.sack_blocks.map(|blocks| (blocks.offset, blocks.count)),
    );
    shape_of((sizes, places))
}

/// A frame on a wire may be an echo that carries a SYN: what is taken for ours is exactly what we
/// would have made of what it carries.
pub(crate) fn echo(frame: &[u8]) -> Result<u64, DropReason> {
    const NOW_MS: u64 = 1_700_000_000_000;
    let mut parsed = Parsed::NONE;
    parse::parse_tagged_into(frame, &mut parsed)?;
    let Some(message) = echo::message_of(frame, &parsed) else {
        return Ok(shape_of((parsed.protocol, parsed.vlan != 0)));
    };
    let payload = &frame[message.payload..usize::from(parsed.end)];
    let jar = EchoJar::new(&cookie_keys());
    let ends = (parsed.destination, parsed.source);
    let carried = jar
        .open(payload, ends, NOW_MS)
        .map_err(|error| match error {
            EchoError::Malformed => DropReason::EchoMalformed,
            EchoError::Version => DropReason::EchoVersion,
            EchoError::Forged => DropReason::EchoForged,
            EchoError::Expired => DropReason::EchoExpired,
        })?;
    let tcp = &payload[echo::HEADER_BYTES..];
    assert_eq!(tcp.len(), carried.tcp_bytes);
    let mut made_ms = [0; 8];
    made_ms.copy_from_slice(&payload[8..16]);
    let mut again = [0; echo::MAX_PAYLOAD_BYTES];
    let made_ms = u64::from_be_bytes(made_ms);
    let length = jar.seal(&mut again, tcp, carried.flags, ends, made_ms);
    assert_eq!(again[..length], *payload);
    Ok(shape_of((
        carried.flags,
        carried.tcp_bytes,
        message.is_reply,
    )))
}

/// Octets are read as TCP options: places stay within the header, what is shifted back is as it
/// was, what is blanked is gone, and the checksum follows.
pub(crate) fn tcp_options(input: &[u8]) -> Result<u64, DropReason> {
    let mut segment = vec![0x11; HEADER_BYTES];
    segment.extend(input);
    for kind in [kind::SACK, kind::TIMESTAMPS, kind::SACK_PERMITTED] {
        let mut changed = segment.clone();
        let before = internet_checksum(&changed);
        let update = options::blank(&mut changed[HEADER_BYTES..], kind);
        assert_eq!(update.apply(before), internet_checksum(&changed));
        assert_eq!(
            options::blank(&mut changed[HEADER_BYTES..], kind),
            Update::new()
        );
    }
    let read = options::parse(input)?;
    if let Some(stamps) = read.timestamps {
        let at = usize::from(stamps.offset);
        assert_eq!(segment[at..at + 4], stamps.value.to_be_bytes());
        assert_eq!(segment[at + 4..at + 8], stamps.echo.to_be_bytes());
    }
    if let Some(blocks) = read.sack_blocks {
        let mut shifted = segment.clone();
        let update = blocks.shift(&mut shifted, 0x8000_0001, Update::new());
        let moved = internet_checksum(&shifted);
        assert_eq!(update.apply(internet_checksum(&segment)), moved);
        let update = blocks.shift(&mut shifted, 0x7fff_ffff, update);
        assert_eq!(shifted, segment);
        assert_eq!(
            update.apply(internet_checksum(&segment)),
            internet_checksum(&segment)
        );
    }
    Ok(option_shape(&read))
}

/// A frame's ICMP message is read with its quotation, and the frame is quoted in an error of ours.
pub(crate) fn icmp_error(frame: &[u8]) -> Result<u64, DropReason> {
    let parsed = parse::parse(frame)?;
    if parsed.kind != Kind::Ip {
        return Err(DropReason::NotForUs);
    }
    let packet = &frame[usize::from(parsed.network)..usize::from(parsed.end)];
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    match parsed.family {
        Family::V4 => quote_in_ipv4(&parsed, packet),
        Family::V6 => quote_in_ipv6(&parsed, packet),
    }
    let (kind, code, mtu, quotation) = match parsed.protocol {
        protocol::ICMP if parsed.family == Family::V4 => match icmp::parse(message)? {
            IcmpMessage::Error(error) => (
                error.kind,
                error.code,
                error.mtu_bytes().is_some(),
                error.quoted,
            ),
            other => return Ok(shape_of(std::mem::discriminant(&other))),
        },
        protocol::ICMPV6 if parsed.family == Family::V6 => {
            match icmpv6::parse(message, parsed.source, parsed.destination)? {
                Icmpv6Message::Error(error) => (
                    error.kind,
                    error.code,
                    error.mtu_bytes().is_some(),
                    error.quoted,
                ),
                other => return Ok(shape_of(std::mem::discriminant(&other))),
            }
        }
        _ => return Err(DropReason::NotForUs),
    };
    let quoted = quoted::parse(quotation)?;
    assert!(usize::from(quoted.transport) + 8 <= quotation.len());
    assert_eq!(quoted.source.family(), quoted.destination.family());
    Ok(shape_of((
        kind,
        code.min(16),
        mtu,
        quoted.protocol,
        quoted.transport,
    )))
}

fn quote_in_ipv4(parsed: &Parsed, packet: &[u8]) {
    let error = IcmpErrorPacket {
        source: parsed.destination,
        destination: parsed.source,
        ttl: 64,
        identification: 1,
        kind: icmp::kind::TIME_EXCEEDED,
        code: icmp::code::TTL_EXPIRED,
        rest: 0,
        invoking: packet,
    };
    let mut into = [0; 600];
    let length = icmp::write_error(&mut into, &error).expect("room");
    let written = Ipv4::new(&into[..length]).unwrap();
    let Ok(IcmpMessage::Error(read)) = icmp::parse(written.payload()) else {
        panic!("an error of ours is not read as one");
    };
    assert!(packet.starts_with(read.quoted));
}

fn quote_in_ipv6(parsed: &Parsed, packet: &[u8]) {
    let error = Icmpv6ErrorPacket {
        source: parsed.destination,
        destination: parsed.source,
        hop_limit: 64,
        kind: icmpv6::kind::PACKET_TOO_BIG,
        code: 0,
        rest: 1280,
        invoking: packet,
    };
    let mut into = [0; 1300];
    let length = icmpv6::write_error(&mut into, &error).expect("room");
    let written = Ipv6::new(&into[..length]).unwrap();
    let read = icmpv6::parse(written.payload(), parsed.destination, parsed.source);
    let Ok(Icmpv6Message::Error(read)) = read else {
        panic!("an error of ours is not read as one");
    };
    assert!(packet.starts_with(read.quoted));
}

/// A frame's ARP or neighbour discovery message is read; written again, it says the same.
pub(crate) fn neighbour(frame: &[u8]) -> Result<u64, DropReason> {
    let parsed = parse::parse(frame)?;
    if parsed.kind == Kind::Arp {
        let arp = Arp::parse(&frame[usize::from(parsed.network)..])?;
        let mut again = [0; 28];
        arp.write(&mut again);
        assert_eq!(Arp::parse(&again), Ok(arp));
        return Ok(shape_of((arp.operation as u8, arp.sender == arp.target)));
    }
    if parsed.protocol != protocol::ICMPV6 || parsed.family != Family::V6 {
        return Err(DropReason::NotForUs);
    }
    let (source, destination) = (parsed.source, parsed.destination);
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let read = ndp::parse(message, source, destination, parsed.ttl)?;
    let mut again = [0; ndp::MAX_PACKET_BYTES];
    let (length, shape) = match read {
        Ndp::Solicitation(message) => {
            let shape = shape_of((0u8, message.source_mac.is_some()));
            (message.write(&mut again, source, destination), shape)
        }
        Ndp::Advertisement(message) => {
            let flags = [message.is_router, message.is_solicited, message.is_override];
            let shape = shape_of((1u8, message.target_mac.is_some(), flags));
            (message.write(&mut again, source, destination), shape)
        }
    };
    let again = Ipv6::new(&again[..length.expect("room")]).unwrap();
    assert_eq!(
        ndp::parse(again.payload(), source, destination, ndp::HOP_LIMIT),
        Ok(read)
    );
    Ok(shape)
}
