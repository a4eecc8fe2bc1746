//! Guards that are parted for a while, late, or stopped: what they hold in the end.

use super::*;
use crate::guard::session::State;
use crate::limits::MAX_UNTOLD;
use crate::replicate::record::FlowKey;

fn live(site: &Site) -> Vec<usize> {
    let guards = site.guards.iter();
    guards.map(|rig| rig.guard.status().live).collect()
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
    forwarded(site.guards[1].server_sends(stray));
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
