//! `show runtime` as a person reads it.

use std::fmt::Write;

use super::table::Align::{Left, Right};
use super::table::{Table, count};
use crate::report::{Runtime, RuntimeRow};

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The table of each worker.
pub(super) fn view(report: &Runtime) -> String {
    let mut text = String::new();
    for row in &report.workers {
        worker(&mut text, row, report);
    }
    if text.is_empty() {
        text = "no worker\n".into();
    }
    text
}

fn worker(text: &mut String, row: &RuntimeRow, report: &Runtime) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "worker {} on core {}: {} idle in {:.1} s; {} loops, {} of them busy, {} sleeps",
        row.worker,
        row.core,
        percent(row.idle_share),
        row.total_ns as f64 / 1e9,
        count(row.loops),
        count(row.busy_loops),
        count(row.sleeps),
    );
    let _ = writeln!(
        text,
        "{} packets in {} receive calls: {:.1} a call, {} calls were full",
        count(row.packets),
        count(row.calls),
        row.packets_per_call,
        count(row.full_calls),
    );
    if row.measured_packets == 0 {
        let _ = writeln!(
            text,
            "no packet was measured: of {} busy loops one is",
            report.measured_one_in
        );
        return;
    }
    let ns = 1e9 / report.cycles_per_second as f64;
    let _ = writeln!(
        text,
        "{} packets in {} busy loops were measured: {:.0} cycles a packet, {:.1} ns",
        count(row.measured_packets),
        count(row.measured_loops),
        row.cycles_per_packet,
        row.cycles_per_packet * ns,
    );
    let mut stages = Table::new(&[
        ("stage", Left),
        ("calls", Right),
        ("cycles/packet", Right),
        ("ns/packet", Right),
        ("share", Right),
        ("what it does", Left),
    ]);
    for stage in &row.stages {
        stages.row([
            stage.stage.clone(),
            count(stage.calls),
            format!("{:.1}", stage.cycles_per_packet),
            format!("{:.1}", stage.cycles_per_packet * ns),
            percent(stage.share),
            stage.sentence.clone(),
        ]);
    }
    text.push_str(&stages.text_or("no stage"));
}

#[cfg(test)]
mod tests {
    use dataplane::runtime::{Figures, Stage};

    use super::*;

    #[test]
    fn cycles_and_nanoseconds_stand_beside_each_stage() {
        let mut figures = Figures {
            calls: 4,
            frames: 90,
            measured_turns: 2,
            measured_frames: 10,
            ..Figures::default()
        };
        figures.cycles[Stage::Handle as usize] = 900;
        figures.cycles[Stage::Receive as usize] = 100;
        let row = RuntimeRow {
            total_ns: 2_000_000_000,
            busy_ns: 500_000_000,
            ..RuntimeRow::default()
        };
        let text = view(&Runtime::of(2_000_000_000, vec![row.measured(&figures)]));
        assert!(text.contains("75.0 % idle in 2.0 s"), "{text}");
        assert!(text.contains("22.5 a call"), "{text}");
        assert!(text.contains("100 cycles a packet, 50.0 ns"), "{text}");
        let handle = text.lines().find(|line| line.starts_with("handle"));
        let cells: Vec<_> = handle.unwrap().split_whitespace().take(6).collect();
        assert_eq!(cells, ["handle", "0", "90.0", "45.0", "90.0", "%"]);
    }

    #[test]
    fn a_worker_without_traffic_says_so() {
        let row = RuntimeRow::default().measured(&Figures::default());
        let text = view(&Runtime::of(1, vec![row]));
        assert!(text.contains("no packet was measured"), "{text}");
    }
}
