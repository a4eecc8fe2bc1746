//! The report as one page that needs nothing else: no network, no script, its own pictures.

mod bars;
mod environment;
mod flood;
mod past;
mod plot;
mod plots;
mod scale;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(in crate::report) use self::scale::short;
use self::scale::{number, time, trimmed, utc};
use super::conclusion::{GUARD_FLOOD, step_of};
use super::history::Run;
use super::{Measured, NS_PER_PACKET, Report, TIDEGATE};

/// Steal above this share makes figures doubtful, and a reader is told before anything else.
const DOUBTFUL_STEAL: f64 = 0.01;

/// So does a tester that stood still for longer than this, in microseconds.
const DOUBTFUL_STALL_US: f64 = 5_000.0;

/// The page, with what earlier runs of this machine gave.
pub(super) fn page(report: &Report, earlier: &[Run]) -> String {
    let subjects = Subjects::of(report);
    let title = format!("Tidegate performance, {}", utc(report.started_unix_s));
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "tidegate-perf " (report.version) };
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main {
                    (head(report))
                    (tables::goals(report))
                    (flood::table(report))
                    (bars::ratios(report))
                    (plots::all(report, &subjects))
                    (bars::costs(report))
                    (tables::line_rates(report))
                    (tables::others(report))
                    (past::history(report, earlier))
                    (environment::environment(report))
                }
            }
        }
    };
    markup.into_string()
}

/// Who was measured, each with a colour that is the same all over the page.
struct Subjects(Vec<String>);

/// Colours of the style.
const COLOURS: usize = 8;

impl Subjects {
    fn of(report: &Report) -> Self {
        let mut names = vec![TIDEGATE.to_owned()];
        let figures = report.results.iter().map(|measured| &measured.subject);
        for name in figures.chain(report.series.iter().map(|series| &series.subject)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Self(names)
    }

    fn colour(&self, name: &str) -> usize {
        self.0.iter().position(|known| known == name).unwrap_or(0) % COLOURS
    }
}

fn head(report: &Report) -> Markup {
    let steal = report.disturbance.steal;
    let stalls = report
        .results
        .iter()
        .map(|measured| measured.disturbance.longest_stall_us);
    let longest_stall_us = stalls.fold(0.0, f64::max);
    html! {
        h1 { "Tidegate performance report" }
        (verdict(report))
        @if report.is_partial {
            p.banner role="status" { "Partial: not everything was measured. What is here is valid." }
        }
        @if let Some(label) = &report.label {
            p.banner role="status" {
                "Read these figures as " (label) "."
                @if !report.devices.is_empty() { " The devices are virtual." }
            }
        }
        @if steal > DOUBTFUL_STEAL {
            p.banner role="status" {
                "The machine was disturbed: others took " (number(steal * 100.0))
                " % of its processors' time. Compare ratios, not times."
            }
        }
        @if longest_stall_us > DOUBTFUL_STALL_US {
            p.banner role="status" {
                "The tester stood still for up to " (time(longest_stall_us * 1e3))
                ". Latencies and loss are partly that: give it cores of its own."
            }
        }
        ul.facts {
            li { b { (utc(report.started_unix_s)) } ", took " (duration(report.took_s)) }
            li { b { (report.machine.cpu) } ", " (report.machine.processors) " processors" }
            li { "version " b { (report.version) } ", commit " b { (report.commit) } }
            li { b { (report.dpdk) } ", Linux " b { (report.machine.kernel) } }
        }
    }
}

fn verdict(report: &Report) -> Markup {
    let judged: Vec<&Measured> = report
        .results
        .iter()
        .filter(|m| m.is_met.is_some())
        .collect();
    let missed: Vec<&&Measured> = judged.iter().filter(|m| m.is_met == Some(false)).collect();
    let met = judged.len() - missed.len();
    let conclusions = report.conclusions();
    let is_told = judged.is_empty() && !conclusions.is_empty();
    html! {
        p.verdict.sentences[is_told] {
            @match (judged.len(), missed.len()) {
                (0, _) if is_told => {
                    @for (n, sentence) in conclusions.iter().enumerate() {
                        @if n > 0 { br; }
                        (sentence)
                    }
                }
                (0, _) => { (report.results.len()) " figures " small { "without goals" } }
                (all, 0) => { "All goals met " small { "(" (all) ")" } }
                (all, _) => { (met) " of " (all) " goals met" }
            }
        }
        @if !judged.is_empty() {
            @for sentence in &conclusions { p.lead { (sentence) } }
        }
        @if !missed.is_empty() {
            p.lead {
                "Missed: "
                @for (n, measured) in missed.iter().enumerate() {
                    @if n > 0 { ", " }
                    b { (measured.scenario) } " " (judged_text(measured))
                }
                "."
            }
        }
    }
}

/// The figure that is judged, beside its goal.
fn judged_text(measured: &Measured) -> String {
    let goal = measured.goal.unwrap_or(f64::NAN);
    match ratio(measured) {
        Some(ratio) => format!("{}× (goal {}×)", number(ratio), number(goal)),
        None => {
            let (value, unit) = scale::quantity(&measured.metric, measured.value);
            let (goal, _) = scale::quantity(&measured.metric, goal);
            format!("{value} {unit} (goal {goal})")
        }
    }
}

/// The ratio to a floor that was measured: a floor of one stands for a goal in the metric's own
/// unit.
fn ratio(measured: &Measured) -> Option<f64> {
    measured.ratio.filter(|_| measured.floor != Some(1.0))
}

/// Whether the figure is in a picture with its numbers, as a part of a cost or a point of a line.
fn is_drawn(report: &Report, measured: &Measured) -> bool {
    let stage = measured.metric.strip_prefix(NS_PER_PACKET);
    if stage.is_some_and(|rest| rest.starts_with('.')) {
        return report
            .costs
            .iter()
            .any(|cost| cost.scenario == measured.scenario);
    }
    if measured.scenario == GUARD_FLOOD && step_of(&measured.metric).is_some() {
        return true;
    }
    let Some((drawn, _)) = measured.metric.split_once("_at_") else {
        return false;
    };
    report
        .series
        .iter()
        .any(|series| series.scenario == measured.scenario && series.y == drawn)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{} s", number(s)),
        s if s < 6_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

/// A figure's name, with its subject where that is not this program's own.
fn name(measured: &Measured) -> Markup {
    html! {
        span.name-cell { (measured.scenario) }
        @if measured.subject != TIDEGATE { " " span.soft { (measured.subject) } }
        @if let Some(size) = measured.frame_bytes {
            " " span.soft { (trimmed((size + 4.0).round())) " octets" }
        }
    }
}

#[cfg(test)]
mod tests;
