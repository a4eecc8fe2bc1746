//! The guard on its own, packet by packet. Frames are made with the wire module and read back with
//! it; the guard sees them as a worker would hand them over.

mod odd_options;
mod operator;
mod outbound;
mod replays;
mod reuse;
mod rig;
mod services;
mod sharing;
mod sizes;
mod strangers;
mod windows;

use self::rig::{CLIENT_ISN, Rig, SERVER_ISN, Shown};
use super::config::{Mode, Unknown};
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::parse::flags;

const ACK: u8 = flags::ACK;
const SYN_ACK: u8 = flags::SYN | flags::ACK;

#[test]
fn a_syn_is_answered_without_state_and_without_the_server() {
    // CASES 1, 9
    let mut rig = Rig::new();
    let syn = rig.client_syn();
    let octets = syn.len();
    let Shown::Reply(reply) = rig.client_sends(syn) else {
        panic!("no reply")
    };
    assert_eq!(reply.flags, SYN_ACK);
    assert_eq!(reply.acknowledgement, CLIENT_ISN.wrapping_add(1));
    assert!(reply.octets <= octets, "{} > {octets}", reply.octets);
    assert_eq!(reply.options.mss, Some(1460));
    assert_eq!(reply.options.timestamps.unwrap().echo, rig.client_clock);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.guard.status().sessions, 0);
}

#[test]
fn the_server_side_is_opened_with_the_clients_own_number_and_options() {
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
    let syn = rig.only_sent();
    assert_eq!((syn.flags, syn.sequence), (flags::SYN, CLIENT_ISN));
    assert_eq!(syn.options.mss, Some(1460));
    assert_eq!(syn.options.window_scale, Some(9));
    assert!(syn.options.sack_permitted);
    assert_eq!(syn.options.timestamps.unwrap().value, rig.client_clock);
}

#[test]
fn both_directions_are_translated_and_every_checksum_holds() {
    let mut rig = Rig::new();
    let cookie = rig.open();
    let delta = SERVER_ISN.wrapping_sub(cookie.sequence);

    let data = rig.client_segment(1, cookie.sequence.wrapping_add(1), ACK, b"GET /");
    let Shown::Forward(seen) = rig.client_sends(data) else {
        panic!("not forwarded")
    };
    assert_eq!(seen.acknowledgement, SERVER_ISN.wrapping_add(1));
    assert_eq!(seen.payload, b"GET /");
    let echo = seen.options.timestamps.unwrap().echo;
    assert_eq!(echo, rig.server_clock, "the server's own clock");

    let answer = rig.server_segment(1, CLIENT_ISN.wrapping_add(6), ACK, b"200 OK");
    let Shown::Forward(seen) = rig.server_sends(answer) else {
        panic!("not forwarded")
    };
    assert_eq!(seen.sequence, cookie.sequence.wrapping_add(1));
    assert_eq!(
        seen.options.timestamps.unwrap().value,
        cookie.options.timestamps.unwrap().value
    );
    assert_ne!(delta, 0);
}

#[test]
fn what_the_client_sends_early_is_held_and_delivered_in_order() {
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    let next = cookie.sequence.wrapping_add(1);
    assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
    let first = rig.client_segment(1, next, ACK, b"first ");
    assert_eq!(rig.client_sends(first.clone()), Shown::Held);
    assert_eq!(
        rig.client_sends(first),
        Shown::Dropped(DropReason::DuplicateHeld)
    );
    assert_eq!(
        rig.client_sends(rig.client_segment(7, next, ACK, b"second")),
        Shown::Held
    );
    assert_eq!(rig.guard.status().held, 3);
    rig.sent();
    assert_eq!(rig.server_sends(rig.server_syn_ack()), Shown::Held);
    let delivered = rig.sent();
    let payloads: Vec<_> = delivered.iter().map(|shown| &shown.payload[..]).collect();
    assert_eq!(payloads, [&b""[..], b"first ", b"second"]);
    assert!(
        delivered
            .iter()
            .all(|shown| shown.acknowledgement == SERVER_ISN.wrapping_add(1))
    );
    assert_eq!(rig.guard.status().held, 0);
}

#[test]
fn forged_expired_and_replayed_acks_open_nothing() {
    // CASES 2
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    let mut forged = cookie.clone();
    forged.sequence ^= 1 << 20;
    let forged = rig.client_ack(&forged, b"");
    assert_eq!(
        rig.client_sends(forged),
        Shown::Dropped(DropReason::CookieInvalid)
    );
    let good = rig.client_ack(&cookie, b"");
    rig.advance_s(70);
    assert_eq!(
        rig.client_sends(good.clone()),
        Shown::Dropped(DropReason::CookieExpired)
    );
    assert_eq!(rig.guard.status().sessions, 0);

    let mut rig = Rig::new();
    let cookie = rig.open();
    rig.close(&cookie);
    let replay = rig.client_ack(&cookie, b"");
    assert_eq!(
        rig.client_sends(replay),
        Shown::Dropped(DropReason::CookieReplayed)
    );
    assert!(rig.sent().is_empty());
}

#[test]
fn the_next_connection_of_the_same_ports_replaces_an_ended_one() {
    // CASES 4
    let mut rig = Rig::new();
    let cookie = rig.open();
    rig.close(&cookie);
    rig.client_isn = CLIENT_ISN.wrapping_add(1_000_000);
    let next = rig.shake_hands();
    assert_eq!(rig.client_sends(rig.client_ack(&next, b"")), Shown::Held);
    assert_eq!(rig.only_sent().sequence, rig.client_isn);
    assert_eq!(rig.guard.status().sessions, 1);
}

#[test]
fn blind_segments_are_refused_and_challenged_once_in_half_a_second() {
    // CASES 3
    let mut rig = Rig::new();
    let cookie = rig.open();
    let next = cookie.sequence.wrapping_add(1);
    let reset = rig.client_segment(100, next, flags::RST, b"");
    assert_eq!(
        rig.client_sends(reset.clone()),
        Shown::Dropped(DropReason::ResetNotExact)
    );
    let challenge = rig.only_sent();
    assert_eq!((challenge.flags, challenge.sequence), (ACK, next));
    assert_eq!(challenge.acknowledgement, CLIENT_ISN.wrapping_add(1));
    assert_eq!(
        rig.client_sends(reset),
        Shown::Dropped(DropReason::ResetNotExact)
    );
    assert!(rig.sent().is_empty());
    assert_eq!(rig.counters.event(Event::ChallengeSuppressed), 1);
    let exact = rig.client_segment(1, next, flags::RST, b"");
    assert!(matches!(rig.client_sends(exact), Shown::Forward(_)));
    assert_eq!(rig.counters.event(Event::SessionReset), 1);
    assert_eq!(rig.guard.status().live, 0);
}

#[test]
fn a_reset_that_its_receiver_cannot_believe_ends_nothing() {
    let mut rig = Rig::new();
    let cookie = rig.open();
    let next = cookie.sequence.wrapping_add(1);
    let data = rig.client_segment(1, next, ACK, b"data");
    assert!(matches!(rig.client_sends(data), Shown::Forward(_)));
    // It bears what the server has acknowledged as far as is known here, and comes after the data.
    rig.client_sends(rig.client_segment(1, next, flags::RST, b""));
    assert_eq!(rig.guard.status().live, 0);
    // What the server had sent before it heard of it says nothing.
    let sent_before = rig.server_segment(1, CLIENT_ISN.wrapping_add(1), ACK, b"sent before");
    assert!(matches!(rig.server_sends(sent_before), Shown::Forward(_)));
    assert_eq!(rig.guard.status().live, 0);
    // It has taken the data first: then the RST was none of its.
    let taken = rig.server_segment(12, CLIENT_ISN.wrapping_add(5), ACK, b"still here");
    assert!(matches!(rig.server_sends(taken), Shown::Forward(_)));
    assert_eq!(rig.guard.status().live, 1);
}

#[test]
fn a_silent_server_is_asked_a_bounded_number_of_times() {
    // CASES 11
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b"early"));
    assert_eq!(rig.only_sent().flags, flags::SYN);
    let mut syns = 1;
    let reset = loop {
        rig.advance_s(1);
        match &rig.sent()[..] {
            [] => {}
            [shown] if shown.flags == flags::SYN => syns += 1,
            [shown] => break shown.clone(),
            more => panic!("{more:?}"),
        }
    };
    assert_eq!(syns, 4);
    assert_eq!(reset.flags & flags::RST, flags::RST);
    assert_eq!(
        reset.sequence,
        cookie.sequence.wrapping_add(1),
        "the client believes it"
    );
    assert_eq!(rig.guard.status().sessions, 0);
    assert_eq!(rig.counters.drops(DropReason::ServerSilent), 1);
}

#[test]
fn a_refusal_reaches_the_client() {
    // CASES 11
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b""));
    rig.sent();
    let refusal = rig.server_frame(0, CLIENT_ISN.wrapping_add(1), flags::RST | ACK, b"");
    assert_eq!(
        rig.server_sends(refusal),
        Shown::Dropped(DropReason::ServerRefused)
    );
    let reset = rig.only_sent();
    assert_eq!(reset.flags, flags::RST | ACK);
    assert_eq!(reset.sequence, cookie.sequence.wrapping_add(1));
    assert_eq!(rig.guard.status().sessions, 0);
}

#[test]
fn a_server_that_remembers_an_older_connection_is_cleared_and_asked_again() {
    // CASES 4
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b""));
    rig.sent();
    let stale = rig.server_segment(5, 77, ACK, b"");
    let Shown::Reply(reset) = rig.server_sends(stale) else {
        panic!("no reply")
    };
    assert_eq!((reset.flags, reset.sequence), (flags::RST, 77));
    rig.advance_ms(60);
    assert_eq!(rig.only_sent().flags, flags::SYN);
    assert_eq!(rig.server_sends(rig.server_syn_ack()), Shown::Held);
    assert_eq!(rig.counters.event(Event::SessionOpened), 1);
}

#[test]
fn a_server_with_fewer_options_is_learned_and_bridged() {
    // CASES 6, 7, 8
    let mut rig = Rig::new();
    rig.server_options.window_scale = None;
    rig.server_options.sack_permitted = false;
    let cookie = rig.open();
    let next = cookie.sequence.wrapping_add(1);
    let data =
        rig.client_segment_with_sack(1, next, (next.wrapping_add(10), next.wrapping_add(20)));
    let Shown::Forward(seen) = rig.client_sends(data) else {
        panic!("not forwarded")
    };
    assert_eq!(seen.options.sack_blocks, None, "blanked");
    assert_eq!(
        seen.window, 0xffff,
        "1000 << 9 does not fit without scaling"
    );
    let answer = rig.server_segment(1, CLIENT_ISN.wrapping_add(1), ACK, b"");
    let Shown::Forward(seen) = rig.server_sends(answer) else {
        panic!("not forwarded")
    };
    assert_eq!(
        seen.window, 7,
        "1000 bytes in the scale that the client was told"
    );
    // The next client is told the truth.
    rig.client_port += 1;
    let Shown::Reply(reply) = rig.client_sends(rig.client_syn()) else {
        panic!("no reply")
    };
    assert_eq!(reply.options.window_scale, None);
    assert!(!reply.options.sack_permitted);
}

#[test]
fn sack_blocks_are_shifted_to_the_servers_numbers() {
    // CASES 8
    let mut rig = Rig::new();
    let cookie = rig.open();
    let next = cookie.sequence.wrapping_add(1);
    let data =
        rig.client_segment_with_sack(1, next, (next.wrapping_add(10), next.wrapping_add(20)));
    let Shown::Forward(seen) = rig.client_sends(data) else {
        panic!("not forwarded")
    };
    let base = SERVER_ISN.wrapping_add(1);
    assert_eq!(seen.sack, [(base.wrapping_add(10), base.wrapping_add(20))]);
}

#[test]
fn a_server_without_timestamps_where_they_were_promised_ends_it_cleanly() {
    // CASES 6
    let mut rig = Rig::new();
    rig.server_options.timestamps = None;
    let cookie = rig.shake_hands();
    rig.client_sends(rig.client_ack(&cookie, b""));
    rig.sent();
    assert!(matches!(
        rig.server_sends(rig.server_syn_ack()),
        Shown::Reply(_)
    ));
    assert_eq!(rig.only_sent().flags & flags::RST, flags::RST);
    assert_eq!(rig.guard.status().sessions, 0);
    rig.client_port += 1;
    let Shown::Reply(reply) = rig.client_sends(rig.client_syn()) else {
        panic!("no reply")
    };
    assert_eq!(reply.options.timestamps, None, "learned");
}

#[test]
fn one_source_opens_only_so_many_server_sides_at_once() {
    let mut rig = Rig::new();
    for _ in 0..rig::HALF_OPEN_PER_SOURCE {
        let cookie = rig.shake_hands();
        assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
        rig.client_port += 1;
    }
    let cookie = rig.shake_hands();
    let more = rig.client_ack(&cookie, b"");
    assert_eq!(
        rig.client_sends(more),
        Shown::Dropped(DropReason::HalfOpenSourceLimit)
    );
}

#[test]
fn strangers_are_dropped_or_reset_as_configured() {
    let mut rig = Rig::new();
    let stray = rig.client_frame(1, 2, ACK, b"stray");
    assert_eq!(
        rig.client_sends(stray.clone()),
        Shown::Dropped(DropReason::CookieInvalid)
    );
    let reset = rig.client_frame(1, 0, flags::RST, b"");
    assert_eq!(
        rig.client_sends(reset),
        Shown::Dropped(DropReason::ResetWithoutSession)
    );
    for nonsense in [
        0,
        flags::SYN | flags::FIN,
        flags::SYN | flags::RST,
        0xff,
        flags::FIN,
    ] {
        let frame = rig.client_frame(1, 0, nonsense, b"");
        assert_eq!(
            rig.client_sends(frame),
            Shown::Dropped(DropReason::BadTcpFlags),
            "{nonsense:x}"
        );
    }
    rig.configure(|config| config.unknown = Unknown::Reset);
    let Shown::Reply(reply) = rig.client_sends(stray) else {
        panic!("no reply")
    };
    assert_eq!(reply.flags, flags::RST);
    let server_stray = rig.server_segment(1, 2, ACK, b"stray");
    let Shown::Reply(reply) = rig.server_sends(server_stray) else {
        panic!("no reply")
    };
    assert_eq!((reply.flags, reply.sequence), (flags::RST, 2));
}

#[test]
fn tracked_sessions_outlive_the_switch_to_protection() {
    // CASES 7
    let mut rig = Rig::new();
    rig.configure(|config| config.mode = Mode::OnFlood);
    assert!(matches!(
        rig.client_sends(rig.client_syn()),
        Shown::Forward(_)
    ));
    assert!(matches!(
        rig.server_sends(rig.server_syn_ack()),
        Shown::Forward(_)
    ));
    let ack = rig.client_frame_on(SERVER_ISN.wrapping_add(1), b"");
    assert!(matches!(rig.client_sends(ack), Shown::Forward(_)));
    rig.configure(|config| config.mode = Mode::Always);
    let data = rig.client_frame_on(SERVER_ISN.wrapping_add(1), b"data");
    let Shown::Forward(seen) = rig.client_sends(data) else {
        panic!("not forwarded")
    };
    assert_eq!(
        seen.acknowledgement,
        SERVER_ISN.wrapping_add(1),
        "untranslated"
    );
    let answer = rig.server_segment(1, CLIENT_ISN.wrapping_add(5), ACK, b"answer");
    assert!(matches!(rig.server_sends(answer), Shown::Forward(_)));
}

#[test]
fn a_drained_guard_opens_nothing_and_keeps_what_lives() {
    // CASES 29
    let mut rig = Rig::new();
    let cookie = rig.open();
    rig.guard.drain();
    let data = rig.client_segment(1, cookie.sequence.wrapping_add(1), ACK, b"data");
    assert!(matches!(rig.client_sends(data), Shown::Forward(_)));
    rig.client_port += 1;
    assert_eq!(
        rig.client_sends(rig.client_syn()),
        Shown::Dropped(DropReason::Draining)
    );
}

#[test]
fn an_idle_session_frees_both_ends() {
    let mut rig = Rig::new();
    let cookie = rig.open();
    rig.advance_s(7300);
    let resets = rig.sent();
    assert_eq!(resets.len(), 2);
    assert!(resets.iter().all(|shown| shown.flags & flags::RST != 0));
    assert_eq!(resets[0].sequence, CLIENT_ISN.wrapping_add(1));
    assert_eq!(resets[1].sequence, cookie.sequence.wrapping_add(1));
    assert_eq!(rig.guard.status().sessions, 0);
}

#[test]
fn a_full_table_gives_up_an_ended_session_but_not_a_live_one() {
    let mut rig = Rig::with_capacity(2);
    let first = rig.open();
    rig.client_port += 1;
    let second = rig.open();
    rig.client_port += 1;
    let third = rig.shake_hands();
    let ack = rig.client_ack(&third, b"");
    assert_eq!(
        rig.client_sends(ack.clone()),
        Shown::Dropped(DropReason::SessionTableFull)
    );
    rig.client_port -= 1;
    rig.close(&second);
    rig.client_port += 1;
    assert_eq!(rig.client_sends(ack), Shown::Held);
    assert_eq!(rig.counters.event(Event::SessionEvicted), 1);
    rig.client_port -= 2;
    let data = rig.client_segment(1, first.sequence.wrapping_add(1), ACK, b"data");
    assert!(matches!(rig.client_sends(data), Shown::Forward(_)));
}

// F: a second of a flood of ACKs that bear no cookie, 50,000 of them, each from other ports.
#[test]
fn f_forged_cookies_take_no_place_and_reach_no_server() {
    const FORGED: u64 = 50_000;
    let mut rig = Rig::with_capacity(2);
    let cookie = rig.shake_hands();
    let own_port = rig.client_port;
    for number in 1..=FORGED {
        rig.client_port = own_port.wrapping_add(number as u16).max(1);
        let mut forged = cookie.clone();
        forged.sequence = forged.sequence.wrapping_add(number as u32 * 77);
        let ack = rig.client_ack(&forged, b"request");
        assert_eq!(
            rig.client_sends(ack),
            Shown::Dropped(DropReason::CookieInvalid),
            "{number}"
        );
    }
    let status = rig.guard.status();
    assert_eq!((status.sessions, status.held), (0, 0));
    assert!(rig.sent().is_empty());
    // Whoever shook hands before it gets in after it.
    rig.client_port = own_port;
    let ack = rig.client_ack(&cookie, b"request");
    assert_eq!(rig.client_sends(ack), Shown::Held);
}

// F4: a table that first fills with living sessions finds the next place at once, however many have
// ended before: those that have left it stand in no row that would have to be searched.
#[test]
fn f4_who_has_left_the_table_is_no_candidate_for_eviction() {
    let mut rig = Rig::with_capacity(2);
    let first = rig.open();
    rig.close(&first);
    assert!(rig.guard.ended.first().is_some());
    rig.advance_s(1000);
    assert_eq!(rig.guard.status().sessions, 0);
    assert_eq!(rig.guard.ended.first(), None);
}

#[test]
fn a_server_is_asked_what_it_does_before_the_first_client_comes() {
    let mut rig = Rig::new();
    rig.server_options.timestamps = None;
    rig.server_options.window_scale = Some(3);
    rig.configure(|config| config.probe_from = vec![rig::OWN]);
    rig.advance_ms(1);
    let probe = rig.only_sent();
    assert_eq!(probe.flags & flags::SYN, flags::SYN);
    rig.advance_ms(1);
    assert!(rig.sent().is_empty(), "once a second");
    let mut forged = probe.clone();
    forged.sequence = forged.sequence.wrapping_add(256);
    let answer = rig.server_answers_probe(&forged, probe.source_port);
    assert_eq!(answer, Shown::Dropped(DropReason::NotForUs));
    let Shown::Reply(reset) = rig.server_answers_probe(&probe, probe.source_port) else {
        panic!("no reply")
    };
    assert_eq!(
        (reset.flags, reset.sequence),
        (flags::RST, probe.sequence.wrapping_add(1))
    );
    rig.advance_s(2);
    assert!(rig.sent().is_empty(), "it is known now");
    let Shown::Reply(reply) = rig.client_sends(rig.client_syn()) else {
        panic!("no reply")
    };
    assert_eq!(reply.options.timestamps, None);
}
