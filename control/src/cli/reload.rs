//! `tidegate reload`: has the daemon read its profile and keys again.

use super::{Outcome, SocketArguments, Streams};
use crate::client;
use crate::protocol::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Take the profile even if it leaves unguarded what is guarded now
    #[arg(long)]
    allow_unguarded: bool,
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let request = Request::Reload {
        allow_unguarded: arguments.allow_unguarded,
    };
    let told = arguments
        .socket
        .path()
        .and_then(|path| client::ask(&path, request));
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
