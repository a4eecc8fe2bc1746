//! One load for a long time, in intervals: whether loss or latency drift.

use std::time::Duration;

use super::slope::Slope;
use super::{Cut, SearchError, Session, Stop};
use crate::report::median;
use crate::trial::{Disturbance, Load};

/// What is offered, and what counts as drift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The load in frames a second.
    pub frames_per_s: f64,
    /// How long one interval is.
    pub interval: Duration,
    /// How many there are.
    pub intervals: u32,
    /// The share of frames that may be lost in an interval.
    pub loss_ratio: f64,
    /// The share of the median by which a latency may rise over the whole run.
    pub latency_rise: f64,
}

impl Config {
    /// The least intervals that a slope is drawn from.
    const LEAST: u32 = 8;
    /// More would take longer to compare than they are worth.
    const MOST: u32 = 4_096;
}

/// One interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// When it began, in seconds of trials since the beginning.
    pub time_s: f64,
    /// The share of frames that was lost.
    pub loss: f64,
    /// Half of the frames took this at most, in microseconds.
    pub p50_us: f64,
    /// And all but one of a hundred this.
    pub p99_us: f64,
    /// In nanoseconds.
    pub jitter_ns: f64,
    /// What disturbed it.
    pub disturbance: Disturbance,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Soak {
    /// In their order.
    pub intervals: Vec<Interval>,
    /// The slope of the loss ratio, a second; none for too few intervals.
    pub loss: Option<Slope>,
    /// The slope of the median latency in microseconds a second.
    pub p50: Option<Slope>,
    /// The slope of the 99th percentile.
    pub p99: Option<Slope>,
    /// What all of this says.
    pub verdict: Verdict,
    /// Why it ended before it was through.
    pub cut: Option<Cut>,
}

/// What a soak says.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Verdict {
    /// Nothing drifted.
    #[error("steady")]
    Steady,
    /// So many intervals lost more than they may.
    #[error("{intervals} intervals lost more than they may, the worst {worst:.6} of its frames")]
    Lossy {
        /// How many.
        intervals: usize,
        /// The highest share that was lost.
        worst: f64,
    },
    /// Loss grew, though no interval lost more than it may.
    #[error("loss grows, by {by:.6} over the run")]
    LossDrifts {
        /// The rise of the loss ratio over the run.
        by: f64,
    },
    /// A latency grew.
    #[error("the {percentile}th percentile of latency grows, by {percent:.1} % over the run")]
    LatencyDrifts {
        /// Which one.
        percentile: u8,
        /// Its rise over the run, in percent of its median.
        percent: f64,
    },
    /// Too little was measured to tell.
    #[error("too few intervals to tell")]
    TooShort,
}

/// Offers the load in one interval after the other.
///
/// # Errors
/// When an outcome cannot be true, or a port fails.
pub fn soak(session: &mut Session<'_>, config: &Config) -> Result<Soak, SearchError> {
    if !(Config::LEAST..=Config::MOST).contains(&config.intervals) {
        return Err(SearchError::Parameters(format!(
            "a soak has {} to {} intervals, not {}",
            Config::LEAST,
            Config::MOST,
            config.intervals
        )));
    }
    let load = Load {
        frames_per_s: config.frames_per_s,
        duration: config.interval,
    };
    let (mut intervals, mut cut) = (Vec::new(), None);
    let began = session.spent();
    for _ in 0..config.intervals {
        let time_s = (session.spent() - began).as_secs_f64();
        match session.insist(load, "soak") {
            Ok((outcome, loss)) => intervals.push(Interval {
                time_s,
                loss,
                p50_us: outcome.latency_ns.value_at_quantile(0.5) as f64 / 1e3,
                p99_us: outcome.latency_ns.value_at_quantile(0.99) as f64 / 1e3,
                jitter_ns: outcome.jitter_ns,
                disturbance: outcome.disturbance,
            }),
            Err(Stop::Cut(why)) => {
                cut = Some(why);
                break;
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    let slope = |value: fn(&Interval) -> f64| {
        let points: Vec<_> = intervals
            .iter()
            .map(|one| [one.time_s, value(one)])
            .collect();
        (points.len() >= Config::LEAST as usize)
            .then(|| Slope::of(&points))
            .flatten()
    };
    let slopes = [
        slope(|one| one.loss),
        slope(|one| one.p50_us),
        slope(|one| one.p99_us),
    ];
    let [loss, p50, p99] = slopes;
    Ok(Soak {
        verdict: judge(config, &intervals, slopes),
        intervals,
        loss,
        p50,
        p99,
        cut,
    })
}

fn judge(config: &Config, intervals: &[Interval], slopes: [Option<Slope>; 3]) -> Verdict {
    let lossy = intervals
        .iter()
        .filter(|one| one.loss > config.loss_ratio)
        .count();
    if lossy > 0 {
        let worst = intervals.iter().map(|one| one.loss).fold(0.0, f64::max);
        return Verdict::Lossy {
            intervals: lossy,
            worst,
        };
    }
    let [Some(loss), Some(p50), Some(p99)] = slopes else {
        return Verdict::TooShort;
    };
    let took_s = intervals.last().map_or(0.0, |last| last.time_s);
    if loss.is_rising() {
        return Verdict::LossDrifts {
            by: loss.slope * took_s,
        };
    }
    let p50s: Vec<f64> = intervals.iter().map(|one| one.p50_us).collect();
    let p99s: Vec<f64> = intervals.iter().map(|one| one.p99_us).collect();
    for (percentile, slope, values) in [(50, p50, p50s), (99, p99, p99s)] {
        let rise = slope.slope * took_s / median(&values).max(f64::MIN_POSITIVE);
        if slope.is_rising() && rise > config.latency_rise {
            return Verdict::LatencyDrifts {
                percentile,
                percent: rise * 100.0,
            };
        }
    }
    Verdict::Steady
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Random, Simulated};
    use super::*;

    const CONFIG: Config = Config {
        frames_per_s: 1e6,
        interval: Duration::from_secs(10),
        intervals: 60,
        loss_ratio: 1e-3,
        latency_rise: 0.1,
    };

    fn run(subject: &mut Simulated, config: &Config, budget_s: u64) -> Soak {
        let mut silent = |_: &super::super::Doing<'_>| {};
        let budget = Duration::from_secs(budget_s);
        soak(&mut Session::new(subject, budget, &mut silent), config).unwrap()
    }

    /// Latency of 100 µs that rises by so many nanoseconds each interval, with noise.
    fn rising(by_ns: u64) -> Simulated {
        let mut random = Random::new(3);
        let mut subject = Simulated::new(1, |_, _| 0.0);
        subject.latency_ns =
            Box::new(move |n| 100_000 + by_ns * n as u64 + (random.share() * 20_000.0) as u64);
        subject
    }

    #[test]
    fn noise_is_steady_and_a_rise_is_drift() {
        let steady = run(&mut rising(0), &CONFIG, 600);
        assert_eq!(
            (steady.verdict, steady.intervals.len()),
            (Verdict::Steady, 60)
        );
        let drifts = run(&mut rising(1_000), &CONFIG, 600);
        let Verdict::LatencyDrifts {
            percentile,
            percent,
        } = drifts.verdict
        else {
            panic!("{:?}", drifts.verdict)
        };
        assert_eq!(percentile, 50);
        assert!((30.0..60.0).contains(&percent), "{percent}");
        // A rise of less than a tenth over the run is sure, but small.
        assert_eq!(run(&mut rising(50), &CONFIG, 600).verdict, Verdict::Steady);
    }

    #[test]
    fn loss_counts_whether_it_grows_or_not() {
        let mut once = 0;
        let mut subject = Simulated::new(1, move |_, _| {
            once += 1;
            if once == 30 { 0.01 } else { 0.0 }
        });
        let lossy = run(&mut subject, &CONFIG, 600).verdict;
        assert_eq!(
            lossy,
            Verdict::Lossy {
                intervals: 1,
                worst: 0.01
            }
        );
        assert!(lossy.to_string().starts_with("1 intervals lost more"));
        let mut loss = 0.0;
        let mut subject = Simulated::new(1, move |_, _| {
            loss += 1e-5;
            loss
        });
        let grows = run(&mut subject, &CONFIG, 600).verdict;
        assert!(matches!(grows, Verdict::LossDrifts { by } if (by - 5.9e-4).abs() < 1e-5));
    }

    #[test]
    fn a_soak_that_was_cut_short_says_what_it_saw() {
        let soak = run(&mut rising(0), &CONFIG, 30);
        assert_eq!((soak.intervals.len(), soak.cut), (3, Some(Cut::TimeUp)));
        assert_eq!(soak.verdict, Verdict::TooShort);
        assert_eq!(soak.intervals[2].time_s, 20.0);
    }

    #[test]
    fn too_few_or_too_many_intervals_are_refused() {
        let mut subject = rising(0);
        let mut silent = |_: &super::super::Doing<'_>| {};
        let mut session = Session::new(&mut subject, Duration::from_secs(60), &mut silent);
        for intervals in [0, 7, 5_000] {
            let config = Config {
                intervals,
                ..CONFIG
            };
            assert!(
                soak(&mut session, &config)
                    .unwrap_err()
                    .to_string()
                    .contains("intervals")
            );
        }
    }
}
