//! Ports on virtual devices: what goes in comes out, and nothing is lost or kept.

mod common;

use arrayvec::ArrayVec;
use bindings::port::{PortConfig, RSS_INDIRECTION_ENTRIES, Rss};
use bindings::{Mbuf, Mempool, Port};
use common::{eal, pool, started};

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
    let mut port = started(eal(), "net_ring_loop", &PortConfig::default(), &pool);
    let mut receiver = port.take_rx_queue(0).expect("queue 0");
    let mut sender = port.take_tx_queue(0).expect("queue 0");

    let mut burst = numbered(&pool, 32);
    assert_eq!(sender.transmit(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 32, "what was sent is in the ring, not freed");

    let mut received = ArrayVec::<Mbuf, 32>::new();
    assert_eq!(receiver.receive(&mut received), 32);
    assert_eq!(receiver.receive(&mut received), 0, "no room in the burst");
    for (number, mbuf) in received.iter().enumerate() {
        assert_eq!(mbuf.data(), [number as u8; 60]);
    }
    drop(received);
    assert_eq!(pool.in_use(), 0);
    let stats = port.stats().expect("counters");
    assert_eq!((stats.ipackets, stats.opackets), (32, 32));
    assert!(port.link().expect("a link").up);
    let extended = port.extended_stats().expect("counters");
    assert!(
        extended.contains(&("rx_good_packets".into(), 32)),
        "{extended:?}"
    );
}

#[test]
fn what_a_full_device_does_not_take_stays_in_order() {
    let pool = pool("overrun", 4095);
    let mut port = started(eal(), "net_ring_full", &PortConfig::default(), &pool);
    let mut sender = port.take_tx_queue(0).expect("queue 0");
    let mut sent = 0;
    let rest = loop {
        let mut burst = numbered(&pool, 32);
        let taken = sender.transmit(&mut burst);
        sent += taken;
        if taken < 32 {
            break burst;
        }
    };
    assert_eq!(
        sent, 1023,
        "the device's ring holds one less than a power of two"
    );
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].data(), [31; 60]);
    assert_eq!(pool.in_use(), sent + rest.len());
    // Taken back out, so that the pool is whole for the end of the test.
    let mut receiver = port.take_rx_queue(0).expect("queue 0");
    let mut received = ArrayVec::<Mbuf, 64>::new();
    while receiver.receive(&mut received) > 0 {
        received.clear();
    }
    drop(rest);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_null_device_consumes_what_is_sent() {
    let pool = pool("null", 1023);
    let mut port = started(
        eal(),
        "net_null_sink,no-rx=1",
        &PortConfig::default(),
        &pool,
    );
    let mut sender = port.take_tx_queue(0).expect("queue 0");
    let mut burst = numbered(&pool, 32);
    assert_eq!(sender.transmit(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(
        sender.transmit(&mut burst),
        0,
        "an empty burst sends nothing"
    );
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn queues_are_taken_once_and_hold_their_port() {
    let pool = pool("queues", 4095);
    let id = Port::attach(eal(), "net_ring_queues").expect("a virtual device");
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 200,
        ..PortConfig::default()
    };
    let mut port = Port::configure(eal(), id, &config, &pool).expect("configured");
    assert_eq!(
        (port.info().rx_queues, port.info().tx_queues),
        (2, port.info().max_tx_queues)
    );
    assert!(port.info().max_tx_queues < 200 && !port.info().rss);
    assert!(port.take_rx_queue(0).is_none(), "not before the start");
    port.start().expect("started");

    let mut queue = port.take_rx_queue(1).expect("queue 1");
    assert_eq!(queue.number(), 1);
    assert!(port.take_rx_queue(1).is_none(), "only once");
    assert!(port.take_rx_queue(2).is_none(), "no such queue");
    let busy = port.stop().expect_err("a queue may be polled");
    assert_eq!((busy.call(), busy.errno()), ("Port::stop", libc::EBUSY));
    let again = Port::configure(eal(), id, &config, &pool)
        .err()
        .expect("somebody's");
    assert_eq!(again.errno(), libc::EBUSY);

    drop(port);
    assert_eq!(
        queue.receive(&mut ArrayVec::<Mbuf, 32>::new()),
        0,
        "still open"
    );
    assert!(Port::list(eal()).contains(&id));
    drop(queue);
    assert!(
        !Port::list(eal()).contains(&id),
        "closed with its last queue"
    );
}

#[test]
fn a_port_stops_and_starts_again() {
    let pool = pool("again", 1023);
    let mut port = started(eal(), "net_ring_again", &PortConfig::default(), &pool);
    drop(port.take_tx_queue(0).expect("queue 0"));
    assert!(port.take_tx_queue(0).is_none());
    port.stop().expect("no queue is alive");
    assert!(!port.is_started() && port.take_tx_queue(0).is_none());
    port.start().expect("started");
    let mut sender = port.take_tx_queue(0).expect("taken anew");
    let mut receiver = port.take_rx_queue(0).expect("queue 0");
    assert_eq!(sender.transmit(&mut numbered(&pool, 8)), 8);
    let mut received = ArrayVec::<Mbuf, 32>::new();
    assert_eq!(receiver.receive(&mut received), 8);
}

#[test]
fn a_device_that_is_not_there_is_named_with_its_cause() {
    let device = "net_af_packet_nowhere,iface=no-such-link";
    let error = Port::attach(eal(), device).expect_err("no such interface");
    let text = error.to_string();
    assert_eq!(error.call(), "rte_dev_probe");
    assert!(
        text.starts_with(&format!("attaching device {device}: rte_dev_probe failed")),
        "{text}"
    );
    assert!(
        text.contains("No such device"),
        "the driver's own cause: {text}"
    );

    let error = Port::attach(eal(), "net_nothing0").expect_err("no such driver");
    assert!(
        error
            .to_string()
            .contains("failed to parse device \"net_nothing0\""),
        "{error}"
    );
    let error = Port::attach(eal(), "net_null\0").expect_err("no such name");
    assert_eq!(error.errno(), libc::EINVAL);
    let error = Port::find(eal(), "net_unknown0").expect_err("nobody made it");
    assert_eq!(
        (error.call(), error.errno()),
        ("rte_eth_dev_get_port_by_name", libc::ENODEV)
    );
}

/// The drivers that Tidegate's profiles name are plug-ins, which EAL finds by itself.
#[test]
fn the_virtual_drivers_are_there() {
    let pool = pool("drivers", 4095);
    let capture = std::env::temp_dir().join(common::unique("capture.pcap"));
    let to_capture = format!("net_pcap_there,tx_pcap={}", capture.display());
    let socket = common::unique("memif");
    let to_memif = format!("net_memif_there,role=server,socket={socket},socket-abstract=yes");
    for (device, driver) in [
        ("net_null_there", "net_null"),
        ("net_ring_there", "net_ring"),
        (to_memif.as_str(), "net_memif"),
        (to_capture.as_str(), "net_pcap"),
    ] {
        let port = started(eal(), device, &PortConfig::default(), &pool);
        assert_eq!(port.info().driver, driver);
        assert!(device.starts_with(&port.info().name));
    }
    std::fs::remove_file(capture).expect("net_pcap made it");
    assert_eq!(pool.in_use(), 0, "closed devices keep nothing");
}

/// A capture with one frame of `len` bytes, as tcpdump would have written it.
fn capture_of(len: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for field in [
        0xa1b2_c3d4_u32,
        0x0004_0002,
        0,
        0,
        65_535,
        1,
        0,
        0,
        len,
        len,
    ] {
        file.extend(field.to_ne_bytes());
    }
    file.extend((0..len).map(|index| index as u8));
    file
}

#[test]
fn a_packet_in_several_pieces_says_so_and_is_freed_whole() {
    let pool = pool("jumbo", 1023);
    let capture = std::env::temp_dir().join(common::unique("jumbo.pcap"));
    std::fs::write(&capture, capture_of(5000)).expect("a temporary file");
    let device = format!("net_pcap_jumbo,rx_pcap={}", capture.display());
    let mut port = started(eal(), &device, &PortConfig::default(), &pool);
    let mut receiver = port.take_rx_queue(0).expect("queue 0");
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    assert_eq!(receiver.receive(&mut burst), 1);
    let mut mbuf = burst.remove(0);
    assert_eq!((mbuf.len(), mbuf.data().len()), (5000, 2048));
    assert!(!mbuf.is_contiguous() && pool.in_use() == 3);
    assert!(!mbuf.set_len(60), "its end is in another piece");
    assert!(mbuf.trim_front(8), "its front is here");
    assert_eq!(
        (mbuf.len(), mbuf.data().len(), mbuf.data()[0]),
        (4992, 2040, 8)
    );
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
    std::fs::remove_file(capture).expect("ours");
}

/// What a device says of its hash key and of its indirection table.
#[allow(clippy::needless_update)] // DPDK 24.11 has one field more.
fn scaling_of(id: u16) -> ([u8; 40], Vec<u16>) {
    let mut key = [0; 40];
    let mut conf = dpdk_sys::rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: 40,
        ..Default::default()
    };
    let mut groups = [dpdk_sys::rte_eth_rss_reta_entry64 {
        mask: u64::MAX,
        reta: [0; 64],
    }; 2];
    // SAFETY: the port is configured, and key and table have the lengths that are told.
    unsafe {
        assert_eq!(dpdk_sys::rte_eth_dev_rss_hash_conf_get(id, &mut conf), 0);
        assert_eq!(
            dpdk_sys::rte_eth_dev_rss_reta_query(id, groups.as_mut_ptr(), 128),
            0
        );
    }
    (key, groups.iter().flat_map(|group| group.reta).collect())
}

#[test]
fn key_and_table_are_those_that_software_can_follow() {
    let pool = pool("rss", 4095);
    const DRAWN: u16 = 0x70f1;
    let config = PortConfig {
        rx_queues: 3,
        rss: Some(Rss {
            tcp: true,
            udp: true,
            key_word: DRAWN,
        }),
        ..PortConfig::default()
    };
    let port = started(eal(), "net_null_rss,no-rx=1", &config, &pool);
    let (key, table) = scaling_of(port.info().id.number());
    assert!(
        key.chunks(2).all(|word| word == DRAWN.to_be_bytes()),
        "{key:x?}"
    );
    assert_eq!(table.len(), usize::from(RSS_INDIRECTION_ENTRIES));
    for (entry, queue) in table.iter().enumerate() {
        assert_eq!(usize::from(*queue), entry % 3);
    }
    assert!(
        !port.info().rss,
        "the null device hashes nothing, whatever it is told"
    );
}
