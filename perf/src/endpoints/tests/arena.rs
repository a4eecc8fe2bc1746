//! The measures themselves, with nobody between clients and servers.

use std::time::Duration;

use dataplane::wire::address::{Address, Prefix};

use super::joined::{LINK, pool, talk};
use crate::endpoints::flood::FloodConfig;
use crate::endpoints::load::Load;
use crate::endpoints::memory::MemoryPort;
use crate::endpoints::scenario::{
    ConcurrentConfig, Findings, SetupsConfig, UnderFlood, concurrent, concurrent_findings,
    search_setups, setups_findings, ttfb, under_flood,
};
use crate::endpoints::{
    Arena, ClientConfig, Clients, Close, End, Offer, Pool, ServerConfig, Servers,
};
use crate::trial::TrialError;

fn spoofed() -> Prefix {
    Prefix::new(Address::from_v4([198, 18, 0, 0]), 15).unwrap()
}

fn arena(close: Close) -> Arena<MemoryPort> {
    stopped_by(close, || false)
}

fn stopped_by(close: Close, stop: impl Fn() -> bool + 'static) -> Arena<MemoryPort> {
    let config = ClientConfig {
        close,
        talk: talk(150, 2000),
        ..ClientConfig::new(
            LINK,
            Pool {
                ports: 5000,
                ..pool()
            },
        )
    };
    let listens = config.pools[0].servers.clone();
    let mut serving = ServerConfig::new(LINK, listens.clone(), 20_000);
    serving.spoofed = vec![spoofed()];
    let flood = FloodConfig {
        sources: vec![spoofed()],
        destinations: listens,
        neighbours: Vec::new(),
        acks: 0.25,
        seed: 9,
    };
    let clients = Clients::new(config, 0).unwrap();
    let servers = Servers::new(serving, 0).unwrap();
    Arena::new(MemoryPort::pair(), clients, servers, stop).with_flood(flood, LINK)
}

#[test]
fn a_rate_is_offered_and_every_connection_accounted_for() {
    let mut arena = arena(Close::Client);
    let came = arena
        .run(&Offer::rate(2000.0, Duration::from_millis(300)))
        .unwrap();
    assert_eq!(came.ends.of(End::Completed), came.ends.started);
    assert_eq!(came.held, 0);
    let due = came.ends.started + came.unsent;
    assert!((580..=620).contains(&due), "{due}");
    assert_eq!(came.verified_bytes, came.ends.started * 2120);
    assert_eq!(came.latencies.whole_ns.len(), came.ends.started);
}

#[test]
fn a_closed_loop_keeps_its_number_open() {
    let mut arena = arena(Close::Reset);
    let came = arena
        .run(&Offer {
            load: Load::Parallel { connections: 10 },
            ..Offer::rate(0.0, Duration::from_millis(200))
        })
        .unwrap();
    assert!(came.ends.started > 100);
    assert_eq!(came.success(), 1.0);
}

#[test]
fn the_search_stops_at_the_most_that_is_tried_or_at_the_testers_own_limit() {
    let config = SetupsConfig {
        first_per_s: 500.0,
        most_per_s: 2000.0,
        trial: Duration::from_millis(100),
        // Other tests run beside this one: the tester may stand still.
        success: 0.5,
        ..SetupsConfig::default()
    };
    let setups = search_setups(&mut arena(Close::Client), &config).unwrap();
    let findings = setups_findings("nobody", &setups);
    let first = &findings.measured[0];
    assert_eq!(first.metric, "connections_per_s");
    assert!(first.value >= 500.0, "{first:?}");
    assert!(setups.failed.is_some() || first.value == 2000.0);
    assert_eq!(findings.series[0].points.len(), setups.tried.len());
}

#[test]
fn concurrent_connections_are_proved_to_live_and_are_closed() {
    let mut arena = arena(Close::Hold);
    let config = ConcurrentConfig {
        connections: 15_000,
        per_s: 100_000.0,
        hold: Duration::from_millis(50),
    };
    let became = concurrent(&mut arena, &config).unwrap();
    assert_eq!(became.opened.held, 15_000);
    assert_eq!(
        (became.after_hold, became.alive, became.closed),
        (15_000, 15_000, 15_000)
    );
    let findings = concurrent_findings("nobody", &became);
    assert!(findings.measured.iter().any(|row| row.value == 15_000.0));
}

#[test]
fn a_flood_is_counted_where_it_arrives_and_does_no_harm_to_servers_without_memory() {
    let config = UnderFlood {
        per_s: 500.0,
        step: Duration::from_millis(200),
        floods_per_s: vec![0.0, 5000.0],
    };
    let mut findings = Findings::default();
    under_flood(&mut arena(Close::Client), "nobody", &config, &mut findings).unwrap();
    let value = |metric: &str| {
        let row = findings.measured.iter().find(|row| row.metric == metric);
        row.unwrap_or_else(|| panic!("{metric}")).value
    };
    assert_eq!(value("success_ratio_at_0_per_s"), 1.0);
    assert_eq!(value("flood_syns_arrived_at_0_per_s"), 0.0);
    assert_eq!(value("success_ratio_at_5000_per_s"), 1.0);
    // Three quarters of a thousand in the step itself.
    let arrived = value("flood_syns_arrived_at_5000_per_s");
    assert!((50.0..2000.0).contains(&arrived), "{arrived}");
    assert_eq!(findings.series.len(), 4);
}

#[test]
fn j3_a_flood_that_the_tester_cannot_send_judges_nobody() {
    let config = UnderFlood {
        per_s: 500.0,
        step: Duration::from_millis(100),
        floods_per_s: vec![1e8],
    };
    let mut findings = Findings::default();
    under_flood(&mut arena(Close::Client), "nobody", &config, &mut findings).unwrap();
    assert_eq!(findings.measured.len(), 5);
    assert!(findings.measured.iter().all(|row| row.is_testers_limit));
    assert!(findings.series.is_empty(), "no point of a plot");
}

#[test]
fn times_are_told_in_order() {
    let mut findings = Findings::default();
    let load = (1000.0, Duration::from_millis(200));
    ttfb(&mut arena(Close::Server), "nobody", load, &mut findings).unwrap();
    let p50 = |name: &str| {
        let metric = format!("{name}_p50_us");
        let row = findings.measured.iter().find(|row| row.metric == metric);
        row.unwrap().value
    };
    assert!(p50("syn_ack") <= p50("first_byte"));
    assert!(p50("first_byte") <= p50("last_byte"));
    assert!(p50("last_byte") <= p50("whole"));
}

#[test]
fn an_interruption_resets_what_is_open() {
    use std::cell::Cell;
    use std::rc::Rc;
    let turns = Rc::new(Cell::new(0));
    let counted = Rc::clone(&turns);
    let mut arena = stopped_by(Close::Hold, move || {
        counted.set(counted.get() + 1);
        counted.get() > 2000
    });
    let offer = Offer::rate(100_000.0, Duration::from_secs(60));
    assert!(matches!(arena.run(&offer), Err(TrialError::Interrupted)));
    assert_eq!(arena.clients.ends().open(), 0);
    assert!(arena.clients.ends().of(End::Abandoned) > 0);
    assert_eq!(arena.servers.as_ref().unwrap().open(), 0);
}
