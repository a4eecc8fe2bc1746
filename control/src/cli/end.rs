//! `tidegate end`: ends one session of a running daemon.

use std::net::SocketAddr;

use super::{Outcome, SocketArguments, Streams};
use crate::client;
use crate::protocol::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The client's address and port, as `show sessions` tells them: `198.51.100.7:40000`
    client: SocketAddr,
    /// The server's, likewise
    server: SocketAddr,
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let &Arguments { client, server, .. } = arguments;
    let request = Request::End { client, server };
    let told = arguments
        .socket
        .path()
        .and_then(|path| client::ask(&path, request));
    match told {
        Ok(Ok(_)) => {
            writeln!(streams.out, "ended: {client} to {server}")?;
            Ok(0)
        }
        Ok(Err(text)) => {
            writeln!(streams.err, "tidegate: {text}")?;
            Ok(1)
        }
        Err(failure) => {
            writeln!(streams.err, "tidegate: {failure}")?;
            Ok(1)
        }
    }
}
