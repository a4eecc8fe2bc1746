//! Each reason to drop that a frame can meet, and the limits behind some of them.

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Unknown;
use dataplane::parse::{flags, protocol};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::arp::ArpOperation;
use dataplane::wire::ethernet::MacAddress;

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::{address, fragments, ip, udp};
use crate::rig::{DENIED, Rig, SERVER_MAC, Setup, Side, all_sound};
use crate::steps::{FAMILIES, dropped, dropped_frame, proved, server, stranger};

#[test]
fn malformed_frames_end_under_their_own_reasons() {
    // CASES 5 and 12
    let mut rig = Rig::new(Setup::default());
    let good = udp(stranger(Family::V4), server(Family::V4), (1, 2), b"data");
    let frame = rig.framed(Side::Outside, &good);
    let changed = |at: usize, to: &[u8]| {
        let mut frame = frame.clone();
        frame[at..at + to.len()].copy_from_slice(to);
        frame
    };
    let six = udp(stranger(Family::V6), server(Family::V6), (1, 2), b"data");
    let mut extended = six[..40].to_vec();
    extended[6] = 0;
    extended[4..6].copy_from_slice(&72u16.to_be_bytes());
    for _ in 0..9 {
        extended.extend([0, 0, 1, 4, 0, 0, 0, 0]);
    }
    let mut tagged = frame.clone();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x09]);
    let arp = rig.frame(
        Side::Outside,
        MacAddress::BROADCAST,
        SERVER_MAC,
        0x0806,
        &[0; 28],
    );
    let cases: Vec<(Vec<u8>, DropReason)> = vec![
        (frame[..13].to_vec(), DropReason::FrameTooShort),
        (changed(12, &[0x88, 0xcc]), DropReason::UnknownEtherType),
        (tagged, DropReason::UnknownVlan),
        (arp, DropReason::MalformedArp),
        (changed(14, &[0x44]), DropReason::MalformedIpv4),
        (changed(24, &[0, 1]), DropReason::BadIpv4Checksum),
        (
            rig.framed(Side::Outside, &six[..44]),
            DropReason::MalformedIpv6,
        ),
        (
            rig.framed(Side::Outside, &extended),
            DropReason::TooManyExtensionHeaders,
        ),
        (frame[..14 + 20].to_vec(), DropReason::MalformedIpv4),
        (changed(0, &[2, 0, 0, 0, 7, 7]), DropReason::NotForUs),
    ];
    for (frame, reason) in cases {
        assert_eq!(dropped_frame(&mut rig, Side::Outside, &frame), reason);
    }
    let short = ip(
        stranger(Family::V4),
        server(Family::V4),
        protocol::UDP,
        &[0; 7],
    );
    assert_eq!(
        dropped(&mut rig, Side::Outside, &short),
        DropReason::MalformedTransport
    );
    assert_eq!(rig.pool.live(), 0);
}

#[test]
fn the_hop_refuses_under_its_own_reasons() {
    // CASES 12
    let mut rig = Rig::new(Setup::default());
    let to = server(Family::V4);
    let from = |source: &str| udp(address(source), to, (1, 2), &[0; 40]);
    let cases = [
        ("127.0.0.1", DropReason::MartianSource),
        ("192.0.2.1", DropReason::OwnSource),
        ("10.0.0.10", DropReason::OwnSource),
        ("10.0.0.77", DropReason::SpoofedSource),
    ];
    for (source, reason) in cases {
        assert_eq!(
            dropped(&mut rig, Side::Outside, &from(source)),
            reason,
            "{source}"
        );
    }
    let nowhere = udp(
        address("2001:db8:7::9"),
        address("2a00::1"),
        (1, 2),
        &[0; 60],
    );
    assert_eq!(
        dropped(&mut rig, Side::Outside, &nowhere),
        DropReason::NoRoute
    );
    let mut old = from("203.0.113.9");
    old[8] = 1;
    old[10..12].fill(0);
    let checksum = dataplane::wire::checksum::internet_checksum(&old[..20]);
    old[10..12].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(
        dropped(&mut rig, Side::Outside, &old),
        DropReason::TtlExpired
    );
    let own = udp(address("203.0.113.9"), address("192.0.2.1"), (1, 2), b"");
    assert_eq!(dropped(&mut rig, Side::Outside, &own), DropReason::NotForUs);
    let claim = rig.arp(
        Side::Outside,
        ArpOperation::Reply,
        address("192.0.2.99"),
        address("192.0.2.1"),
    );
    assert_eq!(
        dropped_frame(&mut rig, Side::Outside, &claim),
        DropReason::UnsolicitedNeighbour
    );

    let mut rig = Rig::new(Setup {
        mtu_bytes: [1500, 1300],
        ..Setup::default()
    });
    let large = udp(stranger(Family::V6), server(Family::V6), (1, 2), &[0; 1400]);
    assert_eq!(
        dropped(&mut rig, Side::Outside, &large),
        DropReason::PacketTooBig
    );
}

#[test]
fn full_tables_and_queues_refuse_and_count() {
    let mut rig = Rig::new(Setup {
        buffers: 2048,
        ..Setup::default()
    });
    rig.neighbours_answer = false;
    let to =
        |last: u16| Address::from_bits(address("fd00:1::").to_bits() | 0x1_0000 | u128::from(last));
    for number in 0..600 {
        let packet = udp(stranger(Family::V6), to(number), (1, 2), b"");
        rig.send(Side::Outside, &packet);
    }
    rig.settle();
    assert_eq!(rig.drops(DropReason::NeighbourTableFull), 600 - 512);
    for _ in 0..40 {
        let packet = udp(stranger(Family::V6), to(0), (1, 2), b"");
        rig.send(Side::Outside, &packet);
    }
    rig.settle();
    assert!(rig.drops(DropReason::NeighbourQueueFull) > 0);
    for _ in 0..200 {
        rig.advance_ms(50);
    }
    assert!(rig.drops(DropReason::NeighbourUnresolved) > 0);
    assert!(rig.event(Event::IcmpErrorSuppressed) > 0);
}

#[test]
fn the_guard_refuses_strangers_under_its_own_reasons() {
    // CASES 2
    let mut rig = Rig::new(Setup::default());
    let talk = Conversation::new(Family::V4, 5);
    let segment = |tcp_flags| talk.client_segment(1, 2, tcp_flags, &[], b"");
    let cases = [
        (segment(flags::ACK), DropReason::CookieInvalid),
        (segment(flags::RST), DropReason::ResetWithoutSession),
        (segment(flags::FIN), DropReason::BadTcpFlags),
        (segment(flags::SYN | flags::FIN), DropReason::BadTcpFlags),
        (segment(flags::SYN | flags::ACK), DropReason::NoSession),
        (
            talk.client_segment(1, 2, flags::SYN, &[2, 1, 0, 0], b""),
            DropReason::MalformedTcpOptions,
        ),
    ];
    for (packet, reason) in cases {
        assert_eq!(dropped(&mut rig, Side::Outside, &packet), reason);
    }
    let mut wrong = talk.syn();
    *wrong.last_mut().expect("octets") ^= 1;
    assert_eq!(
        dropped(&mut rig, Side::Outside, &wrong),
        DropReason::BadTransportChecksum
    );
    let mut denied = talk.clone();
    denied.client = address(DENIED);
    assert_eq!(
        dropped(&mut rig, Side::Outside, &denied.syn()),
        DropReason::DeniedByRule
    );
    let late = talk.server_segment(9, 9, flags::RST, &[], b"");
    assert_eq!(
        dropped(&mut rig, Side::Inside, &late),
        DropReason::ResetWithoutSession
    );

    let mut rig = Rig::new(Setup {
        unknown: Unknown::Reset,
        ..Setup::default()
    });
    rig.send(Side::Outside, &segment(flags::ACK));
    assert_eq!(see(&rig.settle_one(Side::Outside)).flags, flags::RST);
}

#[test]
fn limits_on_what_is_opened_refuse_under_their_own_reasons() {
    // CASES 1 and 11
    let open_one = |rig: &mut Rig, client: &str, port: u16| {
        let mut talk = Conversation::new(Family::V4, 1);
        (talk.client, talk.client_port) = (address(client), port);
        rig.send(Side::Outside, &talk.syn());
        let cookie = rig.settle_one(Side::Outside);
        talk.take_cookie(&cookie);
        talk.client_sends(flags::ACK, b"")
    };
    let mut rig = Rig::new(Setup::default());
    for port in 0..16 {
        let ack = open_one(&mut rig, "198.51.100.7", 5_000 + port);
        rig.send(Side::Outside, &ack);
        rig.settle();
    }
    let ack = open_one(&mut rig, "198.51.100.7", 6_000);
    assert_eq!(
        dropped(&mut rig, Side::Outside, &ack),
        DropReason::HalfOpenSourceLimit
    );

    let mut rig = Rig::new(Setup {
        capacity: 4,
        ..Setup::default()
    });
    for port in 0..4 {
        let ack = open_one(&mut rig, "198.51.100.7", 5_000 + port);
        rig.send(Side::Outside, &ack);
        rig.settle();
    }
    let ack = open_one(&mut rig, "198.51.100.8", 5_000);
    assert_eq!(
        dropped(&mut rig, Side::Outside, &ack),
        DropReason::HalfOpenLimit
    );

    // All opened: the table is full, and half-open places are free again.
    let mut rig = Rig::new(Setup {
        capacity: 4,
        ..Setup::default()
    });
    for number in 0..4 {
        rig.open(&mut Conversation::new(Family::V4, number));
    }
    let ack = open_one(&mut rig, "198.51.100.8", 5_000);
    assert_eq!(
        dropped(&mut rig, Side::Outside, &ack),
        DropReason::SessionTableFull
    );
}

#[test]
fn cookies_age_and_are_taken_once() {
    // CASES 2
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let mut talk = Conversation::new(family, 1);
        rig.send(Side::Outside, &talk.syn());
        let cookie = rig.settle_one(Side::Outside);
        talk.take_cookie(&cookie);
        let ack = talk.client_sends(flags::ACK, b"");
        rig.now_ns += 200 * crate::rig::SECOND_NS;
        let late = dropped(&mut rig, Side::Outside, &ack);
        assert!(
            matches!(late, DropReason::CookieExpired | DropReason::CookieInvalid),
            "{late:?}"
        );

        let mut talk = Conversation::new(family, 2);
        rig.open(&mut talk);
        let (mut replay, mut fins) = (talk.clone(), Vec::new());
        replay.client_sent = 0;
        fins.push((
            Side::Outside,
            talk.client_sends(flags::ACK | flags::FIN, b""),
        ));
        fins.push((
            Side::Inside,
            talk.server_sends(flags::ACK | flags::FIN, b""),
        ));
        fins.push((Side::Outside, talk.client_sends(flags::ACK, b"")));
        for (side, fin) in fins {
            rig.send(side, &fin);
            rig.settle();
        }
        let replay = replay.client_sends(flags::ACK, b"");
        assert_eq!(
            dropped(&mut rig, Side::Outside, &replay),
            DropReason::CookieReplayed
        );
    }
}

#[test]
fn fragments_that_cannot_be_and_more_than_may_be_held_are_refused() {
    // CASES 13
    let mut rig = Rig::new(Setup::default());
    for family in FAMILIES {
        let whole = udp(stranger(family), server(family), (5_000, 53), &[7; 900]);
        let odd = &fragments(&whole, 1, 399)[0];
        assert_eq!(
            dropped(&mut rig, Side::Outside, odd),
            DropReason::FragmentMalformed
        );
        // Never completed: one source may hold so many datagrams, and the memory comes back.
        for number in 0..100 {
            rig.send(Side::Outside, &fragments(&whole, 100 + number, 400)[1]);
        }
        rig.settle();
    }
    assert_eq!(rig.drops(DropReason::FragmentLimit), 2 * (100 - 64));
    for _ in 0..20 {
        rig.advance_ms(200);
    }
    assert_eq!(rig.drops(DropReason::FragmentTimeout), 2 * 64);
    assert_eq!(rig.pool.live(), 0);
}

#[test]
fn a_frame_in_several_buffers_is_refused() {
    let mut rig = Rig::new(Setup::default());
    let syn = rig.framed(Side::Outside, &Conversation::new(Family::V4, 1).syn());
    let mut buffer = rig.pool.take(&syn).expect("a free buffer");
    buffer.is_contiguous = false;
    rig.workers[0].io_mut().arrive(Side::Outside.port(), buffer);
    rig.settle();
    assert_eq!(rig.drops(DropReason::MultiSegment), 1);
}
#[test]
fn a_server_without_the_promised_timestamps_is_parted_from_its_client() {
    // CASES 7
    let mut rig = Rig::new(Setup::default());
    let mut talk = proved(&mut rig, Family::V4, 1);
    talk.has_timestamps = false;
    rig.send(Side::Inside, &talk.syn_ack());
    let parted = rig.settle();
    all_sound(&parted);
    assert_eq!(parted.len(), 2);
    assert!(
        parted
            .iter()
            .all(|(_, packet)| see(packet).flags & flags::RST != 0)
    );
    assert_eq!(rig.drops(DropReason::SessionMismatch), 1);
    assert_eq!(rig.pool.live(), 0);
}
