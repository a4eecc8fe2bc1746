//! One load offered to whatever stands between two ports, and what came of it.
//!
//! The searches ask a [`Trial`] for outcomes and know nothing of ports; what drives ports knows
//! nothing of searches.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What is offered in one trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Frames a second, all flows and both directions together.
    pub frames_per_s: f64,
    /// For how long frames are sent.
    pub duration: Duration,
}

/// What came of one trial.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was asked for.
    pub load: Load,
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that were due and could not be sent in time: the tester's own limit, not a loss.
    pub unsent: u64,
    /// Frames of this trial that came back, each counted once.
    pub received: u64,
    /// Frames that came once more.
    pub duplicated: u64,
    /// Frames that came after a later one of their flow.
    pub reordered: u64,
    /// Frames of this trial that came with other contents than they were sent with.
    pub corrupted: u64,
    /// Frames that this trial did not send.
    pub foreign: u64,
    /// Octets of one frame, without preamble, gap and check sequence; the mean of a mix.
    pub frame_bytes: f64,
    /// The time between the first frame sent and the last.
    pub sending: Duration,
    /// The times on the way, in nanoseconds, of the frames that carry a time.
    pub latency_ns: Histogram<u64>,
    /// The mean difference between the times on the way of two frames that follow each other in a
    /// flow, in nanoseconds (RFC 4689 §3.2.5 without its sign).
    pub jitter_ns: f64,
    /// What disturbed the tester meanwhile.
    pub disturbance: Disturbance,
}

/// What the machine took from the tester during a measurement.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Disturbance {
    /// The share of the cores' time that the hypervisor gave to others, from 0 to 1.
    pub steal: f64,
    /// How often the tester's loop stood still for longer than 100 µs.
    pub stalls: u64,
    /// The longest time that it stood still, in microseconds.
    pub longest_stall_us: f64,
}

/// Why an outcome says nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Implausible {
    /// Nothing was sent.
    #[error("no frame was sent: is the link up, and does the sending port take frames?")]
    NothingSent,
    /// More came than was sent.
    #[error(
        "{received} frames came of {sent} that were sent: something repeats them; look for a \
         loop between the two devices"
    )]
    MoreThanSent {
        /// Frames sent.
        sent: u64,
        /// Frames received.
        received: u64,
    },
    /// The tester could not offer the load.
    #[error(
        "the tester sent {sent} frames and was {unsent} short of the load: this measures the \
         tester; offer less, or give it more cores"
    )]
    Unsent {
        /// Frames sent.
        sent: u64,
        /// Frames that were due and not sent.
        unsent: u64,
    },
}

/// The share of a load that may stay unsent.
const UNSENT_TOLERANCE: f64 = 0.005;

impl Outcome {
    /// The share of frames that were sent and did not come, from 0 to 1.
    ///
    /// # Errors
    /// When the counts cannot be true, or say something of the tester only.
    pub fn loss(&self) -> Result<f64, Implausible> {
        let (sent, received, unsent) = (self.sent, self.received, self.unsent);
        if sent == 0 {
            return Err(Implausible::NothingSent);
        }
        if received > sent {
            return Err(Implausible::MoreThanSent { sent, received });
        }
        if unsent as f64 > UNSENT_TOLERANCE * (sent + unsent) as f64 {
            return Err(Implausible::Unsent { sent, unsent });
        }
        Ok((sent - received) as f64 / sent as f64)
    }

    /// Frames a second that were really sent.
    #[must_use]
    pub fn sent_per_s(&self) -> f64 {
        self.sent as f64 / self.sending.as_secs_f64()
    }
}

/// Something that can be offered a load.
pub trait Trial {
    /// Offers the load and waits for what is still on its way.
    ///
    /// # Errors
    /// When ports fail, or the user has interrupted.
    fn run(&mut self, load: Load) -> Result<Outcome, TrialError>;

    /// How long a trial takes besides sending: to settle before, and to wait for what is on its
    /// way. Searches count it against their time.
    fn overhead(&self) -> Duration {
        Duration::ZERO
    }
}

/// Why a trial did not end.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The user wants no more; what was measured so far is kept.
    #[error("interrupted")]
    Interrupted,
    /// A port or the subject failed.
    #[error("{0}")]
    Failed(String),
}
