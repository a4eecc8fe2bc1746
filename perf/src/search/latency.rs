//! Latency and jitter at loads below the throughput, where queues do not fill by themselves.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Cut, SearchError, Session, Stop};
use crate::report::median;
use crate::trial::{Disturbance, Load};

/// Shares of the throughput at no loss at which latency is told.
pub const SHARES_OF_NDR: [f64; 3] = [0.1, 0.5, 0.9];

/// Latencies at one load.
#[derive(Clone, Debug)]
pub struct LatencyAt {
    /// What was offered, in frames a second.
    pub frames_per_s: f64,
    /// The share of the throughput that this is.
    pub share: f64,
    /// The times on the way, of all trials, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// The median of the trials' jitters, in nanoseconds.
    pub jitter_ns: f64,
    /// The highest loss of a trial, from 0 to 1.
    pub loss: f64,
    /// What disturbed the trials.
    pub disturbance: Disturbance,
}

/// Latencies at several loads, and why there are no more.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// In the order in which they were asked for.
    pub at: Vec<LatencyAt>,
    /// Why the measurement ended before it was through.
    pub cut: Option<Cut>,
}

/// Measures latencies at shares of a throughput, each in so many trials.
///
/// # Errors
/// When an outcome cannot be true, or a port fails.
pub fn measure(
    session: &mut Session<'_>,
    throughput_frames_per_s: f64,
    shares: &[f64],
    duration: Duration,
    trials: u32,
) -> Result<Latencies, SearchError> {
    let mut latencies = Latencies {
        at: Vec::new(),
        cut: None,
    };
    for &share in shares {
        let load = Load {
            frames_per_s: throughput_frames_per_s * share,
            duration,
        };
        let (at, stop) = at_load(session, load, share, trials);
        latencies.at.extend(at);
        match stop {
            Ok(()) => {}
            Err(Stop::Cut(cut)) => {
                latencies.cut = Some(cut);
                break;
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(latencies)
}

/// What the trials gave before they stopped; none when there was none.
fn at_load(
    session: &mut Session<'_>,
    load: Load,
    share: f64,
    trials: u32,
) -> (Option<LatencyAt>, Result<(), Stop>) {
    let mut sum: Option<LatencyAt> = None;
    let mut jitters = Vec::new();
    for _ in 0..trials {
        let (outcome, loss) = match session.insist(load, "latency") {
            Ok(sent) => sent,
            Err(stop) => return (sum, Err(stop)),
        };
        jitters.push(outcome.jitter_ns);
        let at = sum.get_or_insert_with(|| LatencyAt {
            frames_per_s: load.frames_per_s,
            share,
            latency_ns: Histogram::new_from(&outcome.latency_ns),
            jitter_ns: 0.0,
            loss: 0.0,
            disturbance: Disturbance::default(),
        });
        at.jitter_ns = median(&jitters);
        at.loss = at.loss.max(loss);
        at.disturbance = at.disturbance.and(outcome.disturbance);
        if let Err(error) = at.latency_ns.add(&outcome.latency_ns) {
            let why = format!("a trial told latencies beyond those of the first one: {error}");
            let frames_per_s = load.frames_per_s;
            return (
                None,
                Err(Stop::Error(SearchError::Failed { frames_per_s, why })),
            );
        }
    }
    (sum, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Simulated;
    use super::*;

    fn run(subject: &mut Simulated, trials: u32) -> Result<Latencies, SearchError> {
        let mut silent = |_: &super::super::Doing<'_>| {};
        let mut session = Session::new(subject, Duration::from_secs(60), &mut silent);
        measure(
            &mut session,
            1e6,
            &SHARES_OF_NDR,
            Duration::from_secs(2),
            trials,
        )
    }

    #[test]
    fn latencies_of_all_trials_come_together_for_each_share() {
        let mut subject = Simulated::carrying(1e6);
        subject.latency_ns = Box::new(|number| 1_000 * (number as u64 + 1));
        let latencies = run(&mut subject, 2).unwrap();
        assert!(latencies.cut.is_none());
        let rates: Vec<f64> = latencies.at.iter().map(|at| at.frames_per_s).collect();
        assert_eq!(rates, [1e5, 5e5, 9e5]);
        assert!(
            latencies
                .at
                .iter()
                .all(|at| at.latency_ns.len() == 200 && at.loss == 0.0)
        );
        assert_eq!(latencies.at[0].latency_ns.min(), 1_000);
        assert_eq!(latencies.at[2].latency_ns.max() / 1_000, 6);
        assert_eq!(latencies.at[0].jitter_ns, 100.0);
    }

    #[test]
    fn what_was_measured_before_the_end_of_the_time_is_kept() {
        let mut subject = Simulated::carrying(1e6);
        let latencies = run(&mut subject, 20).unwrap();
        assert_eq!(latencies.cut, Some(Cut::TimeUp));
        assert_eq!(latencies.at.len(), 2);
        assert_eq!(latencies.at[1].latency_ns.len(), 1_000);
    }

    #[test]
    fn a_load_that_the_tester_cannot_send_is_an_error() {
        let mut subject = Simulated::carrying(1e6);
        subject.testers_limit = 3e5;
        let error = run(&mut subject, 1).unwrap_err().to_string();
        assert!(
            error.contains("at 500000 frames/s: the tester sent"),
            "{error}"
        );
    }
}
