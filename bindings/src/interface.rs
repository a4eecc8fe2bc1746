//! The kernel's network interfaces, in the calling thread's network name space: what its packet
//! sockets, and the drivers over them, do not tell.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use libc::{c_ulong, ifreq};

use crate::error::{Error, system_errno};

/// An interface as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number. One that is deleted and made again has another.
    pub index: u32,
    /// Whether it is up and has a carrier.
    pub is_running: bool,
    /// The largest packet that it sends, in bytes.
    pub mtu_bytes: u32,
    /// Its own address.
    pub mac: [u8; 6],
}

impl Interface {
    /// The interface of this name; an error (`ENODEV`) if there is none.
    pub fn named(name: &str) -> Result<Self, Error> {
        let socket = UnixDatagram::unbound().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            Error::new("socket", errno, doing(name))
        })?;
        let ask = |request, call| ask(&socket, name, request, call);
        let index = ask(libc::SIOCGIFINDEX, "SIOCGIFINDEX")?;
        let flags = ask(libc::SIOCGIFFLAGS, "SIOCGIFFLAGS")?;
        let mtu = ask(libc::SIOCGIFMTU, "SIOCGIFMTU")?;
        let address = ask(libc::SIOCGIFHWADDR, "SIOCGIFHWADDR")?;
        // SAFETY: each call has filled in the field that it is named for.
        let (index, flags, mtu, address) = unsafe {
            (
                index.ifr_ifru.ifru_ifindex,
                i32::from(flags.ifr_ifru.ifru_flags),
                mtu.ifr_ifru.ifru_mtu,
                address.ifr_ifru.ifru_hwaddr.sa_data,
            )
        };
        let wanted = libc::IFF_UP | libc::IFF_RUNNING;
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address) {
            *to = from.cast_unsigned();
        }
        Ok(Self {
            index: index.cast_unsigned(),
            is_running: flags & wanted == wanted,
            mtu_bytes: mtu.cast_unsigned(),
            mac,
        })
    }
}

fn doing(name: &str) -> String {
    format!("asking for interface {name}")
}

fn ask(
    socket: &UnixDatagram,
    name: &str,
    what: c_ulong,
    call: &'static str,
) -> Result<ifreq, Error> {
    // SAFETY: an ifreq is made of integers and arrays of them, for which all zero is valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(Error::new(call, libc::ENODEV, doing(name)));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the descriptor is open, and the kernel reads and writes a request of this type.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, &mut request) };
    if result != 0 {
        return Err(Error::new(call, system_errno(), doing(name)));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_its_name() {
        let loopback = Interface::named("lo").expect("every name space has it");
        assert_eq!(loopback.mac, [0; 6]);
        assert!(loopback.index > 0 && loopback.mtu_bytes >= 1280);
        for name in ["nosuch0", "", "a-name-longer-than-the-kernel-has-room-for"] {
            let error = Interface::named(name).expect_err("no such interface");
            assert_eq!(error.errno(), libc::ENODEV, "{error}");
        }
    }
}
