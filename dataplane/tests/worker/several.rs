//! Several workers: flows meet their worker wherever their frames come in, and what one worker
//! learns or owns serves all.

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::limits::{HAND_OFF_RING, MAX_WORKERS};
use dataplane::parse::flags;
use dataplane::wire::address::Family;

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::{address, assert_sound, fragments, port_unreachable, too_big, udp};
use crate::rig::{Rig, Setup, Side, all_sound, facts};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const TALKS: u16 = 12;

/// Every way in which frames may come to several workers.
fn setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    for workers in [2, 3] {
        for single_queue in [[false; 2], [true, false], [false, true], [true; 2]] {
            for is_scattered in [false, true] {
                setups.push(Setup {
                    workers,
                    single_queue,
                    is_scattered,
                    vlans: [None, Some(200)],
                    ..Setup::default()
                });
            }
        }
    }
    setups
}

fn talks() -> impl Iterator<Item = Conversation> {
    FAMILIES
        .into_iter()
        .flat_map(|family| (1..=TALKS).map(move |number| Conversation::new(family, number)))
}

/// Data from each side, and that it comes out at the other.
fn exchange(rig: &mut Rig, talk: &mut Conversation) {
    let question = talk.client_sends(flags::ACK | flags::PSH, b"question");
    rig.send(Side::Outside, &question);
    let seen = rig.settle_one(Side::Inside);
    assert_sound(&seen);
    assert_eq!(see(&seen).payload, b"question");
    let answer = talk.server_sends(flags::ACK | flags::PSH, b"answer");
    rig.send(Side::Inside, &answer);
    let seen = rig.settle_one(Side::Outside);
    assert_sound(&seen);
    assert_eq!(see(&seen).payload, b"answer");
}

#[test]
fn both_directions_of_a_flow_meet_its_worker() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        let mut owned = [0; MAX_WORKERS];
        for mut talk in talks() {
            rig.open(&mut talk);
            exchange(&mut rig, &mut talk);
            exchange(&mut rig, &mut talk);
            owned[rig.owner_of(&facts(&talk.syn()))] += 1;
        }
        let held: Vec<_> = rig
            .workers
            .iter()
            .map(|w| w.guard().status().live)
            .collect();
        assert_eq!(held, owned[..held.len()]);
        assert!(held.iter().all(|&sessions| sessions > 0), "{held:?}");
        assert_eq!(rig.drops(DropReason::HandOffFull), 0);
        assert_eq!(rig.drops(DropReason::TransmitFull), 0);
    }
}

#[test]
fn frames_on_the_right_queue_are_not_handed_on() {
    let mut rig = Rig::new(Setup::workers(3));
    for mut talk in talks() {
        rig.open(&mut talk);
        exchange(&mut rig, &mut talk);
    }
    assert_eq!(rig.event(Event::HandedOff), 0);
}

#[test]
fn a_port_with_one_queue_is_served_by_its_worker() {
    let mut rig = Rig::new(Setup {
        single_queue: [true; 2],
        ..Setup::workers(3)
    });
    for mut talk in talks() {
        rig.open(&mut talk);
        exchange(&mut rig, &mut talk);
    }
    for worker in 1..3 {
        let counters = rig.workers[worker].counters();
        assert_eq!(counters.event(Event::Received), 0);
        assert_eq!(counters.event(Event::Sent), 0);
        assert!(counters.event(Event::Spliced) > 0);
    }
}

#[test]
fn fragments_of_one_datagram_meet_and_go_on_at_their_flows_worker() {
    // CASES 13
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for family in FAMILIES {
            for number in 0..8u16 {
                let talk = Conversation::new(family, number);
                let whole = udp(talk.client, talk.server, (number, 53), &[7; 900]);
                for piece in fragments(&whole, 100 + number, 400) {
                    rig.send(Side::Outside, &piece);
                }
                let passed = rig.settle();
                assert_eq!(passed.len(), 3, "{number}");
                all_sound(&passed);
            }
        }
        assert_eq!(rig.event(Event::Reassembled), 16);
        assert_eq!(rig.event(Event::Forwarded), 16);
    }
}

#[test]
fn a_session_s_segment_in_fragments_reaches_the_session() {
    // CASES 13
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for mut talk in talks() {
            rig.open(&mut talk);
            let segment = talk.client_sends(flags::ACK, &[7; 900]);
            for piece in fragments(&segment, 7, 400) {
                rig.send(Side::Outside, &piece);
            }
            let passed = rig.settle();
            assert_eq!(passed.len(), 3, "{talk:?}");
        }
    }
}

#[test]
fn icmp_errors_meet_the_session_that_they_are_about() {
    // CASES 12
    for setup in setups() {
        let mut rig = Rig::new(setup);
        for mut talk in talks() {
            let router = match talk.client.family() {
                Family::V4 => address("203.0.113.1"),
                Family::V6 => address("2001:db8:55::1"),
            };
            rig.open(&mut talk);
            let data = talk.server_sends(flags::ACK, &[7; 1200]);
            rig.send(Side::Inside, &data);
            let seen = rig.settle_one(Side::Outside);
            rig.send(Side::Outside, &too_big(router, 1280, &seen));
            assert_sound(&rig.settle_one(Side::Inside));
            let data = talk.client_sends(flags::ACK, &[7; 1200]);
            rig.send(Side::Outside, &data);
            let seen = rig.settle_one(Side::Inside);
            rig.send(Side::Inside, &port_unreachable(talk.server, &seen));
            assert_sound(&rig.settle_one(Side::Outside));
        }
        assert_eq!(rig.event(Event::IcmpTranslated), 4 * u64::from(TALKS));
        assert_eq!(rig.drops(DropReason::IcmpUnmatched), 0);
    }
}

#[test]
fn a_neighbour_that_one_worker_learned_is_known_to_all() {
    for setup in setups() {
        let mut rig = Rig::new(setup);
        let talks: Vec<_> = talks().collect();
        for talk in &talks {
            let question = udp(
                talk.client,
                talk.server,
                (talk.client_port, 53),
                b"question",
            );
            rig.send(Side::Outside, &question);
            rig.settle_one(Side::Inside);
        }
        // One question a family.
        assert_eq!(rig.event(Event::NeighbourAsked), 2);
        let forwarded = rig.workers.iter();
        let forwarded = forwarded.map(|worker| worker.counters().event(Event::Forwarded));
        assert!(forwarded.into_iter().all(|count| count > 0));
    }
}

#[test]
fn an_answer_that_comes_to_another_worker_releases_what_waits() {
    for setup in setups().into_iter().filter(|setup| !setup.single_queue[1]) {
        let mut rig = Rig::new(setup);
        rig.neighbours_answer = false;
        for talk in talks() {
            let question = udp(
                talk.client,
                talk.server,
                (talk.client_port, 53),
                b"question",
            );
            rig.send(Side::Outside, &question);
        }
        assert_eq!(rig.settle(), []);
        let held: usize = rig.workers.iter().map(|worker| worker.held()).sum();
        assert_eq!(held, 2 * usize::from(TALKS));
        // Every worker has asked; one answer a family is enough for all.
        let (server, ours) = (address("10.0.0.10"), address("10.0.0.1"));
        let reply = dataplane::wire::arp::ArpOperation::Reply;
        let answer = rig.arp(Side::Inside, reply, server, ours);
        rig.arrive_at(rig.setup.workers - 1, Side::Inside, &answer);
        assert_eq!(rig.settle().len(), usize::from(TALKS));
        let held: usize = rig.workers.iter().map(|worker| worker.held()).sum();
        assert_eq!(held, usize::from(TALKS));
    }
}

/// A flow that worker 1 of 2 owns.
fn flow_of_worker_1(rig: &Rig) -> Conversation {
    talks()
        .find(|talk| rig.owner_of(&facts(&talk.syn())) == 1)
        .expect("flows are spread")
}

#[test]
fn a_full_ring_between_workers_is_counted_and_survived() {
    let mut rig = Rig::new(Setup {
        buffers: 4096,
        ..Setup::workers(2)
    });
    let talk = flow_of_worker_1(&rig);
    let syn = rig.framed(Side::Outside, &talk.syn());
    let extra = 100;
    for _ in 0..HAND_OFF_RING + extra {
        rig.arrive_at(0, Side::Outside, &syn);
    }
    while rig.poll_only(0) > 0 {}
    assert_eq!(rig.event(Event::HandedOff), HAND_OFF_RING as u64);
    assert_eq!(rig.drops(DropReason::HandOffFull), extra as u64);
    // A datagram finds no room for all of it, so none of it is handed on.
    let whole = (1..200)
        .map(|port| udp(talk.client, talk.server, (port, 53), &[7; 900]))
        .find(|whole| rig.owner_of(&facts(whole)) == 1)
        .expect("flows are spread");
    for piece in fragments(&whole, 5, 400) {
        let frame = rig.framed(Side::Outside, &piece);
        if rig.owner_of(&facts(&piece)) == 0 {
            rig.arrive_at(0, Side::Outside, &frame);
        }
    }
    rig.poll_only(0);
    assert_eq!(rig.settle().len(), HAND_OFF_RING);
    assert_eq!(rig.event(Event::CookieSent), HAND_OFF_RING as u64);
    assert_eq!(rig.pool.live(), 0);
}

#[test]
fn a_full_ring_to_the_sending_worker_is_counted_and_survived() {
    let mut rig = Rig::new(Setup {
        single_queue: [true, false],
        buffers: 4096,
        ..Setup::workers(2)
    });
    let mut talk = flow_of_worker_1(&rig);
    rig.open(&mut talk);
    exchange(&mut rig, &mut talk);
    let before = rig.workers[1].counters().event(Event::HandedOff);
    let extra = 200;
    for _ in 0..HAND_OFF_RING + extra {
        let data = talk.server_sends(flags::ACK, b"x");
        let frame = rig.framed(Side::Inside, &data);
        rig.arrive_at(1, Side::Inside, &frame);
    }
    while rig.poll_only(1) > 0 {}
    let counters = rig.workers[1].counters();
    assert_eq!(
        counters.event(Event::HandedOff) - before,
        HAND_OFF_RING as u64
    );
    assert_eq!(counters.drops(DropReason::HandOffFull), extra as u64);
    assert_eq!(rig.settle().len(), HAND_OFF_RING);
}

#[test]
fn one_loop_passes_on_all_that_it_takes() {
    // Worker 1 gets a burst from each port and from the other workers, and all of it leaves by a
    // port that is worker 0's.
    let mut rig = Rig::new(Setup {
        single_queue: [false, true],
        buffers: 4096,
        ..Setup::workers(3)
    });
    let mut talk = flow_of_worker_1(&rig);
    rig.open(&mut talk);
    for _ in 0..10 {
        for worker in 0..3 {
            for _ in 0..32 {
                let data = talk.client_sends(flags::ACK, b"x");
                let frame = rig.framed(Side::Outside, &data);
                rig.arrive_at(worker, Side::Outside, &frame);
            }
        }
        assert_eq!(rig.settle().len(), 96);
    }
    assert_eq!(
        rig.counters().all_drops(),
        rig.drops(DropReason::UnsolicitedNeighbour)
    );
}

#[test]
fn threads_of_their_own_lose_nothing() {
    const FRAMES: usize = 3_000;
    for single_queue in [[false; 2], [true, false]] {
        let mut rig = Rig::new(Setup {
            single_queue,
            is_scattered: true,
            buffers: 3 * FRAMES,
            ..Setup::workers(3)
        });
        let mut talks: Vec<_> = talks().collect();
        for talk in &mut talks {
            rig.open(talk);
            exchange(&mut rig, talk);
        }
        for number in 0..FRAMES {
            let talk = &mut talks[number % 24];
            match number % 5 {
                0 | 1 => {
                    let data = talk.client_sends(flags::ACK, &[7; 100]);
                    rig.send(Side::Outside, &data);
                }
                2 | 3 => {
                    let data = talk.server_sends(flags::ACK, &[7; 100]);
                    rig.send(Side::Inside, &data);
                }
                _ => {
                    let whole = udp(talk.client, talk.server, (number as u16, 53), &[7; 900]);
                    for piece in fragments(&whole, number as u16, 400) {
                        rig.send(Side::Outside, &piece);
                    }
                }
            }
        }
        let time = rig.time();
        std::thread::scope(|scope| {
            for worker in &mut rig.workers {
                scope.spawn(move || {
                    // The others' rings may fill again after this worker has come to rest.
                    let mut rests = 0;
                    while rests < 20_000 {
                        rests = if worker.poll(time) == 0 { rests + 1 } else { 0 };
                        if rests % 64 == 63 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        rig.settle();
        let counters = rig.counters();
        let moved = [Event::Spliced, Event::Forwarded, Event::HandedOff];
        assert!(moved.iter().all(|&event| counters.event(event) > 100));
        // A bounded number of datagrams expires in one loop.
        for _ in 0..100 {
            rig.advance_ms(50);
        }
        assert_eq!(rig.pool.live(), 0);
    }
}
