//! Packets on their way through: link-layer headers, TTL, MTU, and sources that cannot be.

use super::rig::*;
use crate::drop_reason::DropReason;
use crate::wire::ethernet::{self, MacAddress, link_header_bytes};
use crate::wire::ipv4::Ipv4;

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
fn timers_leave_a_known_and_used_neighbour_known() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    rig.tick_after(SECOND_NS);
    let frame = probe("198.51.100.7", "10.0.0.10").outside();
    assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Routed(_)));
    assert!(rig.sent(INSIDE).is_some());
    rig.balance();
}
