//! Links that lose, reorder and repeat, and servers that fail.

use dataplane::parse::flags;
use dataplane::wire::address::Address;
use dataplane::wire::checksum::{pseudo_header, transport};
use proptest::prelude::*;
use simulator::LinkSettings;

use super::joined::{Joined, LINK, MILLISECOND_NS, SECOND_NS, pool, talk};
use crate::endpoints::{ClientConfig, Close, End, Pool};

/// Octets before the TCP header of a frame of IPv4.
const TCP: usize = 34;

fn troubled(close: Close, body_bytes: u32, wire: LinkSettings, seed: u64) -> Joined {
    let config = ClientConfig {
        talk: talk(400, body_bytes),
        close,
        syn_tries: 10,
        tries: 12,
        response_timeout_ns: 120 * SECOND_NS,
        ..ClientConfig::new(LINK, pool())
    };
    Joined::new(config, wire, seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_octet_arrives_over_links_that_lose_reorder_and_repeat(
        seed in any::<u64>(),
        loss in 0.0f64..0.08,
        reorder in 0.0f64..0.1,
        duplicate in 0.0f64..0.1,
        body_bytes in 0u32..60_000,
        server_closes in any::<bool>(),
    ) {
        let wire = LinkSettings {
            delay_ns: 3 * MILLISECOND_NS,
            jitter_ns: MILLISECOND_NS,
            loss,
            reorder,
            duplicate,
            ..LinkSettings::default()
        };
        let close = if server_closes { Close::Server } else { Close::Client };
        let mut joined = troubled(close, body_bytes, wire, seed);
        joined.open(40);
        joined.run(400 * SECOND_NS);
        let ends = *joined.clients.ends();
        joined.assert_sums();
        prop_assert_eq!(ends.open(), 0);
        prop_assert_eq!(ends.of(End::PayloadWrong), 0);
        // Whoever closes last may never learn that its last octets came; the other has gone.
        let closed = ends.of(End::Completed) + ends.of(End::Reset) + ends.of(End::CloseTimedOut);
        prop_assert_eq!(closed, 40, "{}", ends.failures());
        prop_assert_eq!(joined.clients.counters().exchanges, 40);
    }

    #[test]
    fn no_loss_however_great_leaves_a_connection_uncounted(
        seed in any::<u64>(),
        loss in 0.2f64..1.0,
    ) {
        let wire = LinkSettings { loss, ..LinkSettings::default() };
        let mut joined = Joined::new(ClientConfig::new(LINK, pool()), wire, seed);
        joined.open(40);
        joined.run(3000 * SECOND_NS);
        joined.assert_sums();
        prop_assert_eq!(joined.clients.ends().ended(), 40);
        prop_assert_eq!(joined.servers.open(), 0);
    }
}

#[test]
fn a_lost_segment_is_sent_again_without_waiting_for_the_timer() {
    let wire = LinkSettings {
        delay_ns: 10 * MILLISECOND_NS,
        loss: 0.002,
        ..LinkSettings::default()
    };
    let mut joined = troubled(Close::Client, 2_000_000, wire, 3);
    joined.open(1);
    joined.run(100 * SECOND_NS);
    joined.assert_completed(1);
    let again = joined.servers.counters().retransmitted;
    assert!((1..60).contains(&again), "{again}");
    let took_ns = joined.clients.latencies().last_byte_ns.max();
    assert!(took_ns < 4 * SECOND_NS, "{took_ns}");
}

/// Changes the frame's TCP part and completes its checksum.
pub(super) fn rewrite(frame: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(&mut frame[TCP..]);
    let address = |at: usize| {
        let octets = frame[at..].first_chunk::<4>().expect("a whole IPv4 header");
        Address::from_v4(*octets)
    };
    let pseudo = pseudo_header(address(26), address(30), 6, frame.len() - TCP);
    frame[TCP + 16..TCP + 18].fill(0);
    let checksum = transport(&frame[TCP..], pseudo);
    frame[TCP + 16..TCP + 18].copy_from_slice(&checksum.to_be_bytes());
}

fn tampered(tamper: fn(&mut Vec<u8>)) -> Joined {
    let mut joined = Joined::plain(talk(200, 3000), Close::Client);
    joined.tamper = Some(tamper);
    joined.open(20);
    joined.run(100 * SECOND_NS);
    joined.assert_sums();
    assert_eq!(joined.clients.ends().open(), 0);
    joined
}

fn flags_of(frame: &[u8]) -> u8 {
    frame[TCP + 13]
}

#[test]
fn one_wrong_octet_is_found() {
    let joined = tampered(|frame| {
        if frame.len() > 1000 {
            let last = frame.len() - TCP - 1;
            rewrite(frame, |tcp| tcp[last] ^= 1);
        }
    });
    assert_eq!(joined.clients.ends().of(End::PayloadWrong), 20);
}

#[test]
fn a_wrong_checksum_is_a_loss() {
    let joined = tampered(|frame| {
        if frame.len() > 1000 {
            let last = frame.len() - 1;
            frame[last] ^= 1;
        }
    });
    assert_eq!(joined.clients.ends().of(End::ResponseTimedOut), 20);
    assert!(joined.clients.counters().malformed >= 20);
}

#[test]
fn a_server_that_refuses_is_told_from_one_that_is_silent() {
    let refused = tampered(|frame| {
        rewrite(frame, |tcp| tcp[13] = flags::RST | flags::ACK);
    });
    assert_eq!(refused.clients.ends().of(End::Refused), 20);
    let silent = tampered(|frame| frame[TCP + 17] ^= 1);
    assert_eq!(silent.clients.ends().of(End::SynTimedOut), 20);
}

#[test]
fn a_reset_or_an_early_end_amid_the_response_is_counted_as_such() {
    let reset = tampered(|frame| {
        if frame.len() > 1000 {
            rewrite(frame, |tcp| tcp[13] = flags::RST | flags::ACK);
        }
    });
    assert_eq!(reset.clients.ends().of(End::Reset), 20);
    let early = tampered(|frame| {
        if frame.len() > 1000 {
            rewrite(frame, |tcp| tcp[13] |= flags::FIN);
        }
    });
    assert_eq!(early.clients.ends().of(End::ClosedEarly), 20);
}

#[test]
fn a_close_that_is_not_answered_is_counted_as_such() {
    let joined = tampered(|frame| {
        if flags_of(frame) & flags::FIN != 0 {
            frame[TCP + 17] ^= 1;
        }
    });
    assert_eq!(joined.clients.ends().of(End::CloseTimedOut), 20);
    assert_eq!(joined.clients.counters().exchanges, 20);
}

#[test]
fn a_window_of_none_is_waited_for() {
    // As of a guard that has no server yet: its SYN-ACK opens no window, what follows does.
    let joined = tampered(|frame| {
        if flags_of(frame) & flags::SYN != 0 {
            rewrite(frame, |tcp| tcp[14..16].fill(0));
        }
    });
    joined.assert_completed(20);
    let first_byte_ns = joined.clients.latencies().first_byte_ns.min();
    assert!(first_byte_ns < 5 * SECOND_NS, "{first_byte_ns}");
}

#[test]
fn held_connections_that_a_reset_takes_are_lost() {
    let mut joined = Joined::plain(talk(200, 10), Close::Hold);
    joined.open(30);
    joined.run(10 * SECOND_NS);
    assert_eq!(joined.clients.held(), 30);
    // The servers' idle time runs out.
    joined.now_ns += 700 * SECOND_NS;
    joined.turn();
    joined.run(10 * SECOND_NS);
    assert_eq!(joined.clients.ends().of(End::HeldLost), 30);
    joined.assert_sums();
}

#[test]
fn a_server_full_to_its_bound_refuses_and_says_so() {
    let config = ClientConfig {
        close: Close::Hold,
        connections: 4 * 128,
        pools: vec![Pool {
            ports: 128,
            ..pool()
        }],
        ..ClientConfig::new(LINK, pool())
    };
    let mut joined = Joined::new(config, LinkSettings::default(), 1);
    joined.open(320);
    joined.run(10 * SECOND_NS);
    assert_eq!(joined.clients.held(), 300);
    assert_eq!(joined.clients.ends().of(End::Reset), 20);
    // The end of the handshake and the request behind it, each.
    assert!(joined.servers.counters().full >= 20);
}
