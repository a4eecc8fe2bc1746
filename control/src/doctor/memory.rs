//! Huge pages.

use super::{Level, Report};
use crate::profile::HugePages;

const FOLDER: &str = "sys/kernel/mm/hugepages";

/// Huge pages of one size.
struct Pages {
    kibibytes: u64,
    total: u64,
    free: u64,
}

impl Pages {
    fn free_mib(&self) -> u64 {
        self.free * self.kibibytes / 1024
    }
}

fn read(report: &Report<'_>) -> Vec<Pages> {
    let host = report.host;
    let sizes = host.names(FOLDER).into_iter();
    sizes
        .filter_map(|name| {
            let kibibytes = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let count = |file: &str| host.number(&format!("{FOLDER}/{name}/{file}")).unwrap_or(0);
            Some(Pages {
                kibibytes,
                total: count("nr_hugepages"),
                free: count("free_hugepages"),
            })
        })
        .collect()
}

pub(super) fn examine(report: &mut Report<'_>) {
    let pages = read(report);
    let free_mib: u64 = pages.iter().map(Pages::free_mib).sum();
    let wanted = report.profile.map(|profile| profile.runtime.huge_pages);
    let memory_mib = report
        .profile
        .and_then(|profile| profile.runtime.memory_mib);
    if wanted == Some(HugePages::Off) {
        report.ok("huge pages", "the profile uses none (`huge_pages: off`)");
    } else {
        counts(report, &pages);
        let needed = wanted == Some(HugePages::On);
        let wanted_mib = memory_mib.map_or(1, u64::from);
        if free_mib < wanted_mib {
            let what = if free_mib == 0 {
                "none are free, so packet memory is of ordinary pages and each packet costs more"
                    .to_owned()
            } else {
                format!("{free_mib} MiB are free, and the profile asks for {wanted_mib} MiB")
            };
            let pages = wanted_mib.max(1024).div_ceil(2);
            report.lack(
                needed,
                "huge pages",
                what,
                format!("sysctl -w vm.nr_hugepages={pages}"),
            );
        }
        mounted(report, needed && free_mib > 0);
    }
    explain_eal(report, &pages);
}

fn counts(report: &mut Report<'_>, pages: &[Pages]) {
    for page in pages.iter().filter(|page| page.total > 0) {
        let size = if page.kibibytes >= 1 << 20 {
            format!("{} GB", page.kibibytes >> 20)
        } else {
            format!("{} MB", page.kibibytes >> 10)
        };
        report.ok(
            "huge pages",
            format!("{} of {} pages of {size} are free", page.free, page.total),
        );
    }
}

fn mounted(report: &mut Report<'_>, needed: bool) {
    let mounts = report.host.text("proc/mounts").unwrap_or_default();
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next() == Some("hugetlbfs")).then_some(place)
    });
    match mount {
        Some(place) => report.ok("huge pages", format!("hugetlbfs is mounted on {place}")),
        None => {
            // `--in-memory` works without a mount, so this never fails on its own.
            let level = if needed { Level::Warn } else { Level::Ok };
            let cure = "mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages";
            report.say(
                level,
                "huge pages",
                "hugetlbfs is not mounted; only other DPDK programs need it".into(),
                needed.then(|| cure.into()),
            );
        }
    }
}

/// The line that everyone takes for the cause of every failure.
fn explain_eal(report: &mut Report<'_>, pages: &[Pages]) {
    if !pages
        .iter()
        .any(|page| page.kibibytes >= 1 << 20 && page.free > 0)
    {
        report.ok(
            "huge pages",
            "EAL may print `No free 1048576 kB hugepages`: it means only that there are no pages \
             of 1 GB, it is harmless, and it is never the cause of a failure",
        );
    }
}
