//! Frames whose packet stands behind more than an Ethernet header: a server takes it from there, so a
//! guard must too, or let nothing of it through.

use dataplane::drop_reason::DropReason;
use dataplane::guard::config::EchoMode;
use dataplane::limits::MAX_TAGS;
use dataplane::parse::{flags, protocol};

use crate::rig::conversation::Conversation;
use crate::rig::packets::{address, fragments, udp};
use crate::rig::{Rig, Setup, Side, facts};
use crate::steps::{FAMILIES, dropped_frame, server};
use crate::wire::{exchange, framed, open};
use dataplane::wire::address::Family;

/// So many tags, each of the VLAN 0: what Linux strips however many there are. 802.1ad ones are
/// between those of 802.1Q.
fn priority_tags(count: usize) -> Vec<u8> {
    let tags = [[0x81, 0x00, 0x00, 0x00], [0x88, 0xa8, 0xe0, 0x00]];
    tags.into_iter().cycle().take(count).flatten().collect()
}

/// The frame with its packet in an LLC/SNAP frame of this organisation.
fn in_snap(frame: &[u8], organisation: [u8; 3]) -> Vec<u8> {
    let length = (frame.len() - 14 + 8) as u16;
    [
        &frame[..12],
        &length.to_be_bytes(),
        &[0xaa, 0xaa, 0x03],
        &organisation,
        &frame[12..],
    ]
    .concat()
}

#[test]
fn g1_a_syn_behind_any_number_of_tags_that_are_read_is_guarded() {
    for echo in [EchoMode::Auto, EchoMode::Off] {
        for family in FAMILIES {
            for count in 0..=MAX_TAGS {
                let mut rig = Rig::new(Setup {
                    workers: 1 + count % 2,
                    ..Setup::wire(echo)
                });
                let tags = priority_tags(count);
                let mut talk = Conversation::new(family, 1);
                if echo == EchoMode::Auto {
                    open(&mut rig, &mut talk, &tags);
                    exchange(&mut rig, &mut talk, &tags);
                } else {
                    let syn = framed(Side::Outside, &tags, &talk.syn());
                    let (left_by, answer) = rig.pass(Side::Outside, &syn);
                    assert_eq!(left_by, Side::Outside, "{count} tags: it is answered");
                    assert_eq!(answer[12..12 + tags.len()], tags);
                }
                assert_eq!(rig.counters().all_drops(), 0);
            }
        }
    }
}

#[test]
fn g1_behind_more_tags_than_are_read_nothing_passes() {
    for workers in [1, 2] {
        let mut rig = Rig::new(Setup {
            workers,
            ..Setup::wire(EchoMode::Auto)
        });
        for count in [MAX_TAGS + 1, MAX_TAGS + 2, 300] {
            let tags = priority_tags(count);
            for family in FAMILIES {
                let syn = framed(Side::Outside, &tags, &Conversation::new(family, 1).syn());
                let reason = dropped_frame(&mut rig, Side::Outside, &syn);
                assert_eq!(reason, DropReason::TooManyTags);
            }
            // Cut off among the tags, it is no packet for anybody; it is not told apart.
            let cut = &framed(Side::Inside, &tags, &[0x45])[..14 + 4 * (MAX_TAGS + 1)];
            let reason = dropped_frame(&mut rig, Side::Inside, cut);
            assert_eq!(reason, DropReason::TooManyTags);
        }
    }
}

#[test]
fn g1_a_hop_tells_of_tags_that_it_does_not_read() {
    let mut rig = Rig::new(Setup::default());
    for tags in [priority_tags(2), priority_tags(40), vec![0x88, 0xa8, 0, 0]] {
        for family in FAMILIES {
            let plain = rig.framed(Side::Outside, &Conversation::new(family, 1).syn());
            let frame = [&plain[..12], &tags, &plain[12..]].concat();
            let reason = dropped_frame(&mut rig, Side::Outside, &frame);
            assert_eq!(reason, DropReason::TooManyTags);
        }
    }
}

#[test]
fn g1_fragments_behind_tags_are_gathered_like_others() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Off));
    let tags = priority_tags(5);
    let mut talk = Conversation::new(Family::V4, 1);
    let mut segment = talk.client_sends(flags::SYN, &[7; 600]);
    segment[6] = 0;
    let mut left = Vec::new();
    for piece in fragments(&segment, 9, 240) {
        rig.arrive(Side::Outside, &framed(Side::Outside, &tags, &piece));
        left.extend(rig.settle_frames());
    }
    let to_server = left.iter().filter(|(side, _)| *side == Side::Inside);
    assert_eq!(to_server.count(), 0, "{left:02x?}");
}

#[test]
fn g1_a_packet_for_a_server_in_a_snap_frame_does_not_pass() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
    for family in FAMILIES {
        for organisation in [[0; 3], [0, 0, 0xf8]] {
            for count in [0, 1, 3] {
                let tags = priority_tags(count);
                let plain = framed(Side::Outside, &[], &Conversation::new(family, 1).syn());
                let snap = in_snap(&plain, organisation);
                let frame = [&snap[..12], &tags, &snap[12..]].concat();
                let reason = dropped_frame(&mut rig, Side::Outside, &frame);
                assert_eq!(reason, DropReason::SnapEncapsulated);
            }
        }
    }
    // Between others, and of other kinds, such frames pass.
    let (one, other) = (address("203.0.113.9"), address("192.0.2.9"));
    let plain = framed(Side::Outside, &[], &udp(one, other, (1, 2), b"x"));
    let frame = in_snap(&plain, [0; 3]);
    assert_eq!(rig.pass(Side::Outside, &frame), (Side::Inside, frame));
    let mut spanning_tree = in_snap(&plain, [0, 0, 0x0c]);
    spanning_tree[20..22].copy_from_slice(&[0x01, 0x0b]);
    let passed = (Side::Inside, spanning_tree.clone());
    assert_eq!(rig.pass(Side::Outside, &spanning_tree), passed);
    // What is whole and no TCP for the server passes unless it is so wrapped.
    let ping = udp(one, server(Family::V4), (1, 2), b"x");
    let frame = framed(Side::Outside, &priority_tags(4), &ping);
    assert_eq!(facts(&ping).protocol, protocol::UDP);
    assert_eq!(rig.pass(Side::Outside, &frame), (Side::Inside, frame));
}
