//! What systemd is told, if it asks for it: ready, reloading, stopping (sd_notify(3)).

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends one state. Without a service manager it says nothing to nobody.
pub(super) fn tell(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    // A manager that does not listen is no reason to fail.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}

/// That a reload begins. systemd wants to know when, by the clock that never goes back.
pub(super) fn tell_reloading() {
    if let Ok(uptime) = std::fs::read_to_string("/proc/uptime")
        && let Some(seconds) = uptime.split(' ').next()
        && let Ok(seconds) = seconds.parse::<f64>()
    {
        tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}",
            (seconds * 1e6) as u64
        ));
    }
}
