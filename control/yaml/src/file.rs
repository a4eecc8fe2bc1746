//! A file's text, if it is one that can be a person's.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Diagnostic, Diagnostics, Mark, Node, Severity, shape};

/// A file's size.
const MAXIMUM_BYTES: u64 = 1 << 20;

/// Reads a file into `T`, and tells where everything stands. Who names no such file, or an empty
/// one, is sent to `example`.
///
/// # Errors
/// Everything that is wrong with its form.
pub fn load<T: DeserializeOwned>(file: &Path, example: &str) -> Result<(T, Node), Diagnostics> {
    let text = read_file(file, example)?;
    shape::read(&text, example).map_err(|errors| Diagnostics::new(file, errors))
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read, is too large, or is no text.
pub fn read_file(file: &Path, example: &str) -> Result<String, Diagnostics> {
    text_of(file).map_err(|what| {
        let error = Diagnostic {
            severity: Severity::Error,
            mark: Mark { line: 1, column: 1 },
            what,
            remedy: format!("name a file such as {example}"),
        };
        Diagnostics::new(file, vec![error])
    })
}

fn text_of(file: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("the file cannot be read: {error}");
    if !fs::metadata(file).map_err(cannot)?.is_file() {
        return Err("this is not a regular file".into());
    }
    let opened = fs::File::open(file).map_err(cannot)?;
    text_from(opened)
}

/// The text of a stream, such as standard input.
///
/// # Errors
/// When it cannot be read, is too large, or is no text.
pub fn text_from(stream: impl Read) -> Result<String, String> {
    let cannot = |error: io::Error| format!("the file cannot be read: {error}");
    let mut bytes = Vec::new();
    stream
        .take(MAXIMUM_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAXIMUM_BYTES {
        return Err(format!("the file has more than {MAXIMUM_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..place]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("the file is not UTF-8 text: line {line} has other bytes")
    })
}
