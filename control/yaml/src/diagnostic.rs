//! What is wrong with a file, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file's text; lines and columns count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Whether a file can be used in spite of what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can.
    Warning,
}

/// One thing to be said of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// The place in the text.
    pub mark: Mark,
    /// What is wrong.
    pub what: String,
    /// What to do; may be empty.
    pub remedy: String,
}

/// Everything to be said of one file, in the order of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// What is said.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The list in the order of the text, each thing once.
    #[must_use]
    pub fn new(file: &Path, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|diagnostic| diagnostic.mark);
        list.dedup();
        for diagnostic in &mut list {
            diagnostic.what = one_line(&diagnostic.what);
            diagnostic.remedy = one_line(&diagnostic.remedy);
        }
        Self {
            file: file.to_owned(),
            list,
        }
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// What quotes a file must not break the line, command the terminal, or fill the screen.
fn one_line(text: &str) -> String {
    const MOST: usize = 400;
    let mut line = String::with_capacity(text.len());
    for (index, sign) in text.chars().enumerate() {
        if index == MOST {
            line.push('…');
            break;
        }
        if sign.is_control() || matches!(sign, '\u{2028}' | '\u{2029}') {
            line.extend(sign.escape_default());
        } else {
            line.push(sign);
        }
    }
    line
}

impl fmt::Display for Diagnostics {
    /// One line each: `FILE:LINE:COLUMN: what; remedy`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}:{diagnostic}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: ", self.mark.line, self.mark.column)?;
        if self.severity == Severity::Warning {
            formatter.write_str("warning: ")?;
        }
        formatter.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(formatter, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// The candidate nearest to `word`, if it is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| {
            *distance <= 1.max(candidate.chars().count().max(word.chars().count()) / 3)
                && *distance < candidate.chars().count()
        })
        .min_by_key(|(distance, candidate)| (*distance, std::cmp::Reverse(candidate.len())))
        .map(|(_, candidate)| candidate)
}

/// What other tools call things.
const ELSEWHERE: [(&str, &[&str]); 33] = [
    ("dport", &["destination_port"]),
    ("dst_port", &["destination_port"]),
    ("dest_port", &["destination_port"]),
    ("sport", &["source_port"]),
    ("src_port", &["source_port"]),
    ("dst", &["destination", "to"]),
    ("dest", &["destination", "to"]),
    ("daddr", &["destination"]),
    ("src", &["source"]),
    ("saddr", &["source"]),
    ("proto", &["protocol"]),
    ("ip_proto", &["protocol"]),
    ("flags", &["tcp_flags"]),
    ("in_interface", &["port"]),
    ("iif", &["port"]),
    ("iface", &["port", "device"]),
    ("interface", &["port", "device"]),
    ("ip", &["address"]),
    ("addr", &["address"]),
    ("addresses", &["address"]),
    ("gateway", &["via"]),
    ("gw", &["via"]),
    ("next_hop", &["via"]),
    ("nexthop", &["via"]),
    ("match", &["when"]),
    ("if", &["when"]),
    ("action", &["then"]),
    ("policy", &["default"]),
    ("allow", &["forward"]),
    ("accept", &["forward"]),
    ("permit", &["forward"]),
    ("drop", &["deny"]),
    ("protected", &["protect"]),
];

/// The right word for what other tools call so.
fn meant_elsewhere<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let (_, names) = ELSEWHERE.iter().find(|(name, _)| *name == word)?;
    candidates
        .into_iter()
        .find(|candidate| names.contains(candidate))
}

/// A remedy for a wrong word: the nearest right one, or all the right ones.
#[must_use]
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let known = meant_elsewhere(word, candidates.clone());
    if let Some(nearest) = known.or_else(|| nearest(word, candidates.clone())) {
        return format!("did you mean `{nearest}`?");
    }
    let all: Vec<String> = candidates
        .into_iter()
        .map(|candidate| format!("`{candidate}`"))
        .collect();
    match all.len() {
        0 => String::new(),
        1 => format!("write {}", all[0]),
        _ => format!("write one of {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let words = ["outside", "inside", "management"];
        assert_eq!(nearest("outsid", words), Some("outside"));
        assert_eq!(nearest("Inside", words), Some("inside"));
        assert_eq!(nearest("insdie", words), Some("inside"));
        assert_eq!(nearest("dmz", words), None);
        assert_eq!(nearest("to", ["of"]), None);
        // I5
        let keys = ["port", "source_port", "destination_port", "protocol"];
        assert_eq!(suggest("dport", keys), "did you mean `destination_port`?");
        assert_eq!(suggest("src-port", keys), "did you mean `source_port`?");
        assert_eq!(suggest("proto", keys), "did you mean `protocol`?");
        assert_eq!(
            suggest("accept", ["deny", "forward"]),
            "did you mean `forward`?"
        );
        assert_eq!(
            suggest("dmz", words),
            "write one of `outside`, `inside`, `management`"
        );
    }

    #[test]
    fn a_diagnostic_is_one_line() {
        let list = vec![
            Diagnostic {
                severity: Severity::Warning,
                mark: Mark { line: 9, column: 1 },
                what: "late".into(),
                remedy: String::new(),
            },
            Diagnostic {
                severity: Severity::Error,
                mark: Mark { line: 3, column: 7 },
                what: "unknown key `adress`".into(),
                remedy: "did you mean `address`?".into(),
            },
        ];
        let diagnostics = Diagnostics::new(Path::new("a.yaml"), list);
        assert!(diagnostics.has_errors());
        assert_eq!(
            diagnostics.to_string(),
            "a.yaml:3:7: unknown key `adress`; did you mean `address`?\na.yaml:9:1: warning: late"
        );
    }
}
