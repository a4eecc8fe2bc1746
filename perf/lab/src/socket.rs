//! Raw packet sockets on one interface of the calling thread's name space.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use pnet_datalink::{Config, NetworkInterface};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::{Error, Result};

/// How much waits for the reader before the kernel drops, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;

/// A packet socket that is bound to one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens a socket that receives the frames that pass `filter`: all when it is empty, none
    /// when the socket is only for sending.
    ///
    /// # Errors
    /// When there is no such interface, or without `CAP_NET_RAW`.
    pub fn open(interface: &str, filter: &[SockFilter]) -> Result<Self> {
        Self::bind(interface, filter)
            .map_err(|e| Error::because(format!("packet socket on {interface}"), e))
    }

    fn bind(interface: &str, filter: &[SockFilter]) -> io::Result<Self> {
        let interface = find(interface)?;
        // With no protocol it receives nothing until it is bound, so no foreign frame comes in.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
        if !filter.is_empty() {
            socket.attach_filter(filter)?;
        }
        // The channel is only for its bind; it closes its own duplicate of the descriptor.
        let duplicate = OwnedFd::from(socket.try_clone()?).into_raw_fd();
        let config = Config {
            socket_fd: Some(duplicate),
            ..Config::default()
        };
        drop(pnet_datalink::channel(&interface, config)?);
        // Promiscuous mode belongs to the socket, not to the descriptor, and stays.
        Ok(Self { socket })
    }

    /// Sends a frame. `false` when the interface has no room for it.
    ///
    /// # Errors
    /// When the interface is down or gone.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match (&self.socket).write(frame) {
            Ok(_) => Ok(true),
            Err(e) if is_full(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Receives a frame, cut to the buffer's length; `None` when none waits.
    ///
    /// # Errors
    /// When the interface is down or gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits until a frame is there, at most for `limit`.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        )?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_full(error: &io::Error) -> bool {
    const ENOBUFS: i32 = 105;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(ENOBUFS)
}

fn find(name: &str) -> io::Result<NetworkInterface> {
    pnet_datalink::interfaces()
        .into_iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such interface"))
}

/// The hardware address of an interface.
///
/// # Errors
/// When there is no such interface or it has none.
pub fn hardware_address(interface: &str) -> Result<[u8; 6]> {
    find(interface)
        .map_err(|e| Error::because(interface, e))?
        .mac
        .map(|address| address.octets())
        .ok_or_else(|| Error::new(format!("{interface} has no hardware address")))
}
