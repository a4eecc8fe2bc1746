//! Why the daemon does not start: one line that names cause and cure. // CASES 27, 28

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use lab::command::{Running, run};
use lab::profile::Profile;
use lab::scratch::Scratch;
use lab::server::Site;
use lab::{Forwarder, Lab, Options};

use crate::common::{Guarded, TIDEGATE, assert_names};

/// A lab with no daemon, a key file, and the profile's text.
fn prepared(profile: &Profile) -> (lab::lock::Exclusive, Lab, String) {
    let exclusive = lab::exclusive().unwrap();
    let site = Site::write(1 << 20).unwrap();
    let lab = Lab::build(Options::default(), Forwarder::Daemon, &site).unwrap();
    let keys = lab.scratch.file("cookie.key");
    run(Command::new(TIDEGATE).arg("keygen").arg(&keys)).unwrap();
    let text = profile.text(&lab, &lab.scratch.file("control.sock"), &keys);
    (exclusive, lab, text)
}

/// Runs the daemon, which must end soon, and returns the last line of what it says.
fn refusal(lab: &Lab, text: &str) -> String {
    let profile = lab.scratch.file("profile.yaml");
    std::fs::write(&profile, text).unwrap();
    let log = lab.scratch.file("refusal.log");
    let output = std::fs::File::create(&log).unwrap();
    let mut command = lab.guard.command(TIDEGATE);
    command.arg("run").arg(&profile);
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let mut running = Running::start(&mut command).unwrap();
    let status = running.wait(Duration::from_secs(20)).unwrap();
    assert!(!status.success(), "it ended as if all were well");
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_key_file_that_is_missing_or_open_to_all_or_broken() {
    let (_exclusive, lab, text) = prepared(&Profile::default());
    let keys = lab.scratch.file("cookie.key");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_names(&refusal(&lab, &text), &["cookie.key", "0644", "chmod 600"]);
    std::fs::remove_file(&keys).unwrap();
    assert_names(&refusal(&lab, &text), &["cookie.key", "keygen"]);
    std::fs::write(&keys, "nonsense").unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_names(&refusal(&lab, &text), &["cookie.key"]);
}

#[test]
fn an_interface_that_is_not_there() {
    let (_exclusive, lab, text) = prepared(&Profile::default());
    let text = text.replace("iface=in0", "iface=in7");
    assert_names(&refusal(&lab, &text), &["inside", "in7"]);
}

#[test]
fn a_core_that_is_not_there() {
    let profile = Profile {
        workers: vec![200],
        ..Profile::default()
    };
    let (_exclusive, lab, text) = prepared(&profile);
    assert_names(&refusal(&lab, &text), &["core", "200"]);
}

#[test]
fn huge_pages_that_are_not_there() {
    let (_exclusive, lab, text) = prepared(&Profile::default());
    let free = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap();
    assert_eq!(
        free.trim(),
        "0",
        "this test needs a machine without huge pages"
    );
    let text = text.replace("huge_pages: off", "huge_pages: on");
    assert_names(&refusal(&lab, &text), &["huge page"]);
}

#[test]
fn a_control_socket_that_another_daemon_answers_on() {
    let guarded = Guarded::plain();
    let text = guarded.daemon.read_profile().unwrap();
    let line = refusal(&guarded.lab, &text);
    assert_names(&line, &["control.sock"]);
    guarded.fetch_small(0, 5, 5);
}

#[test]
fn a_metrics_port_that_is_taken() {
    let profile = Profile {
        runtime: "  metrics: \"127.0.0.1:9464\"\n".to_owned(),
        ..Profile::default()
    };
    let (_exclusive, lab, text) = prepared(&profile);
    let _listener = lab
        .guard
        .within(|| std::net::TcpListener::bind("127.0.0.1:9464"))
        .unwrap()
        .unwrap();
    assert_names(&refusal(&lab, &text), &["9464"]);
}

/// A file system of 64 kB.
struct Tiny {
    scratch: Scratch,
}

impl Tiny {
    fn mount() -> Self {
        let scratch = Scratch::new().unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(scratch.path()))
        .unwrap();
        Self { scratch }
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.scratch.path()));
    }
}

#[test]
fn a_disk_that_is_full_ends_a_capture_and_not_the_daemon() {
    let guarded = Guarded::plain();
    let tiny = Tiny::mount();
    let file = tiny.scratch.file("capture.pcapng");
    let log = guarded.lab.scratch.file("capture.log");
    let mut command = Command::new(TIDEGATE);
    command
        .args(["capture", "--port", "outside", "-w"])
        .arg(&file);
    command.arg("--socket").arg(guarded.daemon.socket());
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut capture = Running::start(&mut command).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    guarded.fetch_large(0, Duration::from_secs(20));
    let status = capture.wait(Duration::from_secs(10)).unwrap();
    assert!(!status.success());
    let said = std::fs::read_to_string(&log).unwrap();
    assert_names(&said, &["capture.pcapng", "No space left"]);
    guarded.fetch_small(0, 5, 5);
}

#[test]
fn a_disk_that_is_full_keeps_a_key_file_as_it_was() {
    let exclusive = lab::exclusive().unwrap();
    let tiny = Tiny::mount();
    let keys = tiny.scratch.file("cookie.key");
    run(Command::new(TIDEGATE).arg("keygen").arg(&keys)).unwrap();
    let before = std::fs::read(&keys).unwrap();
    let _ = std::fs::write(tiny.scratch.file("filler"), vec![0; 128 << 10]);
    let error = run(Command::new(TIDEGATE)
        .args(["keygen", "--rotate"])
        .arg(&keys))
    .unwrap_err();
    assert_names(&error.to_string(), &["cookie.key"]);
    assert_eq!(std::fs::read(&keys).unwrap(), before);
    drop(exclusive);
}
