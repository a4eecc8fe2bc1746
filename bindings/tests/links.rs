//! Ports on the kernel's own links, in a name space that exists only while the test runs.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use bindings::port::PortConfig;
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

/// What comes in of our own, until `count` frames are there or a second has passed.
fn receive(receiver: &mut RxQueue, count: usize) -> Vec<Vec<u8>> {
    let (mut frames, until) = (Vec::new(), Instant::now() + Duration::from_secs(1));
    while frames.len() < count && Instant::now() < until {
        let mut burst = ArrayVec::<Mbuf, 32>::new();
        if receiver.receive(&mut burst) == 0 {
            std::thread::yield_now();
        }
        frames.extend(burst.iter().map(|mbuf| mbuf.data().to_vec()));
        frames.retain(|frame| frame.windows(2).any(|field| field == EXPERIMENT));
    }
    frames
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
