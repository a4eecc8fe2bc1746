//! A subject that exists in numbers only, to search in tests.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::trial::{Disturbance, Load, Outcome, Trial, TrialError};

/// Numbers in no order, the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 up to, but without, 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The share of frames that a load loses in this trial.
type Loss = Box<dyn FnMut(Load, &mut Random) -> f64>;

pub(super) struct Simulated {
    pub(super) loss: Loss,
    /// Nanoseconds that every frame takes in the trial of this number.
    pub(super) latency_ns: Box<dyn FnMut(usize) -> u64>,
    /// What the tester can send at most.
    pub(super) testers_limit: f64,
    pub(super) overhead: Duration,
    /// The trial of this number is interrupted.
    pub(super) interrupted_at: Option<usize>,
    /// The share of frames that are not sent, as the tester stands still, in the trial of this
    /// number.
    pub(super) stalled: Box<dyn FnMut(usize) -> f64>,
    /// Frames that come besides those that were sent.
    pub(super) repeated: u64,
    pub(super) random: Random,
    /// What was offered.
    pub(super) loads: Vec<Load>,
    /// And what each lost.
    pub(super) losses: Vec<f64>,
}

impl Simulated {
    pub(super) fn new(seed: u64, loss: impl FnMut(Load, &mut Random) -> f64 + 'static) -> Self {
        Self {
            loss: Box::new(loss),
            latency_ns: Box::new(|_| 10_000),
            testers_limit: f64::INFINITY,
            overhead: Duration::ZERO,
            interrupted_at: None,
            stalled: Box::new(|_| 0.0),
            repeated: 0,
            random: Random::new(seed),
            loads: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// A subject that carries so many frames a second and loses the others.
    pub(super) fn carrying(frames_per_s: f64) -> Self {
        Self::new(1, move |load, _| beyond(load, frames_per_s))
    }
}

/// What is lost of a load by someone who carries so many frames a second.
pub(super) fn beyond(load: Load, carried_frames_per_s: f64) -> f64 {
    (1.0 - carried_frames_per_s / load.frames_per_s).max(0.0)
}

impl Trial for Simulated {
    fn run(&mut self, load: Load) -> Result<Outcome, TrialError> {
        let number = self.loads.len();
        if self.interrupted_at == Some(number) {
            return Err(TrialError::Interrupted);
        }
        self.loads.push(load);
        let due = (load.frames_per_s * load.duration.as_secs_f64())
            .round()
            .max(1.0);
        let stalled = (self.stalled)(number);
        let reached = (self.testers_limit / load.frames_per_s).min(1.0 - stalled);
        let sent = (due * reached).floor();
        let lost = ((self.loss)(load, &mut self.random) * sent)
            .ceil()
            .min(sent);
        self.losses.push(lost / sent);
        let mut latency_ns = Histogram::new(3).unwrap();
        latency_ns.record_n((self.latency_ns)(number), 100).unwrap();
        Ok(Outcome {
            load,
            sent: sent as u64,
            unsent: (due - sent) as u64,
            received: (sent - lost) as u64 + self.repeated,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            foreign: 0,
            frame_bytes: 60.0,
            sending: load.duration,
            latency_ns,
            jitter_ns: 100.0,
            disturbance: Disturbance {
                stalls: u64::from(stalled > 0.0),
                longest_stall_us: stalled * load.duration.as_secs_f64() * 1e6,
                ..Disturbance::default()
            },
        })
    }

    fn overhead(&self) -> Duration {
        self.overhead
    }
}
