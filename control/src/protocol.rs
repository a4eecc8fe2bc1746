//! What is said over the control socket: one JSON object a line, a request and then its response.
//! `docs/wire/control.md` tells it to those who write another client.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of requests and responses. It rises when an old client would misread a new daemon.
pub const VERSION: u32 = 1;
/// The longest request, in octets, its line end included.
pub const MAXIMUM_REQUEST_BYTES: usize = 64 * 1024;
/// Sessions that are listed when nothing else is asked.
pub const DEFAULT_SESSIONS: usize = 100;
/// Sessions that are listed at most.
pub const MAXIMUM_SESSIONS: usize = 100_000;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Devices, addresses, links, and what went through them
    Ports,
    /// Cores, loops, and where every packet went
    Workers,
    /// Where the workers' time goes: packets a call, cycles a packet by stage
    Runtime,
    /// The guard's mode, its flood meter and the protected servers
    Guard,
    /// Sessions, one a line
    Sessions,
    /// Who answered ARP and neighbour discovery
    Neighbours,
    /// Every reason for which packets were dropped
    Drops,
    /// The other guards, and how sessions are shared with them
    Peers,
    /// The profile in force, with what it leaves to defaults; no key
    Config,
}

/// Which sessions are meant; all of them where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Sessions: of this client, an address, `ADDRESS:PORT`, or a prefix
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Sessions: of this server, likewise
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Sessions: in this state: `opening`, `established` or `closed`
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl Filter {
    /// Whether all are meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// To show something.
    Show {
        /// What.
        topic: Topic,
        /// Of sessions, how many at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
        /// Of sessions, which.
        #[serde(default, skip_serializing_if = "Filter::is_empty")]
        filter: Filter,
    },
    /// To end a session: both of its ends are reset.
    End {
        /// The client's address and port.
        client: SocketAddr,
        /// The server's.
        server: SocketAddr,
    },
    /// To read the profile and the keys again.
    Reload {
        /// Whether the new profile may leave unguarded what is guarded now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_unguarded: bool,
    },
    /// To copy packets to this connection until it is closed.
    Capture {
        /// The profile's port; all of them without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
        /// Which packets; all of them without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
    },
}

/// A request as it stands on its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// A response as it stands on its line: a result, or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Response {
    /// The response of this outcome.
    pub fn of(outcome: Result<Value, String>) -> Self {
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            version: VERSION,
            result,
            error,
        }
    }

    /// The outcome.
    ///
    /// # Errors
    /// The daemon's word, or what is wrong with its response.
    pub fn outcome(self) -> Result<Value, String> {
        match self {
            Self { version, .. } if version != VERSION => Err(format!(
                "the daemon speaks version {version} of the control protocol, not {VERSION}; use \
                 the `tidegate` that it was started with"
            )),
            Self {
                error: Some(error), ..
            } => Err(error),
            Self {
                result: Some(result),
                ..
            } => Ok(result),
            Self { .. } => Err("the daemon's response has neither result nor error".into()),
        }
    }

    /// The response's line.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Reads a request's line.
///
/// # Errors
/// A sentence for whoever wrote it.
pub fn read_request(line: &[u8]) -> Result<Request, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let unreadable = |error: serde_json::Error| format!("the request is not understood: {error}");
    let Version { version } = serde_json::from_slice(line).map_err(unreadable)?;
    if version != VERSION {
        return Err(format!(
            "this daemon speaks version {VERSION} of the control protocol, not {version}"
        ));
    }
    let envelope: Envelope = serde_json::from_slice(line).map_err(unreadable)?;
    Ok(envelope.request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: Request) -> String {
        let version = VERSION;
        serde_json::to_string(&Envelope { version, request }).unwrap()
    }

    #[test]
    fn requests_survive_their_line() {
        let requests = [
            Request::Show {
                topic: Topic::Sessions,
                limit: Some(5),
                filter: Filter {
                    state: Some("opening".into()),
                    ..Filter::default()
                },
            },
            Request::End {
                client: "[2001:db8::1]:4000".parse().unwrap(),
                server: "[2001:db8::10]:80".parse().unwrap(),
            },
            Request::Show {
                topic: Topic::Drops,
                limit: None,
                filter: Filter::default(),
            },
            Request::Reload {
                allow_unguarded: false,
            },
            Request::Reload {
                allow_unguarded: true,
            },
            Request::Capture {
                port: Some("outside".into()),
                filter: None,
            },
        ];
        for request in requests {
            assert_eq!(read_request(line(request.clone()).as_bytes()), Ok(request));
        }
        let documented = r#"{"version":1,"request":"show","topic":"ports"}"#;
        assert!(read_request(documented.as_bytes()).is_ok());
        let plain = line(Request::Reload {
            allow_unguarded: false,
        });
        assert_eq!(plain, r#"{"version":1,"request":"reload"}"#);
    }

    #[test]
    fn what_is_no_request_is_told() {
        let cases = [
            ("", "not understood"),
            ("[]", "not understood"),
            (r#"{"version":2,"request":"dance"}"#, "version 1"),
            (r#"{"version":1,"request":"dance"}"#, "dance"),
            (r#"{"version":1,"request":"show","topic":"moon"}"#, "moon"),
            (r#"{"version":1,"request":"show"}"#, "topic"),
        ];
        for (text, expected) in cases {
            let error = read_request(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn responses_carry_a_result_or_an_error() {
        for outcome in [Ok(serde_json::json!({"a": 1})), Err("no".to_owned())] {
            let line = Response::of(outcome.clone()).line();
            assert_eq!(line.matches('\n').count(), 1);
            let response: Response = serde_json::from_str(&line).unwrap();
            assert_eq!(response.outcome(), outcome);
        }
        let newer: Response = serde_json::from_str(r#"{"version":9,"result":{}}"#).unwrap();
        assert!(newer.outcome().unwrap_err().contains("version 9"));
    }
}
