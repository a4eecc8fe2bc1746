//! The replication port: what comes to it, what leaves by it, and floods of both.

use dataplane::command::Command;
use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::hop::ReplicationPort;
use dataplane::io::InterfaceId;
use dataplane::limits::{DATAGRAM_STOCK, MAX_DATAGRAMS_PER_LOOP};
use dataplane::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use dataplane::replicate::desk::Datagram;
use dataplane::wire::address::{Address, Family};
use dataplane::wire::ethernet::{self, MacAddress};

use crate::rig::packets::{address, echo, fragments, udp};
use crate::rig::{INSIDE_MAC, Rig, SERVER_MAC, Setup, Side, facts};
use crate::steps::{FAMILIES, dropped, dropped_frame};

const PORT: u16 = 4790;
const GROUPS: [&str; 4] = ["239.1.2.3", "ff02::4790", "255.255.255.255", "10.0.0.255"];

/// Peers on the inside.
fn setup(workers: usize, group: Option<&str>) -> Setup {
    Setup {
        replication: Some(ReplicationPort {
            interface: InterfaceId(1),
            udp_port: PORT,
            group: group.map(address),
        }),
        vlans: [None, Some(200)],
        ..Setup::workers(workers)
    }
}

fn ours(family: Family) -> Address {
    match family {
        Family::V4 => address("10.0.0.1"),
        Family::V6 => address("fd00:1::1"),
    }
}

fn peer(family: Family) -> Address {
    match family {
        Family::V4 => address("10.0.0.2"),
        Family::V6 => address("fd00:1::2"),
    }
}

/// What has come from the peers, to whichever worker; the packets go back empty.
fn heard(rig: &mut Rig) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for peers in &mut rig.peers {
        while let Ok(mut datagram) = peers.arrived.pop() {
            if !datagram.bytes().is_empty() {
                packets.push(datagram.bytes().to_vec());
                datagram.set_len(0);
            }
            assert!(peers.departing.push(datagram).is_ok(), "no room");
        }
    }
    packets
}

fn tell(rig: &mut Rig, worker: usize, packet: &[u8]) {
    let mut datagram = Datagram::empty();
    assert!(datagram.set(packet));
    let pushed = rig.peers[worker].departing.push(datagram);
    assert!(pushed.is_ok(), "no room");
}

/// A packet to a group in the frame that carries it.
fn to_group(rig: &Rig, packet: &[u8], station: MacAddress) -> Vec<u8> {
    let ether_type = match packet[0] >> 4 {
        4 => ETHER_TYPE_IPV4,
        _ => ETHER_TYPE_IPV6,
    };
    rig.frame(Side::Inside, station, SERVER_MAC, ether_type, packet)
}

/// RFC 1112 §6.4 and RFC 2464 §7, worked out by hand for [`GROUPS`].
fn station(group: &str) -> MacAddress {
    match group {
        "239.1.2.3" => MacAddress([0x01, 0x00, 0x5e, 1, 2, 3]),
        "ff02::4790" => MacAddress([0x33, 0x33, 0, 0, 0x47, 0x90]),
        _ => MacAddress([0xff; 6]),
    }
}

#[test]
fn a_peers_datagram_is_passed_on_as_it_came() {
    for workers in 1..=3 {
        let mut rig = Rig::new(setup(workers, None));
        for family in FAMILIES {
            for from in 0..20 {
                let packet = udp(peer(family), ours(family), (1000 + from, PORT), b"sealed");
                rig.send(Side::Inside, &packet);
                assert_eq!(rig.settle(), []);
                assert_eq!(heard(&mut rig), [packet]);
            }
        }
        assert_eq!(rig.event(Event::PeersHeard), 40);
        assert_eq!(rig.event(Event::Consumed), 40);
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn groups_are_heard_where_they_are_the_profiles() {
    for group in GROUPS {
        let family = address(group).family();
        let packet = udp(peer(family), address(group), (PORT, PORT), b"sealed");
        let mut rig = Rig::new(setup(2, Some(group)));
        let frame = to_group(&rig, &packet, station(group));
        rig.arrive(Side::Inside, &frame);
        assert_eq!(rig.settle(), []);
        assert_eq!(heard(&mut rig), std::slice::from_ref(&packet), "{group}");
        // Our own address goes on being one.
        let direct = udp(peer(family), ours(family), (PORT, PORT), b"sealed");
        rig.send(Side::Inside, &direct);
        rig.settle();
        assert_eq!(heard(&mut rig), [direct]);
        // Nothing else that comes to the group is answered or taken.
        let ping = echo(peer(family), address(group), b"ping");
        let ping = to_group(&rig, &ping, station(group));
        assert_eq!(
            dropped_frame(&mut rig, Side::Inside, &ping),
            DropReason::NotForUs
        );
        let mut rig = Rig::new(setup(2, None));
        let frame = to_group(&rig, &packet, station(group));
        assert_eq!(
            dropped_frame(&mut rig, Side::Inside, &frame),
            DropReason::NotForUs
        );
    }
}

#[test]
fn what_is_not_a_peers_is_refused_as_ever() {
    // CASES 14
    for family in FAMILIES {
        let mut rig = Rig::new(setup(1, None));
        let elsewhere = match family {
            Family::V4 => (address("192.0.2.9"), address("192.0.2.1")),
            Family::V6 => (address("2001:db8:1::9"), address("2001:db8:1::1")),
        };
        let at_other_side = udp(elsewhere.0, elsewhere.1, (PORT, PORT), b"x");
        let other_port = udp(peer(family), ours(family), (PORT, PORT + 1), b"x");
        let forged = udp(elsewhere.0, ours(family), (PORT, PORT), b"x");
        let own = udp(ours(family), ours(family), (PORT, PORT), b"x");
        for (side, packet, reason) in [
            (Side::Outside, &at_other_side, DropReason::NotForUs),
            (Side::Inside, &other_port, DropReason::NotForUs),
            (Side::Inside, &forged, DropReason::SpoofedSource),
            (Side::Inside, &own, DropReason::OwnSource),
        ] {
            assert_eq!(dropped(&mut rig, side, packet), reason);
        }
        let whole = udp(peer(family), ours(family), (PORT, PORT), &[7; 900]);
        let piece = &fragments(&whole, 7, 400)[0];
        assert_eq!(dropped(&mut rig, Side::Inside, piece), DropReason::NotForUs);
        assert_eq!(heard(&mut rig), [] as [Vec<u8>; 0]);
        let mut rig = Rig::new(Setup::default());
        let packet = udp(peer(family), ours(family), (PORT, PORT), b"x");
        assert_eq!(
            dropped(&mut rig, Side::Inside, &packet),
            DropReason::NotForUs
        );
    }
}

#[test]
fn a_flood_finds_the_stock_empty_and_is_counted() {
    // CASES 15
    let mut rig = Rig::new(setup(1, None));
    let extra = 300;
    for number in 0..DATAGRAM_STOCK + extra {
        let packet = udp(
            peer(Family::V4),
            ours(Family::V4),
            (number as u16, PORT),
            b"flood",
        );
        rig.send(Side::Inside, &packet);
    }
    assert_eq!(rig.settle(), []);
    assert_eq!(rig.event(Event::PeersHeard), DATAGRAM_STOCK as u64);
    assert_eq!(rig.drops(DropReason::PeersBusy), extra as u64);
    assert_eq!(rig.pool.live(), 0);
    // Read, they make room again.
    assert_eq!(heard(&mut rig).len(), DATAGRAM_STOCK);
    rig.settle();
    let packet = udp(peer(Family::V4), ours(Family::V4), (1, PORT), b"after");
    rig.send(Side::Inside, &packet);
    rig.settle();
    assert_eq!(heard(&mut rig), [packet]);
}

#[test]
fn what_the_peers_are_told_is_routed_and_its_packets_come_back() {
    for workers in 1..=2 {
        let mut rig = Rig::new(setup(workers, None));
        for family in FAMILIES {
            for worker in 0..workers {
                let packet = udp(ours(family), peer(family), (PORT, PORT), b"sealed");
                tell(&mut rig, worker, &packet);
                assert_eq!(rig.settle_one(Side::Inside), packet);
                let back = rig.peers[worker].arrived.pop().expect("it comes back");
                assert!(back.bytes().is_empty());
            }
        }
        assert_eq!(rig.event(Event::PeersTold), 2 * workers as u64);
        assert_eq!(rig.pool.live(), 0);
    }
}

#[test]
fn groups_are_told_on_the_replication_port_alone() {
    for group in GROUPS {
        let family = address(group).family();
        let mut rig = Rig::new(setup(1, Some(group)));
        let packet = udp(ours(family), address(group), (PORT, PORT), b"sealed");
        tell(&mut rig, 0, &packet);
        rig.poll();
        assert!(rig.departed(Side::Outside).is_none());
        let (_, frame) = rig.departed(Side::Inside).expect("it leaves");
        let bytes = dataplane::packet::Buffer::bytes(&frame);
        assert_eq!(ethernet::destination(bytes), station(group));
        assert_eq!(ethernet::source(bytes), INSIDE_MAC);
        assert_eq!(bytes[18..], packet[..], "the TTL too, behind a tag");
        drop(frame);
        // Another group leads nowhere, nor does what no frame of that link can carry.
        let other = match family {
            Family::V4 => "239.9.9.9",
            Family::V6 => "ff02::9",
        };
        tell(&mut rig, 0, &udp(ours(family), address(other), (1, 2), b""));
        let long = [7; 1600];
        tell(
            &mut rig,
            0,
            &udp(ours(family), address(group), (1, 2), &long),
        );
        assert_eq!(rig.settle(), []);
        assert_eq!(rig.drops(DropReason::NoRoute), 1);
        assert_eq!(rig.drops(DropReason::PacketTooBig), 1);
    }
}

#[test]
fn a_loop_sends_a_bounded_number_and_loses_none() {
    let mut rig = Rig::new(setup(1, None));
    let packet = udp(ours(Family::V4), peer(Family::V4), (PORT, PORT), b"sealed");
    tell(&mut rig, 0, &packet);
    rig.settle_one(Side::Inside);
    let count = 5 * MAX_DATAGRAMS_PER_LOOP;
    (0..count).for_each(|_| tell(&mut rig, 0, &packet));
    for turn in 1..=5 {
        rig.poll();
        let told = rig.event(Event::PeersTold);
        assert_eq!(told as usize, 1 + turn * MAX_DATAGRAMS_PER_LOOP);
    }
    assert_eq!(rig.settle().len(), count);
    assert_eq!(heard(&mut rig), [] as [Vec<u8>; 0]);
    // Without packet buffers the peers miss it, and it is counted.
    rig.workers[0].io_mut().allocations_left = Some(0);
    tell(&mut rig, 0, &packet);
    assert_eq!(rig.settle(), []);
    assert_eq!(rig.event(Event::PeersUntold), 1);
}

#[test]
fn a_group_is_told_who_belongs_to_it() {
    for (group, is_told) in [
        ("239.1.2.3", true),
        ("ff02::4790", true),
        ("255.255.255.255", false),
        ("10.0.0.255", false),
    ] {
        let mut rig = Rig::new(setup(2, Some(group)));
        let reports = |rig: &mut Rig| {
            let left = rig.settle();
            let reports = left.iter().filter(|(_, packet)| facts(packet).ttl == 1);
            reports
                .map(|(side, packet)| (*side, packet.clone()))
                .collect::<Vec<_>>()
        };
        rig.command(0, Command::Announce);
        let first = reports(&mut rig);
        assert_eq!(first.len(), usize::from(is_told), "{group}");
        rig.advance_ms(1_000);
        rig.advance_ms(1_000);
        assert_eq!(reports(&mut rig).len(), 2 * usize::from(is_told));
        for (side, packet) in first {
            assert_eq!(side, Side::Inside);
            assert!(packet.windows(4).any(|octets| octets
                == match address(group).family() {
                    Family::V4 => address(group).v4_octets(),
                    Family::V6 => [0, 0, 0x47, 0x90],
                }));
        }
        // For ever, so that switches do not forget it.
        for _ in 0..3 {
            rig.advance_ms(60_000);
            assert_eq!(reports(&mut rig).len(), usize::from(is_told));
        }
    }
}
