//! Capabilities, locked memory, the folders that are written to.

use std::fs::{self, OpenOptions};
use std::os::unix::net::UnixStream;

use super::Report;

/// capabilities(7): number, name, and what fails without it.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "set up devices"),
    (13, "CAP_NET_RAW", "open packet sockets (net_af_packet)"),
    (14, "CAP_IPC_LOCK", "lock memory for devices"),
    (23, "CAP_SYS_NICE", "move huge pages between NUMA nodes"),
];
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;
const SET: &str = "run as root, or `setcap cap_net_admin,cap_net_raw,cap_ipc_lock,cap_sys_nice+ep \
                   \"$(command -v tidegate)\"`";
/// Less than this cannot hold the packet memory of a device.
const LOCKED_BYTES: u64 = 64 << 20;

pub(super) fn examine(report: &mut Report<'_>) {
    let status = report.host.text("proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let is_root = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|users| users.split_whitespace().nth(1) == Some("0"));
    let effective = effective.unwrap_or(if is_root { u64::MAX } else { 0 });
    capabilities(report, effective);
    locked_memory(report, effective);
    runtime_folder(report, is_root);
    control_socket(report);
}

fn capabilities(report: &mut Report<'_>, effective: u64) {
    let devices = report.devices();
    let packet_socket = devices.iter().any(|one| one.is_packet_socket());
    let xdp_socket = devices.iter().any(|one| one.is_xdp_socket());
    let tap = devices
        .iter()
        .any(|one| one.arguments.starts_with("net_tap"));
    let kernel_device = packet_socket || xdp_socket || tap;
    let pci = !report.pci_addresses().is_empty();
    let mut missing = 0;
    let loads_programs = effective >> BPF & 1 == 1 || effective >> SYS_ADMIN & 1 == 1;
    if xdp_socket && !loads_programs {
        missing += 1;
        report.fail(
            "rights",
            "CAP_BPF is missing, so the process cannot load AF_XDP's program (net_af_xdp)",
            "run as root, or take the device net_af_packet",
        );
    }
    for (number, name, purpose) in CAPABILITIES {
        if effective >> number & 1 == 1 {
            continue;
        }
        missing += 1;
        let needed = match number {
            NET_RAW => packet_socket,
            NET_ADMIN => kernel_device,
            IPC_LOCK => pci,
            _ => false,
        };
        report.lack(
            needed,
            "rights",
            format!("{name} is missing, so the process cannot {purpose}"),
            SET,
        );
    }
    if missing == 0 {
        report.ok(
            "rights",
            "CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_SYS_NICE are there",
        );
    }
}

fn locked_memory(report: &mut Report<'_>, effective: u64) {
    let limits = report.host.text("proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|line| line.split_whitespace().next())
        .map(str::to_owned);
    let Some(soft) = soft else { return };
    let bytes: u64 = soft.parse().unwrap_or(u64::MAX);
    if bytes >= LOCKED_BYTES {
        report.ok("memory lock", format!("the limit is {soft}"));
    } else if effective >> IPC_LOCK & 1 == 1 {
        report.ok(
            "memory lock",
            format!("the limit of {soft} bytes is lifted by CAP_IPC_LOCK"),
        );
    } else {
        report.lack(
            !report.pci_addresses().is_empty(),
            "memory lock",
            format!("only {soft} bytes may be locked, too few for a device's memory"),
            "ulimit -l unlimited; in a systemd unit: LimitMEMLOCK=infinity",
        );
    }
}

/// EAL keeps its run-time files there: `/var/run/dpdk` for root.
fn runtime_folder(report: &mut Report<'_>, is_root: bool) {
    if !is_root {
        report.ok(
            "run-time",
            "EAL uses $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR or /tmp, not being root",
        );
        return;
    }
    let host = report.host;
    let folder = ["var/run/dpdk", "var/run", "run"]
        .into_iter()
        .find(|folder| host.exists(folder));
    let folder = folder.unwrap_or("var");
    let probe = host
        .path(folder)
        .join(format!(".tidegate-doctor-{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(_) => {
            // Nobody else knows its name; if it cannot be removed there is nothing more to do.
            let _ = fs::remove_file(&probe);
            report.ok("run-time", format!("/{folder} can be written to"));
        }
        Err(error) => report.lack(
            report.profile.is_some(),
            "run-time",
            format!("EAL cannot keep its run-time files in /var/run/dpdk: {error}"),
            "mkdir -p /var/run/dpdk && mount -o remount,rw /run; in a systemd unit: \
             RuntimeDirectory=tidegate dpdk",
        ),
    }
}

fn control_socket(report: &mut Report<'_>) {
    let Some(profile) = report.profile else {
        return;
    };
    let path = &profile.runtime.control_socket;
    let below_root = path.strip_prefix("/").unwrap_or(path);
    if UnixStream::connect(report.host.root.join(below_root)).is_ok() {
        report.warn(
            "run-time",
            format!("a daemon answers on {} already", path.display()),
            "stop it before you run this profile, or give each a `control_socket` of its own",
        );
    }
}
