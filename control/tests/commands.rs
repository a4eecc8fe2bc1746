//! The commands as a shell runs them, `doctor` on name spaces of its own (root is needed, as for
//! every end-to-end test).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn must(program: &str, arguments: &[&str]) {
    let output = run(program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// A name space that ends with the test.
struct NameSpace(String);

impl NameSpace {
    fn new(name: &str) -> Self {
        let name = format!("tg-doctor-{name}-{}", std::process::id());
        must("ip", &["netns", "add", &name]);
        Self(name)
    }

    fn ip(&self, words: &str) {
        let words = words.split(' ');
        let arguments: Vec<&str> = ["-n", &self.0].into_iter().chain(words).collect();
        must("ip", &arguments);
    }

    fn inside(&self, words: &[&str]) -> Output {
        let prefix = ["netns", "exec", self.0.as_str()];
        run(
            "ip",
            &prefix.iter().chain(words).copied().collect::<Vec<_>>(),
        )
    }

    /// The findings about interfaces, as `level: what`.
    fn doctor(&self, profile: &Path) -> (Option<i32>, Vec<String>) {
        let output = self.inside(&[TIDEGATE, "doctor", "--json", profile.to_str().unwrap()]);
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = findings.as_array().unwrap().iter();
        let lines = findings
            .filter(|one| ["interfaces", "profile"].contains(&one["subject"].as_str().unwrap()))
            .map(|one| {
                format!(
                    "{}: {}",
                    one["level"].as_str().unwrap(),
                    one["what"].as_str().unwrap()
                )
            });
        (output.status.code(), lines.collect())
    }
}

impl Drop for NameSpace {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.0]);
    }
}

#[test]
fn doctor_names_what_a_veth_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("cookie.key");
    must(TIDEGATE, &["keygen", keys.to_str().unwrap()]);
    let profile = folder.path().join("lab.yaml");
    let text = "
runtime: { workers: [0], huge_pages: off }
ports:
  outside: { device: \"net_af_packet0,iface=out0\", address: 192.0.2.1/24 }
  inside:  { device: \"net_af_packet1,iface=in0\", address: 10.0.0.1/24 }
guard: { outside: outside, inside: inside, keys: cookie.key,
         protect: [ { server: 10.0.0.10, ports: 80 } ] }
";
    fs::write(&profile, text).unwrap();
    let (guard, clients) = (NameSpace::new("guard"), NameSpace::new("clients"));
    let (code, said) = guard.doctor(&profile);
    assert_eq!(code, Some(1));
    assert!(
        said[0].starts_with("fail: port `outside` stands on out0, which is not"),
        "{said:#?}"
    );

    guard.ip(&format!(
        "link add out0 type veth peer name eth0 netns {}",
        clients.0
    ));
    guard.ip("link add in0 type veth peer name peer0");
    guard.ip("link set out0 up");
    let (code, said) = guard.doctor(&profile);
    assert_eq!(code, Some(1));
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(
        said[0].starts_with("warn: the peer of out0 is in another name space"),
        "{said:#?}"
    );
    assert_eq!(said[1], "fail: in0 is down");
    assert!(
        said[2].starts_with("warn: peer0, the peer of in0, leaves checksums"),
        "{said:#?}"
    );

    guard.ip("link set in0 up");
    let off = "ethtool -K peer0 tx off tso off gso off gro off";
    assert!(
        guard
            .inside(&off.split(' ').collect::<Vec<_>>())
            .status
            .success()
    );
    let (code, said) = guard.doctor(&profile);
    assert_eq!(
        said[1],
        "ok: port `inside` stands on in0, offloads of its peer peer0 are off"
    );
    assert_eq!(code, Some(0), "{said:#?}");
}

// CASES 28: an unreadable key is one line that names cause and cure.
#[test]
fn check_and_keygen_agree_on_the_key_file() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("p.yaml");
    let text = "ports: { a: { device: net_null0 }, b: { device: net_null1 } }
runtime: { workers: [0] }
guard: { outside: a, inside: b, keys: keys/k }
rules: [ { default: deny } ]
";
    fs::write(&profile, text).unwrap();
    let profile = profile.to_str().unwrap();
    let key = folder.path().join("keys/k");
    let check = |words: &[&str]| {
        let output = run(TIDEGATE, &[&["check"], words, &[profile]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("p.yaml:3:39: warning: the key file"),
        "{said}"
    );
    let (code, said) = check(&["--strict"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("make it with `tidegate keygen"), "{said}");

    must(TIDEGATE, &["keygen", key.to_str().unwrap()]);
    let (code, said) = check(&["--strict"]);
    assert_eq!(code, Some(0), "{said}");

    must("chmod", &["644", key.to_str().unwrap()]);
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1));
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("warning"))
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(
        errors[0].contains("has the mode 0644, so others may read it; run `chmod 600 "),
        "{said}"
    );
}
