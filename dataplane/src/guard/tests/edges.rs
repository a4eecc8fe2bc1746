//! Where protection comes and goes, openings are given up, and guards know more or less of each other.

use super::super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Shown};
use super::{ACK, Site, forwarded};
use crate::counters::Event;
use crate::guard::config::Mode;
use crate::guard::session::{State, flag};
use crate::parse::flags;
use crate::replicate::FromPeers;

const SYN_ACK: u8 = flags::SYN | flags::ACK;

/// An upload is aborted while one of its segments is lost. The server challenges the RST, and the
/// client's answer to that must reach it.
#[test]
fn the_answer_to_a_challenged_reset_reaches_the_server() {
    for is_shared in [false, true] {
        let mut site = Site::with(1, |_, config| {
            if !is_shared {
                config.sharing = None;
            }
        });
        let rig = &mut site.guards[0];
        let cookie = rig.open();
        let next = cookie.sequence.wrapping_add(1);
        // 1..101 arrives, 101..201 is lost behind the guard.
        forwarded(rig.client_sends(rig.client_segment(1, next, ACK, &[b'x'; 100])));
        forwarded(rig.client_sends(rig.client_segment(101, next, ACK, &[b'x'; 100])));
        let acked = CLIENT_ISN.wrapping_add(101);
        forwarded(rig.server_sends(rig.server_segment(1, acked, ACK, b"")));
        // close() with SO_LINGER 0: the RST bears snd_nxt.
        forwarded(rig.client_sends(rig.client_segment(201, next, flags::RST | ACK, b"")));
        rig.sent();
        // RFC 5961 §3.2: not rcv_nxt, so challenged.
        forwarded(rig.server_sends(rig.server_segment(1, acked, ACK, b"")));
        let exact = rig.client_frame(acked, 0, flags::RST, b"");
        let shown = rig.client_sends(exact);
        assert!(
            matches!(shown, Shown::Forward(_)),
            "shared {is_shared}: {shown:?}"
        );
    }
}

/// SYNs of few tuples, at any rate, pass and are not even counted as SYNs.
#[test]
fn a_flood_of_few_tuples_is_a_flood() {
    let mut rig = Rig::with(1000, |config| config.mode = Mode::OnFlood);
    let mut passed = 0;
    for round in 0..200 {
        for port in 0..50 {
            rig.client_port = 50_000 + port;
            rig.client_isn = round * 77_777;
            passed += usize::from(matches!(
                rig.client_sends(rig.client_syn()),
                Shown::Forward(_)
            ));
        }
        rig.advance_ms(1);
    }
    let counted = rig.counters.event(Event::SynReceived);
    assert!(
        rig.guard.is_active(),
        "50,000 SYNs/s: passed {passed}, counted {counted}"
    );
}

/// And go on passing while the guard is active.
#[test]
fn an_active_guard_lets_no_unproved_syn_pass() {
    let mut rig = Rig::with(1000, |config| config.mode = Mode::OnFlood);
    for port in 0..50 {
        rig.client_port = 50_000 + port;
        forwarded(rig.client_sends(rig.client_syn()));
    }
    rig.configure(|config| config.mode = Mode::Always);
    let mut passed = 0;
    for n in 0..1000 {
        rig.client_port = 50_000 + n % 50;
        rig.client_isn = u32::from(n) * 77_777;
        passed += usize::from(matches!(
            rig.client_sends(rig.client_syn()),
            Shown::Forward(_)
        ));
    }
    assert_eq!(passed, 0);
}

/// A half-open session that is only watched is told as one that is being opened by cookie.
#[test]
fn a_watched_half_open_session_breaks_nothing_at_a_peer() {
    let mut site = Site::with(2, |_, config| config.mode = Mode::OnFlood);
    forwarded({
        let syn = site.guards[0].client_syn();
        site.guards[0].client_sends(syn)
    });
    // A third guard comes.
    site.guards[0].hear(&FromPeers::Peers(2));
    site.guards[0].advance_ms(1);
    site.exchange();
    let answer = site.guards[1].server_syn_ack();
    let shown = site.guards[1].server_sends(answer);
    assert!(matches!(shown, Shown::Forward(_)), "the SYN-ACK: {shown:?}");
}

/// A peer saw a watched session's handshake complete in the same millisecond.
#[test]
fn a_watched_session_that_a_peer_saw_established_is_established() {
    let mut site = Site::with(2, |_, config| config.mode = Mode::OnFlood);
    let syn = site.guards[0].client_syn();
    forwarded(site.guards[0].client_sends(syn));
    let answer = site.guards[1].server_syn_ack();
    forwarded(site.guards[1].server_sends(answer));
    let ack = site.guards[1].client_frame_on(SERVER_ISN.wrapping_add(1), b"");
    forwarded(site.guards[1].client_sends(ack));
    assert_eq!(site.guards[1].session().state, State::Established);
    site.exchange();
    assert_eq!(site.guards[0].session().state, State::Established);
}

/// A guard that was restarted, with protection off, and a session that was spliced while it was on.
#[test]
fn a_guard_that_begins_anew_does_not_break_spliced_sessions() {
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&cookie, b"");
    assert_eq!(site.guards[0].client_sends(ack), Shown::Held);
    let answer = site.guards[0].server_syn_ack();
    assert_eq!(site.guards[0].server_sends(answer), Shown::Held);
    let _lost = site.told_by(0);
    site.guards.iter_mut().for_each(|rig| {
        rig.sent();
        rig.configure(|config| {
            config.mode = Mode::OnFlood;
            config.sharing = Some(crate::guard::config::Sharing::default());
        });
        rig.advance_s(1);
    });
    // The server speaks by the guard that knows nothing yet.
    let acked = CLIENT_ISN.wrapping_add(1);
    let data = site.guards[1].server_segment(1, acked, ACK, b"hello");
    let shown = site.guards[1].server_sends(data);
    site.exchange();
    let released = site.guards[1].walk_released();
    let seen = match (&shown, released.first()) {
        (Shown::Forward(segment), _) | (_, Some(Shown::Forward(segment))) => segment.clone(),
        other => panic!("{other:?}"),
    };
    let is_translated = seen.sequence == cookie.sequence.wrapping_add(1);
    // Some time later: the page, and what the guards tell anyway.
    for _ in 0..2000 {
        site.guards.iter_mut().for_each(|rig| rig.advance_s(1));
        site.exchange();
    }
    let kept = !site.guards[0].session().has(flag::TRACKED);
    assert!(
        is_translated && kept,
        "translated {is_translated}, kept by the other {kept}"
    );
}

/// A handshake that was abandoned at one guard is used at all.
#[test]
fn an_abandoned_handshake_is_spent_at_the_peers_too() {
    let mut site = Site::new(2);
    let first = site.guards[0].shake_hands();
    let first_ack = site.guards[0].client_ack(&first, b"");
    assert_eq!(site.guards[0].client_sends(first_ack.clone()), Shown::Held);
    site.exchange();
    let isn = CLIENT_ISN.wrapping_add(700_000);
    site.guards.iter_mut().for_each(|rig| rig.client_isn = isn);
    let second = site.guards[0].shake_hands();
    let second_ack = site.guards[0].client_ack(&second, b"");
    assert_eq!(site.guards[0].client_sends(second_ack), Shown::Held);
    site.exchange();
    site.guards.iter_mut().for_each(|rig| drop(rig.sent()));
    // A copy of the first one comes late, by the other guard.
    site.guards[1].client_sends(first_ack);
    let sent: Vec<_> = site.guards[1]
        .sent()
        .iter()
        .map(|s| (s.flags, s.sequence))
        .collect();
    assert_eq!(sent, [], "it ends the present one");
}

/// The same where the client gave up by a RST.
#[test]
fn a_handshake_whose_client_gave_up_is_spent_at_the_peers_too() {
    let mut site = Site::new(2);
    let first = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&first, b"");
    assert_eq!(site.guards[0].client_sends(ack.clone()), Shown::Held);
    site.exchange();
    let reset = site.guards[0].client_frame(CLIENT_ISN.wrapping_add(1), 0, flags::RST, b"");
    site.guards[0].client_sends(reset);
    site.exchange();
    site.guards.iter_mut().for_each(|rig| drop(rig.sent()));
    site.guards[1].client_sends(ack);
    assert!(
        site.guards[1].sent().is_empty(),
        "opened for a client that has gone"
    );
}

/// Protection has just gone off, and a client comes again while its server has not answered the
/// first handshake.
#[test]
fn a_new_syn_that_passes_while_a_server_side_opens_is_answered() {
    let mut rig = Rig::new();
    let cookie = rig.shake_hands();
    assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
    rig.sent();
    rig.configure(|config| config.mode = Mode::OnFlood);
    rig.client_isn = CLIENT_ISN.wrapping_add(700_000);
    forwarded(rig.client_sends(rig.client_syn()));
    let shown = rig.server_sends(rig.server_syn_ack());
    match shown {
        Shown::Forward(seen) => assert_eq!(seen.flags, SYN_ACK),
        other => panic!("the SYN-ACK: {other:?}"),
    }
}

/// The guess of the one that knows nothing takes the place of what the other knows.
#[test]
fn a_guess_does_not_outrank_what_a_peer_knows() {
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&cookie, b"");
    assert_eq!(site.guards[0].client_sends(ack), Shown::Held);
    let answer = site.guards[0].server_syn_ack();
    assert_eq!(site.guards[0].server_sends(answer), Shown::Held);
    let _lost = site.told_by(0);
    site.guards.iter_mut().for_each(|rig| {
        rig.sent();
        rig.configure(|config| {
            config.mode = Mode::OnFlood;
            config.sharing = Some(crate::guard::config::Sharing::default());
        });
        rig.advance_s(1);
    });
    let acked = CLIENT_ISN.wrapping_add(101);
    let request =
        site.guards[0].client_segment(1, cookie.sequence.wrapping_add(1), ACK, &[b'x'; 100]);
    forwarded(site.guards[0].client_sends(request));
    let data = site.guards[1].server_segment(1, acked, ACK, b"hello");
    site.guards[1].server_sends(data);
    // A third guard comes.
    for rig in &mut site.guards {
        rig.hear(&FromPeers::Peers(2));
        rig.advance_ms(20);
    }
    site.exchange();
    let more = site.guards[0].server_segment(6, acked, ACK, b"world");
    let seen = forwarded(site.guards[0].server_sends(more));
    assert_eq!(
        seen.sequence,
        cookie.sequence.wrapping_add(6),
        "translated no more"
    );
}

/// Tracked half-open counting through all of it.
#[test]
fn sessions_that_are_only_watched_leave_the_count_as_it_was() {
    let mut site = Site::with(2, |_, config| config.mode = Mode::OnFlood);
    for n in 0..200u32 {
        for rig in &mut site.guards {
            rig.client_port = 40_000 + (n % 7) as u16;
            rig.client_isn = n * 1_000_003;
        }
        let (a, b) = ((n % 2) as usize, (n / 2 % 2) as usize);
        let syn = site.guards[a].client_syn();
        site.guards[a].client_sends(syn);
        if n % 3 != 0 {
            let answer = site.guards[b].server_syn_ack();
            site.guards[b].server_sends(answer);
        }
        if n % 5 != 0 {
            let ack = site.guards[b].client_frame_on(SERVER_ISN.wrapping_add(1), b"");
            site.guards[b].client_sends(ack);
        }
        if n % 4 == 0 {
            let acked = site.guards[a].client_isn.wrapping_add(1);
            let reset = site.guards[a].server_frame(
                SERVER_ISN.wrapping_add(1),
                acked,
                flags::RST | ACK,
                b"",
            );
            site.guards[a].server_sends(reset);
        }
        if n % 11 == 0 {
            site.exchange();
        }
        site.guards
            .iter_mut()
            .for_each(|rig| rig.advance_ms(u64::from(n % 13) * 100));
    }
    site.exchange();
    for _ in 0..200 {
        site.guards.iter_mut().for_each(|rig| rig.advance_s(60));
        site.exchange();
    }
    for rig in &site.guards {
        assert_eq!(
            (
                rig.guard.status().live,
                rig.guard.status().sessions,
                rig.guard.tracked_half_open
            ),
            (0, 0, 0)
        );
    }
}

/// A peer's word of a watched session, many times, in every order.
#[test]
fn counts_hold_when_watched_sessions_are_told_late_and_twice() {
    let mut site = Site::with(2, |_, config| config.mode = Mode::OnFlood);
    let mut kept = Vec::new();
    for n in 0..300u32 {
        for rig in &mut site.guards {
            rig.client_port = 40_000 + (n % 5) as u16;
            rig.client_isn = n * 1_000_003;
        }
        let (a, b) = ((n % 2) as usize, (n / 2 % 2) as usize);
        let syn = site.guards[a].client_syn();
        site.guards[a].client_sends(syn);
        let answer = site.guards[b].server_syn_ack();
        site.guards[b].server_sends(answer);
        let ack = site.guards[b].client_frame_on(SERVER_ISN.wrapping_add(1), b"");
        site.guards[b].client_sends(ack);
        let acked = site.guards[a].client_isn.wrapping_add(1);
        let reset =
            site.guards[b].server_frame(SERVER_ISN.wrapping_add(1), acked, flags::RST | ACK, b"");
        if n % 3 == 0 {
            site.guards[b].server_sends(reset);
        }
        for guard in 0..2 {
            for message in site.told_by(guard) {
                kept.push((guard, message));
            }
        }
        // Some of what was ever said, out of order.
        for k in 0..6 {
            let (from, message) = kept[(n as usize * 7919 + k * 104_729) % kept.len()];
            site.carry(from, message);
        }
        site.guards
            .iter_mut()
            .for_each(|rig| rig.advance_ms(u64::from(n % 3)));
    }
    for _ in 0..200 {
        site.guards.iter_mut().for_each(|rig| rig.advance_s(60));
        site.exchange();
    }
    for rig in &site.guards {
        assert_eq!(
            (
                rig.guard.status().live,
                rig.guard.status().sessions,
                rig.guard.tracked_half_open
            ),
            (0, 0, 0)
        );
    }
}
