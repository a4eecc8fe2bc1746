//! ICMP errors: what they quote, whom they are never sent to, their limit; and pings.

use super::rig::*;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::hop::Complaint;
use crate::io::InterfaceId;
use crate::limits::{ICMP_ERROR_BURST, ICMP_ERRORS_PER_SECOND};
use crate::parse::protocol;
use crate::wire::address::Address;
use crate::wire::bytes::put_u16;
use crate::wire::checksum::internet_checksum;
use crate::wire::ethernet::MacAddress;
use crate::wire::icmp::{self, IcmpMessage};
use crate::wire::icmpv6::{self, Icmpv6Message};

/// An error as it was sent: from, to, type, code, rest, quotation, octets of the packet.
struct SentError {
    from: Address,
    to: Address,
    kind: (u8, u8),
    rest: u32,
    quoted: Vec<u8>,
    bytes: usize,
}

fn sent_error(rig: &mut Rig, interface: InterfaceId) -> SentError {
    let (frame, parsed) = rig.sent_packet(interface);
    assert_eq!(parsed.ttl, 64);
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let (kind, rest, quoted) = match parsed.protocol {
        protocol::ICMP => match icmp::parse(message) {
            Ok(IcmpMessage::Error(error)) => ((error.kind, error.code), error.rest, error.quoted),
            other => panic!("no error: {other:?}"),
        },
        _ => match icmpv6::parse(message, parsed.source, parsed.destination) {
            Ok(Icmpv6Message::Error(error)) => ((error.kind, error.code), error.rest, error.quoted),
            other => panic!("no error: {other:?}"),
        },
    };
    SentError {
        from: parsed.source,
        to: parsed.destination,
        kind,
        rest,
        quoted: quoted.to_vec(),
        bytes: parsed.packet_bytes(),
    }
}

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    rig.acquaint(OUTSIDE, "2001:db8:1::fe", ROUTER_MAC);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    rig.acquaint(INSIDE, "fd00:1::10", SERVER_MAC);
    rig
}

// CASES 12
#[test]
fn ttl_1_ends_here_and_its_sender_is_told() {
    let mut rig = rig();
    for (from, to, ours, kind) in [
        ("198.51.100.7", "10.0.0.10", "192.0.2.1", (11, 0)),
        ("2001:db8:7::7", "fd00:1::10", "2001:db8:1::1", (3, 0)),
    ] {
        for ttl in [0, 1] {
            let mut probe = probe(from, to);
            probe.ttl = ttl;
            probe.payload.resize(90, 9);
            assert_eq!(
                rig.dropped(OUTSIDE, &probe.outside()),
                DropReason::TtlExpired
            );
            let error = sent_error(&mut rig, OUTSIDE);
            assert_eq!((error.from, error.to), (address(ours), address(from)));
            assert_eq!((error.kind, error.rest), (kind, 0));
            let packet = probe.packet();
            assert!(error.bytes <= packet.len());
            assert_eq!(error.quoted, packet[..error.quoted.len()]);
        }
    }
    let mut last = probe("198.51.100.7", "10.0.0.10");
    last.ttl = 2;
    assert!(matches!(
        rig.receive(OUTSIDE, &last.outside()),
        Outcome::Routed(_)
    ));
    assert_eq!(rig.sent_packet(INSIDE).1.ttl, 1);
    rig.balance();
}

// CASES 12
#[test]
fn what_is_too_big_is_told_with_the_mtu() {
    let mut config = config();
    config.interfaces[1].mtu_bytes = 1300;
    let mut rig = Rig::with(&config);
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    rig.acquaint(OUTSIDE, "2001:db8:1::fe", ROUTER_MAC);
    for (from, to, kind) in [
        ("198.51.100.7", "10.0.0.10", (3, 4)),
        ("2001:db8:7::7", "fd00:1::10", (2, 0)),
    ] {
        let mut probe = probe(from, to);
        probe.dont_fragment = true;
        probe.payload.resize(1400, 3);
        assert_eq!(
            rig.dropped(OUTSIDE, &probe.outside()),
            DropReason::PacketTooBig
        );
        let error = sent_error(&mut rig, OUTSIDE);
        assert_eq!((error.kind, error.rest), (kind, 1300));
        let most = if kind.0 == 3 { 576 } else { 1280 };
        assert_eq!(error.bytes, most);
        assert_eq!(error.quoted, probe.packet()[..error.quoted.len()]);
    }
    // Exactly the MTU goes.
    let mut fits = probe("198.51.100.7", "10.0.0.10");
    fits.dont_fragment = true;
    fits.payload.resize(1280, 3);
    assert!(matches!(
        rig.receive(OUTSIDE, &fits.outside()),
        Outcome::Routed(_)
    ));
    rig.balance();
}

#[test]
fn no_route_and_refusal_by_rule_are_told() {
    let mut config = config();
    config.routes.truncate(2);
    config.routes[0].prefix = prefix("198.51.100.0/24");
    config.routes[1].prefix = prefix("2001:db8:7::/48");
    let mut rig = Rig::with(&config);
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    rig.acquaint(OUTSIDE, "2001:db8:1::fe", ROUTER_MAC);
    for (from, to, no_route, prohibited) in [
        ("198.51.100.7", "203.0.113.9", (3, 0), (3, 13)),
        ("2001:db8:7::7", "2001:db8:9::9", (1, 0), (1, 1)),
    ] {
        let mut probe = probe(from, to);
        probe.payload.resize(60, 3);
        assert_eq!(rig.dropped(OUTSIDE, &probe.outside()), DropReason::NoRoute);
        assert_eq!(sent_error(&mut rig, OUTSIDE).kind, no_route);
        let packet = probe.packet();
        rig.act(|hop, ctx| hop.complain(Complaint::Prohibited, &packet, OUTSIDE, ctx));
        assert_eq!(sent_error(&mut rig, OUTSIDE).kind, prohibited);
    }
    rig.balance();
}

/// Has a packet expire, and says whether an error was sent.
fn is_told_of(rig: &mut Rig, frame: &[u8]) -> bool {
    assert_eq!(rig.dropped(OUTSIDE, frame), DropReason::TtlExpired);
    rig.sent(OUTSIDE).is_some()
}

#[test]
fn no_error_about_errors_later_fragments_or_packets_smaller_than_it() {
    let mut rig = rig();
    let mut v4 = probe("198.51.100.7", "10.0.0.10");
    v4.ttl = 1;
    v4.payload.resize(100, 0);
    assert!(is_told_of(&mut rig, &v4.outside()));
    let mut v6 = probe("2001:db8:7::7", "fd00:1::10");
    v6.ttl = 1;
    v6.payload.resize(100, 0);
    assert!(is_told_of(&mut rig, &v6.outside()));

    for (kind, told) in [
        (3, false),
        (4, false),
        (5, false),
        (11, false),
        (12, false),
        (8, true),
        (13, true),
    ] {
        v4.protocol = protocol::ICMP;
        v4.payload[0] = kind;
        assert_eq!(is_told_of(&mut rig, &v4.outside()), told, "ICMP {kind}");
    }
    for (kind, told) in [
        (1, false),
        (2, false),
        (3, false),
        (100, false),
        (137, false),
        (128, true),
    ] {
        v6.protocol = protocol::ICMPV6;
        v6.payload[0] = kind;
        assert_eq!(is_told_of(&mut rig, &v6.outside()), told, "ICMPv6 {kind}");
    }

    v4.protocol = protocol::UDP;
    for (field, told) in [(0x2000, true), (0x2001, false), (0x0001, false)] {
        let mut frame = v4.outside();
        put_u16(&mut frame, 20, field);
        put_u16(&mut frame, 24, 0);
        let checksum = internet_checksum(&frame[14..34]);
        put_u16(&mut frame, 24, checksum);
        assert_eq!(is_told_of(&mut rig, &frame), told, "{field:04x}");
    }

    // CASES 9: an error is never larger than what caused it.
    let suppressed = rig.counters.event(Event::IcmpErrorSuppressed);
    v4.payload.truncate(35);
    assert!(!is_told_of(&mut rig, &v4.outside()));
    v4.payload.resize(36, 0);
    assert!(is_told_of(&mut rig, &v4.outside()));
    v6.payload.truncate(55);
    v6.protocol = protocol::UDP;
    assert!(!is_told_of(&mut rig, &v6.outside()));
    v6.payload.resize(56, 0);
    assert!(is_told_of(&mut rig, &v6.outside()));
    assert_eq!(
        rig.counters.event(Event::IcmpErrorSuppressed),
        suppressed + 2
    );
    rig.balance();
}

#[test]
fn errors_are_limited_and_the_limit_recovers() {
    let mut rig = rig();
    let mut probe = probe("198.51.100.7", "10.0.0.10");
    probe.ttl = 1;
    let frame = probe.outside();
    let told = (0..200).filter(|_| is_told_of(&mut rig, &frame)).count();
    assert_eq!(told as u64, ICMP_ERROR_BURST);
    assert_eq!(
        rig.counters.event(Event::IcmpErrorSuppressed),
        200 - ICMP_ERROR_BURST
    );
    rig.now_ns += SECOND_NS / ICMP_ERRORS_PER_SECOND;
    assert!(is_told_of(&mut rig, &frame));
    assert!(!is_told_of(&mut rig, &frame));
    rig.now_ns += SECOND_NS;
    let told = (0..200).filter(|_| is_told_of(&mut rig, &frame)).count();
    assert_eq!(told as u64, ICMP_ERROR_BURST);
    rig.balance();
}

#[test]
fn f4_noise_does_not_silence_what_says_that_a_packet_is_too_big() {
    let mut config = config();
    config.interfaces[1].mtu_bytes = 1300;
    let mut rig = Rig::with(&config);
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    let mut noise = probe("203.0.113.9", "10.0.0.10");
    noise.ttl = 1;
    let noise = noise.outside();
    while is_told_of(&mut rig, &noise) {}
    let mut large = probe("198.51.100.7", "10.0.0.10");
    large.dont_fragment = true;
    large.payload.resize(1400, 3);
    let reason = rig.dropped(OUTSIDE, &large.outside());
    assert_eq!(reason, DropReason::PacketTooBig);
    assert_eq!(sent_error(&mut rig, OUTSIDE).kind, (3, 4));
    // It has a limit of its own.
    let large = large.outside();
    let told = (0..200).filter(|_| {
        rig.dropped(OUTSIDE, &large);
        rig.sent(OUTSIDE).is_some()
    });
    assert_eq!(told.count() as u64, ICMP_ERROR_BURST - 1);
    rig.balance();
}

#[test]
fn without_a_buffer_the_error_is_left_out() {
    let mut rig = rig();
    rig.io.allocations_left = Some(0);
    let mut probe = probe("198.51.100.7", "10.0.0.10");
    probe.ttl = 1;
    assert!(!is_told_of(&mut rig, &probe.outside()));
    assert_eq!(rig.counters.event(Event::BufferUnavailable), 1);
    rig.balance();
}

fn ping(from: &'static str, to: &'static str) -> Probe {
    let mut probe = probe(from, to);
    let six = address(from).family() == crate::wire::address::Family::V6;
    probe.protocol = if six {
        protocol::ICMPV6
    } else {
        protocol::ICMP
    };
    probe.payload = vec![if six { 128 } else { 8 }, 0, 0, 0, 0xab, 0xcd, 0, 1];
    probe.payload.extend(0..48);
    if six {
        icmpv6::complete_checksum(&mut probe.payload, address(from), address(to));
    } else {
        let checksum = internet_checksum(&probe.payload);
        put_u16(&mut probe.payload, 2, checksum);
    }
    probe
}

#[test]
fn a_ping_to_any_address_of_ours_is_answered_where_it_came_from() {
    let mut rig = rig();
    for (from, to) in [
        ("198.51.100.7", "192.0.2.1"),
        ("198.51.100.7", "10.0.0.1"),
        ("2001:db8:7::7", "2001:db8:1::1"),
        ("2001:db8:7::7", "fd00:1::1"),
        ("fe80::7", "fe80::ff:fe00:1"),
    ] {
        let ping = ping(from, to);
        assert_eq!(rig.receive(OUTSIDE, &ping.outside()), Outcome::Taken);
        let (frame, parsed) = rig.sent_packet(OUTSIDE);
        assert_eq!(crate::wire::ethernet::destination(&frame), ROUTER_MAC);
        assert_eq!(crate::wire::ethernet::source(&frame), OUTSIDE_MAC);
        assert_eq!(
            (parsed.source, parsed.destination, parsed.ttl),
            (address(to), address(from), 64)
        );
        let message = &frame[usize::from(parsed.transport)..];
        let echo = match parsed.protocol {
            protocol::ICMP => match icmp::parse(message) {
                Ok(IcmpMessage::Echo(echo)) => echo,
                other => panic!("{other:?}"),
            },
            _ => match icmpv6::parse(message, parsed.source, parsed.destination) {
                Ok(Icmpv6Message::Echo(echo)) => echo,
                other => panic!("{other:?}"),
            },
        };
        assert!(echo.is_reply);
        assert_eq!((echo.identifier, echo.sequence), (0xabcd, 1));
        assert_eq!(message[8..], ping.payload[8..]);
    }
    assert_eq!(rig.counters.event(Event::EchoAnswered), 5);
    rig.balance();
}

#[test]
fn a_ping_in_a_vlan_is_answered_in_it() {
    let mut rig = Rig::new();
    let ours = MacAddress([2, 0, 0, 0, 0, 3]);
    let frame = ping("10.1.0.10", "10.1.0.1").frame(ours, SERVER_MAC, Some(100));
    assert_eq!(rig.receive(TAGGED, &frame), Outcome::Taken);
    assert_eq!(rig.sent_packet(TAGGED).1.vlan, 100);
    rig.balance();
}

#[test]
fn damaged_pings_replies_and_pings_to_groups_are_not_answered() {
    let mut rig = rig();
    let mut damaged = ping("198.51.100.7", "192.0.2.1");
    damaged.payload[20] ^= 1;
    assert_eq!(
        rig.dropped(OUTSIDE, &damaged.outside()),
        DropReason::BadTransportChecksum
    );
    let mut damaged = ping("2001:db8:7::7", "2001:db8:1::1");
    damaged.payload[20] ^= 1;
    assert_eq!(
        rig.dropped(OUTSIDE, &damaged.outside()),
        DropReason::BadTransportChecksum
    );
    let mut reply = ping("198.51.100.7", "192.0.2.1");
    reply.payload[0] = 0;
    reply.payload[2] = reply.payload[2].wrapping_add(8);
    assert_eq!(rig.dropped(OUTSIDE, &reply.outside()), DropReason::NotForUs);
    for to in ["192.0.2.255", "255.255.255.255", "ff02::1"] {
        let from = if to.contains(':') {
            "2001:db8:1::7"
        } else {
            "198.51.100.7"
        };
        let frame = ping(from, to).frame(MacAddress::BROADCAST, ROUTER_MAC, None);
        assert_eq!(rig.dropped(OUTSIDE, &frame), DropReason::NotForUs, "{to}");
    }
    assert_eq!(rig.counters.event(Event::Created), 0);
    rig.balance();
}
