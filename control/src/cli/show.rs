//! `tidegate show …`: what the daemon knows, as a table or as JSON.

mod check;
mod runtime;
mod table;
mod views;

use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Outcome, SocketArguments, Streams};
use crate::client;
use crate::protocol::{Filter, Request, Topic};
use crate::report::Runtime;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What
    topic: Topic,
    /// As JSON, whose keys stay the same from one release to the next
    #[arg(long)]
    json: bool,
    /// Drops, and what is counted between guards: also those that never occurred
    #[arg(long)]
    all: bool,
    /// Sessions: at most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    filter: Filter,
    /// Runtime: what happens in so many seconds, in place of all since the start
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Peers: one line, and exit code 0 if this guard may carry packets of any connection, else 3
    #[arg(long, conflicts_with_all = ["json", "all", "seconds"])]
    check: bool,
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let request = Request::Show {
        topic: arguments.topic,
        limit: arguments.limit,
        filter: arguments.filter.clone(),
    };
    if !arguments.filter.is_empty() && arguments.topic != Topic::Sessions {
        writeln!(
            streams.err,
            "tidegate: --client, --server and --state go with `show sessions` only"
        )?;
        return Ok(2);
    }
    if arguments.seconds.is_some() && arguments.topic != Topic::Runtime {
        writeln!(
            streams.err,
            "tidegate: --seconds goes with `show runtime` only"
        )?;
        return Ok(2);
    }
    if arguments.check && arguments.topic != Topic::Peers {
        writeln!(streams.err, "tidegate: --check goes with `show peers` only")?;
        return Ok(2);
    }
    if arguments.check {
        return check::run(&arguments.socket, streams);
    }
    let told = arguments.socket.path().and_then(|path| {
        let earlier = match arguments.seconds {
            Some(seconds) => {
                let earlier = client::ask(&path, request.clone())?;
                thread::sleep(Duration::from_secs(seconds));
                Some(earlier)
            }
            None => None,
        };
        let now = client::ask(&path, request)?;
        Ok(match earlier {
            Some(earlier) => span(earlier, now),
            None => now,
        })
    });
    let shown = match told {
        Ok(Ok(value)) if arguments.json => Ok(format!("{value:#}\n")),
        Ok(Ok(value)) => text(arguments, value),
        Ok(Err(text)) => Err(text),
        Err(failure) => Err(failure.to_string()),
    };
    match shown {
        Ok(text) => {
            streams.out.write_all(text.as_bytes())?;
            Ok(0)
        }
        Err(text) => {
            writeln!(streams.err, "tidegate: {text}")?;
            Ok(1)
        }
    }
}

/// What has happened between two reports of the runtime.
fn span(earlier: Result<Value, String>, now: Result<Value, String>) -> Result<Value, String> {
    let (earlier, now): (Runtime, Runtime) = (read(earlier?)?, read(now?)?);
    serde_json::to_value(now.since(&earlier)).map_err(|error| error.to_string())
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| {
        format!("the daemon's report is not understood: {error}; use the `tidegate` that it was started with")
    })
}

/// The report for a person.
fn text(arguments: &Arguments, value: Value) -> Result<String, String> {
    Ok(match arguments.topic {
        Topic::Ports => views::ports(&read(value)?),
        Topic::Workers => views::workers(&read(value)?),
        Topic::Runtime => runtime::view(&read(value)?),
        Topic::Guard => views::guard(&read(value)?),
        Topic::Sessions => views::sessions(&read(value)?),
        Topic::Neighbours => views::neighbours(&read(value)?),
        Topic::Drops => views::drops(&read(value)?, arguments.all),
        Topic::Config => views::config(&value),
        Topic::Peers => views::peers(&read(value)?, arguments.all),
    })
}
