//! From values to places on an axis, and to words.

/// How an axis divides its room.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scale {
    /// Even steps.
    Linear { low: f64, high: f64 },
    /// Even ratios; both above zero.
    Log { low: f64, high: f64 },
    /// Even ratios, and zero before them.
    LogAndZero { low: f64, high: f64 },
    /// Percentiles: each further nine takes as much room, up to so many.
    Nines { most: f64 },
    /// One place for each value that occurs.
    Each(Vec<f64>),
}

/// Where the values above zero begin on a scale that has zero, too.
const BEYOND_ZERO: f64 = 0.12;
/// More nines than any histogram of a run has frames for.
const MOST_NINES: f64 = 6.0;

impl Scale {
    /// An even scale from zero to a round number.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let high = values.fold(0.0, f64::max);
        let step = round_step(high / 4.0);
        let high = (high / step).ceil().max(1.0) * step;
        Self::Linear { low: 0.0, high }
    }

    /// A scale of ratios with a little room about the values that are above zero.
    pub(super) fn log(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values
            .clone()
            .filter(|&value| value > 0.0)
            .fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        if !(low.is_finite() && high > 0.0) {
            return Self::Log {
                low: 1.0,
                high: 10.0,
            };
        }
        Self::Log {
            low: low / 1.25,
            high: high * 1.25,
        }
    }

    /// The same, with a place for zero.
    pub(super) fn log_and_zero(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values
            .clone()
            .filter(|&value| value > 0.0)
            .fold(f64::INFINITY, f64::min);
        match Self::log(values) {
            Self::Log { high, .. } if low.is_finite() => Self::LogAndZero { low, high },
            other => other,
        }
    }

    /// Percentiles up to what these values need.
    pub(super) fn nines(values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|&value| value < 100.0).map(nines);
        let most = finite.fold(2.0, f64::max).min(MOST_NINES);
        Self::Nines { most: most + 0.3 }
    }

    /// What an axis' label says of it.
    pub(super) const fn words(&self) -> &'static str {
        match self {
            Self::Log { .. } | Self::LogAndZero { .. } => " (logarithmic)",
            Self::Linear { .. } | Self::Nines { .. } | Self::Each(_) => "",
        }
    }

    /// Where a value is, from 0 to 1; what is beyond an end is put there.
    pub(super) fn place(&self, value: f64) -> f64 {
        self.unbounded_place(value).clamp(0.0, 1.0)
    }

    /// Where a value is, 0 and 1 being the ends.
    pub(super) fn unbounded_place(&self, value: f64) -> f64 {
        match self {
            Self::Linear { low, high } => (value - low) / (high - low),
            Self::Log { low, high } => {
                (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
            }
            Self::LogAndZero { low, high } if value >= *low => {
                BEYOND_ZERO + (1.0 - BEYOND_ZERO) * (value / low).ln() / (high / low).ln()
            }
            Self::LogAndZero { .. } => 0.0,
            Self::Nines { most } => nines(value).min(*most) / most,
            Self::Each(values) => {
                let index = values.iter().position(|&known| known == value).unwrap_or(0);
                (index as f64 + 0.5) / values.len().max(1) as f64
            }
        }
    }

    /// Values to mark, no more than there is room for.
    pub(super) fn ticks(&self, room: usize) -> Vec<f64> {
        match self {
            Self::Linear { low, high } => {
                let step = round_step((high - low) / room.max(2) as f64 * 1.2);
                let count = ((high - low) / step + 1e-9).floor() as u32;
                (0..=count).map(|n| low + f64::from(n) * step).collect()
            }
            Self::Log { low, high } => log_ticks(*low, *high, room),
            Self::LogAndZero { low, high } => {
                let mut ticks = log_ticks(*low, *high, room.saturating_sub(1));
                ticks.insert(0, 0.0);
                ticks
            }
            Self::Nines { most } => {
                let all = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
                let is_shown = |&value: &f64| nines(value) <= *most;
                all.into_iter().filter(is_shown).collect()
            }
            Self::Each(values) => values.clone(),
        }
    }
}

fn nines(percentile: f64) -> f64 {
    if percentile >= 100.0 {
        return f64::INFINITY;
    }
    -(1.0 - percentile / 100.0).log10()
}

/// 1, 2 or 5 times a power of ten, not below the value.
fn round_step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let decade = 10_f64.powf(least.log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|step| step * decade >= least * 0.999_999);
    fits.unwrap_or(10.0) * decade
}

fn log_ticks(low: f64, high: f64, room: usize) -> Vec<f64> {
    if high / low < 10.0 {
        // Within a decade even steps are marked, lest there be one mark or none.
        let step = round_step((high - low) / (room.max(3) - 1) as f64);
        let first = (low / step).ceil() as u64;
        let last = (high / step).floor() as u64;
        return (first..=last).map(|n| n as f64 * step).collect();
    }
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    for parts in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
        let values = decades
            .clone()
            .flat_map(|decade| parts.iter().map(move |part| part * 10_f64.powi(decade)));
        let ticks: Vec<f64> = values
            .filter(|&value| value >= low && value <= high)
            .collect();
        if ticks.len() <= room {
            return ticks;
        }
    }
    let powers = decades.map(|decade| 10_f64.powi(decade));
    let powers: Vec<f64> = powers
        .filter(|&value| value >= low && value <= high)
        .collect();
    powers
        .iter()
        .copied()
        .step_by(powers.len().div_ceil(room.max(1)).max(1))
        .collect()
}

/// A number with as many digits as a reader needs.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let digits = match magnitude {
        _ if !value.is_finite() => return "–".to_owned(),
        0.0 => return "0".to_owned(),
        _ if magnitude >= 1e15 => return format!("{value:.2e}"),
        _ if magnitude >= 100.0 => 0,
        _ if magnitude >= 10.0 => 1,
        _ if magnitude >= 0.095 => 2,
        _ if magnitude >= 0.000_95 => 4,
        _ => return format!("{value:.1e}"),
    };
    let text = format!("{value:.digits$}");
    match digits {
        0 => grouped(&text),
        _ => text,
    }
}

/// A number without needless zeros.
pub(super) fn trimmed(value: f64) -> String {
    let text = number(value);
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Digits in groups of three, from ten thousand on.
fn grouped(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("−", digits),
        None => ("", text),
    };
    if digits.len() < 5 {
        return format!("{sign}{digits}");
    }
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// A large number with the letter for its power of ten.
pub(in crate::report) fn short(value: f64) -> String {
    let (scaled, letter) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, " G"),
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => return number(value),
    };
    let digits = if scaled.abs() >= 100.0 {
        0
    } else if scaled.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{letter}")
}

/// A time in the unit that it is read best in.
pub(super) fn time(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let fits = units
        .iter()
        .find(|(unit, _)| nanoseconds.abs() >= *unit * 0.999_999);
    match fits {
        Some((unit, name)) => format!("{} {name}", trimmed(nanoseconds / unit)),
        None if nanoseconds == 0.0 => "0".to_owned(),
        None => format!("{} ns", trimmed(nanoseconds)),
    }
}

/// A figure's value and unit, as its metric's name ends.
pub(super) fn quantity(metric: &str, value: f64) -> (String, String) {
    let unit = unit(metric);
    if unit == "%" && metric.contains("_ratio") {
        return (number(value * 100.0), "%".to_owned());
    }
    if unit.ends_with("/s") && value.abs() >= 1e4 {
        let text = short(value);
        let (text, letter) = text.rsplit_once(' ').unwrap_or((text.as_str(), ""));
        return (
            text.to_owned(),
            format!("{letter} {unit}").trim().to_owned(),
        );
    }
    (number(value), unit)
}

/// What a metric is counted in.
pub(super) fn unit(metric: &str) -> String {
    // A figure's condition may stand behind its name, as in `first_byte_p99_us_at_1000_per_s`.
    let metric = metric.split("_at_").next().unwrap_or(metric);
    let endings = [
        ("ns_per_packet", "ns/packet"),
        ("bits_per_s", "bit/s"),
        ("_ns", "ns"),
        ("_us", "µs"),
        ("_ms", "ms"),
        ("_bytes", "octets"),
        ("_percent", "%"),
        ("_ratio", "%"),
    ];
    if let Some((_, unit)) = endings.iter().find(|(ending, _)| metric.ends_with(ending)) {
        return (*unit).to_owned();
    }
    for ending in ["_per_second", "_per_s"] {
        if let Some(counted) = metric.strip_suffix(ending) {
            let last = counted.rsplit('_').next().unwrap_or(counted);
            return format!("{last}/s");
        }
    }
    match metric {
        "bytes" => "octets".to_owned(),
        "seconds" => "s".to_owned(),
        "ratio" => "×".to_owned(),
        _ if metric.ends_with("_s") => "s".to_owned(),
        _ => metric.replace('_', " "),
    }
}

/// Whether the metric is a time in a unit below the second.
fn is_time(metric: &str) -> bool {
    ["_ns", "_us", "_ms"]
        .iter()
        .any(|ending| metric.ends_with(ending))
}

/// An axis' name in words.
pub(super) fn label(metric: &str) -> String {
    let unit = unit(metric);
    let name = match metric {
        "frame_bytes" => return "octets of a frame, without check sequence".to_owned(),
        "frames_per_s" => return "frames/s".to_owned(),
        "percentile" => return "percentile of frames".to_owned(),
        "flood_packets_per_s" => return "flood, packets/s".to_owned(),
        "loss_ratio" => return "frames lost".to_owned(),
        "success_ratio" => return "connections that succeed".to_owned(),
        "time_s" => return "time, s".to_owned(),
        "latency_us" => return "time on the way".to_owned(),
        "first_byte_p50_us" | "first_byte_p99_us" => return "time to the first byte".to_owned(),
        "flood_syns_arrived" => return "spoofed SYNs at the server, packets".to_owned(),
        _ => {
            let endings = ["_ns", "_us", "_ms", "_s", "_ratio", "_percent", "_bytes"];
            endings
                .iter()
                .find_map(|ending| metric.strip_suffix(ending))
                .unwrap_or(metric)
        }
    };
    match (name == metric, is_time(metric)) {
        (true, _) => unit,
        // Its values say their unit.
        (false, true) => name.replace('_', " "),
        (false, false) => format!("{}, {unit}", name.replace('_', " ")),
    }
}

/// Seconds since 1970 as a date and time, UTC (Gregorian calendar from days, after Hinnant).
pub(super) fn utc(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_have_room() {
        let scale = Scale::linear([0.3, 17.2].into_iter());
        assert_eq!(
            scale,
            Scale::Linear {
                low: 0.0,
                high: 20.0
            }
        );
        assert_eq!(scale.ticks(5), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let scale = Scale::Log {
            low: 900.0,
            high: 2e6,
        };
        assert_eq!(scale.ticks(4), [1e3, 1e4, 1e5, 1e6]);
        assert!(
            Scale::Log {
                low: 1e-3,
                high: 1e9
            }
            .ticks(5)
            .len()
                <= 5
        );
        assert_eq!(
            Scale::nines([50.0, 99.95, 100.0].into_iter()).ticks(5),
            [50.0, 90.0, 99.0, 99.9]
        );
    }

    #[test]
    fn values_stay_on_their_axis() {
        let scales = [
            Scale::linear([0.0].into_iter()),
            Scale::log([0.0].into_iter()),
            Scale::log_and_zero([0.0].into_iter()),
            Scale::log_and_zero([0.0, 3.0].into_iter()),
            Scale::log([3.0, 3.0].into_iter()),
            Scale::nines([100.0].into_iter()),
            Scale::Each(vec![]),
        ];
        for scale in scales {
            for value in [-1.0, 0.0, 3.0, 100.0, 1e12] {
                let place = scale.place(value);
                assert!((0.0..=1.0).contains(&place), "{scale:?} {value} {place}");
            }
            assert!(scale.ticks(5).len() <= 7);
        }
    }

    #[test]
    fn j3_every_axis_has_marks_to_read_it_by() {
        for (low, high) in [
            (1_010.0, 1_260.0),
            (30.0, 80.0),
            (0.9, 9.0),
            (1.0, 60.0),
            (3.0, 4e7),
        ] {
            for room in [5, 6, 9] {
                let count = Scale::Log { low, high }.ticks(room).len();
                assert!((2..=room).contains(&count), "{low} {high} {room}: {count}");
            }
        }
    }

    #[test]
    fn each_nine_takes_as_much_room() {
        let scale = Scale::Nines { most: 4.0 };
        let places = [90.0, 99.0, 99.9, 99.99].map(|value| scale.place(value));
        for (place, expected) in places.iter().zip([0.25, 0.5, 0.75, 1.0]) {
            assert!((place - expected).abs() < 1e-6);
        }
        assert_eq!(scale.place(100.0), 1.0);
    }

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        let texts = [0.0, 0.000_123, 0.0123, 1.234, 12.34, 1_234.0, 1_234_567.0].map(number);
        let expected = [
            "0",
            "1.2e-4",
            "0.0123",
            "1.23",
            "12.3",
            "1234",
            "1\u{202f}234\u{202f}567",
        ];
        assert_eq!(texts, expected);
        assert_eq!(
            [short(14_880_952.0), short(2e6), short(999.0)],
            ["14.9 M", "2 M", "999"]
        );
    }

    #[test]
    fn figures_have_their_unit() {
        let quantity = |metric, value| {
            let (value, unit) = quantity(metric, value);
            format!("{value} {unit}")
        };
        assert_eq!(quantity("ns_per_packet", 43.21), "43.2 ns/packet");
        assert_eq!(quantity("frames_per_s", 1_234_567.0), "1.23 M frames/s");
        assert_eq!(quantity("sessions_per_second", 900.0), "900 sessions/s");
        assert_eq!(quantity("loss_ratio", 0.005), "0.50 %");
        assert_eq!(quantity("p99_us", 12.0), "12.0 µs");
        assert_eq!(quantity("success_ratio_at_1000_per_s", 0.5), "50.0 %");
        assert_eq!(quantity("p99_us_at_1000_per_s", 12.0), "12.0 µs");
        assert_eq!(quantity("loss_percent", 12.0), "12.0 %");
        assert_eq!(label("ttfb_ms"), "ttfb");
        assert_eq!(label("memory_bytes"), "memory, octets");
        assert_eq!(label("ns_per_packet"), "ns/packet");
    }

    #[test]
    fn times_are_told_in_the_unit_that_suits_them() {
        let texts = [0.0, 0.5, 20.0, 1_500.0, 300_000.0, 1e6, 107_937_791.0, 2e9].map(time);
        let expected = [
            "0", "0.5 ns", "20 ns", "1.5 µs", "300 µs", "1 ms", "108 ms", "2 s",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_231_576), "2026-11-21 03:26 UTC");
    }
}
