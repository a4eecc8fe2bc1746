//! What a table of servers keeps across reloads, and what it learns.

use super::*;
use crate::limits::MAX_SERVICES;

fn server(last: u8) -> ProtectedServer {
    ProtectedServer {
        address: Address::from_v4([10, 0, 0, last]),
        ports: [80..=80, 8000..=8099].into_iter().collect(),
        overrides: ServerOverrides::default(),
    }
}

const EVERYTHING: Offered = Offered {
    window_scale: true,
    sack: true,
    timestamps: true,
    ecn: true,
};

fn options(mss: u16, window_scale: Option<u8>) -> TcpOptions {
    TcpOptions {
        mss: Some(mss),
        window_scale,
        ..TcpOptions::default()
    }
}

fn heard(options: &TcpOptions, window: u16) -> Heard<'_> {
    Heard {
        offered: EVERYTHING,
        options,
        window,
        ecn: false,
    }
}

#[test]
fn a_server_keeps_its_place_and_what_was_learned_across_a_reload() {
    let mut table = ServerTable::new();
    table.install(&[server(1), server(2)], 0, |_| {});
    let place = table.find(server(2).address).unwrap();
    assert!(table.learn(place, 80, &heard(&options(1400, None), 1000)));
    table.install(&[server(3), server(2)], 0, |_| {});
    assert_eq!(table.find(server(2).address), Some(place));
    assert_eq!(table.traits(place, 80).mss, 1400);
    assert!(!table.traits(place, 80).timestamps);
    assert!(table.is_learned(place, 80) && table.get(place).is_learned);
    assert!(table.get(place).protects(8050) && !table.get(place).protects(81));
    let gone = table.find(server(1).address).unwrap();
    assert!(!table.get(gone).protects(80));
}

#[test]
fn e1_each_service_is_known_by_itself_and_a_new_one_as_the_last() {
    let mut table = ServerTable::new();
    table.install(&[server(1), server(2)], 0, |_| {});
    table.learn(0, 80, &heard(&options(1400, Some(10)), 64_000));
    table.learn(0, 8000, &heard(&options(1300, None), 5000));
    assert_eq!(table.traits(0, 80).window_scale, Some(10));
    assert_eq!(table.traits(0, 80).window, 64_000);
    assert_eq!(table.traits(0, 8000).window_scale, None);
    assert_eq!(table.traits(0, 8001), table.traits(0, 8000), "the last one");
    assert!(!table.is_learned(0, 8001));
    assert_eq!(table.traits(1, 80), ServerTraits::assumed(Family::V4));
    // What is not protected teaches nothing.
    table.learn(0, 22, &heard(&options(999, Some(1)), 1000));
    assert_eq!(table.traits(0, 22).mss, 1300);
}

#[test]
fn e1_a_window_is_the_largest_since_the_service_is_known() {
    let mut table = ServerTable::new();
    table.install(&[server(1)], 0, |_| {});
    assert_eq!(table.traits(0, 80).window, 64_240);
    for (offered, told) in [(5000, 5000), (0, 5000), (9000, 9000), (10, 9000)] {
        table.learn(0, 80, &heard(&options(1400, None), offered));
        assert_eq!(table.traits(0, 80).window, told);
    }
    table.learn(0, 8000, &heard(&options(1400, None), 3));
    assert_eq!(table.traits(0, 8000).window, 1400, "never below a segment");
}

#[test]
fn e1_a_reload_forgets_services_that_left_and_what_was_said_of_them() {
    let mut table = ServerTable::new();
    table.install(&[server(1)], 0, |_| {});
    table.learn(0, 80, &heard(&options(1400, Some(3)), 5000));
    table.learn(0, 8000, &heard(&options(1300, None), 6000));
    let mut less = server(1);
    less.ports = [80..=80].into_iter().collect();
    table.install(&[less], 0, |_| {});
    assert_eq!(table.traits(0, 80).mss, 1400);
    assert_eq!(
        table.traits(0, 8000).mss,
        1400,
        "what is left of the address"
    );
    table.install(&[server(1)], 0, |_| {});
    assert!(!table.is_learned(0, 8000));
    // Gone altogether, and back.
    table.install(&[server(2)], 0, |_| {});
    assert!(!table.get(0).is_learned);
    table.install(&[server(1)], 0, |_| {});
    assert_eq!(table.traits(0, 80), ServerTraits::assumed(Family::V4));
    // What was learned while a trait was set by hand is not what the server said.
    table.learn(0, 80, &heard(&options(1400, Some(3)), 5000));
    let mut fixed = server(1);
    fixed.overrides.window_scale = Some(None);
    table.install(&[fixed], 0, |_| {});
    assert_eq!(table.traits(0, 80).window_scale, None);
    assert!(!table.is_learned(0, 80));
    table.install(&[server(1)], 0, |_| {});
    assert_eq!(table.traits(0, 80).window_scale, Some(7));
}

#[test]
fn e1_services_that_find_no_place_are_taken_to_be_alike() {
    let mut table = ServerTable::new();
    let mut wide = server(1);
    wide.ports = [1..=u16::MAX].into_iter().collect();
    table.install(&[wide], 0, |_| {});
    let of_most = options(1400, Some(3));
    for port in 1..=MAX_SERVICES as u16 {
        assert!(table.learn(0, port, &heard(&of_most, 5000)));
    }
    assert!(!table.learn(0, 60_000, &heard(&options(1200, None), 4000)));
    assert_eq!(table.traits(0, 60_001).mss, 1200);
    assert_eq!(table.traits(0, 1).mss, 1400);
    assert!(table.is_learned(0, 60_000), "asking again would not help");
}

#[test]
fn e1_small_lists_of_ports_are_asked_and_large_ones_are_not() {
    let ports = |ranges: &[RangeInclusive<u16>]| {
        let mut one = server(1);
        one.ports = ranges.iter().cloned().collect();
        let mut table = ServerTable::new();
        table.install(&[one], 0, |_| {});
        table.get(0).probed_ports().collect::<Vec<_>>()
    };
    assert_eq!(ports(&[80..=80, 443..=445]), [80, 443, 444, 445]);
    assert_eq!(ports(&[0..=u16::MAX]), [0]);
    assert_eq!(ports(&[8000..=8099, 443..=443]), [8000, 443]);
    assert_eq!(ports(&[1..=5, 11..=15]).len(), MAX_PROBED_PORTS);
}

#[test]
fn a_client_that_offers_less_leaves_the_rest_to_be_asked() {
    let mut table = ServerTable::new();
    table.install(&[server(1)], 0, |_| {});
    let answer = options(1400, None);
    let plain = Offered {
        window_scale: false,
        sack: false,
        timestamps: false,
        ecn: false,
    };
    let less = Heard {
        offered: plain,
        ..heard(&answer, 1000)
    };
    table.learn(0, 80, &less);
    assert!(!table.is_learned(0, 80));
    assert!(table.traits(0, 80).timestamps, "still only assumed");
    table.learn(0, 80, &heard(&answer, 1000));
    assert!(table.is_learned(0, 80));
    assert!(!table.traits(0, 80).timestamps);
}

#[test]
fn what_is_set_by_hand_is_not_learned() {
    let mut table = ServerTable::new();
    let mut fixed = server(1);
    fixed.overrides.mss = Some(1300);
    fixed.overrides.window_scale = Some(None);
    table.install(&[fixed], 0, |_| {});
    assert_eq!(table.traits(0, 80).mss, 1300);
    table.learn(0, 80, &heard(&options(1400, Some(9)), 1000));
    assert_eq!(table.traits(0, 80).mss, 1300);
    assert_eq!(table.traits(0, 80).window_scale, None);
    assert_eq!(table.traits(0, 8000).window_scale, None);
}

#[test]
fn a_full_table_says_how_many_it_refused() {
    let many: Vec<_> = (0..MAX_PLACES + 3)
        .map(|n| ProtectedServer {
            address: Address::from_v4((0x0a00_0000 + n as u32).to_be_bytes()),
            ..server(0)
        })
        .collect();
    let mut table = ServerTable::new();
    assert_eq!(table.install(&many, 0, |_| {}), 3);
    for (place, wanted) in many.iter().take(MAX_PLACES).enumerate() {
        assert_eq!(table.find(wanted.address), Some(place as u16));
    }
}

/// The servers from 10.0.0.0 on.
fn many(from: usize, count: usize) -> Vec<ProtectedServer> {
    let address = |n: usize| Address::from_v4((0x0a00_0000 + n as u32).to_be_bytes());
    (from..from + count)
        .map(|n| ProtectedServer {
            address: address(n),
            ..server(0)
        })
        .collect()
}

#[test]
fn c1_places_of_servers_that_left_are_given_to_others() {
    let mut table = ServerTable::new();
    let first = many(0, MAX_PLACES);
    assert_eq!(table.install(&first, 0, |_| {}), 0);
    let (held, stays) = (7, 9);
    table.hold(held);
    table.learn(stays, 80, &heard(&options(1300, None), 5000));
    let later = KEPT_TICKS + 1;
    // All but one leave. At once their cookies may still be good.
    let only = [first[usize::from(stays)].clone()];
    assert_eq!(table.install(&only, 0, |_| {}), 0);
    let next = [&only[..], &many(MAX_PLACES, MAX_PLACES - 2)].concat();
    assert_eq!(table.install(&next, KEPT_TICKS, |_| {}), MAX_PLACES - 2);
    assert_eq!(table.install(&only, KEPT_TICKS, |_| {}), 0);
    let mut renewed = Vec::new();
    assert_eq!(table.install(&next, later, |place| renewed.push(place)), 0);
    assert_eq!(renewed.len(), MAX_PLACES - 2);
    assert!(!renewed.contains(&held) && !renewed.contains(&stays));
    for wanted in &next {
        let place = table.find(wanted.address).unwrap();
        assert!(table.get(place).protects(80));
        assert_eq!(table.get(place).address, wanted.address);
    }
    assert_eq!(table.traits(stays, 80).mss, 1300);
    assert_eq!(table.find(first[usize::from(held)].address), Some(held));
    assert_eq!(table.find(first[0].address), None);
    // One more finds a place only when the last session of the one that left has ended.
    let full = [&next[..], &many(3 * MAX_PLACES, 1)].concat();
    assert_eq!(table.install(&full, later, |_| {}), 1);
    table.release(held);
    assert_eq!(table.install(&full, later, |_| {}), 0);
}

proptest::proptest! {
    #[test]
    fn c1_whatever_reloads_come_each_server_is_found_at_its_place(
        reloads in proptest::collection::vec(
            proptest::collection::btree_set(0usize..4000, 300..1000), 1..8),
    ) {
        let mut table = ServerTable::new();
        let mut tick = 0;
        for reload in reloads {
            tick += KEPT_TICKS + 1;
            let wanted: Vec<_> = reload.iter().flat_map(|&n| many(n, 1)).collect();
            table.install(&[], tick, |_| {});
            tick += KEPT_TICKS + 1;
            assert_eq!(table.install(&wanted, tick, |_| {}), 0);
            for one in &wanted {
                let place = table.find(one.address).unwrap();
                assert!(table.get(place).address == one.address && table.get(place).protects(80));
            }
            let protected = table.iter().filter(|one| one.protects(80)).count();
            assert_eq!(protected, wanted.len());
        }
    }
}
