//! Random schedules: whatever is lost, late, doubled or out of order, whoever crashes, stalls,
//! leaves or is cut off, in the end all hold the same.

use std::collections::BTreeMap;

use super::rig::{MS, Net, Random, Weather, address_of, flow, record, version};
use crate::replicate::Audience;
use crate::replicate::config::Transport;
use crate::replicate::record::{FlowKey, Stage};

/// Sessions of a schedule.
const FLOWS: u64 = 300;

type Version = (u32, Stage, u32);

struct Storm {
    net: Net,
    random: Random,
    /// Every version of each flow that a guard made.
    made: BTreeMap<FlowKey, Vec<Version>>,
    /// For each guard, what it made in its present life.
    of_life: Vec<BTreeMap<FlowKey, Version>>,
    clock: u32,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let guards = 2 + random.below(4) as usize;
        let transport = if random.chance(30) {
            Transport::Group
        } else {
            Transport::PointToPoint
        };
        let history = [8, 64, 512][random.below(3) as usize];
        let mut net = Net::new(guards, seed ^ 0xa5a5, |config| {
            config.transport = transport;
            config.history_batches = history;
            config.page_places = 64;
        });
        net.weather = Weather {
            loss_percent: random.below(31),
            double_percent: random.below(20),
            delay_ns: 20_000 + random.below(2 * MS),
            jitter_ns: random.below(20 * MS),
            late_percent: random.below(6),
        };
        net.recorded = Some(Vec::new());
        Self {
            net: net.with_all_started(),
            random,
            made: BTreeMap::new(),
            of_life: vec![BTreeMap::new(); guards],
            clock: 1,
        }
    }

    fn any_guard(&mut self) -> usize {
        self.random.below(self.net.guards.len() as u64) as usize
    }

    fn runs(&self, place: usize) -> bool {
        let guard = &self.net.guards[place];
        guard.replicator.is_some() && guard.stalled_until_ns <= self.net.now_ns
    }

    /// A guard opens, moves on or ends some sessions, as it knows them.
    fn work(&mut self, place: usize) {
        if !self.runs(place) {
            return;
        }
        for _ in 0..1 + self.random.below(120) {
            let number = self.random.below(FLOWS) as u32;
            self.clock += 1;
            let next = match self.net.guards[place].get(&flow(number)) {
                Some(known) if known.stage != Stage::Closed => {
                    let ends = self.random.chance(10);
                    let stage = if ends {
                        Stage::Closed
                    } else {
                        Stage::Established
                    };
                    record(number, known.incarnation, stage, self.clock)
                }
                _ => record(number, self.clock, Stage::Opening, self.clock),
            };
            self.made.entry(next.key).or_default().push(version(&next));
            self.of_life[place].insert(next.key, version(&next));
            self.net.say(place, &next, Audience::All);
        }
        self.net.drain(place);
    }

    fn restart(&mut self, place: usize) {
        self.of_life[place].clear();
        self.net.start(place);
    }

    /// Somebody on the wire sends again what he recorded, changed or not, from any address.
    fn attack(&mut self) {
        let recorded = self.net.recorded.as_mut().expect("frames are recorded");
        if recorded.len() > 4_000 {
            recorded.drain(..1_000);
        }
        let recorded = recorded.clone();
        for _ in 0..20 {
            if recorded.is_empty() {
                return;
            }
            let which = self.random.below(recorded.len() as u64) as usize;
            let (from, _, mut frame) = recorded[which].clone();
            if self.random.chance(50) {
                let bit = self.random.below(frame.len() as u64 * 8) as usize;
                frame[bit / 8] ^= 1 << (bit % 8);
            }
            if self.random.chance(10) {
                frame.truncate(self.random.below(frame.len() as u64) as usize);
            }
            let to = self.any_guard();
            self.net.deliver(address_of(from), to, &frame);
        }
    }

    fn step(&mut self) {
        let place = self.any_guard();
        match self.random.below(100) {
            0..55 => self.work(place),
            55..60 => self.net.crash(place),
            60..72 if self.net.guards[place].replicator.is_none() => self.restart(place),
            72..77 => {
                let stall_ns = self.random.below(3_000) * MS;
                self.net.guards[place].stalled_until_ns = self.net.now_ns + stall_ns;
            }
            77..82 => {
                for half in &mut self.net.halves {
                    *half = self.random.below(2) as u8;
                }
            }
            82..88 => self.net.halves.fill(0),
            88..90 if self.runs(place) => {
                self.net.guards[place].peer().leave();
                self.net.drain(place);
                self.net.crash(place);
            }
            _ => self.attack(),
        }
        let pause_ms = if self.random.chance(15) { 1_500 } else { 120 };
        let pause_ns = self.random.below(pause_ms * MS);
        self.net.run_until(self.net.now_ns + pause_ns);
    }

    fn check(&self) -> Result<(), String> {
        self.net.agrees()?;
        for (place, guard) in self.net.guards.iter().enumerate() {
            if guard.replicator.is_none() {
                continue;
            }
            let holds = guard.holds();
            for (key, version) in &holds {
                if !self.made[key].contains(version) {
                    return Err(format!("{place} holds {version:?}, which nobody made"));
                }
            }
            for (other, of_life) in self.of_life.iter().enumerate() {
                if self.net.guards[other].replicator.is_none() {
                    continue;
                }
                let older = of_life
                    .iter()
                    .find(|(key, made)| holds.get(key) < Some(made));
                if let Some((key, made)) = older {
                    return Err(format!(
                        "{place} lacks {key:?} as {other} made it, {made:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn run(seed: u64, steps: u64) {
    let mut storm = Storm::new(seed);
    for _ in 0..steps {
        storm.step();
    }
    storm.net.halves.fill(0);
    for place in 0..storm.net.guards.len() {
        storm.net.guards[place].stalled_until_ns = 0;
        if storm.net.guards[place].replicator.is_none() && storm.random.chance(70) {
            storm.restart(place);
        }
    }
    // With a third of all frames lost, a peer may now and then seem dead for a moment.
    let mut verdict = Err(String::new());
    for _ in 0..120 {
        storm.net.run_ms(500);
        verdict = storm.check();
        if verdict.is_ok() {
            return;
        }
    }
    let weather = storm.net.weather;
    for guard in &storm.net.guards {
        guard.describe();
    }
    panic!(
        "seed {seed}, {} guards, {weather:?}: {verdict:?}",
        storm.net.guards.len()
    );
}

/// How many schedules: more by `TIDEGATE_STORMS`, another first one by `TIDEGATE_STORM_SEED`.
fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn in_the_end_all_hold_the_same() {
    // CASES 14, 15, 17
    let first = number("TIDEGATE_STORM_SEED", 1);
    for seed in first..first + number("TIDEGATE_STORMS", 100) {
        run(seed, 60);
    }
}
