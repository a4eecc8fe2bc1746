//! Packets on their way through: link-layer headers, TTL, MTU, and sources that cannot be.

use proptest::prelude::*;

use super::rig::*;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, PortId};
use crate::memory::MemoryBuffer;
use crate::packet::Buffer;
use crate::parse::parse;
use crate::wire::bytes::put_u16;
use crate::wire::checksum::internet_checksum;
use crate::wire::ethernet::{self, MacAddress, link_header_bytes};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

#[test]
fn a_packet_goes_on_with_one_hop_less_and_the_next_hops_station() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    let probe = probe("198.51.100.7", "10.0.0.10");
    let Outcome::Routed(egress) = rig.receive(OUTSIDE, &probe.outside()) else {
        panic!("not routed");
    };
    assert_eq!(
        (egress.interface, egress.next_hop, egress.mtu_bytes),
        (INSIDE, address("10.0.0.10"), 1500)
    );
    let (frame, parsed) = rig.sent_packet(INSIDE);
    assert_eq!(ethernet::destination(&frame), SERVER_MAC);
    assert_eq!(ethernet::source(&frame), INSIDE_MAC);
    assert_eq!(parsed.ttl, 63);
    assert!(Ipv4::new(&frame[14..]).unwrap().checksum_is_valid());
    assert_eq!(frame[34..], probe.packet()[20..]);
    rig.balance();
}

#[test]
fn no_route_to_nowhere() {
    let mut config = config();
    config.routes.clear();
    let mut rig = Rig::with(&config);
    let frame = probe("198.51.100.7", "203.0.113.9").outside();
    assert_eq!(rig.dropped(OUTSIDE, &frame), DropReason::NoRoute);
    rig.balance();
}

#[test]
fn tags_are_put_on_taken_off_exchanged_and_left_out() {
    let server = MacAddress([2, 0, 0, 0, 9, 3]);
    let tagged = MacAddress([2, 0, 0, 0, 0, 3]);
    let mut rig = Rig::new();
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    rig.acquaint(TAGGED, "10.1.0.10", server);
    rig.acquaint(OTHER_TAGGED, "10.2.0.10", server);
    for (from, to, ingress, egress, vlan) in [
        ("10.0.0.10", "198.51.100.7", INSIDE, OUTSIDE, None),
        ("10.0.0.10", "10.1.0.10", INSIDE, TAGGED, Some(100)),
        ("10.1.0.10", "10.0.0.10", TAGGED, INSIDE, None),
        ("10.1.0.10", "10.2.0.10", TAGGED, OTHER_TAGGED, Some(200)),
    ] {
        let probe = probe(from, to);
        let frame = match ingress {
            TAGGED => probe.frame(tagged, server, Some(100)),
            _ => probe.inside(),
        };
        assert!(matches!(rig.receive(ingress, &frame), Outcome::Routed(_)));
        let (sent, parsed) = rig.sent_packet(egress);
        assert_eq!(parsed.vlan, vlan.unwrap_or(0), "{from} to {to}");
        let network = link_header_bytes(vlan);
        assert_eq!(usize::from(parsed.network), network);
        assert_eq!(parsed.destination, address(to));
        assert_eq!(sent[network + 20..], probe.packet()[20..]);
    }
    rig.balance();
}

#[test]
fn an_ipv6_packet_goes_on_too_and_padding_does_not() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "fd00:1::10", SERVER_MAC);
    let probe = probe("2001:db8:7::7", "fd00:1::10");
    let mut frame = probe.outside();
    frame.extend([0xee; 9]);
    assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Routed(_)));
    let (sent, parsed) = rig.sent_packet(INSIDE);
    assert_eq!(ethernet::destination(&sent), SERVER_MAC);
    assert_eq!((parsed.ttl, sent.len()), (63, probe.outside().len()));
    assert_eq!(Ipv6::new(&sent[14..]).unwrap().flow_label(), 7);
    assert_eq!(sent[54..], probe.packet()[40..]);
    rig.balance();
}

#[test]
fn the_longest_route_decides_and_a_router_takes_what_it_leads_to() {
    let rig = Rig::new();
    for (to, interface, next_hop) in [
        ("203.0.113.9", OUTSIDE, "192.0.2.254"),
        ("192.0.2.77", OUTSIDE, "192.0.2.77"),
        ("10.9.3.3", INSIDE, "10.0.0.9"),
        ("2001:db8:7::7", OUTSIDE, "2001:db8:1::fe"),
        ("fd00:1::77", INSIDE, "fd00:1::77"),
    ] {
        let egress = rig.hop.egress(address(to), None).unwrap();
        assert_eq!(
            (egress.interface, egress.next_hop),
            (interface, address(next_hop))
        );
    }
    for ours in ["192.0.2.1", "10.0.0.255", "10.0.0.0", "fd00:1::1"] {
        assert_eq!(rig.hop.egress(address(ours), None), None, "{ours}");
    }
}

// CASES 12
#[test]
fn sources_that_cannot_be_are_refused() {
    let mut rig = Rig::new();
    for (from, to, reason) in [
        ("127.0.0.1", "10.0.0.10", DropReason::MartianSource),
        ("0.0.0.0", "10.0.0.10", DropReason::MartianSource),
        ("224.0.0.5", "10.0.0.10", DropReason::MartianSource),
        ("255.255.255.255", "10.0.0.10", DropReason::MartianSource),
        ("192.0.2.255", "10.0.0.10", DropReason::MartianSource),
        ("10.0.0.10", "10.0.0.10", DropReason::OwnSource),
        ("192.0.2.1", "10.0.0.10", DropReason::OwnSource),
        ("10.0.0.1", "10.0.0.10", DropReason::OwnSource),
        ("10.0.0.11", "10.0.0.10", DropReason::SpoofedSource),
        ("10.9.1.1", "10.0.0.10", DropReason::SpoofedSource),
        ("10.1.0.9", "10.0.0.10", DropReason::SpoofedSource),
        ("::1", "fd00:1::10", DropReason::MartianSource),
        ("::", "fd00:1::10", DropReason::MartianSource),
        ("ff02::1", "fd00:1::10", DropReason::MartianSource),
        ("fd00:1::10", "fd00:1::10", DropReason::OwnSource),
        ("2001:db8:1::1", "fd00:1::10", DropReason::OwnSource),
        ("fd00:1::11", "fd00:1::10", DropReason::SpoofedSource),
        ("fe80::77", "fd00:1::10", DropReason::MartianSource),
    ] {
        let frame = probe(from, to).outside();
        assert_eq!(rig.dropped(OUTSIDE, &frame), reason, "{from} to {to}");
    }
    let group = probe("198.51.100.7", "192.0.2.1").frame(OUTSIDE_MAC, MacAddress::BROADCAST, None);
    assert_eq!(rig.dropped(OUTSIDE, &group), DropReason::MartianSource);
    // Routed elsewhere, but to no protected side: ways may be asymmetric.
    let frame = probe("198.51.100.7", "192.0.2.77").inside();
    assert!(matches!(rig.receive(INSIDE, &frame), Outcome::Routed(_)));
    assert_eq!(rig.counters.event(Event::IcmpErrorSent), 0);
    rig.balance();
}

#[test]
fn what_is_for_other_stations_or_groups_is_not_routed() {
    let mut rig = Rig::new();
    let unicast = probe("198.51.100.7", "10.0.0.10");
    let group = MacAddress([1, 0, 0x5e, 0, 0, 1]);
    for (frame, interface) in [
        (unicast.frame(SERVER_MAC, ROUTER_MAC, None), OUTSIDE),
        (
            unicast.frame(MacAddress::BROADCAST, ROUTER_MAC, None),
            OUTSIDE,
        ),
        (unicast.frame(group, ROUTER_MAC, None), OUTSIDE),
        (probe("198.51.100.7", "224.0.0.5").outside(), OUTSIDE),
        (probe("198.51.100.7", "255.255.255.255").outside(), OUTSIDE),
        // Directed broadcasts of a connected network (RFC 2644).
        (probe("198.51.100.7", "10.0.0.255").outside(), OUTSIDE),
        (probe("198.51.100.7", "10.0.0.0").outside(), OUTSIDE),
        (probe("2001:db8:7::7", "ff0e::5").outside(), OUTSIDE),
        (probe("2001:db8:7::7", "fe80::5").outside(), OUTSIDE),
        // To us, with nothing here to take it.
        (probe("198.51.100.7", "192.0.2.1").outside(), OUTSIDE),
        (probe("198.51.100.7", "10.0.0.1").outside(), OUTSIDE),
    ] {
        assert_eq!(
            rig.dropped(interface, &frame),
            DropReason::NotForUs,
            "{frame:02x?}"
        );
    }
    assert_eq!(rig.counters.event(Event::Created), 0);
    rig.balance();
}

#[test]
fn a_port_or_vlan_without_an_interface_has_none() {
    let rig = Rig::new();
    assert_eq!(rig.hop.interface_of(PortId(0), 0), Some(OUTSIDE));
    assert_eq!(rig.hop.interface_of(PortId(0), 100), None);
    assert_eq!(rig.hop.interface_of(PortId(2), 0), None);
    assert_eq!(rig.hop.interface_of(PortId(2), 200), Some(OTHER_TAGGED));
    assert_eq!(rig.hop.interface_of(PortId(77), 0), None);
    assert_eq!(rig.hop.port_of(OTHER_TAGGED), Some((PortId(2), Some(200))));
}

#[test]
fn a_large_packet_leaves_as_fragments_that_are_the_packet() {
    let mut config = config();
    config.interfaces[1].mtu_bytes = 1280;
    let mut rig = Rig::with(&config);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    let mut probe = probe("198.51.100.7", "10.0.0.10");
    probe.payload = (0..1480u32).map(|at| (at % 251) as u8).collect();
    assert!(matches!(
        rig.receive(OUTSIDE, &probe.outside()),
        Outcome::Routed(_)
    ));
    let mut payload = Vec::new();
    for (begin, more, bytes) in [(0, true, 1276), (1256, false, 244)] {
        let (frame, parsed) = rig.sent_packet(INSIDE);
        let header = Ipv4::new(&frame[14..]).unwrap();
        assert!(header.checksum_is_valid());
        assert_eq!((header.identification(), header.ttl()), (0x4242, 63));
        assert_eq!(
            (header.fragment_offset_bytes(), header.more_fragments()),
            (begin, more)
        );
        assert_eq!(parsed.packet_bytes(), bytes);
        payload.extend_from_slice(header.payload());
    }
    assert_eq!(payload, probe.payload);
    assert_eq!(rig.sent(INSIDE), None);
    rig.balance();
}

#[test]
fn a_fragment_is_cut_again_and_options_are_copied_as_they_ask() {
    let mut config = config();
    config.interfaces[1].mtu_bytes = 1280;
    let mut rig = Rig::with(&config);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    let mut probe = probe("198.51.100.7", "10.0.0.10");
    probe.payload = vec![0x5a; 1400];
    let mut packet = probe.packet();
    // A record route (not copied), a no-operation, and a router alert (copied).
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
    packet.splice(20..20, options);
    packet[0] = 0x48;
    put_u16(&mut packet, 2, 1432);
    // It is itself a fragment: from octet 800 on, more follow.
    put_u16(&mut packet, 6, 0x2000 | 100);
    put_u16(&mut packet, 10, 0);
    let checksum = internet_checksum(&packet[..32]);
    put_u16(&mut packet, 10, checksum);
    let frame = framed(&packet, OUTSIDE_MAC, ROUTER_MAC, None);
    assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Routed(_)));
    let (first, _) = rig.sent_packet(INSIDE);
    let first = Ipv4::new(&first[14..]).unwrap();
    assert_eq!(
        (first.header_bytes(), first.fragment_offset_bytes()),
        (32, 800)
    );
    assert_eq!(first.payload().len(), 1248);
    assert!(first.more_fragments() && first.checksum_is_valid());
    let (second, _) = rig.sent_packet(INSIDE);
    let header = Ipv4::new(&second[14..]).unwrap();
    assert_eq!(
        (header.header_bytes(), header.fragment_offset_bytes()),
        (24, 2048)
    );
    assert_eq!(second[34..38], [148, 4, 0, 0]);
    assert_eq!(header.payload().len(), 1400 - 1248);
    assert!(header.more_fragments() && header.checksum_is_valid());
    rig.balance();
}

#[test]
fn fragments_are_sent_all_or_none() {
    let mut config = config();
    config.interfaces[1].mtu_bytes = 1280;
    let mut rig = Rig::with(&config);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    let mut probe = probe("198.51.100.7", "10.0.0.10");
    probe.payload = vec![1; 1480];
    rig.io.allocations_left = Some(0);
    rig.receive(OUTSIDE, &probe.outside());
    assert_eq!(rig.sent(INSIDE), None);
    assert_eq!(rig.counters.drops(DropReason::NoBuffer), 1);
    rig.balance();
}

#[test]
fn a_later_fragment_that_ran_out_of_hops_is_not_sent_on() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    let mut probe = probe("198.51.100.7", "10.0.0.10");
    probe.ttl = 1;
    let frame = probe.outside();
    let parsed = parse(&frame).unwrap();
    let egress = rig.hop.egress(address("10.0.0.10"), Some(OUTSIDE)).unwrap();
    rig.counters.count(Event::Received);
    rig.act(|hop, ctx| hop.forward(MemoryBuffer::new(&frame), &parsed, &egress, ctx));
    assert_eq!(rig.counters.drops(DropReason::TtlExpired), 1);
    rig.balance();
}

#[test]
fn a_frame_without_room_for_its_header_is_counted() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    let mut frame = MemoryBuffer::new(&[]);
    assert!(frame.prepend(128));
    let bytes = probe("192.0.2.1", "10.0.0.10").packet();
    assert!(frame.set_len(bytes.len()));
    frame.bytes_mut().copy_from_slice(&bytes);
    rig.counters.count(Event::Created);
    rig.act(|hop, ctx| hop.output(frame, ctx));
    assert_eq!(rig.counters.drops(DropReason::NoBuffer), 1);
    rig.balance();
}

#[test]
fn what_is_made_here_is_routed_with_its_ttl_as_it_is() {
    let mut rig = Rig::new();
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    let packet = probe("10.0.0.10", "203.0.113.9").packet();
    rig.counters.count(Event::Created);
    rig.act(|hop, ctx| hop.output(MemoryBuffer::new(&packet), ctx));
    let (frame, parsed) = rig.sent_packet(OUTSIDE);
    assert_eq!(
        (parsed.ttl, ethernet::destination(&frame)),
        (64, ROUTER_MAC)
    );
    assert_eq!(frame[14..], packet);
    for lost in [
        probe("10.0.0.10", "192.0.2.1").packet(),
        vec![0x45; 8],
        vec![],
    ] {
        rig.counters.count(Event::Created);
        rig.act(|hop, ctx| hop.output(MemoryBuffer::new(&lost), ctx));
    }
    assert_eq!(rig.counters.all_drops(), 3);
    rig.balance();
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic_or_lose_count(
        mut frame in proptest::collection::vec(any::<u8>(), 14..120),
        ours in any::<bool>(),
        kind in 0usize..5,
        target in 0usize..4,
        interface in 0u8..2,
    ) {
        let types = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0, 0]];
        frame[12..14].copy_from_slice(&types[kind]);
        if ours {
            let mac = if interface == 0 { OUTSIDE_MAC } else { INSIDE_MAC };
            frame[..6].copy_from_slice(&mac.0);
        }
        if frame.len() > 60 && kind == 0 {
            frame[14] = 0x45;
            let total = (frame.len() - 14) as u16;
            put_u16(&mut frame, 16, total);
            frame[30..34].copy_from_slice(&[[10, 0, 0, 10], [10, 0, 0, 1], [8, 8, 8, 8], [224, 0, 0, 1]][target]);
            put_u16(&mut frame, 24, 0);
            let checksum = internet_checksum(&frame[14..34]);
            put_u16(&mut frame, 24, checksum);
        }
        if frame.len() > 60 && kind == 1 {
            frame[14] = 0x60;
            let payload = (frame.len() - 54) as u16;
            put_u16(&mut frame, 18, payload);
            frame[20] = [58, 6, 44, 0][target];
            frame[22..24].copy_from_slice(&[0x20, 0x01]);
            frame[38..54].copy_from_slice(&address(["fd00:1::1", "fd00:1::10", "ff02::1", "2001:db8:1::1"][target]).octets());
        }
        let mut rig = Rig::new();
        let _ = rig.receive(InterfaceId(interface), &frame);
        rig.tick_after(SECOND_NS);
        rig.balance();
    }
}
