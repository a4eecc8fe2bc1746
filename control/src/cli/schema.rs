//! `tidegate schema`: the JSON Schema that stands in `conf/profile.schema.json`.

use super::{Outcome, Streams};
use crate::profile::json_schema_text;

pub(super) fn run(streams: &mut Streams<'_>) -> Outcome {
    streams.out.write_all(json_schema_text().as_bytes())?;
    Ok(0)
}
