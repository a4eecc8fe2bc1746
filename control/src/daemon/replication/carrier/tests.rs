use dataplane::limits::DATAGRAM_STOCK;
use dataplane::replicate::config::{PeerConfig, ReplicatorConfig, Transport};
use dataplane::replicate::desk::{Datagram, WorkerPeers, desk};
use dataplane::replicate::envelope::pack;
use dataplane::replicate::exchange::Addresses;
use dataplane::replicate::frame::BootId;
use dataplane::replicate::record::{FlowKey, Record, Stage};
use dataplane::replicate::replicator::Replicator;
use dataplane::replicate::{Audience, FromPeers, ToPeers};
use dataplane::wire::address::Address;

use super::*;
use crate::daemon::replication::report;
use crate::profile::{Peer, Replication, Share};

const UDP_PORT: u16 = 49_790;

fn address(number: u8) -> Address {
    Address::from_v4([10, 9, 0, number])
}

/// One guard: its carrier, and what stands for its worker.
struct Guard {
    number: u8,
    now_ms: u64,
    carrier: Carrier,
    worker: WorkerPeers,
    /// What its worker has for the next arrival, as it came from the network.
    #[expect(clippy::vec_box, reason = "the boxes go through the rings")]
    stock: Vec<Box<Datagram>>,
    heard: Vec<FromPeers>,
    /// Packets that it has sent.
    sent: Vec<Vec<u8>>,
}

impl Guard {
    fn new(number: u8, others: &[u8], group: Option<Address>, secret: u8) -> Self {
        let boot = BootId {
            started_ms: 1_700_000_000_000,
            random: number.into(),
        };
        let mut config = ReplicatorConfig::new(PeerId(number), boot);
        config.peers = others
            .iter()
            .map(|&other| PeerConfig {
                id: PeerId(other),
                address: group.is_none().then(|| address(other)),
            })
            .collect();
        config.transport = match group {
            Some(_) => Transport::Group,
            None => Transport::PointToPoint,
        };
        config.keys = vec![key(secret, 0)];
        config.table_places = 1_024;
        let known = config.peers.iter();
        let addresses = Addresses {
            own: vec![address(number)],
            peers: known
                .filter_map(|peer| Some((peer.id, peer.address?)))
                .collect(),
            udp_port: UDP_PORT,
            group,
        };
        let (control, worker) = desk();
        let replicator = Replicator::new(config, time(0));
        Self {
            number,
            now_ms: 0,
            carrier: Carrier::new(
                Exchange::new(replicator, vec![control], addresses),
                Arc::default(),
            ),
            worker,
            stock: (0..DATAGRAM_STOCK).map(|_| Datagram::empty()).collect(),
            heard: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// A turn of the carrier, and what a worker does: it sends, gives back, and answers.
    fn turn(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.carrier.turn(time(now_ms));
        while let Ok(mut datagram) = self.worker.departing.pop() {
            if !datagram.bytes().is_empty() {
                self.sent.push(datagram.bytes().to_vec());
            }
            datagram.set_len(0);
            if self.stock.len() < DATAGRAM_STOCK {
                self.stock.push(datagram);
            } else {
                assert!(self.worker.arrived.push(datagram).is_ok());
            }
        }
        while let Ok(news) = self.worker.news.pop() {
            if let FromPeers::Page(page) = news {
                let end = ToPeers::PageEnd {
                    peer: page.peer,
                    request: page.request,
                    next: None,
                };
                assert!(self.worker.records.push(end).is_ok());
            }
            self.heard.push(news);
        }
    }

    fn arrive(&mut self, packet: &[u8]) {
        if let Some(mut datagram) = self.stock.pop() {
            assert!(datagram.set(packet));
            assert!(self.worker.arrived.push(datagram).is_ok());
        }
    }

    fn report(&self) -> crate::report::Peers {
        self.report_at(self.now_ms, false)
    }

    fn report_at(&self, now_ms: u64, is_draining: bool) -> crate::report::Peers {
        let with = Replication {
            port: 0,
            address: address(self.number).into(),
            own: self.number,
            peers: vec![Peer {
                number: 3 - self.number,
                address: None,
            }],
            group: None,
            udp_port: UDP_PORT,
            keys: "k".into(),
            share: Share::Established,
            deferred_after_ms: 1,
            deferred_after_bytes: 1,
            hello_ms: 50,
            dead_ms: 300,
            hold_ms: 20,
        };
        let now_ns = time(now_ms).now_ns;
        report(&self.carrier.visible, &with, &[], now_ns, is_draining)
    }

    fn state(&self) -> String {
        self.report().peers[0].state.clone()
    }

    fn count(&self, name: &str) -> u64 {
        let report = self.report();
        let row = report.counters.iter().find(|row| row.name == name);
        row.unwrap_or_else(|| panic!("no {name}")).count
    }
}

fn key(secret: u8, not_before_s: u64) -> ReplicationKey {
    ReplicationKey {
        not_before_s,
        secret: [secret; 32],
    }
}

fn time(now_ms: u64) -> Time {
    Time {
        now_ns: 1_000_000_000 + now_ms * 1_000_000,
        unix_ms: 1_700_000_001_000 + now_ms,
    }
}

/// Lets both live for a while, with a wire between them.
fn live(guards: &mut [Guard; 2], from_ms: u64, to_ms: u64) {
    for now_ms in from_ms..to_ms {
        let [one, other] = guards;
        one.turn(now_ms);
        other.turn(now_ms);
        for packet in one.sent.drain(..) {
            other.arrive(&packet);
        }
        for packet in other.sent.drain(..) {
            one.arrive(&packet);
        }
    }
}

fn pair(group: Option<Address>) -> [Guard; 2] {
    [Guard::new(1, &[2], group, 7), Guard::new(2, &[1], group, 7)]
}

fn record(port: u16) -> Record {
    Record {
        key: FlowKey {
            client: Address::from_v4([198, 51, 100, 7]),
            server: Address::from_v4([10, 0, 0, 10]),
            client_port: port,
            server_port: 80,
        },
        stage: Stage::Established,
        incarnation: 1,
        ..Record::default()
    }
}

#[test]
fn two_guards_come_in_step_and_share_what_their_workers_say() {
    for group in [None, Some(Address::from_v4([239, 1, 2, 3]))] {
        let mut guards = pair(group);
        live(&mut guards, 0, 3_000);
        assert_eq!([guards[0].state(), guards[1].state()], ["in step"; 2]);
        assert!(guards[0].report().in_step);
        for port in 1..=3_000 {
            let told = ToPeers::Record(record(port), Audience::All);
            assert!(guards[0].worker.records.push(told).is_ok());
        }
        let mut rates = [0.0_f64; 2];
        for now_ms in (3_000..4_500).step_by(100) {
            live(&mut guards, now_ms, now_ms + 100);
            rates[0] = rates[0].max(guards[0].report().sent_per_second);
            rates[1] = rates[1].max(guards[1].report().peers[0].received_per_second);
        }
        assert!(rates.iter().all(|&rate| rate > 0.0), "{rates:?}");
        let heard = guards[1].heard.iter().filter_map(|news| match news {
            FromPeers::Record(record, PeerId(1)) => Some(record.key.client_port),
            _ => None,
        });
        let mut ports: Vec<u16> = heard.collect();
        ports.sort_unstable();
        assert_eq!(ports, (1..=3_000).collect::<Vec<_>>());
        let report = guards[1].report();
        assert_eq!(report.peers[0].records_received, 3_000);
        // A worker that was given all its datagrams back can be told more.
        assert_eq!(guards[0].stock.len(), DATAGRAM_STOCK);
    }
}

#[test]
fn one_that_is_silent_is_dead_and_one_that_leaves_has_left() {
    // CASES 17
    let mut guards = pair(None);
    live(&mut guards, 0, 3_000);
    for now_ms in 3_000..3_500 {
        guards[0].turn(now_ms);
        guards[0].sent.clear();
    }
    assert_eq!(guards[0].state(), "dead");
    live(&mut guards, 3_500, 7_000);
    assert_eq!([guards[0].state(), guards[1].state()], ["in step"; 2]);
    guards[1].carrier.leave();
    live(&mut guards, 7_000, 7_100);
    assert_eq!(guards[0].state(), "left");
    assert!(guards[1].carrier.has_left());
}

#[test]
fn a_guard_shows_how_it_stands_among_the_others() {
    let mut guards = pair(None);
    live(&mut guards, 0, 3_000);
    let shown = |guard: &Guard| {
        let report = guard.report();
        assert!(!report.meaning.is_empty());
        (report.standing, report.may_carry, report.in_step)
    };
    for guard in &guards {
        assert_eq!(shown(guard), ("in step".into(), true, true));
    }
    for guard in &mut guards {
        for now_ms in 3_000..3_500 {
            guard.turn(now_ms);
            guard.sent.clear();
        }
    }
    assert_eq!(shown(&guards[0]), ("degraded".into(), true, false));
    assert_eq!(shown(&guards[1]), ("cut off".into(), false, false));
    live(&mut guards, 3_500, 7_000);
    for guard in &guards {
        assert_eq!(shown(guard), ("in step".into(), true, true));
        let stalled = guard.report_at(guard.now_ms + 1_100, false);
        assert_eq!((&*stalled.standing, stalled.may_carry), ("stalled", false));
        let leaving = guard.report_at(guard.now_ms, true);
        assert_eq!((&*leaving.standing, leaving.may_carry), ("leaving", false));
    }
}

#[test]
fn other_keys_are_refused_until_both_have_them() {
    // CASES 14
    let mut guards = [Guard::new(1, &[2], None, 7), Guard::new(2, &[1], None, 8)];
    live(&mut guards, 0, 2_000);
    assert_eq!([guards[0].state(), guards[1].state()], ["joining"; 2]);
    assert!(guards[0].count("refused_check") > 0);
    guards[1].carrier.set_keys(time(2_000), &[key(7, 0)]);
    live(&mut guards, 2_000, 5_000);
    assert_eq!([guards[0].state(), guards[1].state()], ["in step"; 2]);
    // A newer key comes to one after the other, while both still know the older one.
    let both = [key(7, 0), key(9, 1_700_000_010)];
    guards[0].carrier.set_keys(time(5_000), &both);
    live(&mut guards, 5_000, 7_000);
    guards[1].carrier.set_keys(time(7_000), &both);
    live(&mut guards, 7_000, 12_000);
    assert_eq!([guards[0].state(), guards[1].state()], ["in step"; 2]);
    assert_eq!(guards[0].report().peers[0].resyncs, 1);
}

#[test]
fn a_flood_is_counted_and_changes_nothing() {
    // CASES 14
    let mut guards = pair(None);
    live(&mut guards, 0, 3_000);
    let mut forged = Datagram::empty();
    let fill = |room: &mut [u8]| {
        room[..200].fill(1);
        Some(200)
    };
    assert!(pack(&mut forged, address(2), address(1), UDP_PORT, fill));
    let mut damaged = forged.bytes().to_vec();
    damaged[60] ^= 1;
    let heard = guards[0].heard.len();
    for now_ms in 3_000..4_000 {
        for _ in 0..40 {
            guards[0].arrive(forged.bytes());
            guards[0].arrive(&damaged);
        }
        live(&mut guards, now_ms, now_ms + 1);
    }
    live(&mut guards, 4_000, 4_200);
    assert_eq!(guards[0].count("malformed"), 40_000);
    let refused: u64 = guards[0]
        .report()
        .counters
        .iter()
        .filter(|row| row.name.starts_with("refused_"))
        .map(|row| row.count)
        .sum();
    assert_eq!(refused, 40_000);
    assert_eq!([guards[0].state(), guards[1].state()], ["in step"; 2]);
    assert_eq!(guards[0].heard.len(), heard);
}
