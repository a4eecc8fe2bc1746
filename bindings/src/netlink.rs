//! A socket on the kernel's routing tables and interfaces, `rtnetlink(7)`, of the calling thread's
//! network name space. Messages go and come as bytes; who asks reads them.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use libc::{c_int, sockaddr_nl, socklen_t};

use crate::error::{Error, system_errno};

/// Messages on interfaces that come, change and go (`RTMGRP_LINK`).
pub const LINKS: u32 = libc::RTMGRP_LINK as u32;

/// How long an answer may take. The kernel gives it at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// An open socket.
#[derive(Debug)]
pub struct Netlink {
    /// Of the calls that a datagram socket has, sending and receiving are all that is used.
    socket: UnixDatagram,
}

impl Netlink {
    /// Opens one that hears of these groups.
    ///
    /// # Errors
    /// When the kernel has none to give.
    pub fn open(groups: u32) -> Result<Self, Error> {
        let failed = |call| Error::new(call, system_errno(), "opening a socket on rtnetlink");
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: numbers go in, a descriptor or -1 comes out.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if socket < 0 {
            return Err(failed("socket"));
        }
        // SAFETY: the kernel has just given the descriptor, and nobody else knows of it.
        let socket = UnixDatagram::from(unsafe { OwnedFd::from_raw_fd(socket) });
        // SAFETY: the address is made of integers, for which all zero is valid.
        let mut own: sockaddr_nl = unsafe { std::mem::zeroed() };
        own.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        own.nl_groups = groups;
        let raw: c_int = std::os::fd::AsRawFd::as_raw_fd(&socket);
        // SAFETY: the address is of the length that is told, and outlives the call.
        let result = unsafe {
            let length = size_of::<sockaddr_nl>() as socklen_t;
            libc::bind(raw, (&raw const own).cast(), length)
        };
        if result != 0 {
            return Err(failed("bind"));
        }
        let set = socket.set_read_timeout(Some(PATIENCE));
        set.map_err(|_| failed("setsockopt"))?;
        Ok(Self { socket })
    }

    /// Sends a request to the kernel.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn ask(&self, request: &[u8]) -> io::Result<()> {
        self.socket.send(request).map(drop)
    }

    /// Receives messages, and waits a second for them at most. What finds no room is cut off.
    ///
    /// # Errors
    /// When none comes, or the kernel lost some (`ENOBUFS`).
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(into)
    }

    /// From now on does not wait.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn never_wait(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_and_a_silent_socket_does_not_block() {
        let netlink = Netlink::open(0).expect("every Linux has it");
        // RTM_GETLINK with NLM_F_REQUEST | NLM_F_DUMP, of all families.
        let mut request = [0; 32];
        request[0] = 32;
        request[4] = 18;
        request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
        netlink.ask(&request).expect("a request");
        let mut answer = [0; 32768];
        let length = netlink.receive(&mut answer).expect("an answer");
        // The loopback is there at least: RTM_NEWLINK.
        assert!(length > 32 && answer[4] == 16, "{length}");
        let quiet = Netlink::open(0).expect("another");
        quiet.never_wait().expect("not to wait");
        let error = quiet.receive(&mut answer).expect_err("nothing was asked");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
