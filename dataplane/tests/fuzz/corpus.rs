//! The committed inputs: `fuzz/corpus/TARGET/NAME.hex`, octets in hexadecimal, `#` before what they
//! are, `# expect: LABEL` for what becomes of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One input.
pub(crate) struct Entry {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Its octets.
    pub(crate) bytes: Vec<u8>,
    /// What must become of it: `ok`, or a drop reason's label.
    pub(crate) expected: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = listing.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The folders' names, sorted.
pub(crate) fn folders() -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    sorted(&root()).into_iter().map(name).collect()
}

/// Every input of a target; there is at least one.
pub(crate) fn read(target: &str) -> Vec<Entry> {
    let entries: Vec<_> = sorted(&root().join(target))
        .into_iter()
        .map(read_entry)
        .collect();
    assert!(!entries.is_empty(), "the corpus of {target} is empty");
    entries
}

fn read_entry(path: PathBuf) -> Entry {
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let expected = text
        .lines()
        .find_map(|line| line.strip_prefix("# expect: "));
    let expected = expected.map(|label| label.trim().to_owned());
    let bytes = octets(&text).unwrap_or_else(|| panic!("{}: not octets", path.display()));
    Entry {
        path,
        bytes,
        expected,
    }
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let mut digits = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next()?;
        for digit in line.chars().filter(|digit| !digit.is_whitespace()) {
            digits.push(digit.to_digit(16)? as u8);
        }
    }
    digits.len().is_multiple_of(2).then(|| {
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}

/// An input as a file of the corpus holds it.
pub(crate) fn to_text(bytes: &[u8], comment: &str) -> String {
    let mut text = format!("# {comment}\n");
    for line in bytes.chunks(16) {
        for octet in line {
            let _ = write!(text, "{octet:02x} ");
        }
        text.pop();
        text.push('\n');
    }
    text
}

#[test]
fn what_is_written_as_text_is_read_back() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(octets(&to_text(&bytes, "every octet")), Some(bytes));
    assert_eq!(octets("0a 0"), None);
    assert_eq!(octets("zz"), None);
}
