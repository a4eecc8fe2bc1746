//! What an operator sees of the services, and sessions that an operator ends.

use super::rig::{ENDS, Rig, SERVER_ISN, SERVER_PORT, Shown};
use crate::counters::Event;
use crate::guard::Tally;
use crate::guard::config::Mode;
use crate::guard::session::SessionName;
use crate::parse::flags;

fn tally(rig: &Rig) -> Tally {
    let mut all = rig.guard.tallies();
    let (_, port, tally) = all.next().expect("a service that was asked for");
    assert_eq!((port, all.count()), (SERVER_PORT, 0));
    *tally
}

fn name(rig: &Rig) -> SessionName {
    SessionName {
        client: ENDS[0].0,
        client_port: rig.client_port,
        server: ENDS[0].1,
        server_port: SERVER_PORT,
    }
}

// I6
#[test]
fn i6_a_service_counts_what_it_is_asked_for_takes_and_refuses() {
    let mut rig = Rig::new();
    let cookie = rig.open();
    let open = Tally {
        syns: 1,
        answered: 1,
        failed: 0,
        live: 1,
        opening: 0,
    };
    assert_eq!(tally(&rig), open);
    rig.close(&cookie);
    assert_eq!(tally(&rig), Tally { live: 0, ..open });

    rig.client_port += 1;
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b""));
    rig.sent();
    let opening = Tally {
        syns: 2,
        live: 1,
        opening: 1,
        ..open
    };
    assert_eq!(tally(&rig), opening);
    let ack = rig.client_isn.wrapping_add(1);
    rig.server_sends(rig.server_frame(0, ack, flags::RST | flags::ACK, b""));
    let refused = Tally {
        syns: 2,
        failed: 1,
        live: 0,
        ..open
    };
    assert_eq!(tally(&rig), refused);

    rig.client_port += 1;
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b""));
    for _ in 0..60 {
        rig.advance_s(1);
    }
    let silent = Tally {
        syns: 3,
        failed: 2,
        ..refused
    };
    assert_eq!(tally(&rig), silent);
}

// I6: nothing is refused, and the same is known.
#[test]
fn i6_a_guard_that_only_watches_counts_the_same() {
    let mut rig = Rig::with(10, |config| config.mode = Mode::Monitor);
    let syn = rig.client_syn();
    assert!(matches!(rig.client_sends(syn), Shown::Forward(_)));
    let half = tally(&rig);
    assert_eq!((half.syns, half.live, half.opening), (1, 1, 1));
    rig.server_sends(rig.server_syn_ack());
    let next = SERVER_ISN.wrapping_add(1);
    rig.client_sends(rig.client_segment(1, next, flags::ACK, b""));
    let open = tally(&rig);
    assert_eq!((open.answered, open.live, open.opening), (1, 1, 0));

    rig.client_port += 1;
    rig.client_sends(rig.client_syn());
    let ack = rig.client_isn.wrapping_add(1);
    rig.server_sends(rig.server_frame(0, ack, flags::RST | flags::ACK, b""));
    let refused = tally(&rig);
    assert_eq!((refused.failed, refused.live, refused.opening), (1, 1, 0));
}

// I6
#[test]
fn i6_a_session_that_the_operator_ends_is_reset_on_both_sides() {
    let mut rig = Rig::new();
    let cookie = rig.open();
    let none = SessionName {
        client_port: 1,
        ..name(&rig)
    };
    assert!(!rig.end(&none));
    assert!(rig.end(&name(&rig)));
    let sent = rig.sent();
    assert_eq!(sent.len(), 2, "{sent:?}");
    for segment in &sent {
        assert_eq!(segment.flags, flags::RST | flags::ACK);
    }
    let to_server = (rig.client_isn.wrapping_add(1), SERVER_ISN.wrapping_add(1));
    let to_client = (
        cookie.sequence.wrapping_add(1),
        rig.client_isn.wrapping_add(1),
    );
    let mut numbers: Vec<_> = sent
        .iter()
        .map(|segment| (segment.sequence, segment.acknowledgement))
        .collect();
    let mut expected = vec![to_server, to_client];
    numbers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    assert_eq!(rig.counters.event(Event::SessionEndedByOrder), 1);
    assert_eq!((rig.guard.status().live, tally(&rig).live), (0, 0));
    assert!(!rig.end(&name(&rig)), "it has ended");

    // One whose server has not answered yet.
    rig.client_port += 1;
    let cookie = rig.shake_hands();
    let ack = rig.client_ack(&cookie, b"");
    rig.client_sends(ack.clone());
    rig.sent();
    assert!(rig.end(&name(&rig)));
    let sent = rig.sent();
    assert!(
        sent.iter().all(|one| one.flags & flags::RST != 0) && sent.len() == 2,
        "{sent:?}"
    );
    assert_eq!(rig.guard.status().opening, 0);
    assert!(
        matches!(rig.client_sends(ack), Shown::Dropped(_)),
        "its cookie is spent"
    );
}
