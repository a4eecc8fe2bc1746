//! What a profile's `replication` section means.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

/// The other guards, and how sessions are shared with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replication {
    /// The index of the port that the others are reached through.
    pub port: usize,
    /// The address of ours there that they are sent to from.
    pub address: IpAddr,
    /// This guard's number, 1 to 254.
    pub own: u8,
    /// The others: at least one, numbers unique and none of them ours.
    pub peers: Vec<Peer>,
    /// Where all of them are reached at once: a multicast group or 255.255.255.255, of the family
    /// of `address`. `None` if each peer has its address.
    pub group: Option<IpAddr>,
    /// The UDP port, ours and theirs.
    pub udp_port: u16,
    /// The file of the replication keys.
    pub keys: PathBuf,
    /// When sessions are shared, unless a rule says otherwise.
    pub share: Share,
    /// After how many milliseconds a session that is shared [`Share::Deferred`] is told to all,
    pub deferred_after_ms: u32,
    /// or after how many bytes.
    pub deferred_after_bytes: u32,
    /// How often the others are told that this guard lives, in milliseconds.
    pub hello_ms: u32,
    /// After how long a silence another guard counts as dead, in milliseconds.
    pub dead_ms: u32,
    /// How long a packet of an unknown flow waits for another guard's word, in milliseconds.
    pub hold_ms: u32,
}

/// Another guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its number, 1 to 254.
    pub number: u8,
    /// Its address, of the family of [`Replication::address`]; `None` if there is a group.
    pub address: Option<IpAddr>,
}

/// When a session is shared with the other guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Already when its SYN is answered.
    Begun,
    /// When its client has proved to exist, and when its server has answered.
    Established,
    /// At first with one other guard, and with all when it lasts or one of them asks.
    Deferred,
    /// Not at all.
    Never,
}
