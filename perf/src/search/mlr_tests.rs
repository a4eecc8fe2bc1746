use proptest::prelude::*;

use super::super::simulated::{Random, Simulated, beyond};
use super::*;

const MIN: f64 = 10_000.0;
const MAX: f64 = 14_880_952.0;

fn config(goals: Vec<Goal>) -> Config {
    Config {
        goals,
        min_frames_per_s: MIN,
        max_frames_per_s: MAX,
        warm_up: Duration::ZERO,
    }
}

fn run(subject: &mut Simulated, config: &Config, budget: Duration) -> Result<Found, SearchError> {
    let mut silent = |_: &super::super::Doing<'_>| {};
    search(&mut Session::new(subject, budget, &mut silent), config)
}

const DAY: Duration = Duration::from_secs(86_400);

/// Judges a load as the listing in RFC 9971's appendix does, which shares no line with
/// [`Target::classify`]: `Some(true)` for a lower bound, `Some(false)` for an upper one.
fn is_lower(goal: &Goal, trials: &[(f64, f64)]) -> Option<bool> {
    let final_s = goal.final_trial.as_secs_f64();
    let [mut full_low, mut full_high, mut short_low, mut short_high] = [0.0; 4];
    for &(duration_s, loss) in trials {
        let sum = match (duration_s >= final_s, loss > goal.loss_ratio) {
            (true, false) => &mut full_low,
            (true, true) => &mut full_high,
            (false, false) => &mut short_low,
            (false, true) => &mut short_high,
        };
        *sum += duration_s;
    }
    let coefficient = goal.exceed_ratio / (1.0 - goal.exceed_ratio);
    let excess = (short_high - short_low * coefficient).max(0.0);
    let effective_high = full_high + excess;
    let whole = (full_low + effective_high).max(goal.duration_sum.as_secs_f64());
    let quantile = whole * goal.exceed_ratio;
    let pessimistic = whole - full_low <= quantile + 1e-9;
    let optimistic = effective_high <= quantile + 1e-9;
    (pessimistic == optimistic).then_some(optimistic)
}

/// Every load that was offered, with its trials, the least first.
fn by_load(subject: &Simulated) -> Vec<(f64, Vec<(f64, f64)>)> {
    let mut loads: Vec<(f64, Vec<(f64, f64)>)> = Vec::new();
    for (load, loss) in subject.loads.iter().zip(&subject.losses) {
        let trial = (load.duration.as_secs_f64(), *loss);
        match loads
            .iter_mut()
            .find(|(rate, _)| *rate == load.frames_per_s)
        {
            Some((_, trials)) => trials.push(trial),
            None => loads.push((load.frames_per_s, vec![trial])),
        }
    }
    loads.sort_by(|a, b| a.0.total_cmp(&b.0));
    loads
}

/// What must hold of any result, whatever the subject did.
fn check(subject: &Simulated, found: &Found) {
    let loads = by_load(subject);
    for result in &found.goals {
        let judged = loads
            .iter()
            .map(|(rate, trials)| (*rate, is_lower(&result.goal, trials)));
        let judged: Vec<_> = judged.collect();
        let upper = judged
            .iter()
            .find(|(_, lower)| *lower == Some(false))
            .map(|(rate, _)| *rate);
        assert_eq!(
            result.upper_frames_per_s, upper,
            "the least upper bound: {result:?}"
        );
        let below = judged
            .iter()
            .filter(|(rate, _)| upper.is_none_or(|upper| *rate < upper));
        let lower = below
            .filter(|(_, lower)| *lower == Some(true))
            .map(|(rate, _)| *rate);
        assert_eq!(
            result.lower_frames_per_s,
            lower.max_by(f64::total_cmp),
            "the highest lower one: {result:?}"
        );
        let conditional = result.conditional_throughput_frames_per_s;
        if let Some(lower) = result.lower_frames_per_s {
            let least = lower * (1.0 - result.goal.loss_ratio) * (1.0 - 1e-9);
            assert!(
                conditional.is_some_and(|rate| rate >= least && rate <= lower),
                "{result:?}"
            );
        }
        match (
            result.verdict,
            result.lower_frames_per_s,
            result.upper_frames_per_s,
        ) {
            (Verdict::Regular, Some(lower), Some(upper)) => {
                let width = (upper - lower) / upper;
                assert!(
                    width > 0.0 && width <= result.goal.width * (1.0 + 1e-9),
                    "{result:?}"
                );
            }
            (Verdict::NoLowerBound, None, Some(upper)) => assert!(upper <= MIN * 1.000_001),
            (Verdict::MaxPasses, Some(lower), None) => assert!(lower >= MAX * 0.999_999),
            (Verdict::LimitedByTester, Some(lower), None) => {
                assert!(
                    found
                        .testers_limit_frames_per_s
                        .is_some_and(|limit| limit == lower)
                );
            }
            (Verdict::CutShort(_), ..) => assert!(found.cut.is_some(), "{result:?}"),
            _ => panic!("a verdict that its bounds do not have: {result:?}"),
        }
    }
}

/// The most trials that goals can take of a subject whose loss only grows: for each phase, its
/// start, the extensions, and the halvings, each as often as its sum has trials.
fn most_trials(config: &Config) -> usize {
    let grid = Grid::new(config).unwrap();
    let phases = config.goals.iter().flat_map(|goal| {
        goal.targets().into_iter().map(|target| {
            let widths = grid.top as f64 / grid.steps(target.width) as f64;
            let loads = 3.0 + 2.0 * widths.log2().ceil().max(1.0);
            loads as usize * (target.sum_s / target.trial_s).ceil() as usize
        })
    });
    2 + phases.sum::<usize>()
}

#[test]
fn a_subject_that_carries_so_much_and_no_more_is_measured_within_the_width() {
    let config = config(vec![Goal::ndr(), Goal::pdr()]);
    let mut subject = Simulated::carrying(2_345_678.0);
    let found = run(&mut subject, &config, DAY).unwrap();
    check(&subject, &found);
    assert!(
        found
            .goals
            .iter()
            .all(|goal| goal.verdict == Verdict::Regular),
        "{found:?}"
    );
    let [ndr, pdr] = [&found.goals[0], &found.goals[1]];
    assert!(ndr.lower_frames_per_s.unwrap() <= 2_345_678.0);
    assert!(ndr.upper_frames_per_s.unwrap() > 2_345_678.0);
    assert!(pdr.lower_frames_per_s.unwrap() <= 2_345_678.0 / 0.995);
    assert!(pdr.upper_frames_per_s.unwrap() > 2_345_678.0 / 0.995);
    // Eleven good trials make a lower bound, and eleven bad ones an upper bound: two of each are
    // needed, and what is beside that was spent on the way.
    assert!(subject.loads.len() <= 90, "{} trials", subject.loads.len());
}

#[test]
fn what_passes_at_the_highest_load_has_no_upper_bound() {
    let mut subject = Simulated::new(1, |_, _| 0.0);
    let found = run(&mut subject, &config(vec![Goal::ndr()]), DAY).unwrap();
    check(&subject, &found);
    assert_eq!(found.goals[0].verdict, Verdict::MaxPasses);
    assert!(
        found.goals[0]
            .verdict
            .to_string()
            .contains("highest load that was allowed passes")
    );
    assert!((found.goals[0].conditional_throughput_frames_per_s.unwrap() / MAX - 1.0).abs() < 1e-9);
}

#[test]
fn what_loses_even_the_least_load_has_no_lower_bound() {
    let mut subject = Simulated::new(1, |_, _| 0.01);
    let found = run(&mut subject, &config(vec![Goal::ndr(), Goal::pdr()]), DAY).unwrap();
    check(&subject, &found);
    assert!(
        found
            .goals
            .iter()
            .all(|goal| goal.verdict == Verdict::NoLowerBound),
        "{found:?}"
    );
}

#[test]
fn the_testers_own_limit_bounds_the_search_and_is_told() {
    let mut subject = Simulated::carrying(MAX);
    subject.testers_limit = 3_000_000.0;
    let found = run(&mut subject, &config(vec![Goal::ndr()]), DAY).unwrap();
    let limit = found.testers_limit_frames_per_s.unwrap();
    assert!(
        limit <= 3_000_000.0 / 0.995 && limit > 2_900_000.0,
        "{limit}"
    );
    assert_eq!(found.goals[0].verdict, Verdict::LimitedByTester);
    assert_eq!(found.goals[0].lower_frames_per_s, Some(limit));
    assert!(
        found.goals[0]
            .verdict
            .to_string()
            .starts_with("limited by the tester")
    );
}

#[test]
fn below_the_testers_limit_the_result_is_regular() {
    let mut subject = Simulated::carrying(1_000_000.0);
    subject.testers_limit = 3_000_000.0;
    let found = run(&mut subject, &config(vec![Goal::ndr()]), DAY).unwrap();
    assert_eq!(found.goals[0].verdict, Verdict::Regular);
    assert!(found.testers_limit_frames_per_s.is_some());
    let bounds = [
        found.goals[0].lower_frames_per_s,
        found.goals[0].upper_frames_per_s,
    ];
    assert!(
        bounds[0].unwrap() <= 1e6 && bounds[1].unwrap() > 1e6,
        "{bounds:?}"
    );
}

#[test]
fn a_tester_that_can_send_nothing_near_the_least_load_is_an_error() {
    let mut subject = Simulated::carrying(MAX);
    subject.testers_limit = 9_000.0;
    let error = run(&mut subject, &config(vec![Goal::ndr()]), DAY)
        .unwrap_err()
        .to_string();
    assert!(error.contains("this measures the tester"), "{error}");
}

#[test]
fn a_tester_that_stands_still_now_and_then_is_not_a_limit() {
    let mut subject = Simulated::carrying(1_000_000.0);
    subject.stalled = Box::new(|number| if number % 3 == 0 { 0.0 } else { 0.04 });
    let found = run(&mut subject, &config(vec![Goal::ndr()]), DAY).unwrap();
    assert_eq!(found.goals[0].verdict, Verdict::Regular);
    assert_eq!(found.testers_limit_frames_per_s, None);
}

#[test]
fn a_tester_that_always_stands_still_ends_the_search_and_says_what_to_do() {
    let mut subject = Simulated::carrying(1_000_000.0);
    subject.stalled = Box::new(|number| if number < 15 { 0.0 } else { 0.04 });
    let found = run(&mut subject, &config(vec![Goal::ndr()]), DAY).unwrap();
    assert_eq!((found.cut, subject.loads.len()), (Some(Cut::Disturbed), 25));
    let verdict = found.goals[0].verdict.to_string();
    assert!(
        verdict.ends_with("give it a core that nothing else runs on"),
        "{verdict}"
    );
    assert!(found.goals[0].estimate_frames_per_s.is_some());
}

#[test]
fn more_frames_than_were_sent_are_an_error_and_no_result() {
    let mut subject = Simulated::carrying(MAX);
    subject.repeated = 1;
    let error = run(&mut subject, &config(vec![Goal::ndr()]), DAY)
        .unwrap_err()
        .to_string();
    assert!(error.contains("look for a loop"), "{error}");
}

#[test]
fn an_interrupted_search_keeps_what_it_found() {
    let mut subject = Simulated::carrying(1_000_000.0);
    subject.interrupted_at = Some(20);
    let found = run(&mut subject, &config(vec![Goal::ndr(), Goal::pdr()]), DAY).unwrap();
    check(&subject, &found);
    assert_eq!(found.cut, Some(Cut::Interrupted));
    let estimate = found.goals[0].estimate_frames_per_s.unwrap();
    assert!((900_000.0..=1_000_000.0).contains(&estimate), "{estimate}");
}

#[test]
fn the_warm_up_counts_for_nothing() {
    let mut config = config(vec![Goal::ndr()]);
    config.warm_up = Duration::from_secs(5);
    let mut is_cold = true;
    let mut subject = Simulated::new(1, move |_, _| match std::mem::take(&mut is_cold) {
        true => 0.9,
        false => 0.0,
    });
    let found = run(&mut subject, &config, DAY).unwrap();
    assert_eq!(subject.loads[0].duration, Duration::from_secs(5));
    assert_eq!(found.goals[0].verdict, Verdict::MaxPasses);
}

#[test]
fn a_search_for_nothing_or_nowhere_is_refused() {
    let mut subject = Simulated::carrying(1e6);
    let none = run(&mut subject, &config(Vec::new()), DAY).unwrap_err();
    assert!(none.to_string().contains("needs a goal"));
    let mut empty = config(vec![Goal::ndr()]);
    empty.min_frames_per_s = empty.max_frames_per_s;
    let nowhere = run(&mut subject, &empty, DAY).unwrap_err();
    assert!(nowhere.to_string().contains("leave nothing to search"));
    assert!(subject.loads.is_empty(), "nothing was sent");
}

/// A goal with trials short and long, sums, exceed ratios and phases of all kinds.
fn any_goal() -> impl Strategy<Value = Goal> {
    let losses = prop_oneof![Just(0.0), Just(0.005), 0.0..0.2_f64];
    let exceeds = prop_oneof![Just(0.0), Just(0.5), 0.0..0.7_f64];
    let times = (1_u64..=4, 1_u64..=4, 1_u64..=6);
    (
        losses,
        exceeds,
        0.002..0.05_f64,
        times,
        1_u32..=4,
        2_u32..=4,
    )
        .prop_map(
            |(loss_ratio, exceed_ratio, width, (first, final_, sum), preceding, expansion)| {
                let initial_trial = Duration::from_millis(250 * first);
                let final_trial = initial_trial * final_ as u32;
                Goal {
                    name: "goal".to_owned(),
                    loss_ratio,
                    exceed_ratio,
                    width,
                    initial_trial,
                    final_trial,
                    duration_sum: final_trial * sum as u32,
                    preceding,
                    expansion,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Loss that only grows with the load, and does not vary: the goal's own threshold is between
    /// the bounds, and trials and time stay below what can be said beforehand.
    #[test]
    fn steady_subjects_are_bounded_rightly_and_in_time(
        goals in prop::collection::vec(any_goal(), 1..4),
        carried in (MIN / 2.0).ln()..(MAX * 2.0).ln(),
        slope in 0.05..3.0_f64,
    ) {
        let carried = carried.exp();
        // Beyond what is carried, loss grows by this much of the excess.
        let curve = move |rate: f64| (slope * (1.0 - carried / rate)).clamp(0.0, 1.0);
        let mut subject = Simulated::new(1, move |load, _| curve(load.frames_per_s));
        let config = config(goals);
        let found = run(&mut subject, &config, DAY).unwrap();
        check(&subject, &found);
        prop_assert!(found.cut.is_none());
        prop_assert!(subject.loads.len() <= most_trials(&config));
        for result in &found.goals {
            let threshold = carried / (1.0 - (result.goal.loss_ratio / slope)).max(1e-9);
            // A frame in part is a frame lost: at low loads that moves the threshold a little.
            let (least, most) = (threshold * 0.999, threshold * 1.001);
            prop_assert!(result.lower_frames_per_s.is_none_or(|lower| lower <= most));
            prop_assert!(result.upper_frames_per_s.is_none_or(|upper| upper >= least));
        }
    }

    /// Trials that lose by chance, and loads that lose where higher ones do not: the result is
    /// what the rules make of the very trials that were seen.
    #[test]
    fn noisy_and_uneven_subjects_are_judged_by_the_rules(
        goals in prop::collection::vec(any_goal(), 1..3),
        seed in any::<u64>(),
        carried in (MIN * 2.0)..MAX,
        noise in 0.0..0.45_f64,
        dip in 0.3..1.0_f64,
    ) {
        let mut subject = Simulated::new(seed, move |load: Load, random: &mut Random| {
            let share = load.frames_per_s / carried;
            let uneven = if share > dip && share < dip + 0.05 { 0.02 } else { 0.0 };
            let chance = if random.share() < noise { 0.1 * random.share() } else { 0.0 };
            (beyond(load, carried) + uneven + chance).min(1.0)
        });
        let budget = Duration::from_secs(3600);
        let found = run(&mut subject, &config(goals), budget).unwrap();
        check(&subject, &found);
        let spent: Duration = subject.loads.iter().map(|load| load.duration).sum();
        prop_assert!(spent <= budget);
    }

    /// However little time there is, it is kept, what trials take besides included.
    #[test]
    fn the_time_of_a_search_is_kept(
        budget_ms in 0_u64..200_000,
        overhead_ms in 0_u64..2_000,
        carried in MIN..MAX,
    ) {
        let mut subject = Simulated::carrying(carried);
        subject.overhead = Duration::from_millis(overhead_ms);
        let budget = Duration::from_millis(budget_ms);
        let found = run(&mut subject, &config(vec![Goal::ndr(), Goal::pdr()]), budget).unwrap();
        let spent: Duration =
            subject.loads.iter().map(|load| load.duration + subject.overhead).sum();
        prop_assert!(spent <= budget);
        check(&subject, &found);
        if found.cut.is_none() {
            let is_cut = |goal: &GoalFound| matches!(goal.verdict, Verdict::CutShort(_));
            prop_assert!(!found.goals.iter().any(is_cut));
        }
    }

    /// Up to the exceed ratio, a share of bad trials is forgiven; beyond it, none is.
    #[test]
    fn the_exceed_ratio_decides_how_much_noise_is_forgiven(
        seed in any::<u64>(),
        noise in prop_oneof![Just(0.1_f64), Just(0.9)],
    ) {
        let mut subject = Simulated::new(seed, move |load: Load, random: &mut Random| {
            if random.share() < noise { 0.01 } else { beyond(load, 1e6) }
        });
        let forgiving = Goal {
            exceed_ratio: 0.5,
            duration_sum: Duration::from_secs(101),
            ..Goal::ndr()
        };
        let found = run(&mut subject, &config(vec![forgiving]), DAY).unwrap();
        let result = &found.goals[0];
        if noise < 0.5 {
            // Coarse phases may be misled, but the last one comes back.
            let lower = result.lower_frames_per_s.unwrap();
            prop_assert!((0.99e6..=1e6).contains(&lower), "{result:?}");
        } else {
            prop_assert_eq!(result.verdict, Verdict::NoLowerBound);
        }
    }
}
