//! What it was measured on and with: enough to do it again.

use maud::{Markup, html};

use super::duration;
use super::scale::{number, utc};
use crate::report::Report;

/// The last section.
pub(super) fn environment(report: &Report) -> Markup {
    let machine = &report.machine;
    let gibibytes = machine.memory_bytes as f64 / f64::from(1 << 30);
    html! {
        section {
            h2 { "How this was measured" }
            @if !report.notes.is_empty() {
                @for note in &report.notes { p { (note) } }
            }
            dl {
                dt { "Command" } dd { code { (report.command.join(" ")) } }
                dt { "Began" } dd { (utc(report.started_unix_s)) ", took " (duration(report.took_s)) }
                dt { "Program" }
                dd { "tidegate-perf " (report.version) ", commit " code { (report.commit) } }
                dt { "DPDK" } dd { (report.dpdk) }
                dt { "Kernel" } dd { (machine.kernel) }
                dt { "Processor" }
                dd {
                    (machine.cpu) ", " (machine.processors) " processors, measured on core "
                    (report.core)
                    @if let Some(hypervisor) = &machine.hypervisor {
                        ", a virtual machine"
                        @if hypervisor != "unknown" { " (" (hypervisor) ")" }
                    }
                }
                dt { "Memory" }
                dd { (number(gibibytes)) " GiB, packets in "
                    @if report.huge_pages { "huge pages" } @else { "pages of 4 KiB" } }
                dt { "Disturbance" }
                dd { (number(report.disturbance.steal * 100.0))
                    " % of all processors' time went to others over the run" }
                @if !report.devices.is_empty() {
                    dt { "Devices" }
                    dd { @for device in &report.devices { div { code { (device) } } } }
                }
                @for (subject, version) in &report.subjects {
                    dt { (subject) } dd { (version) }
                }
                dt { "Machine" } dd { code { (machine.id) } " in the history" }
            }
            @if !report.parameters.is_empty() {
                h3 { "Parameters" }
                dl {
                    @for (name, value) in &report.parameters { dt { (name) } dd { (value) } }
                }
            }
        }
    }
}
