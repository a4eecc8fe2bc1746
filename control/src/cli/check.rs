//! `tidegate check PROFILE…`: whole validation, with no packet sent.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Outcome, Streams};
use crate::profile::{
    self, Action, Diagnostic, Diagnostics, Guard, GuardMode, Loaded, Machine, Mark, Profile,
    Severity, Strictness,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profiles; - for standard input
    #[arg(required = true, value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    /// Refuse what keeps a profile from running on this machine now: missing cores, missing keys
    #[arg(long)]
    strict: bool,
    /// Say nothing of profiles that are good, but for warnings
    #[arg(short, long)]
    quiet: bool,
    /// As JSON: a list with each profile's name, whether it is good, and everything to be said of it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    run_with(arguments, std::io::stdin(), streams)
}

fn run_with(arguments: &Arguments, mut input: impl Read, streams: &mut Streams<'_>) -> Outcome {
    let strictness = if arguments.strict {
        Strictness::Run
    } else {
        Strictness::Check
    };
    let mut code = 0;
    let mut list = Vec::new();
    for file in &arguments.profiles {
        let outcome = if file == Path::new("-") {
            from_stream(&mut input, strictness)
        } else {
            profile::load(file, strictness)
        };
        let (summary, said) = match outcome {
            Ok(loaded) => (Some(summary(&loaded.profile)), loaded.warnings),
            Err(errors) => (None, errors),
        };
        if summary.is_none() {
            code = 1;
        }
        if arguments.json {
            list.push(as_json(file, summary.as_deref(), &said));
            continue;
        }
        if !said.list.is_empty() {
            writeln!(streams.err, "{said}")?;
        }
        if let Some(summary) = summary.filter(|_| !arguments.quiet) {
            writeln!(streams.out, "{}: ok: {summary}", file.display())?;
        }
    }
    if arguments.json {
        writeln!(streams.out, "{:#}", Value::Array(list))?;
    }
    Ok(code)
}

/// A profile that somebody pipes in. Paths in it start from the working folder.
fn from_stream(input: &mut impl Read, strictness: Strictness) -> Result<Loaded, Diagnostics> {
    let file = Path::new("-");
    let text = yaml::text_from(input).map_err(|what| {
        let error = Diagnostic {
            severity: Severity::Error,
            mark: Mark { line: 1, column: 1 },
            what,
            remedy: String::new(),
        };
        Diagnostics::new(file, vec![error])
    })?;
    profile::parse(&text, file, &Machine::read(Path::new("/")), strictness)
}

fn as_json(file: &Path, summary: Option<&str>, said: &Diagnostics) -> Value {
    let said = said.list.iter().map(|one| {
        let severity = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        json!({
            "severity": severity,
            "line": one.mark.line,
            "column": one.mark.column,
            "what": one.what,
            "remedy": one.remedy,
        })
    });
    json!({
        "file": file.display().to_string(),
        "ok": summary.is_some(),
        "summary": summary,
        "said": said.collect::<Vec<_>>(),
    })
}

fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// The ports that are neither outside nor inside: what comes by them is guarded, too.
fn third_ports(profile: &Profile, guard: &Guard) -> String {
    let is_third = |port: &usize| *port != guard.outside && *port != guard.inside;
    let ports = (0..profile.ports.len()).filter(is_third);
    let names: Vec<_> = ports.map(|port| &*profile.ports[port].name).collect();
    match (names.is_empty(), guard.wire) {
        (true, _) | (_, Some(_)) => String::new(),
        (false, None) => format!(" from clients by {} as well", names.join(" and ")),
    }
}

/// What the profile says, in one line.
fn summary(profile: &Profile) -> String {
    let guard = match &profile.guard {
        None => "no guard".into(),
        Some(guard) => {
            let mode = match guard.mode {
                GuardMode::Always => "always",
                GuardMode::OnFlood => "on flood",
                GuardMode::Monitor => "as monitor",
                GuardMode::Off => "off",
            };
            let servers = count(guard.protect.len(), "server");
            format!("guard {mode} for {servers}{}", third_ports(profile, guard))
        }
    };
    let default = match profile.default_action {
        Action::Deny => "deny",
        Action::Reject => "reject",
        Action::Forward => "forward",
        Action::Guard => "guard",
    };
    format!(
        "{}, {}, {}, {}, {guard}, {} then {default}",
        profile.name,
        count(profile.runtime.workers.len(), "worker"),
        count(profile.ports.len(), "port"),
        count(profile.routes.len(), "route"),
        count(profile.rules.len(), "rule"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::tests::shell;

    #[test]
    fn good_profiles_are_summed_up_and_bad_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.yaml");
        let bad = folder.path().join("bad.yaml");
        fs::write(
            &good,
            "ports: { lan: { device: net_null0 } }\nruntime: { workers: [0] }",
        )
        .unwrap();
        fs::write(&bad, "ports: { lan: { devise: net_null0 } }\nrules: 3\n").unwrap();

        let (code, out, err) = shell(&["check".as_ref(), good.as_os_str()]);
        assert_eq!(code, 0, "{err}");
        let summary = "ok: tidegate, 1 worker, 1 port, 0 routes, no guard, 0 rules then forward";
        assert_eq!(out, format!("{}: {summary}\n", good.display()));

        let (code, out, err) = shell(&["check".as_ref(), bad.as_os_str(), good.as_os_str()]);
        assert_eq!(code, 1);
        assert!(out.contains("good.yaml: ok"), "{out}");
        let file = bad.display();
        assert_eq!(
            err,
            format!(
                "{file}:1:17: unknown key `devise`; did you mean `device`?\n\
                 {file}:2:8: `3` cannot be the value of `rules`; \
                 write a list: `[ … ]`, or one `- …` a line\n"
            )
        );
    }

    // I5
    #[test]
    fn i5_profiles_are_checked_from_standard_input_as_json_and_quietly() {
        let check = |json: bool, quiet: bool, input: &str| {
            let arguments = Arguments {
                profiles: vec!["-".into()],
                strict: false,
                quiet,
                json,
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut streams = Streams {
                out: &mut out,
                err: &mut err,
            };
            let code = run_with(&arguments, input.as_bytes(), &mut streams).unwrap();
            (
                code,
                String::from_utf8(out).unwrap(),
                String::from_utf8(err).unwrap(),
            )
        };
        let good = "ports: { lan: { device: net_null0 } }\nruntime: { workers: [0] }";
        let bad = "ports: { lan: { devise: net_null0 } }";
        let (code, out, err) = check(false, false, good);
        assert_eq!((code, &*err), (0, ""));
        assert!(out.starts_with("-: ok: tidegate, 1 worker"), "{out}");
        assert_eq!(check(false, true, good), (0, String::new(), String::new()));
        let (code, out, err) = check(false, true, bad);
        assert_eq!((code, &*out), (1, ""));
        assert_eq!(
            err,
            "-:1:17: unknown key `devise`; did you mean `device`?\n"
        );
        let (code, out, err) = check(true, false, bad);
        assert_eq!((code, &*err), (1, ""));
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value[0]["ok"], false);
        assert_eq!(value[0]["said"][0]["column"], 17);
        assert_eq!(value[0]["said"][0]["remedy"], "did you mean `device`?");
        let (code, out, _) = check(true, false, good);
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &value[0]["ok"]), (0, &true.into()));
        let (code, _, err) = check(false, false, &"#".repeat((1 << 20) + 1));
        assert!(
            code == 1 && err.contains("more than 1048576 bytes"),
            "{err}"
        );
    }

    // CASES 28: what cannot be read is one line that names cause and cure.
    #[test]
    fn files_that_are_no_profiles_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.yaml");
        let (code, _, err) = shell(&["check".as_ref(), missing.as_os_str()]);
        assert_eq!(code, 1);
        assert!(
            err.contains("missing.yaml:1:1: the file cannot be read: No such file"),
            "{err}"
        );

        let (code, _, err) = shell(&["check".as_ref(), folder.path().as_os_str()]);
        assert_eq!(code, 1);
        assert!(err.contains("this is not a regular file"), "{err}");

        let binary = folder.path().join("binary.yaml");
        fs::write(&binary, b"ports:\n\xff").unwrap();
        let (_, _, err) = shell(&["check".as_ref(), binary.as_os_str()]);
        assert!(err.contains("not UTF-8 text: line 2"), "{err}");

        let large = folder.path().join("large.yaml");
        fs::write(&large, vec![b'#'; (1 << 20) + 1]).unwrap();
        let (_, _, err) = shell(&["check".as_ref(), large.as_os_str()]);
        assert!(err.contains("more than 1048576 bytes"), "{err}");
    }
}
