//! The `ports` section: devices, VLANs, addresses.

use std::net::IpAddr;

use dataplane::limits::{MAX_ADDRESSES, MAX_INTERFACES, MAX_PORTS};

use super::words::address_error;
use super::{Checker, NAME_REMEDY, is_name};
use crate::profile::MAXIMUM_QUEUES;
use crate::profile::address::{InterfaceAddress, bits};
use crate::profile::model::{
    ChecksumOffload, Device, Link, Port, is_kernel_socket, is_pci_address,
};
use crate::profile::raw::{RawChecksumOffload, RawPort};
use crate::profile::raw_words::{Named, Word};
use yaml::{Mark, Node, suggest};

const DEFAULT_MTU_BYTES: u16 = 1500;
/// RFC 8200 §5.
const MINIMUM_MTU_BYTES_IPV6: u32 = 1280;

pub(super) fn resolve(raw: &Named<RawPort>, node: &Node, checker: &mut Checker<'_>) -> Vec<Port> {
    if raw.0.is_empty() {
        checker.error(
            node.mark,
            "there is no port",
            "add one: `outside: { device: … }`",
        );
    }
    if raw.0.len() > MAX_INTERFACES {
        checker.error(
            node.mark,
            format!("{} ports are too many", raw.0.len()),
            format!("write at most {MAX_INTERFACES}"),
        );
    }
    let mut ports: Vec<Port> = raw
        .0
        .iter()
        .map(|(name, raw_port)| port(name, raw_port, raw, node, checker))
        .collect();
    inherit_mtu(&mut ports, raw, node, checker);
    distinct_devices(&ports, node, checker);
    distinct_vlans(&ports, node, checker);
    distinct_addresses(&ports, raw, node, checker);
    ports
}

fn port(
    name: &str,
    raw: &RawPort,
    all: &Named<RawPort>,
    ports_node: &Node,
    checker: &mut Checker<'_>,
) -> Port {
    let node = ports_node.get(name);
    if !is_name(name) {
        let mark = node.key_mark();
        checker.error(
            mark,
            format!("`{name}` cannot be a port's name"),
            NAME_REMEDY,
        );
    }
    if let Some(vlan) = raw.vlan {
        checker.in_range(node, "vlan", vlan, 1..=4094);
    }
    let addresses = addresses(raw, node, checker);
    if let Some(mtu) = raw.mtu
        && checker.in_range(node, "mtu", mtu, 576..=9600)
        && mtu < MINIMUM_MTU_BYTES_IPV6
        && addresses
            .iter()
            .any(|(address, _)| address.address.is_ipv6())
    {
        checker.error(
            node.get("mtu").mark,
            format!("an MTU of {mtu} bytes is too small for IPv6"),
            format!("write at least {MINIMUM_MTU_BYTES_IPV6}, or take the IPv6 address away"),
        );
    }
    Port {
        name: name.to_owned(),
        link: link(name, raw, all, node, checker),
        vlan: raw.vlan.and_then(|vlan| u16::try_from(vlan).ok()),
        addresses: addresses.into_iter().map(|(address, _)| address).collect(),
        mtu_bytes: raw
            .mtu
            .and_then(|mtu| u16::try_from(mtu).ok())
            .unwrap_or(DEFAULT_MTU_BYTES),
    }
}

fn link(
    name: &str,
    raw: &RawPort,
    all: &Named<RawPort>,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Link {
    if raw.device.is_some() && raw.parent.is_some() {
        checker.error(
            node.get("parent").key_mark(),
            format!("port `{name}` has both a device and a parent"),
            "keep `device` for a port of its own, or `parent` and `vlan` for a VLAN of another's",
        );
    }
    if let Some(parent) = &raw.parent {
        return Link::Parent(parent_index(name, parent, raw, all, node, checker));
    }
    let arguments = raw.device.clone().unwrap_or_default();
    if raw.device.is_some() {
        device_text(&arguments, node.get("device").mark, checker);
    } else {
        checker.error(
            node.key_mark(),
            format!("port `{name}` has no device"),
            "add `device: …` (a PCI address or virtual-device arguments), or `parent` and `vlan`",
        );
    }
    Link::Device(Device {
        arguments,
        queues: queues(raw, node, checker),
        promiscuous: raw.promiscuous.is_some_and(|truth| truth.0),
        checksum_offload: match raw.checksum_offload {
            Some(RawChecksumOffload::Off) => ChecksumOffload::Off,
            Some(RawChecksumOffload::Auto) | None => ChecksumOffload::Auto,
        },
    })
}

fn parent_index(
    name: &str,
    parent: &str,
    raw: &RawPort,
    all: &Named<RawPort>,
    node: &Node,
    checker: &mut Checker<'_>,
) -> usize {
    if raw.vlan.is_none() {
        checker.error(
            node.key_mark(),
            format!("port `{name}` has a parent and no VLAN"),
            "add `vlan: 100`, or the number that its frames carry",
        );
    }
    let of_device = [
        ("queues", raw.queues.is_some()),
        ("promiscuous", raw.promiscuous.is_some()),
        ("checksum_offload", raw.checksum_offload.is_some()),
    ];
    for (key, written) in of_device {
        if written {
            checker.error(
                node.get(key).key_mark(),
                format!("`{key}` belongs to a device, and port `{name}` has its parent's"),
                format!("write it under `{parent}`"),
            );
        }
    }
    let mark = node.get("parent").mark;
    let roots = || {
        all.0
            .iter()
            .filter(|(_, port)| port.parent.is_none())
            .map(|(name, _)| name)
    };
    match all.0.iter().position(|(other, _)| other == parent) {
        Some(index) if all.0[index].1.parent.is_none() => index,
        Some(_) => {
            checker.error(
                mark,
                format!("port `{parent}` is itself a VLAN of another port"),
                suggest("", roots().map(String::as_str)),
            );
            0
        }
        None => {
            checker.error(
                mark,
                format!("there is no port `{parent}`"),
                suggest(parent, roots().map(String::as_str)),
            );
            0
        }
    }
}

/// The buses beside PCI and virtual devices that DPDK names devices by.
fn is_other_bus(name: &str) -> bool {
    let vmbus = name.len() == 36
        && name.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && name
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    vmbus
        || ["auxiliary:", "dpaa_bus:", "fslmc:", "ifpga:", "vmbus:"]
            .iter()
            .any(|bus| name.starts_with(bus))
}

fn device_text(device: &str, mark: Mark, checker: &mut Checker<'_>) {
    let name = device.split(',').next().unwrap_or_default();
    if device
        .chars()
        .any(|sign| sign.is_whitespace() || sign.is_control())
    {
        checker.error(
            mark,
            format!("the device `{device}` has a space in it"),
            "write the arguments with commas and no spaces",
        );
    } else if is_pci_address(device) || is_other_bus(name) {
    } else if !(name.starts_with("net_") || name.starts_with("eth_")) {
        let remedy = if name.contains(':') || name.contains('.') {
            "write a PCI address like `0000:3b:00.0`".to_owned()
        } else {
            format!("for the kernel's interface `{name}` write `net_af_packet0,iface={name}`")
        };
        checker.error(
            mark,
            format!("`{device}` is neither a PCI address nor virtual-device arguments"),
            remedy,
        );
    } else if let Some(bad) = device
        .split(',')
        .skip(1)
        .find(|argument| !argument.contains('='))
    {
        checker.error(
            mark,
            format!("the device argument `{bad}` has no value"),
            "write arguments like `iface=eth1`",
        );
    } else if is_kernel_socket(name) && !device.contains(",iface=") {
        checker.error(
            mark,
            format!("the device `{device}` does not say which interface it uses"),
            format!("write `{name},iface=eth1`, or your interface's name"),
        );
    }
}

fn queues(raw: &RawPort, node: &Node, checker: &mut Checker<'_>) -> Option<u16> {
    let Word(word) = raw.queues.as_ref().filter(|Word(word)| word != "auto")?;
    let queues = word
        .parse()
        .ok()
        .filter(|queues| (1..=MAXIMUM_QUEUES).contains(queues));
    if queues.is_none() {
        checker.error(
            node.get("queues").mark,
            format!("`queues` cannot be `{word}`"),
            format!("write a number from 1 to {MAXIMUM_QUEUES}, or `auto`"),
        );
    }
    queues
}

fn addresses(
    raw: &RawPort,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Vec<(InterfaceAddress, Mark)> {
    let node = node.get("address");
    let mut addresses = Vec::new();
    let count = raw.address.0.len();
    if count > MAX_ADDRESSES {
        checker.error(
            node.mark,
            format!("{count} addresses of one port are too many"),
            format!("write at most {MAX_ADDRESSES}"),
        );
    }
    for (index, text) in raw.address.0.iter().enumerate() {
        let mark = node.item(index).mark;
        match InterfaceAddress::parse(text) {
            Ok(address) => {
                if let Some((what, remedy)) = not_for_an_interface(address) {
                    checker.error(mark, format!("`{text}` {what}"), remedy);
                } else {
                    addresses.push((address, mark));
                }
            }
            Err(wrong) => {
                let example = match text.parse::<IpAddr>() {
                    Ok(address) if address.is_ipv4() => format!("`{text}/24`"),
                    Ok(_) => format!("`\"{text}/64\"`"),
                    Err(_) => "`192.0.2.1/24` or `\"2001:db8::1/64\"`".into(),
                };
                address_error(checker, mark, text, wrong, &example);
            }
        }
    }
    addresses
}

/// Why an address cannot be one of the appliance's own, and what to do.
fn not_for_an_interface(own: InterfaceAddress) -> Option<(&'static str, String)> {
    let another = || "write the appliance's own address".to_owned();
    let address = own.address;
    if address.is_multicast() {
        return Some(("is a multicast address", another()));
    }
    if address.is_unspecified() || address.is_loopback() {
        return Some(("cannot be an address of a port", another()));
    }
    let host_bits = bits(address) - own.prefix_length;
    if host_bits < 2 {
        return None;
    }
    if own.net().address() == address {
        return Some((
            "is the net itself, and no address in it",
            "give it a host part".to_owned(),
        ));
    }
    match address {
        IpAddr::V4(v4)
            if (v4.to_bits() | (u32::MAX >> own.prefix_length.min(31))) == v4.to_bits()
                && own.prefix_length < 31 =>
        {
            Some(("is the net's broadcast address", another()))
        }
        _ => None,
    }
}

fn inherit_mtu(ports: &mut [Port], raw: &Named<RawPort>, node: &Node, checker: &mut Checker<'_>) {
    for index in 0..ports.len() {
        let Link::Parent(parent) = ports[index].link else {
            continue;
        };
        let most = ports[parent].mtu_bytes;
        if raw.0[index].1.mtu.is_none() {
            ports[index].mtu_bytes = most;
        } else if ports[index].mtu_bytes > most {
            checker.error(
                node.get(&ports[index].name).get("mtu").mark,
                format!(
                    "an MTU of {} bytes is more than the parent's",
                    ports[index].mtu_bytes
                ),
                format!(
                    "write at most {most}, or raise the MTU of `{}`",
                    ports[parent].name
                ),
            );
        }
    }
}

/// What two ports cannot both have: the device's name, or the kernel interface behind it.
fn device_identities(device: &Device) -> Vec<String> {
    let name = device
        .arguments
        .split(',')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let name = if is_pci_address(&name) && name.matches(':').count() == 1 {
        format!("0000:{name}")
    } else {
        name
    };
    let interface = device
        .argument("iface")
        .map(|interface| format!("iface={interface}"));
    std::iter::once(name)
        .chain(interface.filter(|_| !device.arguments.starts_with("net_tap")))
        .collect()
}

fn distinct_devices(ports: &[Port], node: &Node, checker: &mut Checker<'_>) {
    let devices = ports
        .iter()
        .filter(|port| matches!(port.link, Link::Device(_)))
        .count();
    if devices > MAX_PORTS {
        checker.error(
            node.mark,
            format!("{devices} devices are too many"),
            format!("write at most {MAX_PORTS}"),
        );
    }
    let mut seen: Vec<(String, &Port)> = Vec::new();
    for port in ports {
        let Link::Device(device) = &port.link else {
            continue;
        };
        if device.arguments.is_empty() {
            continue;
        }
        for identity in device_identities(device) {
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == identity) {
                checker.error(
                    node.get(&port.name).get("device").mark,
                    format!(
                        "ports `{}` and `{}` have the same device (`{identity}`)",
                        first.name, port.name
                    ),
                    format!(
                        "give each its own, or write `parent: {}` and a `vlan`",
                        first.name
                    ),
                );
                break;
            }
            seen.push((identity, port));
        }
    }
}

fn distinct_vlans(ports: &[Port], node: &Node, checker: &mut Checker<'_>) {
    for (index, port) in ports.iter().enumerate() {
        let Link::Parent(parent) = port.link else {
            continue;
        };
        let same = ports.iter().enumerate().find(|(other_index, other)| {
            let of_same_device = match other.link {
                Link::Device(_) => *other_index == parent,
                Link::Parent(other_parent) => other_parent == parent && *other_index < index,
            };
            of_same_device && other.vlan == port.vlan
        });
        if let (Some((_, other)), Some(vlan)) = (same, port.vlan) {
            checker.error(
                node.get(&port.name).get("vlan").mark,
                format!(
                    "ports `{}` and `{}` both have VLAN {vlan} of one device",
                    other.name, port.name
                ),
                "give each a VLAN of its own",
            );
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// No address twice; no net on two ports, link-local ones apart, which are each link's own.
fn distinct_addresses(
    ports: &[Port],
    raw: &Named<RawPort>,
    node: &Node,
    checker: &mut Checker<'_>,
) {
    let mut seen: Vec<(&str, InterfaceAddress)> = Vec::new();
    for (port, (_, raw_port)) in ports.iter().zip(&raw.0) {
        for address in &port.addresses {
            let text_index = raw_port
                .address
                .0
                .iter()
                .rposition(|text| InterfaceAddress::parse(text) == Ok(*address))
                .unwrap_or(0);
            let mark = node.get(&port.name).get("address").item(text_index).mark;
            let link_local = is_link_local(address.address);
            let twice = seen.iter().find(|(other_port, other)| {
                other.address == address.address && (!link_local || *other_port == port.name)
            });
            let overlap = seen.iter().find(|(other_port, other)| {
                *other_port != port.name && !link_local && other.net().overlaps(&address.net())
            });
            if let Some((first, _)) = twice {
                checker.error(
                    mark,
                    format!(
                        "the address {} is on port `{first}` already",
                        address.address
                    ),
                    "give each port an address of its own",
                );
            } else if let Some((first, other)) = overlap {
                checker.error(
                    mark,
                    format!(
                        "the net {} overlaps {} on port `{first}`",
                        address.net(),
                        other.net()
                    ),
                    "give each port a net of its own",
                );
            }
            seen.push((&port.name, *address));
        }
    }
}
