//! The language of scripts.

use std::collections::BTreeMap;

use crate::frame::flag;

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Who speaks or hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The client, outside.
    Client,
    /// The server, inside.
    Server,
}

/// A number of a segment: a constant, a name, a name plus or minus a constant, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `*`: whatever it is.
    Any,
    /// A number.
    Number(u32),
    /// A name and what is added to it. A name is bound where it is first heard.
    Name(String, u32),
}

/// An option of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionLine {
    /// `nop`.
    Nop,
    /// `eol`.
    End,
    /// `mss N`.
    Mss(Value),
    /// `wscale N`.
    WindowScale(Value),
    /// `sackOK`.
    SackPermitted,
    /// `sack A:B C:D`.
    Sack(Vec<(Value, Value)>),
    /// `TS val A ecr B`.
    Timestamps(Value, Value),
    /// `raw HEX`.
    Raw(Vec<u8>),
}

/// A segment as it is to be sent, or expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentLine {
    /// Its flags.
    pub flags: u8,
    /// Its first sequence number.
    pub sequence: Value,
    /// Octets of data.
    pub length: u32,
    /// Its acknowledgement number; not looked at without the flag.
    pub acknowledgement: Value,
    /// Its window.
    pub window: Value,
    /// Its options; `None` for any.
    pub options: Option<Vec<OptionLine>>,
    /// The client's port.
    pub port: u16,
    /// Its TTL, where it matters.
    pub ttl: Option<u8>,
    /// Whether its checksum is to be wrong.
    pub is_corrupt: bool,
    /// Whether its traffic class says that it may be marked, and was.
    pub is_marked: bool,
    /// Under which name it can be sent again.
    pub name: Option<String>,
}

/// What an ICMP error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The port cannot be reached.
    PortUnreachable,
    /// The packet exceeds this MTU.
    TooBig(u32),
    /// The TTL or hop limit ran out.
    TimeExceeded,
}

/// A line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `client > …`: a segment is sent.
    Say(Who, SegmentLine),
    /// `client > again NAME`: a segment is sent once more, as it was.
    SayAgain(Who, String),
    /// `client > icmp … [seq VALUE]`: an error about what was last heard, or about that number.
    SayError(Who, ErrorKind, Option<Value>),
    /// `client < …`: a segment must have come.
    Hear(Who, SegmentLine),
    /// `client < icmp … seq VALUE`: an error that quotes this number must have come.
    HearError(Who, ErrorKind, Value),
    /// `wait 500ms`.
    Wait(u64),
    /// `flood N`: so many SYNs from made-up sources, one every tenth of a millisecond.
    Flood(u32),
    /// `set KEY VALUE`: the appliance's settings; before anything else, or as a reload.
    Set(Vec<String>),
    /// `do drain`.
    Drain,
    /// `drops LABEL N`: so many packets must have ended for this reason.
    Drops(String, u64),
    /// `event LABEL N`: this must have happened so often.
    Event(String, u64),
    /// `sessions N`: so many sessions must stand in the table, ended ones included.
    Sessions(u64),
    /// `held N`: so many packets must wait.
    Held(u64),
}

/// A script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Its lines with their numbers.
    pub lines: Vec<(usize, Line)>,
    /// What is different from a usual run, from `only` lines: `family 4`, `workers 1`.
    pub only: BTreeMap<String, String>,
}

/// The port that a client of a script speaks from unless it says `port N`.
pub(super) const CLIENT_PORT: u16 = 40_000;

impl Script {
    /// Reads a script. `part` gives the text of a part that it uses.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str, part: &dyn Fn(&str) -> Option<String>) -> Result<Self, ScriptError> {
        let mut script = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let number = number + 1;
            let fault = |what| ScriptError { line: number, what };
            if let Some(name) = line.strip_prefix("use ") {
                let text = part(name).ok_or_else(|| fault(format!("there is no part {name}")))?;
                let used = Self::parse(&text, part).map_err(|error| {
                    fault(format!("{name}: line {}: {}", error.line, error.what))
                })?;
                // Its lines are told by the line that uses them.
                script
                    .lines
                    .extend(used.lines.into_iter().map(|(_, line)| (number, line)));
                continue;
            }
            if let Some(rest) = line.strip_prefix("only ") {
                let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
                script.only.insert(key.to_owned(), value.trim().to_owned());
                continue;
            }
            let parsed = parse_line(line).map_err(fault)?;
            script.lines.push((number, parsed));
        }
        Ok(script)
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    let who = match first {
        "client" => Who::Client,
        "server" => Who::Server,
        _ => return parse_command(first, rest),
    };
    let says = match rest.chars().next() {
        Some('>') => true,
        Some('<') => false,
        _ => return Err("after client or server comes > or <".into()),
    };
    let rest = rest[1..].trim();
    if let Some(rest) = rest.strip_prefix("icmp ") {
        let (kind, sequence) = parse_error(rest)?;
        return match (says, sequence) {
            (true, sequence) => Ok(Line::SayError(who, kind, sequence)),
            (false, Some(sequence)) => Ok(Line::HearError(who, kind, sequence)),
            (false, None) => Err("which number does it quote? (seq N)".into()),
        };
    }
    if let Some(name) = rest.strip_prefix("again ") {
        return Ok(Line::SayAgain(who, name.trim().to_owned()));
    }
    let segment = parse_segment(rest)?;
    Ok(if says {
        Line::Say(who, segment)
    } else {
        Line::Hear(who, segment)
    })
}

fn parse_command(first: &str, rest: &str) -> Result<Line, String> {
    let count = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| format!("{text} is no number"))
    };
    let labelled = || {
        let (label, number) = rest.split_once(' ').ok_or("a label and a number")?;
        Ok::<_, String>((label.to_owned(), count(number)?))
    };
    Ok(match first {
        "wait" => Line::Wait(parse_time(rest)?),
        "flood" => Line::Flood(count(rest)? as u32),
        "set" => Line::Set(rest.split_whitespace().map(str::to_owned).collect()),
        "drain" => Line::Drain,
        "drops" => labelled().map(|(label, number)| Line::Drops(label, number))?,
        "event" => labelled().map(|(label, number)| Line::Event(label, number))?,
        "sessions" => Line::Sessions(count(rest)?),
        "held" => Line::Held(count(rest)?),
        _ => return Err(format!("what is {first}?")),
    })
}

/// A time with its unit.
pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no time"))?;
    let unit_ns = match &text[digits.len()..] {
        "us" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        unit => return Err(format!("{unit} is no unit of time: us, ms, s")),
    };
    Ok(number * unit_ns)
}

fn parse_error(text: &str) -> Result<(ErrorKind, Option<Value>), String> {
    let mut words = text.split_whitespace();
    let kind = match words.next() {
        Some("unreachable") => ErrorKind::PortUnreachable,
        Some("exceeded") => ErrorKind::TimeExceeded,
        Some("too-big") => {
            let mtu = words.next().and_then(|word| word.parse().ok());
            ErrorKind::TooBig(mtu.ok_or("too-big needs an MTU")?)
        }
        _ => return Err("an error is unreachable, exceeded or too-big MTU".into()),
    };
    match (words.next(), words.next()) {
        (None, _) => Ok((kind, None)),
        (Some("seq"), Some(value)) => Ok((kind, Some(parse_value(value)?))),
        (Some(word), _) => Err(format!("what is {word}?")),
    }
}

/// `FLAGS a:b(n) [ack A] [win W] [<options>] [port P] [ttl T] [marked] [corrupt] [as NAME]`
fn parse_segment(text: &str) -> Result<SegmentLine, String> {
    let (before, options, after) = match text.split_once('<') {
        None => (text, None, ""),
        Some((before, rest)) => {
            let (options, after) = rest.split_once('>').ok_or("the options have no end")?;
            (before, Some(parse_options(options)?), after)
        }
    };
    let mut words = before.split_whitespace().chain(after.split_whitespace());
    let flags = parse_flags(words.next().ok_or("a segment begins with its flags")?)?;
    let (sequence, length) = parse_range(words.next().ok_or("after the flags comes a:b(n)")?)?;
    let mut segment = SegmentLine {
        flags,
        sequence,
        length,
        acknowledgement: Value::Number(0),
        window: Value::Any,
        options,
        port: CLIENT_PORT,
        ttl: None,
        is_corrupt: false,
        is_marked: false,
        name: None,
    };
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or(format!("{word} needs a value"));
        match word {
            "ack" => {
                segment.acknowledgement = parse_value(next()?)?;
                segment.flags |= flag::ACK;
            }
            "win" => segment.window = parse_value(next()?)?,
            "port" => segment.port = next()?.parse().map_err(|_| "port is no number")?,
            "ttl" => segment.ttl = Some(next()?.parse().map_err(|_| "ttl is no number")?),
            "as" => segment.name = Some(next()?.to_owned()),
            "corrupt" => segment.is_corrupt = true,
            "marked" => segment.is_marked = true,
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(segment)
}

fn parse_flags(word: &str) -> Result<u8, String> {
    word.chars().try_fold(0, |flags, letter| {
        Ok(flags
            | match letter {
                'S' => flag::SYN,
                'F' => flag::FIN,
                'R' => flag::RST,
                'P' => flag::PSH,
                'E' => flag::ECE,
                'W' => flag::CWR,
                'U' => flag::URG,
                '.' => flag::ACK,
                '-' => 0,
                _ => return Err(format!("{word} are no flags")),
            })
    })
}

/// `a:b(n)`: `b` is there for the reader, and for numbers checked here.
fn parse_range(word: &str) -> Result<(Value, u32), String> {
    let bad = || format!("{word} is not a:b(n)");
    let (first, rest) = word.split_once(':').ok_or_else(bad)?;
    let (last, length) = rest.split_once('(').ok_or_else(bad)?;
    let length: u32 = length.trim_end_matches(')').parse().map_err(|_| bad())?;
    let (first, last) = (parse_value(first)?, parse_value(last)?);
    let fits = match (&first, &last) {
        (Value::Number(first), Value::Number(last)) => first.wrapping_add(length) == *last,
        (Value::Name(one, first), Value::Name(other, last)) => {
            one == other && first.wrapping_add(length) == *last
        }
        _ => first == last,
    };
    if fits {
        Ok((first, length))
    } else {
        Err(format!("{word}: the numbers do not fit"))
    }
}

/// A value: `*`, `7`, `cookie`, `cookie+1`, `cookie-1`.
pub(super) fn parse_value(word: &str) -> Result<Value, String> {
    if word == "*" {
        return Ok(Value::Any);
    }
    if let Ok(number) = word.parse() {
        return Ok(Value::Number(number));
    }
    let at = word.find(['+', '-']).unwrap_or(word.len());
    let (name, offset) = word.split_at(at);
    let offset: u32 = match offset.chars().next() {
        None => 0,
        Some(sign) => {
            let number: u32 = offset[1..]
                .parse()
                .map_err(|_| format!("{word} is no value"))?;
            if sign == '-' {
                number.wrapping_neg()
            } else {
                number
            }
        }
    };
    let is_name = name.starts_with(char::is_alphabetic);
    is_name
        .then(|| Value::Name(name.to_owned(), offset))
        .ok_or(format!("{word} is no value"))
}

fn parse_options(text: &str) -> Result<Vec<OptionLine>, String> {
    let options = text
        .split(',')
        .map(str::trim)
        .filter(|option| !option.is_empty());
    options.map(parse_option).collect()
}

fn parse_option(text: &str) -> Result<OptionLine, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words[..] {
        ["nop"] => OptionLine::Nop,
        ["eol"] => OptionLine::End,
        ["mss", size] => OptionLine::Mss(parse_value(size)?),
        ["wscale", shift] => OptionLine::WindowScale(parse_value(shift)?),
        ["sackOK"] => OptionLine::SackPermitted,
        ["TS", "val", value, "ecr", echo] => {
            OptionLine::Timestamps(parse_value(value)?, parse_value(echo)?)
        }
        ["sack", ref blocks @ ..] => {
            let block = |word: &&str| {
                let (left, right) = word.split_once(':').ok_or(format!("{word} is no block"))?;
                Ok::<_, String>((parse_value(left)?, parse_value(right)?))
            };
            OptionLine::Sack(blocks.iter().map(block).collect::<Result<_, _>>()?)
        }
        ["raw", octets] => {
            let octet = |at: usize| {
                octets
                    .get(at..at + 2)
                    .and_then(|o| u8::from_str_radix(o, 16).ok())
            };
            let octets: Option<Vec<u8>> = (0..octets.len()).step_by(2).map(octet).collect();
            OptionLine::Raw(octets.ok_or(format!("{text}: not hexadecimal"))?)
        }
        _ => return Err(format!("{text} is no option")),
    })
}
