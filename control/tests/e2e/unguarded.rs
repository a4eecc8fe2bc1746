//! Every way to a protected server without a cookie, with real packets.

use std::time::Duration;

use lab::command::wait_until;
use lab::profile::Profile;
use lab::{Error, Options};

use crate::common::{Guarded, SOON, TIDEGATE, assert_names};

/// Waits until the daemon's log has a line with all of these words.
fn wait_for_line(guarded: &Guarded, words: &[&str]) {
    wait_until(&format!("a line with {words:?}"), SOON, || {
        let log = guarded.daemon.log_text();
        if log
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
        {
            return Ok(());
        }
        Err(Error::new(log))
    })
    .unwrap();
}

#[test]
fn c3_a_kernel_that_forwards_beside_the_guard_is_refused_and_told() {
    let profile = Profile {
        guard: "  kernel_forwarding: warn\n".into(),
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let guard = &guarded.lab.guard;
    guard.sysctl(&["net.ipv4.conf.out0.forwarding=1"]).unwrap();
    wait_for_line(&guarded, &["WARN", "forwards IPv4 from out0", "sysctl -w"]);
    let ways = guarded.daemon.show("guard").unwrap()["bypasses"].clone();
    assert_eq!(ways.as_array().map(Vec::len), Some(1), "{ways}");
    // The same machine, for a profile that does not allow it.
    let text = guarded.daemon.read_profile().unwrap();
    let strict = guarded.lab.scratch.file("strict.yaml");
    std::fs::write(
        &strict,
        text.replace("kernel_forwarding: warn", "kernel_forwarding: refuse"),
    )
    .unwrap();
    let strict = strict.to_str().unwrap();
    let refused = guard.run(TIDEGATE, &["run", strict]).unwrap_err();
    assert_names(&refused.to_string(), &["IPv4 from out0", "forwarding=0"]);
    let doctor = guard.run(TIDEGATE, &["doctor", strict]).unwrap_err();
    assert_names(&doctor.to_string(), &["fail", "IPv4 from out0"]);
    guard.sysctl(&["net.ipv4.conf.out0.forwarding=0"]).unwrap();
    wait_for_line(&guarded, &["no longer so", "out0"]);
    wait_until(
        "no way past the guard",
        Duration::from_secs(5),
        || match guarded.daemon.show("guard")?["bypasses"].as_array() {
            Some(ways) if ways.is_empty() => Ok(()),
            ways => Err(Error::new(format!("{ways:?}"))),
        },
    )
    .unwrap();
}
