//! The daemon, by a profile of its own, as it is deployed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::command::run;
use lab::daemon::{Daemon, Files};
use lab::{Error, Namespace, Result};
use nix::sys::signal::Signal;

use super::ground::Ground;
use super::plan::{
    self, FirstHop, SERVERS, SUBJECT_INSIDE, SUBJECT_OUTSIDE, TESTER_INSIDE, TESTER_OUTSIDE, wiring,
};
use super::proof::{Account, Busy};
use super::{Job, Kind, Over, Subject, version_line};
use crate::wiring::Wiring;

/// How long it may be until what a worker has counted is what the daemon tells.
pub const TOLD_WITHIN: Duration = Duration::from_millis(30);

/// Where metrics are served, in the subject's own name space.
pub const METRICS: &str = "127.0.0.1:9464";

/// A daemon that answers. Fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Tidegate {
    daemon: Daemon,
    kind: Kind,
    namespace: Namespace,
    version: String,
    stations: Option<[[u8; 6]; 2]>,
    wiring: Wiring,
    is_guarding: bool,
}

/// Starts it and waits until it answers.
pub(super) fn start(ground: &Ground, number: u8, kind: Kind, program: PathBuf) -> Result<Tidegate> {
    use std::os::unix::process::CommandExt as _;
    let namespace = ground.box_for(number, kind)?;
    let file = |name: &str| ground.scratch.file(&format!("{number}.{name}"));
    let keys = file("cookie.key");
    run(Command::new(&program).arg("keygen").arg(&keys))?;
    let files = Files {
        profile: file("profile.yaml"),
        socket: file("control.sock"),
        log: file("tidegate.log"),
    };
    let text = profile(ground, number, kind, &files.socket, &keys);
    std::fs::write(&files.profile, text).map_err(|e| Error::because(files.profile.display(), e))?;
    let mut command = namespace.command(&program.to_string_lossy());
    command.process_group(0);
    let daemon = Daemon::start_as(command, &program, files)?;
    let job = ground.settings.job;
    // Beyond a wire the other side's device is the next station.
    let first_hop = match job {
        Job::Wire => FirstHop::Known([plan::station(number, 2), plan::station(number, 1)]),
        Job::Forward | Job::Guard => FirstHop::Asked,
    };
    let stations = match job {
        Job::Wire => None,
        Job::Forward | Job::Guard => Some(stations_of(&daemon)?),
    };
    Ok(Tidegate {
        daemon,
        kind,
        namespace,
        version: version_line(Command::new(&program).arg("--version")),
        stations,
        wiring: wiring(ground.devices(number), &first_hop, &ground.settings),
        is_guarding: job != Job::Forward,
    })
}

fn profile(ground: &Ground, number: u8, kind: Kind, socket: &Path, keys: &Path) -> String {
    let settings = &ground.settings;
    // Rings in memory have nothing that could wake a worker; a kernel's links share their cores.
    let poll = match settings.over {
        Over::Memif => "busy",
        Over::Veth => "adaptive",
    };
    let mut text = format!(
        "appliance: {{ name: subject{}n{number} }}
runtime:
  workers: [{}]
  control_core: {}
  poll: {poll}
  huge_pages: off
  sessions: {}
  control_socket: {}
{}ports:
",
        std::process::id(),
        ground.cores.subject,
        ground.cores.tester,
        settings.sessions,
        socket.display(),
        match settings.under_attack {
            true => format!("  metrics: {METRICS}\n"),
            false => String::new(),
        },
    );
    let sides = [("outside", SUBJECT_OUTSIDE), ("inside", SUBJECT_INSIDE)];
    for ((name, [ipv4, ipv6]), device) in sides.iter().zip(ground.subject_devices(number, kind)) {
        let address = match settings.job {
            Job::Wire => String::new(),
            Job::Forward | Job::Guard => {
                let bits = match *name {
                    "inside" => plan::inside_bits(settings),
                    _ => 24,
                };
                format!(", address: [{ipv4}/{bits}, \"{ipv6}/64\"]")
            }
        };
        let _ = writeln!(text, "  {name}: {{ device: \"{device}\"{address} }}");
    }
    if settings.job != Job::Wire {
        text.push_str("routes:\n");
        for (to, via) in ["0.0.0.0/0", "::/0"].iter().zip(TESTER_OUTSIDE) {
            let _ = writeln!(text, "  - {{ to: \"{to}\", via: \"{via}\" }}");
        }
        for (to, via) in SERVERS.iter().zip(TESTER_INSIDE) {
            let _ = writeln!(text, "  - {{ to: \"{to}\", via: \"{via}\" }}");
        }
    }
    let (mode, rule) = match settings.job {
        Job::Forward => ("off", "forward"),
        Job::Guard | Job::Wire => ("always", "guard"),
    };
    let wire = match settings.job {
        Job::Wire => "  wire: { echo: auto }\n",
        Job::Forward | Job::Guard => "",
    };
    let _ = write!(
        text,
        "guard:\n  outside: outside\n  inside: inside\n  mode: {mode}\n{wire}  keys: {}\n  protect:\n",
        keys.display()
    );
    for server in plan::servers(settings) {
        let ports = &settings.service_ports;
        let _ = writeln!(text, "    - {{ server: \"{server}\", ports: {ports:?} }}");
    }
    let _ = writeln!(text, "rules:\n  - {{ default: {rule} }}");
    text
}

/// The station addresses of its two ports.
fn stations_of(daemon: &Daemon) -> Result<[[u8; 6]; 2]> {
    let ports = daemon.show("ports")?;
    let station = |port: usize| {
        let text = ports["ports"][port]["mac"].as_str().unwrap_or_default();
        super::testpmd::parse_station(text)
            .ok_or_else(|| Error::new(format!("tidegate show ports: {text:?} is no station")))
    };
    Ok([station(0)?, station(1)?])
}

impl Subject for Tidegate {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    fn stations(&self) -> Option<[[u8; 6]; 2]> {
        self.stations
    }

    fn daemon(&self) -> Option<(&Daemon, &Namespace)> {
        Some((&self.daemon, &self.namespace))
    }

    fn account(&mut self) -> Result<Account> {
        std::thread::sleep(TOLD_WITHIN);
        let ports = self.daemon.show("ports")?;
        let sum = |name: &str| {
            let ports = ports["ports"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            ports.iter().filter_map(|port| port[name].as_u64()).sum()
        };
        let connections = match self.is_guarding {
            true => Some(opened(&self.daemon)?),
            false => None,
        };
        Ok(Account {
            received_frames: sum("received_packets"),
            sent_frames: sum("sent_packets"),
            forwarded_packets: None,
            connections,
            busy: Some(busy(&self.daemon)?),
        })
    }

    fn rest(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGSTOP)
    }

    fn resume(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGCONT)
    }
}

/// How many sessions it has opened since its start.
fn opened(daemon: &Daemon) -> Result<u64> {
    daemon.show("guard")?["sessions"]["opened"]
        .as_u64()
        .ok_or_else(|| Error::new("tidegate show guard does not say how many sessions were opened"))
}

/// The time that its workers spent in turns that found something to do.
fn busy(daemon: &Daemon) -> Result<Busy> {
    let runtime = daemon.show("runtime")?;
    let workers = runtime["workers"].as_array();
    let workers = workers.map(Vec::as_slice).unwrap_or_default();
    let sum = |name: &str| {
        workers
            .iter()
            .filter_map(|row| row[name].as_u64())
            .sum::<u64>()
    };
    Ok(Busy {
        busy_ns: sum("busy_ns") as f64,
        packets: sum("packets"),
    })
}
