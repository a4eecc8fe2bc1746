//! `tidegate reload`: has the daemon read its profile and keys again.

use super::{Outcome, SocketArguments, Streams};
use crate::client;
use crate::protocol::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let told = arguments
        .socket
        .path()
        .and_then(|path| client::ask(&path, Request::Reload));
    match told {
        Ok(Ok(told)) => {
            writeln!(
                streams.out,
                "reloaded: {}",
                told["reloaded"].as_str().unwrap_or_default()
            )?;
            Ok(0)
        }
        // The profile's errors, each on its line with its place.
        Ok(Err(text)) => {
            writeln!(streams.err, "{text}")?;
            Ok(1)
        }
        Err(failure) => {
            writeln!(streams.err, "tidegate: {failure}")?;
            Ok(1)
        }
    }
}
