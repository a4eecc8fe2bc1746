//! Every script of `tests/scripts`, in every setting.

use std::path::PathBuf;

use simulator::script::{Script, Setting, play};
use simulator::site::Family;

fn scripts() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = std::fs::read_dir(&folder).expect("the folder of the scripts");
    let mut scripts: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    scripts.sort();
    scripts
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
    for path in scripts() {
        let name = path
            .file_stem()
            .expect("a file's name")
            .to_string_lossy()
            .into_owned();
        if !name.contains(&wanted) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let script = Script::parse(&text)
            .unwrap_or_else(|error| panic!("{name}: line {}: {}", error.line, error.what));
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
