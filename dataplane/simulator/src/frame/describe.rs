//! Frames as lines of text, TCP in packetdrill's manner.

use std::fmt::{self, Display, Formatter};

use super::{Body, Packet, Segment, TcpOption, decode, flag, neighbour};

const FLAGS: [(u8, char); 8] = [
    (flag::SYN, 'S'),
    (flag::FIN, 'F'),
    (flag::RST, 'R'),
    (flag::PSH, 'P'),
    (flag::URG, 'U'),
    (flag::ECE, 'E'),
    (flag::CWR, 'W'),
    (flag::ACK, '.'),
];

impl Display for Segment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let letters: String = FLAGS
            .iter()
            .filter(|(flag, _)| self.has(*flag))
            .map(|(_, letter)| letter)
            .collect();
        let data_end = self.sequence.wrapping_add(self.payload.len() as u32);
        let letters = if letters.is_empty() { "-" } else { &letters };
        write!(
            f,
            "{letters} {}:{data_end}({})",
            self.sequence,
            self.payload.len()
        )?;
        if self.has(flag::ACK) {
            write!(f, " ack {}", self.acknowledgement)?;
        }
        write!(f, " win {}", self.window)?;
        if !self.options.is_empty() {
            let options: Vec<_> = self.options.iter().map(ToString::to_string).collect();
            write!(f, " <{}>", options.join(","))?;
        }
        Ok(())
    }
}

impl Display for TcpOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => write!(f, "eol"),
            Self::Nop => write!(f, "nop"),
            Self::Mss(size) => write!(f, "mss {size}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => write!(f, "sackOK"),
            Self::Sack(blocks) => {
                write!(f, "sack")?;
                blocks
                    .iter()
                    .try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            Self::Timestamps { value, echo } => write!(f, "TS val {value} ecr {echo}"),
            Self::Raw(octets) => {
                write!(f, "raw ")?;
                octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

impl Display for Packet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Tcp(segment) => write!(
                f,
                "{}.{} > {}.{} {segment}",
                self.source, segment.source_port, self.destination, segment.destination_port
            ),
            Body::Icmp(message) => write!(
                f,
                "{} > {} icmp type {} code {} rest {} quoting {} octets",
                self.source,
                self.destination,
                message.kind,
                message.code,
                message.rest,
                message.quote.len()
            ),
            Body::Fragment { offset, more } => {
                write!(
                    f,
                    "{} > {} fragment at {offset}",
                    self.source, self.destination
                )?;
                if *more {
                    write!(f, ", more follow")
                } else {
                    Ok(())
                }
            }
            Body::Other(protocol) => {
                write!(
                    f,
                    "{} > {} protocol {protocol}",
                    self.source, self.destination
                )
            }
        }
    }
}

/// A line that says what a frame is.
#[must_use]
pub(crate) fn describe(frame: &[u8]) -> String {
    if neighbour::is_arp(frame) {
        let kind = if frame[21] == 1 { "request" } else { "reply" };
        let (from, to) = (&frame[28..32], &frame[38..42]);
        return format!("arp {kind} from {from:?} for {to:?}");
    }
    match decode(frame) {
        Some(packet) => packet.to_string(),
        None => format!("{} octets that are no IP packet", frame.len()),
    }
}
