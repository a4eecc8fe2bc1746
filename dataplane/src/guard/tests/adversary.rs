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