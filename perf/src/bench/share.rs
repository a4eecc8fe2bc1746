//! What it costs to share sessions with another guard. Two guards and what talks between them run
//! in one thread, one after the other: so the figures tell work, and no waiting for each other.

use std::error::Error;

use bindings::clock;
use dataplane::guard::config::{Mode, Sharing};
use dataplane::replicate::config::{PeerConfig, ReplicatorConfig};
use dataplane::replicate::frame::BootId;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::replicator::Replicator;
use dataplane::replicate::{FromPeers, PeerId};
use dataplane::wire::address::Address;

use super::rig::Rig;
use super::{Bench, Kind, Random, progress, put};
use crate::report::{Measured, median};

const OVERHEAD: &str = "share.overhead";
const SETUPS: &str = "share.setups";
const LAG: &str = "share.lag";
const RESYNC: &str = "share.resync_1m";
const RECORD_BYTES: &str = "share.record_bytes";
/// Every scenario of this file.
pub(super) const ALL: [&str; 5] = [OVERHEAD, SETUPS, LAG, RESYNC, RECORD_BYTES];

/// Sessions of the comparison with and without sharing.
const SESSIONS: u32 = 100_000;
/// Of them, opened before the peer is told: their records fit the ring.
const OPENED_AT_ONCE: usize = 1_000;
/// Sessions that are opened one by one to see how soon the other guard knows.
const LAGS: u32 = 5_000;
const RESYNCED: u32 = 1_000_000;
/// With sharing on, against off.
const OVERHEAD_GOAL: f64 = 1.03;
/// Turns in which two guards have come to know each other, or never will.
const PATIENCE: u32 = 1_000_000;

/// A guard and what talks to its peer.
struct Side {
    rig: Rig,
    replicator: Replicator,
    address: Address,
    /// Nanoseconds of work of what talks to the peer.
    talk_cycles: u64,
    payload_bytes: u64,
}

impl Side {
    fn new(bench: &Bench<'_>, number: u8, capacity: u32) -> Result<Self, Box<dyn Error>> {
        let sharing = Some(Sharing::default());
        let rig = Rig::with(&bench.eal, &bench.pool, capacity, Mode::Always, sharing)?;
        let boot = BootId {
            started_ms: rig.time().unix_ms,
            random: u64::from(number),
        };
        let address = |number: u8| Address::from_v4([10, 9, 0, number]);
        let other = 3 - number;
        let mut config = ReplicatorConfig::new(PeerId(number), boot);
        config.peers = vec![PeerConfig {
            id: PeerId(other),
            address: Some(address(other)),
        }];
        config.keys = vec![ReplicationKey {
            not_before_s: 0,
            secret: [7; 32],
        }];
        config.table_places = capacity;
        Ok(Self {
            replicator: Replicator::new(config, rig.time()),
            rig,
            address: address(number),
            talk_cycles: 0,
            payload_bytes: 0,
        })
    }

    fn live(&self) -> usize {
        self.rig.worker.guard().status().live
    }

    /// Takes what the worker says, and gives it what is new.
    fn talk(&mut self) {
        let time = self.rig.time();
        let start = clock::cycles();
        let Some(desk) = &mut self.rig.peers else {
            return;
        };
        while let Ok(message) = desk.records.pop() {
            self.replicator.take(time, 0, message);
        }
        self.replicator.tick(time);
        while !desk.news.is_full()
            && let Some((_, news)) = self.replicator.next_news()
        {
            // There was room, and nobody else fills the ring.
            let _ = desk.news.push(news);
        }
        self.talk_cycles += clock::cycles() - start;
    }

    /// Carries all that is to be sent to the other guard.
    fn send_to(&mut self, other: &mut Self) {
        let mut payload = [0; dataplane::limits::DATAGRAM_BYTES];
        let source = (self.address, 4790);
        loop {
            let start = clock::cycles();
            let next = self.replicator.next_datagram(&mut payload);
            self.talk_cycles += clock::cycles() - start;
            let Some((_, length)) = next else {
                return;
            };
            self.payload_bytes += length as u64;
            let start = clock::cycles();
            let time = other.rig.time();
            other.replicator.receive(time, source, &payload[..length]);
            other.talk_cycles += clock::cycles() - start;
        }
    }
}

/// One turn of everything.
fn turn(sides: &mut [Side; 2]) {
    let [first, second] = sides;
    first.rig.poll();
    first.talk();
    first.send_to(second);
    second.talk();
    second.rig.poll();
    second.talk();
    second.send_to(first);
    first.talk();
}

fn turn_until(
    sides: &mut [Side; 2],
    what: &str,
    mut is_so: impl FnMut(&[Side; 2]) -> bool,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..PATIENCE {
        if is_so(sides) {
            return Ok(());
        }
        turn(sides);
    }
    Err(format!("two guards did not {what}").into())
}

fn in_step(sides: &[Side; 2]) -> bool {
    sides
        .iter()
        .all(|side| side.replicator.is_in_step() && side.rig.worker.guard().peers() == 1)
}

fn seconds(cycles: u64) -> f64 {
    cycles as f64 / clock::cycles_per_second() as f64
}

impl Bench<'_> {
    /// The scenarios of sharing that are wanted.
    pub(super) fn share(&self) -> Result<Vec<Measured>, Box<dyn Error>> {
        let mut all = Vec::new();
        if self.wants(OVERHEAD) {
            all.push(self.share_overhead()?);
        }
        if self.wants(SETUPS) || self.wants(RECORD_BYTES) {
            all.extend(self.share_setups()?);
        }
        if self.wants(LAG) {
            all.push(self.share_lag()?);
        }
        if self.wants(RESYNC) {
            all.push(self.share_resync()?);
        }
        all.retain(|measured| self.wants(&measured.scenario));
        Ok(all)
    }

    /// A worker with so many open sessions. Where they are shared, nobody asks what it tells.
    pub(super) fn opened(
        &self,
        sessions: u32,
        sharing: Option<Sharing>,
    ) -> Result<Rig, Box<dyn Error>> {
        let mut rig = Rig::with(&self.eal, &self.pool, sessions, Mode::Always, sharing)?;
        if let Some(desk) = &mut rig.peers {
            desk.news
                .push(FromPeers::Peers(1))
                .map_err(|_| "a ring without room")?;
        }
        rig.open(0, sessions, &mut |rig| {
            while rig.poll() > 0 {}
            if let Some(desk) = &mut rig.peers {
                while desk.records.pop().is_ok() {}
            }
        });
        Ok(rig)
    }

    /// Spliced packets with sharing on, against the same with sharing off.
    fn share_overhead(&self) -> Result<Measured, Box<dyn Error>> {
        let kind = Kind::Splice(SESSIONS);
        let mut rigs = [
            self.opened(SESSIONS, None)?,
            self.opened(SESSIONS, Some(Sharing::default()))?,
        ];
        let mut random = Random(0x1234_5678_9abc_def1);
        let mut costs: [Vec<f64>; 2] = Default::default();
        for _ in 0..=self.arguments.rounds {
            for (rig, costs) in rigs.iter_mut().zip(&mut costs) {
                costs.push(self.round(|| {
                    let frames = self.batch(kind, rig, &mut random);
                    let before = progress(kind, rig);
                    let count = put(&mut rig.peer, frames);
                    let start = clock::cycles();
                    while rig.poll() > 0 {}
                    let cycles = clock::cycles() - start;
                    rig.discard();
                    let is_right = progress(kind, rig) - before == count as u64;
                    (cycles, count, is_right)
                })?);
            }
        }
        let [off, on] = costs;
        let off_ns = median(&off[1..]);
        Ok(Measured::new(
            OVERHEAD,
            "ns_per_packet",
            &on[1..],
            off_ns,
            OVERHEAD_GOAL,
        ))
    }

    /// Two guards in step.
    fn pair(&self, capacity: u32) -> Result<[Side; 2], Box<dyn Error>> {
        let mut sides = [Side::new(self, 1, capacity)?, Side::new(self, 2, capacity)?];
        turn_until(&mut sides, "come into step", in_step)?;
        Ok(sides)
    }

    /// Sessions a second that the thread which talks to the peers can tell, and that its
    /// counterpart can hear; and octets of UDP payload for each of their records.
    fn share_setups(&self) -> Result<[Measured; 2], Box<dyn Error>> {
        let (mut rates, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..self.arguments.rounds {
            let [mut first, mut second] = self.pair(SESSIONS)?;
            (first.talk_cycles, second.talk_cycles) = (0, 0);
            let before_bytes = first.payload_bytes;
            for from in (0..SESSIONS).step_by(OPENED_AT_ONCE) {
                let to = from + OPENED_AT_ONCE as u32;
                first.rig.open(from, to, &mut |rig| while rig.poll() > 0 {});
                first.talk();
                first.send_to(&mut second);
                second.talk();
                while second.rig.poll() > 0 {}
            }
            let told = second.live();
            if told != SESSIONS as usize {
                return Err(format!("{told} of {SESSIONS} sessions were shared").into());
            }
            let slower = first.talk_cycles.max(second.talk_cycles);
            rates.push(told as f64 / seconds(slower));
            let records = 2 * told;
            bytes.push((first.payload_bytes - before_bytes) as f64 / records as f64);
        }
        Ok([
            Measured::alone(SETUPS, "sessions_per_second", &rates),
            Measured::alone(RECORD_BYTES, "bytes", &bytes),
        ])
    }

    /// From the server's answer at one guard to the session at the other, without the time that
    /// threads wait for each other.
    fn share_lag(&self) -> Result<Measured, Box<dyn Error>> {
        let mut sides = self.pair(LAGS)?;
        let mut lags = Vec::new();
        for number in 0..LAGS {
            let mut exchange = 0;
            let mut began = 0;
            sides[0].rig.open(number, number + 1, &mut |rig| {
                exchange += 1;
                if exchange == 3 {
                    began = clock::cycles();
                }
                while rig.poll() > 0 {}
            });
            turn_until(&mut sides, "share a session", |sides| {
                let status = sides[1].rig.worker.guard().status();
                status.live as u32 > number && status.opening == 0
            })?;
            lags.push(seconds(clock::cycles() - began) * 1e6);
        }
        lags.sort_by(f64::total_cmp);
        let p99 = lags[lags.len() * 99 / 100];
        Ok(Measured::alone(LAG, "us_p99", &[p99]))
    }

    /// Until a guard that was away has all sessions of the other.
    fn share_resync(&self) -> Result<Measured, Box<dyn Error>> {
        let mut sides = [Side::new(self, 1, RESYNCED)?, Side::new(self, 2, RESYNCED)?];
        sides[0]
            .rig
            .open(0, RESYNCED, &mut |rig| while rig.poll() > 0 {});
        let start = clock::cycles();
        turn_until(&mut sides, "share all sessions", |sides| {
            sides[1].live() == RESYNCED as usize
        })?;
        let spent = seconds(clock::cycles() - start);
        Ok(Measured::alone(RESYNC, "seconds", &[spent]))
    }
}
