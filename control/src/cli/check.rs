//! `tidegate check PROFILE…`: whole validation, with no packet sent.

use std::path::PathBuf;

use super::{Outcome, Streams};
use crate::profile::{self, Action, Guard, GuardMode, Profile, Strictness};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profiles
    #[arg(required = true, value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    /// Refuse what keeps a profile from running on this machine now: missing cores, missing keys
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let strictness = if arguments.strict {
        Strictness::Run
    } else {
        Strictness::Check
    };
    let mut code = 0;
    for file in &arguments.profiles {
        match profile::load(file, strictness) {
            Ok(loaded) => {
                if !loaded.warnings.list.is_empty() {
                    writeln!(streams.err, "{}", loaded.warnings)?;
                }
                writeln!(
                    streams.out,
                    "{}: ok: {}",
                    file.display(),
                    summary(&loaded.profile)
                )?;
            }
            Err(errors) => {
                writeln!(streams.err, "{errors}")?;
                code = 1;
            }
        }
    }
    Ok(code)
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
