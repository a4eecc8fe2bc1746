//! Every script of `tests/scripts`, in every setting; some of them compared frame by frame with
//! the captures of `tests/golden`.

mod common;

use std::path::PathBuf;

use simulator::NodeId;
use simulator::capture::pcapng;
use simulator::script::{Script, Setting, play};
use simulator::site::Family;

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(common::folder()).expect("the folder of the scripts");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let name = |path: PathBuf| {
        path.file_stem()
            .expect("a file's name")
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<_> = scripts.map(name).collect();
    names.sort();
    names
}

fn settings(script: &Script) -> Vec<Setting> {
    let is_wanted = |key: &str, value: &str| script.only.get(key).is_none_or(|only| only == value);
    let mut settings = Vec::new();
    for (family, name) in [(Family::V4, "4"), (Family::V6, "6")] {
        for workers in [1, 2] {
            if is_wanted("family", name) && is_wanted("workers", &workers.to_string()) {
                settings.push(Setting { family, workers });
            }
        }
    }
    settings
}

#[test]
fn every_script_goes_as_it_says() {
    let wanted = std::env::var("TIDEGATE_SCRIPT").unwrap_or_default();
    let (mut played, mut failures) = (0, Vec::new());
    for name in names().iter().filter(|name| name.contains(&wanted)) {
        let script = common::script(name);
        for setting in settings(&script) {
            played += 1;
            if let Err(what) = play(&script, setting) {
                failures.push(format!("{name}: {what}"));
                break;
            }
        }
    }
    assert!(played > 0, "no script was played");
    assert!(
        failures.is_empty(),
        "{}\n\n{} failed",
        failures.join("\n\n"),
        failures.len()
    );
}

/// A site's appliance is the first node of its world.
const APPLIANCE: NodeId = NodeId(0);

#[test]
fn golden_captures_have_not_changed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let is_update = std::env::var_os("TIDEGATE_GOLDEN_UPDATE").is_some();
    for name in [
        "handshake",
        "server-without-options",
        "icmp-translated",
        "challenge-limit",
    ] {
        for (family, number) in [(Family::V4, 4), (Family::V6, 6)] {
            let setting = Setting { family, workers: 1 };
            let world =
                play(&common::script(name), setting).unwrap_or_else(|what| panic!("{what}"));
            let capture = pcapng(world.trace().recorded(), APPLIANCE, &["outside", "inside"]);
            let path = folder.join(format!("{name}-ipv{number}.pcapng"));
            if is_update {
                std::fs::write(&path, capture).expect("a folder that can be written to");
                continue;
            }
            let golden =
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(
                golden == capture,
                "{} differs. If the change is meant, look at it in a capture reader after \
                 TIDEGATE_GOLDEN_UPDATE=1 cargo test -p tidegate-simulator golden",
                path.display()
            );
        }
    }
}
