//! Figures, lines of plots, and costs by stage.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line_rate::{self, LineShare};
use crate::trial::Disturbance;

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// What was measured, such as `guard.syn` or `ndr`.
    pub scenario: String,
    /// Who was measured: `tidegate`, `testpmd-mac`, `synproxy`, …
    pub subject: String,
    /// By what, its unit last, such as `ns_per_packet`.
    pub metric: String,
    /// The median of the rounds.
    pub value: f64,
    /// The floor in the same run, by the same metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// `value` to `floor`; where the metric has no floor, absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What the ratio, or the value where there is none, should not be above (or below).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<f64>,
    /// Whether the goal is the least that should be reached, instead of the most.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_goal_least: bool,
    /// Whether the goal is met; absent without a goal. [`super::Report::add`] sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_met: Option<bool>,
    /// The lowest and highest round.
    pub spread: [f64; 2],
    /// Octets of a frame without check sequence, where that is one of the figure's conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_bytes: Option<f64>,
    /// Whether the tester could do no more. The figure then says nothing of its subject but that it
    /// did so much.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_testers_limit: bool,
    /// How many cores of the subject did this.
    pub cores: u32,
    /// The figure beside line rates; [`super::Report::add`] sets it where the metric is a rate of
    /// frames, or the time of one.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub line_rates: Vec<LineShare>,
    /// What the machine took meanwhile.
    pub disturbance: Disturbance,
    /// What a reader must know beside the figure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The subject of everything that is measured in one process.
pub const TIDEGATE: &str = "tidegate";
/// Metric of a rate of frames; such figures are set beside line rates.
pub const FRAMES_PER_S: &str = "frames_per_s";
/// Metric of a packet's cost; such figures are set beside line rates of the shortest frames.
pub const NS_PER_PACKET: &str = "ns_per_packet";
/// The shortest frame without its check sequence.
const SHORTEST_FRAME_BYTES: f64 = 60.0;

impl Measured {
    /// A figure with its floor and its goal as a ratio to it.
    #[must_use]
    pub fn new(scenario: &str, metric: &str, rounds: &[f64], floor: f64, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            ..Self::beside(scenario, metric, rounds, floor)
        }
    }

    /// A figure to set beside its floor, without a goal.
    #[must_use]
    pub fn beside(scenario: &str, metric: &str, rounds: &[f64], floor: f64) -> Self {
        Self {
            floor: Some(floor),
            ratio: Some(median(rounds) / floor),
            ..Self::alone(scenario, metric, rounds)
        }
    }

    /// A figure that has neither floor nor goal.
    #[must_use]
    pub fn alone(scenario: &str, metric: &str, rounds: &[f64]) -> Self {
        Self {
            scenario: scenario.to_owned(),
            subject: TIDEGATE.to_owned(),
            metric: metric.to_owned(),
            value: median(rounds),
            floor: None,
            ratio: None,
            goal: None,
            is_goal_least: false,
            is_met: None,
            spread: spread(rounds),
            frame_bytes: None,
            is_testers_limit: false,
            cores: 1,
            line_rates: Vec::new(),
            disturbance: Disturbance::default(),
            notes: Vec::new(),
        }
    }

    /// The same figure of another subject.
    #[must_use]
    pub fn of(self, subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            ..self
        }
    }

    /// The same figure, which should not be above this.
    #[must_use]
    pub fn at_most(self, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            is_goal_least: false,
            ..self
        }
    }

    /// The same figure, which should not be below this.
    #[must_use]
    pub fn at_least(self, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            is_goal_least: true,
            ..self
        }
    }

    /// The same figure, of frames of so many octets without check sequence.
    #[must_use]
    pub fn of_frames(self, frame_bytes: f64) -> Self {
        Self {
            frame_bytes: Some(frame_bytes),
            ..self
        }
    }

    /// The same figure, reached by so many cores.
    #[must_use]
    pub fn on_cores(self, cores: u32) -> Self {
        Self { cores, ..self }
    }

    /// The same figure and what disturbed it.
    #[must_use]
    pub fn disturbed(self, disturbance: Disturbance) -> Self {
        Self {
            disturbance,
            ..self
        }
    }

    /// The same figure, which the tester limited, or not.
    #[must_use]
    pub fn limited_by_tester(self, is_testers_limit: bool) -> Self {
        Self {
            is_testers_limit,
            ..self
        }
    }

    /// The same figure with something that its reader must know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Fills in what follows from the rest.
    pub(super) fn complete(&mut self) {
        if self.is_testers_limit {
            // Neither a goal nor a line rate can be held against a subject that could do more.
            return;
        }
        let judged = self.ratio.unwrap_or(self.value);
        self.is_met = self.goal.map(|goal| match self.is_goal_least {
            true => judged >= goal,
            false => judged <= goal,
        });
        let (rate, frame_bytes) = match (self.metric.as_str(), self.frame_bytes) {
            (FRAMES_PER_S, Some(frame_bytes)) => (self.value, frame_bytes),
            (NS_PER_PACKET, size) => (1e9 / self.value, size.unwrap_or(SHORTEST_FRAME_BYTES)),
            _ => return,
        };
        self.line_rates = line_rate::shares(rate, frame_bytes, self.cores);
    }
}

/// A line of a plot.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// The plot it belongs to: series of one scenario and metric share it.
    pub scenario: String,
    /// Who was measured.
    pub subject: String,
    /// What the first number of a point is, its unit last, such as `frame_bytes`.
    pub x: String,
    /// What the second number of a point is, its unit last, such as `frames_per_s`.
    pub y: String,
    /// In the order of the first number.
    pub points: Vec<[f64; 2]>,
}

/// Names of axes that the report knows how to draw.
pub mod axis {
    /// Octets of a frame without check sequence. With [`super::FRAMES_PER_S`], line rates are drawn.
    pub const FRAME_BYTES: &str = "frame_bytes";
    /// From 0 to 100, drawn so that each further nine takes as much room.
    pub const PERCENTILE: &str = "percentile";
    /// Time on the way.
    pub const LATENCY_US: &str = "latency_us";
    /// Packets a second of a flood that the legitimate traffic runs beside.
    pub const FLOOD_PACKETS_PER_S: &str = "flood_packets_per_s";
    /// The share of legitimate connections that succeeded, from 0 to 1.
    pub const SUCCESS_RATIO: &str = "success_ratio";
    /// The share of frames that were lost, from 0 to 1.
    pub const LOSS_RATIO: &str = "loss_ratio";
    /// Seconds since the beginning.
    pub const TIME_S: &str = "time_s";
}

impl Series {
    /// A line of a plot.
    #[must_use]
    pub fn new(scenario: &str, subject: &str, x: &str, y: &str, points: Vec<[f64; 2]>) -> Self {
        Self {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            x: x.to_owned(),
            y: y.to_owned(),
            points,
        }
    }

    /// A distribution of latencies: how long the fastest so many percent took at most.
    #[must_use]
    pub fn latency(scenario: &str, subject: &str, latency_ns: &Histogram<u64>) -> Self {
        let points = latency_ns
            .iter_quantiles(2)
            .map(|step| {
                [
                    step.quantile() * 100.0,
                    step.value_iterated_to() as f64 / 1e3,
                ]
            })
            .collect();
        Self::new(
            scenario,
            subject,
            axis::PERCENTILE,
            axis::LATENCY_US,
            points,
        )
    }
}

/// Where one packet's time goes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// What was measured.
    pub scenario: String,
    /// Who was measured.
    pub subject: String,
    /// In the order in which a packet meets them.
    pub stages: Vec<Stage>,
}

/// One part of a packet's time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// What is done there, such as `look up`.
    pub name: String,
    /// What it takes of each packet's time.
    pub ns_per_packet: f64,
}

impl Cost {
    /// A cost of the daemon's own worker.
    #[must_use]
    pub fn new<'a>(scenario: &str, stages: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let stage = |(name, ns_per_packet): (&str, f64)| Stage {
            name: name.to_owned(),
            ns_per_packet,
        };
        Self {
            scenario: scenario.to_owned(),
            subject: TIDEGATE.to_owned(),
            stages: stages.into_iter().map(stage).collect(),
        }
    }
}

/// The middle of the values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

fn spread(values: &[f64]) -> [f64; 2] {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_goal_is_met_by_the_ratio_where_there_is_one() {
        let met = |mut measured: Measured| {
            measured.complete();
            measured.is_met
        };
        assert_eq!(met(Measured::new("a", "b", &[20.0], 10.0, 2.0)), Some(true));
        assert_eq!(
            met(Measured::new("a", "b", &[21.0], 10.0, 2.0)),
            Some(false)
        );
        assert_eq!(
            met(Measured::alone("a", "b", &[5.0]).at_least(6.0)),
            Some(false)
        );
        assert_eq!(
            met(Measured::alone("a", "b", &[7.0]).at_least(6.0)),
            Some(true)
        );
        assert_eq!(met(Measured::alone("a", "b", &[7.0])), None);
    }

    #[test]
    fn rates_and_costs_stand_beside_line_rates() {
        let mut cost = Measured::alone("a", NS_PER_PACKET, &[134.4]);
        cost.complete();
        assert_eq!(cost.line_rates[0].cores, 2);
        assert!((cost.line_rates[0].share_per_core - 0.5).abs() < 1e-3);
        let mut rate = Measured::alone("a", FRAMES_PER_S, &[1e6]);
        rate.complete();
        assert!(rate.line_rates.is_empty(), "of unknown size");
        let mut rate = rate.of_frames(1514.0);
        rate.complete();
        assert_eq!(rate.line_rates[0].cores, 1);
    }

    #[test]
    fn j3_what_the_tester_limited_is_no_conclusion_about_the_subject() {
        let limited = Measured::alone("ndr.64", FRAMES_PER_S, &[8_000.0]).of_frames(60.0);
        let mut limited = limited.at_least(1e6).limited_by_tester(true);
        limited.complete();
        assert_eq!(
            limited.is_met, None,
            "the goal is not missed by the subject"
        );
        assert!(limited.line_rates.is_empty(), "no count of cores");
    }

    #[test]
    fn a_latency_series_ends_at_the_longest() {
        let mut histogram = Histogram::new(3).unwrap();
        for n in 1..=1000_u64 {
            histogram.record(n * 1000).unwrap();
        }
        let series = Series::latency("ndr", TIDEGATE, &histogram);
        let last = series.points.last().unwrap();
        assert_eq!(last[0], 100.0);
        assert!((last[1] - 1000.0).abs() < 1.0, "{last:?}");
        assert!(
            series
                .points
                .is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1])
        );
    }
}
