//! Clients against servers.

mod arena;
mod hostile;
mod joined;
mod troubled;

use joined::{Joined, LINK, MILLISECOND_NS, SECOND_NS, pool, pool_of_ipv6, talk};
use simulator::LinkSettings;

use super::client::Unfit;
use super::{ClientConfig, Clients, Close, End, Pool, ServerEnd, stream};

#[test]
fn connections_complete_however_they_are_closed() {
    for (close, end) in [
        (Close::Client, ServerEnd::Closed),
        (Close::Server, ServerEnd::Closed),
        (Close::Reset, ServerEnd::Reset),
    ] {
        let mut joined = Joined::plain(talk(300, 5000), close);
        joined.open(100);
        joined.run(10 * SECOND_NS);
        joined.assert_completed(100);
        let counters = joined.servers.counters();
        assert_eq!(counters.of(end), 100, "{close:?} {counters:?}");
        assert_eq!((counters.syns, counters.requests), (100, 100));
        assert_eq!(counters.retransmitted, 0);
        let counters = joined.clients.counters();
        assert_eq!(
            counters.verified_bytes,
            100 * u64::from(stream::HEAD_BYTES + 5000)
        );
    }
}

#[test]
fn both_families_are_served_at_once() {
    let config = ClientConfig {
        pools: vec![pool(), pool_of_ipv6()],
        connections: 512,
        ..ClientConfig::new(LINK, pool())
    };
    let mut joined = Joined::new(config, LinkSettings::default(), 1);
    joined.open(300);
    joined.run(10 * SECOND_NS);
    joined.assert_completed(300);
}

#[test]
fn places_are_used_again_and_again() {
    let mut joined = Joined::plain(talk(200, 100), Close::Client);
    for _ in 0..20 {
        joined.open(256);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        assert!(joined.clients.open(joined.now_ns, &mut frames).is_err());
        joined.run(5 * SECOND_NS);
    }
    joined.assert_completed(20 * 256);
    assert_eq!(joined.servers.counters().of(ServerEnd::Replaced), 0);
}

#[test]
fn requests_and_responses_of_every_size_arrive() {
    for (request_bytes, body_bytes) in [
        (stream::MIN_REQUEST_BYTES, 0),
        (1448, 1328),
        (1449, 1329),
        (65_535, 1),
        (stream::MIN_REQUEST_BYTES, 3_000_000),
    ] {
        let mut joined = Joined::plain(talk(request_bytes, body_bytes), Close::Client);
        joined.open(3);
        joined.run(30 * SECOND_NS);
        joined.assert_completed(3);
    }
}

#[test]
fn times_count_from_the_first_syn() {
    let mut joined = Joined::plain(talk(200, 100), Close::Client);
    joined.open(10);
    joined.run(10 * SECOND_NS);
    let latencies = joined.clients.take_latencies();
    for (histogram, way) in [
        (&latencies.syn_ack_ns, 2),
        (&latencies.established_ns, 4),
        (&latencies.first_byte_ns, 4),
        (&latencies.last_byte_ns, 4),
        (&latencies.whole_ns, 6),
    ] {
        let least = way * MILLISECOND_NS * 99 / 100;
        assert_eq!(histogram.len(), 10);
        assert!(
            (least..least + 5 * MILLISECOND_NS).contains(&histogram.max()),
            "{way}"
        );
    }
    assert_eq!(joined.clients.latencies().whole_ns.len(), 0);
}

#[test]
fn held_connections_are_asked_again_and_then_closed() {
    let mut joined = Joined::plain(talk(200, 1000), Close::Hold);
    joined.open(200);
    joined.run(10 * SECOND_NS);
    assert_eq!((joined.clients.held(), joined.servers.open()), (200, 200));
    for round in 1..=3 {
        let mut from = 0;
        loop {
            let mut next = None;
            joined.act(|clients, now_ns, frames| {
                next = clients.ask_held(from, 64, now_ns, frames).1;
            });
            match next {
                Some(place) => from = place,
                None => break,
            }
        }
        assert_eq!(joined.clients.held(), 0);
        joined.run(10 * SECOND_NS);
        assert_eq!(joined.clients.held(), 200);
        assert_eq!(joined.servers.counters().requests, 200 * (round + 1));
    }
    joined.act(|clients, now_ns, frames| {
        assert_eq!(clients.close_held(0, 201, now_ns, frames), (200, None));
    });
    joined.run(10 * SECOND_NS);
    joined.assert_completed(200);
}

#[test]
fn what_is_open_at_the_end_is_abandoned_and_counted() {
    let mut joined = Joined::plain(talk(200, 1000), Close::Hold);
    joined.open(50);
    joined.run(10 * SECOND_NS);
    joined.open(20);
    joined.act(|clients, now_ns, frames| {
        // First what is not held yet.
        assert_eq!(clients.abandon(false, 0, 60, now_ns, frames), (20, None));
        assert_eq!(clients.abandon(true, 0, 40, now_ns, frames).0, 40);
        assert_eq!(clients.abandon(true, 0, 60, now_ns, frames), (10, None));
    });
    joined.run(10 * SECOND_NS);
    joined.assert_sums();
    assert_eq!(joined.clients.ends().of(End::Abandoned), 70);
    assert_eq!(joined.clients.held(), 0);
}

#[test]
fn a_connection_takes_no_more_memory_than_it_should() {
    assert_eq!(Clients::connection_bytes(), 64);
    let joined = Joined::plain(talk(200, 10), Close::Client);
    let wheel_heads = 256 * 12;
    let clients = joined.clients.memory_bytes() - wheel_heads;
    assert_eq!(clients, 256 * 64);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let refused = |change: fn(&mut ClientConfig)| {
        let mut config = ClientConfig::new(LINK, pool());
        change(&mut config);
        Clients::new(config, 0).err()
    };
    assert_eq!(refused(|_| {}), None);
    assert_eq!(
        refused(|config| config.pools.clear()),
        Some(Unfit::NoClients)
    );
    assert_eq!(
        refused(|config| config.pools[0].ports = 0),
        Some(Unfit::NoClients)
    );
    assert_eq!(refused(|config| config.mtu_bytes = 500), Some(Unfit::Mtu));
    assert_eq!(
        refused(|config| config.talk = talk(10, 0)),
        Some(Unfit::Lengths)
    );
    let first = pool().first;
    let past = refused(|config| config.pools[0].first_port = 65_500);
    assert_eq!(past, Some(Unfit::Pool(first)));
    let other = refused(|config| config.pools[0].servers = pool_of_ipv6().servers);
    assert_eq!(other, Some(Unfit::Pool(first)));
    let many = refused(|config| {
        config.pools[0] = Pool {
            addresses: 1 << 24,
            ports: 60_000,
            first_port: 1024,
            ..pool()
        };
        config.connections = u32::MAX;
    });
    assert_eq!(many, Some(Unfit::TooMany));
}
