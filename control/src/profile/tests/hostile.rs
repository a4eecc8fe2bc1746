//! Texts that are no profiles at all: nothing panics, nothing grows, every error has its place.

use std::fmt::Write;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::profile::Severity;

/// What holds of every text: it is taken, or refused with errors that lie within it.
fn survives(text: &str) {
    if let Err(said) = check(text) {
        assert!(said.has_errors());
        assert!(
            !said.to_string().contains("two readers"),
            "{said} of {text:?}"
        );
        let lines = text.split('\n').count() as u32 + 1;
        for one in &said.list {
            assert!(one.mark.line >= 1 && one.mark.column >= 1, "{one}");
            assert!(one.mark.line <= lines, "{one} is beyond line {lines}");
            assert!(one.severity == Severity::Warning || !one.what.is_empty());
            assert!(!one.to_string().contains('\n'), "{one}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_text_of_yaml_signs_is_survived(text in "[-a-c0-9 :,?&*!|>'\"{}\\[\\]#%@\n\t~<]{0,120}") {
        survives(&text);
    }

    #[test]
    fn a_damaged_profile_is_survived(
        at in 0..EXAMPLE.len(),
        length in 0..40_usize,
        new in "[-a-z0-9 :,&*!'\"{}\\[\\]#\n/.]{0,12}",
    ) {
        let end = (at + length).min(EXAMPLE.len());
        survives(&format!("{}{new}{}", &EXAMPLE[..at], &EXAMPLE[end..]));
    }
}

/// The text is refused with this as its only error, and soon.
fn refused_soon(text: &str, expected: &str) {
    let begin = Instant::now();
    assert_eq!(errors(text), [expected]);
    let spent = begin.elapsed();
    assert!(spent.as_secs() < 5, "it took {spent:?}");
}

#[test]
fn aliases_that_expand_without_end_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    refused_soon(
        &text,
        "5:30: the file has more than 65536 keys and values, aliases expanded; \
         write less, or use fewer aliases",
    );
}

#[test]
fn deep_nesting_is_refused() {
    let too_deep = "maps and lists are nested more than 64 deep; write it flatter";
    for (depth, place) in [(200, "1:72"), (100_000, "1:263")] {
        let text = format!("ports: {}{}", "[".repeat(depth), "]".repeat(depth));
        refused_soon(&text, &format!("{place}: {too_deep}"));
    }

    let text = with(
        "{ all: [ { source: 198.51.100.0/24 }, { destination_port: 22 } ] }",
        &format!("{}{{ vlan: 7 }}{}", "{ not: ".repeat(16), " }".repeat(16)),
    );
    refused_soon(
        &text,
        "22:125: conditions are nested more than 16 deep; write it flatter",
    );
}

#[test]
fn a_large_profile_is_read_soon() {
    let begin = Instant::now();
    let rules: String = (1..=4096)
        .map(|port| format!("  - {{ when: {{ destination_port: {port} }}, then: deny }}\n"))
        .collect();
    let text = with(
        "  - { default: guard }\n",
        &format!("{rules}  - {{ default: guard }}\n"),
    );
    assert_eq!(
        errors(&text),
        ["22:3: 4098 rules are too many; write at most 4096"]
    );
    let nets: Vec<String> = (0..1024)
        .map(|net| format!("10.{}.{}.0/24", net / 256, net % 256))
        .collect();
    let rule = format!(
        "  - {{ when: {{ source: [{}] }}, then: deny }}\n",
        nets.join(", ")
    );
    let text = with(
        "  - { default: guard }\n",
        &format!("{}  - {{ default: guard }}\n", rule.repeat(17)),
    );
    assert_eq!(
        errors(&text),
        ["22:3: the rules ask 17412 things in all; \
          write at most 16384; each prefix and each range of a list is one"]
    );
    let routes: String = (0..5000)
        .map(|index| {
            format!(
                "  - {{ to: 172.16.{}.{}/32, via: 192.0.2.254 }}\n",
                index / 256,
                index % 256
            )
        })
        .collect();
    let text = with("routes:\n", &format!("routes:\n{routes}"));
    assert_eq!(check(&text).unwrap().profile.routes.len(), 5001);
    let spent = begin.elapsed();
    assert!(spent.as_secs() < 10, "it took {spent:?}");
}

#[test]
fn what_is_quoted_cannot_command_the_terminal() {
    let text = with("name: bc1", "name: \"\\e[31m\\n\"");
    let said = errors(&text).remove(0);
    assert!(
        said.starts_with(r"1:20: `\u{1b}[31m\n` cannot be a name; "),
        "{said}"
    );
    let text = with("name: bc1", &format!("name: \"{}\"", "x".repeat(100_000)));
    assert!(errors(&text).remove(0).chars().count() < 600);
    let text = with("name: bc1", "name: bc\u{202e}1\u{2028}");
    let said = errors(&text).remove(0);
    assert!(
        said.starts_with("1:24: the sign U+2028 has no place here; "),
        "{said}"
    );
}

#[test]
fn what_two_readers_take_differently_is_refused() {
    refused_soon(
        "&0: 0",
        "1:1: two readers of YAML take this differently; \
         write it more plainly: with quotation marks, on one line",
    );
}

#[test]
fn many_errors_of_form_are_bounded() {
    let wrong: String = (0..1000)
        .map(|index| format!("wrong{index}: 1\n"))
        .collect();
    assert_eq!(errors(&format!("{wrong}{EXAMPLE}")).len(), 32);
}
