//! Group A: the next connection of the ports of a session that has ended. Whatever way the former one
//! ended, a good cookie begins the next one, and nothing of the former stands in its way.

use super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Segment, Shown, wire};
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::guard::config::{Action, GuardConfig, Mode};
use crate::guard::session::State;
use crate::parse::flags;

const ACK: u8 = flags::ACK;
const FIN_ACK: u8 = flags::FIN | flags::ACK;
const SYN_ACK: u8 = flags::SYN | flags::ACK;

fn forwarded(shown: Shown) -> Segment {
    match shown {
        Shown::Forward(segment) => segment,
        other => panic!("not forwarded: {other:?}"),
    }
}

/// How a session may end; each leaves one ended session in the rig.
#[derive(Clone, Copy, Debug)]
enum End {
    Fins,
    ClientResets,
    ServerResets,
    /// Half closed by the server, then reset by the client.
    HalfThenReset,
    /// Never spliced: it was watched while no protection was on.
    Tracked,
    /// The same, and the guard never saw its handshake.
    FoundRunning,
}

const ENDS: [End; 6] = [
    End::Fins,
    End::ClientResets,
    End::ServerResets,
    End::HalfThenReset,
    End::Tracked,
    End::FoundRunning,
];

fn monitor(config: &mut GuardConfig) {
    config.mode = Mode::Monitor;
}

fn end(rig: &mut Rig, how: End) {
    let acked = rig.client_isn.wrapping_add(1);
    if matches!(how, End::Tracked | End::FoundRunning) {
        rig.configure(monitor);
        if matches!(how, End::Tracked) {
            forwarded(rig.client_sends(rig.client_syn()));
            forwarded(rig.server_sends(rig.server_syn_ack()));
        }
        let next = SERVER_ISN.wrapping_add(1);
        let frames = [
            (true, rig.client_segment(1, next, ACK, b"")),
            (false, rig.server_segment(1, acked, ACK, b"")),
            (false, rig.server_segment(1, acked, FIN_ACK, b"")),
            (
                true,
                rig.client_segment(1, next.wrapping_add(1), FIN_ACK, b""),
            ),
            (
                false,
                rig.server_segment(2, acked.wrapping_add(1), ACK, b""),
            ),
        ];
        for (from_client, frame) in frames {
            forwarded(if from_client {
                rig.client_sends(frame)
            } else {
                rig.server_sends(frame)
            });
        }
        rig.configure(|_| {});
    } else {
        let cookie = rig.open();
        let next = cookie.sequence.wrapping_add(1);
        match how {
            End::Fins => rig.close(&cookie),
            End::ServerResets => {
                let reset = rig.server_segment(1, acked, flags::RST, b"");
                forwarded(rig.server_sends(reset));
            }
            _ => {
                if matches!(how, End::HalfThenReset) {
                    forwarded(rig.server_sends(rig.server_segment(1, acked, FIN_ACK, b"")));
                }
                let reset = rig.client_segment(1, next, flags::RST, b"");
                forwarded(rig.client_sends(reset));
            }
        }
    }
    assert_eq!(rig.session().state, State::Closed, "{how:?}");
}

/// Looks for an initial number near the former one whose cookie has numbers of the former session.
/// At a client scale of 14 it is one in four.
fn find_swallowed(rig: &mut Rig, from: u32) -> Option<(Segment, Vec<u8>)> {
    for step in 0..200 {
        rig.client_isn = from.wrapping_add(step);
        rig.client_clock += 1;
        let Shown::Reply(cookie) = rig.client_sends(rig.client_syn()) else {
            panic!("no cookie")
        };
        let ack = rig.client_ack(&cookie, b"");
        if rig.has_numbers_of_session(&ack) {
            return Some((cookie, ack));
        }
    }
    None
}

#[test]
fn a1_a_good_cookie_begins_the_next_session_whatever_its_numbers_fit() {
    // CASES 4
    // Milliseconds after the former one, and before it, as random numbers are.
    let froms = [500, 1_000_000_u32.wrapping_neg()];
    let kinds = (0..2).flat_map(|family| [false, true].map(|is_wire| (family, is_wire)));
    for (family, is_wire) in kinds {
        for (how, from) in ENDS
            .into_iter()
            .flat_map(|how| froms.map(|from| (how, from)))
        {
            let mut rig = Rig::with(100, |config| {
                if is_wire {
                    wire(config);
                }
            });
            (rig.family, rig.client_scale) = (family, 14);
            end(&mut rig, how);
            let from = CLIENT_ISN.wrapping_add(from);
            let Some((_, ack)) = find_swallowed(&mut rig, from) else {
                panic!("{how:?}: none of 200 numbers fits")
            };
            let spliced = rig.counters.event(Event::SplicedLate);
            assert_eq!(rig.client_sends(ack), Shown::Held, "{how:?} {from}");
            let syn = rig.only_sent();
            assert_eq!((syn.flags, syn.sequence), (flags::SYN, rig.client_isn));
            assert_eq!(rig.session().state, State::Opening);
            assert_eq!(rig.counters.event(Event::SplicedLate), spliced);
        }
    }
}

#[test]
fn a1_the_same_when_protection_has_just_gone_off() {
    let mut rig = Rig::new();
    rig.client_scale = 14;
    end(&mut rig, End::Fins);
    let from = CLIENT_ISN.wrapping_add(15_600);
    let (_, ack) = find_swallowed(&mut rig, from).expect("one in four fits");
    rig.configure(|config| config.mode = Mode::OnFlood);
    assert_eq!(rig.client_sends(ack), Shown::Held);
    assert_eq!(rig.only_sent().flags, flags::SYN);
}

#[test]
fn a_late_segments_of_an_ended_session_still_reach_their_side() {
    for how in [End::Fins, End::ClientResets, End::ServerResets] {
        let mut rig = Rig::new();
        end(&mut rig, how);
        let session = rig.session();
        let server = session.server_next.wrapping_sub(session.sequence_delta);
        let fin = rig.client_frame(session.client_next.wrapping_sub(1), server, FIN_ACK, b"");
        let seen = forwarded(rig.client_sends(fin));
        assert_eq!(seen.acknowledgement, session.server_next);
        let repeated = session.server_next.wrapping_sub(1);
        let back = rig.server_frame(repeated, session.client_acked, ACK, b"");
        let seen = forwarded(rig.server_sends(back));
        assert_eq!(seen.sequence, server.wrapping_sub(1));
        assert!(rig.counters.event(Event::SplicedLate) >= 2);
    }
}

#[test]
fn a2_a_number_that_equals_a_former_one_in_its_low_half_is_another() {
    // CASES 4
    let mut rig = Rig::new();
    for round in 1..=4 {
        let cookie = rig.open();
        rig.close(&cookie);
        rig.client_isn = CLIENT_ISN.wrapping_add(round << 16);
    }
    let cookie = rig.shake_hands();
    assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
    assert_eq!(rig.counters.drops(DropReason::CookieReplayed), 0);
}

#[test]
fn a_s1_where_syns_pass_the_servers_answer_makes_the_guard_forget() {
    // CASES 28
    type Change = fn(&mut GuardConfig);
    let off: Change = |config| config.mode = Mode::Off;
    let unprotected: Change = |config| config.servers[0].ports.clear();
    let by_rule: Change = |config| config.rules = crate::classify::Rules::all(Action::Forward);
    for change in [off, unprotected, by_rule, monitor] {
        for is_ended in [true, false] {
            let mut rig = Rig::new();
            let cookie = rig.open();
            if is_ended {
                rig.close(&cookie);
            }
            rig.configure(change);
            rig.client_isn = CLIENT_ISN.wrapping_add(15_644);
            let syn = rig.client_syn();
            match rig.client_sends(syn) {
                Shown::Forward(seen) => assert_eq!(seen.sequence, rig.client_isn),
                // A live session's client is asked first, where protection is on.
                other => {
                    assert!(!is_ended, "{other:?}");
                    continue;
                }
            }
            let answer = rig.server_frame(90_000, rig.client_isn.wrapping_add(1), SYN_ACK, b"");
            assert_eq!(forwarded(rig.server_sends(answer)).sequence, 90_000);
            let data = rig.server_frame(90_001, rig.client_isn.wrapping_add(1), ACK, b"220");
            assert_eq!(forwarded(rig.server_sends(data)).sequence, 90_001);
            let ack = rig.client_frame_on(90_001, b"");
            assert_eq!(forwarded(rig.client_sends(ack)).acknowledgement, 90_001);
        }
    }
}

#[test]
fn a_s4_a_client_that_comes_again_while_its_server_is_silent_is_answered() {
    let mut rig = Rig::new();
    let first = rig.shake_hands();
    let first_ack = rig.client_ack(&first, b"");
    assert_eq!(rig.client_sends(first_ack.clone()), Shown::Held);
    rig.sent();
    // The repeated SYN of the same handshake is not another one.
    let repeated = rig.client_sends(rig.client_syn());
    assert_eq!(repeated, Shown::Dropped(DropReason::SynOnSession));
    let former = rig.client_isn;
    for isn in [700_000, 800_000] {
        rig.client_isn = former.wrapping_add(isn);
        let cookie = rig.shake_hands();
        assert!(rig.sent().is_empty(), "a SYN alone changes nothing");
        let before = rig.session().client_isn();
        assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
        let sent = rig.sent();
        let kinds: Vec<_> = sent
            .iter()
            .map(|sent| (sent.flags, sent.sequence))
            .collect();
        let expected = [
            (flags::RST, before.wrapping_add(1)),
            (flags::SYN, rig.client_isn),
        ];
        assert_eq!(kinds, expected);
    }
    // A copy of the first one neither opens nor ends anything.
    let replayed = rig.client_sends(first_ack);
    assert_eq!(replayed, Shown::Dropped(DropReason::CookieReplayed));
    assert_eq!(rig.session().client_isn(), rig.client_isn);
    assert_eq!(rig.guard.status().opening, 1);
}

#[test]
fn a_s6_s7_late_segments_do_not_bring_a_session_back() {
    let mut rig = Rig::new();
    end(&mut rig, End::ClientResets);
    let session = rig.session();
    let next = session.server_acked.wrapping_sub(session.sequence_delta);
    let late = rig.client_frame(CLIENT_ISN.wrapping_add(1), next, ACK, b"");
    rig.client_sends(late);
    assert_eq!(
        rig.session().state,
        State::Closed,
        "the client has given up"
    );
    let on_its_way = rig.server_segment(1, CLIENT_ISN.wrapping_add(1), ACK, b"data");
    forwarded(rig.server_sends(on_its_way));
    assert_eq!(rig.session().state, State::Closed, "it was sent before");

    let mut rig = Rig::new();
    end(&mut rig, End::Fins);
    let session = rig.session();
    let next = session.server_acked.wrapping_sub(session.sequence_delta);
    let reset = rig.client_frame(session.client_next, next, flags::RST, b"");
    rig.client_sends(reset);
    let fin = rig.server_segment(1, session.client_next, FIN_ACK, b"");
    forwarded(rig.server_sends(fin));
    assert_eq!(rig.session().state, State::Closed);
}

#[test]
fn a_s8_a_watched_session_follows_the_syn_that_its_server_answers() {
    for is_open in [true, false] {
        let mut rig = Rig::with(100, monitor);
        forwarded(rig.client_sends(rig.client_syn()));
        if is_open {
            forwarded(rig.server_sends(rig.server_syn_ack()));
            let ack = rig.client_frame_on(SERVER_ISN.wrapping_add(1), b"");
            forwarded(rig.client_sends(ack));
            assert_eq!(rig.session().state, State::Established);
        }
        let former = rig.client_isn;
        rig.client_isn = former.wrapping_add(5_000_000);
        forwarded(rig.client_sends(rig.client_syn()));
        assert_eq!(rig.session().client_isn(), former, "anybody sends a SYN");
        let answer = rig.server_frame(90_000, rig.client_isn.wrapping_add(1), SYN_ACK, b"");
        forwarded(rig.server_sends(answer));
        forwarded(rig.client_sends(rig.client_frame_on(90_001, b"")));
        // Protection goes on, and it lives.
        rig.configure(|_| {});
        let data = rig.client_frame_on(90_001, b"still here");
        assert_eq!(forwarded(rig.client_sends(data)).payload, b"still here");
    }
}

#[test]
fn a_s9_what_may_not_open_leaves_the_former_session_as_it_was() {
    let mut rig = Rig::with(100, |config| config.half_open_per_source = 1);
    let cookie = rig.open();
    rig.close(&cookie);
    let former_port = rig.client_port;
    rig.client_port = 50_000;
    let other = rig.shake_hands();
    assert_eq!(rig.client_sends(rig.client_ack(&other, b"")), Shown::Held);
    rig.client_port = former_port;
    rig.client_isn = rig.client_isn.wrapping_add(90_000);
    let again = rig.shake_hands();
    let refused = rig.client_sends(rig.client_ack(&again, b""));
    assert_eq!(refused, Shown::Dropped(DropReason::HalfOpenSourceLimit));
    rig.client_isn = CLIENT_ISN;
    let replayed = rig.client_sends(rig.client_ack(&cookie, b""));
    assert_eq!(replayed, Shown::Dropped(DropReason::CookieReplayed));
}

#[test]
fn a_s10_a_late_segment_far_into_an_upload_is_no_handshake() {
    let mut rig = Rig::new();
    let cookie = rig.open();
    let next = cookie.sequence.wrapping_add(1);
    // The client sends 65,537 bytes, so that its next segment's number has the handshake's low half.
    let block = vec![b'x'; 65_537 / 61];
    let blocks = 65_536 / block.len() as u32;
    for n in 0..=blocks {
        let offset = 1 + n * block.len() as u32;
        let data = rig.client_segment(offset, next, ACK, &block);
        forwarded(rig.client_sends(data));
        let acked = rig.client_isn.wrapping_add(offset + block.len() as u32);
        forwarded(rig.server_sends(rig.server_segment(1, acked, ACK, b"")));
    }
    let end = (blocks + 1) * block.len() as u32 + 1;
    let reset = rig.server_segment(1, rig.client_isn.wrapping_add(end), flags::RST, b"");
    forwarded(rig.server_sends(reset));
    let late = rig.client_segment(65_537, next, ACK, b"again");
    assert_eq!(forwarded(rig.client_sends(late)).payload, b"again");
}
