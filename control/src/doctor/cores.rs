//! Cores: online, isolated, shared with a sibling thread, at full speed.

use super::Report;
use crate::profile::{Machine, Poll};

fn list(cores: &[u32]) -> String {
    cores
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn examine(report: &mut Report<'_>, machine: &Machine) {
    let isolated = if machine.isolated_cores.is_empty() {
        "none isolated".to_owned()
    } else {
        format!("{} isolated", list(&machine.isolated_cores))
    };
    report.ok(
        "cores",
        format!("{} may be used, {isolated}", list(&machine.cores)),
    );
    let Some(profile) = report.profile else {
        return;
    };
    let workers = &profile.runtime.workers;
    let absent: Vec<u32> = workers
        .iter()
        .copied()
        .filter(|core| !machine.cores.contains(core))
        .collect();
    if !absent.is_empty() {
        report.fail(
            "cores",
            format!(
                "the profile's workers want core {}, which is not there",
                list(&absent)
            ),
            format!(
                "write `workers: [{}]`, or `workers: auto`",
                list(&machine.cores)
            ),
        );
    }
    if workers.contains(&profile.runtime.control_core) {
        report.warn(
            "cores",
            "the only core is shared by a worker and everything else",
            "give the machine a second core, and `poll: adaptive` to the profile",
        );
    }
    not_isolated(report, machine);
    siblings(report, workers);
    governors(report, workers);
}

/// What else runs on a worker's core takes its time away; it matters most where it never sleeps.
fn not_isolated(report: &mut Report<'_>, machine: &Machine) {
    let Some(profile) = report.profile else {
        return;
    };
    let runtime = &profile.runtime;
    let shared: Vec<u32> = runtime
        .workers
        .iter()
        .copied()
        .filter(|core| !machine.isolated_cores.contains(core))
        .collect();
    if shared.is_empty() {
        report.ok("cores", "every worker's core is isolated");
        return;
    }
    let cores = list(&shared);
    if runtime.poll == Poll::Busy || !report.pci_addresses().is_empty() {
        report.warn(
            "cores",
            format!("the kernel runs other things on worker core {cores}: expect jitter"),
            format!(
                "add `isolcpus={cores} nohz_full={cores} rcu_nocbs={cores}` to the kernel's \
                 command line, and start again"
            ),
        );
    }
}

/// Two workers on one physical core have half of it each.
fn siblings(report: &mut Report<'_>, workers: &[u32]) {
    for (index, core) in workers.iter().enumerate() {
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let siblings = report
            .host
            .text(&path)
            .as_deref()
            .and_then(crate::profile::parse_core_list);
        let twin = siblings
            .unwrap_or_default()
            .into_iter()
            .find(|twin| twin != core && workers[index..].contains(twin));
        if let Some(twin) = twin {
            report.warn(
                "cores",
                format!("workers {core} and {twin} are two threads of one physical core"),
                "write one thread of each core: see `lscpu -e`",
            );
        }
    }
}

fn governors(report: &mut Report<'_>, workers: &[u32]) {
    let slow: Vec<u32> = workers
        .iter()
        .copied()
        .filter(|core| {
            let path = format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
            report
                .host
                .text(&path)
                .is_some_and(|governor| governor != "performance")
        })
        .collect();
    if !slow.is_empty() {
        report.warn(
            "cores",
            format!(
                "core {} changes its clock rate by load, which a poller hides",
                list(&slow)
            ),
            format!("cpupower -c {} frequency-set -g performance", list(&slow)),
        );
    }
}
