//! Where a worker's time goes: the cycles of each stage of a turn.
//!
//! One busy turn in [`PERIOD`] is measured, at the borders between stages and not for each packet:
//! what that costs is lost in the other turns. A turn that finds nothing to do is not measured.

use crate::counters::{Counters, Event};
use crate::io::Io;

/// Of so many busy turns one is measured. A prime, so that it does not keep step with traffic.
pub const PERIOD: u32 = 251;

macro_rules! stages {
    ($($name:ident $label:literal $sentence:literal,)*) => {
        /// A part of a worker's turn.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Stage {
            $(#[doc = $sentence] $name,)*
        }

        impl Stage {
            /// Every stage, in the order of a turn.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many stages there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name shown in reports and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What it does, in a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

stages! {
    Receive "receive" "Frames are taken from the ports.",
    Classify "classify" "Headers are read, frames steered to their worker, and admitted by the hop.",
    LookUp "look_up" "Sessions are looked for, and their lines asked for.",
    Handle "handle" "The guard decides and rewrites, the hop finds the way out.",
    TakeOver "take_over" "What other workers handed over.",
    Peers "peers" "Records and datagrams to and from the other guards.",
    Timers "timers" "Sessions, neighbours and datagrams whose time has come; counters made visible.",
    Commands "commands" "What the control thread asked for.",
    Transmit "transmit" "Bursts are given to the ports, dropped frames freed.",
}

/// What was measured since the worker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Receive calls that brought a frame.
    pub calls: u64,
    /// Frames that they brought.
    pub frames: u64,
    /// Calls whose burst was full: more was waiting.
    pub full_calls: u64,
    /// Turns that were measured.
    pub measured_turns: u64,
    /// Frames received and taken over in those turns.
    pub measured_frames: u64,
    /// How often each stage ended in those turns, in the order of [`Stage::ALL`].
    pub laps: [u64; Stage::COUNT],
    /// Cycles of each stage in those turns, without those of the stopwatch.
    pub cycles: [u64; Stage::COUNT],
}

impl Figures {
    /// Cycles of one stage in the turns that were measured.
    #[must_use]
    pub fn cycles_of(&self, stage: Stage) -> u64 {
        self.cycles[stage as usize]
    }

    /// Cycles of all stages.
    #[must_use]
    pub fn all_cycles(&self) -> u64 {
        self.cycles.iter().sum()
    }
}

/// A worker's stopwatch.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    figures: Figures,
    /// Of so many busy turns one is measured; 0 for none.
    period: u32,
    /// Busy turns before one is measured.
    left: u32,
    /// Whether this turn is measured.
    is_on: bool,
    lapped_at: u64,
    began_with_frames: u64,
    /// The fewest cycles between two readings with nothing in between: what a reading costs.
    reading: u64,
    turn_laps: [u64; Stage::COUNT],
    turn_cycles: [u64; Stage::COUNT],
}

impl Stopwatch {
    pub(crate) fn new(period: u32) -> Self {
        Self {
            figures: Figures::default(),
            period,
            left: period,
            is_on: false,
            lapped_at: 0,
            began_with_frames: 0,
            reading: u64::MAX,
            turn_laps: [0; Stage::COUNT],
            turn_cycles: [0; Stage::COUNT],
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.figures
    }

    /// A turn begins.
    #[inline(always)]
    pub(crate) fn begin<I: Io>(&mut self, io: &I, counters: &Counters) {
        self.is_on = self.left == 1;
        if self.is_on {
            self.begin_measured(io, counters);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_measured<I: Io>(&mut self, io: &I, counters: &Counters) {
        self.began_with_frames = walked(counters);
        // A lap for nothing tells what a lap takes; one that was interrupted is not the fewest.
        self.lapped_at = io.cycles();
        self.note(Stage::Receive, io, 0);
        self.reading = self.reading.min(self.turn_cycles[Stage::Receive as usize]);
        self.turn_laps = [0; Stage::COUNT];
        self.turn_cycles = [0; Stage::COUNT];
        self.lapped_at = io.cycles();
    }

    /// What has passed since the last call belongs to `stage`.
    #[inline(always)]
    pub(crate) fn lap<I: Io>(&mut self, stage: Stage, io: &I) {
        if self.is_on {
            self.note(stage, io, self.reading);
        }
    }

    #[cold]
    #[inline(never)]
    fn note<I: Io>(&mut self, stage: Stage, io: &I, reading: u64) {
        let cycles = io.cycles();
        let spent = cycles.wrapping_sub(self.lapped_at).saturating_sub(reading);
        self.turn_laps[stage as usize] += 1;
        self.turn_cycles[stage as usize] += spent;
        self.lapped_at = cycles;
    }

    /// A receive call has brought so many frames.
    #[inline]
    pub(crate) fn received(&mut self, frames: usize, is_full: bool) {
        self.figures.calls += 1;
        self.figures.frames += frames as u64;
        self.figures.full_calls += u64::from(is_full);
    }

    /// The turn is over. A busy one that was measured counts; an idle one does not.
    #[inline(always)]
    pub(crate) fn end(&mut self, is_busy: bool, counters: &Counters) {
        if !is_busy {
            return;
        }
        if self.is_on {
            self.keep(counters);
        } else {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// Adds the turn to the others.
    #[cold]
    #[inline(never)]
    fn keep(&mut self, counters: &Counters) {
        self.left = self.period;
        self.figures.measured_turns += 1;
        self.figures.measured_frames += walked(counters) - self.began_with_frames;
        let figures = &mut self.figures;
        for (all, turn) in figures.cycles.iter_mut().zip(&self.turn_cycles) {
            *all += turn;
        }
        for (all, turn) in figures.laps.iter_mut().zip(&self.turn_laps) {
            *all += turn;
        }
    }
}

/// Frames received, and taken over from other workers.
fn walked(counters: &Counters) -> u64 {
    counters.event(Event::Received) + counters.event(Event::TakenOver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryIo;

    fn turn(watch: &mut Stopwatch, io: &MemoryIo, frames: &mut Counters, brought: u64) {
        watch.begin(io, frames);
        if brought > 0 {
            watch.received(brought as usize, false);
            frames.add(Event::Received, brought);
        }
        for (stage, cycles) in [
            (Stage::Receive, 10),
            (Stage::Handle, 25),
            (Stage::Handle, 5),
        ] {
            io.pass(cycles);
            watch.lap(stage, io);
        }
        watch.end(brought > 0, frames);
    }

    #[test]
    fn one_busy_turn_in_so_many_is_measured_and_idle_ones_never_count() {
        let io = MemoryIo::new(1);
        let (mut watch, mut frames) = (Stopwatch::new(3), Counters::default());
        for n in 0..30 {
            turn(&mut watch, &io, &mut frames, n % 2);
        }
        let figures = watch.figures();
        assert_eq!((figures.calls, figures.frames), (15, 15));
        assert_eq!((figures.measured_turns, figures.measured_frames), (5, 5));
        assert_eq!(figures.cycles_of(Stage::Receive), 5 * 10);
        assert_eq!(figures.cycles_of(Stage::Handle), 5 * 30);
        assert_eq!(figures.laps[Stage::Handle as usize], 10);
        assert_eq!(figures.all_cycles(), 5 * 40);
    }

    #[test]
    fn a_period_of_one_measures_every_turn_and_of_none_nothing() {
        let io = MemoryIo::new(1);
        for (period, measured) in [(1, 8), (0, 0)] {
            let (mut watch, mut frames) = (Stopwatch::new(period), Counters::default());
            for _ in 0..8 {
                turn(&mut watch, &io, &mut frames, 4);
            }
            let figures = watch.figures();
            assert_eq!(figures.measured_turns, measured);
            assert_eq!(figures.measured_frames, 4 * measured);
            assert_eq!(figures.frames, 32);
        }
    }
}
