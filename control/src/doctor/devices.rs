//! PCI devices: their drivers, vfio, the IOMMU, NUMA nodes.

use super::Report;
use crate::profile::Machine;

const DEVICES: &str = "sys/bus/pci/devices";
/// Drivers that hand a device to DPDK.
const USER_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Kernel drivers beside which DPDK works.
const SHARED_DRIVERS: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

pub(super) fn examine(report: &mut Report<'_>, machine: &Machine) {
    let addresses = report.pci_addresses();
    if report.profile.is_none() {
        list_network_devices(report);
    }
    for address in &addresses {
        device(report, address);
        numa_node(report, machine, address);
    }
    // A profile of virtual devices alone needs none of it.
    if report.profile.is_none() || !addresses.is_empty() {
        let shared = |address: &String| {
            let driver = report
                .host
                .link_name(&format!("{DEVICES}/{address}/driver"));
            driver.is_some_and(|driver| SHARED_DRIVERS.contains(&driver.as_str()))
        };
        let needed = !addresses.is_empty() && !addresses.iter().all(shared);
        iommu(report, needed);
        vfio(report, needed);
    }
}

/// Ethernet controllers have the class 0x0200xx.
fn list_network_devices(report: &mut Report<'_>) {
    for address in report.host.names(DEVICES) {
        let class = report.host.text(&format!("{DEVICES}/{address}/class"));
        if !class.is_some_and(|class| class.starts_with("0x0200")) {
            continue;
        }
        let driver = report
            .host
            .link_name(&format!("{DEVICES}/{address}/driver"));
        let driver = driver.unwrap_or_else(|| "no driver".into());
        let node = report
            .host
            .number::<i32>(&format!("{DEVICES}/{address}/numa_node"));
        let node = node
            .filter(|node| *node >= 0)
            .map(|node| format!(", NUMA node {node}"));
        let node = node.unwrap_or_default();
        report.ok(
            "devices",
            format!("{address} is an Ethernet device ({driver}{node})"),
        );
    }
}

fn device(report: &mut Report<'_>, address: &str) {
    let folder = format!("{DEVICES}/{address}");
    if !report.host.exists(&folder) {
        report.fail(
            "devices",
            format!("there is no PCI device {address}"),
            "see `dpdk-devbind.py --status-dev net`, and correct the profile",
        );
        return;
    }
    let bind = format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}");
    match report.host.link_name(&format!("{folder}/driver")) {
        Some(driver) if USER_DRIVERS.contains(&driver.as_str()) => {
            report.ok("devices", format!("{address} is bound to {driver}"));
        }
        Some(driver) if SHARED_DRIVERS.contains(&driver.as_str()) => {
            report.ok(
                "devices",
                format!("{address} is shared with the kernel ({driver})"),
            );
        }
        Some(driver) => {
            let interfaces = report.host.names(&format!("{folder}/net")).join(", ");
            let interfaces = if interfaces.is_empty() {
                interfaces
            } else {
                format!(", interface {interfaces}")
            };
            report.fail(
                "devices",
                format!("{address} belongs to the kernel's driver {driver}{interfaces}"),
                bind,
            );
        }
        None => report.fail("devices", format!("{address} has no driver"), bind),
    }
}

fn numa_node(report: &mut Report<'_>, machine: &Machine, address: &str) {
    let Some(profile) = report.profile else {
        return;
    };
    let node = report
        .host
        .number::<i32>(&format!("{DEVICES}/{address}/numa_node"));
    let Some(node) = node.filter(|node| *node >= 0) else {
        return;
    };
    let list = report
        .host
        .text(&format!("sys/devices/system/node/node{node}/cpulist"));
    let Some(near) = list.as_deref().and_then(crate::profile::parse_core_list) else {
        return;
    };
    let text = |cores: &[u32]| {
        cores
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let far: Vec<u32> = profile
        .runtime
        .workers
        .iter()
        .copied()
        .filter(|core| !near.contains(core))
        .collect();
    if far.is_empty() {
        report.ok(
            "numa",
            format!("{address} and its workers are on node {node}"),
        );
    } else {
        let near: Vec<u32> = near
            .into_iter()
            .filter(|core| machine.cores.contains(core))
            .collect();
        report.warn(
            "numa",
            format!(
                "{address} is on node {node}, and worker {} is not: each packet crosses",
                text(&far)
            ),
            format!("write workers from {}", text(&near)),
        );
    }
    let pages = format!("sys/devices/system/node/node{node}/hugepages");
    let free = |size: &String| {
        report
            .host
            .number::<u64>(&format!("{pages}/{size}/free_hugepages"))
    };
    let sizes = report.host.names(&pages);
    if !sizes.is_empty() && sizes.iter().all(|size| free(size).unwrap_or(0) == 0) {
        report.warn(
            "numa",
            format!("node {node}, where {address} is, has no free huge page"),
            format!("echo 512 > /{pages}/hugepages-2048kB/nr_hugepages"),
        );
    }
}

fn iommu(report: &mut Report<'_>, needed: bool) {
    let groups = report.host.names("sys/kernel/iommu_groups").len();
    let command_line = report.host.text("proc/cmdline").unwrap_or_default();
    let unsafe_mode = report
        .host
        .text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
        .is_some_and(|mode| mode == "Y" || mode == "1");
    if groups > 0 {
        report.ok("iommu", format!("it is on: {groups} groups"));
    } else if unsafe_mode {
        report.warn(
            "iommu",
            "it is off, and vfio runs without it: a device can write to any memory",
            "on real hardware, add `intel_iommu=on iommu=pt` to the kernel's command line",
        );
    } else {
        let asked = command_line
            .split_whitespace()
            .any(|word| word.ends_with("_iommu=on"));
        let what = if asked {
            "it is off though the kernel's command line asks for it: the firmware has it off"
        } else {
            "it is off, so vfio-pci cannot hold a device"
        };
        let cure = if asked {
            "switch on VT-d or AMD-Vi in the firmware"
        } else {
            "add `intel_iommu=on iommu=pt` to the kernel's command line; in a virtual machine \
             without one: `modprobe vfio enable_unsafe_noiommu_mode=1`"
        };
        report.lack(needed, "iommu", what, cure);
    }
}

fn vfio(report: &mut Report<'_>, needed: bool) {
    if report.host.exists("sys/module/vfio_pci") {
        report.ok("vfio", "the module vfio-pci is loaded");
    } else {
        let cure = "modprobe vfio-pci && echo vfio-pci > /etc/modules-load.d/vfio-pci.conf";
        report.lack(needed, "vfio", "the module vfio-pci is not loaded", cure);
    }
}
