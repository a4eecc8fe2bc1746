//! Subjects that are joined to the tester by rings in memory.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use bindings::mempool::MempoolConfig;
use bindings::{Eal, EalConfig, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue};
use perf::subjects::{Job, Kind, Over, Seen, prove};
use perf::wiring::{Side, Wiring};

use crate::{LIMIT, TIMES, ground, start};

/// The tester's two devices, by rings in memory.
struct Devices {
    ports: Vec<(Port, RxQueue, TxQueue)>,
    pool: Mempool,
}

/// EAL, which a process can start but once, and the tests' pool.
fn memory() -> &'static (Eal, Mempool) {
    static MEMORY: OnceLock<(Eal, Mempool)> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let eal = Eal::init(&EalConfig {
            program: "subjects".into(),
            file_prefix: format!("subjects{}", std::process::id()),
            memory_mib: 64,
            ..EalConfig::default()
        })
        .unwrap();
        let pool = MempoolConfig {
            name: "subjects".into(),
            count: 8191,
            cache: 0,
            data_room_bytes: 2176,
            socket: None,
        };
        let pool = Mempool::new(&eal, &pool).unwrap();
        (eal, pool)
    })
}

impl Devices {
    fn open(wiring: &Wiring) -> Self {
        let (eal, pool) = memory();
        let open = |side: &Side| {
            let id = Port::attach(eal, &side.device).unwrap();
            let mut port = Port::configure(eal, id, &PortConfig::default(), pool).unwrap();
            port.start().unwrap();
            let deadline = Instant::now() + LIMIT;
            while !port.link().unwrap().up {
                assert!(Instant::now() < deadline, "{} has no link", side.device);
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut receive = port.take_rx_queue(0).unwrap();
            let transmit = port.take_tx_queue(0).unwrap();
            // The far side can send only into buffers that a first poll has offered it.
            assert_eq!(receive.receive(&mut ArrayVec::<Mbuf, 1>::new()), 0);
            (port, receive, transmit)
        };
        Self {
            ports: [&wiring.outside, &wiring.inside].map(open).into(),
            pool: pool.clone(),
        }
    }

    fn send(&mut self, side: usize, frame: &[u8]) {
        let mut mbuf = self.pool.allocate().unwrap();
        assert!(mbuf.set_data(frame));
        let mut burst: ArrayVec<Mbuf, 1> = ArrayVec::new();
        burst.push(mbuf);
        assert_eq!(self.ports[side].2.transmit(&mut burst), 1);
    }

    /// The next frame that comes in by a side and that `wanted` takes.
    fn receive(
        &mut self,
        side: usize,
        limit: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let mut burst: ArrayVec<Mbuf, 1> = ArrayVec::new();
            self.ports[side].1.receive(&mut burst);
            match burst.pop() {
                Some(mbuf) if wanted(mbuf.data()) => return Some(mbuf.data().to_vec()),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_micros(50)),
            }
        }
        None
    }

    /// The station address of the subject on a side, asked for where it is not known, and told
    /// ours when it asks.
    fn acquaint(&mut self, side: usize, of: &Side) -> [u8; 6] {
        if let Some(station) = of.station {
            return station;
        }
        let own = self.ports[side].0.mac();
        let (us, them) = (of.addresses[0].ip(), of.gateways[0]);
        let request = arp(1, (own, us), ([0; 6], them), [0xff; 6]);
        self.send(side, &request);
        let is_answer = |frame: &[u8]| frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
        let answer = self.receive(side, LIMIT, is_answer).expect("an ARP reply");
        answer[22..28].try_into().unwrap()
    }
}

fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("not IPv4"),
    }
}

/// An ARP packet (RFC 826) in its frame.
fn arp(operation: u8, from: ([u8; 6], IpAddr), to: ([u8; 6], IpAddr), station: [u8; 6]) -> Vec<u8> {
    let mut frame = [
        &station[..],
        &from.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
    ]
    .concat();
    frame.extend(from.0);
    frame.extend(octets(from.1));
    frame.extend(to.0);
    frame.extend(octets(to.1));
    frame.resize(60, 0);
    frame
}

/// A TCP segment that belongs to nothing, of connection `number`.
fn segment(stations: ([u8; 6], [u8; 6]), ends: [IpAddr; 2], number: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    lab::frame::Tcp {
        source: (ends[0], 1000 + number).into(),
        destination: (ends[1], 9).into(),
        sequence: 1,
        acknowledgement: 1,
        flags: lab::frame::flag::ACK,
        options: &[],
        payload: b"payload!",
    }
    .write(stations, &mut frame);
    frame
}

fn carries_over_memif(kind: Kind) {
    let _exclusive = lab::exclusive().unwrap();
    let ground = ground(Over::Memif, Job::Forward);
    let Some(mut subject) = start(&ground, kind) else {
        return;
    };
    let wiring = subject.wiring().clone();
    // The tester comes, goes, and comes again, and the subject stays.
    for round in 0..2 {
        let mut devices = Devices::open(&wiring);
        let sides = [&wiring.outside, &wiring.inside];
        let stations = [0, 1].map(|side| devices.acquaint(side, sides[side]));
        let before = subject.account().unwrap();
        let addresses = sides.map(|side| {
            side.networks[0]
                .iter()
                .nth(usize::from(side.networks[0].prefix() < 32))
                .unwrap()
        });
        let mut carried = 0;
        for number in 0..u16::try_from(TIMES).unwrap() {
            for (from, to) in [(0, 1), (1, 0)] {
                let own = devices.ports[from].0.mac();
                let frame = segment(
                    (own, stations[from]),
                    [addresses[from], addresses[to]],
                    number,
                );
                devices.send(from, &frame);
                let (them, us) = (sides[to].gateways.first(), sides[to].addresses[0].ip());
                let far = devices.ports[to].0.mac();
                let got = loop {
                    let got = devices
                        .receive(to, LIMIT, |frame| frame[12] == 8)
                        .unwrap_or_else(|| panic!("frame {number} of round {round} to side {to}"));
                    if got[13] != 6 {
                        break got;
                    }
                    // It asks who we are before it sends what it holds.
                    let asker = got[6..12].try_into().unwrap();
                    let answer = arp(2, (far, us), (asker, *them.unwrap()), asker);
                    devices.send(to, &answer);
                };
                assert_eq!(got[34..], frame[34..], "{kind}, round {round}");
                match subject.stations() {
                    Some(stations) => {
                        assert_eq!((&got[..6], &got[6..12]), (&far[..], &stations[to][..]));
                    }
                    None => assert_eq!(got[..12], frame[..12]),
                }
                carried += 1;
            }
        }
        let seen = Seen {
            sent_frames: carried,
            carried_frames: Some(carried),
            connections: 0,
        };
        let after = subject.account().unwrap();
        prove(kind, &before, &after, &seen).unwrap();
        prove(kind, &after, &after, &seen).unwrap_err();
        // At rest it carries nothing; what was sent meanwhile it carries later.
        subject.rest().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let own = devices.ports[0].0.mac();
        let frame = segment((own, stations[0]), addresses, 99);
        devices.send(0, &frame);
        let is_ours = |frame: &[u8]| frame[12..14] == [8, 0];
        assert_eq!(
            devices.receive(1, Duration::from_millis(100), is_ours),
            None
        );
        subject.resume().unwrap();
        assert!(devices.receive(1, LIMIT, is_ours).is_some());
    }
}

#[test]
fn tidegate_carries_over_memif() {
    carries_over_memif(Kind::Tidegate);
}

#[test]
fn testpmd_io_carries_over_memif() {
    carries_over_memif(Kind::TestpmdIo);
}

#[test]
fn testpmd_mac_carries_over_memif() {
    carries_over_memif(Kind::TestpmdMac);
}

#[test]
fn testpmd_csum_carries_over_memif() {
    carries_over_memif(Kind::TestpmdCsum);
}
