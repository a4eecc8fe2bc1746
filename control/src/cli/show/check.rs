//! `tidegate show peers --check`: one line and an exit code, for the routers' health checks.

use std::time::Duration;

use super::super::{Outcome, SocketArguments, Streams};
use super::read;
use crate::client;
use crate::protocol::{Filter, Request, Topic};
use crate::report::Peers;

/// The exit code of a guard that should not carry packets of any connection.
const MAY_NOT: u8 = 3;
/// A daemon that takes longer to answer does not carry traffic well.
const LIMIT: Duration = Duration::from_secs(2);

pub(super) fn run(socket: &SocketArguments, streams: &mut Streams<'_>) -> Outcome {
    let request = Request::Show {
        topic: Topic::Peers,
        limit: None,
        filter: Filter::default(),
    };
    let told = socket
        .path()
        .and_then(|path| client::ask_within(&path, request, LIMIT));
    let report = told
        .map_err(|failure| failure.to_string())
        .and_then(|told| told.and_then(read::<Peers>));
    match report {
        Ok(report) => {
            writeln!(streams.out, "{}", line(&report))?;
            Ok(if report.may_carry { 0 } else { MAY_NOT })
        }
        Err(text) => {
            writeln!(streams.err, "tidegate: {text}")?;
            Ok(1)
        }
    }
}

/// Whether this guard may carry packets of any connection, how it stands, and what that means.
pub(super) fn line(report: &Peers) -> String {
    let may = if report.may_carry {
        "may carry any packet"
    } else {
        "should not carry traffic while another guard may"
    };
    format!(
        "guard {} is {} and {may}: {}",
        report.own, report.standing, report.meaning
    )
}
