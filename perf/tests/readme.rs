//! The lab of the README: its commands are read out of it and run, as somebody would who copies them.
//! Needs root and `tidegate` beside `tidegate-perf`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Stdio};

const README: &str = include_str!("../../README.md");
const TOOL: &str = env!("CARGO_BIN_EXE_tidegate-perf");
/// Where the commands keep their files.
const LAB: &str = "/tmp/lab";
/// How long the commands may take together; they wait for about 20 s by themselves.
const LIMIT_S: &str = "120";

/// The commands of the section, but the building, which has been done.
fn commands() -> String {
    let (_, section) = README
        .split_once("\n## Guard a web server in a lab\n")
        .expect("the section");
    let section = section.split("\n## ").next().expect("it ends");
    let blocks: Vec<&str> = section
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().expect("it ends"))
        .collect();
    let (building, others) = blocks.split_first().expect("blocks");
    assert!(building.starts_with("make build\n"), "{building}");
    others.concat()
}

#[test]
fn the_commands_of_the_readme_guard_a_server_as_it_says() {
    let programs = Path::new(TOOL).parent().expect("a folder");
    let tidegate = programs.join("tidegate");
    assert!(
        tidegate.exists(),
        "{} is missing: cargo build -p tidegate",
        tidegate.display()
    );
    let scratch = tempfile::tempdir().expect("a folder");
    let lab = scratch.path().join("lab");
    let script = commands().replace(LAB, lab.to_str().expect("a path in UTF-8"));
    // Name spaces of the same names may be here already.
    let script = format!("set -eu\nmount -t tmpfs none /run\n{script}");
    let path = std::env::var("PATH").expect("a path");
    let output = Command::new("timeout")
        .args(["--kill-after=5", LIMIT_S])
        .args(["unshare", "--net", "--mount", "bash", "-c", &script])
        .env("PATH", format!("{}:{path}", programs.display()))
        .stdin(Stdio::null())
        .output()
        .expect("timeout and unshare are there");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let told = format!("{}\n{said}\n{complained}", output.status);
    assert!(output.status.success(), "{told}");
    let count = |what: &str| said.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("hello from the server"), 3, "{told}");
    // No cookie of the server's own, and a connection for each page.
    for (counter, value) in [("TcpExtSyncookiesSent", "0"), ("TcpPassiveOpens", "2")] {
        let line = said.lines().find(|line| line.starts_with(counter));
        let shown = line.and_then(|line| line.split_whitespace().nth(1));
        assert_eq!(shown, Some(value), "{counter}: {told}");
    }
    assert!(count("cookie_invalid") > 0, "{told}");
    assert!(count("tidegate_") > 0, "{told}");
    // The client's handshake and the server's.
    assert_eq!(count("Flags [S.]"), 2, "{told}");
    assert_eq!(count("reloaded: "), 1, "{told}");
    assert!(!lab.exists(), "it leaves nothing behind");
}
