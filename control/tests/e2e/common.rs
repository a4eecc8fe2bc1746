//! A lab with a daemon in it, and what every test asks of the two.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lab::address::{SERVER, client};
use lab::command::wait_until;
use lab::curl::{self, Large, Outcome, Request};
use lab::daemon::Daemon;
use lab::lock::Exclusive;
use lab::profile::Profile;
use lab::server::{Body, Site};
use lab::{Error, Forwarder, Lab, Options, Result};
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
