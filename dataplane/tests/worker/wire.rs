//! The transparent wire, frame by frame: what passes as it came, and a SYN's way to its server and
//! back in an echo.

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::echo::{EchoJar, MAX_AGE_MS};
use dataplane::guard::config::{EchoMode, Mode, Unknown};
use dataplane::parse::{flags, link_header_of, protocol};
use dataplane::wire::address::Family;

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::{
    address, assert_sound, echo, echo_reply, fragments, ip, port_unreachable, repair_icmp, udp,
};
use crate::rig::{DENIED, REJECTED, Rig, SECOND_NS, Setup, Side, cookie_keys, facts};
use crate::steps::{FAMILIES, server, stranger};

/// The tags that a frame may bear between its stations and its EtherType.
pub(crate) const TAGS: [&[u8]; 4] = [
    &[],
    &[0x81, 0x00, 0x60, 0x07],
    &[0x88, 0xa8, 0x00, 0x64],
    &[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x07],
];

/// The packet in a frame of the neighbour on `side` to the one across.
pub(crate) fn framed(side: Side, tags: &[u8], packet: &[u8]) -> Vec<u8> {
    let (to, from) = side.stations_across();
    let ether_type: [u8; 2] = match packet[0] >> 4 {
        4 => [0x08, 0x00],
        _ => [0x86, 0xdd],
    };
    [&to.0[..], &from.0[..], tags, &ether_type, packet].concat()
}

/// The packet of a frame, which must bear the stations and tags of one from `side`.
pub(crate) fn unframed(side: Side, tags: &[u8], frame: &[u8]) -> Vec<u8> {
    let (length, _) = link_header_of(frame).expect("a header");
    let packet = frame[length..].to_vec();
    assert_eq!(*frame, framed(side, tags, &packet), "the link-layer header");
    assert_sound(&packet);
    packet
}

/// Has a packet come in by `side`, and gives back the one that leaves by the other end.
pub(crate) fn across(rig: &mut Rig, side: Side, tags: &[u8], packet: &[u8]) -> Vec<u8> {
    let (left_by, frame) = rig.pass(side, &framed(side, tags, packet));
    assert_ne!(left_by, side);
    unframed(side, tags, &frame)
}

pub(crate) fn dropped(rig: &mut Rig, side: Side, frame: &[u8], reason: DropReason) {
    let before = rig.drops(reason);
    rig.swallow(side, frame);
    assert_eq!(rig.drops(reason), before + 1, "{}", reason.label());
}

/// The handshake of `talk`, by echo.
pub(crate) fn open(rig: &mut Rig, talk: &mut Conversation, tags: &[u8]) {
    let request = across(rig, Side::Outside, tags, &talk.syn());
    let cookie = across(rig, Side::Inside, tags, &echo_reply(&request));
    talk.take_cookie(&cookie);
    finish(rig, talk, tags);
}

/// What follows the SYN-ACK.
pub(crate) fn finish(rig: &mut Rig, talk: &mut Conversation, tags: &[u8]) {
    let ack = talk.client_sends(flags::ACK, b"");
    let syn = across(rig, Side::Outside, tags, &ack);
    assert_eq!(see(&syn).flags, flags::SYN);
    assert_eq!(see(&syn).sequence, talk.client_isn);
    let answer = framed(Side::Inside, tags, &talk.syn_ack());
    let (left_by, frame) = rig.pass(Side::Inside, &answer);
    assert_eq!(left_by, Side::Inside);
    let ack = see(&unframed(Side::Outside, tags, &frame));
    assert_eq!(ack.acknowledgement, talk.server_next());
}

pub(crate) fn exchange(rig: &mut Rig, talk: &mut Conversation, tags: &[u8]) {
    let question = talk.client_sends(flags::ACK | flags::PSH, b"question");
    let seen = across(rig, Side::Outside, tags, &question);
    assert_eq!(see(&seen).payload, b"question");
    assert_eq!(
        facts(&seen).ttl,
        facts(&question).ttl,
        "no hop is taken off"
    );
    let answer = talk.server_sends(flags::ACK | flags::PSH, b"answer");
    let seen = across(rig, Side::Inside, tags, &answer);
    assert_eq!(see(&seen).payload, b"answer");
    assert_eq!(
        see(&seen).sequence,
        talk.cookie.wrapping_add(1 + talk.server_sent - 6)
    );
    assert_eq!(facts(&seen).ttl, facts(&answer).ttl);
}

#[test]
fn what_the_guard_has_no_part_in_passes_untouched() {
    // CASES 13
    let host = address("203.0.113.9");
    let far = udp(host, server(Family::V4), (53, 5353), &[7; 3000]);
    let mut frames: Vec<Vec<u8>> = vec![
        framed(
            Side::Outside,
            &[],
            &udp(host, server(Family::V4), (1, 2), b"x"),
        ),
        framed(
            Side::Outside,
            &[],
            &echo(host, server(Family::V4), b"a real ping"),
        ),
        framed(
            Side::Outside,
            &[],
            &ip(host, address("224.0.0.5"), 89, &[1; 40]),
        ),
    ];
    frames.extend(
        fragments(&far, 9, 1480)
            .iter()
            .map(|piece| framed(Side::Outside, &[], piece)),
    );
    let mut short_lived = udp(host, address("192.0.2.77"), (1, 2), b"x");
    short_lived[8] = 1;
    short_lived[10..12].fill(0);
    let checksum = dataplane::wire::checksum::internet_checksum(&short_lived[..20]);
    short_lived[10..12].copy_from_slice(&checksum.to_be_bytes());
    frames.push(framed(Side::Outside, &[], &short_lived));
    for raw in [
        // ARP, a spanning tree's message, LLDP, something of MPLS, an unknown one, a runt.
        "ffffffffffff 020000000901 0806 0001080006040001 020000000901 c0000201 000000000000 c0000202",
        "0180c2000000 020000000901 0026 424203 00000000",
        "0180c200000e 020000000901 88cc 0207040200000009",
        "020000000902 020000000901 8847 00010140 4500",
        "020000000902 020000000901 1234 00",
        "020000000902 0200000009",
        // A broken IPv4 packet between two that nobody protects.
        "020000000902 020000000901 0800 4500 ffff 0000 0000 4011 0000 cb007109 c0000209",
    ] {
        let digits: Vec<u8> = raw.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        frames.push(digits.chunks(2).map(|pair| octet(pair).unwrap()).collect());
    }
    for workers in [1, 3] {
        let mut rig = Rig::new(Setup {
            workers,
            ..Setup::wire(EchoMode::Auto)
        });
        for frame in &frames {
            for (side, other) in [(Side::Outside, Side::Inside), (Side::Inside, Side::Outside)] {
                assert_eq!(rig.pass(side, frame), (other, frame.clone()));
                for tags in TAGS {
                    if frame.len() > 20 {
                        let tagged = [&frame[..12], tags, &frame[12..]].concat();
                        assert_eq!(rig.pass(side, &tagged), (other, tagged.clone()));
                    }
                }
            }
        }
        assert_eq!(rig.counters().all_drops(), 0);
    }
}

#[test]
fn a_frame_leaves_up_to_the_mtu_of_its_way_out() {
    let mut rig = Rig::new(Setup {
        mtu_bytes: [1800, 1700],
        ..Setup::wire(EchoMode::Auto)
    });
    let packet = |bytes: usize| {
        let (from, to) = (address("203.0.113.9"), address("192.0.2.9"));
        udp(from, to, (1, 2), &vec![7; bytes - 28])
    };
    for tags in TAGS {
        assert_eq!(
            across(&mut rig, Side::Outside, tags, &packet(1700)).len(),
            1700
        );
        let frame = framed(Side::Outside, tags, &packet(1701));
        dropped(&mut rig, Side::Outside, &frame, DropReason::PacketTooBig);
        assert_eq!(
            across(&mut rig, Side::Inside, tags, &packet(1701)).len(),
            1701
        );
    }
}

#[test]
fn a_syn_goes_to_its_server_in_an_echo_and_comes_back_as_the_cookie() {
    for family in FAMILIES {
        for tags in TAGS {
            let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
            let mut talk = Conversation::new(family, 1);
            let request = across(&mut rig, Side::Outside, tags, &talk.syn());
            let parsed = facts(&request);
            assert_eq!(
                (parsed.source, parsed.destination),
                (talk.client, talk.server)
            );
            assert!(matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6));
            // CASES 9: nothing goes to the client before its server's host has answered.
            assert_eq!(rig.event(Event::CookieSent), 0);
            assert_eq!(request.len(), talk.syn().len() + 40);
            let cookie = across(&mut rig, Side::Inside, tags, &echo_reply(&request));
            assert!(cookie.len() <= talk.syn().len(), "no larger than its own");
            talk.take_cookie(&cookie);
            finish(&mut rig, &mut talk, tags);
            exchange(&mut rig, &mut talk, tags);
            assert_eq!(rig.event(Event::EchoCarried), 1);
            assert_eq!(rig.event(Event::EchoReturned), 1);
            assert_eq!(rig.counters().all_drops(), 0);
        }
    }
}

#[test]
fn a_reply_that_comes_back_through_another_guard_is_answered_there() {
    // CASES 16
    for family in FAMILIES {
        let mut near = Rig::new(Setup::wire(EchoMode::Auto));
        let mut far = Rig::new(Setup::wire(EchoMode::Auto));
        let mut talk = Conversation::new(family, 1);
        let request = across(&mut near, Side::Outside, &[], &talk.syn());
        let cookie = across(&mut far, Side::Inside, &[], &echo_reply(&request));
        talk.take_cookie(&cookie);
        finish(&mut near, &mut talk, &[]);
        exchange(&mut near, &mut talk, &[]);
        // The first one hears of it by the client's ACK, and does not take the server for silent.
        near.now_ns += SECOND_NS;
        let second = Conversation::new(family, 2);
        across(&mut near, Side::Outside, &[], &second.syn());
        assert_eq!(near.event(Event::EchoSilent), 0);
        assert_eq!(
            (
                near.event(Event::EchoReturned),
                far.event(Event::EchoReturned)
            ),
            (0, 1)
        );
    }
}

#[test]
fn several_workers_find_the_owner_of_what_an_echo_carries() {
    for is_scattered in [false, true] {
        let mut rig = Rig::new(Setup {
            workers: 3,
            is_scattered,
            ..Setup::wire(EchoMode::Auto)
        });
        for family in FAMILIES {
            for number in 1..=12 {
                let mut talk = Conversation::new(family, number);
                open(&mut rig, &mut talk, TAGS[usize::from(number) % 4]);
                exchange(&mut rig, &mut talk, TAGS[usize::from(number) % 4]);
            }
        }
        let live = rig
            .workers
            .iter()
            .map(|worker| worker.guard().status().live);
        assert!(
            live.clone().all(|live| live > 0),
            "{:?}",
            live.collect::<Vec<_>>()
        );
        assert_eq!(rig.counters().all_drops(), 0);
    }
}

#[test]
fn a_forged_late_or_broken_reply_opens_nothing() {
    // CASES 14
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
        let talk = Conversation::new(family, 1);
        let request = across(&mut rig, Side::Outside, &[], &talk.syn());
        let good = echo_reply(&request);
        let payload = usize::from(facts(&good).transport) + 8;
        let changed = |place: usize, value: u8| {
            let mut packet = good.clone();
            packet[payload + place] ^= value;
            repair_icmp(&mut packet);
            framed(Side::Inside, &[], &packet)
        };
        let inside = Side::Inside;
        dropped(&mut rig, inside, &changed(4, 3), DropReason::EchoVersion);
        dropped(&mut rig, inside, &changed(6, 4), DropReason::EchoMalformed);
        for place in (8..32).chain(32..good.len() - payload) {
            dropped(
                &mut rig,
                inside,
                &changed(place, 0x40),
                DropReason::EchoForged,
            );
        }
        let mut damaged = framed(inside, &[], &good);
        *damaged.last_mut().unwrap() ^= 1;
        dropped(&mut rig, inside, &damaged, DropReason::BadTransportChecksum);
        // The same one for another client, and from outside.
        let mut other = good.clone();
        let last = usize::from(facts(&good).transport) - 1;
        other[last] ^= 1;
        repair_icmp(&mut other);
        dropped(
            &mut rig,
            inside,
            &framed(inside, &[], &other),
            DropReason::EchoForged,
        );
        let from_outside = framed(Side::Outside, &[], &good);
        dropped(
            &mut rig,
            Side::Outside,
            &from_outside,
            DropReason::EchoMisplaced,
        );
        rig.now_ns += (MAX_AGE_MS + 1) * 1_000_000;
        dropped(
            &mut rig,
            inside,
            &framed(inside, &[], &good),
            DropReason::EchoExpired,
        );
        assert_eq!(rig.event(Event::CookieSent), 0);
        assert_eq!(rig.workers[0].guard().status().sessions, 0);
    }
}

#[test]
fn an_echo_for_a_service_that_is_not_protected_here_opens_nothing() {
    // CASES 14
    let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
    let mut talk = Conversation::new(Family::V4, 1);
    talk.server_port = 81;
    let jar = EchoJar::new(&cookie_keys());
    let mut payload = [0; 92];
    let ends = (talk.client, talk.server);
    let syn = talk.syn();
    let length = jar.seal(&mut payload, &syn[20..], 0, ends, rig.time().unix_ms);
    let request = echo(talk.client, talk.server, &payload[..length]);
    let reply = framed(Side::Inside, &[], &echo_reply(&request));
    dropped(&mut rig, Side::Inside, &reply, DropReason::EchoUnprotected);
    // A guard of another make carried what is no SYN.
    talk.server_port = 80;
    let ack = talk.client_sends(flags::ACK, b"");
    let length = jar.seal(&mut payload, &ack[20..], 0, ends, rig.time().unix_ms);
    let request = echo(talk.client, talk.server, &payload[..length]);
    let reply = framed(Side::Inside, &[], &echo_reply(&request));
    dropped(&mut rig, Side::Inside, &reply, DropReason::EchoMalformed);
}

#[test]
fn the_client_hears_nothing_of_an_echo_that_is_refused_on_its_way() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
        let talk = Conversation::new(family, 1);
        let request = across(&mut rig, Side::Outside, &[], &talk.syn());
        let error = port_unreachable(stranger(family), &request);
        let frame = framed(Side::Inside, &[], &error);
        dropped(&mut rig, Side::Inside, &frame, DropReason::EchoRefused);
        // An error about the client's own ping passes.
        let ping = echo(
            talk.client,
            talk.server,
            b"a real ping, longer than the mark",
        );
        let error = port_unreachable(stranger(family), &ping);
        assert_eq!(across(&mut rig, Side::Inside, &[], &error), error);
        let reply = echo_reply(&ping);
        assert_eq!(across(&mut rig, Side::Inside, &[], &reply), reply);
    }
}

/// The SYN-ACK that went straight back.
pub(crate) fn answered(rig: &mut Rig, talk: &mut Conversation, probe: bool) -> Option<Vec<u8>> {
    let syn = framed(Side::Outside, &[], &talk.syn());
    rig.arrive(Side::Outside, &syn);
    let mut frames = rig.settle_frames();
    assert_eq!(frames.len(), 1 + usize::from(probe), "{frames:02x?}");
    let place = frames.iter().position(|(side, _)| *side == Side::Outside);
    let (_, cookie) = frames.remove(place.expect("an answer"));
    let packet = unframed(Side::Inside, &[], &cookie);
    // CASES 9
    assert!(packet.len() <= talk.syn().len());
    talk.take_cookie(&packet);
    frames
        .pop()
        .map(|(_, frame)| unframed(Side::Outside, &[], &frame))
}

#[test]
fn a_server_that_drops_pings_is_noticed_and_its_clients_answered() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
        let mut talk = Conversation::new(family, 1);
        across(&mut rig, Side::Outside, &[], &talk.syn());
        // The client says it again, as clients do after a second.
        rig.now_ns += SECOND_NS;
        let probe = answered(&mut rig, &mut talk, true).expect("an echo");
        finish(&mut rig, &mut talk, &[]);
        exchange(&mut rig, &mut talk, &[]);
        let mut second = Conversation::new(family, 2);
        answered(&mut rig, &mut second, false);
        assert_eq!(rig.event(Event::EchoSilent), 1);
        // It answers again: nobody else hears of it.
        let reply = framed(Side::Inside, &[], &echo_reply(&probe));
        rig.swallow(Side::Inside, &reply);
        assert_eq!(rig.event(Event::EchoProbeReturned), 1);
        // One reply is not enough: the next SYNs are answered, and each asks again.
        for number in 3..12 {
            rig.now_ns += SECOND_NS / 10;
            let mut talk = Conversation::new(family, number);
            let probe = answered(&mut rig, &mut talk, true).expect("an echo");
            let reply = framed(Side::Inside, &[], &echo_reply(&probe));
            rig.swallow(Side::Inside, &reply);
        }
        rig.now_ns += SECOND_NS / 10;
        let mut last = Conversation::new(family, 12);
        open(&mut rig, &mut last, &[]);
        assert_eq!(rig.event(Event::EchoHeard), 1);
    }
}

#[test]
fn without_echo_every_syn_is_answered_and_always_none() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Off));
    let mut talk = Conversation::new(Family::V4, 1);
    answered(&mut rig, &mut talk, false);
    finish(&mut rig, &mut talk, &[]);
    let mut rig = Rig::new(Setup::wire(EchoMode::Always));
    for number in 1..5 {
        rig.now_ns += 10 * SECOND_NS;
        let talk = Conversation::new(Family::V4, number);
        across(&mut rig, Side::Outside, &[], &talk.syn());
    }
    assert_eq!(rig.event(Event::EchoSilent), 0);
    assert_eq!(rig.event(Event::CookieSent), 0);
}

#[test]
fn a_syn_that_nobody_can_have_sent_is_not_carried() {
    // CASES 12
    let mut rig = Rig::new(Setup::wire(EchoMode::Always));
    let talk = Conversation::new(Family::V4, 1);
    let outside = Side::Outside;
    let mut frame = framed(outside, &[], &talk.syn());
    frame[0] |= 1;
    dropped(&mut rig, outside, &frame, DropReason::NotForUs);
    let mut frame = framed(outside, &[], &talk.syn());
    frame[6] |= 1;
    dropped(&mut rig, outside, &frame, DropReason::MartianSource);
    let mut land = talk.clone();
    land.client = land.server;
    let frame = framed(outside, &[], &land.syn());
    dropped(&mut rig, outside, &frame, DropReason::OwnSource);
    let mut martian = talk.clone();
    martian.client = address("127.0.0.1");
    let frame = framed(outside, &[], &martian.syn());
    dropped(&mut rig, outside, &frame, DropReason::MartianSource);
    let mut damaged = framed(outside, &[], &talk.syn());
    *damaged.last_mut().unwrap() ^= 1;
    dropped(
        &mut rig,
        outside,
        &damaged,
        DropReason::BadTransportChecksum,
    );
    assert_eq!(rig.event(Event::EchoCarried), 0);
}

#[test]
fn what_cannot_be_read_does_not_reach_a_server_but_its_neighbours() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
    let mut packet = Conversation::new(Family::V4, 1).syn();
    // A TCP header that says it is shorter than it can be.
    packet[20 + 12] = 0x40;
    let frame = framed(Side::Outside, &[], &packet);
    dropped(
        &mut rig,
        Side::Outside,
        &frame,
        DropReason::MalformedTransport,
    );
    let mut other = Conversation::new(Family::V4, 1);
    other.server = address("10.0.0.99");
    let mut packet = other.syn();
    packet[20 + 12] = 0x40;
    let frame = framed(Side::Outside, &[], &packet);
    assert_eq!(
        rig.pass(Side::Outside, &frame),
        (Side::Inside, frame.clone())
    );
}

#[test]
fn fragments_of_a_guarded_flow_wait_for_each_other_and_those_of_others_do_not() {
    // CASES 13
    for tags in TAGS {
        for family in FAMILIES {
            let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
            let mut talk = Conversation::new(family, 1);
            open(&mut rig, &mut talk, tags);
            let data = talk.client_sends(flags::ACK, &[7; 400]);
            let pieces = fragments(&data, 7, 256);
            assert_eq!(pieces.len(), 2);
            rig.swallow(Side::Outside, &framed(Side::Outside, tags, &pieces[0]));
            rig.arrive(Side::Outside, &framed(Side::Outside, tags, &pieces[1]));
            assert_eq!(rig.settle_frames().len(), 2, "both, once both are there");
            // A SYN in fragments does not pass.
            let syn = Conversation::new(family, 2).syn();
            let pieces = fragments(&syn, 8, 32);
            for piece in &pieces {
                rig.swallow(Side::Outside, &framed(Side::Outside, tags, piece));
            }
        }
    }
}

#[test]
fn strangers_and_rules_are_dealt_with_as_between_routes() {
    let mut rig = Rig::new(Setup {
        unknown: Unknown::Reset,
        ..Setup::wire(EchoMode::Auto)
    });
    let mut talk = Conversation::new(Family::V4, 1);
    // CASES 2
    let stray = talk.client_sends(flags::ACK, b"hello");
    let (left_by, frame) = rig.pass(Side::Outside, &framed(Side::Outside, &[], &stray));
    assert_eq!(left_by, Side::Outside);
    assert_eq!(see(&unframed(Side::Inside, &[], &frame)).flags, flags::RST);
    for host in [DENIED, REJECTED] {
        let packet = udp(address(host), server(Family::V4), (1, 2), b"x");
        let frame = framed(Side::Outside, &[], &packet);
        dropped(&mut rig, Side::Outside, &frame, DropReason::DeniedByRule);
    }
}

#[test]
fn a_guard_that_only_watches_forwards_syns_as_they_are() {
    let mut rig = Rig::new(Setup {
        mode: Mode::Monitor,
        ..Setup::wire(EchoMode::Auto)
    });
    let talk = Conversation::new(Family::V4, 1);
    assert_eq!(
        across(&mut rig, Side::Outside, &[], &talk.syn()),
        talk.syn()
    );
}

#[test]
fn a_flood_of_syns_costs_echoes_and_no_state() {
    // CASES 1
    let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
    for number in 1..2_000 {
        let talk = Conversation::new(Family::V4, number);
        let request = across(&mut rig, Side::Outside, &[], &talk.syn());
        assert_eq!(facts(&request).protocol, protocol::ICMP);
        let cookie = across(&mut rig, Side::Inside, &[], &echo_reply(&request));
        assert_eq!(see(&cookie).flags, flags::SYN | flags::ACK);
    }
    assert_eq!(rig.workers[0].guard().status().sessions, 0);
    assert_eq!(rig.event(Event::ServerSynSent), 0);
}
