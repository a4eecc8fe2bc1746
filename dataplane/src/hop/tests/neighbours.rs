//! A neighbour's life: asked for, answered, aged, asked again, gone; and the bounds of the table.

use super::rig::*;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::hop::{HopTables, Neighbour, NeighbourState, NeighbourUpdate};
use crate::io::InterfaceId;
use crate::limits::{
    MAX_HELD_FOR_NEIGHBOURS, MAX_HELD_PER_NEIGHBOUR, MAX_NEIGHBOURS_ASKED, MAX_NEIGHBOURS_CLAIMED,
};
use crate::memory::MemoryBuffer;
use crate::parse::ETHER_TYPE_ARP;
use crate::wire::address::Address;
use crate::wire::arp::{Arp, ArpOperation};
use crate::wire::ethernet::{self, MacAddress, write_ethernet};
use crate::wire::icmp::{IcmpMessage, code, kind};

fn all(rig: &Rig) -> Vec<Neighbour> {
    let mut found = Vec::new();
    let mut from = Some(0);
    while let Some(place) = from {
        let mut page = [None; 7];
        from = rig.hop.neighbours(place, &mut page);
        found.extend(page.into_iter().flatten());
    }
    found
}

fn only(rig: &Rig) -> Option<NeighbourState> {
    let all = all(rig);
    assert!(all.len() <= 1);
    all.first().map(|neighbour| neighbour.state)
}

fn to_server(rig: &mut Rig) {
    let frame = probe("198.51.100.7", "10.0.0.10").outside();
    assert!(matches!(rig.receive(OUTSIDE, &frame), Outcome::Routed(_)));
}

/// The station that the next ARP request by `INSIDE` went to.
fn asked(rig: &mut Rig) -> Option<MacAddress> {
    let frame = rig.sent(INSIDE)?;
    assert_eq!(frame[12..14], ETHER_TYPE_ARP.to_be_bytes());
    assert_eq!(
        Arp::parse(&frame[14..]).unwrap().operation,
        ArpOperation::Request
    );
    Some(ethernet::destination(&frame))
}

fn answer(rig: &mut Rig, mac: MacAddress) {
    let mut frame = vec![0; 64];
    write_ethernet(&mut frame, INSIDE_MAC, mac, None, ETHER_TYPE_ARP);
    let message = Arp {
        operation: ArpOperation::Reply,
        sender_mac: mac,
        sender: address("10.0.0.10"),
        target_mac: INSIDE_MAC,
        target: address("10.0.0.1"),
    };
    message.write(&mut frame[14..]);
    rig.receive(INSIDE, &frame);
}

#[test]
fn one_that_never_answers_is_asked_three_times_and_its_senders_told() {
    let mut rig = Rig::new();
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    to_server(&mut rig);
    for _ in 0..3 {
        assert_eq!(asked(&mut rig), Some(MacAddress::BROADCAST));
        assert_eq!(asked(&mut rig), None);
        assert_eq!(only_inside(&rig), Some(NeighbourState::Incomplete));
        rig.tick_after(SECOND_NS);
    }
    assert_eq!(only_inside(&rig), Some(NeighbourState::Failed));
    assert_eq!(rig.counters.drops(DropReason::NeighbourUnresolved), 1);
    assert_eq!(rig.counters.event(Event::NeighbourAsked), 3);
    let (message, quoted) = sent_error(&mut rig, OUTSIDE);
    assert_eq!(
        message,
        (kind::DESTINATION_UNREACHABLE, code::HOST_UNREACHABLE)
    );
    let sent = probe("198.51.100.7", "10.0.0.10").packet();
    assert_eq!(
        quoted,
        sent[..quoted.len()],
        "as it came, TTL and checksum included"
    );
    rig.balance();

    // For a second nobody is asked again, and senders are told at once.
    to_server(&mut rig);
    assert_eq!(asked(&mut rig), None);
    assert_eq!(rig.counters.drops(DropReason::NeighbourUnresolved), 2);
    sent_error(&mut rig, OUTSIDE);
    rig.tick_after(SECOND_NS);
    assert_eq!(only_inside(&rig), None);
    to_server(&mut rig);
    assert_eq!(asked(&mut rig), Some(MacAddress::BROADCAST));
    rig.balance();
}

fn only_inside(rig: &Rig) -> Option<NeighbourState> {
    let all = all(rig);
    let mut inside = all.iter().filter(|neighbour| neighbour.interface == INSIDE);
    inside.next().map(|neighbour| neighbour.state)
}

fn sent_error(rig: &mut Rig, interface: InterfaceId) -> ((u8, u8), Vec<u8>) {
    let (frame, parsed) = rig.sent_packet(interface);
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    match crate::wire::icmp::parse(message) {
        Ok(IcmpMessage::Error(error)) => ((error.kind, error.code), error.quoted.to_vec()),
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn one_in_use_is_asked_again_itself_and_stays_known() {
    let mut rig = Rig::new();
    to_server(&mut rig);
    assert!(asked(&mut rig).is_some());
    answer(&mut rig, SERVER_MAC);
    assert!(rig.sent(INSIDE).is_some());
    for _ in 0..3 {
        to_server(&mut rig);
        assert!(rig.sent(INSIDE).is_some());
        assert_eq!(only(&rig), Some(NeighbourState::Reachable));
        assert_eq!(
            rig.hop.next_deadline_ns().map(|at| at > rig.now_ns),
            Some(true)
        );
        rig.tick_after(30 * SECOND_NS);
        assert_eq!(only(&rig), Some(NeighbourState::Probe));
        assert_eq!(
            asked(&mut rig),
            Some(SERVER_MAC),
            "no need to bother everyone"
        );
        to_server(&mut rig);
        assert!(rig.sent(INSIDE).is_some(), "traffic does not wait for it");
        answer(&mut rig, SERVER_MAC);
    }
    rig.balance();
}

#[test]
fn one_that_is_gone_is_forgotten_after_three_questions() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    to_server(&mut rig);
    assert!(rig.sent(INSIDE).is_some());
    rig.tick_after(30 * SECOND_NS);
    for _ in 0..3 {
        assert_eq!(asked(&mut rig), Some(SERVER_MAC));
        assert_eq!(only(&rig), Some(NeighbourState::Probe));
        rig.tick_after(SECOND_NS);
    }
    assert_eq!(only(&rig), None);
    to_server(&mut rig);
    assert_eq!(asked(&mut rig), Some(MacAddress::BROADCAST));
    rig.balance();
}

#[test]
fn an_idle_one_grows_stale_unasked_and_is_asked_when_used() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    rig.tick_after(30 * SECOND_NS);
    assert_eq!(only(&rig), Some(NeighbourState::Stale));
    assert_eq!(rig.sent(INSIDE), None);
    to_server(&mut rig);
    let frame = rig.sent(INSIDE).unwrap();
    assert_eq!(frame[12..14], [8, 0], "the packet does not wait");
    assert_eq!(asked(&mut rig), Some(SERVER_MAC));
    answer(&mut rig, SERVER_MAC);
    rig.tick_after(30 * SECOND_NS);
    rig.tick_after(600 * SECOND_NS);
    assert_eq!(only(&rig), None);
    rig.balance();
}

#[test]
fn an_answer_from_another_station_is_not_believed_when_nothing_was_asked() {
    let mut rig = Rig::new();
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    answer(&mut rig, MacAddress([2, 0, 0, 0, 6, 6]));
    assert_eq!(all(&rig)[0].mac, SERVER_MAC);
    rig.balance();
}

#[test]
fn what_waits_is_bounded_for_one_and_for_all() {
    let mut rig = Rig::new();
    for _ in 0..MAX_HELD_PER_NEIGHBOUR + 3 {
        to_server(&mut rig);
    }
    assert_eq!(rig.hop.held(), MAX_HELD_PER_NEIGHBOUR);
    assert_eq!(rig.counters.drops(DropReason::NeighbourQueueFull), 3);
    // Five for each while half of the room is free, then one for each.
    let half = MAX_HELD_FOR_NEIGHBOURS / 2;
    let greedy = (half - MAX_HELD_PER_NEIGHBOUR).div_ceil(5);
    for host in 11..201u8 {
        for _ in 0..5 {
            let packet = packet_to([10, 0, 0, host]);
            rig.counters.count(Event::Created);
            rig.act(|hop, ctx| hop.output(MemoryBuffer::new(&packet), ctx));
        }
    }
    let held = rig.hop.held();
    assert!(
        held > half + 190 - greedy - 5 && held < half + 190,
        "{held}"
    );
    rig.balance();
    for _ in 0..100 {
        rig.tick_after(SECOND_NS);
    }
    assert_eq!(rig.hop.held(), 0);
    rig.balance();
}

fn packet_to(host: [u8; 4]) -> Vec<u8> {
    let mut packet = probe("192.0.2.1", "10.0.0.10").packet();
    packet[16..20].copy_from_slice(&host);
    packet
}

#[test]
fn a_sweep_of_a_network_cannot_fill_the_table_or_flood_the_link() {
    let mut config = config();
    config.interfaces[1].addresses = vec![(address("10.0.0.1"), prefix("10.0.0.0/16"))];
    config.routes.clear();
    let mut rig = Rig::with(&config);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    for host in 0..4000u16 {
        let [high, low] = (host + 300).to_be_bytes();
        let packet = packet_to([10, 0, high, low]);
        rig.counters.count(Event::Created);
        rig.act(|hop, ctx| hop.output(MemoryBuffer::new(&packet), ctx));
    }
    assert_eq!(
        rig.counters.event(Event::NeighbourAsked),
        MAX_NEIGHBOURS_ASKED as u64
    );
    assert!(rig.counters.drops(DropReason::NeighbourTableFull) > 3000);
    assert_eq!(all(&rig).len(), MAX_NEIGHBOURS_ASKED + 1);
    while rig.sent(INSIDE).is_some() {}
    to_server(&mut rig);
    let (sent, _) = rig.sent_packet(INSIDE);
    assert_eq!(
        ethernet::destination(&sent),
        SERVER_MAC,
        "whom we know is served"
    );
    rig.balance();
}

#[test]
fn claims_crowd_out_claims_and_never_whom_we_know() {
    let mut config = config();
    config.interfaces[1].addresses = vec![(address("10.0.0.1"), prefix("10.0.0.0/16"))];
    config.routes.clear();
    let mut rig = Rig::with(&config);
    rig.acquaint(INSIDE, "10.0.0.10", SERVER_MAC);
    for host in 0..2 * MAX_NEIGHBOURS_CLAIMED as u16 {
        let [high, low] = (host + 300).to_be_bytes();
        let sender = Address::from_v4([10, 0, high, low]);
        let mut frame = vec![0; 64];
        write_ethernet(&mut frame, INSIDE_MAC, ROUTER_MAC, None, ETHER_TYPE_ARP);
        let message = Arp {
            operation: ArpOperation::Request,
            sender_mac: ROUTER_MAC,
            sender,
            target_mac: MacAddress([0; 6]),
            target: address("10.0.0.1"),
        };
        message.write(&mut frame[14..]);
        assert_eq!(rig.receive(INSIDE, &frame), Outcome::Taken);
    }
    let known = all(&rig);
    assert_eq!(known.len(), MAX_NEIGHBOURS_CLAIMED + 1);
    assert!(
        known
            .iter()
            .any(|neighbour| neighbour.address == address("10.0.0.10"))
    );
    rig.balance();
}

#[test]
fn what_one_worker_learns_the_others_know() {
    let (mut one, mut other) = (Rig::new(), Rig::new());
    to_server(&mut one);
    assert!(asked(&mut one).is_some());
    answer(&mut one, SERVER_MAC);
    let updates: Vec<_> = one.hop.take_updates().collect();
    let learned = NeighbourUpdate {
        interface: INSIDE,
        address: address("10.0.0.10"),
        mac: SERVER_MAC,
        asked: true,
        overrides: true,
    };
    assert_eq!(updates, [learned]);
    other.act(|hop, ctx| hop.apply_update(learned, ctx));
    to_server(&mut other);
    let (sent, _) = other.sent_packet(INSIDE);
    assert_eq!(ethernet::destination(&sent), SERVER_MAC);
    assert_eq!(other.hop.take_updates().count(), 0, "no echo");
    other.balance();
}

#[test]
fn an_answer_that_came_to_the_wrong_worker_helps_only_the_one_that_asked() {
    let (mut asker, mut hearer, mut third) = (Rig::new(), Rig::new(), Rig::new());
    to_server(&mut asker);
    assert!(asked(&mut asker).is_some());
    answer(&mut hearer, SERVER_MAC);
    assert!(all(&hearer).is_empty());
    let heard: Vec<_> = hearer.hop.take_updates().collect();
    assert_eq!(heard.len(), 1);
    third.act(|hop, ctx| hop.apply_update(heard[0], ctx));
    assert!(all(&third).is_empty(), "nobody asked here");
    asker.act(|hop, ctx| hop.apply_update(heard[0], ctx));
    let (sent, _) = asker.sent_packet(INSIDE);
    assert_eq!(ethernet::destination(&sent), SERVER_MAC);
    let told: Vec<_> = asker.hop.take_updates().collect();
    assert!(matches!(told[..], [update] if update.asked));
    hearer.act(|hop, ctx| hop.apply_update(told[0], ctx));
    assert_eq!(only(&hearer), Some(NeighbourState::Reachable));
    [asker, hearer, third].iter().for_each(Rig::balance);
}

#[test]
fn new_tables_keep_the_neighbours_of_interfaces_that_stay() {
    let mut rig = Rig::new();
    rig.acquaint(OUTSIDE, "192.0.2.254", ROUTER_MAC);
    rig.acquaint(OTHER_TAGGED, "10.2.0.10", SERVER_MAC);
    let frame = probe("10.0.0.10", "10.2.0.11").inside();
    assert!(matches!(rig.receive(INSIDE, &frame), Outcome::Routed(_)));
    to_server(&mut rig);
    assert_eq!(rig.hop.held(), 2);
    let mut config = config();
    config.interfaces[3].vlan = Some(300);
    config.routes.remove(2);
    let tables = std::sync::Arc::new(HopTables::new(&config).unwrap());
    let old = rig.act(|hop, ctx| hop.reconfigure(tables, ctx));
    assert_eq!(
        old.interface_of(crate::io::PortId(2), 200),
        Some(OTHER_TAGGED)
    );
    assert_eq!(rig.hop.interface_of(crate::io::PortId(2), 200), None);
    assert_eq!(rig.counters.drops(DropReason::NeighbourUnresolved), 1);
    assert_eq!(rig.hop.held(), 1, "the server is still asked for");
    let known: Vec<_> = all(&rig).iter().map(|n| n.address).collect();
    assert_eq!(known, [address("192.0.2.254"), address("10.0.0.10")]);
    assert_eq!(
        rig.hop.egress(address("10.9.0.1"), None).unwrap().interface,
        OUTSIDE
    );
    rig.balance();

    // What was judged by the old tables and names an interface that is gone is refused.
    config.interfaces.truncate(1);
    config.routes.truncate(2);
    let egress = rig.hop.egress(address("10.1.0.10"), None).unwrap();
    let tables = std::sync::Arc::new(HopTables::new(&config).unwrap());
    rig.act(|hop, ctx| hop.reconfigure(tables, ctx));
    let frame = probe("198.51.100.7", "10.1.0.10").outside();
    let parsed = crate::parse::parse(&frame).unwrap();
    rig.counters.count(Event::Received);
    rig.act(|hop, ctx| hop.forward(MemoryBuffer::new(&frame), &parsed, &egress, ctx));
    assert_eq!(rig.counters.drops(DropReason::NoRoute), 1);
    rig.balance();
}
