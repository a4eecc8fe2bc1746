//! What both ends of a connection have alike: sequence numbers, acknowledgements, congestion and
//! retransmission (RFC 9293, RFC 6298, RFC 5681 and RFC 6582, each in its simplest form), in 32 octets.

use dataplane::tcp::sequence::{after, before, within};

/// The window that both kinds of ends advertise, in octets, and its scale.
pub(super) const OWN_WINDOW_BYTES: u32 = 1 << 20;
pub(super) const OWN_SCALE: u8 = 7;
/// The window of a SYN, which is never scaled.
pub(super) const SYN_WINDOW: u16 = 64_240;
/// The segment that every host takes (RFC 9293 §3.7.1).
pub(super) const DEFAULT_MSS: u16 = 536;
/// The first flight (RFC 6928).
const INITIAL_SEGMENTS: u8 = 10;
/// Duplicates of an acknowledgement that say that a segment is lost (RFC 5681 §3.2).
const DUPLICATES: u8 = 3;
/// The first retransmission of a SYN (RFC 6298 §2.1), and the least of others, as Linux has it.
pub(super) const FIRST_TIMEOUT_MS: u32 = 1_000;
const LEAST_TIMEOUT_MS: u32 = 200;
const MOST_TIMEOUT_MS: u32 = 16_000;
/// The peer does not scale its window; then neither is ours.
const NO_SCALE: u8 = u8::MAX;

pub(super) mod flag {
    /// Both ends send timestamps.
    pub(crate) const TIMESTAMPS: u8 = 0x01;
    /// A lost segment was sent again, and what was on its way then is not all acknowledged.
    pub(crate) const RECOVERING: u8 = 0x02;
    /// An acknowledgement is owed.
    pub(crate) const OWES: u8 = 0x04;
    /// The peer has sent all.
    pub(crate) const PEER_DONE: u8 = 0x08;
    /// Octets came behind a gap; which, is noted aside.
    pub(crate) const GAP: u8 = 0x10;
    /// The own stream ends with a FIN.
    pub(crate) const FIN: u8 = 0x20;
    /// The peer has acknowledged something beyond its SYN's answer.
    pub(crate) const PROVED: u8 = 0x40;
    /// The response has begun.
    pub(crate) const BEGUN: u8 = 0x80;
}

/// One end's state of TCP.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tcb {
    /// The first octet that is not acknowledged.
    pub(super) una: u32,
    /// The next octet to be sent.
    pub(super) nxt: u32,
    /// Behind the last octet that was ever sent.
    pub(super) high: u32,
    /// The next octet to come.
    pub(super) rcv: u32,
    /// The peer's latest timestamp.
    pub(super) stamp: u32,
    /// Octets of the largest payload to be sent.
    pub(super) mss: u16,
    /// The peer's window as it stood last.
    window: u16,
    /// The smoothed time to the peer and back; 0 before the first sample.
    rtt_ms: u16,
    /// In segments.
    congestion: u8,
    threshold: u8,
    duplicates: u8,
    /// How often the timer has run out in a row.
    pub(super) tries: u8,
    scale: u8,
    pub(super) flags: u8,
}

/// What an acknowledgement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// Of more than before.
    More,
    /// Of no more.
    Nothing,
    /// Of no more, and so often that a segment is lost: send it again.
    Lost,
    /// Of what was never sent.
    Unsent,
}

/// What can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) sequence: u32,
    pub(super) length: u32,
    pub(super) fin: bool,
}

impl Tcb {
    /// After a SYN of ours numbered `iss`.
    pub(super) fn begun(iss: u32) -> Self {
        let next = iss.wrapping_add(1);
        Self {
            una: iss,
            nxt: next,
            high: next,
            mss: DEFAULT_MSS,
            congestion: INITIAL_SEGMENTS,
            threshold: u8::MAX,
            scale: NO_SCALE,
            ..Self::default()
        }
    }

    /// What the peer's SYN said: its segment size is for a packet without options.
    pub(super) fn negotiated(&mut self, mss: u16, scale: Option<u8>, stamp: Option<u32>) {
        self.scale = scale.unwrap_or(NO_SCALE);
        self.mss = mss.max(64);
        if let Some(stamp) = stamp {
            self.flags |= flag::TIMESTAMPS;
            self.stamp = stamp;
            self.mss -= 12;
        }
    }

    #[inline]
    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    pub(super) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    #[inline]
    pub(super) fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    /// The window field of what is sent.
    #[inline]
    pub(super) fn own_window(&self) -> u16 {
        match self.scale {
            NO_SCALE => u16::MAX,
            _ => (OWN_WINDOW_BYTES >> OWN_SCALE) as u16,
        }
    }

    /// Octets that may come from `rcv` on.
    #[inline]
    pub(super) fn own_window_bytes(&self) -> u32 {
        match self.scale {
            NO_SCALE => u32::from(u16::MAX),
            _ => OWN_WINDOW_BYTES,
        }
    }

    #[inline]
    fn peer_window_bytes(&self) -> u32 {
        match self.scale {
            NO_SCALE => u32::from(self.window),
            scale => u32::from(self.window) << scale,
        }
    }

    /// The window of the peer's SYN or SYN-ACK, or of the last segment of its handshake.
    pub(super) fn set_window(&mut self, window: u16, is_scaled: bool) {
        self.window = match self.scale {
            NO_SCALE => window,
            _ if is_scaled => window,
            // No octet of a small window is lost.
            scale => u32::from(window).div_ceil(1 << scale) as u16,
        };
    }

    /// Whether something sent is not acknowledged.
    #[inline]
    pub(super) fn is_in_flight(&self) -> bool {
        self.una != self.high
    }

    /// Takes an acknowledgement. `bare` says that the segment has nothing else.
    pub(super) fn acknowledge(&mut self, ack: u32, window: u16, bare: bool) -> Acknowledged {
        if !within(ack, self.una, self.high) {
            return match before(ack, self.una) {
                true => Acknowledged::Nothing,
                false => Acknowledged::Unsent,
            };
        }
        let same_window = window == self.window;
        self.window = window;
        let octets = ack.wrapping_sub(self.una);
        if octets > 0 {
            self.advance(ack, octets);
            return Acknowledged::More;
        }
        if bare && same_window && self.is_in_flight() && !self.is(flag::RECOVERING) {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == DUPLICATES {
                self.halve();
                return Acknowledged::Lost;
            }
        }
        Acknowledged::Nothing
    }

    fn advance(&mut self, ack: u32, octets: u32) {
        let segments = octets.div_ceil(u32::from(self.mss)).min(255) as u8;
        if !self.is(flag::RECOVERING) {
            if self.congestion < self.threshold {
                self.congestion = self.congestion.saturating_add(segments);
            } else {
                // One segment for each window of octets: whenever a multiple of it is passed.
                let window = u32::from(self.congestion) * u32::from(self.mss);
                let passes = self.una / window != ack / window;
                self.congestion = self.congestion.saturating_add(u8::from(passes));
            }
        } else if ack == self.high {
            self.clear(flag::RECOVERING);
        }
        self.una = ack;
        if before(self.nxt, ack) {
            self.nxt = ack;
        }
        self.duplicates = 0;
        self.tries = 0;
    }

    fn halve(&mut self) {
        let flight = self.high.wrapping_sub(self.una) / u32::from(self.mss.max(1));
        self.threshold = (flight / 2).clamp(2, 255) as u8;
        self.congestion = self.threshold;
        self.set(flag::RECOVERING);
        self.duplicates = 0;
    }

    /// The timer has run out: what is not acknowledged is sent again from its first octet, one
    /// segment at first (RFC 5681 §3.1).
    pub(super) fn time_out(&mut self) {
        self.tries = self.tries.saturating_add(1);
        if self.is_in_flight() {
            self.halve();
            self.congestion = 1;
            self.nxt = self.una;
        }
    }

    /// A sample of the way to the peer and back: `echo` is the own timestamp that came back.
    pub(super) fn sample(&mut self, now_ms: u32, echo: u32) {
        let sample = now_ms.wrapping_sub(echo);
        if sample < 60_000 {
            let sample = (sample as u16).max(1);
            self.rtt_ms = match self.rtt_ms {
                0 => sample,
                rtt => ((u32::from(rtt) * 7 + u32::from(sample)) / 8).max(1) as u16,
            };
        }
    }

    /// How long to wait for an acknowledgement. With a variation taken to be half of the time
    /// itself, RFC 6298's sum is three times that.
    pub(super) fn timeout_ns(&self) -> u64 {
        let base = match self.rtt_ms {
            0 => FIRST_TIMEOUT_MS,
            rtt => (u32::from(rtt) * 3).max(LEAST_TIMEOUT_MS),
        };
        let backed_off = base.saturating_mul(1 << self.tries.min(8));
        u64::from(backed_off.min(MOST_TIMEOUT_MS)) * 1_000_000
    }

    /// Whether the peer's window, and not what was sent, keeps octets before `end` back.
    pub(super) fn is_shut_out(&self, end: u32) -> bool {
        let last = end.wrapping_add(u32::from(self.is(flag::FIN)));
        self.nxt != last && !self.is_in_flight()
    }

    /// The segment that was lost, sent again without moving on.
    pub(super) fn lost_chunk(&self, end: u32) -> Option<Chunk> {
        self.chunk(self.una, end, self.high.wrapping_sub(self.una))
    }

    /// Takes what can be sent now of a stream that ends before `end`.
    pub(super) fn next_chunk(&mut self, end: u32) -> Option<Chunk> {
        let flight = self.nxt.wrapping_sub(self.una);
        let congestion = u32::from(self.congestion) * u32::from(self.mss);
        let mut room = congestion
            .min(self.peer_window_bytes())
            .checked_sub(flight)?;
        if self.is(flag::RECOVERING) {
            room = room.min(self.high.wrapping_sub(self.nxt));
        }
        let chunk = self.chunk(self.nxt, end, room)?;
        self.nxt = self.nxt.wrapping_add(chunk.length + u32::from(chunk.fin));
        if after(self.nxt, self.high) {
            self.high = self.nxt;
        }
        Some(chunk)
    }

    fn chunk(&self, from: u32, end: u32, room: u32) -> Option<Chunk> {
        let fin = self.is(flag::FIN);
        if after(from, end) || (from == end && !fin) || room == 0 {
            return None;
        }
        let left = end.wrapping_sub(from);
        let mss = u32::from(self.mss);
        let length = left.min(mss).min(room);
        // A window that opens by a few octets waits for more (RFC 9293 §3.8.6.2.1).
        let is_silly = length < left.min(mss) && from != self.una;
        (!is_silly).then_some(Chunk {
            sequence: from,
            length,
            fin: fin && length == left && room > length,
        })
    }
}
