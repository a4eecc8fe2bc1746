//! A lab of two transparent guards side by side, each in a link of its own: what clients send goes
//! through the first, and everything of the server's comes back through the second.
//!
//! ```text
//!             ┌ wan1 ───► out0  guard 1  in0 ───► lan1 ┐
//!   clients ──┤                 sync0                  ├── server
//!             └ wan2 ◄─── out0  guard 2  in0 ◄─── lan2 ┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::address::{SERVER, client};
use crate::command::run;
use crate::daemon::{Daemon, Files};
use crate::scratch::Scratch;
use crate::server::{Server, Site};
use crate::topology::{address, join, own_clients, prepare, silence};
use crate::{Error, Namespace, Result};

const MTU_BYTES: u16 = 1500;

/// The lab. Fields are dropped in their order: what runs first, what it runs in last.
#[derive(Debug)]
pub struct Wires {
    /// What is served, and by whom.
    pub server_process: Server,
    /// Where clients are: `wan1`, `wan2`, and their addresses on `lo`.
    pub clients: Namespace,
    /// Where daemons belong: `out0`, `in0` and `sync0`.
    pub guards: [Namespace; 2],
    /// Where nginx is: `lan1`, `lan2`, and its address on `lo`.
    pub server: Namespace,
    /// For profiles, logs and bodies.
    pub scratch: Scratch,
}

/// The address of the clients' (1) or the server's (2) end of the link of a guard.
fn end(guard: u8, side: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(172, 20, guard, side).into(),
        Ipv6Addr::new(0xfd00, 0x20, guard.into(), 0, 0, 0, 0, side.into()).into(),
    ]
}

impl Wires {
    /// Makes the name spaces and links, and starts the server.
    ///
    /// # Errors
    /// When a step fails, as it does without root.
    pub fn build(site: &Arc<Site>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let clients = Namespace::create("clients")?;
        let server = Namespace::create("server")?;
        let guards = [Namespace::create("guard1")?, Namespace::create("guard2")?];
        for namespace in [&clients, &server, &guards[0], &guards[1]] {
            prepare(namespace)?;
        }
        for (number, guard) in (1..).zip(&guards) {
            let (wan, lan) = (format!("wan{number}"), format!("lan{number}"));
            join((guard, "out0"), (&clients, &wan), MTU_BYTES)?;
            join((guard, "in0"), (&server, &lan), MTU_BYTES)?;
            silence(guard)?;
            address(&clients, &wan, end(number, 1))?;
            address(&server, &lan, end(number, 2))?;
        }
        join((&guards[0], "sync0"), (&guards[1], "sync0"), MTU_BYTES)?;
        for guard in &guards {
            guard.sysctl(&["net.ipv6.conf.sync0.disable_ipv6=1"])?;
        }
        own_clients(&clients, &[0, 1])?;
        let [ipv4, ipv6] = SERVER;
        server.ip(&format!(
            "addr add {ipv4}/32 dev lo\naddr add {ipv6}/128 dev lo nodad"
        ))?;
        for ((to, there), back) in SERVER.iter().zip(end(1, 2)).zip(end(2, 1)) {
            let everywhere = if to.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            clients.ip(&format!("route add {to} via {there}"))?;
            server.ip(&format!("route add {everywhere} via {back}"))?;
        }
        let server_process = Server::start(&server, site, &scratch)?;
        Ok(Self {
            server_process,
            clients,
            guards,
            server,
            scratch,
        })
    }

    /// Starts the daemon of guard 1 or 2. They have the same key file, and with `shares` they tell
    /// each other of sessions.
    ///
    /// # Errors
    /// When it does not answer; the error holds the end of its log.
    pub fn start(&self, number: u8, binary: &Path, shares: bool) -> Result<Daemon> {
        let keys = ["cookie.key", "replication.key"].map(|name| self.scratch.file(name));
        for (path, options) in keys.iter().zip([&[][..], &["--replication"]]) {
            if !path.exists() {
                run(Command::new(binary).arg("keygen").args(options).arg(path))?;
            }
        }
        let file = |name: &str| self.scratch.file(&format!("guard{number}.{name}"));
        let files = Files {
            profile: file("yaml"),
            socket: file("sock"),
            log: file("log"),
        };
        let peer = 3 - number;
        let (sync, replication) = if shares {
            (
                format!(
                    "  sync: {{ device: \"net_af_packet2,iface=sync0\", address: 10.9.0.{number}/24 }}\n"
                ),
                format!(
                    "replication:\n  port: sync\n  own: {number}\n  keys: {}\n  peers:\n    - {{ number: {peer}, address: 10.9.0.{peer} }}\n",
                    keys[1].display()
                ),
            )
        } else {
            (String::new(), String::new())
        };
        let text = format!(
            "appliance: {{ name: wire{number} }}
runtime:
  workers: [1]
  poll: adaptive
  huge_pages: off
  control_socket: {}
ports:
  outside: {{ device: \"net_af_packet0,iface=out0,framecnt=2048\" }}
  inside: {{ device: \"net_af_packet1,iface=in0,framecnt=2048\" }}
{sync}{replication}guard:
  outside: outside
  inside: inside
  wire: {{ echo: auto }}
  protect:
    - {{ server: {}, ports: [80, 443] }}
    - {{ server: \"{}\", ports: [80, 443] }}
  keys: {}
",
            files.socket.display(),
            SERVER[0],
            SERVER[1],
            keys[0].display(),
        );
        let path = &files.profile;
        std::fs::write(path, text).map_err(|e| Error::because(path.display(), e))?;
        Daemon::start_in(&self.guards[usize::from(number - 1)], binary, files)
    }

    /// A client's address, and the server's, of a family.
    #[must_use]
    pub fn ends(family: usize) -> (IpAddr, IpAddr) {
        (client(0)[family], SERVER[family])
    }
}
