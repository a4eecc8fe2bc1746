//! C5 where guards share: a server's SYN, what answers it and the server's ACK may each go by another
//! guard.

use super::super::outbound::{
    CLIENT_NEXT, SERVER_NEXT, acknowledgement, answer, forwarded, server_syn,
};
use super::*;
use crate::guard::session::State;

fn states(site: &Site) -> Vec<State> {
    site.guards.iter().map(|rig| rig.session().state).collect()
}

/// Every way for the three segments, told at once or late, by each kind of sharing.
#[test]
fn c5_shared_each_segment_of_a_servers_handshake_may_go_by_any_guard() {
    for share in [Share::Established, Share::Deferred, Share::Begun] {
        for way in 0..27 {
            let at = [way % 3, way / 3 % 3, way / 9];
            let mut site = Site::with(3, |_, config| {
                config.sharing = Some(Sharing {
                    share,
                    ..Sharing::default()
                });
            });
            let syn = server_syn(&site.guards[at[0]]);
            forwarded(site.guards[at[0]].server_sends(syn));
            // An answer that is faster than the word of it comes again.
            let frame = answer(&site.guards[at[1]]);
            match site.guards[at[1]].client_sends(frame.clone()) {
                Shown::Dropped(DropReason::NoSession) => {
                    site.exchange();
                    forwarded(site.guards[at[1]].client_sends(frame));
                }
                shown => drop(forwarded(shown)),
            }
            if way % 2 == 0 {
                site.exchange();
            }
            let frame = acknowledgement(&site.guards[at[2]]);
            match site.guards[at[2]].server_sends(frame) {
                Shown::Held => {
                    site.exchange();
                    site.guards[at[2]].walk_released();
                }
                shown => drop(forwarded(shown)),
            }
            site.exchange();
            // From then on each guard carries it, whichever way.
            let frame =
                site.guards[at[1]].client_frame(CLIENT_NEXT, SERVER_NEXT, ACK, b"220 ready");
            forwarded(site.guards[at[1]].client_sends(frame));
            let acked = CLIENT_NEXT.wrapping_add(9);
            let frame = site.guards[at[0]].server_frame(SERVER_NEXT, acked, ACK, b"HELO");
            forwarded(site.guards[at[0]].server_sends(frame));
            for rig in &mut site.guards {
                assert!(rig.sent().is_empty(), "{at:?}");
            }
        }
    }
}

#[test]
fn c5_shared_an_answer_that_no_guard_expects_goes_nowhere() {
    let mut site = Site::new(2);
    let frame = answer(&site.guards[1]);
    let shown = site.guards[1].client_sends(frame);
    assert_eq!(shown, Shown::Dropped(DropReason::NoSession));
    // One that is expected and never comes is forgotten everywhere.
    let syn = server_syn(&site.guards[0]);
    forwarded(site.guards[0].server_sends(syn));
    site.exchange();
    assert_eq!(states(&site), [State::Opening, State::Established]);
    for rig in &mut site.guards {
        rig.advance_s(60);
    }
    site.exchange();
    for rig in &site.guards {
        assert_eq!(rig.guard.status().sessions, 0);
    }
}

#[test]
fn c5_shared_one_that_was_refused_stays_ended_whatever_comes_late() {
    let mut site = Site::new(2);
    let syn = server_syn(&site.guards[0]);
    forwarded(site.guards[0].server_sends(syn));
    let begun = site.records_of(0);
    for record in &begun {
        site.guards[1].hear(&FromPeers::Record(*record, PeerId(0)));
    }
    let refusal = site.guards[1].client_frame(0, SERVER_NEXT, flags::RST | ACK, b"");
    forwarded(site.guards[1].client_sends(refusal));
    assert_eq!(site.guards[1].session().state, State::Closed);
    let mut late = begun[0];
    (late.client_next, late.client_acked, late.client_edge) = (9, 9, 9);
    for record in [begun[0], late] {
        site.guards[1].hear(&FromPeers::Record(record, PeerId(0)));
        assert_eq!(site.guards[1].session().state, State::Closed);
        assert_eq!(site.guards[1].guard.status().live, 0);
    }
    site.exchange();
    assert_eq!(site.guards[0].guard.status().live, 0);
}
