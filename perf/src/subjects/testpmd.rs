//! `dpdk-testpmd`: what DPDK's own drivers cost with next to no work between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::command::{Running, wait_until};
use lab::{Error, Namespace, Result};
use nix::sys::signal::Signal;

use super::ground::Ground;
use super::plan::{FirstHop, station, station_text, wiring};
use super::proof::{Account, Busy};
use super::telemetry::Telemetry;
use super::{Kind, Subject};
use crate::wiring::Wiring;

/// How long it may take until it forwards.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Its packet buffers, as many as two ports and a burst on its way can hold.
const BUFFERS: &str = "--total-num-mbufs=16384";

/// A `dpdk-testpmd` that forwards. Fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Testpmd {
    running: Running,
    telemetry: Telemetry,
    /// What it has printed.
    log: PathBuf,
    _namespace: Namespace,
    kind: Kind,
    stations: Option<[[u8; 6]; 2]>,
    wiring: Wiring,
}

/// Starts one with the given forwarding mode and waits until its ports are there.
pub(super) fn start(
    ground: &Ground,
    number: u8,
    kind: Kind,
    program: PathBuf,
    mode: &str,
) -> Result<Testpmd> {
    let namespace = ground.box_for(number, kind)?;
    let folder = ground.scratch.file(&format!("{number}.run"));
    std::fs::create_dir_all(&folder).map_err(|e| Error::because(folder.display(), e))?;
    let (log, output) = ground.log(number, kind)?;
    let errors = output
        .try_clone()
        .map_err(|e| Error::because(log.display(), e))?;
    // What it prints is read while it runs, line by line.
    let mut command = namespace.command("stdbuf");
    command.arg("-oL").arg(&program);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    // Its run-time files then vanish with the folder, even when it is killed.
    command.env("RUNTIME_DIRECTORY", &folder);
    let lcores = format!(
        "--lcores=0@{},1@{}",
        ground.cores.tester, ground.cores.subject
    );
    command.args([&lcores, "--no-huge", "--no-pci", "-m", "256"]);
    command.args(["--file-prefix", kind.name()]);
    for device in ground.subject_devices(number, kind) {
        command.args(["--vdev", &device]);
    }
    // It would wait for links, and the tester comes later.
    command.args(["--", "-i", "--auto-start", "--disable-link-check", BUFFERS]);
    command.arg("--record-core-cycles");
    command.arg(format!("--forward-mode={mode}"));
    for (port, side) in [(0, 1), (1, 2)] {
        let peer = station_text(station(number, side));
        command.arg(format!("--eth-peer={port},{peer}"));
    }
    let mut running = Running::start_held(command.stdout(output).stderr(errors))?;
    let socket = folder
        .join("dpdk")
        .join(kind.name())
        .join("dpdk_telemetry.v2");
    let started = wait_until(kind.name(), START_LIMIT, || ready(&mut running, &socket));
    let (telemetry, own) = started
        .and_then(|ready| ready)
        .map_err(|error| Error::new(format!("{error}\n{}", end_of(&log))))?;
    // It takes frames for any station; they are sent to its own, as to any router.
    let is_writing = kind != Kind::TestpmdIo;
    let first_hop = FirstHop::Known(if is_writing {
        own
    } else {
        [station(number, 2), station(number, 1)]
    });
    Ok(Testpmd {
        running,
        telemetry,
        log,
        kind,
        stations: is_writing.then_some(own),
        wiring: wiring(ground.devices(number), &first_hop, &ground.settings),
        _namespace: namespace,
    })
}

/// A connection to it and its ports' station addresses. The outer error is worth another try.
#[allow(clippy::type_complexity, reason = "two failures of different kinds")]
fn ready(running: &mut Running, socket: &Path) -> Result<Result<(Telemetry, [[u8; 6]; 2])>> {
    if let Some(status) = running.ended()? {
        return Ok(Err(Error::new(format!("dpdk-testpmd ended: {status}"))));
    }
    let mut telemetry = Telemetry::connect(socket)?;
    let own = [
        station_of(&mut telemetry, 0)?,
        station_of(&mut telemetry, 1)?,
    ];
    Ok(Ok((telemetry, own)))
}

/// The station address of a port that has been started.
fn station_of(telemetry: &mut Telemetry, port: u8) -> Result<[u8; 6]> {
    let info = telemetry.ask(&format!("/ethdev/info,{port}"))?;
    if info["dev_started"] != 1 {
        return Err(Error::new(format!("port {port} is not started")));
    }
    let text = info["mac_addr"].as_str().unwrap_or_default();
    parse_station(text).ok_or_else(|| Error::new(format!("{text:?} is no station address")))
}

pub(super) fn parse_station(text: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect::<Option<_>>()?;
    octets.try_into().ok()
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

impl Testpmd {
    /// What it prints of its turns that received packets.
    fn busy(&mut self) -> Result<Busy> {
        let printed = |log: &Path| {
            let text = std::fs::read_to_string(log);
            text.map_err(|e| Error::because(log.display(), e))
        };
        let before = printed(&self.log)?.len();
        self.running.type_line("show fwd stats all")?;
        wait_until("dpdk-testpmd's statistics", ANSWER_LIMIT, || {
            let text = printed(&self.log)?;
            let new = text.get(before..).unwrap_or_default();
            match new.rfind(END_OF_STATISTICS) {
                Some(end) if new[end..].contains(PROMPT) => Ok(busy_of(new)),
                _ => Err(Error::new("they are not complete")),
            }
        })
    }
}

/// The line after which no more of the statistics comes, but for the cycles.
const END_OF_STATISTICS: &str = "++++++++++++++++++++++++++++++++++++++++";
/// What it prints when it has answered.
const PROMPT: &str = "testpmd>";
/// How long it may take to print them.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The time and packets of the printed line `CPU cycles/packet=… (total cycles=… / total mac
/// packets=…) at … MHz Clock`. It is not there before a packet has come.
fn busy_of(text: &str) -> Busy {
    let number = |after: &str| -> Option<u64> {
        let (_, rest) = text.rsplit_once(after)?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let read = || {
        let megahertz = number(") at ").filter(|&megahertz| megahertz > 0)?;
        Some(Busy {
            busy_ns: number("total cycles=")? as f64 * 1e3 / megahertz as f64,
            packets: number(" packets=")?,
        })
    };
    read().unwrap_or_default()
}

impl Subject for Testpmd {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn version(&self) -> &str {
        &self.telemetry.version
    }

    fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    fn stations(&self) -> Option<[[u8; 6]; 2]> {
        self.stations
    }

    fn account(&mut self) -> Result<Account> {
        let mut account = Account::default();
        for port in [0, 1] {
            let stats = self.telemetry.ask(&format!("/ethdev/stats,{port}"))?;
            account.received_frames += stats["ipackets"].as_u64().unwrap_or(0);
            account.sent_frames += stats["opackets"].as_u64().unwrap_or(0);
        }
        account.busy = Some(self.busy()?);
        Ok(account)
    }

    fn rest(&mut self) -> Result<()> {
        self.running.signal(Signal::SIGSTOP)
    }

    fn resume(&mut self) -> Result<()> {
        self.running.signal(Signal::SIGCONT)
    }
}

#[cfg(test)]
mod tests {
    use super::{Busy, busy_of, parse_station};

    #[test]
    fn cycles_are_read_from_what_is_printed() {
        let line = "  CPU cycles/packet=50.00 (total cycles=5000 / total mac packets=100) at 2500 MHz Clock\n";
        let busy = Busy {
            busy_ns: 2000.0,
            packets: 100,
        };
        assert_eq!(busy_of(line), busy);
        assert_eq!(busy.ns_per_packet_since(&Busy::default()), Some(20.0));
        assert_eq!(busy.ns_per_packet_since(&busy), None);
        assert_eq!(busy_of("nothing came"), Busy::default());
    }

    #[test]
    fn a_station_address_is_six_octets() {
        assert_eq!(
            parse_station("AA:1D:AC:D1:3B:77"),
            Some([0xaa, 0x1d, 0xac, 0xd1, 0x3b, 0x77])
        );
        assert_eq!(parse_station("AA:1D:AC:D1:3B"), None);
        assert_eq!(parse_station(""), None);
    }
}
