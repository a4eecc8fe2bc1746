//! Values as they are written: `10 kpps`, `198.18.0.0/24`, `1024-2047`.

use std::net::IpAddr;

use dataplane::wire::address::{Address, Prefix};

use super::Rate;
use super::file::last;
use crate::units;

/// What is wrong, and what to do.
type Wrong = (String, String);

/// Values of one range.
const MOST_VALUES: u128 = 1 << 20;

/// A rate in frames a second, bits a second, or a share of the line.
pub(super) fn rate(text: &str) -> Result<Rate, Wrong> {
    type Make = fn(f64) -> Rate;
    let units: [(&str, f64, Make); 10] = [
        ("gpps", 1e9, Rate::FramesPerS),
        ("mpps", 1e6, Rate::FramesPerS),
        ("kpps", 1e3, Rate::FramesPerS),
        ("pps", 1.0, Rate::FramesPerS),
        ("gbit/s", 1e9, Rate::BitsPerS),
        ("mbit/s", 1e6, Rate::BitsPerS),
        ("kbit/s", 1e3, Rate::BitsPerS),
        ("bit/s", 1.0, Rate::BitsPerS),
        ("%", 0.01, Rate::Line),
        ("", f64::NAN, Rate::FramesPerS),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let found = units.iter().find_map(|(unit, scale, make)| {
        let number: f64 = lower.strip_suffix(unit)?.trim().parse().ok()?;
        Some(make(number * scale))
    });
    let is_sane = |rate: &Rate| match *rate {
        Rate::FramesPerS(rate) | Rate::BitsPerS(rate) => rate > 0.0 && rate < 1e13,
        Rate::Line(share) => share > 0.0 && share <= 1.0,
    };
    found.filter(is_sane).ok_or_else(|| {
        (
            format!("`{text}` is no rate"),
            "write one such as `10 kpps`, `50 Mbit/s`, or `10 %` of the line".to_owned(),
        )
    })
}

/// A time in nanoseconds, longer than nothing.
pub(super) fn time(text: &str) -> Result<u64, Wrong> {
    let time = units::time(text).ok().filter(|time| *time > 0);
    time.ok_or_else(|| {
        let remedy = "write one such as `10ms`".to_owned();
        (format!("`{text}` is no time"), remedy)
    })
}

/// Octets in hexadecimal, spaces allowed.
pub(super) fn octets(text: Option<&str>) -> Result<Vec<u8>, Wrong> {
    let wrong = || {
        (
            "a raw packet needs its octets".to_owned(),
            "write the EtherType and what follows in hexadecimal, such as `octets: 88 b5 01 02`"
                .to_owned(),
        )
    };
    let digits: Vec<char> = text
        .ok_or_else(wrong)?
        .chars()
        .filter(|sign| !sign.is_whitespace() && *sign != ':')
        .collect();
    let pair = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok();
    let octets: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    octets
        .filter(|octets| octets.len() >= 2 && digits.len().is_multiple_of(2))
        .ok_or_else(wrong)
}

/// The first address of a range and how many there are.
pub(super) fn addresses(text: &str) -> Result<(Address, u32), Wrong> {
    let wrong = |what: String| {
        let remedy = "write an address, a range `FIRST-LAST`, or a prefix such as 198.18.0.0/24";
        (what, remedy.to_owned())
    };
    let address = |word: &str| -> Result<Address, Wrong> {
        let parsed = word.trim().parse::<IpAddr>();
        parsed
            .map(Address::from)
            .map_err(|_| wrong(format!("`{}` is no address", word.trim())))
    };
    let (first, count) = if let Some((first, end)) = text.split_once('-') {
        let (first, end) = (address(first)?, address(end)?);
        if first.family() != end.family() || end.to_bits() < first.to_bits() {
            return Err(wrong(format!("the range `{text}` ends before it begins")));
        }
        (first, end.to_bits() - first.to_bits() + 1)
    } else if let Some((network, length)) = text.split_once('/') {
        let block = length.trim().parse().ok();
        let block = block.and_then(|length| Prefix::new(address(network).ok()?, length));
        let block = block.ok_or_else(|| wrong(format!("`{text}` is no prefix")))?;
        // Of an IPv4 block, its own and its broadcast address are no host's.
        let bits = 128 - u32::from(block.mapped_length());
        match block.broadcast() {
            Some(_) => (
                Address::from_bits(block.network().to_bits() + 1),
                (1 << bits) - 2,
            ),
            None => (
                block.network(),
                1_u128.checked_shl(bits).unwrap_or(u128::MAX),
            ),
        }
    } else {
        (address(text)?, 1)
    };
    let count = count.min(MOST_VALUES);
    if last(first, count).is_none() {
        return Err(wrong(format!("`{text}` reaches beyond the last address")));
    }
    Ok((first, count as u32))
}

/// The first port of a range and how many there are.
pub(super) fn ports(text: &str) -> Result<(u16, u32), Wrong> {
    let (first, end) = text.split_once('-').unwrap_or((text, text));
    let (first, end) = (first.trim().parse::<u16>(), end.trim().parse::<u16>());
    match (first, end) {
        (Ok(first), Ok(end)) if first <= end => Ok((first, u32::from(end - first) + 1)),
        _ => Err((
            format!("`{text}` is no port and no range of ports"),
            "write one such as 80 or 1024-2047".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        assert_eq!(rate("10 kpps"), Ok(Rate::FramesPerS(10_000.0)));
        assert_eq!(rate("1.5Mpps"), Ok(Rate::FramesPerS(1.5e6)));
        assert_eq!(rate("50 Mbit/s"), Ok(Rate::BitsPerS(50e6)));
        assert_eq!(rate("10 %"), Ok(Rate::Line(0.1)));
        for wrong in ["", "10", "0 pps", "-1 pps", "101 %", "x kpps", "nan pps"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_of_addresses_are_read() {
        let first = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(addresses("10.0.0.1"), Ok((first("10.0.0.1"), 1)));
        assert_eq!(addresses("10.0.0.1-10.0.1.0"), Ok((first("10.0.0.1"), 256)));
        assert_eq!(addresses("198.18.0.0/24"), Ok((first("198.18.0.1"), 254)));
        assert_eq!(addresses("2001:2::/64"), Ok((first("2001:2::"), 1 << 20)));
        for wrong in [
            "",
            "10.0.0",
            "10.0.0.2-10.0.0.1",
            "10.0.0.0/33",
            "10.0.0.1-::1",
        ] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_and_octets_are_read() {
        assert_eq!(ports("80"), Ok((80, 1)));
        assert_eq!(ports("0-65535"), Ok((0, 65_536)));
        assert!(ports("90-80").is_err() && ports("70000").is_err());
        assert_eq!(octets(Some("88b5 01:02")), Ok(vec![0x88, 0xb5, 1, 2]));
        assert!(octets(None).is_err() && octets(Some("8")).is_err());
    }
}
