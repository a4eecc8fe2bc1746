//! What a subject can do, found by offering it loads: the throughput at chosen loss ratios
//! ([`mlr`]), RFC 2544's measures ([`rfc2544`]), latency at shares of the throughput ([`latency`])
//! and a long run at one load ([`soak`]).
//!
//! Nothing here sends, and nothing here reads a clock: a [`Session`] wraps a [`Trial`] and counts
//! the time that its trials take. So every search ends in the session's time, and what was found
//! until then is told.

pub mod goal;
pub mod latency;
pub mod mlr;
pub mod rfc2544;
#[cfg(test)]
mod simulated;
pub mod slope;
pub mod soak;

use std::time::Duration;

use crate::trial::{Disturbance, Implausible, Load, Outcome, Trial, TrialError};

/// The most trials of a session; with any sensible parameters its time ends before.
const TRIALS: u32 = 100_000;
/// How often a load is offered that could not be sent in time, before that counts as the tester's
/// limit: a machine that stands still for a moment is not a limit.
const ATTEMPTS: u32 = 3;
/// How often it is offered where the tester's loop stood still so long that this alone explains
/// what was not sent: less load would not help.
const STALLED_ATTEMPTS: u32 = 10;
/// The part of what was not sent that standing still must explain.
const EXPLAINED: f64 = 0.5;

/// What a search is about to do, for whoever shows it.
#[derive(Clone, Copy, Debug)]
pub struct Doing<'a> {
    /// What is being searched, such as `ndr` or `frame loss`.
    pub what: &'a str,
    /// The load that is offered next.
    pub load: Load,
    /// The time that trials took so far.
    pub spent: Duration,
    /// The time that they may take in all.
    pub budget: Duration,
}

/// Why a search ended before it was through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The user has interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// Its time was up.
    #[error("the time for the search was up; give it more, or wider goals")]
    TimeUp,
    /// The tester cannot send in time, whatever the load.
    #[error(
        "the tester's loop stood still for too long in {STALLED_ATTEMPTS} trials in succession; \
         give it a core that nothing else runs on"
    )]
    Disturbed,
    /// It took more trials than any search should.
    #[error("the search took {TRIALS} trials without an end")]
    TrialsUp,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// An outcome cannot be true, or says something of the tester only.
    #[error("at {frames_per_s:.0} frames/s: {why}")]
    Implausible {
        /// The load of that outcome.
        frames_per_s: f64,
        /// What is wrong with it.
        why: Implausible,
    },
    /// A port or the subject failed.
    #[error("at {frames_per_s:.0} frames/s: {why}")]
    Failed {
        /// The load that was offered.
        frames_per_s: f64,
        /// What was said.
        why: String,
    },
    /// The search was asked for something that cannot be.
    #[error("{0}")]
    Parameters(String),
}

/// One trial and what came of it, in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// What was offered.
    pub load: Load,
    /// The share of frames that was lost; none where the load could not be offered.
    pub loss: Option<f64>,
    /// What disturbed the tester meanwhile.
    pub disturbance: Disturbance,
}

/// What a load met.
pub(crate) enum Offered {
    /// Frames were sent as they were due.
    Sent {
        outcome: Box<Outcome>,
        /// From 0 to 1.
        loss: f64,
    },
    /// The tester could not send it, again and again.
    BeyondTester {
        /// What it could send at best.
        reached_frames_per_s: f64,
        why: Implausible,
    },
}

/// Why no load is offered any more.
pub(crate) enum Stop {
    Cut(Cut),
    Error(SearchError),
}

/// Offers loads to a trial, and counts their time.
pub struct Session<'a> {
    trial: &'a mut dyn Trial,
    watch: &'a mut dyn FnMut(&Doing<'_>),
    budget: Duration,
    spent: Duration,
    records: Vec<Record>,
}

impl<'a> Session<'a> {
    /// A session whose trials take at most so long together. `watch` is told of each trial before
    /// it begins.
    pub fn new(
        trial: &'a mut dyn Trial,
        budget: Duration,
        watch: &'a mut dyn FnMut(&Doing<'_>),
    ) -> Self {
        Self {
            trial,
            watch,
            budget,
            spent: Duration::ZERO,
            records: Vec::new(),
        }
    }

    /// Every trial so far.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The time that trials took so far, what they take besides sending included.
    #[must_use]
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// What disturbed the trials so far.
    #[must_use]
    pub fn disturbance(&self) -> Disturbance {
        let each = self.records.iter().map(|record| record.disturbance);
        each.fold(Disturbance::default(), Disturbance::and)
    }

    /// Offers a load, again where the tester could not send it.
    pub(crate) fn offer(&mut self, load: Load, what: &str) -> Result<Offered, Stop> {
        let (mut reached, mut attempts, mut stalled) = (0.0_f64, 0, 0);
        loop {
            let outcome = self.attempt(load, what)?;
            let loss = outcome.loss();
            self.records.push(Record {
                load,
                loss: loss.as_ref().ok().copied(),
                disturbance: outcome.disturbance,
            });
            match loss {
                Ok(loss) => {
                    let outcome = Box::new(outcome);
                    return Ok(Offered::Sent { outcome, loss });
                }
                Err(why @ Implausible::Unsent { sent, unsent }) => {
                    if is_stalled(&outcome) {
                        stalled += 1;
                        if stalled == STALLED_ATTEMPTS {
                            return Err(Stop::Cut(Cut::Disturbed));
                        }
                        continue;
                    }
                    let share = sent as f64 / (sent + unsent) as f64;
                    reached = reached.max(share * load.frames_per_s);
                    attempts += 1;
                    if attempts == ATTEMPTS {
                        return Ok(Offered::BeyondTester {
                            reached_frames_per_s: reached,
                            why,
                        });
                    }
                }
                Err(why) => return Err(Stop::Error(implausible(load, why))),
            }
        }
    }

    /// Offers a load that the tester must be able to send.
    pub(crate) fn insist(&mut self, load: Load, what: &str) -> Result<(Outcome, f64), Stop> {
        match self.offer(load, what)? {
            Offered::Sent { outcome, loss } => Ok((*outcome, loss)),
            Offered::BeyondTester { why, .. } => Err(Stop::Error(implausible(load, why))),
        }
    }

    fn attempt(&mut self, load: Load, what: &str) -> Result<Outcome, Stop> {
        let takes = load.duration + self.trial.overhead();
        if self.spent + takes > self.budget {
            return Err(Stop::Cut(Cut::TimeUp));
        }
        if self.records.len() >= TRIALS as usize {
            return Err(Stop::Cut(Cut::TrialsUp));
        }
        (self.watch)(&Doing {
            what,
            load,
            spent: self.spent,
            budget: self.budget,
        });
        self.spent += takes;
        self.trial.run(load).map_err(|error| match error {
            TrialError::Interrupted => Stop::Cut(Cut::Interrupted),
            TrialError::Failed(why) => Stop::Error(SearchError::Failed {
                frames_per_s: load.frames_per_s,
                why,
            }),
        })
    }
}

/// Whether the loop's standing still explains what was not sent.
fn is_stalled(outcome: &Outcome) -> bool {
    let unsent_s = outcome.unsent as f64 / outcome.load.frames_per_s;
    let Disturbance {
        stalls,
        longest_stall_us,
        ..
    } = outcome.disturbance;
    stalls as f64 * longest_stall_us / 1e6 >= EXPLAINED * unsent_s
}

fn implausible(load: Load, why: Implausible) -> SearchError {
    SearchError::Implausible {
        frames_per_s: load.frames_per_s,
        why,
    }
}
