//! Frames that are read, and those that are refused.

use super::*;
use proptest::prelude::*;

/// An Ethernet frame with an IPv4 TCP segment of 4 payload octets, padded by 6.
fn tcp_frame() -> Vec<u8> {
    let mut frame = vec![0u8; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend([192, 0, 2, 7, 10, 0, 0, 10]);
    frame.extend([
        0x12,
        0x34,
        0,
        80,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        2,
        0x50,
        flags::ACK,
        1,
        0,
        0,
        0,
        0,
        0,
    ]);
    frame.extend([1, 2, 3, 4]);
    frame.extend([0; 6]);
    frame
}

#[test]
fn a_padded_tcp_segment_is_measured_by_its_ip_header() {
    let parsed = parse(&tcp_frame()).unwrap();
    assert_eq!((parsed.source_port, parsed.destination_port), (0x1234, 80));
    assert_eq!(parsed.payload_bytes(), 4);
    assert_eq!(parsed.packet_bytes(), 44);
    assert_eq!(parsed.tcp_flags, flags::ACK);
    assert!(parsed.is_whole_tcp());
    let cut = parsed.without_link_header();
    assert_eq!(parse_network(&tcp_frame()[14..]).unwrap(), cut);
}

#[test]
fn a_vlan_tag_moves_the_header_and_is_reported() {
    let mut frame = tcp_frame();
    frame.splice(12..12, [0x81, 0x00, 0x20, 0x64]);
    let parsed = parse(&frame).unwrap();
    assert_eq!((parsed.vlan, parsed.network), (100, 18));
    assert_eq!(parsed.destination_port, 80);
}

#[test]
fn fragments_are_told_apart_and_a_tiny_first_one_is_refused() {
    // CASES 13
    let mut frame = tcp_frame();
    frame[20] = 0x20;
    assert_eq!(parse(&frame).unwrap().fragment, Fragment::First);
    frame[17] = 28;
    assert_eq!(parse(&frame), Err(DropReason::FragmentMalformed));
    frame[21] = 1;
    let later = parse(&frame).unwrap();
    assert_eq!((later.fragment, later.source_port), (Fragment::Later, 0));
}

#[test]
fn ipv6_extension_headers_are_followed_to_a_bound() {
    let mut frame = vec![0u8; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8 * 3 + 20, 0, 64]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend([60, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend([44, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend([6, 0, 0, 0, 0, 0, 0, 9]);
    frame.extend([
        0,
        9,
        0,
        80,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        2,
        0x50,
        flags::SYN,
        1,
        0,
        0,
        0,
        0,
        0,
    ]);
    let parsed = parse(&frame).unwrap();
    assert_eq!(
        (parsed.transport, parsed.destination_port),
        (14 + 40 + 24, 80)
    );
    assert_eq!(
        parsed.fragment,
        Fragment::Whole,
        "an atomic fragment is whole"
    );

    let mut chain = vec![0u8; 54];
    chain[12..14].copy_from_slice(&[0x86, 0xdd]);
    chain[14] = 0x60;
    chain[19] = 80;
    chain[22] = 0xfe;
    chain[38] = 0xfe;
    for _ in 0..10 {
        chain.extend([60, 0, 0, 0, 0, 0, 0, 0]);
    }
    chain[20] = 60;
    assert_eq!(parse(&chain), Err(DropReason::TooManyExtensionHeaders));
}

#[test]
fn an_ipv4_mapped_ipv6_packet_is_refused() {
    let mut frame = vec![0u8; 54];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[20] = 59;
    frame[22] = 0xfe;
    frame[48..50].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(parse(&frame), Err(DropReason::MartianSource));
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic_and_offsets_stay_in_bounds(
        mut frame in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0usize..4,
    ) {
        if frame.len() > 15 {
            let types = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]];
            frame[12..14].copy_from_slice(&types[kind]);
            frame[14] = [0x45, 0x60, 0, 0][kind] | (frame[14] & 1);
        }
        if let Ok(parsed) = parse(&frame) {
            prop_assert!(parsed.network <= parsed.transport);
            prop_assert!(parsed.transport <= parsed.payload);
            prop_assert!(parsed.payload <= parsed.end);
            prop_assert!(usize::from(parsed.end) <= frame.len());
        }
    }
}
