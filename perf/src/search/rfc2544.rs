//! RFC 2544's measures of one frame size: latency (§26.2), frame loss rate (§26.3) and
//! back-to-back frames (§26.4, with RFC 9004's buffer time). Throughput (§26.1) is a search with
//! [`super::goal::Goal::rfc2544`].

use std::time::Duration;

use super::latency::{self, Latencies};
use super::{Cut, Offered, SearchError, Session, Stop, implausible};
use crate::trial::Load;

/// Frame sizes of Ethernet (§9.1), in octets with the check sequence.
pub const FRAME_SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];

/// Latency at the throughput (§26.2): trials of 120 seconds, 20 of them. Where the RFC tells one
/// tagged frame's time, all times are taken. A tester that cannot hold the throughput itself is given
/// a `share` of it, from 0 to 1.
///
/// # Errors
/// When an outcome cannot be true, or a port fails.
pub fn latency(
    session: &mut Session<'_>,
    throughput_frames_per_s: f64,
    share: f64,
) -> Result<Latencies, SearchError> {
    let duration = Duration::from_secs(120);
    latency::measure(session, throughput_frames_per_s, &[share], duration, 20)
}

/// The share of frames that is lost, over the load.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameLoss {
    /// Frames a second and loss ratio, the highest load first.
    pub points: Vec<[f64; 2]>,
    /// Whether two successive loads without loss ended it, as the RFC has it.
    pub is_complete: bool,
    /// What the tester can send at most, where that is less than the highest load.
    pub testers_limit_frames_per_s: Option<f64>,
    /// Why the measurement ended before it was through.
    pub cut: Option<Cut>,
}

/// Offers 100 %, 90 %, 80 % … of the highest load, until nothing is lost twice in succession.
/// Steps that the tester cannot send are left out and told.
///
/// # Errors
/// When an outcome cannot be true, or a port fails.
pub fn frame_loss(
    session: &mut Session<'_>,
    max_frames_per_s: f64,
    duration: Duration,
) -> Result<FrameLoss, SearchError> {
    let mut curve = FrameLoss {
        points: Vec::new(),
        is_complete: false,
        testers_limit_frames_per_s: None,
        cut: None,
    };
    let mut without_loss = 0;
    for tenths in (1..=10).rev() {
        let load = Load {
            frames_per_s: max_frames_per_s * f64::from(tenths) / 10.0,
            duration,
        };
        match session.offer(load, "frame loss") {
            Ok(Offered::Sent { loss, .. }) => {
                curve.points.push([load.frames_per_s, loss]);
                without_loss = if loss == 0.0 { without_loss + 1 } else { 0 };
            }
            Ok(Offered::BeyondTester {
                reached_frames_per_s,
                why,
            }) => {
                if tenths == 1 {
                    return Err(implausible(load, why));
                }
                curve.testers_limit_frames_per_s = Some(reached_frames_per_s);
            }
            Err(Stop::Cut(cut)) => {
                curve.cut = Some(cut);
                return Ok(curve);
            }
            Err(Stop::Error(error)) => return Err(error),
        }
        if without_loss == 2 {
            curve.is_complete = true;
            break;
        }
    }
    Ok(curve)
}

/// How long a burst at the highest load may be without loss.
#[derive(Clone, Debug, PartialEq)]
pub struct BackToBack {
    /// The longest burst of each repetition, in frames.
    pub bursts: Vec<u64>,
    /// The frames of the longest burst that was tried; where a repetition lost none of it, its
    /// figure is that bound.
    pub longest_tried: u64,
    /// The rate of the bursts in frames a second.
    pub frames_per_s: f64,
    /// Why the measurement ended before it was through.
    pub cut: Option<Cut>,
}

/// How back-to-back bursts are searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstConfig {
    /// The rate within a burst, in frames a second: as close as frames can follow each other.
    pub frames_per_s: f64,
    /// The longest burst; RFC 2544 asks for two seconds at least.
    pub longest: Duration,
    /// Repetitions; RFC 2544 asks for 50 at least.
    pub repeats: u32,
    /// A burst counts as found when the least that loses is longer by less than this share.
    pub width: f64,
}

impl BurstConfig {
    /// What RFC 2544 §26.4 asks for.
    #[must_use]
    pub fn rfc2544(frames_per_s: f64) -> Self {
        Self {
            frames_per_s,
            longest: Duration::from_secs(2),
            repeats: 50,
            width: 0.01,
        }
    }
}

impl BackToBack {
    /// The mean of the repetitions, in frames; none where there was no repetition.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let sum: u64 = self.bursts.iter().sum();
        (!self.bursts.is_empty()).then(|| sum as f64 / self.bursts.len() as f64)
    }

    /// The standard deviation over the repetitions (RFC 9004 §6.4).
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean()?;
        let squares = self
            .bursts
            .iter()
            .map(|&burst| (burst as f64 - mean).powi(2));
        Some((squares.sum::<f64>() / self.bursts.len() as f64).sqrt())
    }

    /// Whether a repetition never saw a loss: then the subject has no limit that this finds.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.bursts.contains(&self.longest_tried)
    }

    /// How long the subject's buffers hold a burst: what is carried meanwhile does not count
    /// (RFC 9004 §6.4, Corrected DUT Buffer Time).
    #[must_use]
    pub fn buffer(&self, throughput_frames_per_s: f64) -> Option<Duration> {
        let implied_s = self.mean()? / self.frames_per_s;
        let carried = (throughput_frames_per_s / self.frames_per_s).clamp(0.0, 1.0);
        Some(Duration::from_secs_f64(implied_s * (1.0 - carried)))
    }
}

/// Searches for the longest burst without loss, again and again.
///
/// # Errors
/// When an outcome cannot be true, the tester cannot send that fast, or a port fails.
pub fn back_to_back(
    session: &mut Session<'_>,
    config: &BurstConfig,
) -> Result<BackToBack, SearchError> {
    let longest = (config.frames_per_s * config.longest.as_secs_f64()).floor();
    let is_sensible = (1.0..1e12).contains(&longest) && config.width > 0.0;
    if !is_sensible || config.repeats == 0 {
        return Err(SearchError::Parameters(
            "bursts need a frame at least, a width above zero and a repetition".to_owned(),
        ));
    }
    let mut found = BackToBack {
        bursts: Vec::new(),
        longest_tried: longest as u64,
        frames_per_s: config.frames_per_s,
        cut: None,
    };
    for _ in 0..config.repeats {
        match longest_burst(session, config, found.longest_tried) {
            Ok(frames) => found.bursts.push(frames),
            Err(Stop::Cut(cut)) => {
                found.cut = Some(cut);
                break;
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(found)
}

/// Halves between a burst that passed and one that did not.
fn longest_burst(
    session: &mut Session<'_>,
    config: &BurstConfig,
    longest: u64,
) -> Result<u64, Stop> {
    let mut passes = |frames: u64| {
        let load = Load {
            frames_per_s: config.frames_per_s,
            duration: Duration::from_secs_f64(frames as f64 / config.frames_per_s),
        };
        session
            .insist(load, "back-to-back")
            .map(|(_, loss)| loss == 0.0)
    };
    if passes(longest)? {
        return Ok(longest);
    }
    let (mut good, mut bad) = (0, longest);
    while bad - good > ((config.width * bad as f64) as u64).max(1) {
        let middle = good + (bad - good) / 2;
        match passes(middle)? {
            true => good = middle,
            false => bad = middle,
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Simulated, beyond};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn with<T>(subject: &mut Simulated, budget_s: u64, run: impl Fn(&mut Session<'_>) -> T) -> T {
        let mut silent = |_: &super::super::Doing<'_>| {};
        run(&mut Session::new(
            subject,
            Duration::from_secs(budget_s),
            &mut silent,
        ))
    }

    #[test]
    fn the_loss_curve_ends_after_two_loads_without_loss() {
        let mut subject = Simulated::carrying(750_000.0);
        let curve = with(&mut subject, 100, |session| {
            frame_loss(session, 1e6, SECOND)
        })
        .unwrap();
        let loads: Vec<f64> = curve.points.iter().map(|point| point[0]).collect();
        assert_eq!(loads, [1e6, 9e5, 8e5, 7e5, 6e5]);
        assert!((curve.points[0][1] - 0.25).abs() < 1e-6);
        assert_eq!(curve.points[3][1], 0.0);
        assert!(curve.is_complete);
    }

    #[test]
    fn a_load_without_loss_between_two_with_loss_does_not_end_it() {
        let mut subject = Simulated::new(1, |load, _| {
            if (load.frames_per_s - 9e5).abs() < 1.0 {
                0.0
            } else {
                beyond(load, 650_000.0)
            }
        });
        let curve = with(&mut subject, 100, |session| {
            frame_loss(session, 1e6, SECOND)
        })
        .unwrap();
        assert_eq!(curve.points.len(), 6);
    }

    #[test]
    fn a_subject_that_always_loses_is_followed_to_the_least_load() {
        let mut subject = Simulated::new(1, |_, _| 0.5);
        let curve = with(&mut subject, 100, |session| {
            frame_loss(session, 1e6, SECOND)
        })
        .unwrap();
        assert_eq!((curve.points.len(), curve.is_complete), (10, false));
        let curve = with(&mut subject, 3, |session| frame_loss(session, 1e6, SECOND)).unwrap();
        assert_eq!((curve.points.len(), curve.cut), (3, Some(Cut::TimeUp)));
    }

    #[test]
    fn loads_beyond_the_tester_are_left_out_and_told() {
        let mut subject = Simulated::carrying(750_000.0);
        subject.testers_limit = 850_000.0;
        let curve = with(&mut subject, 100, |session| {
            frame_loss(session, 1e6, SECOND)
        })
        .unwrap();
        assert_eq!(curve.points[0][0], 8e5);
        let limit = curve.testers_limit_frames_per_s.unwrap();
        assert!((limit - 850_000.0).abs() < 10.0);
        subject.testers_limit = 1_000.0;
        let error = with(&mut subject, 100, |session| {
            frame_loss(session, 1e6, SECOND)
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("this measures the tester")
        );
    }

    /// A buffer of so many frames before someone who carries half of the rate.
    fn buffered(frames: f64) -> Simulated {
        Simulated::new(1, move |load, _| {
            let sent = load.frames_per_s * load.duration.as_secs_f64();
            ((sent - sent / 2.0 - frames) / sent).max(0.0)
        })
    }

    #[test]
    fn the_longest_burst_without_loss_is_what_buffers_and_carrying_allow() {
        let config = BurstConfig {
            repeats: 3,
            width: 0.001,
            ..BurstConfig::rfc2544(1e6)
        };
        let mut subject = buffered(5_000.0);
        let found = with(&mut subject, 1_000, |session| {
            back_to_back(session, &config)
        })
        .unwrap();
        let mean = found.mean().unwrap();
        assert!((mean - 10_000.0).abs() <= 20.0, "{mean}");
        assert_eq!(
            (found.deviation(), found.is_unlimited()),
            (Some(0.0), false)
        );
        let buffer_us = found.buffer(500_000.0).unwrap().as_micros();
        assert!((4_980..=5_010).contains(&buffer_us), "{buffer_us}");
    }

    #[test]
    fn a_subject_without_limit_is_said_to_have_none() {
        let config = BurstConfig::rfc2544(1e6);
        let mut subject = Simulated::new(1, |_, _| 0.0);
        let found = with(&mut subject, 1_000, |session| {
            back_to_back(session, &config)
        })
        .unwrap();
        assert!(found.is_unlimited());
        assert_eq!(found.bursts, vec![2_000_000; 50]);
    }

    #[test]
    fn a_subject_that_loses_every_burst_has_none() {
        let config = BurstConfig::rfc2544(1e6);
        let mut subject = Simulated::new(1, |_, _| 0.5);
        let found = with(&mut subject, 1_000, |session| {
            back_to_back(session, &config)
        })
        .unwrap();
        assert_eq!(found.mean(), Some(0.0));
    }

    #[test]
    fn bursts_that_the_tester_cannot_send_or_that_are_none_are_refused() {
        let mut subject = Simulated::carrying(1e6);
        subject.testers_limit = 5e5;
        let config = BurstConfig::rfc2544(1e6);
        let error = with(&mut subject, 1_000, |session| {
            back_to_back(session, &config)
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("this measures the tester")
        );
        let none = BurstConfig {
            repeats: 0,
            ..config
        };
        let error = with(&mut subject, 1_000, |session| back_to_back(session, &none));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("bursts need a frame")
        );
    }

    #[test]
    fn latency_at_the_throughput_takes_twenty_trials_of_two_minutes() {
        let mut subject = Simulated::carrying(1e6);
        let latencies = with(&mut subject, 2_400, |session| latency(session, 1e6, 1.0)).unwrap();
        assert_eq!((subject.loads.len(), latencies.cut), (20, None));
        assert_eq!(subject.loads[19].duration, Duration::from_secs(120));
        assert_eq!(latencies.at[0].latency_ns.len(), 2_000);
    }
}
