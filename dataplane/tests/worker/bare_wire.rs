//! A transparent wire that there is nothing to decide on.

use dataplane::capture::Tap;
use dataplane::classify::Rules;
use dataplane::command::Command;
use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::{Action, EchoMode, Mode};
use dataplane::parse::flags;
use dataplane::wire::address::Family;

use crate::rig::conversation::Conversation;
use crate::rig::packets::{address, udp};
use crate::rig::{Rig, Setup, Side};
use crate::steps::FAMILIES;
use crate::wire::{TAGS, across, answered, dropped, finish, framed};

/// Takes everything from a wire that there is to decide on it.
fn lay_bare(rig: &mut Rig, worker: usize) {
    let mut configuration = rig.setup.configuration();
    configuration.guard.mode = Mode::Off;
    configuration.guard.servers = Vec::new();
    configuration.guard.rules = Rules::all(Action::Forward);
    drop(rig.command(worker, Command::Reconfigure(Box::new(configuration))));
}

#[test]
fn a_wire_with_nothing_to_decide_passes_every_frame_as_it_came() {
    for workers in [1, 2] {
        let mut rig = Rig::new(Setup {
            workers,
            single_queue: [true; 2],
            ..Setup::wire(EchoMode::Off)
        });
        (0..workers).for_each(|worker| lay_bare(&mut rig, worker));
        let ends = [address("198.51.100.7"), address("203.0.113.9")];
        let (mut frames, mut octets) = (0, 0);
        for side in Side::BOTH {
            let mut passes = |frame: &[u8]| {
                let (left_by, left) = rig.pass(side, frame);
                assert_ne!(left_by, side);
                assert_eq!(left, frame);
                frames += 1;
                octets += frame.len() as u64;
            };
            for tags in TAGS {
                for family in FAMILIES {
                    passes(&framed(side, tags, &Conversation::new(family, 1).syn()));
                }
            }
            let datagram = framed(side, &[], &udp(ends[0], ends[1], (1, 2), &[7; 1472]));
            passes(&datagram);
            let mut broken = datagram.clone();
            broken[14 + 10] ^= 1;
            passes(&broken);
            let mut to_group = datagram;
            to_group[..6].fill(0xff);
            passes(&to_group);
            passes(&[0x5a; 60]);
        }
        let counters = rig.counters();
        for interface in [0, 1] {
            let traffic = counters.traffic(interface);
            assert_eq!(traffic.received_packets, frames / 2);
            assert_eq!(traffic.sent_packets, frames / 2);
            assert_eq!(traffic.received_bytes, octets / 2);
            assert_eq!(traffic.sent_bytes, octets / 2);
        }
        assert_eq!(counters.event(Event::Sent), frames);
        let own = [address("198.51.100.7"), address("203.0.113.9")];
        let large = framed(Side::Outside, &[], &udp(own[0], own[1], (1, 2), &[7; 1473]));
        dropped(&mut rig, Side::Outside, &large, DropReason::PacketTooBig);
    }
}

#[test]
fn a_wire_laid_bare_still_carries_the_sessions_that_were_open() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Off));
    let mut talk = Conversation::new(Family::V4, 1);
    answered(&mut rig, &mut talk, false);
    finish(&mut rig, &mut talk, &[]);
    lay_bare(&mut rig, 0);
    let before = rig.event(Event::Spliced);
    let data = talk.client_sends(flags::ACK, b"x");
    across(&mut rig, Side::Outside, &[], &data);
    assert_eq!(rig.event(Event::Spliced), before + 1);
}

#[test]
fn what_crosses_a_bare_wire_is_captured() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Off));
    lay_bare(&mut rig, 0);
    let (tap, mut copies) = Tap::new(None, None);
    drop(rig.command(0, Command::Capture(tap)));
    let frame = framed(Side::Outside, &[], &Conversation::new(Family::V4, 1).syn());
    rig.pass(Side::Outside, &frame);
    let seen: Vec<Vec<u8>> = std::iter::from_fn(|| copies.pop().ok())
        .map(|copy| copy.bytes().to_vec())
        .collect();
    assert_eq!(seen, [frame.clone(), frame]);
}

#[test]
fn what_a_port_of_a_bare_wire_refuses_is_counted() {
    let mut rig = Rig::new(Setup::wire(EchoMode::Off));
    lay_bare(&mut rig, 0);
    let frame = framed(Side::Outside, &[], &Conversation::new(Family::V4, 1).syn());
    rig.workers[0].io_mut().transmit_room = Some(0);
    dropped(&mut rig, Side::Outside, &frame, DropReason::TransmitFull);
    assert_eq!(rig.counters().traffic(1).sent_bytes, 0);
}
