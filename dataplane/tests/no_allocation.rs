//! A worker asks nothing of the heap once it is made: neither does it allocate, nor does it free.
#![forbid(unsafe_code)]

mod rig;

use bindings::CountingAllocator;
use dataplane::capture::Tap;
use dataplane::command::{Command, Report, WorkerStatus};
use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::EchoMode;
use dataplane::hop::ReplicationPort;
use dataplane::io::InterfaceId;
use dataplane::parse::{ETHER_TYPE_IPV6, flags};
use dataplane::replicate::desk::Datagram;
use dataplane::wire::address::{Address, Family};
use dataplane::wire::ethernet::{MacAddress, solicited_node};
use dataplane::wire::ndp::{MAX_PACKET_BYTES, NeighbourSolicitation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use rig::conversation::Conversation;
use rig::mixes::{Stage, setups, steps};
use rig::packets::{address, echo_reply, fragments, port_unreachable, too_big, udp};
use rig::{Rig, Setup, Side};

#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn heap_calls() -> u64 {
    let counts = CountingAllocator::counts();
    counts.taken + counts.freed
}

/// A rig whose polls are watched.
fn watched(setup: Setup) -> Rig {
    let mut rig = Rig::new(setup);
    rig.heap_calls = heap_calls;
    rig
}

#[test]
fn the_watch_sees_what_is_taken_and_what_is_freed() {
    let before = heap_calls();
    let taken = Box::new(before);
    assert_eq!(heap_calls(), before + 1);
    drop(taken);
    assert_eq!(heap_calls(), before + 2);
    let mut grown = Vec::with_capacity(1);
    grown.extend([before; 100]);
    assert!(heap_calls() > before + 4);
}

#[test]
fn a_poll_that_takes_and_frees_is_found_out() {
    let mut rig = watched(Setup::default());
    rig.poll();
    assert_eq!(rig.heap_calls_in_polls, 0);
    rig.workers[0].io_mut().is_wasteful = true;
    rig.poll();
    // One block for each of two ports.
    assert_eq!(rig.heap_calls_in_polls, 4);
}

#[test]
fn sessions_are_opened_used_refused_and_ended() {
    for workers in [1, 3] {
        let mut rig = watched(Setup {
            workers,
            is_scattered: true,
            capacity: 16,
            ..Setup::default()
        });
        // More than there is room for at a time, so that ended ones make room.
        for number in 0..200u16 {
            let family = FAMILIES[usize::from(number % 2)];
            let mut talk = Conversation::new(family, number);
            talk.has_timestamps = number % 3 > 0;
            rig.open(&mut talk);
            for _ in 0..3 {
                let data = talk.client_sends(flags::ACK, &[7; 1000]);
                rig.send(Side::Outside, &data);
                let data = talk.server_sends(flags::ACK, &[7; 1000]);
                rig.send(Side::Inside, &data);
            }
            let stray = talk.client_segment(talk.client_isn ^ 1 << 31, 0, flags::ACK, &[], b"");
            rig.send(Side::Outside, &stray);
            rig.settle();
            let reset = talk.client_segment(talk.client_next(), 0, flags::RST, &[], b"");
            rig.send(Side::Outside, &reset);
            rig.settle();
        }
        assert_eq!(rig.event(Event::SessionOpened), 200);
        assert_eq!(rig.event(Event::SessionReset), 200);
        assert!(rig.event(Event::SessionEvicted) > 0);
        assert!(rig.event(Event::ChallengeSent) > 0);
        assert_eq!(rig.event(Event::HandedOff) > 0, workers > 1);
        assert_eq!(rig.heap_calls_in_polls, 0);
    }
}

#[test]
fn a_wire_carries_syns_and_passes_frames() {
    for workers in [1, 3] {
        let mut rig = watched(Setup {
            workers,
            is_scattered: true,
            capacity: 16,
            ..Setup::wire(EchoMode::Auto)
        });
        for number in 0..100u16 {
            let mut talk = Conversation::new(FAMILIES[usize::from(number % 2)], number);
            let outside = rig.framed(Side::Outside, &talk.syn());
            let (_, request) = rig.pass(Side::Outside, &outside);
            let reply = rig.framed(Side::Inside, &echo_reply(&request[14..]));
            let (_, cookie) = rig.pass(Side::Inside, &reply);
            talk.take_cookie(&cookie[14..]);
            let ack = talk.client_sends(flags::ACK, b"early");
            let ack = rig.framed(Side::Outside, &ack);
            rig.pass(Side::Outside, &ack);
            let answer = rig.framed(Side::Inside, &talk.syn_ack());
            rig.pass(Side::Inside, &answer);
            let ping = udp(talk.client, talk.server, (1, 2), b"x");
            let ping = rig.framed(Side::Outside, &ping);
            rig.pass(Side::Outside, &ping);
            // The client gives up, and makes room.
            let reset = talk.client_segment(talk.client_next(), 0, flags::RST, &[], b"");
            let reset = rig.framed(Side::Outside, &reset);
            rig.arrive(Side::Outside, &reset);
            rig.settle_frames();
        }
        assert_eq!(rig.event(Event::EchoReturned), 100);
        assert_eq!(rig.event(Event::SessionOpened), 100);
        assert_eq!(rig.heap_calls_in_polls, 0);
    }
}

#[test]
fn timers_run_out() {
    let mut rig = watched(Setup::default());
    for number in 0..100u16 {
        let mut talk = Conversation::new(FAMILIES[usize::from(number % 2)], number);
        rig.send(Side::Outside, &talk.syn());
        let cookie = rig.settle_one(Side::Outside);
        talk.take_cookie(&cookie);
        let ack = talk.client_sends(flags::ACK, b"early");
        rig.send(Side::Outside, &ack);
        rig.settle();
    }
    for _ in 0..200 {
        rig.advance_ms(100);
        rig.settle();
    }
    assert_eq!(rig.drops(DropReason::ServerSilent), 100);
    assert_eq!(rig.event(Event::ServerSynRetried), 300);
    // A session that is idle for its two hours.
    rig.open(&mut Conversation::new(Family::V6, 1));
    for _ in 0..8 {
        rig.advance_ms(1_000_000);
        rig.settle();
    }
    assert_eq!(rig.event(Event::SessionIdled), 1);
    assert_eq!(rig.heap_calls_in_polls, 0);
}

#[test]
fn icmp_errors_are_made_and_mapped() {
    let mut rig = watched(Setup {
        mtu_bytes: [1500, 1280],
        ..Setup::workers(2)
    });
    for number in 0..50u16 {
        let mut talk = Conversation::new(FAMILIES[usize::from(number % 2)], number);
        rig.open(&mut talk);
        let data = talk.server_sends(flags::ACK, &[7; 1000]);
        rig.send(Side::Inside, &data);
        let left = rig.settle_one(Side::Outside);
        let router = talk.client;
        rig.send(Side::Outside, &too_big(router, 1280, &left));
        rig.send(Side::Outside, &port_unreachable(router, &left));
        let large = udp(talk.client, talk.server, (number, 53), &[7; 1400]);
        rig.send(Side::Outside, &large);
        rig.settle();
    }
    assert_eq!(rig.event(Event::IcmpTranslated), 100);
    assert!(rig.event(Event::IcmpErrorSent) > 0);
    assert_eq!(rig.heap_calls_in_polls, 0);
}

#[test]
fn fragments_of_ever_new_sources_are_held_and_given_up() {
    let mut rig = watched(Setup {
        buffers: 8192,
        ..Setup::workers(2)
    });
    for round in 0..40u16 {
        for number in 0..250u16 {
            let (source, server) = match number % 2 {
                0 => (
                    Address::from_v4([198, 18, round as u8, number as u8]),
                    address("10.0.0.10"),
                ),
                _ => {
                    let base = address("2001:db8:77::").to_bits();
                    let network = u128::from(round) << 16 | u128::from(number);
                    let source = Address::from_bits(base | network << 64 | 9);
                    (source, address("fd00:1::10"))
                }
            };
            let whole = udp(source, server, (number, 53), &[7; 600]);
            let pieces = fragments(&whole, round, 400);
            rig.send(Side::Outside, &pieces[1]);
            if number % 5 == 0 {
                rig.send(Side::Outside, &pieces[0]);
            }
        }
        rig.settle();
        for _ in 0..30 {
            rig.advance_ms(100);
        }
    }
    assert_eq!(rig.event(Event::Reassembled), 40 * 50);
    assert_eq!(rig.drops(DropReason::FragmentTimeout), 40 * 200);
    assert_eq!(rig.heap_calls_in_polls, 0);
}

/// A neighbour solicitation by one of 2^32 stations.
fn question(rig: &Rig, number: u32) -> Vec<u8> {
    let source =
        Address::from_bits(address("2001:db8:1::").to_bits() | 1 << 40 | u128::from(number));
    let [a, b, c, d] = number.to_be_bytes();
    let station = MacAddress([2, 1, a, b, c, d]);
    let target = address("2001:db8:1::1");
    let message = NeighbourSolicitation {
        target,
        source_mac: Some(station),
    };
    let mut packet = [0; MAX_PACKET_BYTES];
    let length = message
        .write(&mut packet, source, solicited_node(target))
        .expect("room");
    let group = MacAddress::of_multicast(solicited_node(target)).expect("a group");
    rig.frame(
        Side::Outside,
        group,
        station,
        ETHER_TYPE_IPV6,
        &packet[..length],
    )
}

#[test]
fn neighbours_come_and_go_beyond_what_there_is_room_for() {
    let mut rig = watched(Setup::default());
    for number in 0..20_000u32 {
        let frame = question(&rig, number);
        rig.arrive(Side::Outside, &frame);
        if number % 100 == 0 {
            rig.settle();
        }
    }
    rig.settle();
    assert!(rig.event(Event::Sent) >= 20_000, "each is answered");
    let mut page = match rig.command(0, Command::Neighbours(Box::default())) {
        Report::Neighbours(page) => page,
        _ => panic!("another report"),
    };
    let mut listed = page.rows.len();
    while page.next.is_some() {
        page = match rig.command(0, Command::Neighbours(page)) {
            Report::Neighbours(page) => page,
            _ => panic!("another report"),
        };
        listed += page.rows.len();
    }
    // Those that only asked, and those that we knew before.
    let claimed = dataplane::limits::MAX_NEIGHBOURS_CLAIMED;
    assert!((claimed..claimed + 20).contains(&listed), "{listed}");
    // What nobody answers for.
    rig.neighbours_answer = false;
    for number in 0..5_000u32 {
        let last = u128::from(number) | 1 << 20;
        let nobody = Address::from_bits(address("fd00:1::").to_bits() | last);
        let packet = udp(address("2001:db8:9::1"), nobody, (1, 2), b"");
        rig.send(Side::Outside, &packet);
        if number % 100 == 0 {
            rig.settle();
            rig.advance_ms(200);
        }
    }
    assert!(rig.drops(DropReason::NeighbourUnresolved) > 0);
    assert_eq!(rig.heap_calls_in_polls, 0);
}

#[test]
fn commands_are_served() {
    let mut rig = watched(Setup::workers(2));
    for number in 0..150u16 {
        rig.open(&mut Conversation::new(
            FAMILIES[usize::from(number % 2)],
            number,
        ));
    }
    for worker in 0..2 {
        let status = match rig.command(worker, Command::Status(WorkerStatus::empty())) {
            Report::Status(status) => status,
            _ => panic!("another report"),
        };
        let servers = status.servers.iter().filter(|row| row.port.is_none());
        assert_eq!(servers.count(), 2);
        let mut page = Box::default();
        let mut listed = 0;
        loop {
            page = match rig.command(worker, Command::Sessions(page)) {
                Report::Sessions(page) => page,
                _ => panic!("another report"),
            };
            listed += page.rows.len();
            if page.is_last {
                break;
            }
        }
        assert_eq!(listed, status.guard.sessions);
        // Changed tables, which make neighbours unknown again.
        rig.setup.vlans = [Some(100 + worker as u16), None];
        for _ in 0..3 {
            let configuration = Box::new(rig.setup.configuration());
            let report = rig.command(worker, Command::Reconfigure(configuration));
            assert!(matches!(report, Report::Reconfigured(_)));
            let report = rig.command(worker, Command::Announce);
            assert!(matches!(report, Report::Done));
            rig.settle();
        }
        let report = rig.command(worker, Command::Drain);
        assert!(matches!(report, Report::Done));
        let report = rig.command(worker, Command::Stop);
        assert!(matches!(report, Report::Stopped));
    }
    assert_eq!(rig.heap_calls_in_polls, 0);
}

#[test]
fn peers_are_heard_and_told() {
    let mut rig = watched(Setup {
        replication: Some(ReplicationPort {
            interface: InterfaceId(1),
            udp_port: 4790,
            group: Some(address("239.1.2.3")),
        }),
        ..Setup::default()
    });
    let (peer, own, group) = (
        address("10.0.0.2"),
        address("10.0.0.1"),
        address("239.1.2.3"),
    );
    for number in 0..1000u16 {
        rig.send(Side::Inside, &udp(peer, own, (number, 4790), b"heard"));
        let to = if number % 2 == 0 { peer } else { group };
        let mut datagram = Datagram::empty();
        assert!(datagram.set(&udp(own, to, (4790, 4790), b"told")));
        let pushed = rig.peers[0].departing.push(datagram);
        assert!(pushed.is_ok());
        rig.settle();
        while let Ok(mut datagram) = rig.peers[0].arrived.pop() {
            datagram.set_len(0);
            if number % 3 > 0 {
                assert!(rig.peers[0].departing.push(datagram).is_ok());
            }
        }
    }
    assert_eq!(rig.event(Event::PeersTold), 1000);
    assert!(rig.event(Event::PeersHeard) > 500);
    assert_eq!(rig.heap_calls_in_polls, 0);
}

#[test]
fn a_capture_copies_and_ends() {
    let mut rig = watched(Setup::default());
    let mut talk = Conversation::new(Family::V4, 1);
    rig.open(&mut talk);
    for _ in 0..3 {
        let (tap, mut copies) = Tap::new(Some(Side::Outside.port()), None);
        rig.command(0, Command::Capture(tap));
        for _ in 0..100 {
            let data = talk.client_sends(flags::ACK, b"x");
            rig.send(Side::Outside, &data);
        }
        rig.settle();
        let copied = std::iter::from_fn(|| copies.pop().ok()).count();
        assert!(copied >= 100, "{copied}");
        let report = rig.command(0, Command::EndCapture);
        assert!(matches!(report, Report::CaptureEnded(_)));
    }
    assert_eq!(rig.heap_calls_in_polls, 0);
}

#[test]
fn whatever_comes_in_whatever_order() {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mixes = (setups(), prop::collection::vec(steps(), 1..160));
    let run = TestRunner::new(config).run(&mixes, |(setup, steps)| {
        let mut stage = Stage::new(setup);
        stage.rig.heap_calls = heap_calls;
        for step in &steps {
            stage.take(step);
            prop_assert_eq!(stage.rig.heap_calls_in_polls, 0, "{:?}", step);
        }
        Ok::<_, TestCaseError>(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}
