//! What a profile needs to know of the machine: its cores.

use std::fs;
use std::path::Path;

/// The machine's cores, by the kernel's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Those that are online and that this process may use, ascending.
    pub cores: Vec<u32>,
    /// Those of them that the kernel schedules nothing else on (`isolcpus`), ascending.
    pub isolated_cores: Vec<u32>,
}

impl Machine {
    /// Reads the machine's state below `root`, which is `/` except in tests.
    ///
    /// What cannot be read counts as a machine with one core.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let list = |path: &str| {
            fs::read_to_string(root.join(path))
                .ok()
                .and_then(|text| parse_core_list(&text))
        };
        let mut cores = list("sys/devices/system/cpu/online").unwrap_or_else(|| vec![0]);
        let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .and_then(parse_core_list);
        let mut isolated_cores = list("sys/devices/system/cpu/isolated").unwrap_or_default();
        if let Some(allowed) = allowed {
            // `isolcpus` takes its cores out of every mask that nobody chose, and lets a process
            // bind itself to them all the same.
            let is_chosen = isolated_cores.iter().any(|core| allowed.contains(core));
            cores.retain(|core| {
                allowed.contains(core) || (!is_chosen && isolated_cores.contains(core))
            });
        }
        isolated_cores.retain(|core| cores.contains(core));
        Self {
            cores,
            isolated_cores,
        }
    }
}

/// Reads the kernel's form of a list of cores: `0-3,8,10-11`.
#[must_use]
pub fn parse_core_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 1 << 16;
    let mut cores = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists() {
        assert_eq!(parse_core_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_core_list("\n"), Some(vec![]));
        assert_eq!(parse_core_list("3-1"), None);
        assert_eq!(parse_core_list("0-4294967295"), None);
        assert_eq!(parse_core_list("x"), None);
    }

    fn machine(isolated: &str, allowed: &str) -> Machine {
        let root = tempfile::tempdir().unwrap();
        let cpu = root.path().join("sys/devices/system/cpu");
        fs::create_dir_all(&cpu).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(cpu.join("online"), "0-7\n").unwrap();
        fs::write(cpu.join("isolated"), format!("{isolated}\n")).unwrap();
        let status = format!("Name:\ttidegate\nCpus_allowed_list:\t{allowed}\n");
        fs::write(root.path().join("proc/self/status"), status).unwrap();
        Machine::read(root.path())
    }

    #[test]
    fn cores_are_those_online_and_allowed() {
        let machine = machine("4-7", "0-5");
        assert_eq!(machine.cores, [0, 1, 2, 3, 4, 5]);
        assert_eq!(machine.isolated_cores, [4, 5]);
    }

    #[test]
    fn isolated_cores_may_be_used_though_the_kernel_gives_them_to_nobody() {
        let machine = machine("4-6,9", "0-3,7");
        assert_eq!(machine.cores, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(machine.isolated_cores, [4, 5, 6]);
    }
}
