//! From a text to its raw form: syntax, unknown keys, wrong types.
//!
//! `serde` stops at its first error. So that a user sees all of them at once, what an error
//! stands on is noted and taken out, and the rest is read again.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Mark, Severity, suggest};
use crate::signs;
use crate::tree::{self, Children, Node};

/// How many errors of form are reported at once.
const MAXIMUM_ERRORS: usize = 32;

/// Reads a text into `T`, and tells where everything stands. Who wrote nothing is sent to
/// `example`.
///
/// # Errors
/// Everything that is wrong with its form.
pub fn read<T: DeserializeOwned>(text: &str, example: &str) -> Result<(T, Node), Vec<Diagnostic>> {
    read_with(text, example, &|_| None)
}

/// The same, where a key's number has a range of its own, which errors then tell.
///
/// # Errors
/// Everything that is wrong with its form.
pub fn read_with<T: DeserializeOwned>(
    text: &str,
    example: &str,
    ranges: &dyn Fn(&str) -> Option<(u64, u64)>,
) -> Result<(T, Node), Vec<Diagnostic>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    read_plain(text, example, ranges).map_err(|mut errors| {
        errors.extend(signs::typographic(text));
        errors
    })
}

/// What some editors put before a text, to say that it is UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

fn read_plain<T: DeserializeOwned>(
    text: &str,
    example: &str,
    ranges: &dyn Fn(&str) -> Option<(u64, u64)>,
) -> Result<(T, Node), Vec<Diagnostic>> {
    let start = Mark { line: 1, column: 1 };
    let error = |mark, what: String, remedy: &str| {
        vec![Diagnostic {
            severity: Severity::Error,
            mark,
            what,
            remedy: remedy.into(),
        }]
    };
    if let Some((mark, sign)) = forbidden_sign(text) {
        let what = format!("the sign U+{:04X} has no place here", u32::from(sign));
        return Err(error(
            mark,
            what,
            "take it away; it cannot be seen in most editors",
        ));
    }
    let tree = tree::parse(text)?.ok_or_else(|| {
        error(
            start,
            "the file is empty".into(),
            &format!("begin with the example in {example}"),
        )
    })?;
    let value: Value = serde_yaml::from_str(text).map_err(|yaml| {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let mark = yaml.location().map_or(start, |location| Mark {
            line: number(location.line()),
            column: number(location.column()),
        });
        error(mark, format!("this is not YAML: {yaml}"), "")
    })?;
    if let Some(mark) = disagreement(&value, &tree) {
        let what = "two readers of YAML take this differently".into();
        return Err(error(
            mark,
            what,
            "write it more plainly: with quotation marks, on one line",
        ));
    }
    Reader {
        value,
        tree,
        errors: Vec::new(),
        removed: Vec::new(),
        ranges,
    }
    .read()
}

/// Where the values and the places that were read of one text are not of the same form: the one
/// reader keeps to YAML 1.1, the other to 1.2.
fn disagreement(value: &Value, node: &Node) -> Option<Mark> {
    match (value, &node.children) {
        (Value::Mapping(map), Children::Map(entries)) if map.len() == entries.len() => entries
            .iter()
            .find_map(|(key, node)| match map.get(key.as_str()) {
                Some(value) => disagreement(value, node),
                None => Some(node.key_mark()),
            }),
        (Value::Sequence(items), Children::List(nodes)) if items.len() == nodes.len() => items
            .iter()
            .zip(nodes)
            .find_map(|(value, node)| disagreement(value, node)),
        (Value::Mapping(_) | Value::Sequence(_) | Value::Tagged(_), _) => Some(node.mark),
        (_, Children::None) => None,
        (_, _) => Some(node.mark),
    }
}

/// The first sign that YAML 1.1 and 1.2 read differently (line ends other than a line feed), or
/// that cannot be seen.
fn forbidden_sign(text: &str) -> Option<(Mark, char)> {
    let mut mark = Mark { line: 1, column: 1 };
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        let forbidden = match sign {
            '\n' | '\t' => false,
            '\r' => signs.peek() != Some(&'\n'),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => true,
            _ => sign.is_control(),
        };
        if forbidden {
            return Some((mark, sign));
        }
        if sign == '\n' {
            mark = Mark {
                line: mark.line + 1,
                column: 1,
            };
        } else {
            mark.column += 1;
        }
    }
    None
}

struct Reader<'a> {
    ranges: &'a dyn Fn(&str) -> Option<(u64, u64)>,
    value: Value,
    tree: Node,
    errors: Vec<Diagnostic>,
    /// What was taken out because of an error, and what it was probably meant to be, by its path.
    removed: Vec<Vec<Step>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Reader<'_> {
    fn read<T: DeserializeOwned>(mut self) -> Result<(T, Node), Vec<Diagnostic>> {
        while self.errors.len() < MAXIMUM_ERRORS {
            let failure = match serde_path_to_error::deserialize(self.value.clone()) {
                Ok(raw) if self.errors.is_empty() => return Ok((raw, self.tree)),
                Ok(_) => break,
                Err(failure) => failure,
            };
            let path = steps(failure.path());
            let message = failure.into_inner().to_string();
            if let Some(missing) = missing_field(&message) {
                let mut of_missing = path.clone();
                of_missing.push(Step::Key(missing.to_owned()));
                if !self.removed.contains(&of_missing) {
                    self.note(&path, &message);
                }
            } else {
                self.note(&path, &message);
            }
            if path.is_empty() || !self.remove(&path) {
                break;
            }
            self.removed.push(path);
        }
        Err(self.errors)
    }

    fn note(&mut self, path: &[Step], message: &str) {
        let mut node = &self.tree;
        for step in path {
            node = match step {
                Step::Key(key) => node.get(key),
                Step::Item(index) => node.item(*index),
            };
        }
        let key = path.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Item(_) => None,
        });
        let (what, mut remedy) = reword(message, key);
        if remedy.starts_with("write a whole number")
            && let Some((first, last)) = key.and_then(self.ranges)
        {
            remedy = format!("write a whole number from {first} to {last}");
        }
        if let (true, Some(meant)) = (
            message.starts_with("unknown field"),
            quoted(&remedy).first(),
        ) && let Some((_, parents)) = path.split_last()
        {
            let meant = Step::Key((*meant).to_owned());
            self.removed
                .push(parents.iter().cloned().chain([meant]).collect());
        }
        let about_the_key = message.starts_with("unknown field") || message.starts_with("missing");
        let mark = if about_the_key {
            node.key_mark()
        } else {
            node.mark
        };
        self.errors.push(Diagnostic {
            severity: Severity::Error,
            mark,
            what,
            remedy,
        });
    }

    /// Takes the value at `path` out of the value and of the tree; false if it is not there.
    fn remove(&mut self, path: &[Step]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let mut value = &mut self.value;
        let mut node = &mut self.tree;
        for step in parents {
            let (Some(inner), Some(inner_node)) = (child(value, step), child_node(node, step))
            else {
                return false;
            };
            (value, node) = (inner, inner_node);
        }
        match (last, value, &mut node.children) {
            (Step::Key(key), Value::Mapping(map), Children::Map(entries)) => {
                entries.retain(|(name, _)| name != key);
                map.remove(key.as_str()).is_some()
            }
            (Step::Item(index), Value::Sequence(items), Children::List(nodes))
                if *index < items.len() && *index < nodes.len() =>
            {
                items.remove(*index);
                nodes.remove(*index);
                true
            }
            _ => false,
        }
    }
}

fn child<'a>(value: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match (step, value) {
        (Step::Key(key), Value::Mapping(map)) => map.get_mut(key.as_str()),
        (Step::Item(index), Value::Sequence(items)) => items.get_mut(*index),
        _ => None,
    }
}

fn child_node<'a>(node: &'a mut Node, step: &Step) -> Option<&'a mut Node> {
    match (step, &mut node.children) {
        (Step::Key(key), Children::Map(entries)) => entries
            .iter_mut()
            .find_map(|(name, node)| (name == key).then_some(node)),
        (Step::Item(index), Children::List(items)) => items.get_mut(*index),
        _ => None,
    }
}

fn steps(path: &Path) -> Vec<Step> {
    path.iter()
        .map_while(|segment| match segment {
            Segment::Seq { index } => Some(Step::Item(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// `serde`'s message in the words of the file's writer: what is wrong, and what to do.
fn reword(message: &str, key: Option<&str>) -> (String, String) {
    let of_key = key.map(|key| format!(" of `{key}`")).unwrap_or_default();
    if let Some(missing) = missing_field(message) {
        let place = key.map(|key| format!(" in `{key}`")).unwrap_or_default();
        return (
            format!("`{missing}` is missing{place}"),
            format!("add `{missing}: …`"),
        );
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (word, expected) = rest.split_once('`').unwrap_or((rest, ""));
        return (
            format!("unknown key `{word}`"),
            suggest(word, quoted(expected)),
        );
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (word, expected) = rest.split_once('`').unwrap_or((rest, ""));
        return (
            format!("`{word}` is not a value{of_key}"),
            suggest(word, quoted(expected)),
        );
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message
            .strip_prefix(kind)
            .and_then(|rest| rest.split_once(", expected "))
        {
            let found = found_in_words(found);
            let expected = expected_in_words(expected);
            return (
                format!("{found} cannot be the value{of_key}"),
                format!("write {expected}"),
            );
        }
    }
    (message.to_owned(), String::new())
}

fn found_in_words(found: &str) -> String {
    let inner = quoted(found).first().copied().unwrap_or_default();
    let kind = found.split(' ').next().unwrap_or_default();
    match kind {
        "unit" | "null" | "Option" => "nothing".into(),
        "string" => {
            let text = found
                .strip_prefix("string ")
                .unwrap_or(found)
                .trim_matches('"');
            format!("the text `{text}`")
        }
        "integer" | "floating" | "boolean" if !inner.is_empty() => format!("`{inner}`"),
        "sequence" => "a list".into(),
        "map" => "a map of keys".into(),
        _ => found.into(),
    }
}

fn expected_in_words(expected: &str) -> String {
    match expected {
        "a boolean" => "`true` or `false`".into(),
        "a string" | "string" => "a text (in quotation marks if it looks like a number)".into(),
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "a sequence" => "a list: `[ … ]`, or one `- …` a line".into(),
        "a map of keys" | "a map of names" => format!("{expected}: `{{ key: value, … }}`"),
        other => other.replace("` `", "`, `"),
    }
}
