use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn expired(wheel: &mut Wheel, now_ns: u64) -> Vec<u32> {
    let mut budget = u32::MAX;
    std::iter::from_fn(|| wheel.pop_expired(now_ns, &mut budget)).collect()
}

#[test]
fn a_timer_takes_twelve_bytes() {
    assert_eq!(size_of::<Node>(), 12);
    let wheel = Wheel::new(1_000_000, 0);
    assert!(wheel.memory_bytes() < 12_010_000);
}

#[test]
fn a_timer_fires_at_its_deadline_and_within_a_tick_of_it_at_every_distance() {
    for start_ns in [
        0,
        1,
        12_345 * TICK_NS + 99,
        (1 << 24) * TICK_NS - 1,
        ((1 << 32) - 5) << 24,
    ] {
        for bits in 0..50 {
            for delay_ns in [(1u64 << bits) - 1, 1 << bits, 3 << bits] {
                let mut wheel = Wheel::new(1, start_ns);
                let deadline_ns = start_ns + delay_ns;
                wheel.arm(0, deadline_ns);
                if delay_ns > 0 {
                    assert_eq!(expired(&mut wheel, deadline_ns - 1), []);
                }
                assert!(wheel.next_deadline_ns().unwrap() < deadline_ns + TICK_NS);
                assert_eq!(expired(&mut wheel, deadline_ns + TICK_NS), [0]);
                assert!(wheel.is_empty());
            }
        }
    }
}

#[test]
fn a_timer_beyond_all_reason_is_held_to_a_year_and_more() {
    let mut wheel = Wheel::new(1, 0);
    wheel.arm(0, u64::MAX);
    let year_ns = 365 * 86_400 * 1_000_000_000;
    assert_eq!(expired(&mut wheel, year_ns), []);
    assert_eq!(expired(&mut wheel, 2 * year_ns), [0]);
}

#[test]
fn timers_of_one_tick_fire_in_the_order_of_arming() {
    let mut wheel = Wheel::new(100, 5 * TICK_NS);
    for id in [7, 3, 99, 0] {
        wheel.arm(id, 10 * TICK_NS);
    }
    wheel.cancel(3);
    wheel.cancel(3);
    wheel.cancel(50);
    assert_eq!(wheel.len(), 3);
    assert_eq!(expired(&mut wheel, 10 * TICK_NS), [7, 99, 0]);
}

#[test]
fn a_deadline_in_the_past_fires_with_the_next_call() {
    let mut wheel = Wheel::new(2, 1_000 * TICK_NS);
    wheel.arm(0, 3);
    assert_eq!(expired(&mut wheel, 1_000 * TICK_NS), [0]);
    wheel.arm(1, 999 * TICK_NS);
    assert_eq!(expired(&mut wheel, 1_000 * TICK_NS), [1]);
}

#[test]
fn a_wave_of_deadlines_is_worked_off_within_each_call_s_budget() {
    let mut wheel = Wheel::new(10_000, 0);
    for id in 0..10_000 {
        wheel.arm(id, 70 * TICK_NS);
    }
    let (mut calls, mut fired) = (0, 0);
    while !wheel.is_empty() {
        let mut budget = 64;
        while wheel.pop_expired(80 * TICK_NS, &mut budget).is_some() {
            fired += 1;
        }
        calls += 1;
        assert!(calls < 1_000, "no progress");
    }
    assert_eq!(fired, 10_000);
    // Each timer is looked at twice: when it falls to the lowest level, and when it fires.
    assert_eq!(calls, (2 * 10_000_u32).div_ceil(64));
}

#[test]
fn a_timer_armed_again_with_every_packet_is_moved_only_when_its_old_time_comes() {
    let mut wheel = Wheel::new(1, 0);
    let idle_ns = 1_000 * TICK_NS;
    let mut looked_at = 0;
    for packet in 0..100_000 {
        let now_ns = packet * TICK_NS / 10;
        wheel.arm(0, now_ns + idle_ns);
        let mut budget = 10;
        assert_eq!(wheel.pop_expired(now_ns, &mut budget), None);
        looked_at += 10 - budget;
    }
    assert!(looked_at < 40, "{looked_at}");
    let last_ns = 99_999 * TICK_NS / 10;
    assert_eq!(expired(&mut wheel, last_ns + idle_ns - 1), []);
    assert_eq!(expired(&mut wheel, last_ns + idle_ns + TICK_NS), [0]);
}

#[derive(Clone, Debug)]
enum Step {
    Arm { id: u32, delay_ns: u64 },
    Cancel(u32),
    Pass { time_ns: u64, budget: u32 },
    JumpToDeadline,
}

fn duration_ns() -> impl Strategy<Value = u64> {
    (any::<u64>(), 10u32..50).prop_map(|(number, bits)| number >> (64 - bits))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u32..40, duration_ns()).prop_map(|(id, delay_ns)| Step::Arm { id, delay_ns }),
        1 => (0u32..40).prop_map(Step::Cancel),
        2 => (duration_ns(), 0u32..60).prop_map(|(time_ns, budget)| Step::Pass { time_ns, budget }),
        1 => Just(Step::JumpToDeadline),
    ];
    proptest::collection::vec(step, 0..300)
}

/// Fires what is due; nothing may fire early, and with budget left nothing may stay behind.
fn advance(
    wheel: &mut Wheel,
    model: &mut BTreeMap<u32, u64>,
    now_ns: u64,
    mut budget: u32,
) -> Result<(), TestCaseError> {
    while let Some(id) = wheel.pop_expired(now_ns, &mut budget) {
        let deadline_ns = model.remove(&id);
        prop_assert!(deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns));
    }
    if budget > 0 {
        let late = model
            .values()
            .filter(|&&deadline_ns| deadline_ns + TICK_NS <= now_ns);
        prop_assert_eq!(late.count(), 0);
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_behaves_as_a_sorted_map(start_ns in duration_ns(), steps in steps()) {
        let mut wheel = Wheel::new(40, start_ns);
        let mut model = BTreeMap::new();
        let mut now_ns = start_ns;
        for step in steps {
            match step {
                Step::Arm { id, delay_ns } => {
                    wheel.arm(id, now_ns + delay_ns);
                    model.insert(id, now_ns + delay_ns);
                }
                Step::Cancel(id) => {
                    wheel.cancel(id);
                    model.remove(&id);
                }
                Step::Pass { time_ns, budget } => {
                    now_ns += time_ns;
                    advance(&mut wheel, &mut model, now_ns, budget)?;
                }
                Step::JumpToDeadline => {
                    let next_ns = wheel.next_deadline_ns();
                    prop_assert_eq!(next_ns.is_none(), model.is_empty());
                    now_ns = now_ns.max(next_ns.unwrap_or(0));
                    advance(&mut wheel, &mut model, now_ns, u32::MAX)?;
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            prop_assert!((0..40).all(|id| wheel.is_armed(id) == model.contains_key(&id)));
            if let (Some(next_ns), Some(first_ns)) = (wheel.next_deadline_ns(), model.values().min()) {
                prop_assert!(next_ns < first_ns + TICK_NS);
            }
        }
        // A simulator that jumps from one deadline to the next reaches them all.
        let mut jumps = 0;
        while let Some(next_ns) = wheel.next_deadline_ns() {
            now_ns = now_ns.max(next_ns);
            advance(&mut wheel, &mut model, now_ns, u32::MAX)?;
            jumps += 1;
            prop_assert!(jumps < 40 * 80);
        }
        prop_assert!(model.is_empty());
    }
}
