//! What figures come to, in sentences that a reader can check against them.

use std::collections::BTreeMap;

use super::Measured;

/// The scenario of legitimate connections beside a flood.
pub(super) const GUARD_FLOOD: &str = "guard-flood";
/// The share of connections from which on they all count as served: one in a thousand is the
/// search's own tolerance.
const ALL_SERVED: f64 = 0.999;

/// One step of a flood, as one subject met it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Step {
    /// Packets a second that were asked for.
    pub(super) asked_per_s: f64,
    /// Packets a second that were sent.
    pub(super) sent_per_s: f64,
    /// The share of legitimate connections that succeeded.
    pub(super) success: f64,
    /// Time to the first byte.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Spoofed SYNs at the server.
    pub(super) arrived: f64,
    /// Whether the tester could not begin the connections.
    pub(super) is_testers_limit: bool,
}

/// The steps of each subject, in the order of their floods; subjects in the order of the report.
pub(super) fn steps(results: &[Measured]) -> Vec<(&str, Vec<Step>)> {
    let mut all: Vec<(&str, BTreeMap<u64, Step>)> = Vec::new();
    for measured in results.iter().filter(|one| one.scenario == GUARD_FLOOD) {
        let Some((name, asked)) = step_of(&measured.metric) else {
            continue;
        };
        let subject = measured.subject.as_str();
        let place = all.iter().position(|(known, _)| *known == subject);
        let place = place.unwrap_or_else(|| {
            all.push((subject, BTreeMap::new()));
            all.len() - 1
        });
        let step = all[place].1.entry(asked).or_default();
        step.asked_per_s = asked as f64;
        step.is_testers_limit |= measured.is_testers_limit;
        match name {
            "success_ratio" => step.success = measured.value,
            "first_byte_p50_us" => step.p50_us = measured.value,
            "first_byte_p99_us" => step.p99_us = measured.value,
            "flood_syns_arrived" => step.arrived = measured.value,
            _ => step.sent_per_s = measured.value,
        }
    }
    let in_order =
        |(subject, steps): (_, BTreeMap<u64, Step>)| (subject, steps.into_values().collect());
    all.into_iter().map(in_order).collect()
}

/// The name and the flood of a metric of a step.
pub(super) fn step_of(metric: &str) -> Option<(&str, u64)> {
    let (name, rest) = metric.split_once("_at_")?;
    let names = [
        "success_ratio",
        "first_byte_p50_us",
        "first_byte_p99_us",
        "flood_syns_arrived",
        "flood_sent_per_s",
    ];
    let asked = rest.strip_suffix("_per_s")?.parse().ok()?;
    names.contains(&name).then_some((name, asked))
}

/// What a flood left of legitimate connections, one sentence for each subject.
pub(super) fn under_flood(results: &[Measured]) -> Vec<String> {
    let steps = steps(results);
    steps
        .iter()
        .map(|(subject, steps)| sentence(subject, steps))
        .collect()
}

fn sentence(subject: &str, steps: &[Step]) -> String {
    let judged: Vec<&Step> = steps.iter().filter(|step| !step.is_testers_limit).collect();
    let Some(last) = judged.last() else {
        return format!(
            "{subject}: nothing can be said, since the tester could not begin the connections."
        );
    };
    let failed = judged.iter().position(|step| step.success < ALL_SERVED);
    let served = match failed {
        None => format!(
            "{subject} served {} of the connections at each flood, up to {} packets/s, the most that was sent",
            share(judged.iter().map(|step| step.success).fold(1.0, f64::min)),
            rate(last.sent_per_s)
        ),
        Some(first) => {
            let failing = judged[first];
            let until = match first.checked_sub(1).map(|place| judged[place]) {
                Some(good) if good.sent_per_s > 0.0 => {
                    format!(
                        "all connections up to {} packets/s of flood, and ",
                        rate(good.sent_per_s)
                    )
                }
                Some(_) => "all connections without a flood, and ".to_owned(),
                None => String::new(),
            };
            let at = match failing.sent_per_s > 0.0 {
                true => format!("at {} packets/s", rate(failing.sent_per_s)),
                false => "without a flood".to_owned(),
            };
            format!("{subject} served {until}{} {at}", share(failing.success))
        }
    };
    let arrived: f64 = judged.iter().map(|step| step.arrived).sum();
    let through = match arrived > 0.0 {
        true => format!("{arrived:.0} spoofed SYNs reached the server"),
        false => "no spoofed SYN reached the server".to_owned(),
    };
    let limited = match judged.len() < steps.len() {
        true => {
            " Larger floods are not judged: the tester could not send them, or not begin the connections beside them."
        }
        false => "",
    };
    format!("{served}; {through}.{limited}")
}

/// That the tester was the limit, where it was.
pub(super) fn limits(results: &[Measured]) -> Option<String> {
    let mut limited: Vec<String> = Vec::new();
    let is_limited = |one: &&Measured| one.is_testers_limit && one.scenario != GUARD_FLOOD;
    for measured in results.iter().filter(is_limited) {
        let name = format!("{} of {}", measured.scenario, measured.subject);
        if !limited.contains(&name) {
            limited.push(name);
        }
    }
    (!limited.is_empty()).then(|| {
        format!(
            "The tester was the limit of {}: these figures say what it can send, not what the subject \
             can carry. Give the tester more cores, or a faster interface.",
            limited.join(", ")
        )
    })
}

fn share(ratio: f64) -> String {
    match ratio {
        all if all >= 1.0 => "100 %".to_owned(),
        // Rounding must not make them all.
        most if most >= 0.999 => format!("{:.2} %", (most * 1e4).floor() / 100.0),
        some => format!("{:.1} %", some * 100.0),
    }
}

/// A rate in three digits.
fn rate(per_s: f64) -> String {
    super::page::short(per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(
        subject: &str,
        asked: f64,
        success: f64,
        arrived: f64,
        is_limit: bool,
    ) -> Vec<Measured> {
        let figures = [
            ("success_ratio", success),
            ("first_byte_p99_us", 300.0),
            ("flood_syns_arrived", arrived),
            ("flood_sent_per_s", asked * 0.99),
        ];
        let measured = |(name, value): (&str, f64)| {
            let metric = format!("{name}_at_{asked:.0}_per_s");
            let measured = Measured::alone(GUARD_FLOOD, &metric, &[value]).of(subject);
            measured.limited_by_tester(is_limit)
        };
        figures.into_iter().map(measured).collect()
    }

    #[test]
    fn j3_a_flood_ends_in_a_sentence_for_each_subject() {
        let mut results = step("tidegate", 0.0, 1.0, 0.0, false);
        results.extend(step("tidegate", 1e6, 1.0, 0.0, false));
        results.extend(step("bare", 0.0, 1.0, 0.0, false));
        results.extend(step("bare", 1e4, 0.123, 9_000.0, false));
        assert_eq!(
            under_flood(&results),
            [
                "tidegate served 100 % of the connections at each flood, up to 990 k packets/s, the \
                 most that was sent; no spoofed SYN reached the server.",
                "bare served all connections without a flood, and 12.3 % at 9900 packets/s; 9000 \
                 spoofed SYNs reached the server.",
            ]
        );
        assert!(limits(&results).is_none());
    }

    #[test]
    fn j3_a_step_that_the_tester_limited_is_not_the_subjects() {
        let mut results = step("tidegate", 1e3, 0.9995, 0.0, false);
        results.extend(step("tidegate", 1e6, 0.4, 0.0, true));
        let said = under_flood(&results);
        assert!(
            said[0].contains("99.95 % of the connections at each flood, up to 990 "),
            "{said:?}"
        );
        assert!(said[0].ends_with("not begin the connections beside them."));
        let all_limited = under_flood(&step("bare", 1e3, 0.1, 0.0, true));
        assert!(all_limited[0].starts_with("bare: nothing can be said"));
    }

    #[test]
    fn j3_a_report_says_that_the_tester_was_the_limit() {
        let ndr = Measured::alone("ndr.64", "frames_per_s", &[8_000.0]).of("kernel");
        let said = limits(&[ndr.clone().limited_by_tester(true)]).unwrap();
        assert!(
            said.starts_with("The tester was the limit of ndr.64 of kernel:"),
            "{said}"
        );
        assert_eq!(limits(&[ndr]), None);
    }
}
