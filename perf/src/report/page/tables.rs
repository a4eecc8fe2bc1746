//! Figures in rows.

use maud::{Markup, html};

use super::scale::{number, quantity, short};
use super::{is_drawn, name, ratio};
use crate::report::line_rate::SPEEDS_GBIT;
use crate::report::{Measured, Report};

/// The figures that have goals.
pub(super) fn goals(report: &Report) -> Markup {
    let rows: Vec<&Measured> = report
        .results
        .iter()
        .filter(|m| m.is_met.is_some())
        .collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Goals" }
                p { "With × it is a ratio to the floor of the same run: a loop that only rewrites the
                     link-layer addresses. Steal and stalls are what the machine took from that
                     figure's measurement." }
                div.scroll {
                    table {
                        thead { tr {
                            th { "Scenario" } th { "" } th.n { "Reached" } th.n { "Goal" }
                            th.n.wide-only { "Value" } th.n.wide-only { "Spread" }
                            th.n.wide-only { "Steal" }
                        } }
                        tbody { @for measured in rows { (goal_row(measured)) } }
                    }
                }
            }
        }
    }
}

fn goal_row(measured: &Measured) -> Markup {
    let (value, unit) = quantity(&measured.metric, measured.value);
    let is_met = measured.is_met == Some(true);
    let sign = if measured.is_goal_least { "≥" } else { "≤" };
    let goal = measured.goal.unwrap_or(f64::NAN);
    let (reached, goal) = match ratio(measured) {
        Some(ratio) => (format!("{}×", number(ratio)), format!("{}×", number(goal))),
        None => (value.clone(), quantity(&measured.metric, goal).0),
    };
    html! {
        tr {
            td { (name(measured)) (notes(measured)) }
            td { span class=(if is_met { "pill met" } else { "pill missed" }) {
                @if is_met { "✓ met" } @else { "✗ missed" }
            } }
            td.n { b { (reached) } }
            td.n { (sign) " " (goal) }
            td.n.wide-only { (value) " " span.unit { (unit) } }
            td.n.wide-only { (spread(measured)) }
            td.n.wide-only { (steal(measured)) }
        }
    }
}

/// The figures that have none.
pub(super) fn others(report: &Report) -> Markup {
    let is_shown = |m: &&Measured| m.is_met.is_none() && !is_drawn(report, m);
    let rows: Vec<&Measured> = report.results.iter().filter(is_shown).collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Other figures" }
                p { "Without a goal." }
                div.scroll {
                    table {
                        thead { tr {
                            th { "Scenario" } th.wide-only { "Metric" } th.n { "Value" }
                            th.n.wide-only { "Spread" } th.n.wide-only { "× floor" }
                            th.n.wide-only { "Steal" }
                        } }
                        tbody {
                            @for measured in rows {
                                @let (value, unit) = quantity(&measured.metric, measured.value);
                                tr {
                                    td { (name(measured)) (notes(measured)) }
                                    td class="soft wide-only" { (measured.metric) }
                                    td.n {
                                        @if measured.is_testers_limit { "≥ " }
                                        b { (value) } " " span.unit { (unit) }
                                    }
                                    td.n.wide-only { (spread(measured)) }
                                    td.n.wide-only {
                                        (ratio(measured).map_or_else(|| "–".to_owned(), number))
                                    }
                                    td.n.wide-only { (steal(measured)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn notes(measured: &Measured) -> Markup {
    html! { @for note in &measured.notes { span.note { (note) } } }
}

fn spread(measured: &Measured) -> String {
    let [low, high] = measured
        .spread
        .map(|value| quantity(&measured.metric, value).0);
    match low == high {
        true => "–".to_owned(),
        false => format!("{low} to {high}"),
    }
}

fn steal(measured: &Measured) -> String {
    let disturbance = &measured.disturbance;
    match disturbance.stalls {
        0 => format!("{} %", number(disturbance.steal * 100.0)),
        stalls => format!("{} %, {stalls} stalls", number(disturbance.steal * 100.0)),
    }
}

/// Rates beside those of Ethernet links.
pub(super) fn line_rates(report: &Report) -> Markup {
    let rows: Vec<&Measured> = report
        .results
        .iter()
        .filter(|m| !m.line_rates.is_empty())
        .collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Beside line rate" }
                p { "The part of a link's line rate that one core reaches, and how many such cores
                     the whole rate takes, if more cores do more in proportion; first, frames a second
                     of one core. Of a cost in one
                     process, at the shortest frames, and before what a NIC's driver takes." }
                div.scroll {
                    table {
                        thead { tr {
                            th { "Scenario" } th.n { "A core" }
                            @for speed in SPEEDS_GBIT { th.n { (speed) " GbE" } }
                        } }
                        tbody {
                            @for measured in rows {
                                @let first = measured.line_rates[0];
                                tr {
                                    td { (name(measured)) }
                                    td.n { (short(first.line_frames_per_s * first.share_per_core)) }
                                    @for share in &measured.line_rates {
                                        td.n {
                                            (number(share.share_per_core * 100.0)) " % "
                                            span.unit { (cores(share.cores)) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cores(cores: u64) -> String {
    match cores {
        1 => "1 core".to_owned(),
        few if few < 10_000 => format!("{few} cores"),
        _ => "–".to_owned(),
    }
}
