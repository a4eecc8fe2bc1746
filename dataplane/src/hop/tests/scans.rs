//! F1: who scans a network that we are connected to, or floods it with claims, crowds out no
//! protected server, no router and nobody who has answered. Each for both families.

use std::collections::HashSet;

use super::addressing::{arp_frame, request, solicitation};
use super::rig::*;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::hop::{HopConfig, HopTables, Neighbour, NeighbourState, NeighbourUpdate, Route};
use crate::limits::{
    MAX_HELD_FOR_NEIGHBOURS, MAX_NEIGHBOURS, MAX_NEIGHBOURS_ASKED, MAX_NEIGHBOURS_CLAIMED,
};
use crate::memory::MemoryBuffer;
use crate::wire::address::{Address, Family};
use crate::wire::ethernet;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The inside network is large, and has a protected server at ..10.
fn wide() -> HopConfig {
    let mut config = config();
    config.interfaces[1].addresses = vec![
        (address("10.0.0.1"), prefix("10.0.0.0/14")),
        (address("fd00:1::1"), prefix("fd00:1::/64")),
    ];
    config.interfaces.truncate(2);
    config.reserved = vec![address("10.0.0.10"), address("fd00:1::10")];
    config.routes.push(Route {
        prefix: prefix("2001:db8:9::/48"),
        via: Some(address("fd00:1::9")),
        interface: INSIDE,
    });
    config
}

/// A host inside that nobody knows.
fn host(family: Family, number: u32) -> Address {
    match family {
        Family::V4 => Address::from_v4((0x0a01_0000 + number).to_be_bytes()),
        Family::V6 => {
            Address::from_bits(address("fd00:1::").to_bits() | 1 << 32 | u128::from(number))
        }
    }
}

/// A packet of ours to `to`.
fn send(rig: &mut Rig, to: Address) {
    let mut packet = match to.family() {
        Family::V4 => probe("192.0.2.1", "10.0.0.10").packet(),
        Family::V6 => probe("2001:db8:1::1", "fd00:1::10").packet(),
    };
    match to.family() {
        Family::V4 => packet[16..20].copy_from_slice(&to.v4_octets()),
        Family::V6 => packet[24..40].copy_from_slice(&to.octets()),
    }
    rig.counters.count(Event::Created);
    rig.act(|hop, ctx| hop.output(MemoryBuffer::new(&packet), ctx));
}

fn learn(rig: &mut Rig, neighbour: Address) {
    let update = NeighbourUpdate {
        interface: INSIDE,
        address: neighbour,
        mac: SERVER_MAC,
        asked: true,
        overrides: true,
    };
    rig.act(|hop, ctx| hop.apply_update(update, ctx));
}

fn state_of(rig: &Rig, wanted: Address) -> Option<NeighbourState> {
    let mut page = vec![None; 10_000];
    assert_eq!(rig.hop.neighbours(0, &mut page), None);
    let mut all = page.into_iter().flatten();
    let is_wanted = |neighbour: &Neighbour| neighbour.address == wanted;
    all.find(is_wanted).map(|neighbour| neighbour.state)
}

/// A second of a scan of 50,000 packets/s, in steps of a tenth, as a worker meets it.
fn scan(rig: &mut Rig, family: Family, from: u32) {
    for number in 0..50_000 {
        send(rig, host(family, from + number));
        if number % 5_000 == 4_999 {
            for _ in 0..64 {
                rig.tick_after(SECOND_NS / 640);
            }
            while rig.sent(INSIDE).is_some() {}
        }
    }
}

/// The protected server, and a router with a network behind it.
fn reserved(family: Family) -> [Address; 2] {
    match family {
        Family::V4 => [address("10.0.0.10"), address("10.0.0.9")],
        Family::V6 => [address("fd00:1::10"), address("fd00:1::9")],
    }
}

#[test]
fn f1_servers_and_routers_are_asked_for_in_the_midst_of_a_scan() {
    for family in FAMILIES {
        let mut rig = Rig::with(&wide());
        scan(&mut rig, family, 0);
        scan(&mut rig, family, 50_000);
        assert!(rig.counters.drops(DropReason::NeighbourTableFull) > 90_000);
        let asked = rig.counters.event(Event::NeighbourAsked);
        assert!(asked < 3 * MAX_NEIGHBOURS_ASKED as u64, "{asked}");
        for wanted in reserved(family) {
            send(&mut rig, wanted);
            assert_eq!(state_of(&rig, wanted), Some(NeighbourState::Incomplete));
            learn(&mut rig, wanted);
            let (sent, _) = loop {
                let sent = rig.sent_packet(INSIDE);
                if ethernet::destination(&sent.0) == SERVER_MAC {
                    break sent;
                }
            };
            assert!(sent.len() > 60, "what waited for it");
        }
        rig.balance();
    }
}

#[test]
fn f1_a_scan_takes_no_place_and_no_packet_of_those_who_are_known() {
    for family in FAMILIES {
        let mut rig = Rig::with(&wide());
        // As many as there is room for; all idle long enough to be given up for others.
        let known = |number| host(family, 0x1_0000 + number);
        for number in 0..MAX_NEIGHBOURS as u32 {
            learn(&mut rig, known(number));
        }
        for _ in 0..MAX_NEIGHBOURS / 16 {
            rig.tick_after(0);
        }
        for _ in 0..=MAX_NEIGHBOURS / 16 {
            rig.tick_after(30 * SECOND_NS / 256);
        }
        assert_eq!(state_of(&rig, known(0)), Some(NeighbourState::Stale));
        scan(&mut rig, family, 0x2_0000);
        let kept = all(&rig);
        for number in 0..MAX_NEIGHBOURS as u32 {
            assert!(kept.contains(&known(number)), "{number}");
        }
        assert_eq!(rig.hop.held(), MAX_HELD_FOR_NEIGHBOURS);
        // One who answers takes the place of one who is idle, and no more.
        learn(&mut rig, host(family, 1));
        assert_eq!(
            state_of(&rig, host(family, 1)),
            Some(NeighbourState::Reachable)
        );
        assert_eq!(state_of(&rig, known(0)), None);
        assert_eq!(state_of(&rig, known(1)), Some(NeighbourState::Stale));
        rig.balance();
    }
}

fn all(rig: &Rig) -> HashSet<Address> {
    let mut page = vec![None; 10_000];
    assert_eq!(rig.hop.neighbours(0, &mut page), None);
    page.into_iter()
        .flatten()
        .map(|neighbour| neighbour.address)
        .collect()
}

#[test]
fn f1_whoever_answers_for_every_address_gets_no_place_of_a_server() {
    for family in FAMILIES {
        let mut rig = Rig::with(&wide());
        for wanted in reserved(family) {
            learn(&mut rig, wanted);
        }
        // Long idle, so that others would be given up for whoever comes.
        rig.tick_after(31 * SECOND_NS);
        let used = host(family, 0x3_0000);
        learn(&mut rig, used);
        for number in 0..3 * MAX_NEIGHBOURS as u32 {
            learn(&mut rig, host(family, number));
        }
        for wanted in reserved(family) {
            assert_eq!(state_of(&rig, wanted), Some(NeighbourState::Stale));
        }
        assert_eq!(state_of(&rig, used), Some(NeighbourState::Reachable));
        rig.balance();
    }
}

#[test]
fn f1_a_reload_moves_neighbours_to_the_places_that_they_now_have() {
    let mut rig = Rig::with(&wide());
    let (server, other) = (address("10.0.0.10"), address("10.0.0.11"));
    send(&mut rig, server);
    learn(&mut rig, other);
    let mut config = wide();
    config.reserved = vec![other];
    let tables = std::sync::Arc::new(HopTables::new(&config).unwrap());
    rig.act(|hop, ctx| hop.reconfigure(tables, ctx));
    assert_eq!(state_of(&rig, server), Some(NeighbourState::Incomplete));
    assert_eq!(rig.hop.held(), 1);
    // The server is one of the strangers now, and they are full.
    scan(&mut rig, Family::V4, 0);
    for _ in 0..400 {
        rig.tick_after(SECOND_NS / 100);
    }
    assert_eq!(state_of(&rig, server), None);
    scan(&mut rig, Family::V4, 50_000);
    send(&mut rig, server);
    assert_eq!(state_of(&rig, server), None);
    assert_eq!(state_of(&rig, other), Some(NeighbourState::Reachable));
    rig.balance();
}

#[test]
fn f1_claims_crowd_out_claims_and_nobody_who_has_answered() {
    for family in FAMILIES {
        let mut rig = Rig::with(&wide());
        let answered = host(family, 1);
        learn(&mut rig, answered);
        for number in 0..3 * MAX_NEIGHBOURS_CLAIMED as u32 {
            let claimant = host(family, 1000 + number);
            let from = claimant.to_string();
            let question = match family {
                Family::V4 => arp_frame(request(&from, ROUTER_MAC, "10.0.0.1"), INSIDE_MAC, None),
                Family::V6 => solicitation(&from, Some(ROUTER_MAC), "fd00:1::1"),
            };
            assert_eq!(rig.receive(INSIDE, &question), Outcome::Taken);
            if number % 500 == 0 {
                assert_eq!(state_of(&rig, claimant), Some(NeighbourState::Stale));
            }
        }
        let kept = all(&rig);
        assert!(kept.contains(&answered));
        assert_eq!(kept.len(), MAX_NEIGHBOURS_CLAIMED + 1);
        rig.balance();
    }
}
