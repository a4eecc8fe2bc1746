//! The figures of this run beside those of earlier runs of this machine.

use maud::{Markup, html};

use super::plot::sparkline;
use super::scale::{number, quantity, utc};
use super::{is_drawn, name, ratio};
use crate::report::history::Run;
use crate::report::{FRAMES_PER_S, Measured, Report, median};

/// A change that is less than this share is noise on any machine.
const NOISE: f64 = 0.05;
/// The most runs in one line.
const SHOWN: usize = 40;

/// One small line for each figure that was measured before.
pub(super) fn history(report: &Report, earlier: &[Run]) -> Markup {
    let figures = report
        .results
        .iter()
        .filter(|measured| !is_drawn(report, measured));
    let rows = figures.filter_map(|measured| {
        let was = earlier.iter().filter_map(|run| {
            let figure = run.figures.iter().find(|figure| figure.is(measured))?;
            Some(figure.compared())
        });
        let was: Vec<f64> = was.collect();
        (!was.is_empty()).then_some((measured, was))
    });
    let rows: Vec<(&Measured, Vec<f64>)> = rows.collect();
    html! {
        @if let (false, Some(first)) = (rows.is_empty(), earlier.first()) {
            section {
                h2 { "Earlier runs of this machine" }
                p { (earlier.len()) " since " (utc(first.started_unix_s))
                    ". Ratios to the floor where there are any, else values; the change is against
                     the median of the earlier runs." }
                div.history {
                    @for (measured, was) in &rows { (row(measured, was)) }
                }
            }
        }
    }
}

fn row(measured: &Measured, was: &[f64]) -> Markup {
    let now = measured.ratio.unwrap_or(measured.value);
    let text = match ratio(measured) {
        Some(ratio) => format!("{}×", number(ratio)),
        None => {
            let (value, unit) = quantity(&measured.metric, measured.value);
            format!("{value} {unit}")
        }
    };
    let before = median(was);
    let change = (now - before) / before.abs().max(f64::MIN_POSITIVE);
    let values: Vec<f64> = was.iter().copied().chain([now]).collect();
    let shown = &values[values.len().saturating_sub(SHOWN)..];
    html! {
        div {
            div.top { span { (name(measured)) } b { (text) } }
            (sparkline(shown))
            div.top {
                span.change { (was.len()) @if was.len() == 1 { " run" } @else { " runs" } " before" }
                span class={ "change " (judgement(measured, change)) } {
                    (format!("{:+.1} %", change * 100.0))
                }
            }
        }
    }
}

/// Whether more is better is only known of metrics that say so.
fn judgement(measured: &Measured, change: f64) -> &'static str {
    if change.abs() < NOISE {
        return "";
    }
    let metric = measured.metric.as_str();
    let is_rate =
        metric == FRAMES_PER_S || metric.ends_with("_per_s") || metric.ends_with("_per_second");
    let is_cost = metric.ends_with("_per_packet")
        || ["_ns", "_us", "_ms", "bytes"]
            .iter()
            .any(|ending| metric.ends_with(ending));
    match (is_rate || measured.is_goal_least, is_cost, change > 0.0) {
        (true, _, true) | (false, true, false) => "better",
        (true, _, false) | (false, true, true) => "worse",
        _ => "",
    }
}
