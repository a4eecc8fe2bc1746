//! Figures as bars, which take the window's width.

use maud::{Markup, html};

use super::scale::number;
use super::{COLOURS, ratio};
use crate::report::{Cost, Measured, NS_PER_PACKET, Report, Stage, TIDEGATE};

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
                            span { @if measured.subject != TIDEGATE { (measured.subject) ", " }
                                (number(measured.value)) " ns beside "
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

/// A stage that takes no more than this of any packet's time is put to the rest.
const SMALL: f64 = 0.02;
const REST: &str = "the rest";

/// A cost as it is drawn: its stages in words, small ones together.
struct Drawn<'a> {
    cost: &'a Cost,
    total: f64,
    stages: Vec<(String, f64)>,
}

fn drawn(costs: &[Cost]) -> Vec<Drawn<'_>> {
    let costs: Vec<&Cost> = costs.iter().filter(|cost| total(cost) > 0.0).collect();
    let is_small = |name: &str| {
        costs.iter().all(|cost| {
            let mut stages = cost.stages.iter().filter(|stage| stage.name == name);
            stages.all(|stage| stage.ns_per_packet <= SMALL * total(cost))
        })
    };
    costs
        .iter()
        .map(|cost| Drawn::new(cost, &is_small))
        .collect()
}

fn total(cost: &Cost) -> f64 {
    cost.stages.iter().map(|stage| stage.ns_per_packet).sum()
}

impl<'a> Drawn<'a> {
    fn new(cost: &'a Cost, is_small: &dyn Fn(&str) -> bool) -> Self {
        let (small, large): (Vec<&Stage>, Vec<&Stage>) =
            cost.stages.iter().partition(|stage| is_small(&stage.name));
        let words = |stage: &&Stage| (stage.name.replace('_', " "), stage.ns_per_packet);
        let mut stages: Vec<(String, f64)> = large.iter().map(words).collect();
        if !small.is_empty() {
            let rest = small.iter().map(|stage| stage.ns_per_packet).sum();
            stages.push((REST.to_owned(), rest));
        }
        Self {
            cost,
            total: total(cost),
            stages,
        }
    }
}

/// The colour of what is of no interest by itself.
const GREY: usize = 5;

/// Where a packet's time goes, one bar for each scenario.
pub(super) fn costs(report: &Report) -> Markup {
    let costs = drawn(&report.costs);
    let longest = costs
        .iter()
        .map(|cost| cost.total)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in costs.iter().flat_map(|cost| &cost.stages) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    // The rest comes last, as it does in each bar.
    names.sort_by_key(|name| *name == REST);
    let colour = |name: &str| match names.iter().position(|known| *known == name) {
        Some(_) if name == REST => GREY,
        Some(place) if place < GREY => place,
        place => (place.unwrap_or(0) + 1) % COLOURS,
    };
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
                            (cost.cost.scenario)
                            span { @if cost.cost.subject != TIDEGATE { (cost.cost.subject) ", " }
                                (number(cost.total)) " ns" }
                        }
                        div.stack style={ "width:" (percent(cost.total / longest)) } {
                            @for (name, ns) in &cost.stages {
                                div class={ "c" (colour(name)) }
                                    style={ "flex:" (format!("{ns:.4}")) " 1 0" }
                                    title={ (name) ": " (number(*ns)) " ns" } {
                                    @if ns / longest > ROOM_INSIDE { (number(*ns)) }
                                }
                            }
                        }
                    }
                }
                (numbers(&report.costs))
            }
        }
    }
}

/// Every stage, the small ones as well.
fn numbers(costs: &[Cost]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for stage in costs.iter().flat_map(|cost| &cost.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
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
                        @for name in &names {
                            tr {
                                td { (name.replace('_', " ")) }
                                @for cost in costs { td.n { (of(cost, name)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
