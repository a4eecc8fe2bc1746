//! Numbers with units, as they are typed: `50mbit`, `300ms`, `0.1%`, `1mb`.

/// Bits a second.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    scaled(text, &units, "a rate, such as 50mbit")
}

/// Nanoseconds.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    scaled(text, &units, "a time, such as 300ms")
}

/// Bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("mb", 1e6), ("kb", 1e3), ("b", 1.0)];
    scaled(text, &units, "a size, such as 1mb")
}

/// A probability, from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let expected = || format!("{text:?} is not a share, such as 0.1%");
    let number = text.strip_suffix('%').ok_or_else(expected)?;
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(expected()),
    }
}

/// The first unit that the text ends with decides.
fn scaled(text: &str, units: &[(&str, f64)], expected: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let parsed = units
        .iter()
        .find_map(|(unit, scale)| Some((lower.strip_suffix(unit)?, scale)))
        .and_then(|(number, scale)| Some(number.parse::<f64>().ok()? * scale))
        .filter(|value| (0.0..1e18).contains(value));
    match parsed {
        Some(value) => Ok(value.round() as u64),
        None => Err(format!("{text:?} is not {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read() {
        assert_eq!(rate("50mbit"), Ok(50_000_000));
        assert_eq!(rate("1.5Gbit"), Ok(1_500_000_000));
        assert_eq!(time("300ms"), Ok(300_000_000));
        assert_eq!(time("5us"), Ok(5_000));
        assert_eq!(time("2s"), Ok(2_000_000_000));
        assert_eq!(bytes("1mb"), Ok(1_000_000));
        assert_eq!(bytes("64kb"), Ok(64_000));
        assert_eq!(share("0.1%"), Ok(0.001));
    }

    #[test]
    fn what_has_no_unit_or_is_out_of_range_is_refused() {
        for wrong in ["", "50", "mbit", "-1mbit", "nanmbit", "1e30gbit", "50ms"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(time("1h").is_err());
        assert!(share("101%").is_err());
        assert!(share("0.5").is_err());
    }
}
