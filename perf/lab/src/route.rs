//! Where a packet goes first, by the kernel's routes and neighbours of the calling thread's name
//! space.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command::{run, wait_until};
use crate::{Error, Result};

/// The hardware address of the first hop towards `destination` by `interface`. The neighbour is
/// asked for when the kernel does not know it yet.
///
/// # Errors
/// When there is no route, or the neighbour does not answer.
pub fn first_hop(interface: &str, destination: IpAddr) -> Result<[u8; 6]> {
    let route = ip(&["route", "get", &destination.to_string(), "oif", interface])?;
    let hop = match route[0]["gateway"].as_str() {
        Some(gateway) => gateway.to_owned(),
        None => destination.to_string(),
    };
    // Whether it answers the echo does not matter: the kernel has to resolve it to send one.
    let _ = run(Command::new("ping").args(["-c1", "-W1", "-I", interface, &hop]));
    wait_until(&format!("neighbour {hop}"), Duration::from_secs(2), || {
        let neighbours = ip(&["neighbour", "show", "to", &hop, "dev", interface])?;
        hardware_address(neighbours[0]["lladdr"].as_str().unwrap_or_default())
    })
}

fn ip(arguments: &[&str]) -> Result<Value> {
    let text = run(Command::new("ip").arg("-json").args(arguments))?;
    // With nothing to show it prints nothing, not an empty list.
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|e| Error::because("ip -json", e))
}

/// Reads `02:00:00:00:00:01`.
///
/// # Errors
/// When it is not a hardware address.
pub fn hardware_address(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::new(format!("{text:?} is not a hardware address")))
}

#[cfg(test)]
mod tests {
    use super::hardware_address;

    #[test]
    fn hardware_addresses_are_read() {
        assert_eq!(
            hardware_address("02:00:00:0a:ff:01").unwrap(),
            [2, 0, 0, 10, 255, 1]
        );
        for wrong in ["", "02:00", "02:00:00:00:00:00:01", "02:00:00:00:00:zz"] {
            assert!(hardware_address(wrong).is_err(), "{wrong}");
        }
    }
}
