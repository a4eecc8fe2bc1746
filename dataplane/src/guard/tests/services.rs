//! Several services of one address that do different things.

use std::collections::HashSet;

use super::rig::{OWN, Rig, Segment, Shown};
use crate::guard::cookie::{CookieJar, CookieKey};
use crate::parse::flags;

fn two_services() -> Rig {
    Rig::with(10, |config| {
        config.servers[0].ports = [80..=80, 443..=443].into_iter().collect();
    })
}

/// What a new client of the port is told.
fn told(rig: &mut Rig, port: u16) -> Segment {
    rig.client_port += 1;
    rig.server_port = port;
    rig.shake_hands()
}

#[test]
fn e1_clients_of_one_service_are_not_told_what_another_does() {
    let mut rig = two_services();
    rig.server_options.window_scale = Some(10);
    rig.open();
    rig.client_port += 1;
    rig.server_port = 443;
    rig.server_options.window_scale = None;
    rig.server_options.mss = Some(1300);
    rig.server_window = 20_000;
    rig.open();
    for _ in 0..2 {
        let first = told(&mut rig, 80).options;
        assert_eq!((first.mss, first.window_scale), (Some(1460), Some(10)));
        let second = told(&mut rig, 443);
        assert_eq!(
            (second.options.mss, second.options.window_scale),
            (Some(1300), None)
        );
        assert_eq!(second.window, 20_000);
    }
}

#[test]
fn e1_the_window_of_one_answer_is_not_what_the_next_client_is_told() {
    let mut rig = two_services();
    assert_eq!(told(&mut rig, 80).window, 64_240);
    for (offered, next) in [(30_000, 30_000), (0, 30_000), (1, 30_000), (65_000, 65_000)] {
        rig.client_port += 1;
        rig.server_window = offered;
        rig.open();
        assert_eq!(told(&mut rig, 80).window, next, "after {offered}");
    }
}

#[test]
fn e1_an_answer_that_fits_no_opening_teaches_nothing() {
    let mut rig = two_services();
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b""));
    rig.sent();
    rig.server_options.window_scale = None;
    rig.client_isn = rig.client_isn.wrapping_add(1);
    rig.server_sends(rig.server_syn_ack());
    rig.server_port = 443;
    rig.server_sends(rig.server_syn_ack());
    assert_eq!(told(&mut rig, 80).options.window_scale, Some(7));
    assert_eq!(told(&mut rig, 443).options.window_scale, Some(7));
}

#[test]
fn e1_each_service_is_asked_what_it_does() {
    let mut rig = Rig::with(10, |config| {
        config.servers[0].ports = [80..=80, 443..=443].into_iter().collect();
        config.probe_from = vec![OWN];
    });
    rig.advance_ms(1);
    let probes = rig.sent();
    let ports: Vec<u16> = probes.iter().map(|probe| probe.destination_port).collect();
    assert_eq!(ports, [80, 443]);
    rig.server_options.window_scale = Some(3);
    rig.server_answers_probe(&probes[0], probes[0].source_port);
    // The other one has not answered, and is asked again alone.
    rig.advance_s(1);
    let again = rig.only_sent();
    assert_eq!(
        (again.destination_port, again.flags & flags::SYN),
        (443, flags::SYN)
    );
    rig.server_port = 443;
    rig.server_options.window_scale = None;
    let Shown::Reply(_) = rig.server_answers_probe(&again, again.source_port) else {
        panic!("no reply")
    };
    rig.advance_s(2);
    assert!(rig.sent().is_empty(), "both are known now");
    assert_eq!(told(&mut rig, 80).options.window_scale, Some(3));
    assert_eq!(told(&mut rig, 443).options.window_scale, None);
}

/// The ports that a guard with this key asks from, round by round, while nobody answers.
fn asked_from(key: u8) -> Vec<u16> {
    let mut rig = Rig::with(10, |config| {
        config.probe_from = vec![OWN];
        config.jar = CookieJar::new(&[CookieKey {
            not_before_s: 0,
            secret: [key; 16],
        }]);
    });
    rig.advance_ms(1);
    let mut round = || {
        let port = rig.only_sent().source_port;
        rig.advance_s(1);
        port
    };
    (0..8).map(|_| round()).collect()
}

// F4: who has seen the guard's sources, or other ports of its, cannot tell from where it asks.
#[test]
fn f4_servers_are_asked_from_ports_that_only_the_key_tells() {
    let ours = asked_from(9);
    assert_eq!(ours, asked_from(9), "from the key alone");
    assert!(ours.iter().all(|port| *port >= 49_152), "{ours:?}");
    let others = asked_from(8);
    let steps = |ports: &[u16]| -> HashSet<u16> {
        let pairs = ports.windows(2);
        pairs.map(|pair| pair[1].wrapping_sub(pair[0])).collect()
    };
    assert!(ours.iter().zip(&others).all(|(our, other)| our != other));
    assert!(
        steps(&ours).len() > 4 && steps(&others).len() > 4,
        "{ours:?} {others:?}"
    );
}
