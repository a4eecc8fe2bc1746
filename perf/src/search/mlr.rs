//! Multiple Loss Ratio search (RFC 9971): the throughput for several goals at once.
//!
//! The goals share every trial. Each goal is searched in phases, from short trials and a wide
//! interval to its own trials and width; in a phase, first the interval that the phase before left
//! is confirmed, then extended where it does not hold, then halved. Of the loads that the goals
//! ask for, the one of the shortest trial and least duration sum is offered next, so that all
//! goals are known roughly before one is known well.
//!
//! Where less load lost more than more load did, the results stay on the careful side: a relevant
//! upper bound is the least load that is an upper bound, and a relevant lower bound lies below.

use std::collections::BTreeMap;
use std::time::Duration;

use super::goal::{Class, Goal, Seen, Target};
use super::{Cut, Offered, SearchError, Session, Stop, implausible};
use crate::trial::Load;

/// What is searched, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What is searched for; the trials of one serve all.
    pub goals: Vec<Goal>,
    /// The least load that is offered, in frames a second.
    pub min_frames_per_s: f64,
    /// The most that is offered, such as the line rate.
    pub max_frames_per_s: f64,
    /// A trial at the highest load that counts for nothing, to fill caches and tables; none when
    /// zero.
    pub warm_up: Duration,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// One for each goal, in the order of the goals.
    pub goals: Vec<GoalFound>,
    /// What the tester can send at most, where it could not send the highest load.
    pub testers_limit_frames_per_s: Option<f64>,
    /// Why the search ended before it was through.
    pub cut: Option<Cut>,
}

/// What was found for one goal (RFC 9971's Goal Result).
#[derive(Clone, Debug, PartialEq)]
pub struct GoalFound {
    /// What was searched for.
    pub goal: Goal,
    /// The relevant lower bound, in frames a second. Where no upper bound exists, the highest load
    /// that is within the goal.
    pub lower_frames_per_s: Option<f64>,
    /// The relevant upper bound.
    pub upper_frames_per_s: Option<f64>,
    /// The rate at which frames came at the lower bound, but for the time that may exceed the
    /// goal.
    pub conditional_throughput_frames_per_s: Option<f64>,
    /// The lower bound of the finest phase that has one: an estimate where the search was cut
    /// short.
    pub estimate_frames_per_s: Option<f64>,
    /// Whether this is a regular result.
    pub verdict: Verdict,
}

/// Whether a result is regular (RFC 9971), or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Verdict {
    /// Both bounds exist, no further apart than the goal's width.
    #[error("regular")]
    Regular,
    /// Even the least load is beyond the goal.
    #[error("irregular: no load is low enough, down to the least that was allowed")]
    NoLowerBound,
    /// The highest load that was allowed is within the goal.
    #[error("irregular: the highest load that was allowed passes; there is no upper bound")]
    MaxPasses,
    /// The highest load that the tester can send is within the goal.
    #[error("limited by the tester: the highest load that it can send passes")]
    LimitedByTester,
    /// The search ended before.
    #[error("irregular, cut short: {0}")]
    CutShort(Cut),
}

/// Searches for all goals.
///
/// # Errors
/// When an outcome cannot be true, a port fails, or the parameters cannot be reached. The end of
/// the session's time is no error: what was found until then is told.
pub fn search(session: &mut Session<'_>, config: &Config) -> Result<Found, SearchError> {
    let mut search = Search::new(config)?;
    let cut = match search.run(session, config.warm_up) {
        Ok(()) => None,
        Err(Stop::Cut(cut)) => Some(cut),
        Err(Stop::Error(error)) => return Err(error),
    };
    Ok(search.found(cut))
}

/// Loads that are offered: evenly spaced by ratio, so that a relative width is a count of steps.
#[derive(Clone, Copy, Debug)]
struct Grid {
    min: f64,
    max: f64,
    /// The logarithm of the ratio between neighbours.
    step: f64,
    /// The highest load's index; the least has 0.
    top: i64,
}

/// Steps of the grid in the narrowest goal: a width loses at most this part of it by rounding.
const STEPS_IN_WIDTH: f64 = 64.0;

impl Grid {
    fn new(config: &Config) -> Result<Self, SearchError> {
        let (min, max) = (config.min_frames_per_s, config.max_frames_per_s);
        if !(min > 0.0 && max > min && max.is_finite()) {
            return Err(SearchError::Parameters(format!(
                "loads from {min} to {max} frames/s leave nothing to search: the least must be \
                 above zero and below the highest"
            )));
        }
        let narrowest = config.goals.iter().map(|goal| -(1.0 - goal.width).ln());
        let widest_step = narrowest.fold(f64::INFINITY, f64::min) / STEPS_IN_WIDTH;
        let range = (max / min).ln();
        let top = (range / widest_step).ceil().max(1.0);
        Ok(Self {
            min,
            max,
            step: range / top,
            top: top as i64,
        })
    }

    fn frames_per_s(&self, index: i64) -> f64 {
        // Rounding must not lead beyond what was allowed.
        (self.min * (self.step * index as f64).exp()).min(self.max)
    }

    /// The highest index that is not above the rate; 0 where all are.
    fn at_most(&self, frames_per_s: f64) -> i64 {
        let exact = (frames_per_s / self.min).ln() / self.step;
        // A rate that came from an index must lead back to it.
        (exact + 1e-6).floor().clamp(0.0, self.top as f64) as i64
    }

    fn steps(&self, width: f64) -> i64 {
        ((-(1.0 - width).ln() / self.step + 1e-6).floor() as i64).max(1)
    }
}

/// Every trial, by its load.
#[derive(Debug, Default)]
struct Trials(BTreeMap<i64, Vec<Seen>>);

/// A target's relevant bounds so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    lower: Option<i64>,
    upper: Option<i64>,
}

impl Bounds {
    /// Whether the load could change these bounds.
    fn is_worth(&self, load: i64) -> bool {
        self.lower.is_none_or(|lower| load > lower) && self.upper.is_none_or(|upper| load < upper)
    }
}

impl Trials {
    fn bounds(&self, target: &Target) -> Bounds {
        let mut bounds = Bounds {
            lower: None,
            upper: None,
        };
        for (&load, trials) in &self.0 {
            match target.classify(trials) {
                Class::Lower => bounds.lower = Some(load),
                Class::Upper => {
                    bounds.upper = Some(load);
                    break;
                }
                Class::Undecided => {}
            }
        }
        bounds
    }
}

/// One goal's way through its phases.
struct Selector {
    /// The coarsest first.
    targets: Vec<Target>,
    /// Their widths in steps of the grid.
    widths: Vec<i64>,
    phase: usize,
    expansion: i64,
    /// The interval that the phase before left.
    start: Bounds,
    /// How far the next extension reaches.
    stride: i64,
    /// The load asked for last, if it was to extend the interval.
    extending: Option<i64>,
}

impl Selector {
    fn new(goal: &Goal, grid: &Grid, start: Bounds) -> Self {
        let targets = goal.targets();
        let widths: Vec<i64> = targets
            .iter()
            .map(|target| grid.steps(target.width))
            .collect();
        let expansion = i64::from(goal.expansion);
        Self {
            stride: widths[0] * expansion,
            targets,
            widths,
            phase: 0,
            expansion,
            start,
            extending: None,
        }
    }

    /// The load that this goal needs next; none when it is reached, or cannot be.
    fn nominate(&mut self, trials: &Trials, top: i64) -> Option<i64> {
        loop {
            let bounds = trials.bounds(self.target());
            if let Some(load) = self.candidate(bounds, top) {
                return Some(load);
            }
            if self.phase + 1 == self.targets.len() {
                return None;
            }
            self.phase += 1;
            self.start = bounds;
            self.stride = self.widths[self.phase] * self.expansion;
        }
    }

    fn target(&self) -> &Target {
        &self.targets[self.phase]
    }

    fn candidate(&mut self, bounds: Bounds, top: i64) -> Option<i64> {
        let width = self.widths[self.phase];
        self.extending = None;
        if let Some(load) = self.confirm(bounds, width) {
            return Some(load);
        }
        match (bounds.lower, bounds.upper) {
            (None, Some(upper)) if upper > 0 => self.extend(below(upper, self.stride, width)),
            (Some(lower), None) if lower < top => {
                self.extend(top - below(top - lower, self.stride, width))
            }
            (Some(lower), Some(upper)) if upper - lower > width => self.narrow(lower, upper, width),
            _ => None,
        }
    }

    /// The loads that the phase before found; their middle first, which may spare one of them.
    fn confirm(&self, bounds: Bounds, width: i64) -> Option<i64> {
        let middle = match (self.start.lower, self.start.upper) {
            (Some(lower), Some(upper)) if upper - lower > width && upper - lower <= 2 * width => {
                Some(middle(lower, upper, width))
            }
            _ => None,
        };
        let known = [middle, self.start.lower, self.start.upper];
        known
            .into_iter()
            .flatten()
            .find(|load| bounds.is_worth(*load))
    }

    /// Halves the interval; or, where one of its ends is far from what the phase before found, as
    /// it came from another goal, reaches out from the near end as long as that asks less.
    fn narrow(&mut self, lower: i64, upper: i64, width: i64) -> Option<i64> {
        let middle = middle(lower, upper, width);
        let stride = self.stride.max(width);
        if self.start.lower.is_some_and(|start| lower < start) && upper - stride > middle {
            return self.extend(upper - stride);
        }
        if self.start.upper.is_some_and(|start| upper > start) && lower + stride < middle {
            return self.extend(lower + stride);
        }
        Some(middle)
    }

    fn extend(&mut self, load: i64) -> Option<i64> {
        self.extending = Some(load);
        Some(load)
    }

    /// The load asked for was offered: where it decided, and the interval must reach further, the
    /// next step is longer.
    fn was_offered(&mut self, trials: &Trials) {
        let Some(load) = self.extending else { return };
        let seen = trials.0.get(&load).map_or(&[][..], Vec::as_slice);
        if self.target().classify(seen) != Class::Undecided {
            self.stride = self.stride.saturating_mul(self.expansion);
        }
    }

    /// Loads above are not offered any more.
    fn limit(&mut self, top: i64) {
        self.start.lower = self.start.lower.filter(|&load| load <= top);
        self.start.upper = self.start.upper.map(|load| load.min(top));
        if self.start.lower.is_none() && self.start.upper.is_none() {
            self.start.upper = Some(top);
        }
        self.extending = None;
    }
}

/// A load so far below, but no nearer than the width to either end, except on the lowest itself.
fn below(upper: i64, stride: i64, width: i64) -> i64 {
    let load = upper - stride.max(width);
    if load < width { 0 } else { load }
}

/// Divides an interval so that its lower part is a power of two of widths: no later half is
/// narrower than it need be.
fn middle(lower: i64, upper: i64, width: i64) -> i64 {
    let widths = (upper - lower + width - 1) / width;
    let half = (widths as u64).next_power_of_two() as i64 / 2;
    lower + (half * width).clamp(1, upper - lower - 1)
}

/// What the tester cannot send is left by widths that double, up to so often.
const MOST_DOUBLINGS: u32 = 8;

struct Search {
    goals: Vec<Goal>,
    grid: Grid,
    /// The highest load to offer: the grid's, or the tester's.
    top: i64,
    /// How often the tester could not send a load: each time less is left to try.
    limits: u32,
    trials: Trials,
    selectors: Vec<Selector>,
}

impl Search {
    fn new(config: &Config) -> Result<Self, SearchError> {
        if config.goals.is_empty() {
            return Err(SearchError::Parameters("a search needs a goal".to_owned()));
        }
        for goal in &config.goals {
            goal.check()?;
        }
        let grid = Grid::new(config)?;
        Ok(Self {
            goals: config.goals.clone(),
            top: grid.top,
            grid,
            limits: 0,
            trials: Trials::default(),
            selectors: Vec::new(),
        })
    }

    fn run(&mut self, session: &mut Session<'_>, warm_up: Duration) -> Result<(), Stop> {
        if !warm_up.is_zero() {
            let load = Load {
                frames_per_s: self.grid.frames_per_s(self.top),
                duration: warm_up,
            };
            session.offer(load, "warm-up")?;
        }
        let start = self.start(session)?;
        for goal in &self.goals {
            self.selectors.push(Selector::new(goal, &self.grid, start));
        }
        while let Some((chosen, load)) = self.next() {
            let duration_s = self.selectors[chosen].target().trial_s;
            let name = self.goals[chosen].name.clone();
            self.offer(session, load, duration_s, &name)?;
            self.selectors[chosen].was_offered(&self.trials);
        }
        Ok(())
    }

    /// The load to offer next, and the goal that asks for it.
    fn next(&mut self) -> Option<(usize, i64)> {
        let mut best: Option<(f64, f64, i64, usize)> = None;
        for (number, selector) in self.selectors.iter_mut().enumerate() {
            let Some(load) = selector.nominate(&self.trials, self.top) else {
                continue;
            };
            let target = selector.target();
            let candidate = (target.trial_s, target.sum_s, load, number);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, load, number)| (number, load))
    }

    /// Looks for the neighbourhood of the throughput: what comes at the highest load is near what
    /// can be carried at all, and what comes at that is nearer still.
    fn start(&mut self, session: &mut Session<'_>) -> Result<Bounds, Stop> {
        let coarsest = self.goals.iter().map(|goal| goal.targets()[0]);
        let trial_s = coarsest
            .clone()
            .map(|target| target.trial_s)
            .fold(0.0, f64::max);
        let loss_ratio = coarsest
            .clone()
            .map(|target| target.loss_ratio)
            .fold(1.0, f64::min);
        let width = coarsest
            .map(|target| self.grid.steps(target.width))
            .max()
            .unwrap_or(1);
        // What came, and as many lost besides as the strictest goal allows.
        let carried = |grid: &Grid, load, loss| {
            grid.at_most(grid.frames_per_s(load) * (1.0 - loss) / (1.0 - loss_ratio))
        };
        let loss = loop {
            let top = self.top;
            if let Some(loss) = self.offer(session, top, trial_s, "maximum")? {
                break loss;
            }
        };
        let first = carried(&self.grid, self.top, loss).min(self.top);
        if first + width > self.top {
            return Ok(Bounds {
                lower: None,
                upper: Some(self.top),
            });
        }
        let Some(loss) = self.offer(session, first, trial_s, "maximum")? else {
            return Ok(Bounds {
                lower: None,
                upper: Some(self.top),
            });
        };
        let (lower, upper) = match loss > loss_ratio {
            true => (carried(&self.grid, first, loss).min(first - width), first),
            false => (first, first + width),
        };
        Ok(Bounds {
            lower: Some(lower.max(0)),
            upper: Some(upper.clamp(1, self.top)),
        })
    }

    /// Offers a load. What the tester cannot send bounds the search from above.
    fn offer(
        &mut self,
        session: &mut Session<'_>,
        index: i64,
        duration_s: f64,
        what: &str,
    ) -> Result<Option<f64>, Stop> {
        let load = Load {
            frames_per_s: self.grid.frames_per_s(index),
            duration: Duration::from_secs_f64(duration_s),
        };
        match session.offer(load, what)? {
            Offered::Sent { loss, .. } => {
                let seen = Seen { duration_s, loss };
                self.trials.0.entry(index).or_default().push(seen);
                Ok(Some(loss))
            }
            Offered::BeyondTester {
                reached_frames_per_s,
                why,
            } => match self.limit(index, reached_frames_per_s) {
                true => Ok(None),
                false => Err(Stop::Error(implausible(load, why))),
            },
        }
    }

    /// Whether anything is left to search below what the tester can send.
    fn limit(&mut self, index: i64, reached_frames_per_s: f64) -> bool {
        let widths = self.goals.iter().map(|goal| self.grid.steps(goal.width));
        let step = widths.min().unwrap_or(1) << self.limits.min(MOST_DOUBLINGS);
        self.limits += 1;
        let top = self.grid.at_most(reached_frames_per_s).min(index - step);
        if top <= 0 {
            return false;
        }
        self.top = top;
        self.trials.0.retain(|&load, _| load <= top);
        for selector in &mut self.selectors {
            selector.limit(top);
        }
        true
    }

    fn found(&self, cut: Option<Cut>) -> Found {
        let limit = (self.limits > 0).then(|| self.grid.frames_per_s(self.top));
        Found {
            goals: self
                .goals
                .iter()
                .map(|goal| self.goal_found(goal, cut))
                .collect(),
            testers_limit_frames_per_s: limit,
            cut,
        }
    }

    fn goal_found(&self, goal: &Goal, cut: Option<Cut>) -> GoalFound {
        let targets = goal.targets();
        let last = targets[targets.len() - 1];
        let bounds = self.trials.bounds(&last);
        let rate = |load: Option<i64>| load.map(|load| self.grid.frames_per_s(load));
        let conditional = bounds.lower.map(|load| {
            self.grid.frames_per_s(load) * (1.0 - last.quantile_loss(&self.trials.0[&load]))
        });
        let finest = targets
            .iter()
            .rev()
            .find_map(|target| self.trials.bounds(target).lower);
        let is_near = |lower, upper| upper - lower <= self.grid.steps(goal.width);
        let verdict = match (bounds.lower, bounds.upper, cut) {
            (Some(lower), Some(upper), _) if is_near(lower, upper) => Verdict::Regular,
            (None, Some(0), _) => Verdict::NoLowerBound,
            (Some(lower), None, _) if lower == self.top => match self.limits > 0 {
                true => Verdict::LimitedByTester,
                false => Verdict::MaxPasses,
            },
            (_, _, Some(cut)) => Verdict::CutShort(cut),
            // A search that was not cut short ends in one of the cases above.
            (_, _, None) => Verdict::CutShort(Cut::TrialsUp),
        };
        GoalFound {
            goal: goal.clone(),
            lower_frames_per_s: rate(bounds.lower),
            upper_frames_per_s: rate(bounds.upper),
            conditional_throughput_frames_per_s: conditional,
            estimate_frames_per_s: rate(finest),
            verdict,
        }
    }
}

#[cfg(test)]
#[path = "mlr_tests.rs"]
mod tests;
