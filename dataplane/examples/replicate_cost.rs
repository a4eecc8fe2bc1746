//! Measures what one thread between guards can do, records through sealing and through opening:
//! `cargo run --release -p tidegate-dataplane --example replicate_cost [records]`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and prints"
)]

use std::time::Instant;

use dataplane::replicate::config::{MAX_PAYLOAD_BYTES, PeerConfig, ReplicatorConfig};
use dataplane::replicate::frame::BootId;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::record::{FlowKey, Record, Stage};
use dataplane::replicate::replicator::Replicator;
use dataplane::replicate::{Audience, FromPeers, PeerId, ToPeers};
use dataplane::wire::address::Address;
use dataplane::worker::Time;

/// Records taken between two times of sending, as a worker's ring gives them.
const ROUND: usize = 1_024;

fn time(now_ns: u64) -> Time {
    Time {
        now_ns,
        unix_ms: 1_763_673_000_000 + now_ns / 1_000_000,
    }
}

fn guard(id: u8) -> Replicator {
    let boot = BootId {
        started_ms: u64::from(id),
        random: u64::from(id),
    };
    let mut config = ReplicatorConfig::new(PeerId(id), boot);
    config.peers = vec![PeerConfig {
        id: PeerId(3 - id),
        address: None,
    }];
    config.keys = vec![ReplicationKey {
        not_before_s: 1,
        secret: [7; 32],
    }];
    config.workers = 4;
    config.table_places = 1 << 20;
    Replicator::new(config, time(0))
}

/// Gives what `from` has to `to`; how many frames.
fn carry(from: &mut Replicator, to: &mut Replicator, now_ns: u64) -> usize {
    let mut payload = [0; MAX_PAYLOAD_BYTES];
    let source = (Address::from_v4([192, 0, 2, 1]), 9_000);
    let mut frames = 0;
    while let Some((_, length)) = from.next_datagram(&mut payload) {
        to.receive(time(now_ns), source, &payload[..length]);
        frames += 1;
    }
    frames
}

/// Two guards that have met.
fn met() -> (Replicator, Replicator, u64) {
    let (mut first, mut second) = (guard(1), guard(2));
    let mut now_ns = 0;
    while !(first.is_in_step() && second.is_in_step() && now_ns > 2_000_000_000) {
        now_ns += 10_000_000;
        for guard in [&mut first, &mut second] {
            guard.tick(time(now_ns));
            while let Some((worker, news)) = guard.next_news() {
                if let FromPeers::Page(page) = news {
                    let end = ToPeers::PageEnd {
                        peer: page.peer,
                        request: page.request,
                        next: None,
                    };
                    guard.take(time(now_ns), worker, end);
                }
            }
        }
        carry(&mut first, &mut second, now_ns);
        carry(&mut second, &mut first, now_ns);
    }
    (first, second, now_ns)
}

fn record(number: u32) -> Record {
    Record {
        key: FlowKey {
            client: Address::from_v4(number.to_be_bytes()),
            server: Address::from_v4([10, 0, 0, 10]),
            client_port: number as u16,
            server_port: 443,
        },
        stage: Stage::Established,
        incarnation: number,
        ..Record::default()
    }
}

fn main() {
    let records = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let rounds = records.unwrap_or(4_000_000usize) / ROUND;
    let (mut first, mut second, mut now_ns) = met();
    let mut frames = vec![Vec::new(); ROUND];
    let mut payload = [0; MAX_PAYLOAD_BYTES];
    let source = (Address::from_v4([192, 0, 2, 1]), 9_000);
    let (mut sealing_s, mut opening_s, mut applied, mut octets) = (0.0, 0.0, 0usize, 0usize);
    for round in 0..rounds {
        now_ns += 100_000;
        let said: Vec<_> = (0..ROUND)
            .map(|at| record((round * ROUND + at) as u32))
            .collect();
        let begin = Instant::now();
        for (worker, record) in said.iter().enumerate() {
            let message = ToPeers::Record(*record, Audience::All);
            first.take(time(now_ns), worker % 4, message);
        }
        let mut count = 0;
        while let Some((_, length)) = first.next_datagram(&mut payload) {
            frames[count].clear();
            frames[count].extend_from_slice(&payload[..length]);
            octets += length;
            count += 1;
        }
        sealing_s += begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        for frame in &frames[..count] {
            second.receive(time(now_ns), source, frame);
        }
        while let Some((_, news)) = second.next_news() {
            applied += usize::from(matches!(news, FromPeers::Record(..)));
        }
        opening_s += begin.elapsed().as_secs_f64();
        second.tick(time(now_ns));
        carry(&mut second, &mut first, now_ns);
        first.tick(time(now_ns));
    }
    assert_eq!(applied, rounds * ROUND, "every record was applied");
    let millions = applied as f64 / 1e6;
    println!(
        "{applied} records, {:.1} octets each on the wire\n\
         taken and sealed: {:6.1} ns a record, {:5.2} million a second\n\
         opened and given: {:6.1} ns a record, {:5.2} million a second",
        octets as f64 / applied as f64,
        sealing_s * 1e3 / millions,
        millions / sealing_s,
        opening_s * 1e3 / millions,
        millions / opening_s,
    );
}
