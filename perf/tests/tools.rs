//! The command line tools, on links of the lab.

use lab::address::SERVER;
use lab::filter::Interest;
use lab::observer::Observer;
use lab::server::Site;
use lab::{Forwarder, Lab, Namespace, Options};
use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tidegate-perf");

#[test]
fn flood_finds_its_first_hop_and_reports_what_the_server_gets() {
    let _exclusive = lab::exclusive().unwrap();
    let site = Site::write(1 << 20).unwrap();
    let lab = Lab::build(Options::default(), Forwarder::Kernel, &site).unwrap();
    let inside = Observer::start(&lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    let ipv4 = format!("{}:80", SERVER[0]);
    let ipv6 = format!("[{}]:80", SERVER[1]);
    let arguments = [
        "flood",
        "--interface",
        "wan0",
        "--rate",
        "4000",
        "--seconds",
        "1",
    ];
    let destinations = ["--destination", &ipv4, "--destination", &ipv6];
    let text = lab
        .clients
        .run(TOOL, &[&arguments[..], &destinations].concat())
        .unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let inside = inside.stop().unwrap();
    assert_eq!(report["syns"], inside.spoofed_syns);
    assert_eq!(report["acks"], inside.spoofed_others);
    assert!(
        inside.spoofed_syns > 1500 && inside.spoofed_others > 1500,
        "{inside:?}"
    );
}

#[test]
fn flood_without_a_bound_or_an_interface_is_refused() {
    let _exclusive = lab::exclusive().unwrap();
    let namespace = Namespace::create("tools").unwrap();
    let run = |rate: &str, mac: &str| {
        let to = [
            "--destination",
            "10.0.0.10:80",
            "--interface",
            "none0",
            "--seconds",
            "1",
        ];
        let arguments = ["flood", "--rate", rate, "--gateway-mac", mac];
        namespace.run(TOOL, &[&arguments[..], &to].concat())
    };
    let error = run("1000", "02:00:00:00:00:01").unwrap_err().to_string();
    assert!(
        error.contains("none0") && error.contains("no such interface"),
        "{error}"
    );
    let error = run("99000000", "02:00:00:00:00:01")
        .unwrap_err()
        .to_string();
    assert!(error.contains("--rate"), "{error}");
}

#[test]
fn link_carries_frames_with_their_delay_and_ends_by_itself() {
    let _exclusive = lab::exclusive().unwrap();
    let [left, middle, right] =
        ["left", "middle", "right"].map(|role| Namespace::create(role).unwrap());
    middle
        .sysctl(&["net.ipv6.conf.default.disable_ipv6=1"])
        .unwrap();
    for (end, address, peer) in [
        (&left, "192.0.2.1", "left0"),
        (&right, "192.0.2.2", "right0"),
    ] {
        let name = end.name();
        middle
            .ip(&format!(
                "link add {peer} type veth peer name eth0 netns {name}\nlink set {peer} up"
            ))
            .unwrap();
        end.ip(&format!("addr add {address}/24 dev eth0\nlink set eth0 up"))
            .unwrap();
    }
    let mut tool = middle.command(TOOL);
    tool.args([
        "link",
        "--a",
        "left0",
        "--b",
        "right0",
        "--delay",
        "50ms",
        "--seconds",
        "4",
    ]);
    let tool = tool.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let text = left
        .run("ping", &["-c5", "-i0.3", "-W3", "192.0.2.2"])
        .unwrap();
    let fastest = text
        .split_once("min/avg/max/mdev = ")
        .and_then(|(_, rest)| rest.split('/').next()?.parse::<f64>().ok())
        .unwrap();
    assert!((100.0..150.0).contains(&fastest), "{text}");
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Five echoes and the request for the hardware address.
    assert!(
        report["forward"]["delivered"].as_u64().unwrap() >= 6,
        "{report}"
    );
    assert!(
        report["backward"]["delivered"].as_u64().unwrap() >= 6,
        "{report}"
    );
}
