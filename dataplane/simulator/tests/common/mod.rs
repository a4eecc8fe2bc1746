//! Reading the scripts of `tests/scripts`.

use std::path::PathBuf;

use simulator::script::Script;

/// The folder of the scripts.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

/// Reads the script of this name.
pub(crate) fn script(name: &str) -> Script {
    let path = folder().join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let part = |name: &str| {
        std::fs::read_to_string(folder().join("parts").join(name).with_extension("txt")).ok()
    };
    Script::parse(&text, &part)
        .unwrap_or_else(|error| panic!("{name}: line {}: {}", error.line, error.what))
}
