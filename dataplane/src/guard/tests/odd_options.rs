//! Segments of live sessions whose options are odd: whoever receives them takes them, so none may
//! vanish, and what Linux reads in them is translated.

use proptest::prelude::*;

use super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Shown};
use super::{ACK, SYN_ACK};
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::guard::config::Mode;
use crate::parse::flags;
use crate::wire::bytes::{put_u32, u32_at};

/// Where Linux finds the timestamps, and the SACK blocks with their number: `tcp_parse_options`,
/// told once more.
fn as_linux_reads(segment: &[u8]) -> (Option<usize>, Option<(usize, usize)>) {
    let end = usize::from(segment[12] >> 4) * 4;
    let (mut at, mut stamps, mut blocks) = (20, None, None);
    while at < end {
        match segment[at] {
            0 => break,
            1 => at += 1,
            kind => {
                if end - at < 2 {
                    break;
                }
                let size = usize::from(segment[at + 1]);
                if size < 2 || size > end - at {
                    break;
                }
                if kind == 8 && size == 10 {
                    stamps = Some(at + 2);
                }
                if kind == 5 && size >= 10 && (size - 2).is_multiple_of(8) {
                    blocks = Some((at + 2, (size - 2) / 8));
                }
                at += size;
            }
        }
    }
    (stamps, blocks)
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let stamps = any::<[u8; 8]>().prop_map(|body| [&[8, 10][..], &body].concat());
    let sack = (0usize..4, any::<[u8; 24]>())
        .prop_map(|(blocks, body)| [&[5, 2 + 8 * blocks as u8][..], &body[..8 * blocks]].concat());
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![1, 1]),
        Just(vec![4, 2]),
        Just(vec![0]),
        Just(vec![253, 0]),
        Just(vec![2, 4, 5, 0xb4]),
        Just(vec![3, 3, 7]),
        stamps.clone(),
        stamps,
        sack.clone(),
        sack,
        (any::<u8>(), 0u8..12).prop_map(|(kind, size)| vec![kind, size]),
        proptest::collection::vec(any::<u8>(), 1..9),
    ];
    proptest::collection::vec(option, 0..7).prop_map(|list| {
        let mut octets = list.concat();
        octets.truncate(40);
        octets.resize(octets.len().next_multiple_of(4), 1);
        octets
    })
}

/// A session that is open, and the client's SYN-ACK.
fn open(timestamps: bool, sack_of_server: bool) -> (Rig, super::rig::Segment) {
    let mut rig = Rig::with(10, |config| {
        config.servers[0].overrides.timestamps = Some(timestamps);
    });
    rig.server_options.timestamps = rig.server_options.timestamps.filter(|_| timestamps);
    rig.server_options.sack_permitted = sack_of_server;
    let cookie = rig.open();
    (rig, cookie)
}

fn forwarded(shown: Shown) -> Vec<u8> {
    match shown {
        Shown::Forward(seen) => seen.raw,
        other => panic!("{other:?}"),
    }
}

fn shift(segment: &mut [u8], at: usize, delta: u32) {
    let shifted = u32_at(segment, at).wrapping_add(delta);
    put_u32(segment, at, shifted);
}

proptest! {
    #[test]
    fn e3_no_segment_of_a_session_vanishes_for_its_options(
        options in options(), timestamps in any::<bool>(), from_client in any::<bool>(),
        is_over in any::<bool>(),
    ) {
        let (mut rig, cookie) = open(timestamps, true);
        let next = cookie.sequence.wrapping_add(1);
        if is_over {
            rig.close(&cookie);
        }
        let (offset, acked) = if is_over { (2, 2) } else { (1, 1) };
        let session = rig.guard.next_session(None).map(|(_, session)| *session).unwrap();
        let delta = SERVER_ISN.wrapping_sub(cookie.sequence);
        let frame = if from_client {
            let sequence = CLIENT_ISN.wrapping_add(offset);
            rig.client_octets(sequence, next.wrapping_add(acked - 1), ACK, 1000, &options, b"")
        } else {
            let sequence = SERVER_ISN.wrapping_add(offset);
            rig.server_octets(sequence, CLIENT_ISN.wrapping_add(acked), ACK, &options, b"")
        };
        let mut expected = frame[34..].to_vec();
        let (stamps, blocks) = as_linux_reads(&expected);
        let stamps = stamps.filter(|_| timestamps);
        let sent = if from_client {
            shift(&mut expected, 8, delta);
            if let Some(at) = stamps {
                shift(&mut expected, at + 4, session.timestamp_delta);
            }
            for edge in 0..blocks.map_or(0, |(_, count)| count * 2) {
                let at = blocks.unwrap().0 + edge * 4;
                shift(&mut expected, at, delta);
            }
            rig.client_sends(frame)
        } else {
            shift(&mut expected, 4, delta.wrapping_neg());
            if let Some(at) = stamps {
                shift(&mut expected, at, session.timestamp_delta.wrapping_neg());
            }
            // The server was told a scale of 7, and has it.
            rig.server_sends(frame)
        };
        let mut seen = forwarded(sent);
        // The checksum was looked at when it was shown.
        seen[16..18].copy_from_slice(&[0; 2]);
        expected[16..18].copy_from_slice(&[0; 2]);
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn e3_the_blocks_that_a_server_would_not_understand_are_blanked(options in options()) {
        let (mut rig, cookie) = open(true, false);
        let next = cookie.sequence.wrapping_add(1);
        let sequence = CLIENT_ISN.wrapping_add(1);
        let frame = rig.client_octets(sequence, next, ACK, 1000, &options, b"");
        let (stamps, _) = as_linux_reads(&frame[34..]);
        let seen = forwarded(rig.client_sends(frame));
        prop_assert_eq!(as_linux_reads(&seen), (stamps, None));
    }

    #[test]
    fn e3_a_proof_and_what_is_held_may_bear_odd_options(options in options()) {
        let mut rig = Rig::with(10, |config| {
            config.servers[0].overrides.timestamps = Some(false);
        });
        rig.server_options.timestamps = None;
        let cookie = rig.shake_hands();
        let (sequence, next) = (CLIENT_ISN.wrapping_add(1), cookie.sequence.wrapping_add(1));
        let proof = rig.client_octets(sequence, next, ACK, 1000, &options, b"");
        if as_linux_reads(&proof[34..]).0.is_some() {
            // It has no good cookie: the guard told this client no timestamp.
            return Ok(());
        }
        prop_assert_eq!(rig.client_sends(proof), Shown::Held);
        let early = rig.client_octets(sequence, next, ACK, 1000, &options, b"early");
        prop_assert_eq!(rig.client_sends(early), Shown::Held);
        rig.sent();
        prop_assert_eq!(rig.server_sends(rig.server_syn_ack()), Shown::Held);
        let acknowledgements: Vec<_> = rig.sent().iter().map(|seen| seen.acknowledgement).collect();
        prop_assert_eq!(acknowledgements, vec![SERVER_ISN.wrapping_add(1); 2]);
    }

    #[test]
    fn e3_a_server_opens_whatever_else_its_answer_says(options in options()) {
        let mut rig = Rig::with(10, |config| {
            config.servers[0].overrides.timestamps = Some(false);
        });
        let cookie = rig.shake_hands();
        let proof = rig.client_ack(&cookie, b"");
        prop_assert_eq!(rig.client_sends(proof), Shown::Held);
        rig.sent();
        let answer =
            rig.server_octets(SERVER_ISN, CLIENT_ISN.wrapping_add(1), SYN_ACK, &options, b"");
        prop_assert_eq!(rig.server_sends(answer), Shown::Held);
        prop_assert_eq!(rig.only_sent().acknowledgement, SERVER_ISN.wrapping_add(1));
        prop_assert_eq!(rig.counters.event(Event::SessionOpened), 1);
    }

    #[test]
    fn e3_only_syns_of_clients_are_refused_while_nothing_is(options in options()) {
        let mut rig = Rig::new();
        rig.configure(|config| config.mode = Mode::OnFlood);
        let frames = [ACK, flags::FIN | ACK, flags::RST]
            .map(|kind| rig.client_octets(CLIENT_ISN, 77, kind, 1000, &options, b""));
        for frame in frames {
            forwarded(rig.client_sends(frame));
        }
        forwarded(rig.client_sends(rig.client_syn()));
        let isn = CLIENT_ISN.wrapping_add(1);
        forwarded(rig.server_sends(rig.server_octets(SERVER_ISN, isn, SYN_ACK, &options, b"")));
        let next = SERVER_ISN.wrapping_add(1);
        forwarded(rig.client_sends(rig.client_octets(isn, next, ACK, 1000, &options, b"")));
        forwarded(rig.server_sends(rig.server_octets(next, isn, ACK, &options, b"")));
        prop_assert_eq!(rig.counters.drops(DropReason::MalformedTcpOptions), 0);
    }
}

#[test]
fn e3_a_clients_syn_with_odd_options_is_refused_still() {
    let mut rig = Rig::new();
    let syn = rig.client_octets(CLIENT_ISN, 0, flags::SYN, 1000, &[4, 2, 4, 2], b"");
    let refused = Shown::Dropped(DropReason::MalformedTcpOptions);
    assert_eq!(rig.client_sends(syn.clone()), refused);
    rig.configure(|config| config.mode = Mode::OnFlood);
    assert_eq!(rig.client_sends(syn.clone()), refused);
    rig.configure(|config| config.mode = Mode::Monitor);
    forwarded(rig.client_sends(syn.clone()));
    assert_eq!(rig.counters.event(Event::WouldRefuse), 1);
    // Also where it is sent again on a session that is followed.
    forwarded(rig.client_sends(rig.client_syn()));
    forwarded(rig.client_sends(syn));
    assert_eq!(rig.counters.event(Event::WouldRefuse), 2);
}
