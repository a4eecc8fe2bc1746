//! Where a packet's time goes: the worker's own stopwatch, on every turn.

use std::error::Error;

use bindings::clock;
use dataplane::runtime::{Figures, Stage};

use super::rig::Rig;
use super::{Bench, Random, Scenario};
use crate::report::{Cost, Measured, Report, median};

/// What a scenario's packets cost by stage.
pub(super) struct Profile {
    scenario: &'static str,
    /// Nanoseconds a packet of each stage, by round.
    stages: Vec<(Stage, Vec<f64>)>,
}

impl Profile {
    fn new(scenario: &'static str) -> Self {
        let stages = Stage::ALL.iter().map(|&stage| (stage, Vec::new()));
        Self {
            scenario,
            stages: stages.collect(),
        }
    }

    /// Takes a round: its batches' figures.
    fn round(&mut self, batches: &[Figures]) {
        let ns_per_cycle = 1e9 / clock::cycles_per_second() as f64;
        for (stage, rounds) in &mut self.stages {
            let each = batches.iter().map(|figures| {
                figures.cycles_of(*stage) as f64 / figures.measured_frames as f64 * ns_per_cycle
            });
            rounds.push(median(&each.collect::<Vec<_>>()));
        }
    }

    /// The rows, and the stages together for a plot.
    pub(super) fn put_into(self, report: &mut Report) {
        let costs: Vec<_> = self
            .stages
            .iter()
            .map(|(stage, rounds)| (stage.label(), median(rounds)))
            .collect();
        report.cost(Cost::new(self.scenario, costs));
        for (stage, rounds) in &self.stages {
            let metric = format!("ns_per_packet.{}", stage.label());
            report.add(Measured::alone(self.scenario, &metric, rounds));
        }
    }
}

impl Bench<'_> {
    /// Measures every turn of as many rounds as the comparison has, after it: what the stopwatch
    /// takes is not in the comparison's figure.
    pub(super) fn profile(
        &self,
        scenario: &Scenario,
        rig: &mut Rig,
        random: &mut Random,
    ) -> Result<Profile, Box<dyn Error>> {
        let mut profile = Profile::new(scenario.name);
        for round in 0..=self.arguments.rounds {
            let mut batches = Vec::new();
            self.round(|| {
                // Anew for each batch: one that the machine interrupted must not spoil the others.
                rig.worker.measure_one_turn_in(1);
                let served = self.serve(scenario.kind, rig, random);
                batches.push(rig.worker.runtime());
                served
            })?;
            // The first round only warms up.
            if round > 0 {
                profile.round(&batches);
            }
        }
        Ok(profile)
    }
}
