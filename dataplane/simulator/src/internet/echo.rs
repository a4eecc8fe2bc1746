//! Pings that bear a wire's mark, by somebody who lacks its key.

use std::net::IpAddr;

use super::Internet;
use crate::frame::{Ends, flag};

/// What the payload of an echo begins with that carries a SYN, and its version (docs/wire/echo.md).
const MARK: [u8; 5] = *b"TGEC\x01";
/// Bytes before the SYN.
const HEADER_BYTES: usize = 32;

impl Internet {
    /// A ping to a server, which comes back, or a reply that nobody asked for; from a stranger or in
    /// a real client's name.
    pub(super) fn marked_ping(&mut self) -> Vec<u8> {
        let mut ends = self.stranger_ends();
        if !self.known.is_empty() && self.random.chance(0.5) {
            ends = self.pick(&self.known.clone());
        }
        let payload = self.marked_payload(ends);
        let (request, reply) = match ends.source {
            IpAddr::V4(_) => (8, 0),
            IpAddr::V6(_) => (128, 129),
        };
        let kind = self.pick(&[request, request, request, reply]);
        let rest = self.number();
        self.between(ends).icmp(kind, 0, rest, &payload)
    }

    /// A SYN between these ends behind what the mark promises: a tag that is drawn, at times a
    /// length that is too, or less than was promised.
    fn marked_payload(&mut self, ends: Ends) -> Vec<u8> {
        let tcp_bytes = 20 + 4 * self.random.below(11) as u8;
        let told_bytes = self.pick(&[tcp_bytes, tcp_bytes, 0, 255]);
        let mut payload = MARK.to_vec();
        payload.extend([self.random.below(2) as u8, told_bytes, 0]);
        payload.extend((0..HEADER_BYTES - 8).map(|_| self.random.next_u64() as u8));
        payload.extend(ends.source_port.to_be_bytes());
        payload.extend(ends.destination_port.to_be_bytes());
        payload.extend(self.number().to_be_bytes());
        payload.extend([0, 0, 0, 0, tcp_bytes / 4 * 16, flag::SYN, 4, 0]);
        payload.resize(HEADER_BYTES + usize::from(tcp_bytes), 0);
        let length = payload.len();
        let kept = self.random.below(length as u64) as usize;
        payload.truncate(self.pick(&[length, length, kept]));
        payload
    }
}
