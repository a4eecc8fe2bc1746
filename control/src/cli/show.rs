//! `tidegate show …`: what the daemon knows, as a table or as JSON.

mod table;
mod views;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Outcome, SocketArguments, Streams};
use crate::client;
use crate::protocol::{Request, Topic};

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
    socket: SocketArguments,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let request = Request::Show {
        topic: arguments.topic,
        limit: arguments.limit,
    };
    let told = arguments
        .socket
        .path()
        .and_then(|path| client::ask(&path, request));
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

/// The report for a person.
fn text(arguments: &Arguments, value: Value) -> Result<String, String> {
    fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| {
            format!("the daemon's report is not understood: {error}; use the `tidegate` that it was started with")
        })
    }
    Ok(match arguments.topic {
        Topic::Ports => views::ports(&read(value)?),
        Topic::Workers => views::workers(&read(value)?),
        Topic::Guard => views::guard(&read(value)?),
        Topic::Sessions => views::sessions(&read(value)?),
        Topic::Neighbours => views::neighbours(&read(value)?),
        Topic::Drops => views::drops(&read(value)?, arguments.all),
        Topic::Peers => views::peers(&read(value)?, arguments.all),
    })
}
