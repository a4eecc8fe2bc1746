//! The tester beside real subjects, and before devices that cannot be tested.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tidegate-perf");

fn test(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(TOOL);
    command.arg("test").args(arguments);
    command.arg("--output").arg(folder);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    test(folder, arguments).output().unwrap()
}

fn report(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A figure of a subject; 0 where the report has none, as of what is rare.
fn figure(report: &Value, subject: &str, scenario: &str, metric: &str) -> f64 {
    let results = report["results"].as_array().unwrap();
    let is_it = |one: &&Value| {
        one["subject"] == subject && one["scenario"] == scenario && one["metric"] == metric
    };
    let found = results.iter().find(is_it);
    found.map_or(0.0, |one| one["value"].as_f64().unwrap())
}

/// Runs a test that must succeed, and gives its report.
fn measured(arguments: &[&str]) -> Value {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    report(folder.path())
}

#[test]
fn frames_come_through_a_forwarder_between_two_memifs() {
    let arguments = [
        "traffic",
        "--subject",
        "testpmd-mac",
        "--sizes",
        "64,imix",
        "--rate",
        "2000",
        "--duration",
        "500ms",
    ];
    let report = measured(&arguments);
    assert_eq!(report["label"], "functional, not line rate");
    for scenario in ["traffic.64", "traffic.imix"] {
        let of = |metric: &str| figure(&report, "testpmd-mac", scenario, metric);
        assert!(of("sent_frames") > 500.0, "{report:#}");
        assert_eq!(
            of("received_frames") + of("refused_frames"),
            of("sent_frames")
        );
        assert_eq!(
            (of("corrupted_frames"), of("duplicated_frames")),
            (0.0, 0.0)
        );
        assert!(of("latency_p50_ns") > 0.0);
    }
}

#[test]
fn frames_come_through_the_kernels_forwarding_between_two_veths() {
    let arguments = [
        "traffic",
        "--subject",
        "kernel",
        "--over",
        "veth",
        "--sizes",
        "128",
        "--rate",
        "2000",
        "--duration",
        "500ms",
    ];
    let report = measured(&arguments);
    // J3: what was sent is drawn.
    let series = report["series"].as_array().unwrap();
    let first = series.first().unwrap();
    assert_eq!(
        (&first["scenario"], &first["y"]),
        (&"traffic.128".into(), &"latency_us".into())
    );
    let of = |metric: &str| figure(&report, "kernel", "traffic.128", metric);
    assert!(of("sent_frames") > 500.0, "{report:#}");
    assert!(
        of("received_frames") > 0.99 * of("sent_frames"),
        "{report:#}"
    );
    assert_eq!(of("corrupted_frames"), 0.0);
}

#[test]
fn a_description_is_sent_with_its_streams_and_what_is_not_measured_is_not_lost() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/traffic/syn-flood.yaml");
    let file = file.to_str().unwrap();
    let arguments = [
        "traffic",
        "--subject",
        "testpmd-mac",
        "--traffic",
        file,
        "--rate",
        "5100",
        "--duration",
        "500ms",
    ];
    let report = measured(&arguments);
    let of = |metric: &str| figure(&report, "testpmd-mac", "traffic.syn-flood", metric);
    assert!(
        of("unsigned_frames") > 20.0 * of("sent_frames"),
        "{report:#}"
    );
    assert!(of("sent_frames") > 20.0);
    assert_eq!(
        of("received_frames") + of("refused_frames"),
        of("sent_frames")
    );
    assert!(of("foreign_frames") > 0.0, "the flood came through, too");
}

fn refused(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn devices_that_cannot_be_tested_are_told_before_anything_is_sent() {
    let _exclusive = lab::exclusive().unwrap();
    let absent = "net_memif0,role=client,id=0,socket=/tmp/tidegate-nobody.sock,socket-abstract=no";
    for (tx, rx, said) in [
        (
            "net_af_packet0,iface=nosuch0",
            "net_null0",
            "no network interface nosuch0",
        ),
        ("0000:ff:1f.7", "net_null0", "no PCI device 0000:ff:1f.7"),
        ("net_null0", "net_null0,size=64", "are the same device"),
        ("net_nosuch0", "net_null0", "net_nosuch0"),
        (absent, "net_null0,no-rx=1", "has no link after"),
    ] {
        let arguments = [
            "traffic",
            "--tx",
            tx,
            "--rx",
            rx,
            "--sizes",
            "64",
            "--link-wait",
            "100ms",
        ];
        let error = refused(&arguments);
        assert!(error.contains(said), "{tx} and {rx}: {error}");
        assert!(error.contains("; "), "no remedy: {error}");
    }
}

#[test]
fn a_loop_back_is_recognised() {
    let _exclusive = lab::exclusive().unwrap();
    // What is sent by such a device is received by it.
    let arguments = [
        "traffic",
        "--tx",
        "net_ring0",
        "--rx",
        "net_ring1",
        "--sizes",
        "64",
        "--rate",
        "1000",
        "--duration",
        "2s",
    ];
    let error = refused(&arguments);
    assert!(error.contains("came back on net_ring"), "{error}");
    assert!(error.contains("loop-back"), "{error}");
}

#[test]
fn an_interrupted_test_leaves_a_report_of_what_it_measured() {
    let _exclusive = lab::exclusive().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "traffic",
        "--tx",
        "net_null0,no-rx=1",
        "--rx",
        "net_null1,no-rx=1",
        "--sizes",
        "64",
        "--rate",
        "1000",
        "--duration",
        "60s",
    ];
    let mut child = test(folder.path(), &arguments).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
    let report = report(folder.path());
    assert_eq!(report["is_partial"], true);
    assert!(
        figure(&report, "subject", "traffic.64", "sent_frames") > 10.0,
        "{report:#}"
    );
}

#[test]
fn j4_interfaces_are_named_as_such_and_not_asked_for_more_than_they_carry() {
    let _exclusive = lab::exclusive().unwrap();
    let place = lab::Namespace::create("tester").unwrap();
    // A cable: what is sent by one pair's end comes by its other end.
    place
        .ip("link add a0 type veth peer name b0\nlink set a0 up\nlink set b0 up")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |sizes: &str| {
        let mut command = place.command(TOOL);
        command.args([
            "test",
            "traffic",
            "--tx",
            "a0",
            "--rx",
            "b0",
            "--one-way",
            "--sizes",
            sizes,
        ]);
        command.args(["--rate", "500", "--duration", "200ms", "--output"]);
        command.arg(folder.path()).output().unwrap()
    };
    let output = run("64");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let report = report(folder.path());
    let of = |metric: &str| figure(&report, "subject", "traffic.64", metric);
    assert!(of("sent_frames") > 50.0, "{report:#}");
    assert_eq!(of("received_frames"), of("sent_frames"), "{report:#}");
    // The second size alone is too large for b0, and that is told before anything is sent.
    place.ip("link set b0 mtu 1000").unwrap();
    let output = run("64,1280");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains("does not receive packets of 1262 bytes"),
        "{said}"
    );
}
