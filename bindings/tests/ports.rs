//! Ports on virtual devices: what goes in comes out, and nothing is lost or kept.

mod common;

use arrayvec::ArrayVec;
use bindings::port::PortConfig;
use bindings::{Mbuf, Mempool, Port};
use common::{eal, pool};

fn started(device: &str, config: &PortConfig, pool: &Mempool) -> Port {
    let id = Port::attach(eal(), device).expect("the device is there");
    let mut port = Port::configure(eal(), id, config, pool).expect("configured");
    port.start().expect("started");
    port
}

fn numbered(pool: &Mempool, count: usize) -> ArrayVec<Mbuf, 32> {
    let mut burst = ArrayVec::new();
    assert!(pool.allocate_burst(&mut burst, count));
    for (number, mbuf) in burst.iter_mut().enumerate() {
        assert!(mbuf.set_data(&[number as u8; 60]));
    }
    burst
}

#[test]
fn a_burst_loops_through_net_ring_in_order() {
    let pool = pool("loop", 1023);
    let mut port = started("net_ring_loop", &PortConfig::default(), &pool);
    let mut receiver = port.take_rx_queue(0).expect("queue 0");
    let mut sender = port.take_tx_queue(0).expect("queue 0");
    let before = pool.in_use();

    let mut burst = numbered(&pool, 32);
    assert_eq!(sender.transmit(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(
        pool.in_use(),
        before + 32,
        "what was sent is in the ring, not freed"
    );

    let mut received = ArrayVec::<Mbuf, 32>::new();
    assert_eq!(receiver.receive(&mut received), 32);
    for (number, mbuf) in received.iter().enumerate() {
        assert_eq!(mbuf.data(), [number as u8; 60]);
    }
    drop(received);
    assert_eq!(pool.in_use(), before);
    let stats = port.stats().expect("counters");
    assert_eq!((stats.ipackets, stats.opackets), (32, 32));
}

#[test]
fn a_null_device_consumes_what_is_sent() {
    let pool = pool("null", 1023);
    let mut port = started("net_null_sink,no-rx=1", &PortConfig::default(), &pool);
    let mut sender = port.take_tx_queue(0).expect("queue 0");
    let mut burst = numbered(&pool, 32);
    assert_eq!(sender.transmit(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 0);
}
