//! What a flood left of legitimate connections, as a table.

use maud::{Markup, html};

use super::scale::{number, short, time, trimmed};
use crate::report::Report;
use crate::report::conclusion::steps;

/// A row for each subject and flood.
pub(super) fn table(report: &Report) -> Markup {
    let all = steps(&report.results);
    html! {
        @if !all.is_empty() {
            section {
                h2 { "What a flood leaves of legitimate connections" }
                p { "Connections with a request and a verified response, begun while spoofed SYNs and
                     forged ACKs go to the same server. The servers are the tester's own and keep
                     nothing of a SYN: with nothing before them they bear a flood as few real ones
                     do, and all of it reaches them." }
                div.scroll {
                    table {
                        thead { tr {
                            th { "Between tester and server" } th.n { "Flood, packets/s" }
                            th.n { "Connections served" } th.n { "First byte, median" }
                            th.n { "First byte, p99" } th.n { "Spoofed SYNs at the server" }
                        } }
                        tbody {
                            @for (subject, steps) in &all {
                                @for (place, step) in steps.iter().enumerate() {
                                    tr {
                                        td { @if place == 0 { b { (subject_words(subject)) } } }
                                        td.n { (short(step.sent_per_s)) }
                                        @if step.is_testers_limit {
                                            td.n colspan="4" { "not judged: the tester was the limit" }
                                        } @else {
                                            td.n { (trimmed(step.success * 100.0)) " %" }
                                            td.n { (time(step.p50_us * 1e3)) }
                                            td.n { (time(step.p99_us * 1e3)) }
                                            td.n { (number(step.arrived)) }
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

/// A subject's name, with what it is where the name does not say it.
fn subject_words(subject: &str) -> &str {
    match subject {
        "bare" => "bare: nothing, the server itself",
        other => other,
    }
}
