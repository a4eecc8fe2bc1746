//! What was measured on, and by what.

use std::fs;
use std::path::Path;
use std::process::Command;

use schemars::JsonSchema;
use serde::Serialize;

/// Said of what could not be found out.
const UNKNOWN: &str = "unknown";

/// The machine and the programs of a run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Machine {
    /// Names this machine in the history; says nothing else of it.
    pub id: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that the system has.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The hypervisor's kind where the processor knows that there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
}

impl Machine {
    /// Asks the system.
    #[must_use]
    pub(super) fn of_this() -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let field = |name: &str| {
            cpu_info.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
        };
        let is_virtual = field("flags")
            .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
        let vendor = read("/sys/class/dmi/id/sys_vendor");
        Self {
            id: machine_id(),
            cpu: field("model name").unwrap_or_else(|| UNKNOWN.to_owned()),
            processors: processors(&cpu_info),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            kernel: known(read("/proc/sys/kernel/osrelease")),
            hypervisor: is_virtual.then(|| known(vendor)),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn known(text: String) -> String {
    match text.trim() {
        "" => UNKNOWN.to_owned(),
        text => text.to_owned(),
    }
}

/// A digest of the system's own identity: that one is not to be shown to others (machine-id(5)).
fn machine_id() -> String {
    use std::hash::Hasher as _;
    let identity = match read("/etc/machine-id").trim() {
        "" => read("/proc/sys/kernel/hostname"),
        id => id.to_owned(),
    };
    let mut hasher = siphasher::sip::SipHasher24::new_with_key(b"tidegate-perf id");
    hasher.write(identity.trim().as_bytes());
    format!("{:016x}", hasher.finish())
}

/// Those of the machine, whichever of them this process may use.
fn processors(cpu_info: &str) -> usize {
    let is_one = |line: &&str| {
        line.split(':')
            .next()
            .is_some_and(|key| key.trim() == "processor")
    };
    cpu_info.lines().filter(is_one).count().max(1)
}

fn memory_bytes(info: &str) -> u64 {
    let kibibytes = info.lines().find_map(|line| {
        let rest = line.strip_prefix("MemTotal:")?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0) * 1024
}

/// The commit that this program is of: as told when it was built (`TIDEGATE_COMMIT`), else as its
/// sources stand now, marked where they differ from the commit.
#[must_use]
pub(super) fn commit() -> String {
    if let Some(commit) = option_env!("TIDEGATE_COMMIT") {
        return commit.to_owned();
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let described = Command::new("git")
        .arg("-C")
        .arg(sources)
        .args([
            "describe",
            "--always",
            "--abbrev=12",
            "--dirty=-modified",
            "--exclude=*",
        ])
        .output();
    match described {
        Ok(output) if output.status.success() => {
            known(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        _ => UNKNOWN.to_owned(),
    }
}

/// The command line of this process.
#[must_use]
pub(super) fn command() -> Vec<String> {
    let mut words = std::env::args();
    let program = words.next().map(|path| {
        let name = Path::new(&path).file_name();
        name.map_or(path.clone(), |name| name.to_string_lossy().into_owned())
    });
    program.into_iter().chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::of_this();
        assert!(machine.processors > 0 && machine.memory_bytes > 1 << 20);
        assert_ne!(machine.kernel, UNKNOWN);
        assert_eq!(machine.id.len(), 16);
        assert!(!read("/etc/machine-id").contains(&machine.id));
    }

    #[test]
    fn processors_are_those_of_the_machine() {
        let two = "processor\t: 0\nmodel name\t: a processor\n\nprocessor\t: 1\n";
        assert_eq!([processors(two), processors("")], [2, 1]);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            memory_bytes("MemTotal:       24 kB\nMemFree: 1 kB\n"),
            24 * 1024
        );
        assert_eq!(memory_bytes(""), 0);
    }
}
