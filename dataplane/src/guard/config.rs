//! What a guard is told: built by the control thread, swapped whole at a reload.

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;

use super::cookie::CookieJar;
use crate::bridge::Bridge;
use crate::classify::Rules;
use crate::echo::EchoJar;
use crate::io::InterfaceId;
use crate::limits::{MAX_PORT_RANGES, MAX_SERVERS};
use crate::wire::address::Address;

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop it silently.
    Deny,
    /// Drop it and say so: a RST for TCP, an ICMP error else.
    Reject,
    /// Send it on as it is.
    Forward,
    /// Guard it if it is TCP to a protected service; else send it on.
    Guard,
    /// The same, its session shared as this says.
    GuardShared(Share),
}

/// When the peers are told of a session (seed 000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Share {
    /// Already when its SYN is answered: any peer can finish the handshake, even one that lacks
    /// the key of its cookie.
    Begun,
    /// When its client is proved and when its server has answered.
    #[default]
    Established,
    /// At first only its director; all others when it has lasted, or one of them asks.
    Deferred,
    /// Not at all.
    Never,
}

/// How sessions are shared with other guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// When, unless a rule says otherwise.
    pub share: Share,
    /// For how long a deferred session may stay with its director,
    pub deferred_after_ns: u64,
    /// and for how many octets.
    pub deferred_after_bytes: u32,
    /// How long a packet of an unknown flow waits for a peer's word.
    pub hold_ns: u64,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            share: Share::Established,
            deferred_after_ns: 2 * SECOND_NS,
            deferred_after_bytes: 100_000,
            hold_ns: SECOND_NS / 100,
        }
    }
}

/// When SYNs are answered by cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At all times.
    Always,
    /// While the measured rate of SYNs says that there is a flood.
    OnFlood,
    /// Never; what would be done is counted.
    Monitor,
    /// Never, and nothing is tracked.
    Off,
}

/// What happens to a segment that belongs to no session and opens none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unknown {
    /// It is dropped.
    #[default]
    Drop,
    /// It is answered by a RST no larger than itself. So is a client's second segment that arrives
    /// before its handshake's ACK: on paths that lose or reorder packets some connections fail.
    Reset,
}

/// A set of interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct InterfaceSet(u32);

impl InterfaceSet {
    /// This set and `interface`.
    #[must_use]
    pub const fn with(self, interface: InterfaceId) -> Self {
        Self(self.0 | 1 << interface.0)
    }

    /// The interfaces that belong to it.
    pub fn iter(self) -> impl Iterator<Item = InterfaceId> {
        (0..32)
            .map(InterfaceId)
            .filter(move |&interface| self.contains(interface))
    }

    /// Whether `interface` belongs to it.
    #[inline]
    pub const fn contains(self, interface: InterfaceId) -> bool {
        self.0 >> interface.0 & 1 != 0
    }
}

/// What is set by hand about a server instead of being learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServerOverrides {
    /// Maximum segment size in octets.
    pub mss: Option<u16>,
    /// Window scale; `Some(None)` for a server that does not scale.
    pub window_scale: Option<Option<u8>>,
    /// Whether the server takes SACK.
    pub sack: Option<bool>,
    /// Whether the server does timestamps.
    pub timestamps: Option<bool>,
    /// Whether the server does ECN.
    pub ecn: Option<bool>,
}

/// A protected server.
#[derive(Clone, Debug)]
pub struct ProtectedServer {
    /// Its address.
    pub address: Address,
    /// Its protected ports.
    pub ports: ArrayVec<RangeInclusive<u16>, MAX_PORT_RANGES>,
    /// What is not learned.
    pub overrides: ServerOverrides,
}

/// When a flood begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodThresholds {
    /// SYNs a second, of one worker, from which on it is a flood.
    pub enter_syns_per_s: u64,
    /// SYNs a second, of one worker, below which it is over,
    pub leave_syns_per_s: u64,
    /// if they stay below for so long.
    pub hold_ns: u64,
}

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// From the first SYN sent to a server to its repetition; doubled each time.
    pub server_syn_ns: u64,
    /// How many times it is repeated.
    pub server_syn_retries: u8,
    /// How long a tracked handshake may take.
    pub half_open_ns: u64,
    /// How long an established session may be silent.
    pub established_idle_ns: u64,
    /// How long it may be silent once a side has closed.
    pub closing_idle_ns: u64,
    /// How long an ended session is remembered; at least as long as a cookie is good.
    pub linger_ns: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Default for Timers {
    fn default() -> Self {
        Self {
            server_syn_ns: SECOND_NS / 2,
            server_syn_retries: 3,
            half_open_ns: 15 * SECOND_NS,
            established_idle_ns: 7200 * SECOND_NS,
            closing_idle_ns: 300 * SECOND_NS,
            linger_ns: super::cookie::MAX_AGE_S * SECOND_NS,
        }
    }
}

/// Whether SYNs are carried to their server in an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EchoMode {
    /// To servers that answer pings.
    #[default]
    Auto,
    /// To all.
    Always,
    /// To none: every SYN is answered at once.
    Off,
}

/// A transparent wire as its guard sees it.
pub struct Transparent {
    /// Its two ends.
    pub bridge: Bridge,
    /// Which SYNs are carried by echo.
    pub echo: EchoMode,
    /// The echoes' keys.
    pub jar: EchoJar,
}

/// A guard's configuration.
pub struct GuardConfig {
    /// Where clients are.
    pub outside: InterfaceSet,
    /// Where servers are.
    pub inside: InterfaceSet,
    /// When SYNs are answered by cookie.
    pub mode: Mode,
    /// At most [`MAX_SERVERS`].
    pub servers: Vec<ProtectedServer>,
    /// What is guarded, forwarded and denied.
    pub rules: Rules<Action>,
    /// The cookie keys.
    pub jar: CookieJar,
    /// When a flood begins and ends.
    pub flood: FloodThresholds,
    /// How long things last.
    pub timers: Timers,
    /// Server sides that may be opening at once for one source, per worker.
    pub half_open_per_source: u16,
    /// What happens to strangers.
    pub unknown: Unknown,
    /// Our own addresses from which servers are asked what they do, before the first client
    /// comes; without one of a server's family it is learned from that client's session.
    pub probe_from: Vec<Address>,
    /// The smallest MTU between the guard and its clients, in octets.
    pub outside_mtu: u16,
    /// The smallest MTU between the guard and its servers, in octets.
    pub inside_mtu: u16,
    /// How sessions are shared with other guards; `None` for a guard that is alone. Whether they
    /// are is fixed when the guard is made.
    pub sharing: Option<Sharing>,
    /// What a guard has that stands in a transparent wire. A guard that was made without it does
    /// not become one.
    pub transparent: Option<Transparent>,
}

impl GuardConfig {
    /// Whether the configuration keeps the guard's bounds.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.servers.len() > MAX_SERVERS {
            return Err("more protected servers than a guard can hold");
        }
        if self.timers.linger_ns < super::cookie::MAX_AGE_S * SECOND_NS {
            return Err("an ended session must be remembered for as long as a cookie is good");
        }
        Ok(())
    }
}
