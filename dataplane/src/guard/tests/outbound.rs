//! C5: connections that a protected server opens from a protected port. In these tests its peer is the
//! rig's client, and the server's port is 80.

use super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Segment, Shown, wire};
use crate::classify::{Condition, Rules};
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::guard::config::{Action, GuardConfig, Mode};
use crate::guard::session::{State, flag};
use crate::io::InterfaceId;
use crate::parse::flags;
use crate::wire::address::{Address, Prefix};

const ACK: u8 = flags::ACK;
const SYN_ACK: u8 = flags::SYN | flags::ACK;
const FIN_ACK: u8 = flags::FIN | flags::ACK;
pub(super) const SERVER_NEXT: u32 = SERVER_ISN.wrapping_add(1);
pub(super) const CLIENT_NEXT: u32 = CLIENT_ISN.wrapping_add(1);

pub(super) fn forwarded(shown: Shown) -> Segment {
    match shown {
        Shown::Forward(segment) => segment,
        other => panic!("not forwarded: {other:?}"),
    }
}

pub(super) fn server_syn(rig: &Rig) -> Vec<u8> {
    rig.server_frame(SERVER_ISN, 0, flags::SYN, b"")
}

pub(super) fn answer(rig: &Rig) -> Vec<u8> {
    rig.client_frame(CLIENT_ISN, SERVER_NEXT, SYN_ACK, b"")
}

pub(super) fn acknowledgement(rig: &Rig) -> Vec<u8> {
    rig.server_frame(SERVER_NEXT, CLIENT_NEXT, ACK, b"")
}

/// Data both ways, and the end.
pub(super) fn talk_and_close(rig: &mut Rig) {
    let frame = rig.client_frame(CLIENT_NEXT, SERVER_NEXT, ACK, b"220 ready");
    let seen = forwarded(rig.client_sends(frame));
    assert_eq!(
        (seen.sequence, &seen.payload[..]),
        (CLIENT_NEXT, &b"220 ready"[..])
    );
    let acked = CLIENT_NEXT.wrapping_add(9);
    let frame = rig.server_frame(SERVER_NEXT, acked, FIN_ACK, b"QUIT");
    assert_eq!(forwarded(rig.server_sends(frame)).sequence, SERVER_NEXT);
    let end = SERVER_NEXT.wrapping_add(5);
    let frame = rig.client_frame(acked, end, FIN_ACK, b"");
    forwarded(rig.client_sends(frame));
    let frame = rig.server_frame(end, acked.wrapping_add(1), ACK, b"");
    forwarded(rig.server_sends(frame));
    assert_eq!(rig.session().state, State::Closed);
}

fn rigs() -> impl Iterator<Item = Rig> {
    type Change = fn(&mut GuardConfig);
    let kinds: [Change; 4] = [
        |_| {},
        wire,
        |config| config.mode = Mode::OnFlood,
        |config| config.mode = Mode::Monitor,
    ];
    let each = kinds.into_iter().flat_map(|kind| [(kind, 0), (kind, 1)]);
    each.map(|(kind, family)| {
        let mut rig = Rig::with(100, kind);
        rig.family = family;
        rig
    })
}

#[test]
fn c5_a_server_opens_its_own_connections_from_protected_ports() {
    for mut rig in rigs() {
        let syn = forwarded(rig.server_sends(server_syn(&rig)));
        assert_eq!((syn.sequence, syn.flags), (SERVER_ISN, flags::SYN));
        // Each may be lost behind the guard, and come again.
        forwarded(rig.server_sends(server_syn(&rig)));
        for _ in 0..2 {
            let seen = forwarded(rig.client_sends(answer(&rig)));
            assert_eq!(
                (seen.sequence, seen.acknowledgement),
                (CLIENT_ISN, SERVER_NEXT)
            );
        }
        forwarded(rig.server_sends(acknowledgement(&rig)));
        assert_eq!(rig.session().state, State::Established);
        forwarded(rig.client_sends(answer(&rig)));
        forwarded(rig.server_sends(acknowledgement(&rig)));
        talk_and_close(&mut rig);
        assert_eq!(rig.counters.event(Event::ServerOpened), 1);
        assert_eq!(rig.counters.event(Event::ResetSent), 0);
        assert!(rig.sent().is_empty());
    }
}

#[test]
fn c5_what_does_not_answer_the_servers_syn_does_not_reach_it() {
    let mut rig = Rig::new();
    // Without a SYN of the server's.
    let stranger = rig.client_sends(answer(&rig));
    assert!(
        matches!(stranger, Shown::Dropped(DropReason::NoSession)),
        "{stranger:?}"
    );
    forwarded(rig.server_sends(server_syn(&rig)));
    for (sequence, acknowledgement, flags) in [
        (CLIENT_ISN, SERVER_NEXT.wrapping_sub(1), SYN_ACK),
        (CLIENT_ISN, SERVER_NEXT.wrapping_add(1 << 20), SYN_ACK),
        (CLIENT_ISN, 0, flags::SYN),
        (CLIENT_ISN, 0, flags::RST),
        (CLIENT_NEXT, SERVER_NEXT, ACK),
        (CLIENT_NEXT, SERVER_NEXT, FIN_ACK),
    ] {
        let frame = rig.client_frame(sequence, acknowledgement, flags, b"");
        let shown = rig.client_sends(frame);
        assert!(matches!(shown, Shown::Dropped(_)), "{flags:#x}: {shown:?}");
    }
    // The port is closed there.
    let refusal = rig.client_frame(0, SERVER_NEXT, flags::RST | ACK, b"");
    forwarded(rig.client_sends(refusal));
    assert_eq!(rig.guard.status().sessions, 0);
    assert_eq!(rig.guard.status().live, 0);
}

#[test]
fn c5_an_unanswered_syn_is_forgotten_and_the_next_connection_begins_anew() {
    let mut rig = Rig::new();
    forwarded(rig.server_sends(server_syn(&rig)));
    rig.advance_s(120);
    assert_eq!(rig.guard.status().sessions, 0);
    forwarded(rig.server_sends(server_syn(&rig)));
    forwarded(rig.client_sends(answer(&rig)));
    forwarded(rig.server_sends(acknowledgement(&rig)));
    // The server lost its state, and uses the port again.
    let later = SERVER_ISN.wrapping_add(100_000);
    let syn = rig.server_frame(later, 0, flags::SYN, b"");
    forwarded(rig.server_sends(syn));
    let answer = rig.client_frame(7, later.wrapping_add(1), SYN_ACK, b"");
    forwarded(rig.client_sends(answer));
    let frame = rig.server_frame(later.wrapping_add(1), 8, ACK, b"");
    forwarded(rig.server_sends(frame));
    let session = rig.session();
    assert!(session.has(flag::TRACKED | flag::BY_SERVER));
    assert_eq!(
        (session.state, session.client_next),
        (State::Established, 8)
    );
    assert_eq!(rig.guard.status().sessions, 1);
}

#[test]
fn c5_a_client_that_comes_later_by_the_same_ports_proves_itself_as_any() {
    let mut rig = Rig::new();
    forwarded(rig.server_sends(server_syn(&rig)));
    forwarded(rig.client_sends(answer(&rig)));
    forwarded(rig.server_sends(acknowledgement(&rig)));
    talk_and_close(&mut rig);
    rig.open();
    assert!(!rig.session().has(flag::TRACKED));
}

#[test]
fn c2_where_a_rule_lets_clients_past_the_guard_their_server_answers() {
    let clients = Prefix::new(Address::from_v4([198, 51, 100, 0]), 24).unwrap();
    let past = |from: Condition| {
        let rules = Rules::new(&[(from, Action::Forward)], Action::Guard).unwrap();
        let mut rig = Rig::with(100, |config| config.rules = rules);
        forwarded(rig.client_sends(rig.client_syn()));
        forwarded(rig.server_sends(rig.server_syn_ack()));
        let frame = rig.client_frame(CLIENT_NEXT, SERVER_NEXT, ACK, b"GET");
        forwarded(rig.client_sends(frame));
        let frame = rig.server_frame(SERVER_NEXT, CLIENT_NEXT, ACK, b"200");
        forwarded(rig.server_sends(frame));
        assert!(rig.sent().is_empty());
    };
    past(Condition::Source(clients));
    past(Condition::DestinationPort(80..=80));
    past(Condition::Interface(InterfaceId(0)));
    // Others' stray segments are reset as before.
    let rules = Rules::new(
        &[(Condition::DestinationPort(81..=81), Action::Forward)],
        Action::Guard,
    );
    let mut rig = Rig::with(100, |config| config.rules = rules.unwrap());
    let shown = rig.server_sends(rig.server_syn_ack());
    assert!(
        matches!(&shown, Shown::Reply(reset) if reset.flags & flags::RST != 0),
        "{shown:?}"
    );
}

#[test]
fn c2_clients_of_a_third_port_are_guarded_too() {
    let third = InterfaceId(2);
    let mut rig = Rig::with(100, |config| {
        config.outside = config.outside.with(third);
    });
    let syn = rig.client_syn();
    let Shown::Reply(cookie) = rig.handle(syn, third) else {
        panic!("no cookie")
    };
    let ack = rig.client_ack(&cookie, b"");
    assert_eq!(rig.handle(ack, third), Shown::Held);
    assert_eq!(rig.only_sent().flags, flags::SYN);
    assert_eq!(rig.server_sends(rig.server_syn_ack()), Shown::Held);
    let next = cookie.sequence.wrapping_add(1);
    let data = rig.client_segment(1, next, ACK, b"GET");
    forwarded(rig.handle(data, third));
}

#[test]
fn c2_what_comes_from_the_servers_side_passes() {
    let mut rig = Rig::new();
    // Another host beside the server speaks to it.
    let syn = rig.client_syn();
    forwarded(rig.server_sends(syn));
    assert_eq!(rig.counters.event(Event::Forwarded), 1);
}
