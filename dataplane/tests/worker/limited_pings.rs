//! Something behind the wire that limits pings, and SYNs that clients repeat.

use dataplane::counters::Event;
use dataplane::guard::config::EchoMode;
use dataplane::wire::address::Family;

use crate::rig::conversation::Conversation;
use crate::rig::packets::echo_reply;
use crate::rig::{Rig, SECOND_NS, Setup, Side};
use crate::steps::FAMILIES;
use crate::wire::{answered, finish, framed, unframed};

/// One SYN to a server whose host answers this ping or not; whether its client has its answer.
fn is_answered(rig: &mut Rig, talk: &Conversation, ping_is_answered: bool) -> bool {
    rig.arrive(Side::Outside, &framed(Side::Outside, &[], &talk.syn()));
    let mut frames = rig.settle_frames();
    let mut has_answer = false;
    while let Some((side, frame)) = frames.pop() {
        match side {
            Side::Outside => has_answer = true,
            Side::Inside if ping_is_answered => {
                let reply = echo_reply(&unframed(Side::Outside, &[], &frame));
                rig.arrive(Side::Inside, &framed(Side::Inside, &[], &reply));
                frames.extend(rig.settle_frames());
            }
            Side::Inside => {}
        }
    }
    has_answer
}

// G3: one echo of many that comes back is no sign that echoes come back.
#[test]
fn g3_a_server_whose_pings_are_limited_is_noticed_and_its_clients_answered() {
    for (family, workers) in [(Family::V4, 1), (Family::V6, 1), (Family::V4, 2)] {
        let mut rig = Rig::new(Setup {
            workers,
            ..Setup::wire(EchoMode::Auto)
        });
        let waiting = (1..=2_000)
            .filter(|number| {
                rig.now_ns += SECOND_NS / 5_800;
                let talk = Conversation::new(family, *number);
                !is_answered(&mut rig, &talk, *number < 5 || number % 29 == 0)
            })
            .count();
        assert!(waiting < 100 * workers, "{waiting} clients wait");
        assert_eq!(rig.event(Event::EchoLimited), workers as u64);
        assert_eq!(rig.event(Event::EchoSilent), 0);
        assert_eq!(rig.counters().all_drops(), 0);
    }
}

#[test]
fn g3_a_repeated_syn_is_answered_at_once() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
        let mut others = 2;
        // A server that answers: its reply is lost, or the client's answer is.
        for (mut talk, comes_back) in [
            (Conversation::new(family, 1), false),
            (Conversation::new(family, 2), true),
        ] {
            assert_eq!(is_answered(&mut rig, &talk, comes_back), comes_back);
            for _ in 0..20 {
                rig.now_ns += SECOND_NS / 20;
                others += 1;
                let other = Conversation::new(family, others);
                assert!(is_answered(&mut rig, &other, true));
            }
            answered(&mut rig, &mut talk, false);
            finish(&mut rig, &mut talk, &[]);
        }
        assert_eq!(rig.event(Event::EchoRepeated), 2);
        assert_eq!(rig.event(Event::EchoLimited), 0);
        assert_eq!(rig.event(Event::EchoSilent), 0);
    }
}
