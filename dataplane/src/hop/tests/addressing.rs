//! ARP and neighbour discovery, to the octet.

use super::rig::*;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::hop::{NeighbourState, link_local};
use crate::io::InterfaceId;
use crate::parse::{ETHER_TYPE_ARP, ETHER_TYPE_IPV6, Kind, protocol};
use crate::wire::address::Address;
use crate::wire::arp::{Arp, ArpOperation};
use crate::wire::ethernet::{self, MacAddress, solicited_node, write_ethernet};
use crate::wire::ndp::{self, Ndp, NeighbourAdvertisement, NeighbourSolicitation};

pub(super) const STRANGER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 0x66]);
const NOBODY: MacAddress = MacAddress([0; 6]);

pub(super) fn arp_frame(message: Arp, to: MacAddress, vlan: Option<u16>) -> Vec<u8> {
    let mut frame = vec![0; 64];
    let begin = write_ethernet(&mut frame, to, message.sender_mac, vlan, ETHER_TYPE_ARP);
    message.write(&mut frame[begin..]);
    frame
}

pub(super) fn request(from: &str, mac: MacAddress, target: &str) -> Arp {
    Arp {
        operation: ArpOperation::Request,
        sender_mac: mac,
        sender: address(from),
        target_mac: NOBODY,
        target: address(target),
    }
}

pub(super) fn reply(from: &str, mac: MacAddress, to: &str, to_mac: MacAddress) -> Arp {
    Arp {
        operation: ArpOperation::Reply,
        sender_mac: mac,
        sender: address(from),
        target_mac: to_mac,
        target: address(to),
    }
}

/// The next ARP message that left by `interface`, with the stations of its frame.
fn sent_arp(rig: &mut Rig, interface: InterfaceId) -> (MacAddress, MacAddress, Arp) {
    let (frame, parsed) = rig.sent_packet(interface);
    assert_eq!(parsed.kind, Kind::Arp);
    let message = Arp::parse(&frame[usize::from(parsed.network)..]).unwrap();
    (
        ethernet::destination(&frame),
        ethernet::source(&frame),
        message,
    )
}

/// The next neighbour discovery message that left by `interface`.
fn sent_ndp(rig: &mut Rig, interface: InterfaceId) -> (MacAddress, Address, Address, Ndp) {
    let (frame, parsed) = rig.sent_packet(interface);
    assert_eq!((parsed.protocol, parsed.ttl), (protocol::ICMPV6, 255));
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let ndp = ndp::parse(message, parsed.source, parsed.destination, 255).unwrap();
    (
        ethernet::destination(&frame),
        parsed.source,
        parsed.destination,
        ndp,
    )
}

fn ndp_frame(
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
    to: MacAddress,
    from: MacAddress,
) -> Vec<u8> {
    let mut frame = vec![0; 14 + ndp::MAX_PACKET_BYTES];
    write_ethernet(&mut frame, to, from, None, ETHER_TYPE_IPV6);
    let length = write(&mut frame[14..]).unwrap();
    frame.truncate(14 + length);
    frame
}

pub(super) fn solicitation(from: &str, mac: Option<MacAddress>, target: &str) -> Vec<u8> {
    let group = solicited_node(address(target));
    let to = MacAddress::of_multicast(group).unwrap();
    let message = NeighbourSolicitation {
        target: address(target),
        source_mac: mac,
    };
    let write = |into: &mut [u8]| message.write(into, address(from), group);
    ndp_frame(write, to, mac.unwrap_or(STRANGER_MAC))
}

pub(super) fn advertisement(
    from: &str,
    to: &str,
    mac: MacAddress,
    is_solicited: bool,
    is_override: bool,
) -> Vec<u8> {
    let message = NeighbourAdvertisement {
        target: address(from),
        target_mac: Some(mac),
        is_router: false,
        is_solicited,
        is_override,
    };
    let station = MacAddress::of_multicast(address(to)).unwrap_or(INSIDE_MAC);
    let write = |into: &mut [u8]| message.write(into, address(from), address(to));
    ndp_frame(write, station, mac)
}

pub(super) fn state_of(rig: &Rig, neighbour: &str) -> Option<(MacAddress, NeighbourState)> {
    let mut places = [None; 64];
    assert_eq!(rig.hop.neighbours(0, &mut places), None);
    let found = places.iter().flatten();
    let mut found = found.filter(|entry| entry.address == address(neighbour));
    found.next().map(|entry| (entry.mac, entry.state))
}

#[test]
fn a_request_for_our_address_is_answered_to_the_octet_and_teaches() {
    let mut rig = Rig::new();
    let asked = request("10.0.0.10", SERVER_MAC, "10.0.0.1");
    let frame = arp_frame(asked, MacAddress::BROADCAST, None);
    assert_eq!(rig.receive(INSIDE, &frame), Outcome::Taken);
    let answer = rig.sent(INSIDE).unwrap();
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 9, 2,  2, 0, 0, 0, 0, 2,  8, 6,
        0, 1, 8, 0, 6, 4, 0, 2,
        2, 0, 0, 0, 0, 2,  10, 0, 0, 1,
        2, 0, 0, 0, 9, 2,  10, 0, 0, 10,
    ];
    assert_eq!(answer[..42], expected);
    assert_eq!(
        state_of(&rig, "10.0.0.10"),
        Some((SERVER_MAC, NeighbourState::Stale))
    );
    rig.balance();
}

#[test]
fn an_answer_in_a_vlan_bears_its_tag() {
    let mut rig = Rig::new();
    let asked = request("10.2.0.10", SERVER_MAC, "10.2.0.1");
    let frame = arp_frame(asked, MacAddress::BROADCAST, Some(200));
    assert_eq!(rig.receive(OTHER_TAGGED, &frame), Outcome::Taken);
    let (frame, parsed) = rig.sent_packet(OTHER_TAGGED);
    assert_eq!((parsed.vlan, parsed.network), (200, 18));
    let message = Arp::parse(&frame[18..]).unwrap();
    assert_eq!(message.operation, ArpOperation::Reply);
    assert_eq!(message.sender, address("10.2.0.1"));
    rig.balance();
}

#[test]
fn a_probe_and_a_sender_of_another_net_are_answered_and_teach_nothing() {
    for sender in ["0.0.0.0", "10.1.0.10"] {
        let mut rig = Rig::new();
        let question = request(sender, SERVER_MAC, "10.0.0.1");
        let frame = arp_frame(question, MacAddress::BROADCAST, None);
        assert_eq!(rig.receive(INSIDE, &frame), Outcome::Taken);
        let (_, _, answer) = sent_arp(&mut rig, INSIDE);
        assert_eq!(answer.sender, address("10.0.0.1"));
        assert_eq!(answer.target, address(sender));
        assert_eq!(rig.hop.neighbours(0, &mut [None; 4]), None);
        assert_eq!(state_of(&rig, sender), None);
        rig.balance();
    }
}

#[test]
fn arp_that_is_not_for_us_or_cannot_be_is_refused() {
    let mut rig = Rig::new();
    let broadcast = MacAddress::BROADCAST;
    for (message, to, reason) in [
        (
            request("10.0.0.10", SERVER_MAC, "10.0.0.11"),
            broadcast,
            DropReason::NotForUs,
        ),
        (
            request("10.0.0.10", SERVER_MAC, "192.0.2.1"),
            broadcast,
            DropReason::NotForUs,
        ),
        (
            request("10.0.0.10", SERVER_MAC, "10.0.0.1"),
            STRANGER_MAC,
            DropReason::NotForUs,
        ),
        // From outside the link's networks and not asking for us, or nobody's address.
        (
            request("10.1.0.10", SERVER_MAC, "10.1.0.10"),
            broadcast,
            DropReason::UnsolicitedNeighbour,
        ),
        (
            request("127.0.0.1", SERVER_MAC, "10.0.0.1"),
            broadcast,
            DropReason::UnsolicitedNeighbour,
        ),
        (
            request("10.0.0.10", broadcast, "10.0.0.1"),
            broadcast,
            DropReason::MalformedArp,
        ),
        // An answer to nothing we asked.
        (
            reply("10.0.0.10", SERVER_MAC, "10.0.0.1", INSIDE_MAC),
            INSIDE_MAC,
            DropReason::UnsolicitedNeighbour,
        ),
        (
            request("10.0.0.10", SERVER_MAC, "10.0.0.10"),
            broadcast,
            DropReason::UnsolicitedNeighbour,
        ),
    ] {
        let frame = arp_frame(message, to, None);
        assert_eq!(rig.dropped(INSIDE, &frame), reason, "{message:?}");
    }
    let short = arp_frame(
        request("10.0.0.10", SERVER_MAC, "10.0.0.1"),
        broadcast,
        None,
    );
    assert_eq!(rig.dropped(INSIDE, &short[..40]), DropReason::MalformedArp);
    assert_eq!(rig.hop.neighbours(0, &mut [None; 4]), None);
    assert_eq!(rig.sent(INSIDE), None);
    assert_eq!(
        state_of(&rig, "10.0.0.10"),
        None,
        "nobody can fill the table"
    );
    rig.balance();
}

#[test]
fn an_unknown_neighbour_is_asked_for_and_gets_what_waited_in_order() {
    let mut rig = Rig::new();
    let frames = [1, 2, 3].map(|number| {
        let mut probe = probe("198.51.100.7", "10.0.0.10");
        probe.payload[39] = number;
        probe.outside()
    });
    for frame in &frames {
        assert!(matches!(rig.receive(OUTSIDE, frame), Outcome::Routed(_)));
    }
    assert_eq!(rig.hop.held(), 3);
    let (to, from, asked) = sent_arp(&mut rig, INSIDE);
    assert_eq!((to, from), (MacAddress::BROADCAST, INSIDE_MAC));
    assert_eq!(asked, request("10.0.0.1", INSIDE_MAC, "10.0.0.10"));
    assert_eq!(rig.sent(INSIDE), None, "asked once");
    rig.balance();

    let answer = reply("10.0.0.10", SERVER_MAC, "10.0.0.1", INSIDE_MAC);
    rig.receive(INSIDE, &arp_frame(answer, INSIDE_MAC, None));
    for frame in &frames {
        let (sent, _) = rig.sent_packet(INSIDE);
        assert_eq!(ethernet::destination(&sent), SERVER_MAC);
        assert_eq!(sent[34..], frame[34..]);
    }
    assert_eq!(rig.hop.held(), 0);
    assert_eq!(rig.counters.event(Event::NeighbourLearned), 1);
    assert_eq!(
        state_of(&rig, "10.0.0.10"),
        Some((SERVER_MAC, NeighbourState::Reachable))
    );
    rig.balance();
}

#[test]
fn an_ipv6_neighbour_is_asked_for_by_its_group_from_our_link_local_address() {
    let mut rig = Rig::new();
    let frame = probe("2001:db8:7::7", "fd00:1::10").outside();
    assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Routed(_)));
    let (to, source, destination, asked) = sent_ndp(&mut rig, INSIDE);
    assert_eq!(to, MacAddress([0x33, 0x33, 0xff, 0, 0, 0x10]));
    assert_eq!(source, address("fe80::ff:fe00:2"));
    assert_eq!(destination, address("ff02::1:ff00:10"));
    let expected = NeighbourSolicitation {
        target: address("fd00:1::10"),
        source_mac: Some(INSIDE_MAC),
    };
    assert_eq!(asked, Ndp::Solicitation(expected));

    let answer = advertisement("fd00:1::10", "fe80::ff:fe00:2", SERVER_MAC, true, true);
    assert_eq!(rig.receive(INSIDE, &answer), Outcome::Taken);
    let (sent, _) = rig.sent_packet(INSIDE);
    assert_eq!(ethernet::destination(&sent), SERVER_MAC);
    assert_eq!(rig.counters.event(Event::Consumed), 1);
    rig.balance();
}

#[test]
fn a_solicitation_for_any_address_of_ours_is_answered() {
    let mut rig = Rig::new();
    for (from, target) in [
        ("fd00:1::10", "fd00:1::1"),
        ("fe80::9", "fd00:1::1"),
        ("fe80::9", "fe80::ff:fe00:2"),
    ] {
        let frame = solicitation(from, Some(SERVER_MAC), target);
        assert_eq!(rig.receive(INSIDE, &frame), Outcome::Taken);
        let (to, source, destination, answer) = sent_ndp(&mut rig, INSIDE);
        assert_eq!(
            (to, source, destination),
            (SERVER_MAC, address(target), address(from))
        );
        let expected = NeighbourAdvertisement {
            target: address(target),
            target_mac: Some(INSIDE_MAC),
            is_router: true,
            is_solicited: true,
            is_override: true,
        };
        assert_eq!(answer, Ndp::Advertisement(expected));
        assert_eq!(
            state_of(&rig, from),
            Some((SERVER_MAC, NeighbourState::Stale))
        );
    }
    rig.balance();
}

#[test]
fn a_check_for_a_duplicate_address_is_told_to_all_nodes() {
    let mut rig = Rig::new();
    let frame = solicitation("::", None, "fd00:1::1");
    assert_eq!(rig.receive(INSIDE, &frame), Outcome::Taken);
    let (to, source, destination, answer) = sent_ndp(&mut rig, INSIDE);
    assert_eq!(to, MacAddress([0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(
        (source, destination),
        (address("fd00:1::1"), address("ff02::1"))
    );
    assert!(matches!(answer, Ndp::Advertisement(said) if !said.is_solicited && said.is_override));
    rig.balance();
}

#[test]
fn neighbour_discovery_that_is_not_for_us_or_cannot_be_is_refused() {
    let mut rig = Rig::new();
    let good = solicitation("fd00:1::10", Some(SERVER_MAC), "fd00:1::1");
    let mut routed = good.clone();
    routed[21] = 254;
    assert_eq!(
        rig.dropped(INSIDE, &routed),
        DropReason::UnsolicitedNeighbour
    );
    let mut damaged = good;
    damaged[58] ^= 1;
    assert_eq!(
        rig.dropped(INSIDE, &damaged),
        DropReason::BadTransportChecksum
    );
    for (frame, reason) in [
        (
            solicitation("fd00:1::10", Some(SERVER_MAC), "fd00:1::11"),
            DropReason::NotForUs,
        ),
        (
            solicitation("fd00:9::10", Some(SERVER_MAC), "fd00:1::1"),
            DropReason::UnsolicitedNeighbour,
        ),
        (
            solicitation("fd00:1::1", Some(STRANGER_MAC), "fd00:1::1"),
            DropReason::UnsolicitedNeighbour,
        ),
        (
            advertisement("fd00:1::10", "ff02::1", SERVER_MAC, false, true),
            DropReason::UnsolicitedNeighbour,
        ),
        (
            advertisement("fd00:1::10", "fd00:1::1", SERVER_MAC, true, true),
            DropReason::UnsolicitedNeighbour,
        ),
        (
            advertisement("fd00:9::10", "ff02::1", SERVER_MAC, false, true),
            DropReason::UnsolicitedNeighbour,
        ),
    ] {
        assert_eq!(rig.dropped(INSIDE, &frame), reason, "{frame:02x?}");
    }
    // No IPv6 on this interface.
    let mut tagged = solicitation("fe80::9", Some(SERVER_MAC), "fe80::ff:fe00:3");
    tagged.splice(12..12, [0x81, 0, 0, 100]);
    assert_eq!(rig.dropped(TAGGED, &tagged), DropReason::NotForUs);
    // The one that claimed our address met its defence.
    assert_eq!(rig.counters.event(Event::AddressContested), 1);
    assert_eq!(rig.counters.event(Event::Created), 1);
    rig.balance();
}

#[test]
fn a_gratuitous_claim_changes_only_what_is_known_and_not_at_once() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    rig.acquaint(INSIDE, "fd00:1::10", SERVER_MAC);
    let claims = [
        (
            "10.0.0.10",
            arp_frame(
                request("10.0.0.10", STRANGER_MAC, "10.0.0.10"),
                MacAddress::BROADCAST,
                None,
            ),
        ),
        (
            "fd00:1::10",
            advertisement("fd00:1::10", "ff02::1", STRANGER_MAC, false, true),
        ),
    ];
    for (neighbour, claim) in &claims {
        rig.receive(INSIDE, claim);
        let known = Some((SERVER_MAC, NeighbourState::Reachable));
        assert_eq!(
            state_of(&rig, neighbour),
            known,
            "within a second of an answer"
        );
    }
    rig.now_ns += SECOND_NS;
    for (neighbour, claim) in &claims {
        rig.receive(INSIDE, claim);
        let changed = Some((STRANGER_MAC, NeighbourState::Stale));
        assert_eq!(state_of(&rig, neighbour), changed);
    }
    // What did not ask to override does not.
    let meek = advertisement("fd00:1::10", "ff02::1", SERVER_MAC, false, false);
    assert_eq!(rig.dropped(INSIDE, &meek), DropReason::UnsolicitedNeighbour);
    rig.balance();
}

#[test]
fn a_claim_to_our_address_is_counted_and_answered_now_and_then() {
    let mut rig = Rig::new();
    let claim = arp_frame(
        request("10.0.0.1", STRANGER_MAC, "10.0.0.1"),
        MacAddress::BROADCAST,
        None,
    );
    assert_eq!(
        rig.dropped(INSIDE, &claim),
        DropReason::UnsolicitedNeighbour
    );
    let (to, _, defence) = sent_arp(&mut rig, INSIDE);
    assert_eq!(to, MacAddress::BROADCAST);
    assert_eq!(defence, request("10.0.0.1", INSIDE_MAC, "10.0.0.1"));
    let claim = advertisement("fd00:1::1", "ff02::1", STRANGER_MAC, false, true);
    assert_eq!(
        rig.dropped(INSIDE, &claim),
        DropReason::UnsolicitedNeighbour
    );
    let (.., defence) = sent_ndp(&mut rig, INSIDE);
    let defends = |said: NeighbourAdvertisement| said.target == address("fd00:1::1");
    assert!(matches!(defence, Ndp::Advertisement(said) if defends(said)));
    // The claim may be in the target alone.
    let message = NeighbourAdvertisement {
        target: address("fd00:1::1"),
        target_mac: Some(STRANGER_MAC),
        is_router: false,
        is_solicited: false,
        is_override: true,
    };
    let all_nodes = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    let write = |into: &mut [u8]| message.write(into, address("fe80::66"), address("ff02::1"));
    let claim = ndp_frame(write, all_nodes, STRANGER_MAC);
    assert_eq!(
        rig.dropped(INSIDE, &claim),
        DropReason::UnsolicitedNeighbour
    );
    assert_eq!(rig.sent(INSIDE), None, "one defence of each in ten seconds");
    rig.now_ns += 10 * SECOND_NS;
    let other = arp_frame(
        reply("10.0.0.1", STRANGER_MAC, "10.0.0.1", STRANGER_MAC),
        MacAddress::BROADCAST,
        None,
    );
    assert_eq!(
        rig.dropped(INSIDE, &other),
        DropReason::UnsolicitedNeighbour
    );
    assert!(rig.sent(INSIDE).is_some());
    assert_eq!(rig.counters.event(Event::AddressContested), 4);
    rig.balance();
}

#[test]
fn our_own_frame_come_back_is_no_contest() {
    let mut rig = Rig::new();
    let echo = arp_frame(
        request("10.0.0.1", INSIDE_MAC, "10.0.0.1"),
        MacAddress::BROADCAST,
        None,
    );
    assert_eq!(rig.dropped(INSIDE, &echo), DropReason::UnsolicitedNeighbour);
    assert_eq!(rig.counters.event(Event::AddressContested), 0);
    rig.balance();
}

#[test]
fn all_addresses_are_announced_three_times_a_second_apart() {
    let mut rig = Rig::new();
    rig.act(|hop, ctx| hop.announce(ctx));
    for round in 0..3 {
        let (to, _, message) = sent_arp(&mut rig, OUTSIDE);
        assert_eq!(to, MacAddress::BROADCAST);
        assert_eq!(message, request("192.0.2.1", OUTSIDE_MAC, "192.0.2.1"));
        for own in ["2001:db8:1::1", "fe80::ff:fe00:1"] {
            let (to, source, destination, said) = sent_ndp(&mut rig, OUTSIDE);
            assert_eq!(to, MacAddress([0x33, 0x33, 0, 0, 0, 1]));
            assert_eq!((source, destination), (address(own), address("ff02::1")));
            let expected = NeighbourAdvertisement {
                target: address(own),
                target_mac: Some(OUTSIDE_MAC),
                is_router: true,
                is_solicited: false,
                is_override: true,
            };
            assert_eq!(said, Ndp::Advertisement(expected));
        }
        assert_eq!(rig.sent(OUTSIDE), None);
        let due = (round < 2).then_some(rig.now_ns + SECOND_NS);
        assert_eq!(rig.hop.next_deadline_ns(), due);
        rig.tick_after(SECOND_NS - 1);
        assert_eq!(rig.sent(OUTSIDE), None);
        rig.tick_after(1);
    }
    assert_eq!(rig.sent(OUTSIDE), None);
    rig.balance();
}

#[test]
fn a_link_local_address_is_made_of_the_station() {
    assert_eq!(
        link_local(MacAddress([0, 0x1b, 0x21, 0x3c, 0x9d, 0xf8])),
        address("fe80::21b:21ff:fe3c:9df8")
    );
}
