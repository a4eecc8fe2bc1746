//! The DPDK library, its drivers, and the processor's instructions.

use super::Report;
use crate::profile::Device;

/// Where distributions put the library's drivers.
const LIBRARY_FOLDERS: [&str; 4] = ["usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64"];

pub(super) fn examine(report: &mut Report<'_>) {
    let version = report.host.dpdk_version.clone();
    report.ok("dpdk", format!("the library is {version}"));
    drivers(report);
    instructions(report);
}

/// Folders of drivers: `/usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0` and its like.
fn driver_folders(report: &Report<'_>) -> Vec<String> {
    let mut folders = Vec::new();
    for library in LIBRARY_FOLDERS {
        let inner = report.host.names(library).into_iter();
        let parents = inner
            .map(|name| format!("{library}/{name}"))
            .chain([library.to_owned()]);
        for parent in parents {
            let dpdk = format!("{parent}/dpdk");
            let names = report.host.names(&dpdk).into_iter();
            let drivers = names.filter(|name| name.starts_with("pmds-"));
            folders.extend(drivers.map(|name| format!("{dpdk}/{name}")));
        }
    }
    folders.sort();
    folders.dedup();
    folders
}

/// The driver's file for a virtual device: `net_af_packet0,iface=…` is `net_af_packet`.
fn driver_of(device: &Device) -> Option<String> {
    let name = device.arguments.split(',').next()?;
    if !(name.starts_with("net_") || name.starts_with("eth_")) {
        return None;
    }
    let name = name.replacen("eth_", "net_", 1);
    Some(
        match name.trim_end_matches(|sign: char| sign.is_ascii_digit()) {
            "net_tun" => "net_tap".into(),
            "net_virtio_user" => "net_virtio".into(),
            "net_bonding" => "net_bond".into(),
            other => other.to_owned(),
        },
    )
}

fn drivers(report: &mut Report<'_>) {
    let folders = driver_folders(report);
    let cure = "apt-get install libdpdk-dev";
    let mut files: Vec<String> = Vec::new();
    for folder in &folders {
        files.extend(report.host.names(folder));
    }
    let drivers = files
        .iter()
        .filter(|file| file.starts_with("librte_net_") && file.ends_with(".so"));
    match (folders.as_slice(), drivers.count()) {
        (_, 0) => report.lack(
            report.profile.is_some(),
            "drivers",
            "no folder of DPDK drivers (dpdk/pmds-*) was found, so no port can be opened",
            cure,
        ),
        ([.., folder], count) => {
            report.ok("drivers", format!("{count} network drivers in /{folder}"));
        }
        ([], _) => {}
    }
    if files.is_empty() {
        return;
    }
    for device in report.devices() {
        let Some(driver) = driver_of(device) else {
            continue;
        };
        let file = format!("librte_{driver}.so");
        if !files.iter().any(|name| name.starts_with(&file)) {
            let what = format!(
                "there is no driver for `{}`: {file} is missing",
                device.arguments
            );
            report.fail("drivers", what, cure);
        }
    }
}

fn instructions(report: &mut Report<'_>) {
    let text = report.host.text("proc/cpuinfo").unwrap_or_default();
    let flags = text
        .lines()
        .find_map(|line| {
            let (key, value) = line.split_once(':')?;
            ["flags", "Features"].contains(&key.trim()).then_some(value)
        })
        .unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    if !has("aes") {
        report.warn(
            "processor",
            "it has no AES instructions, or hides them: ciphers run several times slower",
            "in a virtual machine, hand the host's processor through (`-cpu host`)",
        );
    } else if flags.contains("sse") && !has("avx2") {
        report.warn(
            "processor",
            "it has AES and no AVX2: drivers take their slower vector paths",
            "in a virtual machine, hand the host's processor through (`-cpu host`)",
        );
    } else {
        report.ok(
            "processor",
            "it has the AES and vector instructions that DPDK uses",
        );
    }
    if flags.contains("sse") && !(has("constant_tsc") && has("nonstop_tsc")) {
        report.warn(
            "processor",
            "its time-stamp counter may change speed or stop, and timers with it",
            "see `dmesg | grep -i tsc`; in a virtual machine, enable the invariant TSC",
        );
    }
}
