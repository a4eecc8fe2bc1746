//! Each verdict: the frame is sent or freed exactly once.
//! The rig checks the sums after every poll; these tests say which way each frame goes.

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Mode;
use dataplane::parse::flags;
use dataplane::wire::address::Family;
use dataplane::wire::arp::ArpOperation;

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::{
    address, assert_sound, echo, fragments, icmp_error, port_unreachable, too_big, udp,
};
use crate::rig::{OUTSIDE_MAC, REJECTED, Rig, Setup, Side, all_sound, facts};
use crate::steps::{FAMILIES, dropped, proved, server, setups, stranger};

#[test]
fn a_session_opens_carries_data_and_closes() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for family in FAMILIES {
            let mut talk = Conversation::new(family, 7);
            rig.open(&mut talk);
            let data = talk.client_sends(flags::ACK | flags::PSH, b"GET /");
            rig.send(Side::Outside, &data);
            let seen = rig.settle_one(Side::Inside);
            assert_sound(&seen);
            assert_eq!(see(&seen).payload, b"GET /");
            assert_eq!(see(&seen).acknowledgement, talk.server_next());
            let expected = talk.client_acknowledges();
            let data = talk.server_sends(flags::ACK | flags::PSH, b"200 OK");
            rig.send(Side::Inside, &data);
            let seen = rig.settle_one(Side::Outside);
            assert_sound(&seen);
            assert_eq!(
                (see(&seen).sequence, &see(&seen).payload[..]),
                (expected, &b"200 OK"[..])
            );
            let fin = talk.client_sends(flags::ACK | flags::FIN, b"");
            rig.send(Side::Outside, &fin);
            rig.settle_one(Side::Inside);
            let fin = talk.server_sends(flags::ACK | flags::FIN, b"");
            rig.send(Side::Inside, &fin);
            rig.settle_one(Side::Outside);
            let last = talk.client_sends(flags::ACK, b"");
            rig.send(Side::Outside, &last);
            rig.settle_one(Side::Inside);
        }
        assert_eq!(rig.event(Event::SessionClosed), 2);
        // An advertisement may come to another worker than the one that asked.
        let strayed = rig.drops(DropReason::UnsolicitedNeighbour);
        assert_eq!(rig.counters().all_drops(), strayed);
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn what_is_not_guarded_is_forwarded() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for family in FAMILIES {
            let packet = udp(stranger(family), server(family), (5_000, 53), b"question");
            rig.send(Side::Outside, &packet);
            let seen = rig.settle_one(Side::Inside);
            assert_sound(&seen);
            assert_eq!(facts(&seen).ttl, facts(&packet).ttl - 1);
        }
        assert_eq!(rig.event(Event::Forwarded), 2);
    }
}

#[test]
fn a_ping_to_us_is_replied_to() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for ours in ["192.0.2.1", "2001:db8:1::1"] {
            let family = address(ours).family();
            rig.send(
                Side::Outside,
                &echo(stranger(family), address(ours), b"ping"),
            );
            let seen = rig.settle_one(Side::Outside);
            assert_sound(&seen);
            assert_eq!(facts(&seen).destination, stranger(family));
        }
        assert_eq!(rig.event(Event::EchoAnswered), 2);
    }
}

#[test]
fn a_packet_waits_for_its_neighbour_or_ends_there() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        rig.neighbours_answer = false;
        for family in FAMILIES {
            let packet = udp(stranger(family), server(family), (5_000, 53), &[0; 60]);
            rig.send(Side::Outside, &packet);
            assert_eq!(rig.settle(), []);
        }
        let held: usize = rig.workers.iter().map(|worker| worker.held()).sum();
        assert_eq!(held, 2);
        for _ in 0..5 {
            rig.advance_ms(1_000);
        }
        assert_eq!(rig.drops(DropReason::NeighbourUnresolved), 2);
        // Both senders are told, by way of the router, which does not answer either.
        let held: usize = rig.workers.iter().map(|worker| worker.held()).sum();
        assert_eq!(held, 2);
        rig.neighbours_answer = true;
        let packets = rig.settle();
        all_sound(&packets);
        assert_eq!(packets.len(), 2);
        assert_eq!(rig.event(Event::IcmpErrorSent), 2);
    }
}

#[test]
fn what_a_rule_rejects_is_told_and_freed() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        let packet = udp(address(REJECTED), server(Family::V4), (5_000, 53), &[0; 40]);
        rig.send(Side::Outside, &packet);
        let told = rig.settle_one(Side::Outside);
        assert_sound(&told);
        assert_eq!(facts(&told).destination, address(REJECTED));
        assert_eq!(rig.drops(DropReason::DeniedByRule), 1);

        let mut talk = Conversation::new(Family::V4, 1);
        talk.client = address(REJECTED);
        rig.send(Side::Outside, &talk.syn());
        let reset = see(&rig.settle_one(Side::Outside));
        assert_eq!(reset.flags, flags::RST | flags::ACK);
        assert_eq!(
            rig.drops(DropReason::DeniedByRule),
            1,
            "it became its answer"
        );
    }
}

#[test]
fn a_full_transmit_queue_and_an_empty_pool_lose_nothing_uncounted() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let mut talk = Conversation::new(family, 3);
        rig.open(&mut talk);
        rig.workers[0].io_mut().transmit_room = Some(2);
        for _ in 0..5 {
            let data = talk.client_sends(flags::ACK, b"data");
            rig.send(Side::Outside, &data);
        }
        assert_eq!(rig.settle().len(), 2);
        assert_eq!(rig.drops(DropReason::TransmitFull), 3);
        rig.workers[0].io_mut().transmit_room = None;

        // A SYN-ACK is its SYN's own buffer; the SYN to the server needs a new one.
        rig.workers[0].io_mut().allocations_left = Some(0);
        let mut other = Conversation::new(family, 4);
        rig.send(Side::Outside, &other.syn());
        let cookie = rig.settle_one(Side::Outside);
        other.take_cookie(&cookie);
        let sent = rig.event(Event::ServerSynSent);
        let ack = other.client_sends(flags::ACK, b"");
        rig.send(Side::Outside, &ack);
        assert_eq!(rig.settle(), []);
        assert_eq!(rig.event(Event::BufferUnavailable), 1);
        assert_eq!(rig.event(Event::ServerSynSent), sent, "none was sent");
        // It is asked for again, once there are buffers.
        rig.workers[0].io_mut().allocations_left = None;
        rig.now_ns += 600_000_000;
        assert_eq!(see(&rig.settle_one(Side::Inside)).flags, flags::SYN);
    }
}

#[test]
fn what_waits_for_a_server_is_delivered_or_freed() {
    // CASES 11
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let mut talk = Conversation::new(family, 6);
        rig.send(Side::Outside, &talk.syn());
        let cookie = rig.settle_one(Side::Outside);
        talk.take_cookie(&cookie);
        let ack = talk.client_sends(flags::ACK, b"");
        rig.send(Side::Outside, &ack);
        rig.settle_one(Side::Inside);
        let data = talk.client_sends(flags::ACK, b"early");
        rig.send(Side::Outside, &data);
        assert_eq!(rig.settle(), []);
        assert_eq!(
            dropped(&mut rig, Side::Outside, &data),
            DropReason::DuplicateHeld
        );
        assert_eq!(
            dropped(&mut rig, Side::Outside, &talk.syn()),
            DropReason::SynOnSession
        );
        let far = talk.client_segment(talk.client_isn ^ 1 << 31, 0, flags::ACK, &[], b"x");
        assert_eq!(
            dropped(&mut rig, Side::Outside, &far),
            DropReason::OutOfWindow
        );
        let unsent =
            talk.client_segment(talk.client_next(), talk.cookie ^ 64, flags::ACK, &[], b"x");
        assert_eq!(
            dropped(&mut rig, Side::Outside, &unsent),
            DropReason::AckOfUnsent
        );
        for number in 0..20u8 {
            let more = talk.client_sends(flags::ACK, &[number]);
            rig.send(Side::Outside, &more);
        }
        rig.settle();
        assert_eq!(rig.drops(DropReason::HoldQueueFull), 6);
        assert_eq!(rig.workers[0].held(), 16);
        let alien = talk.server_segment(1, 7, flags::RST, &[], b"");
        assert_eq!(
            dropped(&mut rig, Side::Inside, &alien),
            DropReason::ServerAnswerInvalid
        );
        // The server never answers: three retries, then the client is told and all is freed.
        let mut packets = Vec::new();
        for _ in 0..20 {
            rig.advance_ms(1_000);
            packets.extend(rig.settle());
        }
        all_sound(&packets);
        let resets = packets
            .iter()
            .filter(|(_, p)| see(p).flags & flags::RST != 0);
        assert_eq!(resets.count(), 1);
        assert_eq!(rig.drops(DropReason::ServerSilent), 16);
        assert_eq!(rig.pool.live(), 0);
        assert_eq!(rig.workers[0].guard().status().sessions, 0);
    }
}

#[test]
fn a_server_that_refuses_frees_what_was_held() {
    // CASES 11
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let mut talk = Conversation::new(family, 6);
        rig.send(Side::Outside, &talk.syn());
        let cookie = rig.settle_one(Side::Outside);
        talk.take_cookie(&cookie);
        let ack = talk.client_sends(flags::ACK, b"");
        rig.send(Side::Outside, &ack);
        let syn = rig.settle_one(Side::Inside);
        let refusal = talk.server_segment(
            0,
            talk.client_isn.wrapping_add(1),
            flags::RST | flags::ACK,
            &[],
            b"",
        );
        rig.send(Side::Inside, &refusal);
        let told = see(&rig.settle_one(Side::Outside));
        assert_eq!(told.flags, flags::RST | flags::ACK);
        // The held ACK, and the RST itself.
        assert_eq!(rig.drops(DropReason::ServerRefused), 2);
        // An ICMP error finds nothing any more.
        let router = server(family);
        assert_eq!(
            dropped(&mut rig, Side::Inside, &port_unreachable(router, &syn)),
            DropReason::IcmpUnmatched
        );
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn icmp_errors_are_mapped_refuse_or_end() {
    // CASES 12
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for family in FAMILIES {
            let mut talk = Conversation::new(family, 8);
            rig.open(&mut talk);
            let data = talk.server_sends(flags::ACK, &[7; 1200]);
            rig.send(Side::Inside, &data);
            let on_wire = rig.settle_one(Side::Outside);
            rig.send(Side::Outside, &too_big(stranger(family), 1280, &on_wire));
            let told = rig.settle_one(Side::Inside);
            assert_sound(&told);
            let mut unrelated = on_wire.clone();
            let at = usize::from(facts(&on_wire).transport) + 4;
            unrelated[at] ^= 0x40;
            let error = too_big(stranger(family), 1280, &unrelated);
            assert_eq!(
                dropped(&mut rig, Side::Outside, &error),
                DropReason::IcmpUnmatched
            );

            let mut other = Conversation::new(family, 9);
            rig.send(Side::Outside, &other.syn());
            let cookie = rig.settle_one(Side::Outside);
            other.take_cookie(&cookie);
            let ack = other.client_sends(flags::ACK, b"");
            rig.send(Side::Outside, &ack);
            let syn = rig.settle_one(Side::Inside);
            rig.send(Side::Inside, &port_unreachable(other.server, &syn));
            assert_eq!(
                see(&rig.settle_one(Side::Outside)).flags,
                flags::RST | flags::ACK
            );
        }
        assert_eq!(rig.event(Event::IcmpTranslated), 2);
    }
}

#[test]
fn fragments_go_on_together_or_end_together() {
    // CASES 13
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for family in FAMILIES {
            let whole = udp(stranger(family), server(family), (5_000, 53), &[7; 900]);
            let pieces = fragments(&whole, 77, 400);
            for piece in pieces.iter().rev() {
                rig.send(Side::Outside, piece);
            }
            let passed = rig.settle();
            assert_eq!(passed.len(), 3);
            assert!(passed.iter().all(|(side, _)| *side == Side::Inside));

            // To us: nobody reads it.
            let ours = match family {
                Family::V4 => address("192.0.2.1"),
                Family::V6 => address("2001:db8:1::1"),
            };
            let own = udp(stranger(family), ours, (5_000, 53), &[7; 900]);
            for piece in fragments(&own, 78, 400) {
                rig.send(Side::Outside, &piece);
            }
            assert_eq!(rig.settle(), []);

            // The guard answers no fragmented SYN.
            let talk = Conversation::new(family, 10);
            let syn = talk.client_segment(1, 0, flags::SYN, &[], &[0; 40]);
            for piece in fragments(&syn, 79, 24) {
                rig.send(Side::Outside, &piece);
            }
            assert_eq!(rig.settle(), []);

            // Overlapping, repeated, and never whole.
            let lap = fragments(&whole, 80, 400);
            rig.send(Side::Outside, &lap[0]);
            rig.settle();
            assert_eq!(
                dropped(&mut rig, Side::Outside, &lap[0]),
                DropReason::FragmentDuplicate
            );
            let mut shifted = fragments(&whole, 80, 392);
            let overlap = shifted.remove(1);
            assert_eq!(
                dropped(&mut rig, Side::Outside, &overlap),
                DropReason::FragmentOverlap
            );
            rig.send(Side::Outside, &fragments(&whole, 81, 400)[1]);
            rig.settle();
        }
        assert_eq!(rig.drops(DropReason::NotForUs), 6);
        assert_eq!(rig.drops(DropReason::FragmentOfGuarded), 6);
        assert_eq!(rig.event(Event::Reassembled), 4);
        rig.advance_ms(3_000);
        assert_eq!(rig.drops(DropReason::FragmentTimeout), 2);
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn a_reload_that_takes_an_interface_away_frees_what_came_by_it() {
    let mut rig = Rig::new(Setup {
        vlans: [Some(100), None],
        ..Setup::default()
    });
    let whole = udp(
        stranger(Family::V4),
        server(Family::V4),
        (5_000, 53),
        &[7; 900],
    );
    let pieces = fragments(&whole, 77, 400);
    rig.send(Side::Outside, &pieces[0]);
    rig.send(Side::Outside, &pieces[1]);
    let last = rig.framed(Side::Outside, &pieces[2]);
    rig.settle();
    rig.arrive(Side::Outside, &last);
    rig.setup.vlans = [Some(101), None];
    let configuration = Box::new(rig.setup.configuration());
    let pushed = rig.desks[0]
        .commands
        .push(dataplane::command::Command::Reconfigure(configuration));
    assert!(pushed.is_ok());
    rig.settle();
    rig.advance_ms(3_000);
    assert_eq!(rig.pool.live(), 0);
}

#[test]
fn neighbours_questions_are_answered_in_their_own_frames() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        let asked = rig.arp(
            Side::Outside,
            ArpOperation::Request,
            address("192.0.2.254"),
            address("192.0.2.1"),
        );
        rig.arrive(Side::Outside, &asked);
        rig.poll();
        let (_, frame) = rig.departed(Side::Outside).expect("an answer");
        let bytes = dataplane::packet::Buffer::bytes(&frame).to_vec();
        assert_eq!(dataplane::wire::ethernet::source(&bytes), OUTSIDE_MAC);
        drop(frame);
        assert_eq!(rig.pool.live(), 0);
        assert_eq!(rig.event(Event::Created), 0);
    }
}

#[test]
fn modes_that_refuse_nothing_lose_nothing() {
    for mode in [Mode::Off, Mode::Monitor, Mode::OnFlood] {
        let mut rig = Rig::new(Setup {
            mode,
            ..Setup::default()
        });
        let talk = Conversation::new(Family::V6, 5);
        rig.send(Side::Outside, &talk.syn());
        assert_eq!(see(&rig.settle_one(Side::Inside)).sequence, talk.client_isn);
        let stray = talk.client_segment(1, 2, flags::ACK, &[], b"stray");
        rig.send(Side::Outside, &stray);
        rig.settle();
        let late = icmp_error(stranger(Family::V6), 3, 0, 0, &stray);
        rig.send(Side::Inside, &late);
        rig.settle();
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn a_client_that_gives_up_takes_what_it_sent_along() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let mut talk = proved(&mut rig, family, 1);
        let data = talk.client_sends(flags::ACK, b"early");
        rig.send(Side::Outside, &data);
        rig.settle();
        let far = talk.client_segment(talk.client_next() + 9, 0, flags::RST, &[], b"");
        assert_eq!(
            dropped(&mut rig, Side::Outside, &far),
            DropReason::ResetNotExact
        );
        let reset = talk.client_segment(talk.client_next(), 0, flags::RST, &[], b"");
        rig.send(Side::Outside, &reset);
        assert_eq!(see(&rig.settle_one(Side::Inside)).flags, flags::RST);
        // The ACK, the data and the RST itself.
        assert_eq!(rig.drops(DropReason::SessionExpired), 3);
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn while_draining_nothing_new_is_opened_and_what_lives_goes_on() {
    let mut rig = Rig::new(Setup::default());
    let mut talk = Conversation::new(Family::V6, 1);
    rig.open(&mut talk);
    let mut late = Conversation::new(Family::V6, 2);
    rig.send(Side::Outside, &late.syn());
    let cookie = rig.settle_one(Side::Outside);
    late.take_cookie(&cookie);
    rig.command(0, dataplane::command::Command::Drain);
    let syn = Conversation::new(Family::V6, 3).syn();
    assert_eq!(dropped(&mut rig, Side::Outside, &syn), DropReason::Draining);
    let ack = late.client_sends(flags::ACK, b"");
    rig.send(Side::Outside, &ack);
    assert_eq!(see(&rig.settle_one(Side::Outside)).flags, flags::RST);
    let data = talk.client_sends(flags::ACK, b"still here");
    rig.send(Side::Outside, &data);
    assert_eq!(see(&rig.settle_one(Side::Inside)).payload, b"still here");
}
