//! The link emulator does what it was told: measured by the kernel's own ping and by iperf3, between
//! two name spaces with the emulator in a third.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lab::Namespace;
use lab::scratch::Scratch;
use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tidegate-perf");
const LEFT: &str = "192.0.2.1";
const RIGHT: &str = "192.0.2.2";
/// How far what is measured may be from what was told.
const TOLERANCE: f64 = 0.02;

/// Two hosts with a link between them.
struct Wire {
    left: Namespace,
    middle: Namespace,
    right: Namespace,
}

/// A link that is emulated.
struct Link(Child);

impl Wire {
    fn new() -> Self {
        let [left, middle, right] =
            ["left", "middle", "right"].map(|role| Namespace::create(role).unwrap());
        middle
            .sysctl(&["net.ipv6.conf.default.disable_ipv6=1"])
            .unwrap();
        for (end, address, peer) in [(&left, LEFT, "left0"), (&right, RIGHT, "right0")] {
            let name = end.name();
            end.sysctl(&["net.ipv6.conf.default.disable_ipv6=1"])
                .unwrap();
            middle
                .ip(&format!(
                    "link add {peer} type veth peer name eth0 netns {name}\nlink set {peer} up"
                ))
                .unwrap();
            end.ip(&format!(
                "addr add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up"
            ))
            .unwrap();
            // Frames as a cable has them: no longer than the MTU, their checksums finished.
            end.run(
                "ethtool",
                &[
                    "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off",
                ],
            )
            .unwrap();
        }
        Self {
            left,
            middle,
            right,
        }
    }

    /// Starts a link and waits until it carries.
    fn link(&self, arguments: &[&str]) -> Link {
        // A link that waits for a processor is late: it goes before other processes.
        let mut tool = self.middle.command("nice");
        tool.args(["-n", "-15", TOOL, "link", "--a", "left0", "--b", "right0"]);
        tool.args(arguments).stdout(Stdio::piped());
        let link = Link(tool.spawn().unwrap());
        let began = Instant::now();
        let ping = ["-c1", "-W2", RIGHT];
        while self.left.run("ping", &ping).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "no link");
        }
        link
    }

    /// What iperf3 measures from left to right, or the other way with `-R`.
    fn iperf(&self, arguments: &[&str]) -> Value {
        // Whoever measures goes before other processes, as the link does.
        let mut server = self.right.command("nice");
        let mut server = server
            .args(["-n", "-15", "iperf3", "-s", "-1", "-J", "-B", RIGHT])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let listens = || {
            let listening = self.right.run("ss", &["-Hltn", "sport", "=", ":5201"]);
            listening.is_ok_and(|text| !text.trim().is_empty())
        };
        while !listens() {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "iperf3 does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = [&["-n", "-15", "iperf3", "-c", RIGHT, "-J"], arguments].concat();
        let text = self.left.run("nice", &told);
        let _ = server.kill();
        let _ = server.wait();
        serde_json::from_str(&text.unwrap()).unwrap()
    }
}

impl Link {
    /// Ends it by the signal of Ctrl-C; what it has done.
    fn stop(mut self) -> Value {
        let id = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
        let mut text = String::new();
        let mut out = self.0.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["interrupted"], true);
        report
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn number(report: &Value, pointer: &str) -> f64 {
    let number = report.pointer(pointer).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{pointer} of {report}"))
}

#[track_caller]
fn assert_near(measured: f64, told: f64, tolerance: f64) {
    let off = (measured / told - 1.0).abs();
    assert!(
        off <= tolerance,
        "{measured}, not {told}: {:.2} % off",
        off * 100.0
    );
}

/// The shortest time of so many pings, in milliseconds: the others wait for processors, too.
fn ping_ms(from: &Namespace, to: &str, count: &str) -> f64 {
    let text = from
        .run("ping", &["-c", count, "-i0.05", "-W3", to])
        .unwrap();
    let times = text.lines().filter_map(|line| line.split_once("time="));
    let times = times.filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let shortest = times.fold(f64::INFINITY, f64::min);
    assert!(shortest.is_finite(), "{text}");
    shortest
}

#[test]
fn each_direction_has_its_delay_and_rate() {
    let _exclusive = lab::exclusive().unwrap();
    let wire = Wire::new();
    let link = wire.link(&[
        "--delay",
        "15ms",
        "--a-to-b",
        "rate=20mbit,delay=40ms,queue=1mb",
        "--b-to-a",
        "rate=10mbit,queue=1mb",
        "--seconds",
        "120",
    ]);
    assert_near(ping_ms(&wire.left, RIGHT, "30"), 55.0, TOLERANCE);
    // More than fits: a queue of a megabyte never runs dry, even while a processor is elsewhere. Of a
    // frame of 1442 octets 1400 are iperf3's.
    let flood = [
        "-u",
        "-b",
        "30M",
        "-l",
        "1400",
        "-t",
        "6",
        "--get-server-output",
    ];
    for (rate, reverse, intervals) in [
        (20e6, None, "/server_output_json/intervals"),
        (10e6, Some("-R"), "/intervals"),
    ] {
        let arguments: Vec<_> = flood.into_iter().chain(reverse).collect();
        let report = wire.iperf(&arguments);
        let intervals = report.pointer(intervals).and_then(Value::as_array);
        // Whole seconds, from the second one on: the queue is full by then.
        let seconds = &intervals.unwrap_or_else(|| panic!("{report}"))[1..5];
        let received = seconds.iter().map(|second| number(second, "/sum/bytes"));
        let took: f64 = seconds
            .iter()
            .map(|second| number(second, "/sum/seconds"))
            .sum();
        let measured = received.sum::<f64>() * 8.0 / took;
        assert_near(measured, rate * 1400.0 / 1442.0, TOLERANCE);
    }
    let report = link.stop();
    assert_eq!(report["forward"]["no_room"], 0);
    assert_eq!(report["forward"]["lost"], 0);
}

#[test]
fn loss_and_reordering_are_as_told_and_each_is_counted() {
    let _exclusive = lab::exclusive().unwrap();
    let wire = Wire::new();
    let link = wire.link(&[
        "--delay",
        "2ms",
        "--a-to-b",
        "loss=3%,reorder=2%,reorder_delay=10ms",
        "--seconds",
        "120",
    ]);
    // 2,000 datagrams a second: what is held back is passed by 20 others.
    let report = wire.iperf(&[
        "-u",
        "-b",
        "4M",
        "-l",
        "250",
        "-t",
        "6",
        "--get-server-output",
    ]);
    let carried = link.stop();
    let seen = |name: &str| {
        number(
            &report,
            &format!("/server_output_json/end/streams/0/udp/{name}"),
        )
    };
    let sent = seen("packets");
    assert!(sent > 11_000.0, "{sent}");
    // What a receiver that had no processor could not keep is not the link's.
    let dropped = wire
        .right
        .run("nstat", &["-asz", "UdpRcvbufErrors"])
        .unwrap();
    let dropped = dropped
        .lines()
        .last()
        .and_then(|line| line.split_whitespace().nth(1));
    let dropped: f64 = dropped.unwrap().parse().unwrap();
    for (share, name, seen) in [
        (0.03, "lost", seen("lost_packets") - dropped),
        (0.02, "reordered", seen("out_of_order")),
    ] {
        // A binomial distribution's standard deviation, four times.
        let (mean, most) = (share * sent, 4.0 * (sent * share * (1.0 - share)).sqrt());
        assert!((seen - mean).abs() < most, "{name}: {seen} of {sent}");
        // iperf3's own control connection, ARP and pings lose some too; a late one of the last,
        // or one that nothing passed, is not seen to be out of order.
        let counted = number(&carried, &format!("/forward/{name}"));
        assert!(
            (counted - seen).abs() < 0.05 * counted,
            "{name}: {counted} counted, {seen} seen"
        );
    }
}

#[test]
fn what_arrives_twice_is_seen_twice() {
    let _exclusive = lab::exclusive().unwrap();
    let wire = Wire::new();
    let link = wire.link(&["--a-to-b", "duplicate=10%", "--seconds", "120"]);
    let text = wire
        .left
        .run("ping", &["-c", "600", "-i0.005", "-W3", RIGHT])
        .unwrap();
    let seen = text.matches("DUP!").count() as f64;
    let carried = link.stop();
    let counted = number(&carried, "/forward/duplicated");
    // Of 600 sixty, with a standard deviation of 7.3; a request doubled is answered twice.
    assert!((30.0..=90.0).contains(&seen), "{text}");
    assert!(
        (counted - seen).abs() <= 3.0,
        "{counted} counted, {seen} seen"
    );
}

#[test]
fn a_schedule_is_kept_and_an_outage_loses_everything() {
    let _exclusive = lab::exclusive().unwrap();
    let wire = Wire::new();
    let scratch = Scratch::new().unwrap();
    let file = scratch.file("link.yaml");
    fs::write(
        &file,
        "both: { delay: 5ms }\n\
         schedule:\n  \
           - { at: 6s, both: { delay: 50ms } }\n  \
           - { at: 12s, outage: 3s }\n",
    )
    .unwrap();
    let began = Instant::now();
    let link = wire.link(&["--file", &file.display().to_string(), "--seconds", "60"]);
    // The tool takes a while to start: its clock begins between these two.
    let slack = began.elapsed();
    assert_near(ping_ms(&wire.left, RIGHT, "20"), 10.0, TOLERANCE);
    std::thread::sleep(Duration::from_secs(7).saturating_sub(began.elapsed()) + slack);
    assert_near(ping_ms(&wire.left, RIGHT, "20"), 100.0, TOLERANCE);
    let until = Duration::from_secs(13) + slack;
    std::thread::sleep(until.saturating_sub(began.elapsed()));
    let outage = wire.left.run("ping", &["-c", "5", "-i0.1", "-W1", RIGHT]);
    assert!(outage.is_err(), "{outage:?}");
    std::thread::sleep((Duration::from_secs(16) + slack).saturating_sub(began.elapsed()));
    assert_near(ping_ms(&wire.left, RIGHT, "20"), 100.0, TOLERANCE);
    assert!(number(&link.stop(), "/forward/lost") >= 5.0);
}

#[test]
fn a_wrong_file_or_device_is_told() {
    let _exclusive = lab::exclusive().unwrap();
    let wire = Wire::new();
    let scratch = Scratch::new().unwrap();
    let file = scratch.file("link.yaml");
    fs::write(&file, "both:\n  rate: fast\n").unwrap();
    let run = |arguments: &[&str]| {
        let all = [&["link", "--seconds", "1"], arguments].concat();
        wire.middle.run(TOOL, &all).unwrap_err().to_string()
    };
    let file = file.display().to_string();
    let error = run(&["--a", "left0", "--b", "right0", "--file", &file]);
    assert!(
        error.contains("line 2") && error.contains("50mbit"),
        "{error}"
    );
    let error = run(&["--a", "left0", "--b", "none0"]);
    assert!(error.contains("none0"), "{error}");
    let error = run(&["--a", "left0", "--b", "left0"]);
    assert!(error.contains("the same device"), "{error}");
    let error = run(&["--a", "left0", "--b", "right0", "--a-to-b", "speed=1mbit"]);
    assert!(error.contains("there are rate"), "{error}");
}
