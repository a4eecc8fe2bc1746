//! A lab with a daemon in it, and what every test asks of the two.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lab::address::{SERVER, client, in_url};
use lab::command::wait_until;
use lab::curl::{self, Large, Outcome, Request};
use lab::daemon::Daemon;
use lab::lock::Exclusive;
use lab::profile::Profile;
use lab::scratch::Scratch;
use lab::server::{Body, Site};
use lab::{Error, Forwarder, Lab, Namespace, Options, Result};
use serde_json::Value;

/// The daemon under test.
pub(crate) const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// IPv4 and IPv6, as indices of the lab's addresses.
pub(crate) const FAMILIES: [usize; 2] = [0, 1];

/// How long a fetch may take that nothing holds up.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A guarded lab. The daemon goes first, the machine's lock last.
pub(crate) struct Guarded {
    pub(crate) daemon: Daemon,
    pub(crate) lab: Lab,
    pub(crate) site: Arc<Site>,
    _exclusive: Exclusive,
}

impl Guarded {
    /// A lab whose large body has eight megabytes, and a daemon in it.
    pub(crate) fn start(options: Options, profile: &Profile) -> Self {
        let exclusive = lab::exclusive().unwrap();
        let site = Site::write(8 << 20).unwrap();
        let lab = Lab::build(options, Forwarder::Daemon, &site).unwrap();
        let daemon = Daemon::start(&lab, Path::new(TIDEGATE), profile).unwrap();
        Self {
            daemon,
            lab,
            site,
            _exclusive: exclusive,
        }
    }

    /// The plainest one.
    pub(crate) fn plain() -> Self {
        Self::start(Options::default(), &Profile::default())
    }

    /// A request for one body, to be varied.
    pub(crate) fn request<'a>(&self, body: &'a Body, family: usize) -> Request<'a> {
        Request {
            body,
            server: SERVER[family],
            port: 80,
            client: client(0)[family],
            count: 1,
            parallel: 1,
            limit: SOON,
        }
    }

    /// Many small bodies over connections of their own; all must come.
    pub(crate) fn fetch_small(&self, family: usize, count: u32, parallel: u32) {
        let request = Request {
            count,
            parallel,
            ..self.request(&self.site.small, family)
        };
        self.fetch(&request).unwrap().whole().unwrap();
    }

    /// Many fetches of whatever is asked.
    pub(crate) fn fetch(&self, request: &Request<'_>) -> Result<Outcome> {
        curl::fetch(&self.lab.clients, request, &self.lab.scratch.file("bodies"))
    }

    /// The large body; it must come.
    pub(crate) fn fetch_large(&self, family: usize, limit: Duration) -> Large {
        let request = Request {
            limit,
            ..self.request(&self.site.large, family)
        };
        curl::fetch_large(&self.lab.clients, &request).unwrap()
    }

    /// How many packets were dropped for a reason.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let drops = self.daemon.show("drops").unwrap();
        let rows = drops["drops"].as_array().unwrap();
        let row = rows.iter().find(|row| row["reason"] == reason);
        row.unwrap_or_else(|| panic!("no reason {reason}"))["count"]
            .as_u64()
            .unwrap()
    }

    /// A number of `show guard`, such as `/sessions/live`.
    pub(crate) fn guard(&self, pointer: &str) -> u64 {
        let guard = self.daemon.show("guard").unwrap();
        guard
            .pointer(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no {pointer} in {guard}"))
    }

    /// Waits until a number of `show guard` is this one.
    pub(crate) fn wait_for(&self, pointer: &str, number: u64) {
        wait_until(pointer, Duration::from_secs(2), || {
            match self.guard(pointer) {
                there if there == number => Ok(()),
                there => Err(Error::new(format!("{there}, not {number}"))),
            }
        })
        .unwrap();
    }

    /// Waits until no session is live.
    pub(crate) fn wait_for_no_session(&self, limit: Duration) {
        wait_until("the last session's end", limit, || {
            match self.guard("/sessions/live") {
                0 => Ok(()),
                live => Err(Error::new(format!("{live} are live"))),
            }
        })
        .unwrap();
    }

    /// Holds the daemon to its books: every packet that came is sent, held or dropped for a
    /// reason, and no buffer is lost. To be called when the traffic is over.
    pub(crate) fn audit(&self) {
        wait_until("a balanced audit", Duration::from_secs(3), || {
            let workers = self.daemon.show("workers")?;
            let rows = workers["workers"].as_array().into_iter().flatten();
            let sum = |key: &str| -> i64 {
                rows.clone()
                    .filter_map(|row| row["audit"][key].as_i64())
                    .sum()
            };
            let missing = sum("received") + sum("created")
                - sum("sent")
                - sum("held")
                - sum("dropped")
                - sum("consumed");
            if sum("received") == 0 || missing != 0 {
                return Err(Error::new(format!("{missing} are missing in {workers}")));
            }
            Ok(())
        })
        .unwrap();
    }
}

/// A curl that takes the large body at two megabytes a second, so for four seconds.
pub(crate) struct SlowFetch {
    child: Child,
    file: PathBuf,
}

impl SlowFetch {
    /// Begins, and returns when something has come. Little of the body fits into the kernels'
    /// buffers: the transfer is on its way all the time.
    pub(crate) fn begin(
        clients: &Namespace,
        server: &Namespace,
        scratch: &Scratch,
        family: usize,
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        clients
            .sysctl(&["net.ipv4.tcp_rmem=4096 131072 262144"])
            .unwrap();
        server
            .sysctl(&["net.ipv4.tcp_wmem=4096 16384 262144"])
            .unwrap();
        let url = format!("http://{}/large", in_url(SERVER[family]));
        let file = scratch.file(&format!("slow-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let own = client_of(family).to_string();
        let mut command = clients.command("curl");
        command.args(["-q", "-sS", "--noproxy", "*", "--limit-rate", "2m"]);
        command.args(["--max-time", "60", "--interface", &own]);
        command.arg("-o").arg(&file).arg(url);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        wait_until("the slow fetch", SOON, || match std::fs::metadata(&file) {
            Ok(metadata) if metadata.len() > 0 => Ok(()),
            _ => Err(Error::new("nothing has come")),
        })
        .unwrap();
        Self { child, file }
    }

    /// Whether something is still to come.
    pub(crate) fn is_on_its_way(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; all must have come.
    pub(crate) fn assert_whole(mut self, site: &Site) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        let bytes = std::fs::read(&self.file).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        assert_eq!(digest.as_ref(), site.large.digest);
    }
}

/// `ADDRESS:PORT` of the server.
pub(crate) fn server(family: usize, port: u16) -> SocketAddr {
    (SERVER[family], port).into()
}

/// Whether a reason that a program gave names each of these words.
pub(crate) fn assert_names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

/// An address for messages and files.
pub(crate) fn client_of(family: usize) -> IpAddr {
    client(0)[family]
}
