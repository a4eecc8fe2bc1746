//! `show runtime`: where the workers' time goes.

use dataplane::runtime::{Figures, PERIOD, Stage};
use serde::{Deserialize, Serialize};

/// `show runtime`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runtime {
    /// How many of the cycles below make a second.
    pub cycles_per_second: u64,
    /// Of so many turns that found something to do, the stages of one are measured.
    pub measured_one_in: u32,
    /// The workers, in the profile's order.
    pub workers: Vec<RuntimeRow>,
}

/// How a worker's loop turns, since it began or in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuntimeRow {
    /// Its number.
    pub worker: usize,
    /// Its core.
    pub core: u32,
    /// Nanoseconds that this row is about.
    pub total_ns: u64,
    /// Of them, spent in turns that found something to do.
    pub busy_ns: u64,
    /// The share of time in which there was nothing to do, from 0 to 1.
    pub idle_share: f64,
    /// Turns of its loop.
    pub loops: u64,
    /// Turns that found something to do.
    pub busy_loops: u64,
    /// Times that it slept.
    pub sleeps: u64,
    /// Receive calls that brought a packet.
    pub calls: u64,
    /// Packets that they brought.
    pub packets: u64,
    /// Packets that such a call brought, on average.
    pub packets_per_call: f64,
    /// Calls that brought as many packets as fit: more were waiting.
    pub full_calls: u64,
    /// Turns whose stages were measured.
    pub measured_loops: u64,
    /// Packets received, or taken over from other workers, in those turns.
    pub measured_packets: u64,
    /// Cycles of those turns.
    pub cycles: u64,
    /// Cycles for each of those packets.
    pub cycles_per_packet: f64,
    /// The stages of a turn, in their order.
    pub stages: Vec<StageRow>,
}

/// A stage of a worker's turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    /// Its name.
    pub stage: String,
    /// How often it ended in the turns that were measured: with each burst, or once a turn.
    pub calls: u64,
    /// Cycles spent in it, in the turns that were measured.
    pub cycles: u64,
    /// Cycles for each packet of those turns.
    pub cycles_per_packet: f64,
    /// Its share of the cycles, from 0 to 1.
    pub share: f64,
    /// What it does, in a sentence.
    pub sentence: String,
}

/// A quotient; 0 where there is nothing to divide by.
fn quotient(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl Runtime {
    /// The report of these workers.
    #[must_use]
    pub fn of(cycles_per_second: u64, workers: Vec<RuntimeRow>) -> Self {
        Self {
            cycles_per_second,
            measured_one_in: PERIOD,
            workers,
        }
    }

    /// What has happened since an earlier report of the same daemon.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let rows = self.workers.iter().zip(&earlier.workers);
        Self {
            workers: rows.map(|(row, before)| row.since(before)).collect(),
            ..*self
        }
    }
}

impl RuntimeRow {
    /// The row with what the worker has measured; the loop's figures have been filled in.
    #[must_use]
    pub fn measured(self, figures: &Figures) -> Self {
        let stage = |stage: &Stage| StageRow {
            stage: stage.label().into(),
            calls: figures.laps[*stage as usize],
            cycles: figures.cycles_of(*stage),
            sentence: stage.sentence().into(),
            ..StageRow::default()
        };
        Self {
            calls: figures.calls,
            packets: figures.frames,
            full_calls: figures.full_calls,
            measured_loops: figures.measured_turns,
            measured_packets: figures.measured_frames,
            stages: Stage::ALL.iter().map(stage).collect(),
            ..self
        }
        .derived()
    }

    fn since(&self, earlier: &Self) -> Self {
        let span = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let stages = self.stages.iter().zip(&earlier.stages);
        Self {
            total_ns: span(|row| row.total_ns),
            busy_ns: span(|row| row.busy_ns),
            loops: span(|row| row.loops),
            busy_loops: span(|row| row.busy_loops),
            sleeps: span(|row| row.sleeps),
            calls: span(|row| row.calls),
            packets: span(|row| row.packets),
            full_calls: span(|row| row.full_calls),
            measured_loops: span(|row| row.measured_loops),
            measured_packets: span(|row| row.measured_packets),
            stages: stages
                .map(|(stage, before)| StageRow {
                    calls: stage.calls.saturating_sub(before.calls),
                    cycles: stage.cycles.saturating_sub(before.cycles),
                    ..stage.clone()
                })
                .collect(),
            ..*self
        }
        .derived()
    }

    /// The same with the figures that follow from others.
    fn derived(mut self) -> Self {
        self.cycles = self.stages.iter().map(|stage| stage.cycles).sum();
        self.cycles_per_packet = quotient(self.cycles, self.measured_packets);
        self.packets_per_call = quotient(self.packets, self.calls);
        self.idle_share = 1.0 - quotient(self.busy_ns.min(self.total_ns), self.total_ns);
        for stage in &mut self.stages {
            stage.cycles_per_packet = quotient(stage.cycles, self.measured_packets);
            stage.share = quotient(stage.cycles, self.cycles);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(times: u64) -> Runtime {
        let mut figures = Figures {
            calls: 10 * times,
            frames: 200 * times,
            full_calls: times,
            measured_turns: times,
            measured_frames: 20 * times,
            ..Figures::default()
        };
        figures.cycles[Stage::Receive as usize] = 400 * times;
        figures.cycles[Stage::Handle as usize] = 1_200 * times;
        let row = RuntimeRow {
            total_ns: 1_000 * times,
            busy_ns: 250 * times,
            loops: 50 * times,
            busy_loops: 9 * times,
            ..RuntimeRow::default()
        };
        Runtime::of(2_000_000_000, vec![row.measured(&figures)])
    }

    #[test]
    fn cycles_are_told_for_each_packet_of_the_measured_turns() {
        let row = report(3).workers.remove(0);
        assert_eq!((row.packets_per_call, row.idle_share), (20.0, 0.75));
        assert_eq!((row.cycles, row.cycles_per_packet), (4_800, 80.0));
        let handle = &row.stages[Stage::Handle as usize];
        assert_eq!((handle.cycles_per_packet, handle.share), (60.0, 0.75));
    }

    #[test]
    fn a_span_is_the_difference_of_two_reports() {
        assert_eq!(report(7).since(&report(4)), report(3));
    }

    #[test]
    fn a_worker_that_did_nothing_yet_has_no_figure_that_is_no_number() {
        let row = RuntimeRow::default().measured(&Figures::default());
        assert_eq!((row.cycles_per_packet, row.packets_per_call), (0.0, 0.0));
        assert_eq!(row.idle_share, 1.0);
        assert!(row.stages.iter().all(|stage| stage.share == 0.0));
    }
}
