//! Reloads: what they take, what they refuse, and what the log tells of them.

use super::*;

#[test]
fn a_reload_takes_good_profiles_and_refuses_bad_ones() {
    let mut site = Site::new("reload");
    site.start();
    let good = site.profile("reload", "");

    site.write(&good.replace("mode: always", "mode: monitor"));
    let reloaded = site.tidegate(&["reload", "--allow-unguarded"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert!(text(&reloaded).starts_with("reloaded: "), "{reloaded:?}");
    assert_eq!(site.show("guard")["mode"], "monitor");

    site.write(&good.replace("protect:", "protekt:"));
    let message = site.tidegate(&["reload"]);
    assert!(refused(&message).contains("p.yaml:"), "{message:?}");
    assert!(
        String::from_utf8_lossy(&message.stderr).contains("did you mean `protect`?"),
        "{message:?}"
    );
    assert_eq!(site.show("guard")["mode"], "monitor");

    site.write(&good.replace("sessions: 4096", "sessions: 8192"));
    let message = refused(&site.tidegate(&["reload"]));
    assert!(
        message.ends_with("runtime.sessions cannot change while the daemon runs; put it back, or restart the daemon"),
        "{message}"
    );
    assert_eq!(site.show("guard")["mode"], "monitor");

    site.write(&good);
    fs::remove_file(site.path("cookie.key")).unwrap();
    let message = refused(&site.tidegate(&["reload"]));
    assert!(message.contains("tidegate keygen"), "{message}");
    assert_eq!(site.show("guard")["mode"], "monitor");

    // The same by a signal, with good keys again.
    let key = site.path("cookie.key");
    assert!(
        site.tidegate(&["keygen", key.to_str().unwrap()])
            .status
            .success()
    );
    site.write(&good.replace("mode: always", "mode: on-flood"));
    site.signal("HUP");
    site.eventually("the reload", |site| {
        site.show("guard")["mode"] == "on-flood"
    });
}

#[test]
fn c4_a_reload_that_removes_protection_must_be_asked_for() {
    let mut site = Site::new("less");
    site.start();
    let good = site.profile("less", "");
    let lost = good.split("guard:").next().unwrap();
    let weaker = good.replace("mode: always", "mode: monitor");
    let fewer = good.replace("[80, 443]", "[80]");
    for (less, word) in [
        (lost, "no `guard` any more"),
        (&weaker, "mode `always` → `monitor`"),
        (&fewer, "10.0.0.10 port 443 not protected"),
    ] {
        site.write(less);
        let message = refused(&site.tidegate(&["reload"]));
        assert!(
            message.contains(word) && message.ends_with("`tidegate reload --allow-unguarded`"),
            "{message}"
        );
        assert_eq!(site.show("guard")["mode"], "always");
        assert_eq!(site.show("guard")["servers"][0]["ports"][1], "443");
    }
    // By a signal nobody can be asked: the log says what to do.
    let lines = |site: &Site, words: [&str; 2]| {
        let log = site.log();
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().filter(has).count()
    };
    let refusals = lines(&site, ["ERROR", "--allow-unguarded"]);
    assert_eq!(refusals, 3, "each refusal is logged once");
    site.signal("HUP");
    site.eventually("a refusal in the log", |site| {
        lines(site, ["ERROR", "--allow-unguarded"]) == refusals + 1
    });
    assert_eq!(site.show("guard")["servers"][0]["ports"][1], "443");
    // Each reload says in one line what it changed.
    let told = text(&site.tidegate(&["reload", "--allow-unguarded"]));
    assert!(
        told.contains("; protection less: 10.0.0.10 port 443 not"),
        "{told}"
    );
    assert_eq!(lines(&site, ["WARN", "protection less: "]), 1);
    site.write(&good);
    assert!(site.tidegate(&["reload"]).status.success());
    assert_eq!(lines(&site, ["reloaded", "protection more: "]), 1);
    assert!(site.tidegate(&["reload"]).status.success());
    assert_eq!(lines(&site, ["INFO", "protection as before"]), 1);
}

// I3
#[test]
fn i3_the_log_tells_the_start_each_reload_and_who_asked_and_stray_signals_kill_nothing() {
    let mut site = Site::new("told");
    site.start();
    let first = site.log().lines().next().unwrap_or_default().to_owned();
    let socket = site.socket().display().to_string();
    for word in [
        "Tidegate starts.",
        concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
        "commit=",
        "p.yaml",
        "appliance=\"told\"",
        "mode=\"always\"",
        &socket,
        "metrics=\"off\"",
    ] {
        assert!(first.contains(word), "{word} is not in {first}");
    }

    site.write("ports: 3\n");
    assert!(!site.tidegate(&["reload"]).status.success());
    site.eventually("a refusal with its author", |site| {
        let log = site.log();
        log.contains(" at the control socket asked for is refused") && log.contains("p.yaml:1:8")
    });
    site.write(&site.profile("told", "").replace(
        "guard:",
        "rules: [ { when: { protocol: icmp }, then: forward }, { default: guard } ]\nguard:",
    ));
    site.signal("HUP");
    site.eventually("a reload by signal", |site| {
        let log = site.log();
        let has = |line: &str| {
            line.contains("is reloaded, as SIGHUP asked")
                && line.ends_with("changed sections: rules")
        };
        log.lines().any(has)
    });

    for name in [
        "USR1", "USR2", "ALRM", "VTALRM", "PROF", "PWR", "IO", "RTMIN",
    ] {
        site.signal(name);
    }
    site.eventually("the signals in the log", |site| {
        let log = site.log();
        [
            "SIGUSR1 is ignored",
            "SIGPWR is ignored",
            "signal 34 is ignored",
        ]
        .iter()
        .all(|line| log.contains(line))
    });
    assert_eq!(site.show("guard")["mode"], "always");
    site.signal("QUIT");
    assert_eq!(site.wait(), Some(0));
    assert!(site.log().contains("drained"), "{}", site.log());
}

// CASES 29: SIGKILL leaves nothing that stops the next start; a live daemon does.
