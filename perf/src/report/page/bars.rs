//! Figures as bars, which take the window's width.

use maud::{Markup, html};

use super::ratio;
use super::scale::number;
use crate::report::{Cost, Measured, NS_PER_PACKET, Report, TIDEGATE};

/// Each scenario's cost as a ratio to the floor's, with its goal.
pub(super) fn ratios(report: &Report) -> Markup {
    let is_cost = |m: &&Measured| m.metric == NS_PER_PACKET && ratio(m).is_some();
    let rows: Vec<&Measured> = report.results.iter().filter(is_cost).collect();
    let values = rows
        .iter()
        .flat_map(|m| [ratio(m).unwrap_or(0.0), m.goal.unwrap_or(0.0)]);
    let longest = values.fold(1.0, f64::max);
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Cost beside the floor" }
                p { "How many times the floor's nanoseconds a packet takes. The upright line is the
                     goal." }
                div.bars {
                    @for measured in rows {
                        @let value = ratio(measured).unwrap_or(0.0);
                        div.what {
                            (measured.scenario)
                            span { (number(measured.value)) " ns beside "
                                (number(measured.floor.unwrap_or(f64::NAN))) " ns" }
                        }
                        div.track {
                            (bar(value / longest, measured.goal.map(|goal| goal / longest), value))
                            @if let Some(goal) = measured.goal {
                                div.goal style={ "left:" (percent(goal / longest)) }
                                    title={ "goal " (number(goal)) "×" } {}
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The most of the track's width that a bar takes whose value stands behind it.
const ROOM_BEHIND: f64 = 0.82;
/// What a value takes of the track's width.
const VALUE_WIDTH: f64 = 0.13;

/// A bar with its value behind it, or behind the goal's line where that would go through it.
fn bar(share: f64, goal: Option<f64>, value: f64) -> Markup {
    let text = format!("{}×", number(value));
    let goal = goal.filter(|goal| (share..share + VALUE_WIDTH).contains(goal));
    let behind = goal.unwrap_or(share);
    html! {
        div.bar style={ "width:" (percent(share)) } {}
        @if behind <= ROOM_BEHIND {
            div.bar-value style={ "left:" (percent(behind)) } { (text) }
        } @else {
            div.bar-value.inside style={ "right:" (percent(1.0 - share)) } { (text) }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// The least of the width that a part takes whose number stands in it.
const ROOM_INSIDE: f64 = 0.08;

/// Where a packet's time goes, one bar for each scenario.
pub(super) fn costs(report: &Report) -> Markup {
    let costs: Vec<&Cost> = report
        .costs
        .iter()
        .filter(|cost| !cost.stages.is_empty())
        .collect();
    let total = |cost: &Cost| {
        cost.stages
            .iter()
            .map(|stage| stage.ns_per_packet)
            .sum::<f64>()
    };
    let longest = costs
        .iter()
        .map(|cost| total(cost))
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut names: Vec<&str> = Vec::new();
    for stage in costs.iter().flat_map(|cost| &cost.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    let colour = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0) % 8;
    html! {
        @if !costs.is_empty() {
            section {
                h2 { "Where a packet's time goes" }
                p { "Nanoseconds a packet by stage, in the order in which a packet meets them." }
                ul.legend {
                    @for name in &names {
                        li { span class={ "swatch c" (colour(name)) } {} (name) }
                    }
                }
                div.bars {
                    @for cost in &costs {
                        div.what {
                            (cost.scenario)
                            span { @if cost.subject != TIDEGATE { (cost.subject) ", " }
                                (number(total(cost))) " ns" }
                        }
                        div.stack style={ "width:" (percent(total(cost) / longest)) } {
                            @for stage in &cost.stages {
                                div class={ "c" (colour(&stage.name)) }
                                    style={ "flex:" (format!("{:.4}", stage.ns_per_packet)) " 1 0" }
                                    title={ (stage.name) ": " (number(stage.ns_per_packet)) " ns" } {
                                    @if stage.ns_per_packet / longest > ROOM_INSIDE {
                                        (number(stage.ns_per_packet))
                                    }
                                }
                            }
                        }
                    }
                }
                (numbers(&costs, &names))
            }
        }
    }
}

fn numbers(costs: &[&Cost], names: &[&str]) -> Markup {
    let of = |cost: &Cost, name: &str| {
        let stage = cost.stages.iter().find(|stage| stage.name == name);
        stage.map_or_else(|| "–".to_owned(), |stage| number(stage.ns_per_packet))
    };
    html! {
        details {
            summary { "Numbers" }
            div.scroll {
                table {
                    thead { tr { th { "Stage" } @for cost in costs { th.n { (cost.scenario) } } } }
                    tbody {
                        @for name in names {
                            tr {
                                td { (name) }
                                @for cost in costs { td.n { (of(cost, name)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
