//! The attacker who knows what connections there are, and nothing of what is said on them.

use super::{BLIND_MAC, Internet};
use crate::frame::{Segment, TcpOption, flag};

impl Internet {
    /// A segment of a real connection as far as its ends go, and drawn as far as all else.
    pub(super) fn blind(&mut self) -> Option<Vec<u8>> {
        if self.known.is_empty() {
            return None;
        }
        let place = self.random.below(self.known.len() as u64) as usize;
        let ends = self.known[place];
        let flags = self.pick(&[
            flag::RST,
            flag::RST | flag::ACK,
            flag::FIN | flag::ACK,
            flag::ACK,
            flag::PSH | flag::ACK,
            flag::SYN,
            flag::SYN | flag::ACK,
        ]);
        let stamps = TcpOption::Timestamps {
            value: self.number(),
            echo: self.number(),
        };
        let options = match (flags & flag::SYN != 0, self.random.chance(0.5)) {
            (false, false) => Vec::new(),
            (false, true) => vec![TcpOption::Nop, TcpOption::Nop, stamps],
            (true, false) => vec![TcpOption::Mss(1460)],
            (true, true) => vec![TcpOption::Mss(1460), TcpOption::SackPermitted, stamps],
        };
        let octets = match flags & flag::PSH {
            0 => 0,
            _ => 1 + self.random.below(500) as usize,
        };
        let segment = Segment {
            sequence: self.number(),
            acknowledgement: self.number(),
            flags,
            window: self.number() as u16,
            options,
            payload: vec![0xbb; octets],
            ..Segment::default()
        };
        let mut frame = self.frame(ends, segment);
        frame[6..12].copy_from_slice(&BLIND_MAC);
        Some(frame)
    }
}
