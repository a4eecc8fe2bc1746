//! Every way to a protected server without a cookie, with real packets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lab::address::{SERVER, client};
use lab::command::wait_until;
use lab::profile::Profile;
use lab::{Error, Options};

use crate::common::{FAMILIES, Guarded, SOON, TIDEGATE, assert_names};

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

/// Has a connection opened from the server's name space to a listener in the clients', and bytes both ways.
fn server_calls(guarded: &Guarded, family: usize) {
    let at = SocketAddr::from((client(1)[family], 7000));
    let listener = guarded
        .lab
        .clients
        .within(move || TcpListener::bind(at))
        .unwrap()
        .unwrap();
    let accepted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"220")?;
        let mut said = [0; 4];
        stream.read_exact(&mut said).map(|()| said)
    });
    let call = move || {
        let mut stream = TcpStream::connect_timeout(&at, SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut said = [0; 3];
        stream.read_exact(&mut said)?;
        stream.write_all(b"QUIT")?;
        Ok::<_, std::io::Error>(said)
    };
    let said = guarded.lab.server.within(call).unwrap().unwrap();
    assert_eq!(&said, b"220");
    assert_eq!(&accepted.join().unwrap().unwrap(), b"QUIT");
}

/// The same guard with a third port, and with all ports of its servers protected, which took connections
/// that servers open themselves for strangers' segments.
#[test]
fn c2_c5_third_ports_and_servers_own_connections() {
    let mut guarded = Guarded::plain();
    let lab = &guarded.lab;
    lab.guard
        .ip(&format!(
            "link add third0 type veth peer name office0 netns {}\nlink set third0 up",
            lab.clients.name()
        ))
        .unwrap();
    lab.clients
        .ip("addr add 10.3.0.2/24 dev office0\nlink set office0 up\nrule add from 10.3.0.2 table 3\n\
             route add default via 10.3.0.1 dev office0 table 3")
        .unwrap();
    let offloads = [
        "-K", "office0", "tx", "off", "tso", "off", "gso", "off", "gro", "off",
    ];
    lab.clients.run("ethtool", &offloads).unwrap();
    let text = guarded.daemon.read_profile().unwrap();
    let third = "  third: { device: \"net_af_packet2,iface=third0,framecnt=2048\", address: \
                 10.3.0.1/24 }\nroutes:\n";
    let text = text
        .replace("routes:\n", third)
        .replace("ports: [80, 443]", "ports: [\"1-65535\"]");
    guarded.daemon.write_profile(&text).unwrap();
    let profile = lab.scratch.file("profile.yaml");
    let socket = guarded.daemon.socket().to_owned();
    guarded.daemon.crash();
    guarded.daemon =
        lab::daemon::Daemon::start_with(&guarded.lab, TIDEGATE.as_ref(), &profile, &socket)
            .unwrap();
    for family in FAMILIES {
        server_calls(&guarded, family);
        guarded.fetch_small(family, 10, 5);
    }
    let before = guarded.guard("/cookies/accepted");
    let to = SocketAddr::from((SERVER[0], 80));
    let fetch = move || {
        let socket = std::process::Command::new("curl")
            .args([
                "-q",
                "-sS",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                "-o",
                "/dev/null",
            ])
            .args(["--interface", "10.3.0.2", &format!("http://{to}/small")])
            .output();
        socket.map(|output| (output.status.success(), output.stderr))
    };
    let (is_served, said) = guarded.lab.clients.within(fetch).unwrap().unwrap();
    assert!(is_served, "{}", String::from_utf8_lossy(&said));
    assert_eq!(guarded.guard("/cookies/accepted"), before + 1);
    let check = guarded
        .lab
        .guard
        .run(TIDEGATE, &["check", profile.to_str().unwrap()])
        .unwrap();
    assert_names(&check, &["from clients by third as well"]);
    guarded.audit();
}
