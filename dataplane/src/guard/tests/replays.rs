//! Group D: no handshake opens its server side twice, whatever became of its session.

use proptest::prelude::*;

use super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Shown};
use crate::drop_reason::DropReason;
use crate::parse::flags;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client of this port opens a connection, with whatever stands before it.
    Open(u16),
    Close,
    Reset(bool),
    Wait(u64),
    /// The handshake so many before the last one comes again, with its request.
    Replay(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u16..6).prop_map(Step::Open),
        2 => Just(Step::Close),
        1 => any::<bool>().prop_map(Step::Reset),
        2 => (1u64..30_000).prop_map(Step::Wait),
        4 => (0usize..8).prop_map(Step::Replay),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn d_a_handshake_opens_once(
        steps in proptest::collection::vec(step(), 1..60), idle_s in 1u64..100, capacity in 2u32..9,
    ) {
        // CASES 2, 4
        let mut rig = Rig::with(capacity, |config| {
            config.timers.established_idle_ns = idle_s * 1_000_000_000;
            config.timers.closing_idle_ns = idle_s * 500_000_000;
        });
        let mut used = Vec::new();
        let mut isn = CLIENT_ISN;
        let mut last = None;
        for step in steps {
            rig.sent();
            match step {
                Step::Open(port) => {
                    (rig.client_port, isn) = (40_000 + port, isn.wrapping_add(1_000_003));
                    rig.client_isn = isn;
                    let Shown::Reply(cookie) = rig.client_sends(rig.client_syn()) else {
                        continue;
                    };
                    let ack = rig.client_ack(&cookie, b"POST /");
                    if rig.client_sends(ack.clone()) != Shown::Held {
                        continue;
                    }
                    if rig.sent().iter().any(|sent| sent.flags == flags::SYN) {
                        rig.server_sends(rig.server_syn_ack());
                        used.push(ack);
                        last = Some(cookie);
                    }
                }
                Step::Close => {
                    let Some(cookie) = last.take() else { continue };
                    let next = cookie.sequence.wrapping_add(1);
                    let fin_ack = flags::FIN | flags::ACK;
                    rig.client_sends(rig.client_segment(7, next, fin_ack, b""));
                    let acked = rig.client_isn.wrapping_add(8);
                    rig.server_sends(rig.server_segment(1, acked, fin_ack, b""));
                    let last_ack = rig.client_segment(8, next.wrapping_add(1), flags::ACK, b"");
                    rig.client_sends(last_ack);
                }
                Step::Reset(by_client) => {
                    let Some(cookie) = last.take() else { continue };
                    let next = cookie.sequence.wrapping_add(1);
                    if by_client {
                        let acked = rig.client_isn.wrapping_add(7);
                        rig.server_sends(rig.server_segment(1, acked, flags::ACK, b""));
                        rig.client_sends(rig.client_segment(7, next, flags::RST, b""));
                    } else {
                        let acked = rig.client_isn.wrapping_add(1);
                        rig.server_sends(rig.server_segment(1, acked, flags::RST, b""));
                    }
                }
                Step::Wait(ms) => rig.advance_ms(ms),
                Step::Replay(back) => {
                    let Some(ack) = used.iter().rev().nth(back).cloned() else { continue };
                    rig.client_sends(ack);
                    let sent = rig.sent();
                    prop_assert!(
                        sent.iter().all(|sent| sent.flags != flags::SYN),
                        "{step:?} of {} opens again: {sent:?}", used.len()
                    );
                }
            }
        }
    }
}

#[test]
fn d_where_no_used_handshake_may_be_forgotten_the_next_one_waits() {
    let mut rig = Rig::with(2, |_| {});
    let open = |rig: &mut Rig, port| {
        rig.client_port = port;
        let cookie = rig.shake_hands();
        let shown = rig.client_sends(rig.client_ack(&cookie, b""));
        rig.sent();
        shown
    };
    rig.guard.fill_spent(1_000_000_000);
    for port in [40_000, 40_001] {
        assert_eq!(open(&mut rig, port), Shown::Held);
        rig.server_sends(rig.server_syn_ack());
        let reset = rig.server_frame(
            SERVER_ISN.wrapping_add(1),
            CLIENT_ISN.wrapping_add(1),
            flags::RST,
            b"",
        );
        rig.server_sends(reset);
    }
    let refused = Shown::Dropped(DropReason::SessionTableFull);
    assert_eq!(open(&mut rig, 40_002), refused);
    rig.advance_s(70);
    assert_eq!(open(&mut rig, 40_002), Shown::Held);
}
