//! The two devices, and the loop that carries frames between them.

use std::error::Error;
use std::time::Duration;

use arrayvec::ArrayVec;
use bindings::system::{Affinity, set_timer_slack_ns};
use bindings::{Clock, Mbuf, Mempool, Port, RxQueue, TxQueue};

use super::Arguments;
use super::line::{Line, LineCounters};
use super::plan::Plan;
use crate::device::dpdk_name;
use crate::tester::{Engine, EngineSettings, Stop};

/// Frames that are taken or given at once.
const BURST: usize = 64;
/// Buffers that stay with the devices and in bursts.
const BUFFERS_BESIDE: u32 = 8_192;
/// The longest rest when nothing is due, in nanoseconds.
const REST_NS: u64 = 50_000;
/// Rests end this much before something is due: waking takes as long.
const WAKING_NS: u64 = 60_000;

/// Octets of an ordinary frame with its check sequence.
const LARGEST_FRAME: usize = 1518;
const STATIONS_BYTES: usize = 12;
const TAG_BYTES: usize = 4;

/// What was carried.
pub(super) struct Carried {
    /// From a to b, and from b to a.
    pub(super) lines: [LineCounters; 2],
    /// For how long.
    pub(super) seconds: f64,
}

/// One end of the link.
struct End {
    // Queues are returned before their port is closed.
    receive: RxQueue,
    transmit: TxQueue,
    /// Frames that the device had no room for.
    leaving: ArrayVec<Mbuf, BURST>,
    /// The tag that frames have here.
    vlan: Option<u16>,
    _port: Port,
}

/// Both ends.
pub(super) struct Carrier {
    ends: [End; 2],
    pool: Mempool,
    _engine: Engine,
}

impl End {
    fn open(engine: &Engine, device: &str, vlan: Option<u16>) -> Result<Self, Box<dyn Error>> {
        let mut port = engine.open_port(device, 1)?;
        let without = || format!("{device} has no queue to receive or send by");
        Ok(Self {
            receive: port.take_rx_queue(0).ok_or_else(without)?,
            transmit: port.take_tx_queue(0).ok_or_else(without)?,
            leaving: ArrayVec::new(),
            vlan,
            _port: port,
        })
    }

    /// Gives what is due on `line` to the device; whether anything went.
    fn give(&mut self, line: &mut Line<Mbuf>, now_ns: u64) -> bool {
        while !self.leaving.is_full()
            && let Some(frame) = line.take(now_ns)
        {
            self.leaving.push(frame);
        }
        !self.leaving.is_empty() && self.transmit.transmit(&mut self.leaving) > 0
    }
}

impl Carrier {
    pub(super) fn open(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let device = |place, text| dpdk_name(place, text, LARGEST_FRAME, 1);
        let names = [device(0, &arguments.a), device(1, &arguments.b)];
        let engine = Engine::start(&EngineSettings {
            devices: names.to_vec(),
            cores: arguments.core.into_iter().collect(),
            extra_buffers: (arguments.frames + BUFFERS_BESIDE) as usize,
            ..EngineSettings::default()
        })?;
        Affinity::of(&engine.cores()[..1])?.apply()?;
        set_timer_slack_ns(1)?;
        Ok(Self {
            ends: [
                End::open(&engine, &names[0], None)?,
                End::open(&engine, &names[1], arguments.b_vlan)?,
            ],
            pool: engine.pool().clone(),
            _engine: engine,
        })
    }

    /// Carries frames until the time is over, or the user wants no more.
    pub(super) fn carry(&mut self, plan: &Plan, arguments: &Arguments, stop: &Stop) -> Carried {
        let mut course = plan.begin();
        let [forward, backward] = course.settings();
        let mut lines = [
            Line::new(forward, arguments.seed),
            Line::new(backward, !arguments.seed),
        ];
        let limit_ns = arguments.seconds * 1_000_000_000;
        let clock = Clock::start();
        let mut now_ns = clock.now_ns();
        while now_ns < limit_ns && !stop.is_raised() {
            if course.advance(now_ns) {
                for (line, settings) in lines.iter_mut().zip(course.settings()) {
                    line.set(settings);
                }
            }
            let mut is_busy = false;
            for from in 0..2 {
                let room =
                    arguments.frames as usize - lines[0].len().min(arguments.frames as usize);
                let room = room.saturating_sub(lines[1].len());
                is_busy |= self.take(from, &mut lines[from], now_ns, room);
            }
            now_ns = clock.now_ns();
            let [forward, backward] = &mut lines;
            let [a, b] = &mut self.ends;
            is_busy |= b.give(forward, now_ns);
            is_busy |= a.give(backward, now_ns);
            if !is_busy {
                let due_ns = lines[0]
                    .next_ns()
                    .min(lines[1].next_ns())
                    .min(course.next_ns());
                rest(due_ns.saturating_sub(now_ns));
            }
            now_ns = clock.now_ns();
        }
        Carried {
            lines: lines.map(|line| line.counters()),
            seconds: now_ns as f64 / 1e9,
        }
    }

    /// Takes a burst of one end's frames; whether there were any.
    fn take(&mut self, from: usize, line: &mut Line<Mbuf>, now_ns: u64, room: usize) -> bool {
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        let (here, there) = (self.ends[from].vlan, self.ends[1 - from].vlan);
        self.ends[from].receive.receive(&mut burst);
        let count = burst.len();
        for (place, mut frame) in burst.into_iter().enumerate() {
            if !retag(&mut frame, here, there) {
                continue;
            }
            let length = frame.len();
            // Of a frame that comes twice, both need room.
            let has_room = 2 * place + 2 <= room;
            line.offer(frame, length, now_ns, has_room, |frame| {
                copy(&self.pool, frame)
            });
        }
        count > 0
    }
}

/// Rests until shortly before something is due.
fn rest(due_ns: u64) {
    if due_ns < WAKING_NS {
        std::hint::spin_loop();
    } else {
        std::thread::sleep(Duration::from_nanos(
            (due_ns - WAKING_NS).clamp(1_000, REST_NS),
        ));
    }
}

fn copy(pool: &Mempool, frame: &Mbuf) -> Option<Mbuf> {
    let mut copy = pool.allocate()?;
    copy.set_data(frame.data()).then_some(copy)
}

/// Brings a frame's tag from what it is at one end to what it is at the other; `false` for one that
/// has not the tag that frames have there.
fn retag(frame: &mut Mbuf, here: Option<u16>, there: Option<u16>) -> bool {
    // The kernel takes a tag out of the frame before a packet socket gets it.
    if let Some(tag) = frame.stripped_vlan() {
        match here {
            Some(vlan) if vlan == tag & 0x0fff => {}
            Some(_) => return false,
            None if !push_tag(frame, tag) => return false,
            None => {}
        }
    } else if let Some(vlan) = here
        && !pop_tag(frame, vlan)
    {
        return false;
    }
    there.is_none_or(|vlan| push_tag(frame, vlan))
}

fn push_tag(frame: &mut Mbuf, tag: u16) -> bool {
    if frame.data().len() < STATIONS_BYTES || !frame.prepend(TAG_BYTES) {
        return false;
    }
    let [high, low] = tag.to_be_bytes();
    let bytes = frame.data_mut();
    bytes.copy_within(TAG_BYTES..TAG_BYTES + STATIONS_BYTES, 0);
    bytes[STATIONS_BYTES..STATIONS_BYTES + TAG_BYTES].copy_from_slice(&[0x81, 0x00, high, low]);
    true
}

fn pop_tag(frame: &mut Mbuf, vlan: u16) -> bool {
    let tag = frame.data().get(STATIONS_BYTES..STATIONS_BYTES + TAG_BYTES);
    let is_ours = tag.is_some_and(|tag| {
        tag[..2] == [0x81, 0x00] && u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff == vlan
    });
    if is_ours {
        frame.data_mut().copy_within(..STATIONS_BYTES, TAG_BYTES);
    }
    is_ours && frame.trim_front(TAG_BYTES)
}
