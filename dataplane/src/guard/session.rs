//! One spliced session in one cache line.
//!
//! The client's sequence numbers are the same on both sides, because the server side is opened
//! with the client's own initial number. The server's differ by `sequence_delta`, its timestamps
//! by `timestamp_delta`; everything here is kept in the *server's* numbers.

use crate::flow::table::{Entry, Key};
use crate::tcp::sequence;
use crate::wire::address::Address;

/// What identifies a session: the server's address by its place among the protected ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
    /// The server's place in the table of protected addresses.
    pub server: u16,
}

/// A session as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionName {
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server: Address,
    /// The server's port.
    pub server_port: u16,
}

impl Key for SessionKey {
    #[inline]
    fn words(&self) -> [u64; 3] {
        let bits = self.client.to_bits();
        let rest = u64::from(self.client_port) << 32
            | u64::from(self.server_port) << 16
            | u64::from(self.server);
        [(bits >> 64) as u64, bits as u64, rest]
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// The client is proved (or let through); the server has not answered yet.
    #[default]
    Opening,
    /// Both sides are open; either may have sent its FIN.
    Established,
    /// Both sides closed, or one reset it. Late segments are still translated, and a replay of its
    /// handshake is recognised, until it expires.
    Closed,
}

impl State {
    /// The word shown to people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closed => "closed",
        }
    }
}

/// Facts of a session that are there or not.
pub mod flag {
    /// It was let through while no flood was on: nothing is translated.
    pub const TRACKED: u8 = 1;
    /// The client's FIN was seen; `client_next` counts it.
    pub const CLIENT_FIN: u8 = 1 << 1;
    /// The server's FIN was seen; `server_next` counts it.
    pub const SERVER_FIN: u8 = 1 << 2;
    /// The server does not take SACK, though the client was told so: its blocks are blanked.
    pub const BLANK_SACK: u8 = 1 << 3;
    /// With [`TRACKED`]: the server has opened it.
    pub const BY_SERVER: u8 = BLANK_SACK;
    /// The server does not scale windows, though the client was told so.
    pub const SERVER_UNSCALED: u8 = 1 << 4;
    /// Timestamps are translated.
    pub const TIMESTAMPS: u8 = 1 << 5;
    /// A client's RST ended it, of the number `client_acked`. A server that has taken more cannot have
    /// believed it.
    pub const RESET: u8 = 1 << 6;
    /// Another guard opened it, and told of it.
    pub const REMOTE: u8 = 1 << 7;
}

/// Nanoseconds of one unit of [`Session::opened`], as a power of two: 134 ms.
const OPENED_SHIFT: u32 = 27;

/// Units of [`OPENED_SHIFT`] that a cookie is good for at most, and one for rounding.
const COOKIE_LIFE: u64 = (super::cookie::MAX_AGE_S * 1_000_000_000).div_ceil(1 << OPENED_SHIFT) + 1;

/// By how much the memory of an ended session outlasts its cookie, so that rounding does not matter.
pub(super) const OPENED_SLACK_NS: u64 = 3 << OPENED_SHIFT;

/// What [`Session::opened`] is of a session that begins at `tick` (units of 2^24 ns).
pub(super) fn opened_at(tick: u32) -> u16 {
    (tick >> (OPENED_SHIFT - super::TICK_SHIFT)) as u16
}

/// A session. All sequence numbers are the server side's.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Session {
    /// The client's address.
    pub client: Address,
    /// What is added to a number that the client sees to get the server's own.
    pub sequence_delta: u32,
    /// The same for the server's timestamps.
    pub timestamp_delta: u32,
    /// One past the highest octet that the client sent.
    pub client_next: u32,
    /// The highest acknowledgement that the server sent.
    pub client_acked: u32,
    /// One past the highest octet that the server ever offered to take.
    pub client_edge: u32,
    /// One past the highest octet that the server sent.
    pub server_next: u32,
    /// The highest acknowledgement that the client sent.
    pub server_acked: u32,
    /// While the server side opens: the place of what is only needed then. Else the client's
    /// initial sequence number; ask [`Session::client_isn`].
    pub(super) place_or_isn: u32,
    /// The tick of its last segment.
    pub last_seen: u32,
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
    /// The server's place among the protected addresses.
    pub server: u16,
    /// When it began, in [`OPENED_SHIFT`] units, modulo 2^16.
    pub(super) opened: u16,
    /// Where in its life it is.
    pub state: State,
    /// See [`flag`].
    pub flags: u8,
    /// The client's window scale (low half) and the server's (high half).
    pub(super) scales: u8,
    /// The window scale that the client was told (low half) and the last challenge's half second
    /// (high half).
    pub(super) told: u8,
}

const _: () = assert!(size_of::<Session>() == 64);

impl Entry for Session {
    type Key = SessionKey;

    #[inline]
    fn key(&self) -> SessionKey {
        SessionKey {
            client: self.client,
            client_port: self.client_port,
            server_port: self.server_port,
            server: self.server,
        }
    }

    #[inline]
    fn matches(&self, key: &SessionKey) -> bool {
        self.client == key.client
            && self.client_port == key.client_port
            && self.server_port == key.server_port
            && self.server == key.server
    }
}

impl Session {
    /// An opening session of this key.
    pub fn opening(key: SessionKey, client_sequence: u32) -> Self {
        Self {
            client: key.client,
            client_port: key.client_port,
            server_port: key.server_port,
            server: key.server,
            place_or_isn: client_sequence,
            client_next: client_sequence.wrapping_add(1),
            client_acked: client_sequence.wrapping_add(1),
            ..Self::default()
        }
    }

    /// The client's initial sequence number: with the ports it names a handshake.
    #[inline]
    pub fn client_isn(&self) -> u32 {
        if self.state == State::Opening && !self.has(flag::TRACKED) {
            self.client_acked.wrapping_sub(1)
        } else {
            self.place_or_isn
        }
    }

    /// How long ago it began, by `tick` (units of 2^24 ns) and in whole [`OPENED_SHIFT`] units.
    pub(super) fn age_ns(&self, tick: u32) -> u64 {
        u64::from(opened_at(tick).wrapping_sub(self.opened)) << OPENED_SHIFT
    }

    /// Whether a cookie by which it can have been opened may still be good at `tick` (units of
    /// 2^24 ns).
    pub(super) fn is_young(&self, tick: u32) -> bool {
        let age = opened_at(tick).wrapping_sub(self.opened);
        u64::from(age) <= COOKIE_LIFE
    }

    /// Whether all bits of `flags` are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The shift that turns the client's window field into octets.
    #[inline]
    pub fn client_scale(&self) -> u8 {
        self.scales & 15
    }

    /// The shift that turns the server's window field into octets.
    #[inline]
    pub fn server_scale(&self) -> u8 {
        self.scales >> 4
    }

    /// The shift that the client applies to window fields it receives.
    #[inline]
    pub fn told_scale(&self) -> u8 {
        self.told & 15
    }

    /// Sets the three shifts.
    pub fn set_scales(&mut self, client: u8, server: u8, told: u8) {
        self.scales = client & 15 | server << 4;
        self.told = self.told & 0xf0 | told & 15;
    }

    /// Whether a challenge ACK may be sent now, at most one in half a second, and remembers it.
    /// The limit is the session's own, so that nobody else's traffic can tell it (RFC 5961 §7,
    /// CVE-2016-5696).
    pub fn may_challenge(&mut self, now_ns: u64) -> bool {
        // Zero stands for "never", so a half second counts as 1 to 15.
        let half_second = (now_ns / 500_000_000 % 15) as u8 + 1;
        let allowed = self.told >> 4 != half_second;
        self.told = self.told & 15 | half_second << 4;
        allowed
    }

    /// For how long it has been silent, in milliseconds.
    pub fn idle_ms(&self, now_ns: u64) -> u64 {
        let tick = (now_ns >> super::TICK_SHIFT) as u32;
        (u64::from(tick.wrapping_sub(self.last_seen)) << super::TICK_SHIFT) / 1_000_000
    }

    /// Whether both FINs are seen and acknowledged.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.has(flag::CLIENT_FIN | flag::SERVER_FIN)
            && self.client_acked == self.client_next
            && !sequence::before(self.server_acked, self.server_next)
    }

    /// How far the client has acknowledged the server, and not beyond what the server sent.
    pub fn server_believes_acked(&self) -> u32 {
        if sequence::after(self.server_acked, self.server_next) {
            self.server_next
        } else {
            self.server_acked
        }
    }

    /// Whether a side has closed: the server, or the client by a FIN that its server acknowledged.
    /// One that the server has not acknowledged may be forged.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.has(flag::SERVER_FIN)
            || self.has(flag::CLIENT_FIN) && self.client_acked == self.client_next
    }

    /// Notes what a client's segment says: its bytes up to `end`, its acknowledgement (already the
    /// server's number). A FIN tells where the client's bytes end, whatever was noted before.
    #[inline]
    pub fn note_client(&mut self, end: u32, acknowledgement: u32, fin: bool) {
        if fin {
            self.note_client_fin(end);
        } else if sequence::after(end, self.client_next) && !self.has(flag::CLIENT_FIN) {
            self.client_next = end;
        }
        if sequence::after(acknowledgement, self.server_acked) {
            self.server_acked = acknowledgement;
        }
    }

    fn note_client_fin(&mut self, end: u32) {
        if self.is_earlier_fin(end) || !self.has(flag::CLIENT_FIN) && self.may_end_at(end) {
            self.client_next = end;
            self.flags |= flag::CLIENT_FIN;
        }
    }

    /// What the server has acknowledged already cannot lie beyond the end.
    fn may_end_at(&self, end: u32) -> bool {
        !sequence::before(end, self.client_acked)
    }

    /// Whether a client's FIN ends before the one that was noted. That one was forged, then: behind its
    /// own FIN a client has nothing.
    pub(super) fn is_earlier_fin(&self, end: u32) -> bool {
        self.has(flag::CLIENT_FIN)
            && sequence::before(end, self.client_next)
            && self.may_end_at(end)
    }

    /// Notes what a server's segment says: its bytes up to `end`, its acknowledgement and the window
    /// it offers in bytes. A server that acknowledges more than the client's FIN has not taken that
    /// FIN: it was not the client's.
    #[inline]
    pub fn note_server(&mut self, end: u32, acknowledgement: u32, window_bytes: u32, fin: bool) {
        if sequence::after(end, self.server_next) {
            self.server_next = end;
        }
        if sequence::after(acknowledgement, self.client_acked) {
            self.client_acked = acknowledgement;
            if self.has(flag::CLIENT_FIN) && sequence::after(acknowledgement, self.client_next) {
                self.flags &= !flag::CLIENT_FIN;
                self.client_next = acknowledgement;
            }
        }
        let edge = acknowledgement.wrapping_add(window_bytes);
        if sequence::after(edge, self.client_edge) {
            self.client_edge = edge;
        }
        if fin {
            self.flags |= flag::SERVER_FIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_challenges_at_most_once_in_half_a_second() {
        // CASES 3
        let mut session = Session::default();
        assert!(session.may_challenge(0));
        assert!(!session.may_challenge(499_999_999));
        assert!(session.may_challenge(500_000_000));
        session.set_scales(7, 9, 14);
        assert!(
            !session.may_challenge(999_999_999),
            "the scales do not disturb it"
        );
        assert_eq!(
            (
                session.client_scale(),
                session.server_scale(),
                session.told_scale()
            ),
            (7, 9, 14)
        );
    }

    #[test]
    fn it_is_finished_when_both_fins_are_acknowledged() {
        let mut session = Session {
            client_next: 10,
            server_next: 20,
            ..Session::default()
        };
        session.client_acked = 10;
        session.server_acked = 20;
        session.note_client(11, 20, true);
        assert!(!session.is_finished());
        session.note_server(21, 11, 0, true);
        assert!(!session.is_finished());
        session.note_client(11, 21, false);
        assert!(session.is_finished());
    }
}
