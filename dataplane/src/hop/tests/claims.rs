//! What others say of who is where, unasked or not as an answer should be: how little it changes.

use super::addressing::{STRANGER_MAC, advertisement, arp_frame, reply, request, state_of};
use super::rig::*;
use crate::counters::Event;
use crate::hop::NeighbourState;
use crate::io::InterfaceId;
use crate::parse::protocol;
use crate::wire::ethernet::MacAddress;
use crate::wire::icmpv6;

const SERVER: &str = "fd00:1::10";
const OURS: &str = "fd00:1::1";

/// A packet for the server; what is sent for it goes unseen.
fn use_server(rig: &mut Rig) {
    let frame = probe("2001:db8:7::7", SERVER).outside();
    assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Routed(_)));
    while rig.sent(INSIDE).is_some() {}
}

/// A hop that asks the server whether it is still there.
fn asking_again() -> Rig {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, SERVER, SERVER_MAC);
    use_server(&mut rig);
    rig.tick_after(30 * SECOND_NS);
    while rig.sent(INSIDE).is_some() {}
    let probed = Some((SERVER_MAC, NeighbourState::Probe));
    assert_eq!(state_of(&rig, SERVER), probed);
    rig
}

// RFC 4861 §7.2.5
#[test]
fn b2_an_answer_that_must_not_override_replaces_no_known_station() {
    let meek = advertisement(SERVER, OURS, STRANGER_MAC, true, false);
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, SERVER, SERVER_MAC);
    rig.receive(INSIDE, &meek);
    let reachable = Some((SERVER_MAC, NeighbourState::Reachable));
    assert_eq!(state_of(&rig, SERVER), reachable);
    rig.tick_after(2 * SECOND_NS);
    rig.receive(INSIDE, &meek);
    let doubted = Some((SERVER_MAC, NeighbourState::Stale));
    assert_eq!(state_of(&rig, SERVER), doubted, "it will be asked");
    rig.receive(INSIDE, &meek);
    assert_eq!(state_of(&rig, SERVER), doubted);
    rig.balance();

    let mut rig = asking_again();
    rig.receive(INSIDE, &meek);
    let probed = Some((SERVER_MAC, NeighbourState::Probe));
    assert_eq!(state_of(&rig, SERVER), probed);
    // Its own station need not override to say that it is there.
    rig.receive(
        INSIDE,
        &advertisement(SERVER, OURS, SERVER_MAC, true, false),
    );
    assert_eq!(state_of(&rig, SERVER), reachable);
    rig.balance();

    let mut rig = Rig::new();
    use_server(&mut rig);
    rig.receive(
        INSIDE,
        &advertisement(SERVER, OURS, SERVER_MAC, true, false),
    );
    assert_eq!(state_of(&rig, SERVER), reachable, "nothing was known");
    rig.balance();
}

#[test]
fn b2_nor_does_it_when_another_worker_heard_it() {
    let meek = advertisement(SERVER, OURS, STRANGER_MAC, true, false);
    for hears in [Rig::new(), asking_again()] {
        let mut hears = hears;
        let mut asks = asking_again();
        hears.receive(INSIDE, &meek);
        for update in hears.hop.take_updates().collect::<Vec<_>>() {
            asks.act(|hop, ctx| hop.apply_update(update, ctx));
        }
        let probed = Some((SERVER_MAC, NeighbourState::Probe));
        assert_eq!(state_of(&asks, SERVER), probed);
        asks.balance();
    }
    // Who did not know better tells who does.
    let (mut hears, mut knows) = (Rig::new(), Rig::new());
    use_server(&mut hears);
    hears.receive(INSIDE, &meek);
    knows.acquaint(INSIDE, SERVER, SERVER_MAC);
    for update in hears.hop.take_updates().collect::<Vec<_>>() {
        assert!(update.asked);
        knows.act(|hop, ctx| hop.apply_update(update, ctx));
    }
    let reachable = Some((SERVER_MAC, NeighbourState::Reachable));
    assert_eq!(state_of(&knows, SERVER), reachable);
    knows.balance();
}

#[test]
fn what_nobody_asked_for_makes_no_entry_at_any_worker() {
    let claims = [
        arp_frame(
            request("10.0.0.10", STRANGER_MAC, "10.0.0.10"),
            MacAddress::BROADCAST,
            None,
        ),
        arp_frame(
            reply("10.0.0.10", STRANGER_MAC, "10.0.0.1", INSIDE_MAC),
            INSIDE_MAC,
            None,
        ),
        advertisement(SERVER, "ff02::1", STRANGER_MAC, false, true),
        advertisement(SERVER, "ff02::1", STRANGER_MAC, false, false),
        advertisement(SERVER, OURS, STRANGER_MAC, true, true),
        advertisement(SERVER, OURS, STRANGER_MAC, true, false),
    ];
    let (mut hears, mut other) = (Rig::new(), Rig::new());
    for claim in &claims {
        hears.receive(INSIDE, claim);
        for update in hears.hop.take_updates().collect::<Vec<_>>() {
            other.act(|hop, ctx| hop.apply_update(update, ctx));
        }
        for rig in [&hears, &other] {
            assert_eq!(state_of(rig, "10.0.0.10"), None);
            assert_eq!(state_of(rig, SERVER), None);
        }
    }
    [hears, other].iter().for_each(Rig::balance);
}

#[test]
fn redirects_and_router_advertisements_change_nothing() {
    let mut rig = Rig::new();
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    rig.acquaint(OUTSIDE, "2001:db8:1::fe", ROUTER_MAC);
    let destinations = ["198.51.100.7", "2001:db8:7::7"].map(address);
    let ways = |rig: &Rig| destinations.map(|to| rig.hop.egress(to, None));
    let before = ways(&rig);
    for (from, to, of, kind) in [
        ("192.0.2.254", "192.0.2.1", protocol::ICMP, 5),
        (
            "2001:db8:1::fe",
            "2001:db8:1::1",
            protocol::ICMPV6,
            icmpv6::kind::REDIRECT,
        ),
        ("2001:db8:1::fe", "2001:db8:1::1", protocol::ICMPV6, 134),
        ("fe80::fe", "ff02::1", protocol::ICMPV6, 134),
    ] {
        let mut message = probe(from, to);
        message.protocol = of;
        message.ttl = 255;
        message.payload = vec![0; 60];
        message.payload[0] = kind;
        let station = MacAddress::of_multicast(address(to)).unwrap_or(OUTSIDE_MAC);
        let frame = message.frame(station, ROUTER_MAC, None);
        assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Dropped(_)));
    }
    assert_eq!(ways(&rig), before);
    let mut places = [None; 8];
    assert_eq!(rig.hop.neighbours(0, &mut places), None);
    assert_eq!(places.iter().flatten().count(), 2);
    assert_eq!(rig.sent(OUTSIDE), None);
    rig.balance();
}

/// A claim to an address of ours, and whether it was answered by our own.
fn is_defended(rig: &mut Rig, interface: InterfaceId, claim: &[u8]) -> bool {
    rig.receive(interface, claim);
    rig.sent(interface).is_some()
}

#[test]
fn b2_a_claim_to_one_address_silences_the_defence_of_no_other() {
    let mut rig = Rig::new();
    let arp = |own: &str| {
        let message = request(own, STRANGER_MAC, own);
        arp_frame(message, MacAddress::BROADCAST, None)
    };
    let discovery = |own: &str| advertisement(own, "ff02::1", STRANGER_MAC, false, true);
    let claims = [
        (OUTSIDE, arp("192.0.2.1")),
        (INSIDE, arp("10.0.0.1")),
        (INSIDE, discovery("fd00:1::1")),
        (INSIDE, discovery("fe80::ff:fe00:2")),
    ];
    for _ in 0..3 {
        for (interface, claim) in &claims {
            assert!(is_defended(&mut rig, *interface, claim));
            assert!(!is_defended(&mut rig, *interface, claim), "not at once");
        }
        rig.now_ns += 10 * SECOND_NS;
    }
    assert_eq!(rig.counters.event(Event::AddressContested), 24);
    rig.balance();
}
