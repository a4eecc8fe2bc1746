//! A device belongs to one daemon: the claim on it, which the kernel ends with its holder.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use bindings::Interface;
use bindings::system::peer_process;

use crate::failure::Failure;
use crate::profile::Device;

/// A name in the network name space's own list of sockets: whatever way its holder ends, the name
/// is free again, and each name space counts its interfaces for itself.
#[derive(Debug)]
pub(super) struct Claim {
    _listener: UnixListener,
}

impl Claim {
    /// Claims a port's device; `None` for one that belongs to this process anyway, such as a tap.
    ///
    /// # Errors
    /// When somebody has it.
    pub(super) fn on(port: &str, device: &Device) -> Result<Option<Self>, Failure> {
        match device.kernel_interface() {
            Some(interface) => match Interface::named(interface) {
                Ok(now) => Self::on_interface(port, interface, now.index).map(Some),
                // Whoever opens it says so.
                Err(_) => Ok(None),
            },
            None if device.is_pci() => {
                let address = device.arguments.split(',').next().unwrap_or_default();
                let whole = match address.matches(':').count() {
                    1 => format!("0000:{address}"),
                    _ => address.to_owned(),
                };
                let name = format!("tidegate/pci/{}", whole.to_lowercase());
                Self::take(port, &format!("device {address}"), &name).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Claims a kernel interface by its number.
    pub(super) fn on_interface(port: &str, interface: &str, index: u32) -> Result<Self, Failure> {
        let name = format!("tidegate/interface/{index}");
        Self::take(port, &format!("interface {interface}"), &name)
    }

    fn take(port: &str, what: &str, name: &str) -> Result<Self, Failure> {
        let address = SocketAddr::from_abstract_name(name);
        match address.and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(listener) => Ok(Self {
                _listener: listener,
            }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                Err(is_taken(port, what, holder(name)))
            }
            Err(error) => Err(Failure::new(
                format!("port {port}: {what} cannot be claimed: {error}"),
                "see which limit of this process is reached (`ulimit -a`)",
            )),
        }
    }
}

fn is_taken(port: &str, what: &str, holder: Option<u32>) -> Failure {
    let Some(process) = holder else {
        return Failure::new(
            format!("port {port}: {what} belongs to another daemon, of which nothing is known"),
            "stop it, or give each daemon devices of its own",
        );
    };
    if process == std::process::id() {
        return Failure::new(
            format!("port {port}: {what} belongs to another port of this profile"),
            format!("correct `ports.{port}.device`"),
        );
    }
    let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Failure::new(
        format!(
            "port {port}: {what} belongs to another daemon, process {process} ({})",
            command.trim_end()
        ),
        "stop it, or give each daemon devices of its own",
    )
}

/// Who listens under that name.
fn holder(name: &str) -> Option<u32> {
    let address = SocketAddr::from_abstract_name(name).ok()?;
    peer_process(&UnixStream::connect_addr(&address).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // H3
    #[test]
    fn a_device_has_one_owner_and_is_free_when_that_is_gone() {
        let name = format!("tidegate/test/{}", std::process::id());
        let first = Claim::take("outside", "interface out0", &name).unwrap();
        let second = Claim::take("north", "interface out0", &name).unwrap_err();
        assert_eq!(
            second.to_string(),
            "port north: interface out0 belongs to another port of this profile; correct \
             `ports.north.device`"
        );
        drop(first);
        Claim::take("north", "interface out0", &name).unwrap();
    }

    #[test]
    fn another_daemon_is_named() {
        let other = is_taken("outside", "device 0000:3b:00.0", Some(1)).to_string();
        let begin = "port outside: device 0000:3b:00.0 belongs to another daemon, process 1 (";
        assert!(other.starts_with(begin), "{other}");
        assert!(other.ends_with("; stop it, or give each daemon devices of its own"));
        let unknown = is_taken("outside", "interface out0", None).to_string();
        assert!(unknown.contains("nothing is known"), "{unknown}");
    }
}
