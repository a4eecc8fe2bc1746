//! A process that is killed leaves nothing that stops the next one (CASES 29).

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use bindings::{Eal, EalConfig};
use common::{pool_of, unique};

const PREFIX: &str = "TIDEGATE_TEST_FILE_PREFIX";

fn config(file_prefix: String) -> EalConfig {
    EalConfig {
        file_prefix,
        memory_mib: 64,
        ..EalConfig::default()
    }
}

/// What the test does in a process of its own, which waits there to be killed.
fn be_the_victim(prefix: String) {
    let eal = Eal::init(&config(prefix)).expect("EAL starts");
    let pool = pool_of(&eal, "victim", 1023);
    let _mbuf = pool.allocate().expect("a whole pool is free");
    writeln!(std::io::stderr(), "\nready").expect("the parent listens");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn the_next_start_succeeds_after_sigkill() {
    if let Ok(prefix) = std::env::var(PREFIX) {
        return be_the_victim(prefix);
    }
    let prefix = unique("killed");
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "the_next_start_succeeds_after_sigkill",
            "--exact",
            "--nocapture",
        ])
        .env(PREFIX, &prefix)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test starts again");
    let lines = BufReader::new(victim.stderr.take().expect("piped")).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    victim.kill().expect("SIGKILL");
    victim.wait().expect("dead");
    assert!(ready, "the victim's EAL never started");

    let eal = Eal::init(&config(prefix.clone())).expect("EAL starts after the killed one");
    let pool = pool_of(&eal, "next", 1023);
    assert!(pool.allocate().is_some());
    assert!(!std::path::Path::new("/var/run/dpdk").join(prefix).exists());
}
