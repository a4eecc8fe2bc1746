//! Ports on the kernel's own links, in a name space that exists only while the test runs.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use bindings::mbuf::ChecksumStatus;
use bindings::port::{Offloads, PortConfig};
use bindings::{Mbuf, Mempool, Port, RxQueue, TxQueue};
use common::{eal, pool, started};

/// Set in the process that runs inside the name space.
const INSIDE: &str = "TIDEGATE_TEST_INSIDE";
/// An EtherType for experiments (IEEE 802), so that the kernel's own frames can be told apart.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const MAC_ONE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC_TWO: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Runs the test again in a process whose network is empty and its own, and tells whether this
/// is that process. The name space ends with it, and with it every link in it.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().expect("this test"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{test} failed in its name space");
    false
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

fn make_veth() {
    ip("link set lo up");
    ip("link add one address 02:00:00:00:00:01 type veth peer name two address 02:00:00:00:00:02");
    for link in ["one", "two"] {
        ip(&format!("link set {link} addrgenmode none"));
        ip(&format!("link set {link} up"));
    }
}

/// How many packets the kernel has got from a link of this name space.
fn kernel_received(link: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/net/dev").expect("proc");
    let row = table
        .lines()
        .find_map(|row| row.trim().strip_prefix(link)?.strip_prefix(':'));
    let field = row
        .expect("the link")
        .split_whitespace()
        .nth(1)
        .expect("bytes, then packets");
    field.parse().expect("a count")
}

fn frame(tag: &[u8], number: u8) -> Vec<u8> {
    let mut frame = Vec::from(MAC_TWO);
    frame.extend(MAC_ONE);
    frame.extend(tag);
    frame.extend(EXPERIMENT);
    frame.extend([number; 100]);
    frame
}

fn send(sender: &mut TxQueue, pool: &Mempool, frames: &[Vec<u8>]) {
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    assert!(pool.allocate_burst(&mut burst, frames.len()));
    for (mbuf, frame) in burst.iter_mut().zip(frames) {
        assert!(mbuf.set_data(frame));
    }
    assert_eq!(sender.transmit(&mut burst), frames.len());
}

/// What comes in of our own, until `count` packets are there or ten seconds have passed.
fn receive_mbufs(receiver: &mut RxQueue, count: usize) -> Vec<Mbuf> {
    let (mut mbufs, until) = (Vec::new(), Instant::now() + Duration::from_secs(10));
    while mbufs.len() < count && Instant::now() < until {
        let mut burst = ArrayVec::<Mbuf, 32>::new();
        if receiver.receive(&mut burst) == 0 {
            std::thread::yield_now();
        }
        mbufs.extend(burst);
        mbufs.retain(|mbuf| mbuf.data().windows(2).any(|field| field == EXPERIMENT));
    }
    mbufs
}

fn receive(receiver: &mut RxQueue, count: usize) -> Vec<Vec<u8>> {
    receive_mbufs(receiver, count)
        .iter()
        .map(|mbuf| mbuf.data().to_vec())
        .collect()
}

fn veth_ports(pool: &Mempool) -> (Port, Port) {
    let config = PortConfig {
        rx_queues: 4,
        ..PortConfig::default()
    };
    let one = started(eal(), "net_af_packet_one,iface=one", &config, pool);
    let two = started(eal(), "net_af_packet_two,iface=two", &config, pool);
    (one, two)
}

#[test]
fn frames_cross_a_veth_whole_and_in_order() {
    if !is_inside("frames_cross_a_veth_whole_and_in_order") {
        return;
    }
    make_veth();
    let pool = pool("veth", 4095);
    let (mut one, mut two) = veth_ports(&pool);
    assert_eq!((one.mac(), two.mac()), (MAC_ONE, MAC_TWO));
    assert_eq!(
        (one.info().rx_queues, one.info().mtu),
        (1, 1500),
        "what the device can"
    );
    let mut sender = one.take_tx_queue(0).expect("queue 0");
    let mut receiver = two.take_rx_queue(0).expect("queue 0");

    let frames: Vec<_> = (0..32).map(|number| frame(&[], number)).collect();
    send(&mut sender, &pool, &frames);
    assert_eq!(receive(&mut receiver, 32), frames);
    assert!(one.stats().expect("counters").opackets >= 32);
    assert!(two.stats().expect("counters").ipackets >= 32);

    // A tag stays in the frame, though the kernel hands it over beside the frame.
    let tagged = [frame(&[0x81, 0x00, 0x20, 0x64], 7)];
    send(&mut sender, &pool, &tagged);
    assert_eq!(receive(&mut receiver, 1), tagged);

    drop((one, two, sender, receiver));
    assert_eq!(pool.in_use(), 0);
}

/// A datagram of UDP in fragments of so many octets, each a frame.
fn fragments(octets: usize, each: usize) -> Vec<Vec<u8>> {
    let mut datagram = vec![0x30, 0x39, 0, 53];
    datagram.extend((octets as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(EXPERIMENT.iter().cycle().take(octets - datagram.len()));
    let pieces = datagram.chunks(each).enumerate();
    pieces
        .map(|(number, piece)| {
            let offset = number * each;
            let is_last = offset + piece.len() == octets;
            let place = (offset / 8) as u16 | if is_last { 0 } else { 0x2000 };
            let mut frame = Vec::from(MAC_TWO);
            frame.extend(MAC_ONE);
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + piece.len() as u16).to_be_bytes());
            frame.extend([0x12, 0x34]);
            frame.extend(place.to_be_bytes());
            frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let header = checksum(&frame[IP..TCP]);
            frame[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&header.to_be_bytes());
            frame.extend(piece);
            frame
        })
        .collect()
}

// H7: the driver asks the kernel to join them.
#[test]
fn ipv4_fragments_come_as_they_were_sent() {
    if !is_inside("ipv4_fragments_come_as_they_were_sent") {
        return;
    }
    make_veth();
    let pool = pool("fragments", 4095);
    let (mut one, mut two) = veth_ports(&pool);
    let mut sender = one.take_tx_queue(0).expect("queue 0");
    let mut receiver = two.take_rx_queue(0).expect("queue 0");
    let sent = fragments(40_000, 1480);
    assert_eq!(sent.len(), 28);
    send(&mut sender, &pool, &sent);
    assert_eq!(receive(&mut receiver, sent.len()), sent);
}

// H1
#[test]
fn a_link_that_is_made_anew_is_attached_anew() {
    if !is_inside("a_link_that_is_made_anew_is_attached_anew") {
        return;
    }
    make_veth();
    let pool = pool("anew", 4095);
    let (one, mut two) = veth_ports(&pool);
    let mut receiver = two.take_rx_queue(0).expect("queue 0");
    let (mut one, mut two) = (Some(one), Some(two));
    ip("link del one");
    let error = Port::detach(&mut two).expect_err("a queue is alive");
    assert_eq!(error.errno(), libc::EBUSY);
    assert_eq!(receiver.receive(&mut ArrayVec::<Mbuf, 32>::new()), 0);
    drop(receiver);
    for port in [&mut one, &mut two] {
        Port::detach(port).expect("no queue is alive");
        assert!(port.is_none());
    }

    make_veth();
    let (mut one, mut two) = veth_ports(&pool);
    let mut sender = one.take_tx_queue(0).expect("queue 0");
    let mut receiver = two.take_rx_queue(0).expect("queue 0");
    let frames: Vec<_> = (0..32).map(|number| frame(&[], number)).collect();
    send(&mut sender, &pool, &frames);
    assert_eq!(receive(&mut receiver, 32), frames);
    drop((one, two, sender, receiver));
    assert_eq!(pool.in_use(), 0);
}

/// The Internet checksum of these bytes (RFC 1071); of bytes that hold their own it is 0.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from_be_bytes([0, 0, pair[0], *pair.get(1).unwrap_or(&0)]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Offset of the IPv4 header, of the TCP header, and their checksums' own.
const IP: usize = 14;
const TCP: usize = 34;
const IP_CHECKSUM: usize = IP + 10;
const TCP_CHECKSUM: usize = TCP + 16;

/// What the TCP checksum covers beside the segment.
fn pseudo_header(frame: &[u8]) -> Vec<u8> {
    let mut header = frame[IP + 12..IP + 20].to_vec();
    header.extend([0, 6]);
    header.extend(((frame.len() - TCP) as u16).to_be_bytes());
    header
}

/// A TCP segment with sound checksums.
fn segment() -> Vec<u8> {
    let mut frame = Vec::from(MAC_TWO);
    frame.extend(MAC_ONE);
    frame.extend([
        8, 0, 0x45, 0, 0, 64, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend([
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    frame.extend(EXPERIMENT);
    frame.extend([0x5a; 22]);
    let header = checksum(&frame[IP..TCP]);
    frame[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&header.to_be_bytes());
    let mut covered = pseudo_header(&frame);
    covered.extend(&frame[TCP..]);
    frame[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum(&covered).to_be_bytes());
    frame
}

#[test]
fn checksums_are_verified_where_the_device_can() {
    if !is_inside("checksums_are_verified_where_the_device_can") {
        return;
    }
    let pool = pool("offload", 8191);
    let mut tap = started(
        eal(),
        "net_tap_sums,iface=tap-sums",
        &PortConfig::default(),
        &pool,
    );
    assert_eq!(tap.info().offloads, Offloads::ALL);
    ip("link set tap-sums addrgenmode none");
    ip("link set tap-sums up");
    // The other side of the tap: what it sends, the tap receives.
    let mut link = started(
        eal(),
        "net_af_packet_sums,iface=tap-sums",
        &PortConfig::default(),
        &pool,
    );
    let (mut tap_in, mut link_out) = (
        tap.take_rx_queue(0).unwrap(),
        link.take_tx_queue(0).unwrap(),
    );

    let good = segment();
    let (mut bad_ip, mut bad_tcp) = (good.clone(), good.clone());
    bad_ip[IP_CHECKSUM] ^= 1;
    bad_tcp[TCP_CHECKSUM] ^= 1;
    send(&mut link_out, &pool, &[good, bad_ip, bad_tcp]);
    let statuses = receive_mbufs(&mut tap_in, 3);
    let statuses: Vec<_> = statuses
        .iter()
        .map(|mbuf| (mbuf.ip_checksum(), mbuf.l4_checksum()))
        .collect();
    use ChecksumStatus::{Bad, Good};
    assert_eq!(statuses[0], (Good, Good));
    assert_eq!(statuses[1].0, Bad);
    assert_eq!(statuses[2], (Good, Bad));
}

#[test]
fn a_tap_carries_frames_to_the_kernel() {
    if !is_inside("a_tap_carries_frames_to_the_kernel") {
        return;
    }
    let pool = pool("tap", 8191);
    let mut port = started(
        eal(),
        "net_tap_test,iface=tap-test",
        &PortConfig::default(),
        &pool,
    );
    assert_eq!(port.info().driver, "net_tap");
    let mut sender = port.take_tx_queue(0).expect("queue 0");
    let before = kernel_received("tap-test");
    send(&mut sender, &pool, &[frame(&[], 1), frame(&[], 2)]);
    assert_eq!(kernel_received("tap-test"), before + 2);
    drop((port, sender));
    assert_eq!(pool.in_use(), 0);
}
