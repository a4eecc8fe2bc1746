//! Group B: a stranger who knows a session's addresses and ports, but not its numbers, changes nothing:
//! it lives, passes what its ends send, and ends when they end it.

use proptest::prelude::*;

use super::rig::{Rig, SERVER_ISN, Segment, Shown, wire};
use crate::counters::Event;
use crate::guard::config::{GuardConfig, Mode, Sharing};
use crate::guard::session::{State, flag};
use crate::parse::flags;
use crate::replicate::FromPeers;

const ACK: u8 = flags::ACK;
const FIN_ACK: u8 = flags::FIN | flags::ACK;

/// A guessed segment.
#[derive(Clone, Copy, Debug)]
struct Guess {
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    bytes: usize,
}

fn guess() -> impl Strategy<Value = Guess> {
    let kinds = [
        flags::RST,
        flags::RST | ACK,
        FIN_ACK,
        ACK,
        ACK | flags::PSH,
        flags::SYN,
        flags::SYN | ACK,
        flags::FIN,
        0,
    ];
    let kind = proptest::sample::select(kinds.to_vec());
    (any::<u32>(), any::<u32>(), kind, 0usize..40).prop_map(
        |(sequence, acknowledgement, flags, bytes)| Guess {
            sequence,
            acknowledgement,
            flags,
            bytes,
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Spliced, protection on.
    Spliced,
    /// Spliced, protection has gone off since.
    SplicedUnprotected,
    /// Watched only.
    Tracked,
    /// Spliced and shared with a peer.
    Shared,
    /// Spliced on a transparent wire.
    Wire,
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(vec![
        Kind::Spliced,
        Kind::SplicedUnprotected,
        Kind::Tracked,
        Kind::Shared,
        Kind::Wire,
    ])
}

fn forwarded(shown: Shown) -> Segment {
    match shown {
        Shown::Forward(segment) => segment,
        other => panic!("not forwarded: {other:?}"),
    }
}

/// One session, and where its numbers are for its client: the offset of the server's.
fn open(kind: Kind, scale: u8, family: usize) -> (Rig, u32) {
    let change = |config: &mut GuardConfig| match kind {
        Kind::Tracked => config.mode = Mode::Monitor,
        Kind::Shared => config.sharing = Some(Sharing::default()),
        Kind::Wire => wire(config),
        Kind::Spliced | Kind::SplicedUnprotected => {}
    };
    let mut rig = Rig::with(100, change);
    (rig.client_scale, rig.family) = (scale, family);
    rig.server_options.window_scale = Some(scale);
    if kind == Kind::Shared {
        rig.hear(&FromPeers::Peers(1));
    }
    if kind == Kind::Tracked {
        forwarded(rig.client_sends(rig.client_syn()));
        forwarded(rig.server_sends(rig.server_syn_ack()));
        let next = SERVER_ISN.wrapping_add(1);
        forwarded(rig.client_sends(rig.client_frame_on(next, b"")));
        return (rig, next);
    }
    let cookie = rig.open();
    if kind == Kind::SplicedUnprotected {
        rig.configure(|config| config.mode = Mode::OnFlood);
    }
    (rig, cookie.sequence.wrapping_add(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn b_what_a_stranger_guesses_changes_no_session(
        guesses in proptest::collection::vec(guess(), 1..60), kind in kind(),
        scale in proptest::sample::select(vec![0u8, 7, 10, 14]), is_half_closed in any::<bool>(),
        family in 0usize..2,
    ) {
        // CASES 3
        let (mut rig, next) = open(kind, scale, family);
        let acked = rig.client_isn.wrapping_add(1);
        let (mut server, mut client_next) = (1, next);
        if is_half_closed {
            forwarded(rig.server_sends(rig.server_segment(1, acked, FIN_ACK, b"")));
            (server, client_next) = (2, next.wrapping_add(1));
            let ack = rig.client_segment(1, client_next, ACK, b"");
            forwarded(rig.client_sends(ack));
        }
        let idle_ns = |rig: &Rig| rig.guard.idle_limit_ns(&rig.session());
        let idle_before_ns = idle_ns(&rig);
        let before = rig.session();
        let ends = [Event::SessionClosed, Event::SessionReset, Event::SessionIdled];
        for guess in &guesses {
            let frame = rig.client_frame(
                guess.sequence, guess.acknowledgement, guess.flags, &vec![b'!'; guess.bytes],
            );
            rig.client_sends(frame);
            rig.sent();
            rig.advance_ms(20);
            rig.walk_released();
            rig.sent();
        }
        // It stands as it stood, for as long.
        prop_assert_eq!(rig.guard.status().sessions, 1);
        prop_assert_eq!(rig.session().state, State::Established);
        prop_assert_eq!(idle_ns(&rig), idle_before_ns);
        prop_assert_eq!(rig.session().client_acked, before.client_acked);
        prop_assert_eq!(rig.session().server_next, before.server_next);
        prop_assert_eq!(rig.session().client_edge, before.client_edge);
        // Protection goes on, and its ends speak and close as they please.
        rig.configure(|config| {
            config.sharing = (kind == Kind::Shared).then(Sharing::default);
            if kind == Kind::Wire {
                wire(config);
            }
        });
        let data = rig.client_segment(1, client_next, ACK, b"hello");
        forwarded(rig.client_sends(data));
        let acked = acked.wrapping_add(5);
        forwarded(rig.server_sends(rig.server_segment(server, acked, ACK, b"")));
        for event in ends {
            prop_assert_eq!(rig.counters.event(event), 0, "{}", event.label());
        }
        forwarded(rig.client_sends(rig.client_segment(6, client_next, FIN_ACK, b"")));
        let acked = acked.wrapping_add(1);
        let last = if is_half_closed { ACK } else { FIN_ACK };
        let offset = if is_half_closed { 2 } else { 1 };
        forwarded(rig.server_sends(rig.server_segment(offset, acked, last, b"")));
        if !is_half_closed {
            let ack = rig.client_segment(7, next.wrapping_add(1), ACK, b"");
            forwarded(rig.client_sends(ack));
        }
        prop_assert_eq!(rig.counters.event(Event::SessionClosed), 1);
        prop_assert_eq!(rig.session().state, State::Closed);
    }
}

#[test]
fn b_nobody_makes_a_watched_session_without_its_server() {
    let mut rig = Rig::with(100, |config| config.mode = Mode::Monitor);
    forwarded(rig.client_sends(rig.client_syn()));
    for acknowledgement in [0, 1, u32::MAX] {
        forwarded(rig.client_sends(rig.client_frame_on(acknowledgement, b"")));
    }
    assert_eq!(rig.session().state, State::Opening);
    assert_eq!(rig.counters.event(Event::SessionOpened), 0);
}

#[test]
fn b_syns_that_pass_take_a_share_of_the_table_and_push_nothing_out() {
    let mut rig = Rig::with(40, |_| {});
    let cookie = rig.open();
    rig.close(&cookie);
    let monitor = |config: &mut GuardConfig| config.mode = Mode::Monitor;
    rig.configure(monitor);
    for port in 0..200 {
        rig.client_port = 50_000 + port;
        forwarded(rig.client_sends(rig.client_syn()));
    }
    assert_eq!(rig.guard.status().sessions, 1 + 40 / 4);
    assert_eq!(rig.counters.event(Event::SessionEvicted), 0);
    // Their time over, others may be watched.
    rig.advance_s(20);
    rig.client_port = 60_000;
    forwarded(rig.client_sends(rig.client_syn()));
    assert_eq!(rig.guard.status().sessions, 2);
}

#[test]
fn b_a_forged_fin_that_fits_is_undone_by_what_the_ends_say() {
    let (mut rig, next) = open(Kind::Spliced, 7, 0);
    // By luck in the window: it says that the client's bytes end at 500.
    forwarded(rig.client_sends(rig.client_segment(499, next, FIN_ACK, b"")));
    assert!(rig.session().has(flag::CLIENT_FIN));
    assert!(
        !rig.session().is_closing(),
        "the server has not acknowledged it"
    );
    let data = vec![b'x'; 600];
    forwarded(rig.client_sends(rig.client_segment(1, next, ACK, &data)));
    let acked = rig.client_isn.wrapping_add(601);
    forwarded(rig.server_sends(rig.server_segment(1, acked, ACK, b"")));
    assert!(
        !rig.session().has(flag::CLIENT_FIN),
        "the server has taken more"
    );
    assert_eq!(rig.session().client_next, acked);
}
