//! The filter language of captures: a part of that of pcap-filter(7), compiled to the classifier's
//! conditions.
//!
//! ```text
//! filter     = term { "or" term }
//! term       = factor { "and" factor }
//! factor     = [ "not" ] ( "(" filter ")" | primitive )
//! primitive  = [ protocol ] [ "src" | "dst" ] kind value | protocol | "vlan" [ number ]
//! protocol   = "ip" | "ip6" | "arp" | "tcp" | "udp" | "icmp" | "icmp6"
//! kind       = "host" | "net" | "port" | "portrange"
//! ```
//!
//! `&&`, `||` and `!` stand for the words. A bare address is a host, or after `net` a net.

use std::net::IpAddr;

use dataplane::classify::Condition;
use dataplane::parse::protocol;
use dataplane::wire::address::{Address, Family, Prefix};

/// The longest filter, in octets.
const MAXIMUM_BYTES: usize = 4096;
/// Parentheses and negations within each other.
const MAXIMUM_DEPTH: usize = 12;
/// The largest 802.1Q identifier.
const MAXIMUM_VLAN: u16 = 4094;

/// Compiles a filter; an empty one matches every packet.
///
/// # Errors
/// What is wrong, with the column, in one line.
pub fn parse(text: &str) -> Result<Condition, String> {
    if text.len() > MAXIMUM_BYTES {
        return Err(format!("the filter has more than {MAXIMUM_BYTES} octets"));
    }
    let mut words = Words {
        words: split(text),
        at: 0,
        end: text.len() + 1,
        depth: 0,
    };
    if words.words.is_empty() {
        return Ok(Condition::All(Vec::new()));
    }
    let condition = words.filter()?;
    match words.peek() {
        None => Ok(condition),
        Some(word) => Err(words.wrong(&format!("`{word}` stands where `and` or `or` should"))),
    }
}

/// The words and signs, each with its column.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let column = text.len() - rest.len() + 1;
        let length = if rest.starts_with("&&") || rest.starts_with("||") {
            2
        } else if rest.starts_with(['(', ')', '!']) {
            1
        } else {
            let is_end = |c: char| c.is_whitespace() || "()!&|".contains(c);
            // A sign that stands alone is a word of its own, so that each turn gets on.
            rest.find(is_end)
                .unwrap_or(rest.len())
                .max(rest.chars().next().map_or(1, char::len_utf8))
        };
        let (word, after) = rest.split_at(length);
        if !word.trim().is_empty() {
            words.push((column, word));
        }
        rest = after;
    }
    words
}

struct Words<'a> {
    words: Vec<(usize, &'a str)>,
    at: usize,
    end: usize,
    depth: usize,
}

/// Which end of a packet is meant.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
    Either,
}

impl Side {
    fn of<T: Clone>(
        self,
        value: T,
        source: fn(T) -> Condition,
        destination: fn(T) -> Condition,
    ) -> Condition {
        match self {
            Self::Source => source(value),
            Self::Destination => destination(value),
            Self::Either => Condition::Any(vec![source(value.clone()), destination(value)]),
        }
    }
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(|(_, word)| *word)
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += 1;
        word
    }

    /// Takes the next word if it is one of these.
    fn take(&mut self, wanted: &[&str]) -> bool {
        let is_it = self.peek().is_some_and(|word| wanted.contains(&word));
        self.at += usize::from(is_it);
        is_it
    }

    /// An error at the next word.
    fn wrong(&self, what: &str) -> String {
        let column = self
            .words
            .get(self.at)
            .map_or(self.end, |(column, _)| *column);
        format!("the filter cannot be read: column {column}: {what}")
    }

    /// An error at the word that was just taken.
    fn wrong_word(&mut self, what: &str) -> String {
        self.at = self.at.saturating_sub(1);
        self.wrong(what)
    }

    fn filter(&mut self) -> Result<Condition, String> {
        let mut terms = vec![self.term()?];
        while self.take(&["or", "||"]) {
            terms.push(self.term()?);
        }
        Ok(one_or(terms, Condition::Any))
    }

    fn term(&mut self) -> Result<Condition, String> {
        let mut factors = vec![self.factor()?];
        while self.take(&["and", "&&"]) {
            factors.push(self.factor()?);
        }
        Ok(one_or(factors, Condition::All))
    }

    fn factor(&mut self) -> Result<Condition, String> {
        let is_nested = matches!(self.peek(), Some("not" | "!" | "("));
        if !is_nested {
            return self.primitive();
        }
        self.depth += 1;
        if self.depth > MAXIMUM_DEPTH {
            return Err(self.wrong("it is nested too deeply"));
        }
        let condition = if self.take(&["not", "!"]) {
            Condition::Not(Box::new(self.factor()?))
        } else {
            self.at += 1;
            let condition = self.filter()?;
            if !self.take(&[")"]) {
                return Err(self.wrong("a closing `)` is missing"));
            }
            condition
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn primitive(&mut self) -> Result<Condition, String> {
        if self.take(&["vlan"]) {
            return self.vlan();
        }
        let protocol = self.protocol();
        let side = if self.take(&["src"]) {
            Side::Source
        } else if self.take(&["dst"]) {
            Side::Destination
        } else {
            Side::Either
        };
        let is_sided = !matches!(side, Side::Either);
        let qualified = match self.peek() {
            Some("host") => {
                self.at += 1;
                Some(self.host(side)?)
            }
            Some("net") => {
                self.at += 1;
                Some(self.net(side)?)
            }
            Some("port" | "portrange") => {
                let is_range = self.next() == Some("portrange");
                Some(self.ports(side, is_range)?)
            }
            Some(word) if is_address(word) => Some(self.host(side)?),
            _ => None,
        };
        match (protocol, qualified) {
            (Some(protocol), Some(condition)) => Ok(Condition::All(vec![protocol, condition])),
            (None, Some(condition)) => Ok(condition),
            (Some(protocol), None) if !is_sided => Ok(protocol),
            (_, None) if is_sided => Err(self.wrong("`host`, `net`, `port` or `portrange` is missing")),
            (_, None) => Err(match self.peek() {
                Some(word) => self.wrong(&format!(
                    "`{word}` is not known; write a protocol (ip, ip6, arp, tcp, udp, icmp, icmp6), \
                     or host, net, port, portrange or vlan with a value"
                )),
                None => self.wrong("something is missing"),
            }),
        }
    }

    fn protocol(&mut self) -> Option<Condition> {
        let family = |family, number| {
            Condition::All(vec![Condition::Family(family), Condition::Protocol(number)])
        };
        let condition = match self.peek()? {
            "ip" => Condition::Family(Family::V4),
            "ip6" => Condition::Family(Family::V6),
            "arp" => Condition::Arp,
            "tcp" => Condition::Protocol(protocol::TCP),
            "udp" => Condition::Protocol(protocol::UDP),
            "icmp" => family(Family::V4, protocol::ICMP),
            "icmp6" => family(Family::V6, protocol::ICMPV6),
            _ => return None,
        };
        self.at += 1;
        Some(condition)
    }

    fn vlan(&mut self) -> Result<Condition, String> {
        match self.peek().map(str::parse::<u16>) {
            Some(Ok(vlan)) if (1..=MAXIMUM_VLAN).contains(&vlan) => {
                self.at += 1;
                Ok(Condition::Vlan(vlan))
            }
            Some(Ok(_)) => Err(self.wrong(&format!("a VLAN is a number from 1 to {MAXIMUM_VLAN}"))),
            // Any: whatever has not the number that stands for none.
            _ => Ok(Condition::Not(Box::new(Condition::Vlan(0)))),
        }
    }

    fn host(&mut self, side: Side) -> Result<Condition, String> {
        let address = self.next().and_then(|word| word.parse::<IpAddr>().ok());
        let address = address.ok_or_else(|| self.wrong_word("an IP address is missing"))?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        self.prefix(address, length, side)
    }

    fn net(&mut self, side: Side) -> Result<Condition, String> {
        let read = self.next().and_then(|word| {
            let (address, length) = word.split_once('/')?;
            Some((address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?))
        });
        let (address, length) =
            read.ok_or_else(|| self.wrong_word("a net such as 192.0.2.0/24 is missing"))?;
        self.prefix(address, length, side)
    }

    fn prefix(&mut self, address: IpAddr, length: u8, side: Side) -> Result<Condition, String> {
        let prefix = Prefix::new(Address::from(address), length)
            .ok_or_else(|| self.wrong_word("the prefix is longer than the address"))?;
        Ok(side.of(prefix, Condition::Source, Condition::Destination))
    }

    fn ports(&mut self, side: Side, is_range: bool) -> Result<Condition, String> {
        let read = self.next().and_then(|word| {
            let (first, last) = match word.split_once('-') {
                Some(range) if is_range => range,
                _ if is_range => return None,
                _ => (word, word),
            };
            let range = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            (range.0 <= range.1).then_some(range)
        });
        let (first, last) = read.ok_or_else(|| {
            self.wrong_word(if is_range {
                "two ports such as 8000-8100 are missing"
            } else {
                "a port, from 0 to 65535, is missing"
            })
        })?;
        Ok(side.of(
            first..=last,
            Condition::SourcePort,
            Condition::DestinationPort,
        ))
    }
}

fn is_address(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

fn one_or(mut conditions: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => many(conditions),
    }
}

#[cfg(test)]
mod tests;
