//! Signs that word processors, web pages and chats put in the place of plain ones.

use crate::diagnostic::{Diagnostic, Mark, Severity};

/// What such a sign is, and what to write.
fn meaning(sign: char) -> Option<(&'static str, &'static str)> {
    Some(match sign {
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' | '\u{ab}' | '\u{bb}' => {
            ("a typographic quotation mark", "write a plain one: `\"`")
        }
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' => {
            ("a typographic quotation mark", "write a plain one: `'`")
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' => ("a typographic dash", "write a plain one: `-`"),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            ("a space that is none to YAML", "write a plain one")
        }
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{ad}' => {
            ("a sign that cannot be seen", "take it away")
        }
        '\u{ff0c}' => ("a wide comma", "write a plain one: `,`"),
        '\u{ff1a}' => ("a wide colon", "write a plain one: `:`"),
        _ => return None,
    })
}

/// Each of them, once a line, that does not stand in a comment.
pub(crate) fn typographic(text: &str) -> Vec<Diagnostic> {
    let mut list = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let (mut quote, mut before, mut seen) = (None, ' ', Vec::new());
        for (column, sign) in (1..).zip(text.chars()) {
            match (quote, sign) {
                (Some(mark), _) if sign == mark => quote = None,
                (None, '#') if before.is_whitespace() => break,
                (None, '"' | '\'') if " [{,:".contains(before) => quote = Some(sign),
                _ => {}
            }
            before = sign;
            if let Some((what, remedy)) = meaning(sign)
                && !seen.contains(&what)
            {
                seen.push(what);
                let shown =
                    if what.contains("quotation") || what.contains("dash") || what.contains("wide")
                    {
                        format!("`{sign}` ")
                    } else {
                        String::new()
                    };
                list.push(Diagnostic {
                    severity: Severity::Error,
                    mark: Mark { line, column },
                    what: format!("{shown}(U+{:04X}) is {what}", u32::from(sign)),
                    remedy: remedy.into(),
                });
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    // I5
    #[test]
    fn i5_typographic_signs_are_named_where_they_matter() {
        let text = "a: \u{201c}x\u{201d} # \u{201c}fine\u{201d}\nports: 80\u{2013}90\n\u{a0} b: 1\nplain: 'x # y' # \u{2014}\n";
        let lines: Vec<String> = typographic(text).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "1:4: `\u{201c}` (U+201C) is a typographic quotation mark; write a plain one: `\"`",
                "2:10: `\u{2013}` (U+2013) is a typographic dash; write a plain one: `-`",
                "3:1: (U+00A0) is a space that is none to YAML; write a plain one",
            ]
        );
        assert!(typographic("a: b # \u{2014} so\n# \u{2019}\n").is_empty());
    }
}
