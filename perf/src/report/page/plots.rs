//! The lines of a report, put into plots: one for each scenario and pair of axes.

use maud::{Markup, html};

use super::Subjects;
use super::plot::{Axis, Line, Plot};
use super::scale::{Scale, label, short, trimmed};
use crate::report::line_rate::{SPEEDS_GBIT, frames_per_s};
use crate::report::{FRAMES_PER_S, Report, Series, axis};

/// Values further apart than this are drawn by ratio.
const WIDE_RANGE: f64 = 60.0;

/// Every plot.
pub(super) fn all(report: &Report, subjects: &Subjects) -> Markup {
    let mut groups: Vec<Vec<&Series>> = Vec::new();
    for series in report
        .series
        .iter()
        .filter(|series| !series.points.is_empty())
    {
        let is_same = |group: &&mut Vec<&Series>| {
            let first = group[0];
            (&first.scenario, &first.x, &first.y) == (&series.scenario, &series.x, &series.y)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.push(series),
            None => groups.push(vec![series]),
        }
    }
    html! { @for group in &groups { (section(group, subjects)) } }
}

fn section(group: &[&Series], subjects: &Subjects) -> Markup {
    let first = group[0];
    let (title, words) = words(first);
    html! {
        section {
            h2 { (title) }
            p { b { (first.scenario) } @if !words.is_empty() { ". " (words) } }
            (plot(group, subjects).draw())
            (numbers(group))
        }
    }
}

/// A plot's title, and what a reader must know to read it.
fn words(series: &Series) -> (String, &'static str) {
    let known = match (series.x.as_str(), series.y.as_str()) {
        (axis::FRAME_BYTES, FRAMES_PER_S) => (
            "Throughput by frame size",
            "Dashed lines are what Ethernet links carry at most. Frame sizes are with their check sequence.",
        ),
        (axis::PERCENTILE, axis::LATENCY_US) => (
            "Latency by percentile",
            "How long all but the slowest frames took; each further nine has as much room.",
        ),
        (axis::FLOOD_FRAMES_PER_S, axis::SUCCESS_RATIO) => (
            "Success under flood",
            "The share of legitimate connections that succeed while a flood runs beside them.",
        ),
        (axis::FLOOD_FRAMES_PER_S, _) => (
            "Behaviour under flood",
            "Legitimate connections while a flood runs beside them.",
        ),
        (FRAMES_PER_S, axis::LOSS_RATIO) => ("Frame loss by load", "RFC 2544 §26.3."),
        (axis::TIME_S, _) => ("Over time", "One point for each interval."),
        _ => {
            return (
                format!("{} over {}", label(&series.y), label(&series.x)),
                "",
            );
        }
    };
    (known.0.to_owned(), known.1)
}

fn plot(group: &[&Series], subjects: &Subjects) -> Plot {
    let first = group[0];
    let places = |index: usize| {
        group
            .iter()
            .flat_map(move |s| s.points.iter().map(move |p| p[index]))
    };
    let is_throughput = first.x == axis::FRAME_BYTES && first.y == FRAMES_PER_S;
    let x_scale = match first.x.as_str() {
        axis::FRAME_BYTES => each(places(0)),
        axis::PERCENTILE => Scale::nines(places(0)),
        axis::FLOOD_FRAMES_PER_S => Scale::log_and_zero(places(0)),
        _ if is_wide(places(0)) => Scale::log(places(0)),
        _ => Scale::linear(places(0)),
    };
    let y_scale = match first.y.as_str() {
        _ if is_throughput => throughput_scale(places(0), places(1)),
        axis::SUCCESS_RATIO => Scale::Linear {
            low: 0.0,
            high: 1.0,
        },
        _ if is_wide(places(1)) => Scale::log(places(1)),
        _ => Scale::linear(places(1)),
    };
    let references = match (is_throughput, &x_scale) {
        (true, Scale::Each(sizes)) => line_rates(sizes),
        _ => Vec::new(),
    };
    let lines = group.iter().map(|series| Line {
        name: series.subject.clone(),
        colour: subjects.colour(&series.subject),
        points: sorted(series),
    });
    Plot {
        x: Axis {
            label: if first.x == axis::FRAME_BYTES {
                "octets of a frame".to_owned()
            } else {
                label(&first.x)
            },
            scale: x_scale,
            text: text(&first.x),
        },
        y: Axis {
            label: label(&first.y),
            scale: y_scale,
            text: text(&first.y),
        },
        lines: lines.collect(),
        references,
    }
}

fn sorted(series: &Series) -> Vec<[f64; 2]> {
    let mut points = series.points.clone();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    points
}

fn each(values: impl Iterator<Item = f64>) -> Scale {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    Scale::Each(values)
}

fn is_wide(values: impl Iterator<Item = f64> + Clone) -> bool {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    low > 0.0 && high / low > WIDE_RANGE
}

/// Room for the line rate of 10 Gbit/s at least, since that is what the figures are read beside.
fn throughput_scale(
    sizes: impl Iterator<Item = f64>,
    rates: impl Iterator<Item = f64> + Clone,
) -> Scale {
    let smallest = sizes.fold(f64::INFINITY, f64::min);
    let line = frames_per_s(SPEEDS_GBIT[0], smallest);
    Scale::log(rates.chain([line]).collect::<Vec<_>>().into_iter())
}

fn line_rates(sizes: &[f64]) -> Vec<Line> {
    let line = |speed: u32| Line {
        name: format!("{speed} GbE"),
        colour: 0,
        points: sizes
            .iter()
            .map(|&size| [size, frames_per_s(speed, size)])
            .collect(),
    };
    SPEEDS_GBIT.map(line).into()
}

/// How values of an axis are written.
fn text(metric: &str) -> fn(f64) -> String {
    match metric {
        axis::FRAME_BYTES => |value| trimmed((value + 4.0).max(64.0).round()),
        axis::PERCENTILE => |value| format!("{}", (value * 1e6).round() / 1e6),
        _ if metric.ends_with("_ratio") => |value| format!("{} %", trimmed(value * 100.0)),
        _ => |value| {
            if value.abs() >= 1e4 {
                short(value)
            } else {
                trimmed(value)
            }
        },
    }
}

fn numbers(group: &[&Series]) -> Markup {
    let first = group[0];
    let (x_text, y_text) = (text(&first.x), text(&first.y));
    html! {
        details {
            summary { "Numbers" }
            div.scroll {
                table {
                    thead { tr { th { "Subject" } th.n { (label(&first.x)) } th.n { (label(&first.y)) } } }
                    tbody {
                        @for series in group {
                            @for point in sorted(series) {
                                tr {
                                    td { (series.subject) }
                                    td.n { (x_text(point[0])) }
                                    td.n { (y_text(point[1])) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
