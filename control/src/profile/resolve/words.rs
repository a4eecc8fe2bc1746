//! Ports, protocols, flags and prefixes: the words of rules and of protected servers.

use std::net::IpAddr;

use super::Checker;
use crate::profile::address::{AddressError, Prefix};
use crate::profile::model::{PortRange, TcpFlags};
use crate::profile::raw_words::{OneOrMany, Word};
use yaml::{Mark, Node, nearest, suggest};

const PROTOCOLS: [(&str, u8); 9] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("sctp", 132),
];

const FLAGS: [(&str, u8); 8] = [
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ece", 0x40),
    ("cwr", 0x80),
];

/// The protocols that have names.
pub(in crate::profile) fn protocol_names() -> Vec<&'static str> {
    PROTOCOLS.iter().map(|(name, _)| *name).collect()
}

/// Says that a list is empty, where it is.
pub(super) fn not_empty<T>(checker: &mut Checker<'_>, node: &Node, list: &OneOrMany<T>) -> bool {
    if list.0.is_empty() {
        checker.error(
            node.mark,
            "this list is empty",
            "write at least one value, or leave the key out",
        );
    }
    !list.0.is_empty()
}

/// Reads an address.
pub(super) fn address(checker: &mut Checker<'_>, mark: Mark, text: &str) -> Option<IpAddr> {
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let remedy = match text.split_once('/') {
                Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                    format!("write the address alone: `{address}`")
                }
                _ => "write it like `192.0.2.1` or `\"2001:db8::1\"`".into(),
            };
            checker.error(mark, format!("`{text}` is not an IP address"), remedy);
            None
        }
    }
}

/// Says what is wrong with an address and its prefix length.
pub(super) fn address_error(
    checker: &mut Checker<'_>,
    mark: Mark,
    text: &str,
    wrong: AddressError,
    example: &str,
) {
    match wrong {
        AddressError::Address => checker.error(
            mark,
            format!("`{text}` is not an IP address with a prefix length"),
            format!("write it like {example}"),
        ),
        AddressError::Length { most } if text.contains('/') => checker.error(
            mark,
            format!("the prefix length of `{text}` is wrong"),
            format!("write a number from 0 to {most} after the slash"),
        ),
        AddressError::Length { .. } => checker.error(
            mark,
            format!("`{text}` has no prefix length"),
            format!("write it like {example}"),
        ),
        AddressError::HostBits { meant } => checker.error(
            mark,
            format!("`{text}` has bits set after its prefix"),
            format!(
                "did you mean `{meant}`, or `{}`?",
                text.split('/').next().unwrap_or(text)
            ),
        ),
    }
}

/// Reads one prefix.
pub(super) fn prefix(checker: &mut Checker<'_>, mark: Mark, text: &str) -> Option<Prefix> {
    match Prefix::parse(text) {
        Ok(prefix) => Some(prefix),
        Err(wrong) => {
            address_error(
                checker,
                mark,
                text,
                wrong,
                "`10.0.0.0/8` or `\"2001:db8::/32\"`",
            );
            None
        }
    }
}

/// Reads prefixes.
pub(super) fn prefixes(
    checker: &mut Checker<'_>,
    node: &Node,
    list: &OneOrMany<String>,
) -> Vec<Prefix> {
    not_empty(checker, node, list);
    let texts = list.0.iter().enumerate();
    texts
        .filter_map(|(index, text)| prefix(checker, node.item(index).mark, text))
        .collect()
}

fn port_number(text: &str) -> Option<u16> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        text.parse().ok().filter(|port| *port > 0)
    } else {
        None
    }
}

/// Reads one port or range of ports.
pub(super) fn port_range(checker: &mut Checker<'_>, mark: Mark, text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port_number(first), port_number(last)) {
        (Some(first), Some(last)) if first <= last => Some(PortRange { first, last }),
        (Some(first), Some(last)) => {
            checker.error(
                mark,
                format!("the range `{text}` ends before it begins"),
                format!("did you mean `{last}-{first}`?"),
            );
            None
        }
        _ => {
            checker.error(
                mark,
                format!("`{text}` is not a port"),
                "write a number from 1 to 65535, or a range like `\"8000-8099\"`",
            );
            None
        }
    }
}

/// Reads ports and ranges, each with the place it stands on.
pub(super) fn port_ranges(
    checker: &mut Checker<'_>,
    node: &Node,
    list: &OneOrMany<Word>,
) -> Vec<(PortRange, Mark)> {
    not_empty(checker, node, list);
    let words = list.0.iter().enumerate();
    words
        .filter_map(|(index, word)| {
            let mark = node.item(index).mark;
            port_range(checker, mark, &word.0).map(|range| (range, mark))
        })
        .collect()
}

/// Sorts ranges and joins those that overlap or touch.
pub(super) fn joined(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Reads protocols.
pub(super) fn protocols(checker: &mut Checker<'_>, node: &Node, list: &OneOrMany<Word>) -> Vec<u8> {
    not_empty(checker, node, list);
    let mut numbers = Vec::new();
    for (index, Word(word)) in list.0.iter().enumerate() {
        let named = PROTOCOLS
            .iter()
            .find(|(name, _)| name == word)
            .map(|(_, number)| *number);
        match named.or_else(|| word.parse().ok()) {
            Some(number) => numbers.push(number),
            None => {
                let remedy = match nearest(word, protocol_names()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "write `tcp`, `udp`, `icmp`, `icmpv6`, or a number up to 255".into(),
                };
                let mark = node.item(index).mark;
                checker.error(mark, format!("there is no protocol `{word}`"), remedy);
            }
        }
    }
    numbers
}

/// Reads TCP flags.
pub(super) fn tcp_flags(
    checker: &mut Checker<'_>,
    node: &Node,
    list: &OneOrMany<String>,
) -> TcpFlags {
    not_empty(checker, node, list);
    let mut flags = TcpFlags::default();
    for (index, text) in list.0.iter().enumerate() {
        let mark = node.item(index).mark;
        let (clear, name) = match text.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let Some((_, bit)) = FLAGS.iter().find(|(flag, _)| *flag == name) else {
            let names = FLAGS.iter().map(|(flag, _)| *flag);
            checker.error(
                mark,
                format!("there is no TCP flag `{name}`"),
                suggest(name, names),
            );
            continue;
        };
        if clear {
            flags.clear |= bit;
        } else {
            flags.set |= bit;
        }
        if flags.set & flags.clear & bit != 0 {
            checker.error(
                mark,
                format!("the flag `{name}` cannot be both set and clear"),
                "keep one of the two",
            );
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn ranges_that_touch_are_joined() {
        let ranges = vec![range(443, 443), range(80, 81), range(82, 90), range(85, 86)];
        assert_eq!(joined(ranges), [range(80, 90), range(443, 443)]);
        assert_eq!(
            joined(vec![range(1, 65535), range(65535, 65535)]),
            [range(1, 65535)]
        );
    }
}
