//! The report of a run as it grows: written after each step, so that a run that is interrupted
//! leaves what it has.

use std::io;
use std::path::Path;

use crate::progress::Progress;
use crate::report::disturbance::Watch;
use crate::report::{Measured, Report};

pub(super) struct Sheet<'a> {
    pub(super) report: Report,
    path: &'a Path,
    core: usize,
    progress: Progress,
    watch: Watch,
    steps: usize,
    done: usize,
}

impl<'a> Sheet<'a> {
    /// An empty one of a run of so many steps on this core.
    pub(super) fn new(report: Report, path: &'a Path, core: usize, steps: usize) -> Self {
        let progress = Progress::on_stderr();
        progress.begin("bench");
        Self {
            report,
            path,
            core,
            progress,
            watch: Watch::begin(&[core]),
            steps,
            done: 0,
        }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, what: &str) {
        let done = self.done as f64 / self.steps.max(1) as f64;
        self.progress.step(done, what);
        self.watch = Watch::begin(&[self.core]);
    }

    /// A step has ended with these figures.
    pub(super) fn end(&mut self, figures: impl IntoIterator<Item = Measured>) -> io::Result<()> {
        let disturbance = self.watch.end();
        for measured in figures {
            self.report.add(measured.disturbed(disturbance));
        }
        self.done += 1;
        self.report.write_so_far(self.path)
    }

    /// Everything is measured.
    pub(super) fn finish(mut self) -> io::Result<Report> {
        self.progress.finish();
        self.report.write(self.path)?;
        Ok(self.report)
    }
}
