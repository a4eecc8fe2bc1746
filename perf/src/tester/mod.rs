//! A tester beside the device under test: sends over one device what it expects back over the
//! other, and counts.
//!
//! Start one [`Engine`] for the process, open a [`Tester`] for each [`Wiring`], and offer it loads:
//! it is a [`Trial`]. Frames bear a signature at their end, by which the other side knows them
//! again whatever carried them. A tester sends by its two devices only, and only during
//! [`Tester::open`] (questions for stations) and [`Trial::run`].

mod checks;
mod devices;
mod frames;
mod generator;
mod joints;
mod lane;
mod pace;
mod plan;
mod receiver;
mod room;
mod sequence;
mod signature;
mod station;
mod stop;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bindings::Clock;
use bindings::system::Affinity;
use dataplane::wire::address::{Address, Family};
use dataplane::wire::ethernet::MacAddress;

pub(crate) use devices::queues;
pub use devices::{Engine, EngineSettings, Refusal};
pub use joints::Joints;
pub use stop::Stop;

use self::devices::Pair;
use self::generator::{Generator, Sent, Stamp};
use self::lane::{Course, Lane, Queues, Shared};
use self::plan::{Plan, Stations};
use self::receiver::{Received, Receiver};
use self::signature::Key;
use self::station::Station;
use crate::report::disturbance::Watch;
use crate::traffic::Traffic;
use crate::trial::{Disturbance, Load, Outcome, Trial, TrialError};
use crate::wiring::{Side, Wiring};

/// The speed that shares of a line's rate are of, where no device tells one.
const ASSUMED_LINE_BITS_PER_S: f64 = 10e9;
/// The longest trial.
const LONGEST_TRIAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often, and how long, a station is asked for.
const QUESTION_EVERY: Duration = Duration::from_millis(200);
const LONGEST_QUESTION: Duration = Duration::from_secs(4);
/// Before a trial, frames of the one before are waited for until none comes for so long.
const SETTLE: Duration = Duration::from_millis(2);
const LONGEST_SETTLE: Duration = Duration::from_millis(200);

/// What a tester waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For links to come up; those of memif do when the subject connects.
    pub link: Duration,
    /// After such a time without a frame the missing ones are lost: longer than the way takes.
    pub quiet: Duration,
    /// After sending, at the most (RFC 2544 §23 waits for 2 s).
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            link: Duration::from_secs(5),
            quiet: Duration::from_millis(200),
            longest: Duration::from_secs(2),
        }
    }
}

/// What a trial tells beside its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Frames of earlier trials that came during this one.
    pub late: u64,
    /// Of the frames that count as sent, those that found the subject's ring full.
    pub refused: u64,
    /// Frames without a signature, which nobody is meant to know again.
    pub unsigned: u64,
}

/// Two open devices, and the traffic that goes over them.
pub struct Tester {
    lanes: Vec<Lane>,
    wiring: Wiring,
    stations: [Stations; 2],
    traffic: Traffic,
    patience: Patience,
    stop: Stop,
    key: Key,
    trial: u16,
    aside: Aside,
    partial: Option<Outcome>,
    line_bits_per_s: f64,
    pair: Pair,
    pool: bindings::Mempool,
    cores: Vec<usize>,
}

/// Both devices open, with links, and the neighbours' stations known.
pub(crate) struct Sides {
    pair: Pair,
    queues: Vec<Queues>,
    stations: [Stations; 2],
}

impl Sides {
    /// Opens both devices, waits for their links, and asks for the gateways' stations.
    ///
    /// # Errors
    /// When a device is missing, in use, has no link, or a gateway does not answer.
    pub(crate) fn open(
        engine: &Engine,
        wiring: &Wiring,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Self, Refusal> {
        let mut pair = engine.open(wiring, patience.link, stop)?;
        let macs = [pair.ports[0].mac(), pair.ports[1].mac()];
        let sides = [&wiring.outside, &wiring.inside];
        let mut queues = Vec::new();
        for number in 0..devices::queues(&engine.cores) {
            for side in 0..2 {
                queues.push(take_queues(
                    &mut pair,
                    side,
                    number,
                    sides[side],
                    macs[side],
                )?);
            }
        }
        let names = [pair.name(0).to_owned(), pair.name(1).to_owned()];
        let mut stations = Vec::new();
        for side in 0..2 {
            let mut found = [MacAddress(macs[1 - side]); 2];
            for (family, station) in [Family::V4, Family::V6].into_iter().zip(&mut found) {
                if let Some(given) = sides[side].station {
                    *station = MacAddress(given);
                } else if let Some(gateway) = gateway(sides[side], family) {
                    *station = ask(&mut queues, side, gateway, &names[side], &engine.pool, stop)?;
                }
            }
            stations.push(Stations {
                own: MacAddress(macs[side]),
                ipv4: found[0],
                ipv6: found[1],
            });
        }
        Ok(Self {
            stations: [stations[0], stations[1]],
            pair,
            queues,
        })
    }
}

impl Tester {
    /// Opens both devices, waits for their links, and asks for the gateways' stations.
    ///
    /// # Errors
    /// When a device is missing, in use, has no link, or a gateway does not answer; or the traffic
    /// cannot be sent.
    pub fn open(
        engine: &Engine,
        wiring: &Wiring,
        traffic: Traffic,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Self, Refusal> {
        let sides = [&wiring.outside, &wiring.inside];
        let Sides {
            pair,
            queues,
            stations,
        } = Sides::open(engine, wiring, patience, stop)?;
        room::check(&traffic, rooms(&pair))?;
        let key = Key::random();
        let refuses = [pair.refuses(0), pair.refuses(1)];
        let plan = Plan::new(&traffic, sides, stations, queues.len() / 2)?;
        let mut lanes = Vec::new();
        for (place, queues) in queues.into_iter().enumerate() {
            let (generator, receiver) = halves(&plan, &queues, place / 2, key, refuses)?;
            lanes.push(Lane::new(queues, generator, receiver));
        }
        Ok(Self {
            lanes,
            wiring: wiring.clone(),
            stations,
            traffic,
            patience,
            stop: stop.clone(),
            key,
            trial: 0,
            aside: Aside::default(),
            partial: None,
            line_bits_per_s: pair.line_bits_per_s().unwrap_or(ASSUMED_LINE_BITS_PER_S),
            pair,
            pool: engine.pool.clone(),
            cores: engine.cores.clone(),
        })
    }

    /// Whether the tester's own devices carry such frames.
    ///
    /// # Errors
    /// When they do not: the subject would be blamed for it.
    pub fn has_room_for(&self, traffic: &Traffic) -> Result<(), Refusal> {
        room::check(traffic, rooms(&self.pair))
    }

    /// Sends other traffic from now on.
    ///
    /// # Errors
    /// When it cannot be sent; then the tester is as it was.
    pub fn set_traffic(&mut self, traffic: Traffic) -> Result<(), Refusal> {
        self.has_room_for(&traffic)?;
        let sides = [&self.wiring.outside, &self.wiring.inside];
        let refuses = [self.pair.refuses(0), self.pair.refuses(1)];
        let plan = Plan::new(&traffic, sides, self.stations, self.lanes.len() / 2)?;
        let mut all = Vec::new();
        for (place, lane) in self.lanes.iter().enumerate() {
            all.push(halves(&plan, &lane.queues, place / 2, self.key, refuses)?);
        }
        for (lane, (generator, receiver)) in self.lanes.iter_mut().zip(all) {
            lane.generator = generator;
            lane.receiver = receiver;
        }
        self.traffic = traffic;
        Ok(())
    }

    /// What is sent.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Bits a second of the line: what the devices tell, else 10 Gbit/s.
    #[must_use]
    pub fn line_bits_per_s(&self) -> f64 {
        self.line_bits_per_s
    }

    /// The mean of the traffic's frames as they are built, without check sequence, in octets.
    #[must_use]
    pub fn built_bytes(&self) -> f64 {
        self.traffic.built_bytes(self.line_bits_per_s)
    }

    /// The load that the traffic is by itself.
    #[must_use]
    pub fn own_rate(&self) -> f64 {
        self.traffic.frames_per_s(self.line_bits_per_s)
    }

    /// What the last trial tells beside its outcome.
    #[must_use]
    pub fn aside(&self) -> Aside {
        self.aside
    }

    /// What the trial that was interrupted had come to, once.
    pub fn take_partial(&mut self) -> Option<Outcome> {
        self.partial.take()
    }

    /// Hears what came since the last trial, answers it, and lets frames of that trial run out.
    fn settle(&mut self) {
        let began = Instant::now();
        let mut quiet_since = began;
        while quiet_since.elapsed() < SETTLE && began.elapsed() < LONGEST_SETTLE {
            for lane in &mut self.lanes {
                if lane.queues.clear(&self.pool, |_, _| {}) > 0 {
                    quiet_since = Instant::now();
                }
            }
        }
    }

    /// Runs all lanes, each core's on a thread of its own.
    fn run_lanes(&mut self, course: &Course, shared: &Shared) -> Result<Disturbance, TrialError> {
        let cores = self.cores.len();
        let mut groups: Vec<Vec<&mut Lane>> = (0..cores).map(|_| Vec::new()).collect();
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            groups[place % cores].push(lane);
        }
        let pool = &self.pool;
        let work = |core: usize, mut lanes: Vec<&mut Lane>| {
            let pinned = Affinity::of(&[core]).and_then(|cores| cores.apply());
            let registered = bindings::eal::register_thread();
            let mut watch = Watch::begin(&[core]);
            lane::run(&mut lanes, pool, course, shared, &mut watch);
            pinned.and(registered.map(drop)).map(|()| watch.end())
        };
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (lanes, core) in groups.into_iter().zip(self.cores.iter().copied()) {
                let thread = thread::Builder::new().name(format!("tester-{core}"));
                threads.push(thread.spawn_scoped(scope, move || work(core, lanes)));
            }
            let are_all = threads.iter().all(Result::is_ok);
            while are_all && shared.ready.load(Ordering::Acquire) < threads.len() {
                thread::yield_now();
            }
            // By this the cores begin, or end.
            let _ = shared.clock.set(are_all.then(Clock::start));
            let mut all = Disturbance::default();
            for thread in threads {
                let thread = thread.map_err(|error| failed(format!("a thread: {error}")))?;
                let seen = thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all = all.and(seen.map_err(|error| failed(error.to_string()))?);
            }
            Ok(all)
        })
    }

    /// What came of all lanes together.
    fn gather(&mut self, load: Load, disturbance: Disturbance) -> Outcome {
        let mut received = Received::new();
        let mut all = Sent::default();
        let (mut unsent, mut foreign) = (0, 0);
        for lane in &mut self.lanes {
            received.merge(&lane.receiver.received);
            foreign += lane.queues.foreign;
            let (sent, late) = lane.sent.take().unwrap_or_default();
            unsent += late;
            all.merge(sent);
        }
        self.aside = Aside {
            late: received.counts.late,
            refused: all.refused,
            unsigned: all.unsigned,
        };
        Outcome {
            load,
            sent: (all.taken + all.refused).saturating_sub(all.unsigned),
            unsent,
            received: received.counts.once,
            duplicated: received.counts.duplicated,
            reordered: received.counts.reordered,
            corrupted: received.counts.corrupted,
            foreign,
            frame_bytes: self.traffic.built_bytes(self.line_bits_per_s),
            sending: Duration::from_nanos(all.last_ns.saturating_sub(all.first_ns.unwrap_or(0))),
            jitter_ns: received.jitter_ns(),
            latency_ns: received.latency_ns,
            disturbance,
        }
    }

    /// What makes an outcome none.
    fn judge(&self) -> Result<(), TrialError> {
        for lane in &self.lanes {
            if lane.receiver.received.counts.returned > 0 {
                return Err(failed(format!(
                    "frames that were sent by {0} came back on {0}: there is a loop-back at its \
                     other end; put the subject between the two devices",
                    self.pair.name(lane.queues.side)
                )));
            }
        }
        for side in 0..2 {
            if !self.pair.has_link(side) {
                return Err(failed(format!(
                    "{} lost its link during the trial: did the subject end?",
                    self.pair.name(side)
                )));
            }
        }
        Ok(())
    }
}

impl Trial for Tester {
    fn run(&mut self, load: Load) -> Result<Outcome, TrialError> {
        let own_rate = self.own_rate();
        let is_sane = load.frames_per_s > 0.0 && load.frames_per_s.is_finite();
        if !is_sane || load.duration.is_zero() || load.duration > LONGEST_TRIAL {
            return Err(failed(format!(
                "{} frames/s for {:?} is no load",
                load.frames_per_s, load.duration
            )));
        }
        self.partial = None;
        if self.stop.is_raised() {
            return Err(TrialError::Interrupted);
        }
        self.settle();
        self.trial = self.trial.wrapping_add(1);
        let shared = Shared::default();
        for lane in &mut self.lanes {
            let factor = load.frames_per_s / own_rate;
            let line = self.line_bits_per_s;
            lane.generator
                .begin(self.trial, factor, line, load.duration);
            lane.receiver.begin(self.trial);
            lane.begin();
            shared.sending[lane.queues.side].fetch_add(1, Ordering::Relaxed);
        }
        let course = Course {
            sending_ns: load.duration.as_nanos() as u64,
            quiet_ns: self.patience.quiet.as_nanos() as u64,
            longest_wait_ns: self.patience.longest.as_nanos() as u64,
            stop: self.stop.clone(),
        };
        let disturbance = self.run_lanes(&course, &shared)?;
        let outcome = self.gather(load, disturbance);
        self.judge()?;
        if self.stop.is_raised() {
            self.partial = Some(outcome);
            return Err(TrialError::Interrupted);
        }
        Ok(outcome)
    }

    fn overhead(&self) -> Duration {
        SETTLE + self.patience.quiet
    }
}

/// What the devices carry.
fn rooms(pair: &Pair) -> [room::Room<'_>; 2] {
    [0, 1].map(|side| room::Room {
        name: pair.name(side),
        mtu_bytes: pair.mtu_bytes(side),
    })
}

fn failed(what: impl Into<String>) -> TrialError {
    TrialError::Failed(what.into())
}

/// A queue pair of a side's device.
fn take_queues(
    pair: &mut Pair,
    side: usize,
    number: usize,
    of: &Side,
    mac: [u8; 6],
) -> Result<Queues, Refusal> {
    let name = pair.name(side).to_owned();
    let port = &mut pair.ports[side];
    let (receive, transmit) = (
        port.take_rx_queue(number as u16),
        port.take_tx_queue(number as u16),
    );
    let (Some(receive), Some(transmit)) = (receive, transmit) else {
        return Err(Refusal::new(
            format!("{name} has {number} queue pairs"),
            format!("use {} cores, or give it more queues", (2 * number).max(1)),
        ));
    };
    Ok(Queues {
        side,
        receive,
        transmit,
        station: Station::new(of, mac),
        foreign: 0,
    })
}

/// The halves of the lane with this number on its side.
fn halves(
    plan: &Plan<'_>,
    queues: &Queues,
    number: usize,
    key: Key,
    refuses: [bool; 2],
) -> Result<(Generator, Receiver), Refusal> {
    let side = queues.side;
    let stamp = Stamp { key, trial: 0 };
    let generator = Generator::new(plan.lines(side, number), stamp, refuses[side]);
    let (known, flows) = plan.known_from(1 - side);
    let sequences = Plan::sequences(flows)?;
    let receiver = Receiver::new(key, side == 0, known, plan.sizes_of(side), sequences);
    Ok((generator, receiver))
}

/// The subject's address of this family on a side.
fn gateway(side: &Side, family: Family) -> Option<IpAddr> {
    let is_wanted = |gateway: &&IpAddr| Address::from(**gateway).family() == family;
    side.gateways.iter().find(is_wanted).copied()
}

/// Asks for a gateway's station, and answers what is asked meanwhile on both sides.
fn ask(
    queues: &mut [Queues],
    side: usize,
    gateway: IpAddr,
    device: &str,
    pool: &bindings::Mempool,
    stop: &Stop,
) -> Result<MacAddress, Refusal> {
    let Some(question) = queues[side].station.question(gateway) else {
        return Err(Refusal::new(
            format!("{device} has no address of the family of {gateway} to ask from"),
            "give it one on the gateway's link",
        ));
    };
    let began = Instant::now();
    let mut asked: Option<Instant> = None;
    while began.elapsed() < LONGEST_QUESTION && !stop.is_raised() {
        if asked.is_none_or(|asked| asked.elapsed() > QUESTION_EVERY) {
            queues[side].say(&question, pool);
            asked = Some(Instant::now());
        }
        let mut found = None;
        for queue in queues.iter_mut() {
            let is_there = queue.side == side;
            queue.clear(pool, |address, station| {
                if is_there && address == Address::from(gateway) {
                    found = Some(station);
                }
            });
        }
        if let Some(station) = found {
            return Ok(station);
        }
        thread::sleep(Duration::from_micros(200));
    }
    Err(Refusal::new(
        format!("nobody answers for {gateway} on {device}"),
        "correct the gateway, or give its station address by `--tx-station` or `--rx-station`",
    ))
}
