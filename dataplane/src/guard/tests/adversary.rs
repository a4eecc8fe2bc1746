//! What the hostile review of 28 November proved. Each test states what should hold.

use super::super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Shown};
use super::{ACK, FIN_ACK, Site, forwarded};
use crate::counters::Event;
use crate::guard::config::Mode;
use crate::guard::session::{State, flag};
use crate::parse::flags;
use crate::replicate::FromPeers;

const SYN_ACK: u8 = flags::SYN | flags::ACK;

/// H1: an upload is aborted while one of its segments is lost. The server challenges the RST, and the
/// client's answer to that must reach it.
#[test]
fn adv1_the_answer_to_a_challenged_reset_reaches_the_server() {
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
        assert!(matches!(shown, Shown::Forward(_)), "shared {is_shared}: {shown:?}");
    }
}

/// H3: SYNs of few tuples, at any rate, pass and are not even counted as SYNs.
#[test]
fn adv3_a_flood_of_few_tuples_is_a_flood() {
    let mut rig = Rig::with(1000, |config| config.mode = Mode::OnFlood);
    let mut passed = 0;
    for round in 0..200 {
        for port in 0..50 {
            rig.client_port = 50_000 + port;
            rig.client_isn = round * 77_777;
            passed += usize::from(matches!(rig.client_sends(rig.client_syn()), Shown::Forward(_)));
        }
        rig.advance_ms(1);
    }
    let counted = rig.counters.event(Event::SynReceived);
    assert!(rig.guard.is_active(), "50,000 SYNs/s: passed {passed}, counted {counted}");
}

/// H4: a half-open session that is only watched is told as one that is being opened by cookie.
#[test]
fn adv4_a_watched_half_open_session_breaks_nothing_at_a_peer() {
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

/// H5: a peer saw a watched session's handshake complete in the same millisecond.
#[test]
fn adv5_a_watched_session_that_a_peer_saw_established_is_established() {
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

/// H7: a handshake that was abandoned at one guard is used at all.
#[test]
fn adv7_an_abandoned_handshake_is_spent_at_the_peers_too() {
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
    let sent: Vec<_> = site.guards[1].sent().iter().map(|s| (s.flags, s.sequence)).collect();
    assert_eq!(sent, [], "it ends the present one");
}

/// The same where the client gave up by a RST.
#[test]
fn adv7b_a_handshake_whose_client_gave_up_is_spent_at_the_peers_too() {
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
    assert!(site.guards[1].sent().is_empty(), "opened for a client that has gone");
}

/// H10: tracked half-open counting through all of it.
#[test]
fn adv10_sessions_that_are_only_watched_leave_the_count_as_it_was() {
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
            let reset = site.guards[a].server_frame(SERVER_ISN.wrapping_add(1), acked, flags::RST | ACK, b"");
            site.guards[a].server_sends(reset);
        }
        if n % 11 == 0 {
            site.exchange();
        }
        site.guards.iter_mut().for_each(|rig| rig.advance_ms(u64::from(n % 13) * 100));
    }
    site.exchange();
    for _ in 0..200 {
        site.guards.iter_mut().for_each(|rig| rig.advance_s(60));
        site.exchange();
    }
    for rig in &site.guards {
        assert_eq!((rig.guard.status().live, rig.guard.status().sessions, rig.guard.tracked_half_open), (0, 0, 0));
    }
}
