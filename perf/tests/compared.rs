//! `tidegate-perf test` with subjects that it starts itself, as a user calls it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tidegate-perf");

fn report(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The figures of a metric, by subject.
fn figures<'a>(report: &'a Value, metric: &str) -> Vec<(&'a str, f64)> {
    let rows = report["results"].as_array().unwrap().iter();
    rows.filter(|row| row["metric"] == metric)
        .map(|row| {
            (
                row["subject"].as_str().unwrap(),
                row["value"].as_f64().unwrap(),
            )
        })
        .collect()
}

fn text_of(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

/// What a process has left of name spaces and folders.
fn left_by(pid: u32) -> Vec<String> {
    let places = [
        (
            Path::new("/run/netns").to_owned(),
            format!("tidegate-{pid}-"),
        ),
        (std::env::temp_dir(), format!("tidegate-lab-{pid}-")),
    ];
    let mut left = Vec::new();
    for (folder, prefix) in places {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        left.extend(names.filter(|name| name.starts_with(&prefix)));
    }
    left
}

#[test]
fn subjects_carry_the_same_traffic_in_turn_and_each_is_in_the_report() {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tool = Command::new(TOOL)
        .args([
            "test",
            "traffic",
            "--over",
            "memif",
            "--subject",
            "tidegate,testpmd-mac",
        ])
        .args([
            "--sizes",
            "128",
            "--rate",
            "2000",
            "--duration",
            "300ms",
            "--output",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(tool.status.success(), "{}", text_of(&tool));
    let report = report(folder.path());
    let received = figures(&report, "received_frames");
    let subjects: Vec<&str> = received.iter().map(|figure| figure.0).collect();
    assert_eq!(subjects, ["tidegate", "testpmd-mac"], "{report:#}");
    assert!(received.iter().all(|figure| figure.1 > 0.0), "{received:?}");
    assert!(
        report["subjects"]["testpmd-mac"]
            .as_str()
            .unwrap()
            .contains("DPDK")
    );
    assert_eq!(report["label"], "functional, not line rate");
}

#[test]
fn who_is_not_installed_is_skipped_aloud_and_the_others_are_measured() {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // In a mount name space of its own, testpmd is no file.
    let hidden = "for place in /usr/bin/dpdk-testpmd /usr/local/bin/dpdk-testpmd; do \
                  if [ -e $place ]; then mount --bind /dev/null $place; fi; done; exec \"$@\"";
    let tool = Command::new("unshare")
        .args(["--mount", "sh", "-ec", hidden, "sh", TOOL])
        .args([
            "test",
            "cost",
            "--over",
            "memif",
            "--subject",
            "testpmd-mac,tidegate",
        ])
        .args([
            "--sizes",
            "64",
            "--rate",
            "2000",
            "--duration",
            "200ms",
            "--rounds",
            "1",
        ])
        .arg("--output")
        .arg(folder.path())
        .output()
        .unwrap();
    let text = text_of(&tool);
    assert!(tool.status.success(), "{text}");
    let sentence = "testpmd-mac is skipped: there is no dpdk-testpmd here; install it: \
                    apt-get install dpdk-dev";
    assert!(text.contains(sentence), "{text}");
    let report = report(folder.path());
    let notes = report["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note == sentence), "{notes:?}");
    let costs = figures(&report, "ns_per_packet");
    assert!(
        matches!(costs[..], [("tidegate", cost)] if cost > 0.0),
        "{costs:?}"
    );
}

#[test]
fn a_flood_is_met_by_each_guard_beside_the_bare_path() {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tool = Command::new(TOOL)
        .args([
            "test",
            "guard-flood",
            "--over",
            "veth",
            "--floods",
            "2000",
            "--per-s",
            "50",
        ])
        .args([
            "--subject",
            "tidegate,synproxy,haproxy,bare",
            "--duration",
            "500ms",
            "--output",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(tool.status.success(), "{}", text_of(&tool));
    let report = report(folder.path());
    let arrived = figures(&report, "flood_syns_arrived_at_2000_per_s");
    let notes = report["notes"].as_array().unwrap().iter();
    let is_skipped = |note: &&Value| note.as_str().unwrap().contains(" is skipped: ");
    let skipped = notes.filter(is_skipped).count();
    assert_eq!(arrived.len() + skipped, 4, "{report:#}");
    for (subject, syns) in arrived {
        assert_eq!(
            syns > 0.0,
            subject == "bare",
            "{syns} SYNs came through {subject}"
        );
    }
    let success = figures(&report, "success_ratio_at_2000_per_s");
    assert!(success.iter().all(|(_, ratio)| *ratio > 0.5), "{success:?}");
}

#[test]
fn each_attack_is_sent_met_and_compared_with_none_and_with_harmless_packets() {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tool = Command::new(TOOL)
        .args(["test", "attacks", "--subject", "tidegate", "--over", "veth"])
        .args(["--rate", "3000", "--per-s", "50", "--rounds", "1"])
        .args(["--duration", "100ms", "--output"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(tool.status.success(), "{}", text_of(&tool));
    let report = report(folder.path());
    let row = |attack: &str, metric: &str| {
        let scenario = format!("attacks.{attack}");
        let mut rows = report["results"].as_array().unwrap().iter();
        let row = rows.find(|row| row["scenario"] == *scenario && row["metric"] == metric);
        row.unwrap_or_else(|| panic!("{scenario} {metric}: {report:#}"))
    };
    for (attack, counted) in [
        ("harmless", "forwarded"),
        ("syns", "cookie_sent"),
        ("forged_acks", "cookie_invalid"),
        ("scan", "forwarded"),
        ("fragments", "of "),
        ("icmp_errors", "icmp_unmatched"),
        ("expired", "ttl_expired"),
    ] {
        let sent = row(attack, "sent_per_s");
        assert!(sent["value"].as_f64().unwrap() > 0.0);
        assert!(
            sent["notes"][0].as_str().unwrap().contains(counted),
            "{sent}"
        );
    }
    for attack in [
        "syns",
        "scan",
        "fragments",
        "icmp_errors",
        "expired",
        "idle",
    ] {
        let success = row(attack, "success_ratio")["value"].as_f64().unwrap();
        assert!(success > 0.5, "{attack}: {success}");
        let first_byte = row(attack, "first_byte_p99_us");
        assert_eq!(first_byte["goal"], 2.0);
        assert_eq!(
            first_byte["floor"],
            row("none", "first_byte_p99_us")["value"]
        );
    }
    assert_eq!(row("idle", "control_answers_ratio")["value"], 1.0);
    assert_eq!(row("idle", "metrics_answers_ratio")["value"], 1.0);
}

#[test]
fn an_interrupted_run_leaves_a_partial_report_and_nothing_else() {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut tool = Command::new(TOOL)
        .args([
            "test",
            "traffic",
            "--over",
            "memif",
            "--subject",
            "tidegate",
        ])
        .args([
            "--sizes",
            "64",
            "--rate",
            "1000",
            "--duration",
            "60s",
            "--output",
        ])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = tool.id();
    let mut told = BufReader::new(tool.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(line.contains("tidegate"), "{line}");
    assert!(!left_by(pid).is_empty());
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGINT).unwrap();
    let status = tool.wait().unwrap();
    told.read_to_string(&mut line).unwrap();
    let report = report(folder.path());
    assert_eq!(report["is_partial"], true, "{status}: {line}");
    assert_eq!(left_by(pid), Vec::<String>::new());
}

#[test]
fn who_cannot_do_what_is_measured_is_refused_before_anybody_starts() {
    let folder = tempfile::tempdir().unwrap();
    let tool = Command::new(TOOL)
        .args([
            "test",
            "ndr",
            "--over",
            "veth",
            "--subject",
            "tidegate,testpmd-mac",
            "--output",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!tool.status.success());
    let text = text_of(&tool);
    assert!(
        text.contains("testpmd-mac cannot stand over veth"),
        "{text}"
    );
    assert!(text.contains("--over memif"), "{text}");
}
