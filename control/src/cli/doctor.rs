//! `tidegate doctor [PROFILE]`: what this machine lacks, why it matters, and the cure.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Outcome, Streams};
use crate::doctor::{Finding, Host, Level, examine};
use crate::profile::{self, Strictness};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile that the machine is to run
    profile: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let mut findings = Vec::new();
    let profile = match &arguments.profile {
        None => None,
        Some(file) => match profile::load(file, Strictness::Run) {
            Ok(loaded) => Some(loaded.profile),
            Err(refused) => {
                findings.extend(refused.list.iter().map(|said| Finding {
                    level: Level::Fail,
                    subject: "profile",
                    what: format!(
                        "{}:{}:{}: {}",
                        file.display(),
                        said.mark.line,
                        said.mark.column,
                        said.what
                    ),
                    cure: Some(said.remedy.clone()).filter(|remedy| !remedy.is_empty()),
                }));
                // What is wrong with the machine alone must not hide the rest.
                profile::load(file, Strictness::Check)
                    .ok()
                    .map(|loaded| loaded.profile)
            }
        },
    };
    findings.extend(examine(&Host::this(Path::new("/")), profile.as_ref()));
    if arguments.json {
        serde_json::to_writer_pretty(&mut streams.out, &findings)?;
        writeln!(streams.out)?;
    } else {
        write_lines(&findings, streams.out)?;
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(u8::from(failed && arguments.profile.is_some()))
}

fn write_lines(findings: &[Finding], out: &mut dyn Write) -> std::io::Result<()> {
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(out, "{level}  {:<12}  {}", finding.subject, finding.what)?;
        if let Some(cure) = &finding.cure {
            writeln!(out, "{:20}cure: {cure}", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::shell;

    #[test]
    fn every_finding_stands_in_both_forms() {
        let (code, text, _) = shell(&["doctor"]);
        assert_eq!(code, 0, "with no profile nothing can fail for it");
        let (code, json, _) = shell(&["doctor", "--json"]);
        assert_eq!(code, 0);
        let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
        let findings = findings.as_array().unwrap();
        assert_eq!(
            findings.len(),
            text.lines().filter(|line| !line.starts_with(' ')).count()
        );
        for finding in findings {
            let level = finding["level"].as_str().unwrap();
            assert!(["ok", "warn", "fail"].contains(&level), "{finding}");
            assert!(finding["subject"].is_string() && finding["what"].is_string());
        }
    }

    #[test]
    fn a_wrong_profile_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, "ports: { lan: { device: eth0 } }\n").unwrap();
        let (code, out, _) = shell(&["doctor".as_ref(), file.as_os_str()]);
        assert_eq!(code, 1);
        assert!(
            out.contains(":1:25: `eth0` is neither a PCI address"),
            "{out}"
        );
        assert!(
            out.contains("cure: for the kernel's interface `eth0`"),
            "{out}"
        );
    }
}
