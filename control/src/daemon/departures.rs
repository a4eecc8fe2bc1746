//! Interfaces that left this name space, told by the kernel.
//!
//! A look at an interface does not tell whether it was away since the last one: one that is moved to
//! another name space and back keeps its number and its name, but no socket stands on it any more.

use std::collections::BTreeSet;
use std::io;

use bindings::{Netlink, netlink};
use tracing::warn;

use crate::rtnetlink::{messages, u32_at};

const RTM_DELLINK: u16 = 17;
/// `struct ifinfomsg`: its family, and where the interface's number stands. A bridge that lets a port go
/// tells so by the same message, of its own family.
const OF_ALL_FAMILIES: u8 = 0;
const NUMBER_AT: usize = 4;

/// What is heard of interfaces.
pub(super) struct Departures {
    /// `None` where the kernel gave no socket.
    netlink: Option<Netlink>,
    buffer: Vec<u8>,
}

/// Which interfaces have left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Departed {
    numbers: BTreeSet<u32>,
    /// Whether the kernel had no room to tell all: then each may have.
    is_incomplete: bool,
}

impl Departed {
    pub(super) fn may_be(&self, number: u32) -> bool {
        self.is_incomplete || self.numbers.contains(&number)
    }

    fn read(&mut self, bytes: &[u8]) {
        for (kind, body) in messages(bytes) {
            if kind == RTM_DELLINK && body.first() == Some(&OF_ALL_FAMILIES) {
                self.numbers.extend(u32_at(body, NUMBER_AT));
            }
        }
    }
}

impl Departures {
    /// Hears from now on of each interface that leaves.
    pub(super) fn listen() -> Self {
        let netlink = Netlink::open(netlink::LINKS).map_err(io::Error::other);
        let netlink = netlink.and_then(|netlink| netlink.never_wait().map(|()| netlink));
        if let Err(error) = &netlink {
            warn!("an interface that is moved away and back will not be noticed: {error}");
        }
        Self {
            netlink: netlink.ok(),
            buffer: vec![0; 1 << 15],
        }
    }

    /// Those that have left since this was asked last.
    pub(super) fn take(&mut self) -> Departed {
        let mut departed = Departed::default();
        while let Some(netlink) = &self.netlink {
            match netlink.receive(&mut self.buffer) {
                Ok(length) => departed.read(&self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: what is told from now on comes again.
                Err(_) if !departed.is_incomplete => departed.is_incomplete = true,
                Err(_) => break,
            }
        }
        departed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, family: u8, number: u8) -> Vec<u8> {
        let mut message = vec![0; 32];
        (message[0], message[4]) = (32, kind);
        (message[16], message[20]) = (family, number);
        message
    }

    #[test]
    fn h1_an_interface_that_left_is_known_by_its_number() {
        let mut departed = Departed::default();
        // A new one, one that left a bridge (AF_BRIDGE), one that left, and one that is cut.
        let told = [message(16, 0, 3), message(17, 7, 4), message(17, 0, 5)];
        departed.read(&told.concat());
        departed.read(&message(17, 0, 6)[..20]);
        let numbers = (0..9).filter(|&number| departed.may_be(number));
        assert_eq!(numbers.collect::<Vec<_>>(), [5]);
        departed.is_incomplete = true;
        assert!(departed.may_be(6));
    }

    #[test]
    fn nothing_is_heard_where_nothing_leaves() {
        assert_eq!(Departures::listen().take().numbers.len(), 0);
    }
}
