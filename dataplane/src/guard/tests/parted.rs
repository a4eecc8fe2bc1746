//! Guards that are parted for a while, late, or stopped: what they hold in the end.

use super::*;
use crate::guard::session::State;
use crate::limits::MAX_UNTOLD;
use crate::replicate::record::{FlowKey, SERVER_FIRST_MODULUS};

fn live(site: &Site) -> Vec<usize> {
    let guards = site.guards.iter();
    guards.map(|rig| rig.guard.status().live).collect()
}

impl Site {
    /// Has a guard tell all its sessions once more.
    fn have_told_again(&mut self, guard: usize) {
        self.guards[guard].hear(&FromPeers::Page(PageRequest {
            peer: PeerId(1 - guard as u8),
            request: 1,
            first: 0,
            end: 100,
        }));
    }
}

fn share(share: Share) -> impl Fn(usize, &mut GuardConfig) {
    move |_, config| {
        config.sharing = Some(Sharing {
            share,
            ..Sharing::default()
        });
    }
}

#[test]
fn k1_what_began_while_nobody_was_there_is_told_to_who_comes() {
    // CASES 17
    let mut site = Site::new(2);
    site.guards[0].hear(&FromPeers::Peers(0));
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&cookie, b"");
    site.guards[0].client_sends(ack);
    let answer = site.guards[0].server_syn_ack();
    site.guards[0].server_sends(answer);
    // It is noted at once, for those who come.
    site.exchange();
    assert_eq!(live(&site), [1, 1]);
    site.guards[0].hear(&FromPeers::Peers(1));
    site.guards[0].advance_ms(20);
    assert!(site.told_by(0).is_empty(), "once");
}

#[test]
fn k1_what_ended_while_nobody_was_there_is_told_to_who_comes() {
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    site.guards[0].hear(&FromPeers::Peers(0));
    site.guards[0].close(&cookie);
    site.exchange();
    assert_eq!(live(&site), [0, 0]);
}

#[test]
fn k1_a_change_that_finds_no_room_is_told_when_there_is_some() {
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    // Answers to questions take all the room.
    let unknown = FlowKey {
        client_port: 9,
        ..FlowKey::default()
    };
    let key = FlowKey {
        client: crate::wire::address::Address::from_v4([192, 0, 2, 9]),
        server: crate::wire::address::Address::from_v4([192, 0, 2, 8]),
        ..unknown
    };
    for _ in 0..MAX_UNTOLD {
        site.guards[0].hear(&FromPeers::Query(key, PeerId(1)));
    }
    site.guards[0].close(&cookie);
    assert!(site.count(0, Event::RecordPutOff) > 0);
    assert_eq!(site.records_of(0), []);
    site.guards[0].advance_ms(20);
    site.exchange();
    assert_eq!(live(&site), [0, 0]);
}

#[test]
fn k2_one_handshake_is_one_session_whoever_tells_it_last() {
    let mut site = Site::new(3);
    // Two guards open it, and neither hears of the other in time.
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[1].client_ack(&cookie, b"");
    assert_eq!(site.guards[1].client_sends(ack.clone()), Shown::Held);
    let late = site.told_by(1);
    site.guards[0].advance_ms(50);
    assert_eq!(site.guards[0].client_sends(ack), Shown::Held);
    let answer = site.guards[0].server_syn_ack();
    site.guards[0].server_sends(answer);
    site.exchange();
    site.guards[0].close(&cookie);
    site.exchange();
    assert_eq!(live(&site), [0, 0, 0]);
    for message in late {
        site.carry(1, message);
    }
    site.exchange();
    assert_eq!(live(&site), [0, 0, 0], "no ghost");
}

#[test]
fn k2_a_later_opening_of_an_ended_handshake_is_answered_with_its_end() {
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    let record = {
        assert_eq!(site.guards[0].session().state, State::Established);
        site.guards[0].hear(&FromPeers::Page(PageRequest {
            peer: PeerId(9),
            request: 1,
            first: 0,
            end: 100,
        }));
        site.records_of(0)[0]
    };
    site.guards[0].close(&cookie);
    site.exchange();
    site.guards.iter_mut().for_each(|rig| rig.advance_s(3));
    // A peer that has not heard the end still holds it as living.
    site.guards[0].hear(&FromPeers::Record(record, PeerId(1)));
    let told = site.records_of(0);
    assert_eq!(
        told.iter().map(|it| it.stage).collect::<Vec<_>>(),
        [Stage::Closed]
    );
    assert_eq!(live(&site), [0, 0]);
}

#[test]
fn k2_a_servers_reset_of_another_connection_ends_nothing() {
    let mut site = Site::new(2);
    site.open([0, 0, 0]);
    let far = SERVER_ISN.wrapping_add(1 << 30);
    let stray = site.guards[1].server_frame(far, 0, flags::RST, b"");
    // Its client has the next session of these ports, whose numbers it would bear.
    let shown = site.guards[1].server_sends(stray);
    assert_eq!(shown, Shown::Dropped(DropReason::ResetWithoutSession));
    assert_eq!(live(&site), [1, 1]);
    let own = site.guards[1].server_segment(1, CLIENT_ISN.wrapping_add(1), flags::RST, b"");
    forwarded(site.guards[1].server_sends(own));
    site.exchange();
    assert_eq!(live(&site), [0, 0]);
}

#[test]
fn k2_a_shared_server_is_asked_again_only_when_its_client_speaks() {
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    let data = site.guards[0].client_ack(&cookie, b"GET /");
    assert_eq!(site.guards[0].client_sends(data.clone()), Shown::Held);
    site.guards[0].advance_ms(20);
    assert_eq!(site.guards[0].walk_released(), [Shown::Held]);
    assert_eq!(site.guards[0].only_sent().flags, flags::SYN);
    site.guards[0].advance_s(1);
    assert_eq!(site.guards[0].sent().len(), 0, "its client may be served");
    let shown = site.guards[0].client_sends(data);
    assert_eq!(shown, Shown::Dropped(DropReason::DuplicateHeld));
    assert_eq!(site.guards[0].only_sent().flags, flags::SYN);
}

#[test]
fn k3_the_end_of_a_deferred_session_is_told_to_all() {
    let mut site = Site::with(3, share(Share::Deferred));
    let cookie = site.open([1, 1, 1]);
    // A packet that came elsewhere had the director tell it to all.
    let session = site.guards[0].session();
    let key = FlowKey {
        client: session.client,
        server: site.guards[0].guard.servers().get(session.server).address,
        client_port: session.client_port,
        server_port: session.server_port,
    };
    site.guards[0].hear(&FromPeers::Query(key, PeerId(2)));
    let late = site.told_by(0);
    site.guards[1].close(&cookie);
    site.exchange();
    for message in late {
        site.carry(0, message);
    }
    site.exchange();
    assert_eq!(live(&site), [0, 0, 0]);
}

#[test]
fn k4_after_a_stall_nothing_is_opened_before_the_peers_are_heard() {
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    // While the first guard stalls, the second serves the client to its end.
    let waiting = site.guards[0].client_ack(&cookie, b"");
    site.guards[1].client_sends(waiting.clone());
    let answer = site.guards[1].server_syn_ack();
    site.guards[1].server_sends(answer);
    site.guards[1].close(&cookie);
    let said = site.told_by(1);

    site.guards[0].guard.note_stall();
    site.guards[0].advance_ms(20);
    assert_eq!(site.told_by(0), [ToPeers::Stalled]);
    assert_eq!(site.guards[0].client_sends(waiting), Shown::Held);
    site.guards[0].advance_s(1);
    assert_eq!(site.guards[0].walk_released(), []);
    assert_eq!(site.guards[0].sent().len(), 0);
    // Data in its rings may be old when its client has just been served: the client sends it again.
    let data = site.guards[0].client_ack(&cookie, b"GET /");
    let shown = site.guards[0].client_sends(data);
    assert_eq!(shown, Shown::Dropped(DropReason::CatchingUp));
    for message in said {
        site.carry(1, message);
    }
    site.guards[0].hear(&FromPeers::CaughtUp);
    site.guards[0].advance_ms(20);
    let shown = site.guards[0].walk_released();
    assert_eq!(shown, [Shown::Dropped(DropReason::CookieReplayed)]);
    assert_eq!(site.guards[0].sent().len(), 0);
}

#[test]
fn k4_after_a_stall_no_session_ages_before_the_peers_are_heard() {
    let mut site = Site::new(2);
    site.open([0, 0, 0]);
    site.guards[0].guard.note_stall();
    site.guards[0].advance_s(3 * 7200);
    assert_eq!(live(&site)[0], 1);
    site.guards[0].hear(&FromPeers::CaughtUp);
    site.guards[0].advance_s(1);
    assert_eq!(live(&site)[0], 0);
}

#[test]
fn a_revival_does_not_undo_a_later_end() {
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    let next = cookie.sequence.wrapping_add(1);
    let data = site.guards[0].client_segment(1, next, ACK, b"12345");
    forwarded(site.guards[0].client_sends(data));
    let reset = site.guards[0].client_segment(1, next, flags::RST, b"");
    forwarded(site.guards[0].client_sends(reset));
    site.exchange();
    assert_eq!(live(&site), [0, 0]);
    // The server had taken the data already: that RST was none to it, but the next one is.
    let acked = site.guards[1].server_segment(1, CLIENT_ISN.wrapping_add(6), ACK, b"");
    forwarded(site.guards[1].server_sends(acked));
    assert_eq!(live(&site), [0, 1]);
    let again = site.guards[0].client_segment(6, next, flags::RST, b"");
    forwarded(site.guards[0].client_sends(again));
    site.exchange();
    assert_eq!(live(&site), [0, 0]);
}

#[test]
fn a_guard_that_is_cut_off_leaves_a_clients_data_to_others() {
    let site_view = |may_carry| {
        FromPeers::Site(crate::replicate::Site {
            lead_ms: 0,
            is_whole: false,
            may_carry,
        })
    };
    for (may_carry, is_opened) in [(true, true), (false, false)] {
        let mut site = Site::new(2);
        site.guards[0].hear(&FromPeers::Peers(0));
        site.guards[0].hear(&site_view(may_carry));
        let cookie = site.guards[0].shake_hands();
        let data = site.guards[0].client_ack(&cookie, b"GET /");
        let shown = site.guards[0].client_sends(data.clone());
        let expected = match is_opened {
            true => Shown::Held,
            false => Shown::Dropped(DropReason::LeftToOthers),
        };
        assert_eq!(shown, expected);
        if !is_opened {
            // Who gets all of its segments for so long is alone.
            site.guards[0].advance_s(16);
            assert_eq!(site.guards[0].client_sends(data), Shown::Held);
        }
    }
}

#[test]
fn sessions_are_ordered_by_the_fastest_clock_of_the_site() {
    let incarnation = |lead_ms| {
        let mut site = Site::new(2);
        site.guards[1].hear(&FromPeers::Site(crate::replicate::Site {
            lead_ms,
            is_whole: true,
            may_carry: true,
        }));
        let cookie = site.guards[1].shake_hands();
        let ack = site.guards[1].client_ack(&cookie, b"");
        site.guards[1].client_sends(ack);
        site.records_of(1)[0].incarnation
    };
    assert_eq!(incarnation(5_000).wrapping_sub(incarnation(0)), 5_000);
}

#[test]
fn a_client_that_keeps_speaking_does_not_hold_a_half_open_session_for_ever() {
    let mut site = Site::new(2);
    site.guards[0].hear(&FromPeers::Peers(0));
    let cookie = site.guards[0].shake_hands();
    let data = site.guards[0].client_ack(&cookie, b"GET /");
    assert_eq!(site.guards[0].client_sends(data.clone()), Shown::Held);
    let mut syns = 0;
    for _ in 0..100 {
        site.guards[0].advance_ms(200);
        let sent = site.guards[0].sent();
        syns += sent.iter().filter(|it| it.flags == flags::SYN).count();
        let shown = site.guards[0].client_sends(data.clone());
        let is_over = shown != Shown::Dropped(DropReason::DuplicateHeld);
        if is_over {
            assert!(syns > 10, "{syns}");
            return;
        }
    }
    panic!("it is still half open after {syns} SYNs");
}

#[test]
fn k3_a_late_segment_of_a_deferred_session_finds_its_way_where_only_its_end_was_told() {
    let mut site = Site::with(3, share(Share::Deferred));
    let cookie = site.open([1, 1, 1]);
    site.guards[1].close(&cookie);
    site.exchange();
    assert_eq!(site.guards[2].guard.status().sessions, 0);
    // The director still has it, and answers.
    let repeated = site.guards[2].server_segment(1, CLIENT_ISN.wrapping_add(2), FIN_ACK, b"");
    assert_eq!(site.guards[2].server_sends(repeated), Shown::Held);
    site.exchange();
    let shown = site.guards[2].walk_released();
    assert!(matches!(shown[..], [Shown::Forward(_)]), "{shown:?}");
}

#[test]
fn k2_of_two_sessions_that_begin_at_once_the_one_that_the_server_answered_last_is_the_later_one() {
    // By the guards' clocks each may be the later one, and the client's numbers say nothing.
    for (clock, client) in [(0, 7), (0, 7_u32.wrapping_neg()), (40, 7), (-40_i32, 7)] {
        let mut site = Site::new(2);
        site.open([0, 0, 0]);
        site.exchange();
        site.have_told_again(0);
        let told = site.records_of(0)[0];
        assert_eq!(told.server_first, SERVER_ISN % SERVER_FIRST_MODULUS);
        let other = |server: i32| Record {
            incarnation: told.incarnation.wrapping_add_signed(clock),
            client_sequence: told.client_sequence.wrapping_add(client),
            server_first: told.server_first.wrapping_add_signed(server),
            // It has sent much since.
            server_next: told.server_next.wrapping_add_signed(server + 50_000),
            ..told
        };
        let isn = |site: &Site| site.guards[0].session().client_isn();
        site.guards[0].hear(&FromPeers::Record(other(-900), PeerId(1)));
        assert_eq!(isn(&site), told.client_sequence, "it is an earlier one");
        site.guards[0].hear(&FromPeers::Record(other(900), PeerId(1)));
        assert_eq!(isn(&site), other(900).client_sequence, "it is the next one");
        // And its own earlier one does not come back.
        site.guards[0].hear(&FromPeers::Record(told, PeerId(1)));
        assert_eq!(isn(&site), other(900).client_sequence);
    }
}

#[test]
fn k2_what_opens_here_is_not_given_up_for_another_session_of_the_same_moment() {
    let mut site = Site::new(2);
    site.open([1, 1, 1]);
    site.have_told_again(1);
    let former = site.records_of(1)[0];
    let mut site = Site::new(2);
    site.guards[0].client_isn = CLIENT_ISN.wrapping_sub(5_000_000);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&cookie, b"");
    assert_eq!(site.guards[0].client_sends(ack), Shown::Held);
    site.guards[0].hear(&FromPeers::Record(former, PeerId(1)));
    let answer = site.guards[0].server_syn_ack();
    assert_eq!(site.guards[0].server_sends(answer), Shown::Held);
    assert_eq!(live(&site), [1, 0]);
    assert_eq!(
        site.guards[0].session().client_isn(),
        site.guards[0].client_isn
    );
}

#[test]
fn a_deferred_session_is_told_to_all_once_it_has_carried_much() {
    let mut site = Site::with(3, |_, config| {
        config.sharing = Some(Sharing {
            share: Share::Deferred,
            deferred_after_ns: 3_600_000_000_000,
            deferred_after_bytes: 5_000,
            ..Sharing::default()
        });
    });
    let cookie = site.open([1, 1, 1]);
    let next = cookie.sequence.wrapping_add(1);
    let mut sent = 0_u32;
    for is_told in [false, true] {
        for _ in 0..3 {
            let data = site.guards[1].client_segment(1 + sent, next, ACK, &[7; 1_000]);
            assert!(matches!(
                site.guards[1].client_sends(data),
                Shown::Forward(_)
            ));
            sent += 1_000;
        }
        site.guards[1].advance_s(2);
        site.exchange();
        assert_eq!(live(&site)[2], usize::from(is_told), "after {sent} bytes");
    }
}

#[test]
fn k3_of_a_closing_that_only_the_director_was_told_all_hear_once_all_hold_the_session() {
    let mut site = Site::with(3, share(Share::Deferred));
    let cookie = site.open([1, 1, 1]);
    let next = cookie.sequence.wrapping_add(1);
    let fin = site.guards[1].client_segment(1, next, FIN_ACK, b"");
    site.guards[1].client_sends(fin);
    // The word to the director is lost.
    assert_eq!(site.records_of(1).len(), 1);
    // Somebody asks the director, which tells all that there is a session.
    let fin_ack = site.guards[2].server_segment(1, CLIENT_ISN.wrapping_add(2), FIN_ACK, b"");
    assert_eq!(site.guards[2].server_sends(fin_ack), Shown::Held);
    site.exchange();
    let shown = site.guards[2].walk_released();
    assert!(matches!(shown[..], [Shown::Forward(_)]), "{shown:?}");
    let last = site.guards[0].client_segment(2, next.wrapping_add(1), ACK, b"");
    site.guards[0].client_sends(last);
    site.exchange();
    assert_eq!(live(&site), [0, 0, 0]);
}

#[test]
fn a_guard_that_leaves_completes_no_opening_of_others() {
    let mut site = Site::new(2);
    let cookie = site.guards[1].shake_hands();
    let ack = site.guards[1].client_ack(&cookie, b"");
    assert_eq!(site.guards[1].client_sends(ack), Shown::Held);
    site.exchange();
    site.guards[0].guard.leave();
    let answer = site.guards[0].server_syn_ack();
    assert_eq!(
        site.guards[0].server_sends(answer),
        Shown::Dropped(DropReason::LeftToOthers)
    );
    assert_eq!(site.guards[0].sent(), []);
    // Its own it completes: it stays for so long.
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&cookie, b"");
    assert_eq!(site.guards[0].client_sends(ack), Shown::Held);
    site.guards[0].guard.leave();
    let answer = site.guards[0].server_syn_ack();
    assert_eq!(site.guards[0].server_sends(answer), Shown::Held);
    site.exchange();
    assert_eq!(live(&site), [1, 1]);
}

#[test]
fn a_guard_that_leaves_opens_nothing_that_it_can_no_longer_tell() {
    for data in [&b""[..], b"GET /"] {
        let mut site = Site::new(2);
        let cookie = site.guards[0].shake_hands();
        site.guards[0].guard.leave();
        let ack = site.guards[0].client_ack(&cookie, data);
        let mut shown = site.guards[0].client_sends(ack.clone());
        if !data.is_empty() {
            // The peers are asked first.
            assert_eq!(shown, Shown::Held);
            site.guards[0].advance_ms(20);
            shown = site.guards[0].walk_released().remove(0);
        }
        assert_eq!(shown, Shown::Dropped(DropReason::LeftToOthers));
        assert_eq!(site.guards[1].client_sends(ack), Shown::Held);
        assert_eq!(site.guards[0].sent(), []);
    }
}

#[test]
fn b1_a_strangers_guess_in_the_widest_windows_is_not_noted() {
    let mut site = Site::with(2, |_, _| {});
    for rig in &mut site.guards {
        rig.client_scale = 14;
        rig.server_options.window_scale = Some(14);
    }
    let cookie = site.open([0, 0, 0]);
    let next = cookie.sequence.wrapping_add(1);
    let before = site.guards[0].session();
    let guess = site.guards[0].client_segment(1 << 29, next.wrapping_add(1 << 29), FIN_ACK, b"");
    site.guards[0].client_sends(guess);
    let after = site.guards[0].session();
    assert_eq!(
        (after.flags, after.client_next, after.server_acked),
        (before.flags, before.client_next, before.server_acked)
    );
}

#[test]
fn an_end_for_which_there_was_no_room_is_not_undone_by_what_was_said_before_it() {
    let mut other = Site::new(2);
    let cookie = other.open([0, 0, 0]);
    other.have_told_again(0);
    let living = other.records_of(0)[0];
    other.guards[0].close(&cookie);
    let ended = *other.records_of(0).last().unwrap();
    assert_eq!(
        (living.stage, ended.stage),
        (Stage::Established, Stage::Closed)
    );
    let mut rig = Rig::with(1, |config| config.sharing = Some(Sharing::default()));
    rig.hear(&FromPeers::Peers(1));
    rig.client_port += 1;
    let cookie = rig.open();
    rig.hear(&FromPeers::Record(ended, PeerId(1)));
    assert_eq!(rig.counters.event(Event::RecordRefused), 1);
    rig.close(&cookie);
    rig.hear(&FromPeers::Record(living, PeerId(1)));
    assert_eq!(rig.guard.status().live, 0);
}
