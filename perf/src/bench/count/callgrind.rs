//! Runs the program itself under callgrind, and reads what that has counted.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use lab::scratch::Scratch;

use super::record::{Counts, Toolchain};

/// The C library's string functions differ with the processor: all but the plainest are forbidden.
const PLAIN_LIBRARY: &str =
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM,-SSSE3,-SSE4_1,-SSE4_2";

/// Why a dump was written, in its own words.
const AT_THE_END_OF_A_SCENARIO: &str = "desc: Trigger: --dump-after=";

/// Scenarios, in their order, with how many packets or sessions each is counted for.
type CountedFor = Vec<(String, u64)>;

/// What the scenarios cost, and by which toolchain.
pub(super) fn count() -> Result<(Toolchain, Counts), Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let dumps = scratch.path().join("dump");
    let program = std::env::current_exe()?;
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", dumps.display()))
        .args([
            "--toggle-collect=*bench*turns*",
            "--dump-after=*scenario_is_over*",
        ])
        .arg(&program)
        .args(["count", "--inside"])
        .env("GLIBC_TUNABLES", PLAIN_LIBRARY)
        .output();
    let output = match ran {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("valgrind was not found: as root, apt-get install valgrind".into());
        }
        Err(error) => return Err(format!("valgrind cannot be run: {error}").into()),
    };
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let end: Vec<_> = told.lines().rev().take(20).collect();
        let end: Vec<_> = end.into_iter().rev().collect();
        return Err(format!("the count under valgrind failed:\n{}", end.join("\n")).into());
    }
    let (mut toolchain, counted_for) = told(&String::from_utf8_lossy(&output.stdout))?;
    toolchain.valgrind = version()?;
    let totals = totals(scratch.path())?;
    if totals.len() != counted_for.len() {
        return Err(format!(
            "callgrind told of {} scenarios of {}: are this program's functions named in it \
             (debug = \"line-tables-only\", not stripped)?",
            totals.len(),
            counted_for.len()
        )
        .into());
    }
    let counts = counted_for.into_iter().zip(totals);
    let counts = counts.map(|((name, packets), total)| (name, total as f64 / packets as f64));
    Ok((toolchain, Counts::new(counts)))
}

/// What the program has said: its toolchain, then scenarios with what they are counted for.
fn told(text: &str) -> Result<(Toolchain, CountedFor), Box<dyn Error>> {
    let mut lines = text.lines();
    let toolchain = serde_json::from_str(lines.next().unwrap_or_default())?;
    let mut scenarios = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, packets) = line
            .split_once(' ')
            .ok_or("a scenario without its packets")?;
        scenarios.push((name.to_owned(), packets.parse()?));
    }
    Ok((toolchain, scenarios))
}

/// The instructions of each dump that a scenario's end has caused, in their order.
fn totals(folder: &Path) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.extension().and_then(|number| number.to_str());
        let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(total) = total(&fs::read_to_string(&path)?) {
            dumps.push((number, total));
        }
    }
    dumps.sort_unstable();
    Ok(dumps.into_iter().map(|(_, total)| total).collect())
}

/// The instructions of one dump, if a scenario's end has caused it.
fn total(dump: &str) -> Option<u64> {
    let mut lines = dump.lines();
    lines.find(|line| line.starts_with(AT_THE_END_OF_A_SCENARIO))?;
    let total = lines.find_map(|line| line.strip_prefix("summary: "))?;
    total.trim().parse().ok()
}

fn version() -> Result<String, Box<dyn Error>> {
    let output = Command::new("valgrind").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_counts_when_a_scenario_caused_it() {
        let dump = |why: &str| {
            format!(
                "version: 1\npart: 1\ndesc: Trigger: {why}\n\nevents: Ir\nsummary: 123456\n\nfn=(1)\n1 2\n"
            )
        };
        assert_eq!(
            total(&dump("--dump-after=x::scenario_is_over")),
            Some(123_456)
        );
        assert_eq!(total(&dump("Program termination")), None);
        assert_eq!(total("desc: Trigger: --dump-after=x\n"), None);
    }

    #[test]
    fn the_program_says_for_how_many_packets_it_was() {
        let toolchain = serde_json::to_string(&Toolchain::of_this()).unwrap();
        let (_, scenarios) =
            told(&format!("{toolchain}\nloop 4096\nguard.setup 1024\n\n")).unwrap();
        assert_eq!(
            scenarios,
            [("loop".into(), 4096), ("guard.setup".into(), 1024)]
        );
        assert!(told("").is_err());
        assert!(told(&format!("{toolchain}\nloop\n")).is_err());
    }
}
