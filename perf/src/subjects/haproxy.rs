//! HAProxy in TCP mode: it ends each connection and opens another one to the server. Connections
//! are diverted to it on their way (TPROXY), so that clients name servers as they always do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::command::{Running, wait_until};
use lab::{Error, Namespace, Result};
use nix::sys::signal::Signal;

use super::ground::Ground;
use super::kernel::{frames, network_file, router, stations};
use super::plan::{FirstHop, SERVERS, wiring};
use super::proof::Account;
use super::{Kind, Subject, version_line};
use crate::wiring::Wiring;

/// Where it listens within its name space.
const PORT: u16 = 8080;
/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A proxy that answers. Fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Haproxy {
    running: Running,
    namespace: Namespace,
    socket: PathBuf,
    version: String,
    stations: [[u8; 6]; 2],
    wiring: Wiring,
}

/// Starts it and waits until it answers.
pub(super) fn start(ground: &Ground, number: u8, program: PathBuf) -> Result<Haproxy> {
    let namespace = router(ground, number, Kind::Haproxy)?;
    divert(&namespace, &ground.settings.service_ports)?;
    let socket = ground.scratch.file(&format!("{number}.haproxy.sock"));
    let path = ground.scratch.file(&format!("{number}.haproxy.cfg"));
    std::fs::write(&path, configuration(&socket)).map_err(|e| Error::because(path.display(), e))?;
    let (log, output) = ground.log(number, Kind::Haproxy)?;
    let errors = output
        .try_clone()
        .map_err(|e| Error::because(log.display(), e))?;
    let mut command = ground.pinned(&namespace, &program.to_string_lossy());
    command
        .arg("-db")
        .arg("-f")
        .arg(&path)
        .stdout(output)
        .stderr(errors);
    let mut running = Running::start(&mut command)?;
    wait_until("haproxy", START_LIMIT, || match running.ended()? {
        Some(status) => Ok(Err(Error::new(format!("haproxy ended: {status}")))),
        None => sessions(&socket).map(|_| Ok(())),
    })
    .and_then(|answered| answered)
    .map_err(|error| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        Error::new(format!("{error}\n{}", text.trim_end()))
    })?;
    Ok(Haproxy {
        running,
        stations: stations(&namespace)?,
        namespace,
        socket,
        version: version_line(Command::new(&program).arg("-v")),
        wiring: wiring(ground.devices(number), &FirstHop::Asked, &ground.settings),
    })
}

/// Hands connections from outside to the proxy, and gives its kernel what a busy proxy's has: SYN
/// cookies, a long queue, and every port for connections of its own.
fn divert(namespace: &Namespace, ports: &[u16]) -> Result<()> {
    namespace.sysctl(&[
        "net.ipv4.tcp_syncookies=1",
        "net.ipv4.tcp_max_syn_backlog=65536",
        "net.core.somaxconn=65536",
        "net.ipv4.ip_local_port_range=1024 65535",
    ])?;
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = ports.join(", ");
    let [ipv4, ipv6] = SERVERS;
    namespace.nft(&format!(
        "table inet subject {{
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    iifname \"out0\" ip daddr {ipv4} tcp dport {{ {ports} }} tproxy ip to 127.0.0.1:{PORT} meta mark set 1 accept
    iifname \"out0\" ip6 daddr {ipv6} tcp dport {{ {ports} }} tproxy ip6 to [::1]:{PORT} meta mark set 1 accept
  }}
}}
"
    ))?;
    namespace.ip(
        "rule add fwmark 1 lookup 100\nroute add local 0.0.0.0/0 dev lo table 100\n\
         route add local ::/0 dev lo table 100",
    )?;
    // `ip`'s batches take the family of rules from its own command line only.
    let rule = ["-6", "rule", "add", "fwmark", "1", "lookup", "100"];
    namespace.run("ip", &rule).map(drop)
}

fn configuration(socket: &Path) -> String {
    format!(
        "global
  nbthread 1
  stats socket {} mode 600 level user
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen service
  bind 127.0.0.1:{PORT} transparent backlog 65536
  bind [::1]:{PORT} transparent backlog 65536
  option transparent
",
        socket.display()
    )
}

/// How many connections it has served since its start, as its stats socket tells.
fn sessions(socket: &Path) -> Result<u64> {
    let failed = |error: std::io::Error| Error::because(socket.display(), error);
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(failed)?;
    stream.write_all(b"show stat\n").map_err(failed)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(failed)?;
    total(&text).ok_or_else(|| Error::new(format!("haproxy's `show stat` said {text:?}")))
}

/// The sessions that reached the service's backend, of the table in comma-separated values.
fn total(text: &str) -> Option<u64> {
    let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next()?;
    let place = |name: &str| {
        names
            .iter()
            .position(|found| found.trim_start_matches("# ") == name)
    };
    let (proxy, service, sessions) = (place("pxname")?, place("svname")?, place("stot")?);
    rows.find(|row| row.get(proxy) == Some(&"service") && row.get(service) == Some(&"BACKEND"))?
        .get(sessions)?
        .parse()
        .ok()
}

impl Subject for Haproxy {
    fn kind(&self) -> Kind {
        Kind::Haproxy
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    fn stations(&self) -> Option<[[u8; 6]; 2]> {
        Some(self.stations)
    }

    fn account(&mut self) -> Result<Account> {
        let (received_frames, sent_frames) =
            frames(&network_file(&self.namespace, "dev")?, &["out0", "in0"]);
        Ok(Account {
            received_frames,
            sent_frames,
            forwarded_packets: None,
            connections: Some(sessions(&self.socket)?),
            busy: None,
        })
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
    use super::total;

    #[test]
    fn sessions_are_those_of_the_services_backend() {
        let text = "# pxname,svname,qcur,stot\nservice,FRONTEND,,9\nservice,BACKEND,0,7\n";
        assert_eq!(total(text), Some(7));
        assert_eq!(total("# pxname,svname,stot\n"), None);
        assert_eq!(total(""), None);
    }
}
