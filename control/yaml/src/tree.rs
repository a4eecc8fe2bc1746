//! The places of a file's keys and values: a tree of the same form as the YAML.
//!
//! The values themselves are read by `serde_yaml`; this tree only knows where they stand, and
//! refuses what could hide a mistake or blow up: a key twice, tags, merge keys, several
//! documents, deep nesting, aliases that expand without a bound.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::diagnostic::{Diagnostic, Mark, Severity};

/// Keys and values in a file, those of expanded aliases included.
const MAXIMUM_NODES: usize = 1 << 16;
/// Maps and lists within each other.
const MAXIMUM_DEPTH: usize = 64;

/// A value's place, and its children's.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the value begins.
    pub mark: Mark,
    /// Where its key begins, if it is a map's value.
    key_mark: Option<Mark>,
    /// The children.
    pub children: Children,
    /// Nodes in this tree, this one included.
    size: usize,
}

/// What stands within a value.
#[derive(Clone, Debug)]
pub enum Children {
    /// Nothing: it is a scalar.
    None,
    /// A list's items.
    List(Vec<Node>),
    /// A map's values, by their keys.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key; this node itself where there is no such key, so that an error
    /// about what is not written points at what surrounds it.
    #[must_use]
    pub fn get(&self, key: &str) -> &Self {
        match &self.children {
            Children::Map(entries) => entries
                .iter()
                .find_map(|(name, node)| (name == key).then_some(node))
                .unwrap_or(self),
            _ => self,
        }
    }

    /// Whether the key is written.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        !std::ptr::eq(self.get(key), self)
    }

    /// An item of a list; this node itself where a single value stands in a list's place.
    #[must_use]
    pub fn item(&self, index: usize) -> &Self {
        match &self.children {
            Children::List(items) => items.get(index).unwrap_or(self),
            _ => self,
        }
    }

    /// Where the key begins, or the value if it has none.
    #[must_use]
    pub fn key_mark(&self) -> Mark {
        self.key_mark.unwrap_or(self.mark)
    }
}

fn error(mark: Mark, what: impl Into<String>, remedy: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        mark,
        what: what.into(),
        remedy: remedy.into(),
    }
}

fn too_deep(mark: Mark) -> Diagnostic {
    let what = format!("maps and lists are nested more than {MAXIMUM_DEPTH} deep");
    error(mark, what, "write it flatter")
}

fn place(marker: &Marker) -> Mark {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Mark {
        line: number(marker.line()),
        column: number(marker.col() + 1),
    }
}

/// Reads the tree of a text's only document; `None` if there is none.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Vec<Diagnostic>> {
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        duplicates: Vec::new(),
    };
    match builder.document() {
        Ok(root) if builder.duplicates.is_empty() => Ok(root),
        Ok(_) => Err(builder.duplicates),
        Err(error) => {
            builder.duplicates.push(error);
            Err(builder.duplicates)
        }
    }
}

struct Builder<'input> {
    text: &'input str,
    parser: Parser<'input, StrInput<'input>>,
    /// What each anchor stands for, by the parser's number for it.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    duplicates: Vec<Diagnostic>,
}

impl<'input> Builder<'input> {
    fn document(&mut self) -> Result<Option<Node>, Diagnostic> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                _ if root.is_some() => {
                    return Err(error(
                        place(&span.start),
                        "a second document begins here",
                        "write each to a file of its own",
                    ));
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'input>, Span), Diagnostic> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(scan_error)) => Err(syntax(&scan_error, self.text)),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    fn node(&mut self, event: Event<'_>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        let mark = place(&span.start);
        if depth > MAXIMUM_DEPTH {
            return Err(too_deep(mark));
        }
        self.count(1, mark)?;
        let leaf = Node {
            mark,
            key_mark: None,
            children: Children::None,
            size: 1,
        };
        let (node, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, mark),
            Event::Scalar(_, _, anchor, tag) => (leaf, anchor, tag),
            Event::SequenceStart(anchor, tag) => (self.list(leaf, depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map(leaf, depth)?, anchor, tag),
            _ => return Err(error(mark, "a value is expected here", "")),
        };
        if let Some(tag) = tag {
            return Err(error(
                mark,
                format!("the tag `{tag}` is not used here"),
                "leave it out",
            ));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes > MAXIMUM_NODES {
            return Err(error(
                mark,
                format!("the file has more than {MAXIMUM_NODES} keys and values, aliases expanded"),
                "write less, or use fewer aliases",
            ));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<Node, Diagnostic> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(error(
                mark,
                "this alias stands within its own anchor",
                "write the value out",
            ));
        };
        let size = node.size;
        self.count(size, mark)?;
        Ok(self.anchors[&anchor].clone())
    }

    fn list(&mut self, mut list: Node, depth: usize) -> Result<Node, Diagnostic> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            let item = self.node(event, span, depth + 1)?;
            list.size += item.size;
            items.push(item);
        }
        list.children = Children::List(items);
        Ok(list)
    }

    fn map(&mut self, mut map: Node, depth: usize) -> Result<Node, Diagnostic> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut seen: HashMap<String, Mark> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key_mark = place(&span.start);
            let key = key(event, key_mark)?;
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            value.key_mark = Some(key_mark);
            if let Some(first) = seen.insert(key.clone(), key_mark) {
                self.duplicates.push(error(
                    key_mark,
                    format!("the key `{key}` stands here a second time"),
                    format!("the first is on line {}; keep one of them", first.line),
                ));
            }
            map.size += value.size;
            entries.push((key, value));
        }
        map.children = Children::Map(entries);
        Ok(map)
    }
}

fn key(event: Event<'_>, mark: Mark) -> Result<String, Diagnostic> {
    match event {
        Event::Scalar(key, ScalarStyle::Plain, _, _) if key == "<<" => Err(error(
            mark,
            "merge keys (`<<`) are not used here",
            "write the keys out",
        )),
        Event::Scalar(key, ScalarStyle::Plain, 0, None) if !is_text(&key) => Err(error(
            mark,
            format!("the key `{key}` is not a word"),
            format!("write it in quotation marks: `\"{key}\"`"),
        )),
        Event::Scalar(key, _, 0, None) => Ok(key.into_owned()),
        _ => Err(error(
            mark,
            "a key must be a plain word",
            "write `key: value`",
        )),
    }
}

/// Whether YAML takes a plain scalar for text, and not for a number, a truth or nothing.
fn is_text(plain: &str) -> bool {
    matches!(
        serde_yaml::from_str(plain),
        Ok(serde_yaml::Value::String(_))
    )
}

/// The last bracket that is open at the end of the text, and its line.
fn open_bracket(text: &str) -> Option<(char, usize)> {
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut quote = None;
    let mut before = '\n';
    for (line, text) in text.lines().enumerate() {
        for sign in text.chars() {
            match (quote, sign) {
                (Some(mark), _) if sign == mark => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') if " [{,:\n".contains(before) => quote = Some(sign),
                (None, '#') if " \n".contains(before) => break,
                (None, '[' | '{') => open.push((sign, line + 1)),
                (None, ']' | '}') => drop(open.pop()),
                _ => {}
            }
            before = sign;
        }
        before = '\n';
    }
    open.pop()
}

/// A syntax error in words for someone who does not know the parser.
fn syntax(scan_error: &ScanError, text: &str) -> Diagnostic {
    let info = scan_error.info();
    if info.contains("recursion limit") {
        return too_deep(place(scan_error.marker()));
    }
    let before: String = text.chars().take(scan_error.marker().index()).collect();
    let unclosed;
    let remedy = if let Some((bracket, line)) = open_bracket(&before) {
        unclosed = format!("close the `{bracket}` of line {line}");
        &unclosed
    } else if info.contains("tab") {
        "indent with spaces"
    } else if info.contains("simple key") || info.contains("':'") || info.contains("mapping") {
        "write `key: value`, and quote a text that contains `: ` or begins with a sign"
    } else if info.contains("quote") || info.contains("quoted") {
        "close the quotation mark"
    } else if info.contains("flow") || info.contains(',') || info.contains(']') {
        "close every `[` with `]` and every `{` with `}`"
    } else {
        "check indentation, quotation marks and brackets"
    };
    error(
        place(scan_error.marker()),
        format!("this is not YAML: {info}"),
        remedy,
    )
}
