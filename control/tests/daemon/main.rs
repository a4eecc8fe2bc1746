//! The daemon as a process, on devices that neither send nor receive: its start and its ends, the
//! control socket, reloads, and what it says when it cannot go on.
#![forbid(unsafe_code)]

mod reloads;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
/// How long a daemon may take to start or to end on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(90);

/// A folder with a profile and its keys, and perhaps a daemon.
struct Site {
    folder: TempDir,
    daemon: Option<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Site {
    fn new(name: &str) -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            daemon: None,
        };
        site.write(&site.profile(name, ""));
        let made = site.tidegate(&["keygen", site.path("cookie.key").to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("c.sock")
    }

    fn write(&self, profile: &str) {
        fs::write(self.path("p.yaml"), profile).unwrap();
    }

    /// A profile whose runtime has these lines too.
    fn profile(&self, name: &str, runtime: &str) -> String {
        format!(
            "appliance: {{ name: {name} }}\n\
             runtime:\n  workers: [0]\n  huge_pages: off\n  memory_mib: 96\n  sessions: 4096\n  \
             control_socket: {}\n{runtime}\
             ports:\n  \
             outside: {{ device: \"net_null0,no-rx=1\", address: [192.0.2.1/24] }}\n  \
             inside: {{ device: \"net_null1,no-rx=1\", address: [10.0.0.1/24] }}\n\
             guard:\n  outside: outside\n  inside: inside\n  mode: always\n  keys: cookie.key\n  \
             protect:\n    - {{ server: 10.0.0.10, ports: [80, 443] }}\n",
            self.socket().display()
        )
    }

    fn tidegate(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env("TIDEGATE_SOCKET", self.socket());
        command.output().unwrap()
    }

    fn spawn(&self) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let log = log.unwrap();
        Command::new(BINARY)
            .arg("run")
            .arg(self.path("p.yaml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn start(&mut self) {
        self.daemon = Some(self.spawn());
        let began = Instant::now();
        while !self.tidegate(&["show", "ports"]).status.success() {
            let daemon = self.daemon.as_mut().unwrap();
            let ended = daemon.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < LIMIT,
                "{ended:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn show(&self, topic: &str) -> Value {
        let shown = self.tidegate(&["show", topic, "--json"]);
        assert!(shown.status.success(), "{shown:?}");
        serde_json::from_slice(&shown.stdout).unwrap()
    }

    /// Sends the daemon a signal by its name.
    fn signal(&self, name: &str) {
        let id = self.daemon.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the daemon's end and gives its exit code; `None` after a signal.
    fn wait(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status.code();
            }
            if began.elapsed() > LIMIT {
                let _ = daemon.kill();
                panic!("the daemon does not end\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < LIMIT, "{what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The last line on standard error of a start that must fail with 1.
fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn everything_is_shown_and_a_signal_ends_it() {
    // CASES 29
    let mut site = Site::new("shown");
    site.start();

    let ports = site.show("ports");
    assert_eq!(ports["ports"][0]["name"], "outside");
    assert_eq!(ports["ports"][0]["driver"], "net_null");
    assert_eq!(ports["ports"][1]["addresses"][0], "10.0.0.1/24");
    let guard = site.show("guard");
    assert_eq!(
        (&guard["mode"], &guard["active"]),
        (&"always".into(), &true.into())
    );
    assert_eq!(guard["sessions"]["capacity"], 4096);
    assert_eq!(guard["servers"][0]["ports"][1], "443");
    assert_eq!(
        site.show("sessions")["sessions"].as_array().map(Vec::len),
        Some(0)
    );
    assert!(site.show("drops")["drops"].as_array().unwrap().len() > 30);
    site.eventually("a loop that turns", |site| {
        site.show("runtime")["workers"][0]["loops"].as_u64() > Some(0)
    });
    let runtime = site.show("runtime");
    assert!(runtime["cycles_per_second"].as_u64() > Some(0));
    let stages = runtime["workers"][0]["stages"].as_array().unwrap();
    let stages: Vec<_> = stages.iter().map(|row| row["stage"].clone()).collect();
    assert_eq!((&stages[0], stages.len()), (&"receive".into(), 9));
    let later = site.tidegate(&["show", "runtime", "--seconds", "1", "--json"]);
    let later: Value = serde_json::from_slice(&later.stdout).unwrap();
    let span_ns = later["workers"][0]["total_ns"].as_f64().unwrap();
    assert!((0.8e9..3e9).contains(&span_ns), "{later}");
    let wrong = site.tidegate(&["show", "ports", "--seconds", "1"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let config = site.show("config");
    assert_eq!(config["profile"]["guard"]["outside"], "outside");
    assert_eq!(config["profile"]["guard"]["timers"]["linger_s"], 64);
    assert_eq!(guard["services"][1]["port"], 443);
    assert_eq!(guard["services"][1]["health"], "unknown");
    let nobody = site.tidegate(&["end", "198.51.100.7:4000", "10.0.0.10:80"]);
    assert!(refused(&nobody).contains("no session of 198.51.100.7:4000 with 10.0.0.10:80"));
    let none = site.tidegate(&[
        "show",
        "sessions",
        "--state",
        "opening",
        "--client",
        "10.0.0.0/8",
    ]);
    assert!(none.status.success(), "{none:?}");
    let wrong = site.tidegate(&["show", "sessions", "--state", "open"]);
    assert!(refused(&wrong).contains("`open` is no state"));
    // The server is asked what it does, so it is looked for.
    site.eventually("a neighbour", |site| {
        site.show("neighbours")["neighbours"][0]["address"] == "10.0.0.10"
    });
    for topic in [
        "ports",
        "workers",
        "runtime",
        "guard",
        "sessions",
        "neighbours",
        "drops",
        "config",
    ] {
        let shown = site.tidegate(&["show", topic]);
        assert!(
            shown.status.success() && !shown.stdout.is_empty(),
            "{shown:?}"
        );
    }
    assert!(text(&site.tidegate(&["show", "drops", "--all"])).contains("cookie_invalid"));

    site.signal("TERM");
    assert_eq!(site.wait(), Some(0));
    assert!(!site.socket().exists());
    assert!(site.log().contains("drained"), "{}", site.log());
}

/// Where every packet went, over all workers: what `show workers` says of it adds up.
#[test]
fn every_packet_is_accounted_for() {
    let mut site = Site::new("audit");
    site.start();
    site.eventually("packets", |site| {
        let audit = &site.show("workers")["workers"][0]["audit"];
        let of = |what: &str| audit[what].as_u64().unwrap();
        let whole = of("received") + of("created");
        assert_eq!(
            whole,
            of("sent") + of("held") + of("dropped") + of("consumed"),
            "{audit}"
        );
        whole > 8
    });
}

// CASES 27 and 28: a bad profile changes nothing, and is told with its place.
#[test]
fn a_killed_daemon_is_followed_by_the_next() {
    let mut site = Site::new("killed");
    site.start();
    let second = site.spawn().wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let last = site.log().lines().last().unwrap_or_default().to_owned();
    assert!(
        last.contains("a running daemon answers on the control socket"),
        "{last}"
    );
    assert!(site.tidegate(&["show", "ports"]).status.success());

    site.signal("KILL");
    assert_eq!(site.wait(), None);
    assert!(site.socket().exists());
    let message = refused(&site.tidegate(&["show", "ports"]));
    assert!(
        message.contains("does not answer") && message.contains("start it"),
        "{message}"
    );
    site.start();
    site.signal("INT");
    assert_eq!(site.wait(), Some(0));
}

// CASES 28: cause and cure in one line.
#[test]
fn what_stops_a_start_is_told_in_one_line() {
    let site = Site::new("stopped");
    let good = site.profile("stopped", "");
    let start = |profile: &str| {
        site.write(profile);
        let file = site.path("p.yaml");
        let output = site.tidegate(&["run", file.to_str().unwrap()]);
        let message = refused(&output);
        assert!(!site.socket().exists(), "{message}");
        message
    };
    let gone = good.replace("net_null1,no-rx=1", "net_af_packet1,iface=nosuch0");
    let message = start(&gone);
    assert!(
        message.contains("port inside: there is no network interface nosuch0"),
        "{message}"
    );
    let message = start(&good.replace("workers: [0]", "workers: [999]"));
    assert!(
        message.contains("p.yaml:3:13: ") && message.contains("999"),
        "{message}"
    );
    let unknown = good.replace("net_null1,no-rx=1", "net_nosuch1");
    let message = start(&unknown);
    assert!(
        message.contains("port inside: ") && message.contains("net_nosuch1"),
        "{message}"
    );
    assert!(
        message.contains("correct `ports.inside.device`"),
        "{message}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let message = start(&site.profile("stopped", &format!("  metrics: \"{address}\"\n")));
    assert!(
        message.contains("metrics cannot be served on 127.0.0.1:"),
        "{message}"
    );
    let huge = good
        .replace("huge_pages: off", "huge_pages: on")
        .replace("memory_mib: 96", "memory_mib: 1000000");
    let message = start(&huge);
    assert!(message.contains("sysctl -w vm.nr_hugepages="), "{message}");
    let small = good.replace("memory_mib: 96", "memory_mib: 64");
    let small = small.replace("no-rx=1\",", "no-rx=1\", queues: 16,");
    let message = start(&small);
    assert!(
        message.contains("set `runtime.memory_mib` to "),
        "{message}"
    );
    fs::remove_file(site.path("cookie.key")).unwrap();
    let message = start(&good);
    assert!(message.contains("tidegate keygen"), "{message}");
}

#[test]
fn metrics_are_served_and_logs_are_json_where_asked() {
    let mut site = Site::new("metrics");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let runtime = format!("  metrics: \"{address}\"\n  log: {{ format: json, level: debug }}\n");
    site.write(&site.profile("metrics", &runtime));
    site.start();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\ntidegate_sessions_capacity 4096\n"),
        "{answer}"
    );
    site.signal("TERM");
    assert_eq!(site.wait(), Some(0));
    for line in site.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["level"].is_string(), "{line}");
    }
}

/// What the daemon is given on its socket, it survives.
#[test]
fn the_socket_survives_whatever_is_written_to_it() {
    let mut site = Site::new("socket");
    site.start();
    for bytes in [
        &b"\n"[..],
        b"\xff\xfe\n",
        b"{}\n",
        b"{\"version\":1}\n",
        &[b'['; 70_000],
    ] {
        let mut stream = UnixStream::connect(site.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // The daemon may hang up before all of it is written.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        let _ = BufReader::new(stream).read_line(&mut line);
        assert!(line.is_empty() || line.contains("\"error\""), "{line}");
    }
    assert_eq!(site.show("guard")["mode"], "always");
}

/// Frames that the daemon sends are seen in a capture, which other tools can read.
#[test]
fn a_capture_ends_as_it_is_told_and_is_a_pcapng_file() {
    let mut site = Site::new("capture");
    site.start();
    let file = site.path("seen.pcapng");
    let name = file.to_str().unwrap();
    // The guard looks for its server, once a second and more.
    let words = [
        "capture", "--port", "inside", "--filter", "arp", "-w", name, "--count", "2",
    ];
    let taken = site.tidegate(&words);
    assert!(taken.status.success(), "{taken:?}");
    assert!(
        String::from_utf8_lossy(&taken.stderr).starts_with("2 packets captured"),
        "{taken:?}"
    );
    assert_eq!(packets(&file), 2);

    let nothing = [
        "capture",
        "--filter",
        "udp port 9",
        "-w",
        name,
        "--seconds",
        "1",
    ];
    assert!(site.tidegate(&nothing).status.success());
    assert_eq!(packets(&file), 0);

    let wrong = ["capture", "--filter", "tcp prot 80", "-w", name];
    assert!(refused(&site.tidegate(&wrong)).contains("column 5"));
    let absent = ["capture", "--port", "dmz", "-w", name];
    assert!(refused(&site.tidegate(&absent)).contains("the ports are outside, inside"));
    // CASES 28: disk full.
    let full = [
        "capture",
        "--filter",
        "arp",
        "-w",
        "/dev/full",
        "--seconds",
        "20",
    ];
    let message = refused(&site.tidegate(&full));
    assert!(
        message.contains("No space left on device") && message.contains("make room"),
        "{message}"
    );
    let unwritable = ["capture", "-w", "/nosuch/a.pcapng"];
    assert!(refused(&site.tidegate(&unwritable)).contains("name another file with -w"));

    // A client that dies leaves no tap behind.
    let mut client = Command::new(BINARY)
        .args(["capture", "-w", "-", "--socket"])
        .arg(site.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The file's head is written when the tap is open.
    let mut head = [0; 4];
    client
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut head)
        .unwrap();
    assert_eq!(head, [0x0a, 0x0d, 0x0d, 0x0a]);
    let second = ["capture", "-w", "/dev/null", "--seconds", "1"];
    assert!(refused(&site.tidegate(&second)).contains("another capture is running"));
    client.kill().unwrap();
    client.wait().unwrap();
    site.eventually("the tap's end", |site| {
        site.tidegate(&second).status.success()
    });
}

fn packets(file: &Path) -> usize {
    use pcap_file::pcapng::{Block, PcapNgReader};
    let mut reader = PcapNgReader::new(fs::File::open(file).unwrap()).unwrap();
    let mut packets = 0;
    while let Some(block) = reader.next_block() {
        packets += usize::from(matches!(block.unwrap(), Block::EnhancedPacket(_)));
    }
    packets
}
