//! ICMP errors about a session's segments: each reaches the end that sent the segment, in that
//! end's own numbers, and nothing that an outsider makes up reaches anyone (CASES 12).

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Mode;
use dataplane::parse::{flags, protocol};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::checksum::{pseudo_header, transport_is_valid};
use dataplane::wire::{icmp, icmpv6};

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::{
    address, assert_sound, icmp_error, port_unreachable, repair_icmp, too_big, udp,
};
use crate::rig::{Rig, Setup, Side, facts};
use crate::steps::{FAMILIES, dropped, proved, stranger};

/// Octets of an ICMP error before its quotation.
const ERROR_HEADER: usize = 8;

/// What an error quotes.
fn quotation(error: &[u8]) -> &[u8] {
    let parsed = facts(error);
    &error[usize::from(parsed.transport) + ERROR_HEADER..usize::from(parsed.end)]
}

/// Whether the checksum of a segment that is quoted whole holds.
fn quoted_checksum_holds(quotation: &[u8]) -> bool {
    let parsed = facts(quotation);
    let segment = &quotation[usize::from(parsed.transport)..];
    let (source, destination) = (parsed.source, parsed.destination);
    let pseudo = pseudo_header(source, destination, protocol::TCP, segment.len());
    transport_is_valid(segment, pseudo)
}

/// The error without all of its quotation but the IP header and eight octets.
fn cut_short(error: &[u8]) -> Vec<u8> {
    let parsed = facts(error);
    let header_bytes = usize::from(facts(quotation(error)).transport);
    let end = usize::from(parsed.transport) + ERROR_HEADER + header_bytes + 8;
    let mut short = error[..end].to_vec();
    match parsed.family {
        Family::V4 => short[2..4].copy_from_slice(&(end as u16).to_be_bytes()),
        Family::V6 => short[4..6].copy_from_slice(&(end as u16 - 40).to_be_bytes()),
    }
    repair_icmp(&mut short);
    short
}

/// An open session, and a segment of the server's as the client's side saw it.
fn session(family: Family) -> (Rig, Conversation, Vec<u8>) {
    let mut rig = Rig::new(Setup::default());
    let mut talk = Conversation::new(family, 1);
    rig.open(&mut talk);
    let data = talk.server_sends(flags::ACK, &[7; 100]);
    rig.send(Side::Inside, &data);
    let seen = rig.settle_one(Side::Outside);
    (rig, talk, seen)
}

#[test]
fn a_server_is_told_in_its_own_numbers() {
    for family in FAMILIES {
        let (mut rig, talk, seen) = session(family);
        let first = talk.server_isn.wrapping_add(1);
        assert_ne!(see(&seen).sequence, first, "the two sides' numbers differ");
        for error in [
            too_big(stranger(family), 1280, &seen),
            port_unreachable(stranger(family), &seen),
        ] {
            rig.send(Side::Outside, &error);
            let told = rig.settle_one(Side::Inside);
            assert_sound(&told);
            assert_eq!(facts(&told).destination, talk.server);
            assert_eq!(quotation(&told).len(), quotation(&error).len());
            assert_eq!(see(quotation(&told)).sequence, first);
            assert_eq!(
                see(quotation(&told)).acknowledgement,
                see(&seen).acknowledgement
            );
            assert!(quoted_checksum_holds(quotation(&told)));
        }
        assert_eq!(rig.event(Event::IcmpTranslated), 2);
    }
}

#[test]
fn a_client_is_told_in_its_own_numbers() {
    for family in FAMILIES {
        let (mut rig, mut talk, _) = session(family);
        let data = talk.client_sends(flags::ACK, &[7; 100]);
        let sent = see(&data);
        rig.send(Side::Outside, &data);
        let seen = rig.settle_one(Side::Inside);
        assert_ne!(see(&seen).acknowledgement, sent.acknowledgement);
        for error in [
            too_big(talk.server, 1280, &seen),
            port_unreachable(talk.server, &seen),
        ] {
            rig.send(Side::Inside, &error);
            let told = rig.settle_one(Side::Outside);
            assert_sound(&told);
            assert_eq!(facts(&told).destination, talk.client);
            assert_eq!(see(quotation(&told)).sequence, sent.sequence);
            assert_eq!(see(quotation(&told)).acknowledgement, sent.acknowledgement);
            assert!(quoted_checksum_holds(quotation(&told)));
        }
        assert_eq!(rig.event(Event::IcmpTranslated), 2);
    }
}

#[test]
fn eight_octets_of_the_segment_are_enough() {
    for family in FAMILIES {
        let (mut rig, mut talk, seen) = session(family);
        let error = cut_short(&too_big(stranger(family), 1280, &seen));
        rig.send(Side::Outside, &error);
        let told = rig.settle_one(Side::Inside);
        assert_sound(&told);
        let quoted = quotation(&told);
        let at = quoted.len() - 4;
        assert_eq!(quoted[at..], talk.server_isn.wrapping_add(1).to_be_bytes());
        // To the client there is nothing to change: the acknowledgement is not quoted.
        let data = talk.client_sends(flags::ACK, b"x");
        rig.send(Side::Outside, &data);
        let seen = rig.settle_one(Side::Inside);
        let error = cut_short(&too_big(talk.server, 1280, &seen));
        rig.send(Side::Inside, &error);
        let told = rig.settle_one(Side::Outside);
        assert_sound(&told);
        assert_eq!(quotation(&told), quotation(&error));
    }
}

#[test]
fn what_quotes_no_segment_in_flight_is_refused() {
    for family in FAMILIES {
        let (mut rig, mut talk, seen) = session(family);
        let router = stranger(family);
        // Not sent yet, and never sent at all.
        for distance in [101, 5_000, 1 << 31] {
            let ahead = see(&seen).sequence.wrapping_add(distance);
            let guess = talk.server_segment(ahead, 0, flags::ACK, &[], &[7; 100]);
            let error = too_big(router, 1280, &guess);
            assert_eq!(
                dropped(&mut rig, Side::Outside, &error),
                DropReason::IcmpUnmatched,
                "{distance}"
            );
        }
        // What the client has acknowledged is in flight no more.
        let ack = talk.client_sends(flags::ACK, b"");
        rig.send(Side::Outside, &ack);
        rig.settle_one(Side::Inside);
        let error = too_big(router, 1280, &seen);
        assert_eq!(
            dropped(&mut rig, Side::Outside, &error),
            DropReason::IcmpUnmatched
        );
        // A client's segment, likewise.
        let data = talk.client_sends(flags::ACK, &[7; 100]);
        rig.send(Side::Outside, &data);
        let seen = rig.settle_one(Side::Inside);
        let answer = talk.server_sends(flags::ACK, b"");
        rig.send(Side::Inside, &answer);
        rig.settle_one(Side::Outside);
        let error = port_unreachable(talk.server, &seen);
        assert_eq!(
            dropped(&mut rig, Side::Inside, &error),
            DropReason::IcmpUnmatched
        );
        // Of no session.
        let nobody = Conversation::new(family, 99).server_segment(1, 2, flags::ACK, &[], b"x");
        let error = too_big(router, 1280, &nobody);
        assert_eq!(
            dropped(&mut rig, Side::Outside, &error),
            DropReason::IcmpUnmatched
        );
        assert_eq!(rig.event(Event::IcmpTranslated), 0);
    }
}

/// The error, addressed to someone else.
fn readdressed(error: &[u8], to: Address) -> Vec<u8> {
    let mut error = error.to_vec();
    match to.family() {
        Family::V4 => error[16..20].copy_from_slice(&to.v4_octets()),
        Family::V6 => error[24..40].copy_from_slice(&to.octets()),
    }
    repair_icmp(&mut error);
    error
}

#[test]
fn an_error_goes_to_nobody_but_the_sender_of_what_it_quotes() {
    // Else whoever owns another host inside would learn the server's numbers from it.
    for family in FAMILIES {
        let (mut rig, _, seen) = session(family);
        let other = match family {
            Family::V4 => address("10.0.0.11"),
            Family::V6 => address("fd00:1::11"),
        };
        let error = readdressed(&too_big(stranger(family), 1280, &seen), other);
        assert_eq!(
            dropped(&mut rig, Side::Outside, &error),
            DropReason::IcmpUnmatched
        );
    }
}

/// A hard error about the SYN that a server was sent.
fn refusal(rig: &mut Rig, family: Family) -> (Conversation, Vec<u8>) {
    let talk = proved(rig, family, 2);
    let syn = talk.client_segment(talk.client_isn, 0, flags::SYN, &[], b"");
    (talk.clone(), port_unreachable(talk.server, &syn))
}

#[test]
fn a_hard_error_while_a_server_is_asked_refuses_at_once() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let (talk, error) = refusal(&mut rig, family);
        rig.send(Side::Inside, &error);
        let told = see(&rig.settle_one(Side::Outside));
        assert_eq!(told.flags, flags::RST | flags::ACK);
        assert_eq!(told.sequence, talk.cookie.wrapping_add(1));
        assert_eq!(rig.event(Event::SessionRefused), 1);
        assert_eq!(rig.workers[0].guard().status().sessions, 0);
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn soft_wrong_and_broken_errors_end_nothing() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let (talk, hard) = refusal(&mut rig, family);
        let syn = talk.client_segment(talk.client_isn, 0, flags::SYN, &[], b"");
        let soft = match family {
            Family::V4 => icmp_error(
                talk.server,
                icmp::kind::DESTINATION_UNREACHABLE,
                icmp::code::HOST_UNREACHABLE,
                0,
                &syn,
            ),
            Family::V6 => icmp_error(
                talk.server,
                icmpv6::kind::DESTINATION_UNREACHABLE,
                icmpv6::code::ADDRESS_UNREACHABLE,
                0,
                &syn,
            ),
        };
        let mut broken = hard.clone();
        let at = usize::from(facts(&broken).transport) + 2;
        broken[at] ^= 1;
        let other = talk.client_segment(talk.client_isn ^ 1, 0, flags::SYN, &[], b"");
        let answer = talk.server_segment(talk.cookie, 0, flags::ACK, &[], b"");
        let cases = [
            (Side::Inside, soft, DropReason::ServerRefused),
            (Side::Inside, broken, DropReason::BadTransportChecksum),
            (
                Side::Inside,
                port_unreachable(talk.server, &other),
                DropReason::IcmpUnmatched,
            ),
            // From outside: nothing of the server's is on its way yet.
            (
                Side::Outside,
                port_unreachable(stranger(family), &answer),
                DropReason::IcmpUnmatched,
            ),
        ];
        for (side, error, reason) in cases {
            assert_eq!(dropped(&mut rig, side, &error), reason);
            assert_eq!(rig.workers[0].guard().status().opening, 1, "{reason:?}");
        }
        rig.send(Side::Inside, &talk.syn_ack());
        rig.settle_one(Side::Inside);
        assert_eq!(rig.event(Event::SessionOpened), 1);
    }
}

#[test]
fn what_concerns_no_guarded_session_passes_by_rule() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let question = udp(
            stranger(family),
            Conversation::new(family, 1).server,
            (9, 53),
            b"x",
        );
        let error = port_unreachable(Conversation::new(family, 1).server, &question);
        rig.send(Side::Inside, &error);
        assert_eq!(quotation(&rig.settle_one(Side::Outside)), &question[..]);

        // A tracked session's numbers are the same on both sides.
        let mut rig = Rig::new(Setup {
            mode: Mode::Monitor,
            ..Setup::default()
        });
        let talk = Conversation::new(family, 3);
        rig.send(Side::Outside, &talk.syn());
        let syn = rig.settle_one(Side::Inside);
        let error = port_unreachable(talk.server, &syn);
        rig.send(Side::Inside, &error);
        assert_eq!(quotation(&rig.settle_one(Side::Outside)), &syn[..]);
        assert_eq!(rig.event(Event::IcmpTranslated), 0);
    }
}
