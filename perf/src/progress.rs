//! How far a measurement is: a bar on a terminal, plain lines elsewhere, both on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::search::Doing;

/// Plain lines come no more often than this, except when something new begins.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Parts that a bar is drawn in.
const PARTS: u64 = 1_000;

/// A handle that whatever measures tells what it is at; its copies share one bar.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<State>>);

struct State {
    show: Show,
    /// What was begun.
    work: String,
    began: Instant,
}

enum Show {
    Bar(ProgressBar),
    /// Where lines go, and when the last one went.
    Lines(Box<dyn std::io::Write + Send>, Option<Instant>),
    Nothing,
}

impl Progress {
    /// A bar where standard error is a terminal, else lines.
    #[must_use]
    pub fn on_stderr() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::showing(Show::Lines(Box::new(std::io::stderr()), None));
        }
        let bar = ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr());
        let template = "{prefix:.bold} {bar:30.cyan/dim} {percent:>3} %  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━╌"));
        }
        Self::showing(Show::Bar(bar))
    }

    /// Tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self::showing(Show::Nothing)
    }

    fn showing(show: Show) -> Self {
        Self(Arc::new(Mutex::new(State {
            show,
            work: String::new(),
            began: Instant::now(),
        })))
    }

    /// A new piece of work begins, such as `ndr of tidegate, 64 octets`.
    pub fn begin(&self, work: &str) {
        let mut state = self.state();
        work.clone_into(&mut state.work);
        state.began = Instant::now();
        match &mut state.show {
            Show::Bar(bar) => {
                bar.reset();
                bar.set_length(PARTS);
                bar.set_prefix(work.to_owned());
            }
            Show::Lines(to, last) => {
                *last = Some(Instant::now());
                let _ = writeln!(to, "{work}");
            }
            Show::Nothing => {}
        }
    }

    /// The work is so far, from 0 to 1, and at this. What is left is estimated from the time that
    /// it took so far; [`Progress::step_with`] knows it.
    pub fn step(&self, done: f64, what: &str) {
        let took = self.state().began.elapsed();
        let left = (done > 0.02).then(|| took.mul_f64((1.0 - done).max(0.0) / done));
        self.step_with(done, what, left);
    }

    /// The work is so far, from 0 to 1, and at this, and takes so long yet, at most.
    pub fn step_with(&self, done: f64, what: &str, left: Option<Duration>) {
        let mut state = self.state();
        let left = left.map(|left| format!(", at most {} left", HumanDuration(left)));
        let message = format!("{what}{}", left.unwrap_or_default());
        let State { show, work, .. } = &mut *state;
        match show {
            Show::Bar(bar) => {
                bar.set_position((done.clamp(0.0, 1.0) * PARTS as f64) as u64);
                bar.set_message(message);
            }
            Show::Lines(to, last) => {
                if last.is_none_or(|last| last.elapsed() >= BETWEEN_LINES) {
                    *last = Some(Instant::now());
                    let _ = writeln!(to, "{work}: {:.0} %, {message}", done * 100.0);
                }
            }
            Show::Nothing => {}
        }
    }

    /// The next trial of a search.
    pub fn trial(&self, doing: &Doing<'_>) {
        let budget_s = doing.budget.as_secs_f64();
        let done = if budget_s > 0.0 {
            doing.spent.as_secs_f64() / budget_s
        } else {
            1.0
        };
        let what = format!(
            "{}: {} for {:?}",
            doing.what,
            rate(doing.load.frames_per_s),
            doing.load.duration
        );
        self.step_with(done, &what, Some(doing.budget.saturating_sub(doing.spent)));
    }

    /// The work is done: the bar goes.
    pub fn finish(&self) {
        if let Show::Bar(bar) = &self.state().show {
            bar.finish_and_clear();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rate as people say it.
fn rate(frames_per_s: f64) -> String {
    match frames_per_s {
        millions if millions >= 1e6 => format!("{:.3} Mfps", millions / 1e6),
        thousands if thousands >= 1e3 => format!("{:.2} kfps", thousands / 1e3),
        few => format!("{few:.0} fps"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Load;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Progress, Written) {
        let written = Written::default();
        (
            Progress::showing(Show::Lines(Box::new(written.clone()), None)),
            written,
        )
    }

    #[test]
    fn lines_say_what_is_begun_and_do_not_flood() {
        let (progress, written) = lines();
        progress.begin("ndr of tidegate");
        for n in 0..1_000 {
            progress.step(f64::from(n) / 1_000.0, "guard.syn");
        }
        assert_eq!(written.0.lock().unwrap().as_slice(), b"ndr of tidegate\n");
    }

    #[test]
    fn a_trial_tells_its_load_and_the_time_left() {
        let (progress, written) = lines();
        let load = Load {
            frames_per_s: 1_234_567.0,
            duration: Duration::from_secs(1),
        };
        progress.trial(&Doing {
            what: "ndr",
            load,
            spent: Duration::from_secs(30),
            budget: Duration::from_secs(120),
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            ": 25 %, ndr: 1.235 Mfps for 1s, at most 2 minutes left\n"
        );
    }

    #[test]
    fn rates_are_said_as_people_do() {
        assert_eq!([rate(12.0), rate(1_500.0)], ["12 fps", "1.50 kfps"]);
    }
}
