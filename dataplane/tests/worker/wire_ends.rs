//! How sessions over a transparent wire end that one side says no more to.

use dataplane::drop_reason::DropReason;
use dataplane::guard::config::EchoMode;
use dataplane::limits::MAX_WIRE_PATHS;
use dataplane::parse::flags;
use dataplane::wire::address::Family;
use dataplane::wire::ethernet;

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::echo_reply;
use crate::rig::{ROUTER_MAC, Rig, SECOND_NS, SERVER_MAC, Setup, Side};
use crate::wire::{TAGS, across, open, unframed};

#[test]
fn a_server_that_never_answers_costs_its_client_a_reset_by_the_way_it_came() {
    // CASES 11
    let tags = TAGS[1];
    let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
    let mut talk = Conversation::new(Family::V6, 1);
    let request = across(&mut rig, Side::Outside, tags, &talk.syn());
    let cookie = across(&mut rig, Side::Inside, tags, &echo_reply(&request));
    talk.take_cookie(&cookie);
    let ack = talk.client_sends(flags::ACK, b"");
    across(&mut rig, Side::Outside, tags, &ack);
    let mut frames = Vec::new();
    for _ in 0..20 {
        rig.now_ns += SECOND_NS;
        frames.extend(rig.settle_frames());
    }
    let (side, last) = frames.pop().expect("a reset");
    assert_eq!(side, Side::Outside);
    assert_eq!(
        see(&unframed(Side::Inside, tags, &last)).flags,
        flags::RST | flags::ACK
    );
    assert!(frames.iter().all(|(side, _)| *side == Side::Inside));
    assert_eq!(rig.drops(DropReason::PathUnknown), 0);
    assert_eq!(rig.drops(DropReason::ServerSilent), 1);
    let (to, from) = (ethernet::destination(&last), ethernet::source(&last));
    assert_eq!((to, from), (ROUTER_MAC, SERVER_MAC));
}

#[test]
fn both_ends_of_an_idle_session_are_told_as_far_as_their_ways_are_known() {
    const SESSIONS: u16 = MAX_WIRE_PATHS as u16 + 500;
    let mut rig = Rig::new(Setup {
        capacity: 16_384,
        ..Setup::wire(EchoMode::Auto)
    });
    for number in 0..SESSIONS {
        open(&mut rig, &mut Conversation::new(Family::V4, number), &[]);
    }
    let mut resets = [0, 0];
    for _ in 0..1000 {
        rig.now_ns += 10 * SECOND_NS;
        for (side, frame) in rig.settle_frames() {
            assert_ne!(see(&frame[14..]).flags & flags::RST, 0);
            resets[side as usize] += 1;
        }
    }
    // The server's way is never forgotten; of clients there may be more than ways.
    let [to_clients, to_servers] = resets;
    assert_eq!(to_servers, u64::from(SESSIONS));
    let unknown = rig.drops(DropReason::PathUnknown);
    assert_eq!(to_clients + unknown, u64::from(SESSIONS));
    assert!(
        (500..MAX_WIRE_PATHS as u64 / 2).contains(&unknown),
        "{unknown}"
    );
}
