//! The lines of a report, put into plots: one for each scenario and pair of axes.

use maud::{Markup, html};

use super::plot::{Axis, Line, Plot};
use super::scale::{Scale, label, short, time, trimmed};
use super::{COLOURS, Subjects};
use crate::report::line_rate::{SPEEDS_GBIT, frames_per_s};
use crate::report::{FRAMES_PER_S, Report, Series, axis};

/// Values further apart than this are drawn by ratio.
const WIDE_RANGE: f64 = 60.0;

/// The lines of one plot.
struct Group<'a> {
    scenario: &'a str,
    members: Vec<Member<'a>>,
}

struct Member<'a> {
    series: &'a Series,
    /// What its line is called.
    name: String,
    colour: usize,
}

/// Every plot.
pub(super) fn all(report: &Report, subjects: &Subjects) -> Markup {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for series in &report.series {
        if series.points.is_empty() {
            continue;
        }
        let member = Member {
            series,
            name: series.subject.clone(),
            colour: subjects.colour(&series.subject),
        };
        let is_same = |group: &&mut Group<'_>| {
            let first = group.members[0].series;
            (&first.scenario, &first.x, &first.y) == (&series.scenario, &series.x, &series.y)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.members.push(member),
            None => groups.push(Group {
                scenario: &series.scenario,
                members: vec![member],
            }),
        }
    }
    let groups = shares_together(groups);
    let titles = titles(&groups);
    html! { @for (group, title) in groups.iter().zip(&titles) { (section(group, title)) } }
}

/// Puts the latencies of one subject at several shares of its throughput, whose scenarios end in
/// the share, such as `latency.64.50%`, into one plot, each line named by its share.
fn shares_together(groups: Vec<Group<'_>>) -> Vec<Group<'_>> {
    fn stem<'a>(group: &Group<'a>) -> Option<(&'a str, &'a str)> {
        let is_alone = group.members.len() == 1;
        let is_latency = group.members[0].series.x == axis::PERCENTILE;
        let parts = group
            .scenario
            .rsplit_once('.')
            .filter(|(_, share)| share.ends_with('%'));
        parts.filter(|_| is_alone && is_latency)
    }
    let mut together: Vec<Group<'_>> = Vec::new();
    for mut group in groups {
        let Some((scenario, share)) = stem(&group) else {
            together.push(group);
            continue;
        };
        let mut member = group.members.remove(0);
        member.name = format!("at {share}");
        let is_same = |known: &&mut Group<'_>| {
            known.scenario == scenario && known.members[0].series.subject == member.series.subject
        };
        match together.iter_mut().find(is_same) {
            Some(known) => {
                member.colour = known.members.len() % COLOURS;
                known.members.push(member);
            }
            None => together.push(Group {
                scenario,
                members: vec![member],
            }),
        }
    }
    together
}

/// A title of its own for each plot: what two have in common is told apart by the scenario, and by
/// the subject where that is the same too.
fn titles(groups: &[Group<'_>]) -> Vec<String> {
    let plain = |group: &Group<'_>| words(group.members[0].series).0;
    let with_scenario = |group: &Group<'_>| format!("{}: {}", plain(group), group.scenario);
    let with_subject = |group: &Group<'_>| {
        format!(
            "{}, {}",
            with_scenario(group),
            group.members[0].series.subject
        )
    };
    let is_alone = |title: &str, of: &dyn Fn(&Group<'_>) -> String| {
        groups.iter().filter(|group| of(group) == title).count() == 1
    };
    let title = |group: &Group<'_>| {
        for of in [&plain as &dyn Fn(&Group<'_>) -> String, &with_scenario] {
            let title = of(group);
            if is_alone(&title, of) {
                return title;
            }
        }
        with_subject(group)
    };
    groups.iter().map(title).collect()
}

fn section(group: &Group<'_>, title: &str) -> Markup {
    let (_, words) = words(group.members[0].series);
    html! {
        section {
            h2 { (title) }
            p { b { (group.scenario) } @if !words.is_empty() { ". " (words) } }
            (plot(&group.members).draw())
            (numbers(&group.members))
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
        (axis::FLOOD_PACKETS_PER_S, axis::SUCCESS_RATIO) => (
            "Success under flood",
            "The share of legitimate connections that succeed while a flood runs beside them.",
        ),
        (FRAMES_PER_S, axis::LOSS_RATIO) => ("Frame loss by load", "RFC 2544 §26.3."),
        (axis::FRAME_BYTES, axis::LOSS_RATIO) => (
            "Frames lost by frame size",
            "At the rate that was asked for. Frame sizes are with their check sequence.",
        ),
        (axis::FLOOD_PACKETS_PER_S, "first_byte_p50_us") => (
            "Median time to the first byte under flood",
            "From the first SYN of a legitimate connection to the first byte of its response.",
        ),
        (axis::FLOOD_PACKETS_PER_S, "first_byte_p99_us") => (
            "99th percentile of the time to the first byte under flood",
            "From the first SYN of a legitimate connection to the first byte of its response.",
        ),
        (axis::FLOOD_PACKETS_PER_S, "flood_syns_arrived") => (
            "Spoofed SYNs that reached the server",
            "In the whole of each step; a guard lets none through.",
        ),
        (x, _) => {
            let what = capitalised(&label(&series.y));
            return match x {
                axis::FLOOD_PACKETS_PER_S => (
                    format!("{what}, under flood"),
                    "Legitimate connections while a flood runs beside them.",
                ),
                axis::TIME_S => (format!("{what}, over time"), "One point for each interval."),
                _ => (format!("{what}, over {}", label(&series.x)), ""),
            };
        }
    };
    (known.0.to_owned(), known.1)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn plot(group: &[Member<'_>]) -> Plot {
    let first = group[0].series;
    let places = |index: usize| {
        group
            .iter()
            .flat_map(move |member| member.series.points.iter().map(move |p| p[index]))
    };
    let is_throughput = first.x == axis::FRAME_BYTES && first.y == FRAMES_PER_S;
    let x_scale = match first.x.as_str() {
        axis::FRAME_BYTES => each(places(0)),
        axis::PERCENTILE => Scale::nines(places(0)),
        axis::FLOOD_PACKETS_PER_S => Scale::log_and_zero(places(0)),
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
    let lines = group.iter().map(|member| Line {
        name: member.name.clone(),
        colour: member.colour,
        points: sorted(member.series),
    });
    let x_label = match first.x.as_str() {
        axis::FRAME_BYTES => "bytes of a frame".to_owned(),
        other => label(other),
    };
    Plot {
        x: Axis {
            label: x_label + x_scale.words(),
            scale: x_scale,
            text: text(&first.x),
        },
        y: Axis {
            label: label(&first.y) + y_scale.words(),
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
        _ if metric.ends_with("_ns") => time,
        _ if metric.ends_with("_us") => |value| time(value * 1e3),
        _ if metric.ends_with("_ms") => |value| time(value * 1e6),
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

fn numbers(group: &[Member<'_>]) -> Markup {
    let first = group[0].series;
    let (x_text, y_text) = (text(&first.x), text(&first.y));
    html! {
        details {
            summary { "Numbers" }
            div.scroll {
                table {
                    thead { tr { th { "Subject" } th.n { (label(&first.x)) } th.n { (label(&first.y)) } } }
                    tbody {
                        @for member in group {
                            @for point in sorted(member.series) {
                                tr {
                                    td { (member.name) }
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
